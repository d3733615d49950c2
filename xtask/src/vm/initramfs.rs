//! The guest's userland: busybox, the files to test with their libraries, modules, and an init.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufWriter, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    kernels::Installed,
    vm::{
        GuestFile, VmSpec,
        cpio::{Archive, Owner, ROOT},
        modules::{self, Modules},
    },
    workspace::output,
};

/// The first program: leaves the root filesystem that the kernel unpacked the archive into.
const INIT: &str = include_str!("guest/init.sh");
/// The second: sets the machine up, runs the command, sends the results, switches off.
const START: &str = include_str!("guest/start.sh");

/// The ordinary user of the guest.
const ALICE: Owner = (1000, 1000);

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
                      alice:x:1000:1000:Alice:/home/alice:/bin/sh\n";
const SHADOW: &str = "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n\
                      alice:*:19000:0:99999:7:::\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\nalice:x:1000:\n";

/// A guest directory's permissions and owner where they are not the usual ones.
const DIRECTORIES: &[(&str, u32, Owner)] = &[
    ("dev", 0o755, ROOT),
    ("etc", 0o755, ROOT),
    ("home/alice", 0o755, ALICE),
    ("mnt", 0o755, ROOT),
    ("newroot", 0o755, ROOT),
    ("opt", 0o755, ROOT),
    ("out", 0o1777, ROOT),
    ("proc", 0o555, ROOT),
    ("root", 0o700, ROOT),
    ("run", 0o755, ROOT),
    ("srv", 0o755, ROOT),
    ("sys", 0o555, ROOT),
    ("tmp", 0o1777, ROOT),
    ("usr/bin", 0o755, ROOT),
    ("usr/lib", 0o755, ROOT),
    ("usr/lib64", 0o755, ROOT),
    ("usr/local/bin", 0o755, ROOT),
    ("usr/sbin", 0o755, ROOT),
    ("var/lib", 0o755, ROOT),
    ("var/log", 0o755, ROOT),
    ("var/tmp", 0o1777, ROOT),
];

/// Everything that is to be in the archive, by its path in the guest.
#[derive(Default)]
struct Tree {
    directories: BTreeMap<String, (u32, Owner)>,
    links: BTreeMap<String, String>,
    files: BTreeMap<String, (u32, Contents)>,
}

enum Contents {
    Bytes(Vec<u8>),
    Host(PathBuf),
}

/// Writes the initramfs for a machine to `to`.
pub(crate) fn write(spec: &VmSpec, kernel: &Installed, busybox: &Path, to: &Path) -> Result<()> {
    let mut tree = Tree::default();
    for &(path, mode, owner) in DIRECTORIES {
        tree.directory(path, mode, owner);
    }
    // Debian's merged layout, so that paths in the guest are as on a real machine.
    for dir in ["bin", "lib", "lib64", "sbin"] {
        tree.links.insert(dir.into(), format!("usr/{dir}"));
    }
    for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/hostname", "fim-vm\n")]
    {
        tree.file(path, 0o644, Contents::Bytes(text.into()));
    }
    tree.file("etc/shadow", 0o640, Contents::Bytes(SHADOW.into()));
    add_busybox(&mut tree, busybox)?;
    add_modules(&mut tree, kernel, spec)?;
    for file in &spec.files {
        add_file(&mut tree, file)?;
    }
    tree.file("init", 0o755, Contents::Bytes(INIT.into()));
    tree.file("etc/fim-vm/start", 0o755, Contents::Bytes(START.into()));
    if let Some(command) = &spec.command {
        let script = format!("#!/bin/sh\n{command}\n");
        tree.file("etc/fim-vm/command", 0o755, Contents::Bytes(script.into()));
    }
    if spec.out_dir.is_some() {
        tree.file("etc/fim-vm/send-out", 0o644, Contents::Bytes(Vec::new()));
    }
    tree.write(to).with_context(|| format!("writing {}", to.display()))
}

fn add_busybox(tree: &mut Tree, busybox: &Path) -> Result<()> {
    tree.file("usr/bin/busybox", 0o755, Contents::Host(busybox.to_path_buf()));
    for applet in output(Command::new(busybox).arg("--list-full"))?.lines() {
        let path = guest_path(applet)?;
        if path != "usr/bin/busybox" && path.contains('/') {
            tree.links.insert(path, "/usr/bin/busybox".into());
        }
    }
    Ok(())
}

fn add_modules(tree: &mut Tree, kernel: &Installed, spec: &VmSpec) -> Result<()> {
    let mut names = spec.modules.clone();
    if spec.out_dir.is_some() {
        // The way back for files. Every Debian kernel has it, built in or as a module.
        names.extend(["virtio_pci", "virtio_blk"].map(str::to_string));
    }
    let mut order = String::new();
    for file in Modules::read(kernel)?.resolve(&names)? {
        let name = modules::module_name(&file.to_string_lossy());
        let path = format!("/usr/lib/modules/{}/{name}.ko", kernel.release);
        order.push_str(&format!("{path}\n"));
        tree.file(&path, 0o644, Contents::Bytes(modules::read(&file)?));
    }
    tree.file("etc/fim-vm/modules", 0o644, Contents::Bytes(order.into()));
    Ok(())
}

