//! Which module files a guest has to load, and in what order.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::kernels::Installed;

/// What depmod knows of a kernel's modules.
pub(crate) struct Modules {
    dir: PathBuf,
    /// Module name to its file and the files it depends on.
    files: HashMap<String, (String, Vec<String>)>,
    builtin: Vec<String>,
    /// Module name to what it asks the kernel for by a name: ext4 and its like do not mount without
    /// their checksum, and the guest has no modprobe that the kernel could call.
    soft: HashMap<String, Vec<String>>,
    /// Such names, and the modules that answer to them.
    aliases: HashMap<String, Vec<String>>,
}

impl Modules {
    /// Reads the indexes that depmod wrote.
    pub(crate) fn read(kernel: &Installed) -> Result<Self> {
        let read = |name: &str| {
            let path = kernel.modules.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let mut modules =
            Self::parse(&kernel.modules, &read("modules.dep")?, &read("modules.builtin")?);
        modules.parse_soft(&read("modules.softdep")?, &read("modules.alias")?);
        Ok(modules)
    }

    fn parse(dir: &Path, dep: &str, builtin: &str) -> Self {
        let mut files = HashMap::new();
        for line in dep.lines() {
            if let Some((file, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(str::to_string).collect();
                files.insert(module_name(file), (file.to_string(), needs));
            }
        }
        Self {
            dir: dir.to_path_buf(),
            files,
            builtin: builtin.lines().map(module_name).collect(),
            soft: HashMap::new(),
            aliases: HashMap::new(),
        }
    }

    fn parse_soft(&mut self, softdep: &str, alias: &str) {
        for line in softdep.lines() {
            // `softdep ext4 pre: crypto-crc32c`; what comes after is not needed to begin with.
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(module), Some("pre:")) =
                (words.next(), words.next(), words.next())
            {
                let names = words.take_while(|word| *word != "post:").map(str::to_string);
                self.soft.entry(module_name(module)).or_default().extend(names);
            }
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(alias), Some(module)) =
                (words.next(), words.next(), words.next())
            {
                let modules = self.aliases.entry(alias.to_string()).or_default();
                modules.push(module_name(module));
            }
        }
    }

    /// The module that answers to a name on every processor; none where that is built in.
    fn portable(&self, name: &str) -> Option<String> {
        let own = module_name(name);
        if self.files.contains_key(&own) {
            return Some(own);
        }
        let is_portable =
            |name: &&String| name.ends_with("_generic") || name.ends_with("_cryptoapi");
        self.aliases.get(name)?.iter().find(is_portable).cloned()
    }

    /// The files of the named modules and of all that these need, in loading order. What is built
    /// into the kernel needs no file.
    pub(crate) fn resolve(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        let mut order: Vec<&String> = Vec::new();
        for name in names {
            self.add(&module_name(name), &mut order)?;
        }
        Ok(order.into_iter().map(|file| self.dir.join(file)).collect())
    }

    fn add<'a>(&'a self, name: &str, order: &mut Vec<&'a String>) -> Result<()> {
        let Some((file, needs)) = self.files.get(name) else {
            if self.builtin.iter().any(|builtin| builtin == name) {
                return Ok(());
            }
            bail!("the kernel in {} has no module {name}", self.dir.display());
        };
        // modules.dep lists the dependencies of dependencies too, the deepest last.
        for file in needs.iter().rev().chain([file]) {
            if order.contains(&file) {
                continue;
            }
            for soft in self.soft.get(&module_name(file)).into_iter().flatten() {
                if let Some(module) = self.portable(soft) {
                    self.add(&module, order)?;
                }
            }
            order.push(file);
        }
        Ok(())
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
    fn what_a_module_asks_for_by_name_comes_before_it() {
        let mut modules = Modules::parse(
            Path::new("/m"),
            "kernel/ext4.ko: kernel/crc16.ko\nkernel/crc16.ko:\nkernel/crc32c-intel.ko:\n\
             kernel/crc32c_generic.ko:\n",
            "",
        );
        modules.parse_soft(
            "softdep ext4 pre: crypto-crc32c sha256\n",
            "alias crypto-crc32c crc32c_intel\nalias crypto-crc32c crc32c_generic\n",
        );
        let files = modules.resolve(&["ext4".to_string()]).unwrap();
        let names: Vec<_> = files.iter().map(|file| module_name(&file.to_string_lossy())).collect();
        assert_eq!(names, ["crc16", "crc32c_generic", "ext4"]);
    }

    #[test]
    fn built_in_modules_need_no_file_and_unknown_ones_are_named() {
        assert_eq!(resolve(&["virtio_pci", "virtio-blk"]).unwrap(), ["virtio_blk"]);
        assert!(resolve(&["nonesuch"]).unwrap_err().to_string().contains("nonesuch"));
    }
}
