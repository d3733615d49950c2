//! The report in a real browser.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bad_input::outcome;
use crate::environment::skip;
use crate::scratch::Scratch;

/// The page as Chromium has it after it has shown it, having asked for nothing; `None`: there is no
/// Chromium.
pub(crate) fn shown(scratch: &Scratch, page: &Path) -> Option<String> {
    let browser = Command::new("chromium").arg("--version").output();
    if !browser.is_ok_and(|output| output.status.success()) {
        skip("the report in a browser", "there is no chromium");
        return None;
    }
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-features=NetworkTimeServiceQuerying",
        // Whatever the page asks for shows in this log.
        "--enable-logging=stderr",
        "--log-level=0",
        "--dump-dom",
    ]);
    let log = scratch.path().join("net.json");
    chromium.arg(format!("--user-data-dir={}", scratch.directory("browser").display()));
    chromium.arg(format!("--log-net-log={}", log.display()));
    chromium.arg(format!("file://{}", page.display()));
    let shown = outcome(chromium);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(!shown.stderr.contains("CONSOLE"), "{}", shown.stderr);
    // A browser has questions of its own to its maker, whatever it shows.
    let own = |line: &str| ["google.com/", "googleapis.com/"].iter().any(|own| line.contains(own));
    let net = fs::read_to_string(&log).unwrap_or_default();
    for line in net.lines().filter(|line| line.contains("\"url\":\"") && !own(line)) {
        let asked = ["http://", "https://"]
            .iter()
            .any(|scheme| line.contains(&format!("\"url\":\"{scheme}")));
        assert!(!asked, "the browser asked for something: {line}");
    }
    Some(shown.stdout)
}
