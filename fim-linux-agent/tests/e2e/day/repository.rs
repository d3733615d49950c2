//! A repository of packages, and the machine's own apt with no other one.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::event::sha256;

/// One package, in its versions.
pub(super) struct Repository {
    /// Of the package: nobody else's.
    pub(super) name: String,
    base: PathBuf,
    /// The index so far.
    index: String,
}

/// Files of the package's `lib`.
pub(super) const FILES: u32 = 40;

impl Repository {
    pub(super) fn new(base: &Path) -> Self {
        let name = format!("fim-e2e-day-{}", std::process::id());
        let repository = Self { name, base: base.to_owned(), index: String::new() };
        for directory in ["repository", "lists/partial", "archives/partial", "parts"] {
            fs::create_dir_all(base.join(directory)).unwrap();
        }
        let at = base.display();
        let settings = format!(
            "Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"{at}/parts\";\n\
             Dir::State::lists \"{at}/lists\";\nDir::Cache::archives \"{at}/archives\";\n\
             APT::Sandbox::User \"root\";\nAPT::Get::Assume-Yes \"true\";\n\
             DPkg::Lock::Timeout \"300\";\nDPkg::Options:: \"--force-unsafe-io\";\n"
        );
        fs::write(base.join("apt.conf"), settings).unwrap();
        let source = format!("deb [trusted=yes] file:{at}/repository ./\n");
        fs::write(base.join("sources.list"), source).unwrap();
        repository
    }

    /// Where its programs and data are.
    pub(super) fn tree(&self) -> PathBuf {
        Path::new("/opt").join(&self.name)
    }

    /// Where its configuration is.
    pub(super) fn configuration(&self) -> PathBuf {
        Path::new("/etc").join(&self.name)
    }

    /// Adds a version, and has apt know of it.
    pub(super) fn publish(&mut self, version: &str) {
        let root = self.base.join("root");
        let at = |path: PathBuf| root.join(path.strip_prefix("/").unwrap());
        let (tree, configuration) = (at(self.tree()), at(self.configuration()));
        let control = root.join("DEBIAN");
        for directory in [&tree.join("bin"), &tree.join("lib"), &configuration, &control] {
            fs::create_dir_all(directory).unwrap();
        }
        let tool = tree.join("bin/tool");
        fs::write(&tool, format!("#!/bin/sh\necho {version}\n")).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        for number in 0..FILES {
            let content = format!("{version} {number}\n");
            fs::write(tree.join(format!("lib/data-{number:02}")), content).unwrap();
        }
        // The same in each version, so that nobody is asked what to do with it.
        fs::write(configuration.join("service.conf"), "Port 22\nPermitRootLogin no\n").unwrap();
        let conffile = self.configuration().join("service.conf");
        fs::write(control.join("conffiles"), format!("{}\n", conffile.display())).unwrap();
        // As openssh-client does with its agent.
        let tool = self.tree().join("bin/tool");
        let script = format!("#!/bin/sh\nset -e\nchmod 2755 {}\n", tool.display());
        fs::write(control.join("postinst"), script).unwrap();
        fs::set_permissions(control.join("postinst"), fs::Permissions::from_mode(0o755)).unwrap();
        let fields = format!(
            "Package: {}\nVersion: {version}\nArchitecture: all\n\
             Maintainer: Nobody <nobody@example.org>\nDescription: for a test\n",
            self.name
        );
        fs::write(control.join("control"), &fields).unwrap();
        let sums = "find opt -type f -exec md5sum {} + > DEBIAN/md5sums";
        run(Command::new("sh").args(["-c", sums]).current_dir(&root));
        let file = format!("{}_{version}.deb", self.name);
        let package = self.base.join("repository").join(&file);
        let mut build = Command::new("dpkg-deb");
        build.args(["--root-owner-group", "-Znone", "--build"]).arg(&root).arg(&package);
        run(&mut build);
        fs::remove_dir_all(&root).unwrap();

        let bytes = fs::read(&package).unwrap();
        write!(
            self.index,
            "{fields}Filename: ./{file}\nSize: {}\nSHA256: {}\n\n",
            bytes.len(),
            sha256(&bytes)
        )
        .unwrap();
        fs::write(self.base.join("repository/Packages"), &self.index).unwrap();
        self.apt(&["update"]);
    }

    /// The machine's own apt-get, which knows this repository only.
    pub(super) fn apt(&self, arguments: &[&str]) {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("APT_CONFIG", self.base.join("apt.conf"));
        run(apt.env("DEBIAN_FRONTEND", "noninteractive"));
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // Of a test that failed; what is not there is no error.
        let _ = Command::new("dpkg").args(["--purge", &self.name]).output();
        for tree in [self.tree(), self.configuration()] {
            let _ = fs::remove_dir_all(tree);
        }
    }
}

pub(super) fn run(command: &mut Command) {
    let output = command.env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
}
