//! Databases made by the real dpkg and rpm, below a directory of their own. apk is in no archive
//! that tests use: its database is written here as apk-v2(5) has it, or as a real apk 3.0.8 wrote it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::{self, final_path};
use super::*;

fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

/// Whether a program is there and this is root, which package managers want.
fn is_ready(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    let root = rustix::process::geteuid().is_root();
    if !there || !root {
        eprintln!(
            "skipped: {program} is {}, root: {root}",
            if there { "there" } else { "missing" }
        );
    }
    there && root
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What is said of one path, and what is found there.
fn judge(databases: &Databases, index: &Index, path: &str) -> Option<(String, Entry, Found)> {
    let path = PathBuf::from(path);
    let mut known = index.owners(&path).filter_map(|package| {
        let entries = databases.entries(package, &HashSet::from([path.clone()])).unwrap();
        let entry = entries.get(&path)?.clone();
        let found =
            look(&databases.root().join(path.strip_prefix("/").unwrap()), Some(&entry), 1 << 20);
        Some((format!("{} {}", package.name, package.version), entry, found))
    });
    known.next()
}

/// A root with `/bin` as a link, and a package of `version` installed in it.
struct Debian {
    directory: tempfile::TempDir,
}

impl Debian {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        for name in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "usr/bin"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn install(&self, version: &str) {
        let tree = self.directory.path().join(version);
        let architecture = run(Command::new("dpkg").arg("--print-architecture"));
        write(&tree.join("bin/sample"), &format!("program {version}\n"));
        symlink("sample", tree.join("bin/other")).unwrap();
        write(&tree.join("etc/sample.conf"), &format!("setting {version}\n"));
        write(&tree.join("usr/share/sample/diverted"), &format!("data {version}\n"));
        write(
            &tree.join("DEBIAN/control"),
            &format!(
                "Package: sample\nVersion: {version}\nArchitecture: {}\nMulti-Arch: same\n\
                 Maintainer: Nobody <nobody@example.org>\nDescription: for a test\n",
                architecture.trim()
            ),
        );
        write(&tree.join("DEBIAN/conffiles"), "/etc/sample.conf\n");
        let sums = run(Command::new("md5sum")
            .args(["bin/sample", "usr/share/sample/diverted"])
            .current_dir(&tree));
        write(&tree.join("DEBIAN/md5sums"), &sums);
        let package = self.directory.path().join(format!("{version}.deb"));
        run(Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .arg(&tree)
            .arg(&package));
        run(Command::new("dpkg")
            .arg(format!("--root={}", self.root().display()))
            .arg("--force-script-chrootless")
            .arg("-i")
            .arg(&package));
    }
}

#[test]
fn dpkg_says_what_it_installed() {
    if !is_ready("dpkg-deb") {
        return;
    }
    let debian = Debian::new();
    let diverted = debian.root().join("usr/share/sample/diverted");
    run(Command::new("dpkg-divert")
        .arg(format!("--admindir={}", debian.root().join("var/lib/dpkg").display()))
        .args(["--local", "--no-rename", "--divert", "/usr/share/sample/elsewhere", "--add"])
        .arg("/usr/share/sample/diverted"));
    debian.install("1.0-1");
    let databases = Databases::new(debian.root());
    let before = databases.fingerprint();
    let index = Index::read(&databases).unwrap();

    // `/bin` is a link: the kernel's path is asked for.
    assert!(!index.has(Path::new("/bin/sample")));
    let (package, entry, found) = judge(&databases, &index, "/usr/bin/sample").unwrap();
    assert_eq!(package, "sample 1.0-1");
    assert_eq!(found.matches, Some(true));
    assert!(!entry.configuration);
    let (_, entry, found) = judge(&databases, &index, "/etc/sample.conf").unwrap();
    assert!(entry.configuration);
    assert_eq!(found.matches, Some(true), "the sum is in `status`");
    let (_, entry, found) = judge(&databases, &index, "/usr/bin/other").unwrap();
    assert_eq!((entry.content, found.matches), (Content::Unrecorded, None));
    // The diverted file is elsewhere, with the package's content; here is nobody's.
    assert!(!diverted.exists());
    let (_, _, found) = judge(&databases, &index, "/usr/share/sample/elsewhere").unwrap();
    assert_eq!(found.matches, Some(true));
    assert!(judge(&databases, &index, "/usr/share/sample/diverted").is_none());

    fs::write(debian.root().join("usr/bin/sample"), "something else\n").unwrap();
    let (_, _, found) = judge(&databases, &index, "/usr/bin/sample").unwrap();
    assert_eq!(found.matches, Some(false));

    debian.install("1.1-1");
    assert_ne!(databases.fingerprint(), before);
    let versions = databases.packages().unwrap();
    assert_eq!(versions[&(Manager::Dpkg, "sample".to_owned())], "1.1-1");
    let index = Index::read(&databases).unwrap();
    let (package, _, found) = judge(&databases, &index, "/usr/bin/sample").unwrap();
    assert_eq!((&*package, found.matches), ("sample 1.1-1", Some(true)));
    assert_eq!(databases.installed_since(0), [(Manager::Dpkg, "sample".to_owned())]);
    assert_eq!(databases.installed_since(i64::MAX), []);
}

#[test]
fn a_removed_package_has_nothing() {
    if !is_ready("dpkg-deb") {
        return;
    }
    let debian = Debian::new();
    debian.install("1.0-1");
    run(Command::new("dpkg")
        .arg(format!("--root={}", debian.root().display()))
        .args(["-r", "sample"]));
    let databases = Databases::new(debian.root());
    assert!(databases.packages().unwrap().is_empty(), "its configuration is left, and no more");
    assert!(!Index::read(&databases).unwrap().has(Path::new("/usr/bin/sample")));
}

#[test]
fn rpm_says_what_it_installed() {
    if !is_ready("rpmbuild") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (top, root) = (directory.path().join("top"), directory.path().join("root"));
    fs::create_dir_all(&root).unwrap();
    let spec = directory.path().join("sample.spec");
    fs::write(
        &spec,
        "Name: sample\nEpoch: 3\nVersion: 1.0\nRelease: 2\nSummary: x\nLicense: x\nBuildArch: noarch\n\
         %description\nx\n\
         %install\nmkdir -p %{buildroot}/usr/bin %{buildroot}/etc\n\
         echo program > %{buildroot}/usr/bin/sample\nchmod 4755 %{buildroot}/usr/bin/sample\n\
         ln -s sample %{buildroot}/usr/bin/other\n\
         echo setting > %{buildroot}/etc/sample.conf\n\
         %files\n/usr/bin/sample\n/usr/bin/other\n%config /etc/sample.conf\n%ghost /etc/made\n",
    )
    .unwrap();
    run(Command::new("rpmbuild")
        .arg("-bb")
        .arg("-D")
        .arg(format!("_topdir {}", top.display()))
        .arg(&spec));
    let package = top.join("RPMS/noarch/sample-1.0-2.noarch.rpm");
    run(Command::new("rpm")
        .args(["--install", "--nodeps", "--define", "_db_backend sqlite", "--root"])
        .arg(&root)
        .arg(&package));

    let databases = Databases::new(&root);
    if rpm::find(&root).is_none() {
        // Debian's rpm keeps it where root's home is.
        let made = root.join("root/.rpmdb");
        fs::create_dir_all(root.join("var/lib")).unwrap();
        fs::rename(made, root.join("var/lib/rpm")).unwrap();
    }
    let index = Index::read(&databases).unwrap();
    let (package, entry, found) = judge(&databases, &index, "/usr/bin/sample").unwrap();
    assert_eq!(package, "sample 3:1.0-2");
    assert!(matches!(entry.content, Content::File(Digest::Sha256(_))), "{entry:?}");
    assert_eq!((entry.mode, entry.configuration, found.matches), (Some(0o4755), false, Some(true)));
    let (_, entry, found) = judge(&databases, &index, "/usr/bin/other").unwrap();
    assert_eq!((entry.content, found.matches), (Content::Link("sample".into()), Some(true)));
    assert!(judge(&databases, &index, "/etc/sample.conf").unwrap().1.configuration);
    assert_eq!(judge(&databases, &index, "/etc/made").unwrap().1.content, Content::Unrecorded);
    fs::write(root.join("usr/bin/sample"), "evil\n").unwrap();
    assert_eq!(judge(&databases, &index, "/usr/bin/sample").unwrap().2.matches, Some(false));
    assert_eq!(databases.installed_since(1), [(Manager::Rpm, "sample".to_owned())]);
}

#[test]
fn databases_that_cannot_be_read_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let rpm = directory.path().join("var/lib/rpm");
    for (name, format) in [("Packages", "Berkeley DB"), ("Packages.db", "ndb")] {
        write(&rpm.join(name), "");
        let databases = Databases::new(directory.path());
        let error = databases.packages().unwrap_err().to_string();
        assert!(error.contains(format) && error.contains("not supported"), "{error}");
        let status = databases.status();
        assert!(status.iter().any(|s| s.manager == Manager::Rpm && s.packages.is_err()));
        fs::remove_file(rpm.join(name)).unwrap();
    }
    write(&rpm.join("rpmdb.sqlite"), "not a database, but long enough to be looked at as one");
    assert!(Databases::new(directory.path()).packages().is_err());
    fs::remove_dir_all(&rpm).unwrap();
    assert!(Databases::new(directory.path()).packages().unwrap().is_empty(), "none is no error");
}

