use super::*;
use crate::policy::{Expect, Platform, RegistryPattern, Set, rules_of};

fn parse(text: &str) -> Result<Config, Vec<String>> {
    match Config::parse(text, Path::new("f.toml")) {
        Ok(config) => Ok(config),
        Err(Error::Invalid { problems }) => Err(problems.iter().map(Problem::to_string).collect()),
        Err(other) => panic!("{other:?}"),
    }
}

const RULE: &str = "[[rule]]\nname = \"r\"\npaths = [\"/w\"]\n";

const WHOLE: &str = r#"
    sets = ["attack-surface"]

    [[maintenance]]
    name = "nightly"
    days = ["mon", "sun"]
    start = "22:30"
    duration = "1h30m"
    timezone = "Europe/Berlin"

    [[maintenance]]
    name = "migration"
    from = "2026-03-01T22:00:00+01:00"
    until = 2026-03-02T04:00:00Z

    [[rule]]
    name = "r"
    paths = ["/w"]
    registry = ['HKLM\SOFTWARE\x', { key = 'HKLM\SOFTWARE\y', values = ["A", "b"] }]
    expect = "maintenance"
    maintenance = ["nightly"]
    [[rule.only]]
    user = ["www-data", 33]
    [[rule.allow]]
    executable = ["/opt/{a,b}/bin"]
    ancestor = ["/usr/sbin/cron"]
    login_user = ["ann"]
    reason = "the configuration manager"
    [[rule.suppress]]
    paths = ["/w/*.log"]
    operations = ["updated"]
    process_name = ["rsync"]

    [[adjust]]
    rule = "sudo"
    severity = "critical"
    exclude = ["/etc/sudoers.d/README"]
    expect = "never"
    [[adjust.suppress]]
    process_name = ["puppet"]

    [[adjust]]
    rule = "trusted-certificates"
    enabled = false
"#;

#[test]
fn all_parts_of_a_rule() {
    let config = parse(WHOLE).unwrap();
    let rule = &config.rules[0];
    assert_eq!(
        (rule.expect, rule.maintenance.as_slice()),
        (Some(Expect::Maintenance), &["nightly".to_owned()][..])
    );
    assert_eq!(rule.only[0].users, ["www-data", "33"]);
    assert_eq!(rule.allow[0].executables.len(), 2);
    assert_eq!(rule.allow[0].reason.as_deref(), Some("the configuration manager"));
    assert_eq!(rule.suppress[0].process_names, ["rsync"]);
    let values = ["A".to_owned(), "b".to_owned()];
    let key = r"HKLM\SOFTWARE\y";
    assert_eq!(rule.registry[1], RegistryPattern::parse(key, Some(&values)).unwrap());

    let named = |name: &str| config.rules.iter().find(|rule| rule.name == name);
    let sudo = named("sudo").unwrap();
    assert_eq!((sudo.severity, sudo.expect), (100, Some(Expect::Never)));
    assert_eq!((sudo.exclude.len(), sudo.suppress.len()), (1, 1));
    assert_eq!(named("trusted-certificates"), None);
    let windows: Vec<&str> = config.windows.iter().map(|window| window.name.as_str()).collect();
    assert_eq!(windows, ["nightly", "migration"]);
    // Sunday, 2026-03-01: 22:30 in Berlin is 21:30 UTC.
    let at = |seconds: i64| crate::time::Timestamp::from_unix(1_772_400_600 + seconds, 0);
    assert!(config.windows[0].contains(at(0)) && !config.windows[0].contains(at(-1)));
    assert!(config.windows[1].contains(at(0)) && !config.windows[1].contains(at(-1800 - 1)));
}

#[test]
fn what_is_in_force_reads_back_the_same() {
    let config = parse(WHOLE).unwrap();
    let text = to_toml(&config, &|path| path.to_owned(), &|_| None);
    assert_eq!(parse(&text).unwrap(), config, "{text}");
}

#[test]
fn sets_choose_the_built_in_rules() {
    let names = |text: &str| -> Vec<String> {
        parse(text).unwrap().rules.into_iter().map(|rule| rule.name).collect()
    };
    let of = |sets: &[Set]| -> Vec<String> {
        rules_of(sets, Platform::Linux).into_iter().map(|rule| rule.name).collect()
    };
    for (text, sets) in [
        ("sets = [\"recommended\"]", &[Set::Recommended][..]),
        ("sets = [\"attack-surface\"]", &[Set::AttackSurface]),
        ("sets = [\"attack-surface\", \"recommended\"]", &Set::ALL),
        ("sets = [\"attack-surface\"]\nrecommended = true", &Set::ALL),
        ("sets = [\"attack-surface\"]\nrecommended = false", &[Set::AttackSurface]),
    ] {
        assert_eq!(names(text), of(sets), "{text}");
    }
    assert_eq!(names(&format!("sets = []\n{RULE}")), ["r"]);
}

