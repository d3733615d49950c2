//! The workloads: exact numbers of operations, and the time they took, as their own process.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::UsageWho;
use serde::{Deserialize, Serialize};

use crate::workspace::processor_time;

/// What a workload did, as it says itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Done {
    /// How often it did what it is named after.
    pub(crate) operations: u64,
    /// How many objects an event of each action must name if they are watched.
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) deleted: u64,
    /// Processor time of the process and of those that it waited for.
    pub(crate) cpu_us: u64,
    pub(crate) wall_us: u64,
}

/// Numbers of objects that it is to be done to, and of times.
struct Counts {
    operations: u64,
    created: u64,
    updated: u64,
    deleted: u64,
}

/// A workload.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// For the page.
    pub(crate) about: &'static str,
    /// Operations at full scale, and at least.
    size: (u64, u64),
    run: fn(&Path, u64) -> Result<Counts>,
}

/// What `prepare` leaves for the workloads to work on.
const FILES: u64 = 100;
const TREE_DIRECTORIES: u64 = 20;
const PER_DIRECTORY: u64 = 100;

/// All workloads, in the order of the page.
pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "create_delete",
        about: "create, write 64 bytes, close; when 100 are in a directory, delete them and it",
        size: (20_000, 1_000),
        run: create_delete,
    },
    Load {
        name: "write_storm",
        about: "pwrite of 4 bytes to one file that stays open",
        size: (2_000_000, 100_000),
        run: write_storm,
    },
    Load {
        name: "open_write_close",
        about: "open for writing, write 1 byte, close; 100 files in turn",
        size: (100_000, 5_000),
        run: |dir, count| {
            each_file(dir, count, |path| File::options().write(true).open(path)?.write_all(b"w"))?;
            Ok(Counts { updated: FILES.min(count), ..Counts::of(count) })
        },
    },
    Load {
        name: "open_for_writing",
        about: "open for writing, close; nothing is written",
        size: (100_000, 5_000),
        run: |dir, count| {
            each_file(dir, count, |path| File::options().write(true).open(path).map(drop))
        },
    },
    Load {
        name: "open_for_reading",
        about: "open for reading, close",
        size: (200_000, 10_000),
        run: |dir, count| each_file(dir, count, |path| File::open(path).map(drop)),
    },
    Load {
        name: "stat",
        about: "stat by path",
        size: (500_000, 50_000),
        run: |dir, count| each_file(dir, count, |path| fs::metadata(path).map(drop)),
    },
    Load {
        name: "walk",
        about: "walk over 20 directories of 100 files: list, open, fstat, close",
        size: (100_000, 4_000),
        run: walk,
    },
    Load {
        name: "exec",
        about: "start a static program of 132 bytes that ends at once, and wait for it",
        size: (2_000, 200),
        run: exec,
    },
];

impl Counts {
    /// Operations that no event is due for.
    fn of(operations: u64) -> Self {
        Self { operations, created: 0, updated: 0, deleted: 0 }
    }
}

/// Makes what the workloads work on.
pub(crate) fn prepare(dir: &Path) -> Result<()> {
    let make = |place: &Path, files: u64| -> Result<()> {
        fs::create_dir_all(place).with_context(|| format!("creating {}", place.display()))?;
        for number in 0..files {
            fs::write(place.join(number.to_string()), [b'x'; 64]).context("creating files")?;
        }
        Ok(())
    };
    make(&dir.join("files"), FILES)?;
    for number in 0..TREE_DIRECTORIES {
        make(&dir.join(format!("tree/{number}")), PER_DIRECTORY)?;
    }
    fs::write(dir.join("storm"), [0; 4]).context("creating a file")?;
    let program = dir.join("exit");
    fs::write(&program, tiny_program()).context("writing a program")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("its permissions")
}

