//! Which module files a guest has to load, and in what order.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::kernels::Installed;

/// A kernel's modules.dep and modules.builtin.
pub(crate) struct Modules {
    dir: PathBuf,
    /// Module name to its file and the files it depends on.
    files: HashMap<String, (String, Vec<String>)>,
    builtin: Vec<String>,
}

impl Modules {
    /// Reads the indexes that depmod wrote.
    pub(crate) fn read(kernel: &Installed) -> Result<Self> {
        let read = |name: &str| {
            let path = kernel.modules.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        Ok(Self::parse(&kernel.modules, &read("modules.dep")?, &read("modules.builtin")?))
    }

    fn parse(dir: &Path, dep: &str, builtin: &str) -> Self {
        let mut files = HashMap::new();
        for line in dep.lines() {
            if let Some((file, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(str::to_string).collect();
                files.insert(module_name(file), (file.to_string(), needs));
            }
        }
        Self { dir: dir.to_path_buf(), files, builtin: builtin.lines().map(module_name).collect() }
    }

    /// The files of the named modules and of all that these need, in loading order. What is built
    /// into the kernel needs no file.
    pub(crate) fn resolve(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        let mut order: Vec<&String> = Vec::new();
        for name in names {
            let name = module_name(name);
            let Some((file, needs)) = self.files.get(&name) else {
                if self.builtin.contains(&name) {
                    continue;
                }
                bail!("the kernel in {} has no module {name}", self.dir.display());
            };
            // modules.dep lists the dependencies of dependencies too, the deepest last.
            for file in needs.iter().rev().chain([file]) {
                if !order.contains(&file) {
                    order.push(file);
                }
            }
        }
        Ok(order.into_iter().map(|file| self.dir.join(file)).collect())
    }
}

/// A module's contents. Busybox cannot load compressed modules.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    let tool = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file).with_context(|| format!("reading {}", file.display())),
    };
    let out = Command::new(tool)
        .arg("-dc")
        .arg(file)
        .output()
        .with_context(|| format!("cannot start {tool} (package {tool} or {tool}-utils)"))?;
    if !out.status.success() {
        bail!("{tool} cannot decompress {}", file.display());
    }
    Ok(out.stdout)
}

/// `kernel/fs/ext4/ext4.ko.xz` is `ext4`; the kernel takes `-` and `_` in names for the same.
pub(crate) fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        Modules::parse(
            Path::new("/m"),
            "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
             kernel/fs/jbd2/jbd2.ko.xz:\nkernel/lib/crc16.ko.xz:\n\
             kernel/drivers/block/virtio_blk.ko.xz:\n",
            "kernel/drivers/virtio/virtio-pci.ko\n",
        )
    }

    fn resolve(names: &[&str]) -> Result<Vec<String>> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let files = modules().resolve(&names)?;
        Ok(files.iter().map(|file| module_name(&file.to_string_lossy())).collect())
    }

    #[test]
    fn dependencies_come_first_and_once() {
        assert_eq!(resolve(&["ext4"]).unwrap(), ["crc16", "jbd2", "ext4"]);
        assert_eq!(resolve(&["jbd2", "ext4"]).unwrap(), ["jbd2", "crc16", "ext4"]);
    }

    #[test]
    fn built_in_modules_need_no_file_and_unknown_ones_are_named() {
        assert_eq!(resolve(&["virtio_pci", "virtio-blk"]).unwrap(), ["virtio_blk"]);
        assert!(resolve(&["nonesuch"]).unwrap_err().to_string().contains("nonesuch"));
    }
}
