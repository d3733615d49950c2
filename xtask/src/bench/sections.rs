//! Parts of docs/benchmarks.md that a command of their own writes, between two marks. What writes the
//! rest of the page leaves them as they are.

use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace::{Workspace, say};

/// In the order of the page.
pub(crate) const NAMES: [&str; 3] = ["scan", "events", "windows"];

fn marks(name: &str) -> [String; 2] {
    [format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->")]
}

/// The section of a page, with its marks; empty where it has none.
pub(crate) fn of<'a>(page: &'a str, name: &str) -> &'a str {
    let [begin, end] = marks(name);
    let Some(from) = page.find(&begin) else { return "" };
    let Some(to) = page[from..].find(&end) else { return "" };
    &page[from..from + to + end.len()]
}

/// The page with this section: in the place of the one that it has, or at the end.
fn with(page: &str, name: &str, text: &str) -> String {
    let [begin, end] = marks(name);
    let marked = format!("{begin}\n\n{text}\n{end}");
    match of(page, name) {
        "" => format!("{}\n\n{marked}\n", page.trim_end()),
        old => page.replacen(old, &marked, 1),
    }
}

/// Puts a section into the page.
pub(crate) fn write(ws: &Workspace, name: &str, text: &str) -> Result<()> {
    let path = ws.root.join("docs/benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    fs::write(&path, with(&page, name, text))
        .with_context(|| format!("writing {}", path.display()))?;
    say(format!("bench: {} has the figures of `bench {name}`", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_rest_stays() {
        let page = with("# Title\n\ntext\n", "scan", "one\n");
        assert!(page.starts_with("# Title\n\ntext\n\n<!-- scan: begin -->\n\none\n"), "{page}");
        let again = with(&format!("{page}after\n"), "scan", "two\n");
        assert!(again.contains("two") && !again.contains("one"), "{again}");
        assert!(again.starts_with("# Title\n\ntext\n") && again.ends_with("after\n"), "{again}");
        assert!(of(&again, "scan").contains("two") && of(&again, "events").is_empty());
    }
}
