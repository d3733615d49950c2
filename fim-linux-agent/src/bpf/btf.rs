//! The kernel's own type information, `/sys/kernel/btf/vmlinux`, as far as field offsets and
//! function signatures go. Format: Documentation/bpf/btf.rst of the kernel.

use std::collections::HashMap;

use thiserror::Error;

/// Why type information cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// Not BTF, or of the other byte order.
    #[error("no BTF: the magic number is {0:#06x}")]
    Magic(u16),
    /// An offset or length points outside.
    #[error("BTF is cut short at byte {0}")]
    Truncated(usize),
    /// A kind of type that this parser does not know the size of.
    #[error("BTF type {id} is of unknown kind {kind}")]
    UnknownKind {
        /// Type id.
        id: usize,
        /// Kind.
        kind: u32,
    },
}

const PTR: u32 = 2;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const MODIFIERS: [u32; 5] = [8, 9, 10, 11, 18]; // typedef, volatile, const, restrict, type tag

/// How many members are looked at for one field, those of anonymous structs included. The largest
/// kernel struct has some 300; damaged data could nest them without end.
const MEMBERS_MAX: u32 = 1 << 16;

/// Parsed type information.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    strings_len: usize,
    /// Byte offset of each type; the id is the index, 0 is void.
    types: Vec<usize>,
    structs: HashMap<Vec<u8>, usize>,
    functions: HashMap<Vec<u8>, usize>,
}

/// The signature of a kernel function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prototype {
    /// Names of the parameters, in order.
    pub params: Vec<String>,
    /// Whether it returns a pointer.
    pub returns_pointer: bool,
}

impl Prototype {
    /// The position of the parameter with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.params.iter().position(|param| param == name)
    }
}

impl Btf {
    /// Parses `data`, the content of a BTF file of this machine's byte order.
    ///
    /// # Errors
    /// When the data is not BTF, is cut short, or has types of unknown kind.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let magic = u16_at(&data, 0)?;
        if magic != 0xeb9f {
            return Err(BtfError::Magic(magic));
        }
        let header = u32_at(&data, 4)? as usize;
        let types_at = header + u32_at(&data, 8)? as usize;
        let types_len = u32_at(&data, 12)? as usize;
        let strings = header + u32_at(&data, 16)? as usize;
        let strings_len = u32_at(&data, 20)? as usize;
        if types_at + types_len > data.len() || strings + strings_len > data.len() {
            return Err(BtfError::Truncated(data.len()));
        }
        let mut btf = Self {
            data,
            strings,
            strings_len,
            types: vec![0],
            structs: HashMap::new(),
            functions: HashMap::new(),
        };
        let mut at = types_at;
        while at < types_at + types_len {
            let id = btf.types.len();
            let (kind, vlen) = btf.kind_at(at)?;
            let tail = match kind {
                2 | 7..=12 | 16 | 18 => 0,
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => vlen * 12,
                6 | 13 => vlen * 8,
                _ => return Err(BtfError::UnknownKind { id, kind }),
            };
            btf.types.push(at);
            let name = btf.name_at(at)?;
            // The first definition wins: later ones of the same name are local to some file.
            if kind == STRUCT && !name.is_empty() {
                let name = name.to_vec();
                btf.structs.entry(name).or_insert(id);
            } else if kind == FUNC {
                let name = name.to_vec();
                btf.functions.entry(name).or_insert(id);
            }
            at += 12 + tail;
        }
        if at != types_at + types_len {
            return Err(BtfError::Truncated(at));
        }
        Ok(btf)
    }

    fn kind_at(&self, at: usize) -> Result<(u32, usize), BtfError> {
        let info = u32_at(&self.data, at + 4)?;
        Ok(((info >> 24) & 0x1f, (info & 0xffff) as usize))
    }

    fn name_at(&self, at: usize) -> Result<&[u8], BtfError> {
        let offset = u32_at(&self.data, at)? as usize;
        if offset >= self.strings_len {
            return Err(BtfError::Truncated(self.strings + offset));
        }
        let rest = &self.data[self.strings + offset..self.strings + self.strings_len];
        Ok(rest.split(|&byte| byte == 0).next().unwrap_or_default())
    }

    /// The type behind typedefs and qualifiers.
    fn plain(&self, mut id: usize) -> Option<usize> {
        for _ in 0..64 {
            let at = *self.types.get(id)?;
            if id == 0 {
                return Some(0);
            }
            let (kind, _) = self.kind_at(at).ok()?;
            if !MODIFIERS.contains(&kind) {
                return Some(id);
            }
            id = u32_at(&self.data, at + 8).ok()? as usize;
        }
        None
    }

    /// The byte offset of a field, `offset("file", "f_path.dentry")`. Members of anonymous
    /// structs and unions are found by their own name. `None`: there is no such field.
    pub fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        let mut id = *self.structs.get(structure.as_bytes())?;
        let mut total = 0_u32;
        let mut budget = MEMBERS_MAX;
        for part in field.split('.') {
            let (offset, member) = self.member(id, part.as_bytes(), 0, &mut budget)?;
            total = offset.checked_add(total)?;
            id = self.plain(member)?;
        }
        Some(total)
    }

    fn member(&self, id: usize, name: &[u8], depth: u32, budget: &mut u32) -> Option<(u32, usize)> {
        let at = *self.types.get(id)?;
        let (kind, vlen) = self.kind_at(at).ok()?;
        if (kind != STRUCT && kind != UNION) || depth > 8 {
            return None;
        }
        let bitfields = u32_at(&self.data, at + 4).ok()? >> 31 == 1;
        for index in 0..vlen {
            *budget = budget.checked_sub(1)?;
            let member = at + 12 + index * 12;
            let inner = u32_at(&self.data, member + 4).ok()? as usize;
            let bits = u32_at(&self.data, member + 8).ok()?;
            let offset = if bitfields { bits & 0xff_ffff } else { bits } / 8;
            let this = self.name_at(member).ok()?;
            if this == name {
                return Some((offset, inner));
            }
            if this.is_empty()
                && let Some((more, found)) =
                    self.member(self.plain(inner)?, name, depth + 1, budget)
            {
                return Some((offset.checked_add(more)?, found));
            }
        }
        None
    }

    /// The size of a struct in bytes.
    pub fn size(&self, structure: &str) -> Option<u32> {
        let id = *self.structs.get(structure.as_bytes())?;
        u32_at(&self.data, self.types[id] + 8).ok()
    }

    /// The signature of a function; `None`: there is no such function to attach to (absent,
    /// renamed or inlined).
    pub fn function(&self, name: &str) -> Option<Prototype> {
        let id = *self.functions.get(name.as_bytes())?;
        let prototype = u32_at(&self.data, self.types[id] + 8).ok()? as usize;
        let at = *self.types.get(prototype)?;
        let (kind, vlen) = self.kind_at(at).ok()?;
        if kind != FUNC_PROTO {
            return None;
        }
        let params = (0..vlen)
            .map(|index| {
                let name = self.name_at(at + 12 + index * 8).ok()?;
                Some(String::from_utf8_lossy(name).into_owned())
            })
            .collect::<Option<_>>()?;
        let returned = self.plain(u32_at(&self.data, at + 8).ok()? as usize)?;
        let returns_pointer = returned != 0 && self.kind_at(self.types[returned]).ok()?.0 == PTR;
        Some(Prototype { params, returns_pointer })
    }
}

