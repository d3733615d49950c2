//! Fixtures of kernel type information: what the agent looks up in a kernel's BTF, cut out of a
//! real kernel, so that the agent's tests can resolve it for kernels that are not running.
//!
//! Kept are the structs that layout.rs names, with all their members and what these contain by
//! value, and the functions that programs.rs names, with their parameters. Pointers become
//! pointers to void and enumerations lose their values: neither the place of a field nor a
//! signature depends on them. All else goes, which leaves some 40 of 5,000 kB. The result is valid
//! BTF. Format: Documentation/bpf/btf.rst of the kernel.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    kernels::Kernel,
    vm::{self, VmEnd, VmSpec},
    workspace::{Workspace, say},
};

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const FLOAT: u32 = 16;
const ENUM64: u32 = 19;
/// Kinds that wrap another type and have nothing behind the fixed part: typedef, volatile, const,
/// restrict, type tag. A function, too, has its prototype there.
const WRAPPERS: [u32; 6] = [8, 9, 10, 11, FUNC, 18];

/// The part that every type has: name, info, and size or type.
const FIXED: usize = 12;
const HEADER: usize = 24;

/// Boots the kernel, reads its type information and writes the fixture.
pub(crate) fn write_fixture(ws: &Workspace, kernel: &'static Kernel) -> Result<()> {
    let bpf = ws.root.join("fim-linux-agent/src/bpf");
    let read = |name: &str| {
        let path = bpf.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let wanted = Wanted::from_sources(&read("layout.rs")?, &read("programs.rs")?);

    let (release, vmlinux) = dump(ws, kernel)?;
    let fixture = prune(&vmlinux, &wanted)?;
    let path = bpf.join("fixtures").join(format!("{}.btf", kernel.name));
    fs::write(&path, &fixture).with_context(|| format!("writing {}", path.display()))?;
    say(format!(
        "{release}: {} bytes of BTF, of which {} went to {}",
        vmlinux.len(),
        fixture.len(),
        path.display()
    ));
    Ok(())
}

/// The release and the whole type information of a kernel.
fn dump(ws: &Workspace, kernel: &'static Kernel) -> Result<(String, Vec<u8>)> {
    let out: PathBuf = ws.target.join("btf").join(kernel.name);
    let mut spec = VmSpec::new(kernel);
    spec.timeout = Duration::from_secs(300);
    spec.command = Some("mkdir -p /out && uname -r && cp /sys/kernel/btf/vmlinux /out/".into());
    spec.out_dir = Some(out.clone());
    let outcome = vm::run(ws, &spec)?;
    if outcome.end != VmEnd::Exited(0) {
        bail!("{}: {}\n{}", kernel.name, outcome.end, outcome.output);
    }
    let vmlinux = fs::read(out.join("vmlinux")).context("reading what the guest sent")?;
    Ok((outcome.output.trim().to_string(), vmlinux))
}

/// Names of what is kept.
struct Wanted {
    structs: BTreeSet<String>,
    functions: BTreeSet<String>,
}

impl Wanted {
    /// In layout.rs the struct stands behind the global (`OFF_FILE_INODE file "f_inode"`); in
    /// programs.rs every string may be a function, and the kernel decides which are. Nothing is
    /// listed twice this way. Tests and comments name nothing.
    fn from_sources(layout: &str, programs: &str) -> Self {
        let code = |source: &str| -> String {
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
            lines.collect::<Vec<_>>().join("\n")
        };
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = |text: &str| !text.is_empty() && text.chars().all(word);
        let layout = code(layout);
        let words: Vec<&str> = layout.split_whitespace().collect();
        let structs = words.windows(2).filter(|pair| pair[0].starts_with("OFF_"));
        let programs = code(programs);
        let functions = programs.split('"').filter(|text| names(text));
        Self {
            structs: structs.map(|pair| pair[1].to_string()).collect(),
            functions: functions.map(str::to_string).collect(),
        }
    }
}

/// Type information, as read.
struct Source<'a> {
    data: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; the id is the index, and 0 is void.
    types: Vec<usize>,
}

