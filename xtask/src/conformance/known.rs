//! The cells that are not exact, and why. A cell that is not in the list has to be exact; one that
//! is has to have the grade that the list says, no better and no worse.

use crate::conformance::{
    cell::{Cell, Grade, Place},
    list::{LIST, REASONS},
};

/// Cells with one grade for one reason. Each pattern is a list separated by spaces, of names, of
/// beginnings of names followed by `*`, or of `*` for all; less those that have a `!` before them.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) grade: Grade,
    pub(crate) backends: &'static str,
    pub(crate) ops: &'static str,
    pub(crate) file_systems: &'static str,
    pub(crate) kernels: &'static str,
    /// A section of [`REASONS`].
    pub(crate) why: &'static str,
    /// It depends on what happens at the same time: it may be exact as well. The mark is the worse
    /// one.
    pub(crate) varies: bool,
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
    fn allows(&self, grade: Grade) -> bool {
        grade == self.grade || (self.varies && grade == Grade::Exact)
    }

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
    let fits = |word: &str| match word.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => word == name,
    };
    let mut words = pattern.split(' ');
    let excluded = words.clone().filter_map(|word| word.strip_prefix('!')).any(fits);
    !excluded && words.any(|word| !word.starts_with('!') && fits(word))
}

/// What the list says of a cell: its first entry that fits.
pub(crate) fn find(place: &Place) -> Option<&'static Known> {
    LIST.iter().find(|known| known.matches(place))
}

/// The grade for the page: where it varies, the worse one.
pub(crate) fn settled(cell: &Cell) -> Grade {
    match find(&cell.place) {
        Some(known) if known.allows(cell.grade) => known.grade,
        _ => cell.grade,
    }
}

/// What is wrong with cells by the list.
pub(crate) fn problems(cells: &[Cell]) -> Vec<String> {
    cells.iter().filter_map(problem).collect()
}

/// Whether it is worse than the list says.
pub(crate) fn is_worse(cell: &Cell) -> bool {
    otherwise(cell).is_some_and(|expected| cell.grade < expected)
}

/// What the list says, where that is not what the cell is.
fn otherwise(cell: &Cell) -> Option<Grade> {
    let known = find(&cell.place);
    let expected = known.map_or(Grade::Exact, |known| known.grade);
    let fits = cell.grade == expected || known.is_some_and(|known| known.allows(cell.grade));
    (!fits).then_some(expected)
}

fn problem(cell: &Cell) -> Option<String> {
    let expected = otherwise(cell)?;
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
        assert!(matches("* !denied_*", "write") && !matches("* !denied_*", "denied_open"));
        assert!(!matches("!write", "read"));
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
        assert!(is_worse(&cell(Grade::Missed)) && !is_worse(&cell(Grade::Exact)));
        let listed = Known {
            grade: Grade::Missed,
            backends: "bpf",
            ops: "*",
            file_systems: "*",
            kernels: "6.1",
            why: "",
            varies: true,
        };
        assert!(listed.matches(&place("bpf", "x")) && !listed.matches(&place("fanotify", "x")));
        assert!(listed.allows(Grade::Exact) && !listed.allows(Grade::Partial));
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
        let mut marks = Marks::parse(&page);
        assert_eq!(problems(&marks.cells()), [""; 0]);
        marks.take(&marks.cells());
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
