use std::fmt::Write as _;

use super::raw::SECTIONS;
use super::*;
use crate::event::Action;
use crate::policy::Operations;

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("f.toml"))
}

fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(Error::Invalid { problems }) => problems.iter().map(Problem::to_string).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

const RULE: &str = "[[rule]]\nname = \"r\"\npaths = [\"/w\"]\n";

#[test]
fn an_empty_file_is_the_default() {
    let config = parse("").unwrap();
    assert_eq!(config, Config { file: Some("f.toml".into()), ..Config::default() });
}

#[test]
fn everything_can_be_said() {
    let config = parse(
        r#"
        backend = "fanotify"
        recommended = true
        [journal]
        max_segment_bytes = 65536
        max_segments = 3
        [metrics]
        enabled = false
        listen = "[::1]:0"
        tls_cert = "/etc/fim/cert.pem"
        tls_key = "/etc/fim/key.pem"
        username = "prometheus"
        password_file = "/etc/fim/password"
        [hash]
        max_size = "1 GiB"
        workers = 2
        [events]
        alert_severity = "critical"
        fold_ms = 0
        settle_ms = 60000
        suppressed_interval = 60
        [fold]
        window = "1s"
        [collector]
        ring_bytes = "64KiB"
        queue_events = 1024
        spill_events = 2048
        unlimited_queue = false
        etw_buffer = "64KiB"
        etw_buffers = 16
        etw_queue = "1MiB"
        [[rule]]
        name = "a"
        paths = ["/a", "/b/{c,d}/*"]
        exclude = ["/a/x"]
        operations = ["created", "deleted"]
        severity = "high"
        category = "k"
        tags = ["t"]
        techniques = ["T1543", "T1543.002"]
        hash = false
        max_hash_size = 10
        "#,
    )
    .unwrap();
    assert_eq!(config.backend, Backend::Fanotify);
    let journal = Config::default().journal;
    let journal = Journal { max_segment_bytes: 65536, max_segments: 3, ..journal };
    assert_eq!(config.journal, journal);
    let tls = Some(("/etc/fim/cert.pem".into(), "/etc/fim/key.pem".into()));
    let login = Some(("prometheus".to_owned(), "/etc/fim/password".into()));
    let metrics = Metrics { enabled: false, listen: "[::1]:0".parse().unwrap(), tls, login };
    assert_eq!(config.metrics, metrics);
    assert_eq!(config.hash, Hash { max_size: 1 << 30, workers: 2, large: 64 << 20 });
    assert_eq!(config.events.alert_severity, 100);
    assert_eq!(config.events.fold, Duration::ZERO);
    assert_eq!(config.events.settle, Duration::from_secs(60));
    assert_eq!(config.fold.window, Duration::from_secs(1));
    assert_eq!(
        config.collector,
        Collector {
            ring_bytes: 65536,
            queue_events: 1024,
            spill_events: 2048,
            unlimited_queue: false,
            etw_buffer: 65536,
            etw_buffers: 16,
            etw_queue: 1 << 20,
        }
    );
    let rule = &config.rules[0];
    assert_eq!((rule.name.as_str(), rule.paths.len(), rule.exclude.len()), ("a", 3, 1));
    assert_eq!(rule.operations.iter().collect::<Vec<_>>(), [Action::Created, Action::Deleted]);
    assert_eq!((rule.severity, rule.hash, rule.max_hash_size), (75, false, 10));
    assert_eq!(rule.techniques, ["T1543", "T1543.002"]);
    assert_eq!(config.rules.len(), 1 + policy::recommended().len());
    assert!(config.rules[1..].iter().all(|rule| rule.max_hash_size == 1 << 30));
}

#[test]
fn the_recommended_rules_are_there_unless_the_file_has_its_own() {
    let count = |text: &str| parse(text).unwrap().rules.len();
    let recommended = policy::recommended().len();
    assert_eq!(count(""), recommended);
    assert_eq!(count("recommended = true"), recommended);
    assert_eq!(count(RULE), 1);
    assert_eq!(count(&format!("recommended = false\n{RULE}")), 1);
    assert_eq!(count(&format!("recommended = true\n{RULE}")), 1 + recommended);
}

