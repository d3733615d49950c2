//! `docs/conformance.md`: written from runs, and read back, since a run may be of some cells only.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    conformance::{
        cell::{Cell, Grade, Place},
        known::{self, Known, Reason},
    },
    kernels::KERNELS,
};

/// In the order of the page.
pub(crate) const BACKENDS: &[&str] = &["bpf", "fanotify"];
/// As the test program names them.
pub(crate) const FILE_SYSTEMS: &[&str] = &["tmpfs", "ext4", "xfs", "btrfs", "overlayfs"];

const INTRODUCTION: &str = "\
# Conformance

What comes of each operation, on each file system, on each kernel: whether `fim` told of it, with
everything right (action, path, outcome, who, before and after, hash), and told of nothing else. The
truth is the word of the program that did the operation; see `fim-linux-agent/tests/e2e/conformance`,
which has for each operation what is to come of it.

| mark | means |
|---|---|
| ✓ | exact: all events that are to come, with everything right in them, and no other |
| ~ | partial: told, but something is missing or wrong, or told besides |
| ✗ | missed |
| – | there is no such operation on this kernel or file system: it says so itself |

The numbers lead to the reasons below each table. Every mark is asserted: a cell that gets worse, or
better, fails `cargo xtask test` until this page says so. Where a mark depends on what else happens
at that moment, it is the worse one, and the reason says so.

`cargo xtask conformance --all` writes this page. With fewer kernels, file systems or backends it
runs those, and leaves the other marks as they are. Kernels are Debian's, in QEMU; btrfs is a
subvolume, the layers of overlayfs are on ext4, and what is changed there is in the lower layer.
";

/// The marks of the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    marks: BTreeMap<Place, Grade>,
    /// The operations, in the order in which the test program has them.
    order: Vec<String>,
}

impl Marks {
    /// Takes the marks from a page.
    pub(crate) fn parse(text: &str) -> Self {
        let mut marks = Self::default();
        let mut backend = None;
        let mut columns: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                backend = BACKENDS.iter().find(|name| **name == title);
                columns.clear();
            }
            let (Some(backend), Some(row)) = (backend, line.strip_prefix("| ")) else {
                continue;
            };
            let mut fields = row.trim_end_matches('|').split('|').map(str::trim);
            let first = fields.next().unwrap_or_default();
            if first == "operation" {
                columns = fields.filter_map(|field| field.split_once("<br>")).map(owned).collect();
                continue;
            }
            for ((kernel, fs), field) in columns.iter().zip(fields) {
                let place = Place {
                    backend: (*backend).to_string(),
                    op: first.to_string(),
                    kernel: kernel.clone(),
                    fs: fs.clone(),
                };
                if let Some(grade) = field.chars().next().and_then(Grade::of_mark) {
                    marks.set(place, grade);
                }
            }
        }
        marks
    }

    /// Puts what a run found in place of what was there.
    pub(crate) fn take(&mut self, cells: &[Cell]) {
        for cell in cells.iter().filter(|cell| cell.grade.mark().is_some()) {
            self.set(cell.place.clone(), known::settled(cell));
        }
    }

    /// After a run of all operations: what they are, and their order.
    pub(crate) fn set_operations(&mut self, operations: Vec<String>) {
        self.marks.retain(|place, _| operations.contains(&place.op));
        self.order = operations;
    }

    pub(crate) fn grade(&self, place: &Place) -> Option<Grade> {
        self.marks.get(place).copied()
    }

    /// All cells, without details.
    #[cfg(test)]
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let cell = |(place, grade): (&Place, &Grade)| Cell {
            place: place.clone(),
            grade: *grade,
            detail: String::new(),
        };
        self.marks.iter().map(cell).collect()
    }

    fn set(&mut self, place: Place, grade: Grade) {
        if !self.order.contains(&place.op) {
            self.order.push(place.op.clone());
        }
        self.marks.insert(place, grade);
    }

    /// The page.
    pub(crate) fn render(&self) -> String {
        let mut text = INTRODUCTION.to_string();
        for backend in BACKENDS {
            if self.marks.keys().any(|place| place.backend == *backend) {
                text.push_str(&format!("\n## {backend}\n\n{}", self.table(backend)));
            }
        }
        text
    }

    fn table(&self, backend: &str) -> String {
        let columns = self.columns(backend);
        let mut reasons: Vec<&Reason> = Vec::new();
        let mut text = String::from("| operation |");
        for (kernel, fs) in &columns {
            text.push_str(&format!(" {kernel}<br>{fs} |"));
        }
        text.push_str(&format!("\n|---|{}\n", ":-:|".repeat(columns.len())));
        for op in &self.order {
            text.push_str(&format!("| {op} |"));
            for (kernel, fs) in &columns {
                let place = Place {
                    backend: backend.to_string(),
                    op: op.clone(),
                    kernel: (*kernel).to_string(),
                    fs: (*fs).to_string(),
                };
                text.push_str(&format!(" {} |", self.field(&place, &mut reasons)));
            }
            text.push('\n');
        }
        if !reasons.is_empty() {
            text.push('\n');
        }
        for (index, reason) in reasons.iter().enumerate() {
            let (number, anchor) = (index + 1, reason.anchor());
            let Reason { section, text: why } = reason;
            text.push_str(&format!("{number}. {why} ([{section}](limitations.md#{anchor}))\n"));
        }
        text
    }

    /// A mark, with the number of its reason.
    fn field(&self, place: &Place, reasons: &mut Vec<&'static Reason>) -> String {
        let Some(mark) = self.grade(place).and_then(Grade::mark) else {
            return String::new();
        };
        let Some(reason) = known::find(place).and_then(Known::reason) else {
            return mark.to_string();
        };
        let found = reasons.iter().position(|other| *other == reason);
        let index = found.unwrap_or_else(|| {
            reasons.push(reason);
            reasons.len() - 1
        });
        format!("{mark}{}", superscript(index + 1))
    }

    /// Kernels and file systems of which there are any marks, in the usual order.
    fn columns(&self, backend: &str) -> Vec<(&'static str, &'static str)> {
        let of_backend = self.marks.keys().filter(|place| place.backend == backend);
        let there: BTreeSet<(&str, &str)> =
            of_backend.map(|place| (&*place.kernel, &*place.fs)).collect();
        let kernels = KERNELS.iter().map(|kernel| kernel.name);
        let all = kernels.flat_map(|kernel| FILE_SYSTEMS.iter().map(move |fs| (kernel, *fs)));
        all.filter(|column| there.contains(column)).collect()
    }
}