fn u32_at(data: &[u8], at: usize) -> Result<u32, BtfError> {
    let bytes = data.get(at..at + 4).ok_or(BtfError::Truncated(at))?;
    Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn u16_at(data: &[u8], at: usize) -> Result<u16, BtfError> {
    let bytes = data.get(at..at + 2).ok_or(BtfError::Truncated(at))?;
    Ok(u16::from_ne_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_btf() {
        assert_eq!(Btf::parse(vec![0; 24]).unwrap_err(), BtfError::Magic(0));
        assert!(matches!(Btf::parse(vec![0x9f, 0xeb]).unwrap_err(), BtfError::Truncated(_)));
    }

    #[test]
    fn a_struct_in_itself_ends() {
        const MEMBERS: u32 = 100;
        let mut types = vec![1, STRUCT << 24 | MEMBERS, 8];
        (0..MEMBERS).for_each(|_| types.extend([0, 1, 0]));
        let len = types.len() as u32 * 4;
        let mut data = 0xeb9f_u16.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        let words = [24, 0, len, len, 3].into_iter().chain(types);
        data.extend(words.flat_map(u32::to_ne_bytes));
        data.extend(b"\0a\0");
        assert_eq!(Btf::parse(data).unwrap().offset("a", "b"), None);
    }

    #[test]
    fn running_kernel() {
        let Ok(data) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            println!("skipped: this kernel has no BTF");
            return;
        };
        let btf = Btf::parse(data).unwrap();
        assert_eq!(btf.offset("inode", "i_mode"), Some(0));
        assert_eq!(
            btf.offset("dentry", "d_name.len"),
            btf.offset("dentry", "d_name").map(|o| o + 4)
        );
        assert_eq!(btf.offset("inode", "no_such_field"), None);
        assert_eq!(btf.offset("no_such_struct", "x"), None);
        assert_eq!(btf.function("security_file_open").unwrap().params, ["file"]);
        assert_eq!(btf.function("no_such_function"), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(mut data: Vec<u8>) {
            if data.len() >= 2 {
                data[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
            }
            if let Ok(btf) = Btf::parse(data) {
                let _ = btf.offset("a", "b.c");
                let _ = btf.function("f");
            }
        }
    }
}