/// Runs one workload in a prepared directory and prints what it did.
pub(crate) fn main(name: &str, dir: &Path, scale: f64) -> Result<()> {
    let load = LOADS.iter().find(|load| load.name == name).context("no such workload")?;
    let (full, least) = load.size;
    let count = ((full as f64 * scale) as u64).max(least);
    let (cpu, started) = (cpu_us()?, Instant::now());
    let counts = (load.run)(dir, count).with_context(|| format!("workload {name}"))?;
    let wall_us = started.elapsed().as_micros() as u64;
    let Counts { operations, created, updated, deleted } = counts;
    let cpu_us = cpu_us()? - cpu;
    let done = Done { operations, created, updated, deleted, cpu_us, wall_us };
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

fn cpu_us() -> Result<u64> {
    let (own, others) = (UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN);
    Ok((processor_time(own)? + processor_time(others)?).as_micros() as u64)
}

fn create_delete(dir: &Path, count: u64) -> Result<Counts> {
    let directories = count / PER_DIRECTORY;
    for directory in 0..directories {
        let place = dir.join(format!("new-{directory}"));
        fs::create_dir(&place)?;
        // The paths are made once, so that mostly the kernel is measured.
        let names: Vec<_> = (0..PER_DIRECTORY).map(|n| place.join(format!("f{n}"))).collect();
        for name in &names {
            File::options().write(true).create_new(true).open(name)?.write_all(&[b'x'; 64])?;
        }
        for name in &names {
            fs::remove_file(name)?;
        }
        fs::remove_dir(&place)?;
    }
    let files = directories * PER_DIRECTORY;
    let objects = files + directories;
    Ok(Counts { operations: files, created: objects, updated: 0, deleted: objects })
}

fn write_storm(dir: &Path, count: u64) -> Result<Counts> {
    let file = File::options().write(true).open(dir.join("storm"))?;
    for number in 0..count {
        file.write_all_at(&(number as u32).to_le_bytes(), 0)?;
    }
    Ok(Counts { updated: 1, ..Counts::of(count) })
}

fn each_file(
    dir: &Path,
    count: u64,
    operation: impl Fn(&Path) -> std::io::Result<()>,
) -> Result<Counts> {
    let paths: Vec<_> = (0..FILES).map(|n| dir.join(format!("files/{n}"))).collect();
    for path in paths.iter().cycle().take(count as usize) {
        operation(path)?;
    }
    Ok(Counts::of(count))
}

fn walk(dir: &Path, count: u64) -> Result<Counts> {
    let mut seen = 0;
    while seen < count {
        for directory in 0..TREE_DIRECTORIES {
            for entry in fs::read_dir(dir.join(format!("tree/{directory}")))? {
                let meta = File::open(entry?.path())?.metadata()?;
                seen += u64::from(meta.is_file());
            }
        }
    }
    Ok(Counts::of(seen))
}

fn exec(dir: &Path, count: u64) -> Result<Counts> {
    let program = dir.join("exit");
    for _ in 0..count {
        let status = Command::new(&program).status()?;
        if !status.success() {
            bail!("{} ended with {status}", program.display());
        }
    }
    Ok(Counts::of(count))
}

/// An x86-64 ELF file of one segment, which calls exit(0).
fn tiny_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // xor edi, edi; mov eax, 60; syscall
    let code = [0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05, 0, 0, 0];
    let size = HEADERS + code.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |bytes: &[u8]| elf.extend_from_slice(bytes);
    put(&2_u16.to_le_bytes()); // an executable
    put(&62_u16.to_le_bytes()); // x86-64
    put(&1_u32.to_le_bytes());
    put(&(BASE + HEADERS).to_le_bytes()); // entry
    put(&64_u64.to_le_bytes()); // program headers
    put(&0_u64.to_le_bytes()); // no section headers
    put(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    put(&1_u32.to_le_bytes()); // load
    put(&5_u32.to_le_bytes()); // read, execute
    for word in [0, BASE, BASE, size, size, 0x1000] {
        put(&word.to_le_bytes());
    }
    put(&code);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_does_what_it_counts() {
        let dir = std::env::temp_dir().join(format!("fim-bench-load-{}", std::process::id()));
        prepare(&dir).unwrap();
        for load in LOADS {
            let counts = (load.run)(&dir, 200).unwrap();
            assert!(counts.operations >= 200, "{}", load.name);
        }
        assert!(!dir.join("new-0").exists());
        assert_eq!(fs::read(dir.join("storm")).unwrap(), 199_u32.to_le_bytes());
        fs::remove_dir_all(&dir).unwrap();
    }
}