#[test]
fn each_error_says_where_and_what_is_allowed() {
    let allowed_severity =
        "allowed: 0 to 100, or \"low\" (25), \"medium\" (50), \"high\" (75), \"critical\" (100)";
    for (text, want) in [
        ("nope = 1", "1:1: unknown field `nope`, expected one of"),
        ("[events]\n\nfold = 1", "3:1: unknown field `fold`, expected one of `alert_severity`"),
        (
            "[[rule]]\nname = \"é\"\n  path = []",
            "3:3: unknown field `path`, expected one of `name`",
        ),
        ("backend = ", "1:11: "),
        ("backend = 1", "1:11: invalid type: integer `1`, expected a string"),
        (
            "backend = \"ebpf\"",
            "1:11: backend \"ebpf\" is unknown; allowed: \"auto\", \"bpf\", \"fanotify\"",
        ),
        ("recommended = false", "1:15: nothing would be watched"),
        ("a = 1\na = 2", "2:1: duplicate key"),
        ("[journal]\nmax_segments = 1", "2:16: 1 is out of range; allowed: 2 to 100000"),
        (
            "[journal]\nmax_segment_bytes = \"1KiB\"",
            "2:21: \"1KiB\" is out of range; allowed: \"64KiB\" to \"16GiB\"",
        ),
        ("[metrics]\ntls_key = \"/k\"", "2:11: tls_key is of no use without tls_cert"),
        ("[metrics]\nusername = \"a\"", "2:12: username is of no use without password_file"),
        (
            "[metrics]\nusername = \"a:b\"\npassword_file = \"/p\"",
            "2:12: \"a:b\" is no user name: it is empty, or has a colon",
        ),
        ("[metrics]\ntls_cert = \"/c\"\ntls_key = \"k\"", "3:11: \"k\" is not an absolute path"),
        ("[metrics]\nlisten = \":9977\"", "2:10: \":9977\" is not an IP address and a port"),
        ("[hash]\nmax_size = \"1MB\"", "2:12: \"1MB\" is not a size; as in 1048576, \"64KiB\""),
        (
            "[hash]\nmax_size = 1.5",
            "2:12: invalid type: floating point `1.5`, expected an integer or a string",
        ),
        ("[hash]\nmax_size = -1", "2:12: -1 is out of range; allowed: 0 to \"1TiB\""),
        ("[hash]\nworkers = 257", "2:11: 257 is out of range; allowed: 0 to 256"),
        ("[events]\nfold_ms = 10001", "2:11: 10001 is out of range; allowed: 0 to 10000"),
        ("[fold]\nwindow = 500", "2:10: 500 is no duration; as in \"500ms\", \"1s\", or 0"),
        ("[fold]\nwindow = \"soon\"", "2:10: \"soon\" is no duration"),
        ("[fold]\nwindow = \"2m\"", "2:10: \"2m\" is out of range; allowed: 0, or \"1ms\" to"),
        ("[fold]\nwindow = \"-1s\"", "2:10: \"-1s\" is out of range"),
        (
            "[events]\nalert_severity = 101",
            &format!("2:18: severity 101 is out of range; {allowed_severity}"),
        ),
        (
            "[collector]\nring_bytes = 5000",
            "2:14: 5000 is not a power of two; the nearest are \"4KiB\" and \"8KiB\"",
        ),
        ("[[rule]]\npaths = [\"/a\"]", "1:1: the rule has no name"),
        ("[[rule]]\nname = \" \"\npaths = [\"/a\"]", "2:8: the name of a rule must not be empty"),
        ("[[rule]]\nname = \"a\"", "1:1: the rule has no paths"),
        ("[[rule]]\nname = \"a\"\npaths = []", "3:9: paths is empty"),
        (
            "[[rule]]\nname = \"a\"\npaths = \"/a\"",
            "3:9: invalid type: string \"/a\", expected a sequence",
        ),
        (
            "[[rule]]\nname = \"a\"\npaths = [\"/a\", \"etc\"]",
            "3:17: \"etc\": the path is not absolute",
        ),
        ("[[rule]]\nname = \"a\"\npaths = [\"/a/x**\"]", "3:15: \"/a/x**\": '**' must stand alone"),
        ("[[rule]]\nname = \"a\"\npaths = ['/ä/[x']", "3:14: \"/ä/[x\": '[' is not closed"),
        ("[[rule]]\nname = \"a\"\npaths = [\"/\\u0061[x\"]", "3:10: \"/a[x\": '[' is not closed"),
        (&format!("{RULE}exclude = [\"*.tmp\"]"), "4:13: \"*.tmp\": the path is not absolute"),
        (
            &format!("{RULE}severity = \"urgent\""),
            &format!("4:12: severity \"urgent\" is out of range; {allowed_severity}"),
        ),
        (
            &format!("{RULE}operations = [\"created\", \"written\"]"),
            "4:26: operation \"written\" is unknown; allowed: created, updated, attributes_modified, moved, deleted, linked, or \"all\"",
        ),
        (&format!("{RULE}operations = []"), "4:14: operations is empty"),
        (&format!("{RULE}techniques = [\"T154\"]"), "4:15: \"T154\" is not an ATT&CK technique id"),
        (&format!("{RULE}max_hash_size = \"x\""), "4:17: \"x\" is not a size"),
        (&format!("{RULE}{RULE}"), "5:8: rule name \"r\" is taken by the rule at line 2"),
        (
            "recommended = true\n[[rule]]\nname = \"boot\"\npaths = [\"/a\"]",
            "3:8: rule name \"boot\" is taken by a built-in rule",
        ),
    ] {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let want = format!("f.toml:{want}");
        assert!(problems[0].starts_with(&want), "{text}\n got {}\nwant {want}", problems[0]);
    }
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_file() {
    let found = problems(
        "[[rule]]\nname = \"a\"\npaths = [\"b\", \"c\"]\nseverity = 200\n[events]\nfold_ms = -1\n",
    );
    let places: Vec<&str> = found.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(places, ["f.toml:3:11:", "f.toml:3:16:", "f.toml:4:12:", "f.toml:6:11:"]);
}

#[test]
fn a_file_that_is_not_there_matters_only_if_it_was_named() {
    let temp = tempfile::tempdir().unwrap();
    let missing = temp.path().join("none.toml");
    assert_eq!(Loaded::read_or(None, &missing).config.unwrap(), Config::default());
    let error = Config::load(Some(&missing)).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    let error = Config::load(Some(temp.path())).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
    let file = temp.path().join("fim.toml");
    std::fs::write(&file, b"# ok\n# \xff").unwrap();
    assert!(
        Config::load(Some(&file))
            .unwrap_err()
            .to_string()
            .ends_with("fim.toml:2: not UTF-8, which TOML has to be")
    );
    std::fs::write(&file, RULE).unwrap();
    assert_eq!(Loaded::read_or(None, &file).config.unwrap().rules.len(), 1);
}

#[test]
fn watch_paths_are_recursive_rules() {
    let config = Config::from_watch_paths(vec!["/w".into(), "/x/[y]".into(), "/w".into()]);
    let names: Vec<&str> = config.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["watch:/w", "watch:/x/[y]"]);
    let policy = config.policy();
    assert_eq!(policy.covers(Path::new("/x/[y]/z")).unwrap().name, "watch:/x/[y]");
    assert!(policy.covers(Path::new("/x/y")).is_none());
}

