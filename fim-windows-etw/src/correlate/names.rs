//! Which file an object stands for.
//!
//! Two kinds of addresses: of the open file (one for each handle), and of the file (the same for all
//! handles). Opening tells the first and a name, creating a name tells the second and a name, most
//! other events tell both addresses and no name. Addresses are used again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bounded::{Bounded, Weight};
use super::{MAP_BYTES, OBJECTS_MAX};
use crate::paths::fold;
use crate::process::Who;

/// Renames that are remembered to bring names up to date that were noted before.
const RENAMES_MAX: usize = 256;

/// A name, and up to which rename it is true.
#[derive(Clone, Debug)]
pub(super) struct Name {
    text: Arc<str>,
    renames: u64,
}

impl Weight for Name {
    fn weight(&self) -> usize {
        self.text.len()
    }
}

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    name: Name,
    /// Options and disposition of the open.
    pub(super) options: u32,
    /// Something was done through it that changes the file.
    pub(super) acted: bool,
    /// Its content, or its existence.
    pub(super) content: bool,
    /// Who opened it, if it is to be deleted when it is closed.
    pub(super) opener: Option<Box<Who>>,
    /// The last handle was closed; what still comes is done by the system.
    pub(super) cleaned: bool,
}

impl Weight for Opened {
    fn weight(&self) -> usize {
        self.name.text.len()
    }
}

/// All names that are known.
pub(super) struct NameTable {
    pub(super) objects: Bounded<u64, Opened>,
    pub(super) keys: Bounded<u64, Name>,
    /// Old and new folded path of directories and files, and the number of the rename.
    renames: VecDeque<(String, Arc<str>, u64)>,
    count: u64,
}

impl NameTable {
    pub(super) fn new() -> Self {
        Self {
            objects: Bounded::new(OBJECTS_MAX, MAP_BYTES),
            keys: Bounded::new(OBJECTS_MAX, MAP_BYTES),
            renames: VecDeque::new(),
            count: 0,
        }
    }

    fn name(&self, text: &str) -> Name {
        Name { text: text.into(), renames: self.count }
    }

    pub(super) fn open(&mut self, object: u64, text: &str, options: u32) {
        if object == 0 {
            return;
        }
        let opened = Opened {
            name: self.name(text),
            options,
            acted: false,
            content: false,
            opener: None,
            cleaned: false,
        };
        self.objects.insert(object, opened);
    }

    pub(super) fn key(&mut self, key: u64, text: &str) {
        if key != 0 {
            self.keys.insert(key, self.name(text));
        }
    }

    /// The name of an open file; else that of the file. Whoever is found by one of them is found by
    /// both afterwards.
    pub(super) fn find(&mut self, object: u64, key: u64) -> Option<Arc<str>> {
        let (count, renames) = (self.count, &self.renames);
        if let Some(opened) = self.objects.get(&object) {
            refresh(&mut opened.name, renames, count);
            let name = opened.name.clone();
            if key != 0 && self.keys.get(&key).is_none() {
                self.keys.insert(key, name.clone());
            }
            return Some(name.text);
        }
        let name = self.keys.get(&key)?;
        refresh(name, renames, count);
        let text = Arc::clone(&name.text);
        // No options: nobody saw it opened.
        self.open(object, &text, 1 << 24);
        Some(text)
    }

    /// `from` is called `to` now, and everything below it.
    pub(super) fn renamed(&mut self, object: u64, key: u64, from: Option<&str>, to: &str) {
        if let Some(from) = from {
            self.count += 1;
            if self.renames.len() >= RENAMES_MAX {
                self.renames.pop_front();
            }
            self.renames.push_back((fold(from), to.into(), self.count));
        }
        let name = self.name(to);
        if key != 0 {
            self.keys.insert(key, name.clone());
        }
        if let Some(opened) = self.objects.get(&object) {
            opened.name = name;
        }
    }
}

/// Brings a name up to date with the renames of what lies above it.
fn refresh(name: &mut Name, renames: &VecDeque<(String, Arc<str>, u64)>, count: u64) {
    if name.renames == count {
        return;
    }
    for (from, to, number) in renames {
        if *number <= name.renames {
            continue;
        }
        // Folding may change the length of what is not ASCII: then the name is compared, not cut.
        let folded = fold(&name.text);
        if folded == *from {
            name.text = Arc::clone(to);
        } else if folded.len() == name.text.len()
            && let Some(rest) = folded.strip_prefix(from.as_str())
            && rest.starts_with('\\')
            && let Some(below) = name.text.get(from.len()..)
        {
            name.text = format!("{}{below}", to.trim_end_matches('\\')).into();
        }
    }
    name.renames = count;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_renamed_directory_moves_along() {
        let mut names = NameTable::new();
        names.open(1, "\\D\\Old\\a\\b", 0);
        names.open(2, "\\D\\older", 0);
        names.open(3, "\\D\\old", 0);
        names.renamed(9, 8, Some("\\d\\OLD"), "\\D\\new");
        assert_eq!(names.find(1, 0).as_deref(), Some("\\D\\new\\a\\b"));
        assert_eq!(names.find(2, 0).as_deref(), Some("\\D\\older"));
        assert_eq!(names.find(3, 0).as_deref(), Some("\\D\\new"));
        names.open(4, "\\D\\old", 0);
        assert_eq!(names.find(4, 0).as_deref(), Some("\\D\\old"), "made after the rename");
        assert_eq!(names.find(7, 8).as_deref(), Some("\\D\\new"), "by the file's address");
    }
}
