use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().flat_map(|text| Pattern::parse(text).unwrap()).collect()
}

fn rule(name: &str, paths: &[&str]) -> Rule {
    Rule::new(name, patterns(paths))
}

fn excluding(name: &str, paths: &[&str], exclude: &[&str]) -> Rule {
    Rule { exclude: patterns(exclude), ..rule(name, paths) }
}

fn matches(pattern: &str, path: &str) -> bool {
    patterns(&[pattern]).iter().any(|pattern| pattern.matches(Path::new(path)))
}

/// A host where /bin and /sbin are links, /usr/bin/vi too.
fn host(path: &Path) -> PathBuf {
    for (link, target) in [
        ("/usr/bin/vi", "/etc/alternatives/vi"),
        ("/bin/vi", "/etc/alternatives/vi"),
        ("/bin", "/usr/bin"),
        ("/sbin", "/usr/sbin"),
    ] {
        if let Ok(rest) = path.strip_prefix(link) {
            return Path::new(target).join(rest).components().collect();
        }
    }
    path.into()
}

#[test]
fn a_pattern_matches() {
    for (pattern, yes, no) in [
        ("/etc", &["/etc", "/etc/a", "/etc/a/b", "/etc/"][..], &["/etcetera", "/", "/et"][..]),
        ("/etc/", &["/etc", "/etc/a"], &["/etcetera"]),
        ("/", &["/", "/a", "/a/b"], &[]),
        ("//etc/./x//", &["/etc/x", "/etc/x/y"], &["/etc"]),
        (
            "/etc/*.conf",
            &["/etc/a.conf", "/etc/.conf"],
            &["/etc/a/b.conf", "/etc", "/etc/a.conf/b"],
        ),
        ("/*", &["/a"], &["/", "/a/b"]),
        ("/**", &["/a", "/a/b"], &["/"]),
        ("/a/**", &["/a/b", "/a/b/c"], &["/a", "/ab"]),
        ("/a/**/z", &["/a/z", "/a/b/z", "/a/b/c/z"], &["/a", "/z", "/a/z/b", "/a/bz"]),
        ("/a/**/b/**/c", &["/a/b/c", "/a/x/b/y/b/c"], &["/a/c", "/a/b", "/a/x/c/b"]),
        ("/a/**/b*/c", &["/a/b/c", "/a/b1/b2/c"], &["/a/b1/x/c"]),
        ("/a/**/**", &["/a/b"], &["/a"]),
        ("/home/*/.ssh", &["/home/x/.ssh"], &["/home/x/.ssh/id", "/home/.ssh"]),
        ("/home/*/.ssh/**", &["/home/x/.ssh/id"], &["/home/x/.ssh"]),
        ("/a?c", &["/abc", "/aéc", "/a語c", "/a?c"], &["/ac", "/a/c", "/abbc"]),
        ("/[a-cx]1", &["/a1", "/c1", "/x1"], &["/d1", "/-1", "/1"]),
        ("/[!a-c]1", &["/d1", "/é1"], &["/a1", "//1", "/x/1"]),
        ("/a[!b]c", &["/axc"], &["/a/c", "/abc"]),
        ("/[^a]", &["/b", "/^"], &["/a"]),
        ("/[]x]*", &["/]", "/x"], &["/a"]),
        ("/[a-]*", &["/-", "/a"], &["/b"]),
        ("/[é-ü]", &["/é", "/ö"], &["/e"]),
        ("/x{a,b}", &["/xa", "/xb", "/xb/c"], &["/x", "/xab", "/xc"]),
        ("/x{,b}", &["/x", "/xb"], &["/xc"]),
        ("/{a,b/c}/*.d", &["/a/1.d", "/b/c/1.d"], &["/b/1.d"]),
        ("/{a,{b,c}d}", &["/a", "/bd", "/cd"], &["/b"]),
        ("/{a*,*}*b", &["/ab", "/b", "/xb"], &["/a"]),
        (r"/\*", &["/*", "/*/a"], &["/a"]),
        ("/[*]", &["/*", "/*/a"], &["/a"]),
        (r"/a\{1\}*", &["/a{1}", "/a{1}2"], &["/a1"]),
        ("/a*b*c", &["/abc", "/aXbXc", "/abbcc"], &["/acb", "/ab"]),
        ("/a b/ü", &["/a b/ü"], &["/a b"]),
    ] {
        for path in yes {
            assert!(matches(pattern, path), "{pattern} should match {path}");
        }
        for path in no {
            assert!(!matches(pattern, path), "{pattern} should not match {path}");
        }
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_match() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    for (pattern, path, want) in [
        ("/w", &b"/w/\xff"[..], true),
        ("/w/*", b"/w/\xff\xfe", true),
        ("/w/?", b"/w/\xff", true),
        ("/w/??", b"/w/\xff", false),
        ("/w/??", b"/w/\xc3\xa9", false),
        ("/w/[!a]x", b"/w/\xffx", true),
        ("/w/[a-z]x", b"/w/\xffx", false),
        ("/w/*.conf", b"/w/\xe4.conf", true),
        ("/w/**/k", b"/w/\xff/\xc3/k", true),
    ] {
        let path = Path::new(OsStr::from_bytes(path));
        assert_eq!(patterns(&[pattern])[0].matches(path), want, "{pattern} {path:?}");
    }
    let literal = Pattern::literal(OsStr::from_bytes(b"/w/\xff").into());
    assert!(literal.matches(Path::new(OsStr::from_bytes(b"/w/\xff/x"))));
    let stars = Pattern::literal("/w/*".into());
    assert!(!stars.matches(Path::new("/w/x")));
}

#[test]
fn a_text_that_is_no_pattern() {
    use PatternErrorKind as K;
    let long = format!("/{}", "x".repeat(4096));
    let many = format!("/{}", "{a,b}".repeat(9));
    for (text, kind, at) in [
        ("", K::Empty, 0),
        ("etc", K::Relative, 0),
        ("*.conf", K::Relative, 0),
        ("{/a,b}", K::Relative, 4),
        ("/a/../b", K::Parent, 3),
        ("/a\0", K::Nul, 2),
        ("/a**", K::Recursive, 2),
        ("/**a/b", K::Recursive, 1),
        ("/***", K::Recursive, 1),
        ("/a/*/", K::TrailingSlash, 4),
        ("/a[b", K::UnclosedClass, 2),
        ("/[!", K::UnclosedClass, 1),
        ("/[]", K::UnclosedClass, 1),
        ("/[a/b]", K::SeparatorInClass, 3),
        ("/[z-a]", K::InvalidRange('z', 'a'), 2),
        ("/{a,b", K::UnclosedAlternatives, 1),
        ("/a}", K::UnopenedAlternatives, 2),
        ("/a\\", K::DanglingEscape, 2),
        (&long, K::TooLong, 4096),
        (&many, K::TooManyAlternatives, 41),
    ] {
        assert_eq!(Pattern::parse(text), Err(PatternError { kind, at }), "{text}");
    }
}

#[test]
fn the_deciding_rule() {
    let severe = |severity, rule| Rule { severity, ..rule };
    let only = |action, rule| Rule { operations: [action].into_iter().collect(), ..rule };
    let policy = Policy::new(vec![
        rule("tree", &["/etc"]),
        rule("conf", &["/etc/*.conf"]),
        rule("conf again", &["/etc/*.conf"]),
        severe(90, rule("ssh", &["/etc/ssh"])),
        severe(95, only(Action::Deleted, rule("gone", &["/etc/ssh/keys"]))),
        excluding("var", &["/var"], &["/var/log", "/var/*.tmp"]),
        severe(10, rule("logs", &["/var/log/*.log"])),
    ]);
    for (path, action, want, runner_up) in [
        ("/etc/a", Action::Updated, Some("tree"), None),
        ("/etc/a.conf", Action::Updated, Some("conf"), Some("conf again")),
        ("/etc/ssh/a.conf", Action::Updated, Some("ssh"), Some("tree")),
        ("/etc/ssh/keys/a", Action::Updated, Some("ssh"), Some("tree")),
        ("/etc/ssh/keys/a", Action::Deleted, Some("gone"), Some("ssh")),
        ("/etc/ssh/keys", Action::Mounted, Some("gone"), Some("ssh")),
        ("/etc/ssh", Action::Heartbeat, None, None),
        ("/var/log/x", Action::Updated, None, None),
        ("/var/log/x.log", Action::Updated, Some("logs"), None),
        ("/var/log", Action::Updated, None, None),
        ("/var/x.tmp", Action::Updated, None, None),
        ("/var/x/y.tmp", Action::Updated, Some("var"), None),
        ("/", Action::Updated, None, None),
        ("etc/a", Action::Updated, None, None),
        ("", Action::Updated, None, None),
    ] {
        let verdict = policy.verdict(Path::new(path), action);
        let names = verdict.map(|verdict| {
            (verdict.rule.name.as_str(), verdict.runner_up.map(|rule| rule.name.as_str()))
        });
        assert_eq!(names, want.map(|want| (want, runner_up)), "{path} {action:?}");
    }
    assert_eq!(policy.covers(Path::new("/etc/ssh/keys/a")).unwrap().name, "gone");
    assert!(policy.covers(Path::new("/usr")).is_none());
}

#[test]
fn the_explanation_agrees_with_the_verdict() {
    let policy = Policy::new(vec![
        rule("tree", &["/etc"]),
        rule("conf", &["/etc/*.conf"]),
        excluding("but", &["/etc"], &["/etc/a.conf"]),
        rule("home", &["/home/*/.ssh", "/opt"]),
    ]);
    let explanation = policy.explain(Path::new("/etc/a.conf"));
    assert_eq!(explanation.deciding.unwrap().rule.name, "conf");
    assert_eq!(explanation.deciding.unwrap().pattern.source(), "/etc/*.conf");
    assert_eq!(explanation.others.len(), 1);
    assert_eq!(explanation.others[0].rule.name, "tree");
    assert_eq!(explanation.reason(), Some(Reason::Specificity));
    assert_eq!(explanation.excluded.len(), 1);
    assert_eq!(explanation.excluded[0].exclude.source(), "/etc/a.conf");

    let explanation = policy.explain(Path::new("/home/x/.ssh/id"));
    assert!(explanation.deciding.is_none() && explanation.reason().is_none());
    assert_eq!(explanation.near.len(), 1);
    assert_eq!(explanation.near[0].pattern.source(), "/home/*/.ssh");
}

#[test]
fn links_are_resolved() {
    let configured = Policy::new(vec![
        rule("programs", &["/bin", "/usr/bin", "/sbin"]),
        Rule { severity: 90, ..rule("passwd", &["/bin/passwd"]) },
        rule("vi", &["/bin/vi"]),
        excluding("globs", &["/sbin/x*"], &["/sbin/xy"]),
    ]);
    let policy = configured.resolved(&host);
    for (path, want) in [
        ("/usr/bin/passwd", Some("passwd")),
        ("/usr/bin/ls", Some("programs")),
        ("/usr/sbin/fsck", Some("programs")),
        ("/bin", Some("programs")),
        ("/sbin", Some("programs")),
        ("/bin/ls", None),
        ("/etc/alternatives/vi", Some("vi")),
        ("/usr/bin/vi", Some("vi")),
        ("/usr/sbin/xa", Some("globs")),
        ("/usr/sbin/xy", Some("programs")),
    ] {
        let rule = policy.covers(Path::new(path)).map(|rule| rule.name.as_str());
        assert_eq!(rule, want, "{path}");
    }
    let watch = |base: &str, depth, first: Option<&str>| Watch {
        base: base.into(),
        depth,
        first: first.map(Into::into),
    };
    assert_eq!(
        policy.watches(),
        [
            watch("/", Some(1), Some("bin")),
            watch("/", Some(1), Some("sbin")),
            watch("/etc/alternatives/vi", None, None),
            watch("/usr/bin", None, None),
            watch("/usr/sbin", None, None),
        ]
    );
    let again = policy.resolved(&host);
    assert_eq!(again.rules(), policy.rules());
}

#[test]
fn watches_are_merged() {
    let watch = |base: &str, depth| Watch { base: base.into(), depth, first: None };
    for (paths, want) in [
        (&["/bin/passwd"][..], vec![watch("/bin/passwd", None)]),
        (&["/bin/passwd", "/bin"], vec![watch("/bin", None)]),
        (&["/etc/*.conf"], vec![watch("/etc", Some(1))]),
        (&["/etc/*.conf", "/etc/*/*.conf"], vec![watch("/etc", Some(2))]),
        (&["/etc/*.conf", "/etc/**/x"], vec![watch("/etc", None)]),
        (&["/a/*/*", "/a/b/*", "/a/b/*/*"], vec![watch("/a", Some(2)), watch("/a/b", Some(2))]),
        (&["/a/*/*", "/a/b/c"], vec![watch("/a", Some(2)), watch("/a/b/c", None)]),
        (&["/etc", "/etcetera"], vec![watch("/etc", None), watch("/etcetera", None)]),
        (&["/", "/a", "/b/*"], vec![watch("/", None)]),
        (&["/{a,b}/*"], vec![watch("/a", Some(1)), watch("/b", Some(1))]),
        (&["/**/x"], vec![watch("/", None)]),
    ] {
        assert_eq!(Policy::new(vec![rule("r", paths)]).watches(), want, "{paths:?}");
    }
}

#[test]
fn prunes_hide_nothing() {
    for (rules, want) in [
        (vec![excluding("a", &["/a"], &["/a/b"])], &["/a/b"][..]),
        (vec![excluding("a", &["/a"], &["/a/b/**"])], &["/a/b"]),
        (vec![excluding("a", &["/a"], &["/a/b", "/a/b/c"])], &["/a/b"]),
        (vec![excluding("a", &["/a"], &["/a/*", "/a/*.b", "/a/**/c"])], &[]),
        (vec![excluding("a", &["/a"], &["/a/b"]), rule("b", &["/a/b/c"])], &[]),
        (vec![excluding("a", &["/a"], &["/a/b"]), rule("b", &["/a/*"])], &["/a/b"]),
        (vec![excluding("a", &["/a"], &["/a/b"]), rule("b", &["/a/*/c"])], &[]),
        (vec![excluding("a", &["/a"], &["/a/b"]), rule("b", &["/a/c*/c"])], &["/a/b"]),
        (vec![excluding("a", &["/a"], &["/a/b"]), rule("b", &["/**/c"])], &[]),
        (vec![excluding("a", &["/a"], &["/a/b"]), excluding("b", &["/a"], &["/a/b"])], &["/a/b"]),
        (vec![excluding("a", &["/a"], &["/a/b"]), excluding("b", &["/"], &["/a"])], &["/a/b"]),
        (vec![excluding("a", &["/a", "/a/b/c"], &["/a/b"])], &["/a/b"]),
    ] {
        let policy = Policy::new(rules);
        let want: Vec<PathBuf> = want.iter().map(PathBuf::from).collect();
        assert_eq!(policy.prunes(), want, "{:?}", policy.rules());
    }
}

/// Components and patterns of few letters, so that they meet often.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,2}|c", 0..5).prop_map(|names| format!("/{}", names.join("/")))
}