impl<'a> Source<'a> {
    fn parse(data: &'a [u8]) -> Result<Self> {
        if data.get(..2) != Some(&0xeb9f_u16.to_ne_bytes()) {
            bail!("this is not BTF of this machine's byte order");
        }
        let header = u32_at(data, 4)? as usize;
        let mut at = header + u32_at(data, 8)? as usize;
        let end = at + u32_at(data, 12)? as usize;
        let strings = header + u32_at(data, 16)? as usize;
        let strings = data
            .get(strings..strings + u32_at(data, 20)? as usize)
            .context("the strings are cut short")?;
        let mut source = Self { data, strings, types: vec![0] };
        while at < end {
            source.types.push(at);
            at += source.len(at)?;
        }
        Ok(source)
    }

    fn kind(&self, at: usize) -> Result<u32> {
        Ok(u32_at(self.data, at + 4)? >> 24 & 0x1f)
    }

    /// How many members, values or parameters there are.
    fn count(&self, at: usize) -> Result<usize> {
        Ok((u32_at(self.data, at + 4)? & 0xffff) as usize)
    }

    fn len(&self, at: usize) -> Result<usize> {
        let count = self.count(at)?;
        let tail = match self.kind(at)? {
            PTR | FWD | FLOAT => 0,
            kind if WRAPPERS.contains(&kind) => 0,
            INT | 14 | 17 => 4,
            ARRAY => 12,
            STRUCT | UNION | 15 | ENUM64 => count * 12,
            ENUM | FUNC_PROTO => count * 8,
            kind => bail!("a type is of unknown kind {kind}"),
        };
        Ok(FIXED + tail)
    }

    /// The string that the word at `at` points to.
    fn name(&self, at: usize) -> Result<&'a [u8]> {
        let rest = self.strings.get(u32_at(self.data, at)? as usize..);
        let rest = rest.context("a name is out of bounds")?;
        Ok(rest.split(|&byte| byte == 0).next().unwrap_or_default())
    }
}

/// Type information in the making.
struct Pruned<'a> {
    source: Source<'a>,
    /// New ids of the types that are kept, by their old ones.
    ids: HashMap<usize, u32>,
    /// The old ids, in the order of the new ones; `None` is the pointer to void.
    order: Vec<Option<usize>>,
    pointer: u32,
    types: Vec<u8>,
    strings: Vec<u8>,
    string_at: HashMap<&'a [u8], u32>,
}

/// Reduces type information to what is wanted.
fn prune(data: &[u8], wanted: &Wanted) -> Result<Vec<u8>> {
    let source = Source::parse(data)?;
    let mut pruned = Pruned {
        source,
        ids: HashMap::new(),
        order: Vec::new(),
        pointer: 0,
        types: Vec::new(),
        strings: vec![0],
        string_at: HashMap::from([(&b""[..], 0)]),
    };
    let mut seen = BTreeSet::new();
    for id in 1..pruned.source.types.len() {
        let at = pruned.source.types[id];
        let kind = pruned.source.kind(at)?;
        let names = match kind {
            STRUCT => &wanted.structs,
            FUNC => &wanted.functions,
            _ => continue,
        };
        let name = std::str::from_utf8(pruned.source.name(at)?)?;
        if names.contains(name) {
            // Both are kept: which one a name means is for the agent to decide.
            if !seen.insert((kind, name.to_string())) {
                say(format!("`{name}` is there more than once"));
            }
            pruned.id(id)?;
        }
    }
    pruned.emit()
}

