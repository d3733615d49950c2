//! What differs between two texts.

use std::time::Duration;

use similar::{Algorithm, ChangeTag, DiffOp, TextDiff, capture_diff_slices_deadline};

/// Lines of context around a difference, as in diff -u.
const CONTEXT: usize = 3;
/// Beyond this the difference is still right, but may be longer than it had to be.
const PATIENCE: Duration = Duration::from_millis(200);

/// A difference between two texts.
pub(super) struct Unified {
    /// As diff -u writes it, without the file names.
    pub(super) unified: String,
    /// Not all of it is there.
    pub(super) cut: bool,
    pub(super) added: u64,
    pub(super) removed: u64,
}

/// The unified difference, cut at the end of a line so that at most `limit` bytes are left.
pub(super) fn unified(old: &[u8], new: &[u8], limit: usize) -> Unified {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    let (mut added, mut removed) = (0, 0);
    for op in diff.ops() {
        let (took, gave) = lines(op);
        removed += took;
        added += gave;
    }
    let mut unified = String::new();
    let mut cut = false;
    'hunks: for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        let mut push = |line: &str| {
            cut = cut || unified.len() + line.len() > limit;
            if !cut {
                unified.push_str(line);
            }
            !cut
        };
        if !push(&format!("{}\n", hunk.header())) {
            break;
        }
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let text = String::from_utf8_lossy(change.value());
            let end =
                if change.missing_newline() { "\n\\ No newline at end of file\n" } else { "" };
            if !push(&format!("{sign}{text}{end}")) {
                break 'hunks;
            }
        }
    }
    Unified { unified, cut, added, removed }
}

/// Lines added and removed between two lists of digests.
pub(super) fn count(old: &[u64], new: &[u64]) -> (u64, u64) {
    let deadline = std::time::Instant::now() + PATIENCE;
    let ops = capture_diff_slices_deadline(Algorithm::Myers, old, new, Some(deadline));
    ops.iter()
        .map(lines)
        .fold((0, 0), |(added, removed), (took, gave)| (added + gave, removed + took))
}

/// Lines that an operation removes, and that it adds.
fn lines(op: &DiffOp) -> (u64, u64) {
    match *op {
        DiffOp::Equal { .. } => (0, 0),
        DiffOp::Delete { old_len, .. } => (old_len as u64, 0),
        DiffOp::Insert { new_len, .. } => (0, new_len as u64),
        DiffOp::Replace { old_len, new_len, .. } => (old_len as u64, new_len as u64),
    }
}