#[test]
fn each_error_says_where_and_what_is_allowed() {
    let window = "[[maintenance]]\nname = \"w\"\n";
    for (text, want) in [
        (
            "sets = [\"attack\"]\nrecommended = true",
            "1:9: set \"attack\" is unknown; allowed: recommended, attack-surface",
        ),
        ("sets = []", "1:8: nothing would be watched"),
        ("sets = [\"recommended\"]\nrecommended = false", "2:15: sets names \"recommended\""),
        (
            &format!("{RULE}expect = \"always\""),
            "4:10: \"always\" is unknown; allowed: \"never\", \"maintenance\"",
        ),
        (&format!("{RULE}expect = \"maintenance\""), "4:10: there is no [[maintenance]] window"),
        (&format!("{RULE}maintenance = [\"x\"]"), "4:16: there is no [[maintenance]] named \"x\""),
        (
            &format!("{RULE}registry = ['SOFTWARE\\x']"),
            "4:13: \"SOFTWARE\\\\x\": a registry path begins with HKLM",
        ),
        (&format!("{RULE}registry = [{{ key = 'HKLM\\x', value = ['a'] }}]"), "4:"),
        (&format!("{RULE}[[rule.allow]]\nreason = \"x\""), "4:1: it says nothing of the operation"),
        (
            &format!("{RULE}[[rule.allow]]\nexecutable = [\"puppet\"]"),
            "5:16: \"puppet\": the path is not absolute",
        ),
        (&format!("{RULE}[[rule.allow]]\nuser = [-1]"), "5:9: -1 is no user id"),
        (&format!("{RULE}[[rule.allow]]\nexe = [\"/x\"]"), "5:1: unknown field `exe`"),
        (
            &format!("{RULE}[[rule.suppress]]\noperations = [\"x\"]"),
            "5:15: operation \"x\" is unknown",
        ),
        (
            "[[maintenance]]\ndays = [\"mon\"]\nstart = \"1:00\"\nduration = \"1h\"",
            "1:1: the window has no name",
        ),
        (&format!("{window}from = \"2026-01-01T00:00:00Z\""), "1:1: a window has either"),
        (&format!("{window}days = [\"mon\"]"), "1:1: a weekly window has days, start and duration"),
        (
            &format!("{window}days = [\"monday\"]\nstart = \"01:00\"\nduration = \"1h\""),
            "3:9: day \"monday\" is unknown",
        ),
        (
            &format!("{window}days = [\"mon\"]\nstart = \"25:00\"\nduration = \"1h\""),
            "4:9: \"25:00\" is no time",
        ),
        (
            &format!("{window}days = [\"mon\"]\nstart = \"01:00\"\nduration = \"soon\""),
            "5:12: \"soon\" is no duration",
        ),
        (
            &format!("{window}days = [\"mon\"]\nstart = \"01:00\"\nduration = \"169h\""),
            "5:12: \"169h\" is out of range; allowed: 1m to 168h",
        ),
        (
            &format!("{window}from = \"2026-01-02T00:00:00Z\"\nuntil = \"2026-01-01T00:00:00Z\""),
            "4:9: the window is over before it opens",
        ),
        (
            &format!("{window}from = \"tomorrow\"\nuntil = \"2026-01-01T00:00:00Z\""),
            "3:8: \"tomorrow\" is no date and time",
        ),
        (
            &format!(
                "{window}timezone = \"Mars\"\nfrom = \"2026-01-01T00:00\"\nuntil = \"2026-01-02T00:00\""
            ),
            "3:12: ",
        ),
        (
            "[[adjust]]\nrule = \"nope\"",
            "2:8: no built-in rule \"nope\" applies: there are authentication-programs",
        ),
        (
            &format!("{RULE}[[adjust]]\nrule = \"boot\""),
            "5:8: no built-in rule \"boot\" applies: no set is chosen",
        ),
        ("[[adjust]]\nseverity = 1", "1:1: it names no rule"),
    ] {
        let problems = parse(text).unwrap_err();
        assert_eq!(problems.len(), 1, "{text}\n{problems:?}");
        let want = format!("f.toml:{want}");
        assert!(problems[0].starts_with(&want), "{text}\n got {}\nwant {want}", problems[0]);
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_replace_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    let directory = tempfile::tempdir().unwrap();
    let (above, links) = (directory.path().join("above"), directory.path().join("links"));
    std::fs::create_dir_all(above.join("below")).unwrap();
    std::fs::create_dir(&links).unwrap();
    let (file, link) = (above.join("below/fim.toml"), links.join("fim.toml"));
    std::fs::write(&file, RULE).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |path: &Path| match Config::load(Some(path)) {
        Ok(_) => false,
        Err(Error::Writable { .. }) => true,
        Err(error) => panic!("{error}"),
    };
    set(&file, 0o644);
    for (mode, expected) in [(0o755, false), (0o1777, false), (0o775, true), (0o757, true)] {
        set(&above, mode);
        assert_eq!((refused(&file), refused(&link)), (expected, expected), "{mode:o}");
    }
    set(&above, 0o755);
    set(&links, 0o777);
    assert_eq!((refused(&file), refused(&link)), (false, true));
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("fim.toml");
    std::fs::write(&file, RULE).unwrap();
    for (mode, refused) in [(0o600, false), (0o644, false), (0o664, true), (0o646, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Config::load(Some(&file)).err();
        assert_eq!(matches!(error, Some(Error::Writable { .. })), refused, "{mode:o}: {error:?}");
    }
    // sha256sum(1) of the file.
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let want = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Loaded::read(Some(&file)).sha256.as_deref(), Some(want));
}
