//! The cells that are not exact, and why. A cell that is not in the list has to be exact; one that
//! is has to have the grade that the list says, no better and no worse.

use crate::conformance::{
    cell::{Cell, Grade, Place},
    list::{LIST, REASONS},
};

/// Cells with one grade for one reason. Each pattern is a list separated by spaces, of names, of
/// beginnings of names followed by `*`, or of `*` for all.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) grade: Grade,
    pub(crate) backends: &'static str,
    pub(crate) ops: &'static str,
    pub(crate) file_systems: &'static str,
    pub(crate) kernels: &'static str,
    /// A section of [`REASONS`].
    pub(crate) why: &'static str,
}

/// Why a cell is not exact.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// Of `docs/limitations.md`.
    pub(crate) section: &'static str,
    /// In one sentence.
    pub(crate) text: &'static str,
}

impl Reason {
    /// Where it is on the page, as GitHub makes it of the heading.
    pub(crate) fn anchor(&self) -> String {
        let kept = self.section.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    }
}

impl Known {
    fn matches(&self, place: &Place) -> bool {
        matches(self.backends, &place.backend)
            && matches(self.ops, &place.op)
            && matches(self.file_systems, &place.fs)
            && matches(self.kernels, &place.kernel)
    }

    /// A test holds that there is one.
    pub(crate) fn reason(&self) -> Option<&'static Reason> {
        REASONS.iter().find(|reason| reason.section == self.why)
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.split(' ').any(|word| match word.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => word == name,
    })
}

/// What the list says of a cell: its first entry that fits.
pub(crate) fn find(place: &Place) -> Option<&'static Known> {
    LIST.iter().find(|known| known.matches(place))
}

/// What is wrong with cells by the list.
pub(crate) fn problems(cells: &[Cell]) -> Vec<String> {
    cells.iter().filter_map(problem).collect()
}

fn problem(cell: &Cell) -> Option<String> {
    let expected = find(&cell.place).map_or(Grade::Exact, |known| known.grade);
    if cell.grade == expected {
        return None;
    }
    let direction = if cell.grade < expected { "worse" } else { "better" };
    Some(format!("{cell}; {direction} than the list says, which is {}", expected.name()))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::{conformance::page::Marks, workspace::Workspace};

    fn place(backend: &str, op: &str) -> Place {
        let [backend, op, kernel, fs] = [backend, op, "6.1", "ext4"].map(str::to_string);
        Place { backend, op, kernel, fs }
    }

    #[test]
    fn patterns_are_names_and_beginnings() {
        assert!(matches("*", "write"));
        assert!(matches("a write", "write"));
        assert!(matches("denied_*", "denied_open"));
        assert!(!matches("denied_* writ", "write"));
    }

    #[test]
    fn a_cell_has_the_grade_of_the_list() {
        let cell = |grade| Cell {
            place: place("bpf", "an_operation_that_nobody_lists"),
            grade,
            detail: "why".to_string(),
        };
        assert_eq!(problem(&cell(Grade::Exact)), None);
        assert!(problem(&cell(Grade::Missed)).unwrap().contains("worse"));
        let listed = Known {
            grade: Grade::Missed,
            backends: "bpf",
            ops: "*",
            file_systems: "*",
            kernels: "6.1",
            why: "",
        };
        assert!(listed.matches(&place("bpf", "x")) && !listed.matches(&place("fanotify", "x")));
    }

    fn docs(name: &str) -> PathBuf {
        Workspace::find().unwrap().root.join("docs").join(name)
    }

    #[test]
    fn every_reason_has_its_section() {
        let limitations = fs::read_to_string(docs("limitations.md")).unwrap();
        for reason in REASONS {
            let heading = format!("\n### {}\n", reason.section);
            assert!(limitations.contains(&heading), "limitations.md lacks {heading:?}");
        }
        for known in LIST {
            assert!(known.reason().is_some(), "no reason {}", known.why);
        }
    }

    #[test]
    fn the_page_and_the_list_agree() {
        let path = docs("conformance.md");
        let page = fs::read_to_string(&path).unwrap();
        let marks = Marks::parse(&page);
        assert_eq!(problems(&marks.cells()), [""; 0]);
        // The marks are as they were measured; their reasons may have changed.
        if std::env::var_os("FIM_UPDATE_DOCS").is_some() {
            fs::write(&path, marks.render()).unwrap();
        } else {
            let command = "FIM_UPDATE_DOCS=1 cargo test -p xtask conformance::";
            assert!(marks.render() == page, "reasons have changed: `{command}`");
        }
        for known in LIST {
            let used = marks
                .cells()
                .iter()
                .any(|cell| find(&cell.place).is_some_and(|found| std::ptr::eq(found, known)));
            assert!(used, "nothing is like this: {known:?}");
        }
    }
}
