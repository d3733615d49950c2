//! A file system of each kind, freshly made, with the directories of all cases.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::trial::{Case, Trial};
use crate::cases::Place;
use crate::environment::say;
use crate::scratch::{Scratch, directory};

/// As docs/conformance.md calls them.
pub(super) const NAMES: &[&str] = &["tmpfs", "ext4", "xfs", "btrfs", "overlayfs"];

/// A file system.
pub(super) struct Volume {
    name: &'static str,
    /// Or why there is none here.
    root: Result<PathBuf, String>,
}

impl Volume {
    /// Makes it, with everything that is there when the agent starts.
    pub(super) fn make(name: &'static str, scratch: &mut Scratch, cases: &[&Case]) -> Self {
        let root = make(name, scratch, cases);
        if let Err(error) = &root {
            say(&format!("no {name} here: {error}"));
        }
        Self { name, root }
    }

    /// The directory for the agent.
    pub(super) fn watched(&self) -> Option<PathBuf> {
        Some(self.root.as_ref().ok()?.join("in"))
    }

    /// All cases, here.
    pub(super) fn trials(&self, cases: &[&'static Case]) -> Vec<Trial> {
        let trial = |&case: &&'static Case| {
            let place = self.root.as_ref().map(|root| place(root, case));
            Trial::new(self.name, case, place.map_err(Clone::clone))
        };
        cases.iter().map(trial).collect()
    }
}

fn place(root: &Path, case: &Case) -> Place {
    Place { inside: root.join("in").join(case.name), outside: root.join("out").join(case.name) }
}

fn make(name: &str, scratch: &mut Scratch, cases: &[&Case]) -> Result<PathBuf, String> {
    let base = match name {
        "tmpfs" => scratch.mount("tmpfs", &["-t", "tmpfs", "tmpfs"])?,
        "ext4" => scratch.ext4("ext4")?,
        // Without what has come after the oldest kernel that has to mount it.
        "xfs" => {
            let features = ["-m", "crc=1,reflink=1,bigtime=0,inobtcount=0", "-i", "nrext64=0"];
            let image = image(scratch, name, 512, "mkfs.xfs", &[&["-q"], &features[..]].concat())?;
            scratch.mount(name, &["-t", "xfs", "-o", "loop", &image])?
        }
        // In a subvolume: what stat(2) says of it is not what the kernel uses.
        "btrfs" => {
            let image = image(scratch, name, 256, "mkfs.btrfs", &["-q"])?;
            let root = scratch.mount(name, &["-t", "btrfs", "-o", "loop", &image])?;
            let subvolume = root.join("subvolume");
            run(Command::new("btrfs").args(["subvolume", "create"]).arg(&subvolume))?;
            subvolume
        }
        _ => scratch.ext4("overlayfs-layers")?,
    };
    let layered = name == "overlayfs";
    let lower = if layered { base.join("lower") } else { base.clone() };
    if layered {
        ["lower", "upper", "work"].iter().for_each(|name| directory(&base.join(name)));
    }
    directory(&lower.join("in"));
    directory(&lower.join("out"));
    for case in cases {
        let place = place(&lower, case);
        directory(&place.inside);
        directory(&place.outside);
        (case.prepare)(&place);
    }
    // What is there is in the lower layer: it is copied up when it is changed.
    let root = match layered {
        true => scratch.mount(name, &["-t", "overlay", "-o", &layers(&base), "overlay"])?,
        false => base,
    };
    for case in cases {
        (case.arrange)(&place(&root, case));
    }
    Ok(root)
}

/// Directories of the lower layer can be renamed, as they can everywhere else.
fn layers(base: &Path) -> String {
    let base = base.display();
    format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work,redirect_dir=on")
}

/// A sparse file with a file system.
fn image(
    scratch: &Scratch,
    name: &str,
    mebibytes: u64,
    program: &str,
    args: &[&str],
) -> Result<String, String> {
    let image = scratch.path().join(format!("{name}.img"));
    File::create(&image).and_then(|file| file.set_len(mebibytes << 20)).unwrap();
    run(Command::new(program).args(args).arg(&image))?;
    Ok(image.to_str().unwrap().to_owned())
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {error}")) }
}