#[test]
fn a_watched_key_is_a_rule_about_it_and_what_is_below() {
    let key = || RegistryPattern::parse(r"HKLM\SOFTWARE\X", None).unwrap();
    let mut config = Config::from_watch_paths(Vec::new());
    config.add_watch_key(key());
    config.add_watch_key(key());
    let names: Vec<&str> = config.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, [r"watch:HKLM\SOFTWARE\X"]);
    let keys = config.policy();
    let keys = keys.registry_keys();
    assert!(keys[0].matches(r"HKLM\Software\x\y", Some("value")));
    assert!(!keys[0].matches(r"HKLM\SOFTWARE\XY", None));
}

#[test]
fn the_configuration_in_force_reads_back_the_same() {
    let mut config = parse(
        "recommended = true\n[[rule]]\nname = 'a \"b\"'\npaths = ['/a/{b,c}', '/x']\n\
         exclude = ['/a/b/*']\noperations = ['moved']\ntags = ['x']",
    )
    .unwrap();
    config.add_watch_paths(vec!["/tmp/[x]*".into()]);
    let resolve =
        |path: &Path| if path == Path::new("/bin") { "/usr/bin".into() } else { path.into() };
    let note = |path: &Path| (path == Path::new("/x")).then(|| "not\nthere".to_owned());
    let text = to_toml(&config, &resolve, &note);
    assert!(text.contains("    \"/bin\",  # /bin -> /usr/bin\n"), "{text}");
    assert!(text.contains("    \"/x\",  # not\u{fffd}there\n"), "{text}");
    assert_eq!(parse(&text).unwrap(), config);
}

/// Each default in the reference is what is in force without the key.
#[test]
fn the_reference_tells_the_truth() {
    let mut text = String::new();
    for section in SECTIONS {
        // The tables behind the rules have keys that are required, and no others with a default.
        let behind = ["[[rule.only]]", "[[maintenance]]", "[[adjust]]"];
        if behind.iter().any(|title| section.title.starts_with(title)) {
            continue;
        }
        if section.title.starts_with('[') {
            writeln!(text, "{}", section.title).unwrap();
        }
        if section.title == "[[rule]]" {
            text.push_str("name = \"r\"\npaths = [\"/w\"]\n");
        }
        // Its keys belong to different types, which have a test of their own.
        if section.title == "[[sink]]" {
            text.truncate(text.len() - "[[sink]]\n".len());
            continue;
        }
        for field in section.fields {
            assert!(!field.doc.is_empty() && !field.values.is_empty() && !field.cost.is_empty());
            if !field.default.is_empty() {
                writeln!(text, "{} = {}", field.key, field.default).unwrap();
            }
        }
    }
    assert_eq!(parse(&text).unwrap(), parse(RULE).unwrap());
    assert_eq!(
        parse(RULE).unwrap(),
        Config { rules: parse(RULE).unwrap().rules, ..parse("").unwrap() }
    );
    assert_eq!(parse(RULE).unwrap().rules, [Rule::new("r", Pattern::parse("/w").unwrap())]);
    assert_eq!(parse(RULE).unwrap().rules[0].operations, Operations::ALL);

    let page = reference_markdown();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    parse(example).unwrap();
}

#[test]
fn the_reference_page_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("FIM_UPDATE_DOCS").is_some() {
        std::fs::write(&file, reference_markdown()).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == reference_markdown(),
        "docs/configuration.md is not what the code says; write it anew with\n  \
         FIM_UPDATE_DOCS=1 cargo test -p fim-common config::"
    );
}
