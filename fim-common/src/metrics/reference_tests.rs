//! `docs/metrics.md` is what the agent serves: made from a page on which every metric is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;

/// What `/metrics` says when everything has happened once.
fn page() -> String {
    let metrics = Metrics::new().unwrap();
    metrics.event(Action::Created, Some(Provider::Bpf), Outcome::Success);
    metrics.set_kernel_operations("file_open", HookCounts { seen: 1, ..HookCounts::default() });
    metrics.dropped("queue", "full", 1);
    metrics.gap();
    metrics.set_ledger(&Counts::default());
    metrics.canary("rename", "/", Duration::from_millis(3));
    metrics.canary_missed("unlink", "/");
    metrics.set_queue_depth("hash", 5);
    metrics.set_hook_armed("file_open", true);
    metrics.set_backend("bpf");
    metrics.sink("siem");
    metrics.encode().unwrap()
}

struct Row {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn rows(page: &str) -> BTreeMap<String, Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            let row = Row { kind: String::new(), help: help.to_owned(), labels: BTreeSet::new() };
            rows.insert(name.to_owned(), row);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            rows.get_mut(name).unwrap().kind = kind.to_owned();
        } else if let Some((name, labels)) = line.split_once('{') {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|name| rows.contains_key(*name)))
                .unwrap_or(name);
            let labels = labels.rsplit_once('}').unwrap().0;
            // No value in this page has a comma.
            let names = labels.split(',').map(|label| label.split('=').next().unwrap().to_owned());
            rows.get_mut(family).unwrap().labels.extend(names.filter(|name| name != "le"));
        }
    }
    rows
}

fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Generated from the code. Do not edit: `FIM_UPDATE_DOCS=1 cargo test -p fim-common \
         metrics::` writes it anew. -->\n\n\
         `GET /metrics` serves these to Prometheus, by default on 127.0.0.1:9977; where, for whom and \
         how: [`[metrics]`](configuration.md#metrics). [operations.md](operations.md#what-to-watch) \
         says which of them to watch, [rules.yml](../deploy/prometheus/rules.yml) has alerts, \
         [fim.json](../deploy/grafana/fim.json) a dashboard.\n\n\
         No label has a path of a watched file, a user or a process: there are as many series as \
         hooks, stages, watched file systems and sinks, some three hundred.\n\n\
         | metric | type | labels | is |\n|---|---|---|---|\n",
    );
    for (name, Row { kind, help, labels }) in rows(&page()) {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let help = help.replace('|', "\\|");
        text.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(" ")));
    }
    text
}

#[test]
fn the_reference_page_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("FIM_UPDATE_DOCS").is_some() {
        std::fs::write(&file, markdown()).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == markdown(),
        "docs/metrics.md is not what the code says; write it anew with\n  \
         FIM_UPDATE_DOCS=1 cargo test -p fim-common metrics::"
    );
}

/// A family that has no sample is not on the page, so it could be forgotten above.
#[test]
fn no_metric_is_left_out() {
    let page = markdown();
    for source in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics")).unwrap()
    {
        let source = source.unwrap().path();
        if source.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&source).unwrap();
        for name in text.split('"').filter(|text| text.starts_with("fim_")) {
            let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(!is_name || page.contains(&format!("`{name}`")), "{name} in {source:?}");
        }
    }
}