#[test]
fn apk_says_what_it_installed() {
    use sha1::Digest as _;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(&root.join("bin/sample"), "program\n");
    symlink("sample", root.join("bin/other")).unwrap();
    write(&root.join("etc/sample.conf"), "setting\n");
    let sum = |text: &str| {
        use base64::Engine as _;
        let sum = sha1::Sha1::digest(text.as_bytes());
        format!("Q1{}", base64::engine::general_purpose::STANDARD.encode(sum))
    };
    write(
        &root.join("lib/apk/db/installed"),
        &format!(
            "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:sample\nV:1.2.3-r0\nA:x86_64\nS:1\nI:2\n\
             T:for a test\nF:bin\nR:sample\na:0:0:4755\nZ:{}\nR:other\na:0:0:777\nZ:{}\n\
             F:etc\nR:sample.conf\nZ:{}\n\nP:next\nV:1-r0\nF:\nR:top\n\n",
            sum("program\n"),
            sum("sample"),
            sum("setting\n")
        ),
    );
    let databases = Databases::new(root);
    let index = Index::read(&databases).unwrap();
    let (package, entry, found) = judge(&databases, &index, "/bin/sample").unwrap();
    assert_eq!(
        (&*package, entry.mode, found.matches),
        ("sample 1.2.3-r0", Some(0o4755), Some(true))
    );
    assert_eq!(judge(&databases, &index, "/bin/other").unwrap().2.matches, Some(true));
    assert!(judge(&databases, &index, "/etc/sample.conf").unwrap().1.configuration);
    assert_eq!(judge(&databases, &index, "/top").unwrap().0, "next 1-r0");
    fs::remove_file(root.join("bin/other")).unwrap();
    symlink("/bin/sh", root.join("bin/other")).unwrap();
    assert_eq!(judge(&databases, &index, "/bin/other").unwrap().2.matches, Some(false));
    assert_eq!(databases.packages().unwrap().len(), 2);
    write(&root.join("lib/apk/db/installed"), "no field\n");
    assert!(databases.packages().unwrap_err().to_string().contains("no field"));
}