fn pattern() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        6 => "[ab]{1,2}|c",
        3 => "[ab]?\\*[ab]?",
        1 => "\\[!?[ab]{1,2}\\][ab]?",
        1 => "\\{[ab],[ab]\\*?\\}b?",
        1 => "[ab]?\\?",
        2 => Just("**".to_owned()),
    ];
    prop::collection::vec(name, 1..5).prop_map(|names| format!("/{}", names.join("/")))
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let patterns = |len| {
        prop::collection::vec(pattern(), len).prop_map(|texts| {
            texts.iter().flat_map(|text| Pattern::parse(text).unwrap()).collect::<Vec<_>>()
        })
    };
    (patterns(1..4), patterns(0..3), 0u8..3, 0u8..64).prop_map(|(paths, exclude, severity, set)| {
        let actions = Operations::ALL.iter().enumerate();
        let operations = actions.filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, action)| action);
        Rule { exclude, severity, operations: operations.collect(), ..Rule::new("r", paths) }
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop::collection::vec(any_rule(), 1..5).prop_map(|mut rules| {
        rules.iter_mut().enumerate().for_each(|(index, rule)| rule.name = index.to_string());
        Policy::new(rules)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn globs_agree_with_globset(pattern in pattern(), path in path()) {
        // A literal means the tree, which globset does not know; it takes `/*` to match `/`.
        let ours = Pattern::parse(&pattern).unwrap();
        if ours.iter().any(Pattern::is_tree) || pattern.contains("**/**") || path == "/" {
            return Ok(());
        }
        // There `[!a]` matches a slash.
        let theirs = globset::GlobBuilder::new(&pattern.replace("[!", "[!/"))
            .literal_separator(true)
            .empty_alternates(true)
            .build()
            .unwrap()
            .compile_matcher();
        let ours = ours.iter().any(|ours| ours.matches(Path::new(&path)));
        prop_assert_eq!(ours, theirs.is_match(&path), "{} {}", pattern, path);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[/a*?{},\\[\\]!^\\-\\\\é.]{0,24}", path in path()) {
        if let Ok(patterns) = Pattern::parse(&text) {
            for pattern in patterns {
                pattern.matches(Path::new(&path));
            }
        }
    }

    #[test]
    fn watches_cover_each_verdict_and_prunes_none(policy in any_policy(), path in path()) {
        let path = Path::new(&path);
        let watches = policy.watches();
        let prunes = policy.prunes();
        if policy.covers(path).is_some() {
            prop_assert!(watches.iter().any(|watch| watch.covers(path)), "{:?}", watches);
            let pruned = prunes.iter().find(|prune| path != *prune && path.starts_with(prune));
            prop_assert_eq!(pruned, None);
        }
        let host = |path: &Path| match path.strip_prefix("/a") {
            Ok(rest) => Path::new("/b/c").join(rest).components().collect(),
            Err(_) => path.into(),
        };
        let resolved = policy.resolved(&host);
        if resolved.covers(path).is_some() {
            let watches = resolved.watches();
            prop_assert!(watches.iter().any(|watch| watch.covers(path)), "{:?}", watches);
        }
    }

    #[test]
    fn the_fast_verdict_is_the_plain_one(policy in any_policy(), path in path()) {
        let path = Path::new(&path);
        for action in Operations::ALL.iter() {
            let explanation = policy.explain(path);
            let mut plain = explanation
                .deciding
                .iter()
                .chain(&explanation.others)
                .filter(|found| found.rule.operations.contains(action))
                .map(|found| found.rule.name.as_str());
            let fast = policy.verdict(path, action);
            prop_assert_eq!(fast.map(|fast| fast.rule.name.as_str()), plain.next());
            let runner_up = fast.and_then(|fast| fast.runner_up);
            prop_assert_eq!(runner_up.map(|rule| rule.name.as_str()), plain.next());
        }
    }
}

/// `cargo test --release -p fim-common policy:: -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_verdict_takes_less_than_a_microsecond() {
    let mut rules = recommended();
    for index in 0..43 {
        let name = format!("rule {index}");
        rules.push(excluding(
            &name,
            &[&format!("/srv/{index}"), &format!("/etc/{index}/*.conf"), "/usr/lib/**/*.so"],
            &[&format!("/srv/{index}/tmp")],
        ));
    }
    let policy = Policy::new(rules);
    for path in [
        "/usr/bin/passwd",
        "/var/lib/some/where/deep/down/file",
        "/srv/7/tmp/x",
        "/etc/a.conf",
        "/usr/lib/x/y.so",
    ] {
        let path = Path::new(path);
        let start = std::time::Instant::now();
        let mut found = 0;
        for _ in 0..100_000 {
            found +=
                usize::from(policy.verdict(std::hint::black_box(path), Action::Updated).is_some());
        }
        println!(
            "{} ns a verdict for {} ({found})",
            start.elapsed().as_nanos() / 100_000,
            path.display()
        );
    }
}