fn owned((left, right): (&str, &str)) -> (String, String) {
    (left.to_string(), right.to_string())
}

fn superscript(number: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digits = number.to_string();
    digits.bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(backend: &str, op: &str, kernel: &str, fs: &str, grade: Grade) -> Cell {
        let [backend, op, kernel, fs] = [backend, op, kernel, fs].map(str::to_string);
        Cell { place: Place { backend, op, kernel, fs }, grade, detail: String::new() }
    }

    fn some() -> Marks {
        let mut marks = Marks::default();
        marks.take(&[
            cell("bpf", "write", "6.1", "xfs", Grade::Exact),
            cell("bpf", "a_new_one", "6.1", "xfs", Grade::Missed),
            cell("bpf", "write", "6.1", "tmpfs", Grade::Partial),
            cell("bpf", "write", "5.10", "tmpfs", Grade::NotApplicable),
            cell("fanotify", "write", "7.x", "ext4", Grade::Exact),
            cell("bpf", "write", "7.x", "ext4", Grade::Broken),
        ]);
        marks
    }

    #[test]
    fn a_page_is_read_as_it_was_written() {
        assert_eq!(Marks::parse(&some().render()), some());
    }

    #[test]
    fn columns_are_in_the_usual_order_and_only_those_that_are_known() {
        let page = some().render();
        assert!(page.contains("| operation | 5.10<br>tmpfs | 6.1<br>tmpfs | 6.1<br>xfs |\n"));
        // The operations stay in the order in which they came.
        assert!(page.find("| write |") < page.find("| a_new_one |"));
    }

    #[test]
    fn a_run_replaces_its_own_marks_only() {
        let mut marks = some();
        marks.take(&[cell("bpf", "write", "6.1", "tmpfs", Grade::Exact)]);
        let grade = |fs: &str| marks.grade(&cell("bpf", "write", "6.1", fs, Grade::Exact).place);
        assert_eq!((grade("tmpfs"), grade("xfs")), (Some(Grade::Exact), Some(Grade::Exact)));
        let other = cell("bpf", "a_new_one", "6.1", "xfs", Grade::Exact).place;
        assert_eq!(marks.grade(&other), Some(Grade::Missed));
        marks.set_operations(vec!["write".to_string()]);
        assert_eq!(marks.grade(&other), None);
    }

    #[test]
    fn reasons_are_numbered() {
        assert_eq!(superscript(120), "¹²⁰");
    }
}
