//! A cell of the table, and the test program's word on it.

use anyhow::{Context as _, Result};

/// How well an operation is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// The operation itself went wrong.
    Broken,
    Missed,
    Partial,
    /// There is no such operation here.
    NotApplicable,
    Exact,
}

/// Every grade with its name in the results, and its mark on the page.
const GRADES: &[(Grade, &str, Option<char>)] = &[
    (Grade::Broken, "broken", None),
    (Grade::Missed, "missed", Some('✗')),
    (Grade::Partial, "partial", Some('~')),
    (Grade::NotApplicable, "n/a", Some('–')),
    (Grade::Exact, "exact", Some('✓')),
];

impl Grade {
    pub(crate) fn name(self) -> &'static str {
        GRADES.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// On the page, where nothing broken ever comes to.
    pub(crate) fn mark(self) -> Option<char> {
        GRADES.iter().find(|row| row.0 == self).and_then(|row| row.2)
    }

    pub(crate) fn of_mark(mark: char) -> Option<Self> {
        GRADES.iter().find(|row| row.2 == Some(mark)).map(|row| row.0)
    }

    fn named(name: &str) -> Option<Self> {
        GRADES.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

/// Which cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) backend: String,
    pub(crate) op: String,
    /// As `xtask` names it.
    pub(crate) kernel: String,
    pub(crate) fs: String,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) place: Place,
    pub(crate) grade: Grade,
    /// Why it is not exact.
    pub(crate) detail: String,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { backend, op, kernel, fs } = &self.place;
        write!(f, "{op} on {fs} ({backend}, {kernel}) is {}", self.grade.name())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// The results of one run, a JSON object a line. The kernel is named by who started it: a release
/// says nothing of which one it is to be.
pub(crate) fn parse(text: &str, kernel: &str) -> Result<Vec<Cell>> {
    text.lines().map(|line| parse_line(line, kernel).with_context(|| format!("`{line}`"))).collect()
}

fn parse_line(line: &str, kernel: &str) -> Result<Cell> {
    let value: serde_json::Value = serde_json::from_str(line)?;
    let text =
        |name: &str| value[name].as_str().map(str::to_string).with_context(|| format!("no {name}"));
    let grade = text("grade")?;
    Ok(Cell {
        place: Place {
            backend: text("backend")?,
            op: text("op")?,
            kernel: kernel.to_string(),
            fs: text("fs")?,
        },
        grade: Grade::named(&grade).with_context(|| format!("no grade {grade}"))?,
        detail: text("detail")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kernel":"6.1.0-9-amd64","backend":"bpf","fs":"xfs","op":"write","grade":"partial","detail":"who"}"#;

    #[test]
    fn results_are_read() {
        let cells = parse(&format!("{LINE}\n"), "6.1").unwrap();
        assert_eq!(cells.len(), 1);
        assert_eq!(cells[0].grade, Grade::Partial);
        assert_eq!(cells[0].to_string(), "write on xfs (bpf, 6.1) is partial: who");
    }

    #[test]
    fn what_is_no_result_is_an_error() {
        assert!(parse("{", "6.1").is_err());
        assert!(parse(&LINE.replace("partial", "good"), "6.1").is_err());
        assert!(parse(&LINE.replace("detail", "remark"), "6.1").is_err());
    }

    #[test]
    fn marks_and_names_are_one_to_one() {
        for &(grade, name, mark) in GRADES {
            assert_eq!(Grade::named(name), Some(grade));
            assert_eq!(mark.and_then(Grade::of_mark), mark.map(|_| grade));
        }
    }

    #[test]
    fn worse_is_less() {
        assert!(Grade::Missed < Grade::Partial && Grade::Partial < Grade::Exact);
        assert!(Grade::Broken < Grade::Missed);
    }
}