/// What apk-tools 3.0.8 wrote of a package that its `apk mkpkg` had made.
#[test]
fn apk_says_what_it_installed_from_a_package_in_format_3() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(&root.join("usr/lib/demo/f1"), "1.1 1\n");
    symlink("f1", root.join("usr/lib/demo/link")).unwrap();
    write(&root.join("opt/demo/same"), "same\n");
    write(
        &root.join("lib/apk/db/installed"),
        "C:Q1o4RNKomq0+XKUsdvGGEBIBi7Glw=\nP:demo\nV:1.1-r0\nA:x86_64\nS:2673\nI:332\nT:a demo\n\
         U:\nL:MIT\nf:S\nF:opt\nF:opt/demo\nM:0:0:700\nR:same\nZ:Q1pjKK/Hbp23HaKX6/9LDT56frOwE=\n\
         F:usr/lib/demo\nR:f1\nZ:Q1dPwima4JJyTP2SO3FWOHX0iEay4=\nR:link\na:0:0:777\n\
         Z:Q1P1JM3AehHXxiIL2wSf6N1BsnSDw=\n\n",
    );
    let databases = Databases::new(root);
    let index = Index::read(&databases).unwrap();
    let matches = |path: &str| judge(&databases, &index, path).unwrap().2.matches;
    for path in ["/opt/demo/same", "/usr/lib/demo/f1", "/usr/lib/demo/link"] {
        assert_eq!(matches(path), Some(true), "{path}");
    }
    let mode = |path: &str| judge(&databases, &index, path).unwrap().1.mode;
    assert_eq!((mode("/usr/lib/demo/f1"), mode("/usr/lib/demo/link")), (Some(0o644), Some(0o777)));
    write(&root.join("usr/lib/demo/f1"), "1.1 2\n");
    fs::remove_file(root.join("usr/lib/demo/link")).unwrap();
    symlink("f2", root.join("usr/lib/demo/link")).unwrap();
    for path in ["/usr/lib/demo/f1", "/usr/lib/demo/link"] {
        assert_eq!(matches(path), Some(false), "{path}");
    }
}

