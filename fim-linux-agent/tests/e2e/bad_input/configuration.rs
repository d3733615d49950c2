//! Configuration files: a message names file, line and what is wrong there.

use std::fs;

use super::{Bench, USAGE};
use crate::environment::{beside_others, is_ready};

/// What is wrong, the file, the line that is to be named, and what else the message has in it.
const FILES: &[(&str, &str, usize, &[&str])] = &[
    ("unknown key", "backend = \"auto\"\nbackedn = \"bpf\"\n", 2, &["backedn"]),
    ("unknown key in a table", "[journal]\nmax_segmnt_bytes = 1\n", 2, &["max_segmnt_bytes"]),
    (
        "unknown key in a rule",
        "[[rule]]\nname = \"a\"\npaths = [\"/etc\"]\nrecursive = true\n",
        4,
        &["recursive"],
    ),
    ("unknown table", "[jurnal]\n", 1, &["jurnal"]),
    ("bad glob", "[[rule]]\nname = \"a\"\npaths = [\"/etc/[a\"]\n", 3, &["/etc/[a"]),
    (
        "bad exclusion",
        "[[rule]]\nname = \"a\"\npaths = [\"/etc\"]\nexclude = [\"/etc/{a\"]\n",
        4,
        &["/etc/{a"],
    ),
    ("relative path", "[[rule]]\nname = \"a\"\npaths = [\"etc/passwd\"]\n", 3, &["etc/passwd"]),
    ("no paths", "[[rule]]\nname = \"a\"\n", 1, &["paths"]),
    ("unknown backend", "backend = \"kprobes\"\n", 1, &["kprobes", "fanotify"]),
    (
        "unknown operation",
        "[[rule]]\nname = \"a\"\npaths = [\"/etc\"]\noperations = [\"read\"]\n",
        4,
        &["read", "created"],
    ),
    ("wrong type", "[metrics]\nenabled = \"no\"\n", 2, &["bool"]),
    ("out of range", "[events]\nfold_ms = -1\n", 2, &["-1"]),
    ("no size", "[hash]\nmax_size = \"10MB\"\n", 2, &["10MB", "MiB"]),
    ("no address", "[metrics]\nlisten = \"localhost\"\n", 2, &["localhost"]),
    ("no TOML", "backend = \n", 1, &[]),
];

#[test]
fn refused_with_file_and_line() {
    if !is_ready("configuration") {
        return;
    }
    let _guard = beside_others();
    let mut bench = Bench::new("configuration");
    let file = bench.path("fim.toml");
    bench.setup.config = Some(file.clone());
    bench.setup.watch.clear();
    for (case, text, line, needles) in FILES {
        fs::write(&file, text).unwrap();
        let outcome = bench.run();
        outcome.is_refusal(case, USAGE, needles);
        outcome.is_refusal(case, USAGE, &[&format!("{}:{line}", file.display())]);
        assert!(!bench.setup.state_dir.exists(), "{case}: something was begun all the same");
    }
}

#[test]
fn no_text_and_no_file() {
    if !is_ready("configuration") {
        return;
    }
    let _guard = beside_others();
    let mut bench = Bench::new("configuration");
    let file = bench.path("fim.toml");
    bench.setup.config = Some(file.clone());
    let named = file.to_str().unwrap();
    bench.run().is_refusal("missing file", USAGE, &[named, "no such file"]);
    fs::write(&file, b"# \xff\n").unwrap();
    bench.run().is_refusal("not UTF-8", USAGE, &[named, "UTF-8"]);
}