fn add_file(tree: &mut Tree, file: &GuestFile) -> Result<()> {
    let host = &file.host;
    let meta = fs::metadata(host).with_context(|| format!("cannot ship {}", host.display()))?;
    let guest = guest_path(&file.guest)?;
    if meta.is_dir() {
        tree.directory(&guest, file.mode.unwrap_or(meta.permissions().mode() & 0o7777), ROOT);
        let entries = fs::read_dir(host).with_context(|| format!("listing {}", host.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().with_context(|| format!("{name:?} is not UTF-8"))?;
            // A mode given for the directory is not one for what is in it.
            add_file(tree, &GuestFile::new(entry.path(), format!("{guest}/{name}")))?;
        }
        return Ok(());
    }
    let mode = file.mode.unwrap_or(meta.permissions().mode() & 0o7777);
    tree.file(&guest, mode, Contents::Host(host.clone()));
    for library in libraries(host)? {
        let path = guest_path(&library.to_string_lossy())?;
        tree.file(&path, 0o755, Contents::Host(library));
    }
    Ok(())
}

/// The shared libraries and the loader that a program needs, as this machine resolves them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut magic = [0; 4];
    let mut file = File::open(program).with_context(|| format!("opening {}", program.display()))?;
    if file.read_exact(&mut magic).is_err() || &magic != b"\x7fELF" {
        return Ok(Vec::new());
    }
    let out = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&out.stdout);
    // ldd fails for static programs, which need nothing.
    if !out.status.success() {
        return Ok(Vec::new());
    }
    parse_ldd(&text).with_context(|| format!("libraries of {}", program.display()))
}

fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in text.lines() {
        let (name, path) = line.split_once("=>").unwrap_or(("", line));
        let path = path.trim();
        if path.starts_with("not found") {
            bail!("{} is not installed", name.trim());
        }
        // The rest is the vDSO, which the kernel provides.
        if path.starts_with('/') {
            libraries.push(PathBuf::from(path.split(" (").next().unwrap_or(path)));
        }
    }
    Ok(libraries)
}

/// A path in the guest without its leading slash, in the merged layout.
fn guest_path(path: &str) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => bail!("{path} must not contain `..`"),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        bail!("`{path}` names no file in the guest");
    }
    if parts.len() > 1 && ["bin", "lib", "lib64", "sbin"].contains(&parts[0]) {
        parts.insert(0, "usr");
    }
    Ok(parts.join("/"))
}

impl Tree {
    fn directory(&mut self, path: &str, mode: u32, owner: Owner) {
        self.parents(path);
        self.directories.insert(path.to_string(), (mode, owner));
    }

    fn file(&mut self, path: &str, mode: u32, contents: Contents) {
        let path = path.trim_start_matches('/');
        self.parents(path);
        // A shipped program takes the place of busybox's applet.
        self.links.remove(path);
        self.files.insert(path.to_string(), (mode, contents));
    }

    fn parents(&mut self, path: &str) {
        let parents: BTreeSet<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        for parent in parents {
            self.directories.entry(parent.to_string()).or_insert((0o755, ROOT));
        }
    }

    fn write(&self, to: &Path) -> Result<()> {
        let mut archive = Archive::new(BufWriter::with_capacity(1 << 20, File::create(to)?));
        for (path, (mode, owner)) in &self.directories {
            archive.directory(path, *mode, *owner)?;
        }
        // The kernel opens it as init's standard output before anything is mounted.
        archive.device("dev/console", 0o600, (5, 1))?;
        archive.device("dev/null", 0o666, (1, 3))?;
        for (path, target) in &self.links {
            archive.symlink(path, target)?;
        }
        for (path, (mode, contents)) in &self.files {
            match contents {
                Contents::Bytes(bytes) => archive.file(path, *mode, bytes)?,
                Contents::Host(host) => {
                    let bytes =
                        fs::read(host).with_context(|| format!("reading {}", host.display()))?;
                    archive.file(path, *mode, &bytes)?;
                }
            }
        }
        archive.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_paths_follow_the_merged_layout() {
        assert_eq!(guest_path("/bin/fim").unwrap(), "usr/bin/fim");
        assert_eq!(
            guest_path("/lib64/ld-linux-x86-64.so.2").unwrap(),
            "usr/lib64/ld-linux-x86-64.so.2"
        );
        assert_eq!(guest_path("//opt/./x").unwrap(), "opt/x");
        assert!(guest_path("/a/../b").is_err());
        assert!(guest_path("/").is_err());
    }

    #[test]
    fn ldd_output_gives_libraries_and_loader() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let libraries = parse_ldd(text).unwrap();
        assert_eq!(
            libraries,
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        assert!(parse_ldd("\tlibx.so => not found\n").is_err());
    }

    #[test]
    fn a_shipped_file_replaces_an_applet_and_has_its_parents() {
        let mut tree = Tree::default();
        tree.links.insert("usr/bin/tar".into(), "busybox".into());
        tree.file("usr/bin/tar", 0o755, Contents::Bytes(Vec::new()));
        assert!(tree.links.is_empty());
        assert_eq!(tree.directories.keys().collect::<Vec<_>>(), ["usr", "usr/bin"]);
    }
}