impl<'a> Pruned<'a> {
    /// The new id of a type, which is kept from now on.
    fn id(&mut self, old: usize) -> Result<u32> {
        if old == 0 {
            return Ok(0);
        }
        let at = *self.source.types.get(old).context("a type id is out of bounds")?;
        let is_pointer = self.source.kind(at)? == PTR;
        if is_pointer && self.pointer != 0 {
            return Ok(self.pointer);
        }
        if let Some(&new) = self.ids.get(&old) {
            return Ok(new);
        }
        self.order.push((!is_pointer).then_some(old));
        let new = self.order.len() as u32;
        if is_pointer {
            self.pointer = new;
        } else {
            self.ids.insert(old, new);
        }
        Ok(new)
    }

    fn emit(mut self) -> Result<Vec<u8>> {
        let mut next = 0;
        // Each type may add more to the order.
        while let Some(&old) = self.order.get(next) {
            match old {
                Some(old) => self.copy(self.source.types[old])?,
                None => [0, PTR << 24, 0].into_iter().for_each(|word| self.word(word)),
            }
            next += 1;
        }
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut out = Vec::with_capacity(HEADER + self.types.len() + self.strings.len());
        out.extend(0xeb9f_u16.to_ne_bytes());
        // Version 1, no flags.
        out.extend([1, 0]);
        for word in [HEADER as u32, 0, types, types, strings] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(self.types);
        out.extend(self.strings);
        Ok(out)
    }

    /// Copies the type at `at`, with the ids and names of the new order.
    fn copy(&mut self, at: usize) -> Result<()> {
        let (kind, count) = (self.source.kind(at)?, self.source.count(at)?);
        let info = u32_at(self.source.data, at + 4)?;
        self.name(at)?;
        match kind {
            ENUM | ENUM64 => {
                // Without values it is a plain enumeration of this size.
                self.word(ENUM << 24);
                self.raw(at + 8)?;
            }
            INT => {
                self.word(info);
                self.raw(at + 8)?;
                self.raw(at + FIXED)?;
            }
            FLOAT | FWD => {
                self.word(info);
                self.raw(at + 8)?;
            }
            ARRAY => {
                self.word(info);
                self.raw(at + 8)?;
                self.reference(at + FIXED)?;
                self.reference(at + FIXED + 4)?;
                self.raw(at + FIXED + 8)?;
            }
            STRUCT | UNION => {
                self.word(info);
                self.raw(at + 8)?;
                for member in (0..count).map(|index| at + FIXED + index * 12) {
                    self.name(member)?;
                    self.reference(member + 4)?;
                    self.raw(member + 8)?;
                }
            }
            FUNC_PROTO => {
                self.word(info);
                self.reference(at + 8)?;
                for parameter in (0..count).map(|index| at + FIXED + index * 8) {
                    self.name(parameter)?;
                    self.reference(parameter + 4)?;
                }
            }
            kind if WRAPPERS.contains(&kind) => {
                self.word(info);
                self.reference(at + 8)?;
            }
            kind => bail!("a type of kind {kind} stands where none is expected"),
        }
        Ok(())
    }

    fn word(&mut self, word: u32) {
        self.types.extend(word.to_ne_bytes());
    }

    fn raw(&mut self, at: usize) -> Result<()> {
        let word = u32_at(self.source.data, at)?;
        self.word(word);
        Ok(())
    }

    fn reference(&mut self, at: usize) -> Result<()> {
        let id = self.id(u32_at(self.source.data, at)? as usize)?;
        self.word(id);
        Ok(())
    }

    fn name(&mut self, at: usize) -> Result<()> {
        let name = self.source.name(at)?;
        let end = self.strings.len() as u32;
        let offset = *self.string_at.entry(name).or_insert(end);
        if offset == end {
            self.strings.extend(name);
            self.strings.push(0);
        }
        self.word(offset);
        Ok(())
    }
}