#[test]
fn programs_are_known_by_path_and_script() {
    let known = |exe: &str, args: &[&str]| {
        programs::program(Path::new(exe), args).and_then(programs::Program::manager)
    };
    assert_eq!(known("/usr/bin/dpkg", &["anything"]), Some("dpkg"));
    assert_eq!(known("/tmp/dpkg", &["/usr/bin/dpkg"]), None);
    assert_eq!(known("/usr/bin/python3.11", &["python3", "/usr/bin/dnf", "install"]), Some("dnf"));
    assert_eq!(known("/usr/bin/python3.11", &["python3", "-sP", "/usr/bin/dnf"]), Some("dnf"));
    assert_eq!(known("/usr/bin/python3.11", &["python3", "-c", "/usr/bin/dnf"]), None);
    assert_eq!(known("/tmp/python3", &["python3", "/usr/bin/dnf"]), None);
    // An interpreter that is given a program runs no script.
    assert_eq!(known("/usr/bin/perl", &["perl", "/usr/sbin/ldconfig"]), None);
    let ldconfig = programs::program(Path::new("/usr/sbin/ldconfig"), &[""; 0]).unwrap();
    assert!(ldconfig.generates(Path::new("/etc/ld.so.cache")));
    assert!(!ldconfig.generates(Path::new("/etc/ld.so.conf")));
    assert!(!ldconfig.generates(Path::new("/var/cache/ldconfig")));
}

#[test]
fn temporary_names_stand_for_final_ones() {
    let of = |path: &str| final_path(Path::new(path)).map(|p| p.display().to_string());
    assert_eq!(of("/usr/bin/ssh.dpkg-new").as_deref(), Some("/usr/bin/ssh"));
    assert_eq!(of("/usr/bin/ssh.dpkg-tmp").as_deref(), Some("/usr/bin/ssh"));
    assert_eq!(of("/usr/bin/ssh;5f3a9b21").as_deref(), Some("/usr/bin/ssh"));
    for other in ["/usr/bin/ssh", "/a/.dpkg-new", "/a/b;5f3a9b2", "/a/b;5f3a9b2g", "/a/b.dpkg-old"]
    {
        assert_eq!(of(other), None, "{other}");
    }
}
