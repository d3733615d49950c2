//! How many of Windows' events one core decodes and correlates; a section of the page.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::sections;
use crate::workspace::{Workspace, output};

/// Events a second on one core.
const TARGET: f64 = 200_000.0;

/// What one way of one mix of events took.
#[derive(Clone, Debug, Deserialize)]
struct Figure {
    mix: String,
    way: String,
    records: u64,
    operations: u64,
    seconds: f64,
    per_second: f64,
}

/// Measures, and writes the section.
pub(crate) fn bench(ws: &Workspace) -> Result<()> {
    let mut cargo = ws.cargo();
    cargo.args(["bench", "--package", "fim-windows-etw", "--bench", "events"]);
    let said = output(&mut cargo)?;
    let figures: Vec<Figure> = said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).with_context(|| format!("reading {line}")))
        .collect::<Result<_>>()?;
    sections::write(ws, "windows", &section(&figures))
}

fn section(figures: &[Figure]) -> String {
    let mut text = String::from(
        "## Windows events\n\n\
         Records decoded and correlated into operations on one core, by its processor time (the best \
         of five); `replay` reads them from a trace, `live` takes them through the queue and into \
         order. Measured on Linux with made-up events (`cargo xtask bench windows`): `changes` makes, \
         writes, renames and deletes files and sets values, each with its outcome and its user; \
         `looks` opens and closes them. Target: 200,000 events a second.\n\n\
         | events | way | records | operations | seconds | a second | target |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for figure in figures {
        let Figure { mix, way, records, operations, seconds, per_second } = figure;
        let reached = if *per_second >= TARGET { "reached" } else { "**not reached**" };
        text.push_str(&format!(
            "| {mix} | {way} | {records} | {operations} | {seconds:.2} | {per_second:.0} | {reached} |\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_says_what_was_reached() {
        let figure = |per_second| Figure {
            mix: "changes".into(),
            way: "live".into(),
            records: 10,
            operations: 2,
            seconds: 0.5,
            per_second,
        };
        let text = section(&[figure(200_000.0), figure(199_000.0)]);
        assert!(text.contains("| 200000 | reached |"), "{text}");
        assert!(text.contains("| 199000 | **not reached** |"), "{text}");
    }
}