fn u32_at(data: &[u8], at: usize) -> Result<u32> {
    let bytes = data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    Ok(u32::from_ne_bytes(bytes.with_context(|| format!("BTF is cut short at byte {at}"))?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn wanted(structs: &[&str], functions: &[&str]) -> Wanted {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
        Wanted { structs: set(structs), functions: set(functions) }
    }

    #[test]
    fn names_come_from_the_code_alone() {
        let layout = "push((\"OFF_Z\", btf)); needed OFF_A file \"f\"; // OFF_B inode\nextra OFF_C upid \"nr\";\n\
            #[cfg(test)]\nOFF_D pid";
        let programs = "&[\"vfs_unlink\", \"a, b\"] // \"vfs_link\"\n#[cfg(test)] \"vfs_mkdir\"";
        let wanted = Wanted::from_sources(layout, programs);
        assert_eq!(wanted.structs, ["file", "upid"].map(str::to_string).into());
        assert_eq!(wanted.functions, BTreeSet::from(["vfs_unlink".to_string()]));
    }

    /// `struct a { struct b *b; struct c c; }`, `struct b;`, `struct c { int x; }`,
    /// `int f(struct b *b)`.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0a\0b\0c\0x\0f\0";
        let name = |name: &str| {
            let name = format!("\0{name}\0");
            strings.windows(name.len()).position(|part| part == name.as_bytes()).unwrap() as u32 + 1
        };
        let types: &[&[u32]] = &[
            &[name("int"), INT << 24, 4, 32],
            &[name("b"), STRUCT << 24, 8],
            &[0, PTR << 24, 2],
            &[name("c"), STRUCT << 24 | 1, 4, name("x"), 1, 0],
            &[name("a"), STRUCT << 24 | 2, 16, name("b"), 3, 0, name("c"), 4, 64],
            &[0, FUNC_PROTO << 24 | 1, 1, name("b"), 3],
            &[name("f"), FUNC << 24, 6],
        ];
        let types = types.concat();
        let len = types.len() as u32 * 4;
        let mut data = 0xeb9f_u16.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        for word in [24, 0, len, len, strings.len() as u32].into_iter().chain(types) {
            data.extend(word.to_ne_bytes());
        }
        data.extend(strings);
        data
    }

    /// The names and kinds that are left.
    fn left(data: &[u8]) -> Vec<(u32, String)> {
        let source = Source::parse(data).unwrap();
        let name = |at| String::from_utf8(source.name(at).unwrap().to_vec()).unwrap();
        source.types[1..].iter().map(|&at| (source.kind(at).unwrap(), name(at))).collect()
    }

    #[test]
    fn values_stay_and_pointees_go() {
        let data = prune(&sample(), &wanted(&["a"], &[])).unwrap();
        let expected = [(STRUCT, "a"), (PTR, ""), (STRUCT, "c"), (INT, "int")];
        assert_eq!(left(&data), expected.map(|(kind, name)| (kind, name.to_string())));
        assert!(data.ends_with(b"\0a\0b\0c\0x\0int\0"));

        let data = prune(&sample(), &wanted(&[], &["f"])).unwrap();
        let expected = [(FUNC, "f"), (FUNC_PROTO, ""), (INT, "int"), (PTR, "")];
        assert_eq!(left(&data), expected.map(|(kind, name)| (kind, name.to_string())));
    }

    #[test]
    fn damage_is_an_error() {
        let good = sample();
        for len in 0..good.len() {
            let all = wanted(&["a", "b", "c"], &["f"]);
            assert!(prune(&good[..len], &all).is_err(), "{len} bytes");
        }
    }

    /// A fixture that holds more than the sources ask for is one from before they changed. (What
    /// it holds too little of, the agent's tests find.)
    #[test]
    fn fixtures_hold_what_the_sources_name() {
        let wanted = Wanted::from_sources(
            include_str!("../../fim-linux-agent/src/bpf/layout.rs"),
            include_str!("../../fim-linux-agent/src/bpf/programs.rs"),
        );
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fim-linux-agent/src/bpf/fixtures");
        for kernel in crate::kernels::KERNELS {
            let fixture = fs::read(dir.join(format!("{}.btf", kernel.name))).unwrap();
            let again = prune(&fixture, &wanted).unwrap();
            assert!(again == fixture, "run `cargo xtask btf-fixture --kernel {}`", kernel.name);
        }
    }
}
