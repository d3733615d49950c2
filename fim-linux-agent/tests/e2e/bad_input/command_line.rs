//! The command line.

use std::process::Command;

use super::{Bench, USAGE, outcome};
use crate::environment::{beside_others, fim, is_ready};

#[test]
fn refused_with_usage() {
    if !is_ready("command line") {
        return;
    }
    let _guard = beside_others();
    let bench = Bench::new("command-line");
    for (args, needles) in [
        (&["--frobnicate"][..], &["--frobnicate"][..]),
        (&["--backend", "kprobes"], &["kprobes"]),
        (&["--output", "yaml"], &["yaml", "json"]),
        (&["--metrics", "localhost"], &["localhost"]),
        (&["stray"], &["stray"]),
        (&["--watch"], &["--watch"]),
        (&["--watch", ""], &["--watch"]),
    ] {
        let mut command = Command::new(fim());
        command.arg("run").arg("--state-dir").arg(&bench.setup.state_dir).args(args);
        outcome(command).is_refusal(&format!("fim run {args:?}"), USAGE, needles);
        assert!(!bench.setup.state_dir.exists(), "{args:?}: something was begun all the same");
    }
    for (args, needle) in [(&["frobnicate"][..], "frobnicate"), (&[], "run")] {
        let mut command = Command::new(fim());
        command.args(args);
        outcome(command).is_refusal(&format!("fim {args:?}"), USAGE, &[needle]);
    }
}
