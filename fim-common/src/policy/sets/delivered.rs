//! The policy file that is delivered for Windows: the recommended rules, written out, so that
//! whoever reads it sees each file and key, and can take one away. A test holds that it says what
//! the built-in set says.

use std::fmt::Write as _;
use std::path::Path;

use super::{BuiltIn, Platform, RegistryItem, Set, rules_of};
use crate::config::Config;

const HEAD: &str = "\
# The configuration of fim for Windows. Every key, with its default: docs/configuration.md.
# `fim-windows-etw policy check` validates this file, `fim-windows-etw policy show` prints what is in
# force, and the agent takes over a changed file by itself.

# The rules below are the built-in set `recommended`, written out: change them as you like. To have the
# built-in ones instead, which a new version may add to, remove them and say:
#   sets = [\"recommended\"]
# `fim-windows-etw policy recommended` shows what of them exists here, and with
# `--set attack-surface` what else attackers change today.
sets = []

[metrics]
# Prometheus metrics and health, for this host only.
listen = \"127.0.0.1:9977\"
";

fn text() -> String {
    let mut text = HEAD.to_owned();
    for rule in BuiltIn::of(Set::Recommended, Platform::Windows) {
        write_rule(&mut text, rule);
    }
    text
}

fn write_rule(out: &mut String, rule: &BuiltIn) {
    let list = |items: &[&str]| {
        let items: Vec<String> = items.iter().map(|item| format!("'{item}'")).collect();
        items.join(", ")
    };
    let _ = writeln!(out, "\n# {}", rule.why);
    let _ = writeln!(out, "[[rule]]\nname = '{}'\ncategory = '{}'", rule.name, rule.category);
    let _ = writeln!(out, "severity = {}", rule.severity);
    if !rule.paths.is_empty() {
        let _ = writeln!(out, "paths = [");
        for path in rule.paths {
            let _ = writeln!(out, "    '{path}',");
        }
        let _ = writeln!(out, "]");
    }
    if !rule.registry.is_empty() {
        let _ = writeln!(out, "registry = [");
        for RegistryItem { key, values } in rule.registry {
            let _ = match values {
                [] => writeln!(out, "    '{key}',"),
                values => writeln!(out, "    {{ key = '{key}', values = [{}] }},", list(values)),
            };
        }
        let _ = writeln!(out, "]");
    }
    let _ = writeln!(out, "tags = [{}]", list(rule.standards()));
    let _ = writeln!(out, "techniques = [{}]", list(rule.techniques));
}

#[test]
fn the_delivered_policy_for_windows_is_the_recommended_set() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/windows/fim.toml");
    if std::env::var_os("FIM_UPDATE_DOCS").is_some() {
        std::fs::write(&file, text()).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == text(),
        "deploy/windows/fim.toml is not what the code says; write it anew with\n  \
         FIM_UPDATE_DOCS=1 cargo test -p fim-common delivered"
    );
    let delivered = Config::load_windows(&file).unwrap();
    assert_eq!(delivered.rules, rules_of(&[Set::Recommended], Platform::Windows));
    assert_eq!(delivered.metrics, Config::default().metrics);
}
