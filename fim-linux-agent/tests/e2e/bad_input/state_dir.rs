//! State directories that cannot be used, or must not be trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_remount};

use super::{Bench, FAILURE};
use crate::environment::{beside_others, is_ready, skip};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An agent with its state in the new directory `name`, mode 0700.
fn bench(name: &str) -> Bench {
    let mut bench = Bench::new(name);
    bench.setup.state_dir = bench.scratch.directory("the-state");
    chmod(&bench.setup.state_dir, 0o700);
    bench
}

/// It is refused, by its name and with the reason.
fn refused(bench: &Bench, case: &str, reason: &str) {
    let path = bench.setup.state_dir.to_str().unwrap();
    bench.run().is_refusal(case, FAILURE, &[path, reason]);
}

#[test]
fn of_somebody_else() {
    if !is_ready("state directory") {
        return;
    }
    let _guard = beside_others();
    let bench = bench("state-foreign");
    std::os::unix::fs::chown(&bench.setup.state_dir, Some(65_534), None).unwrap();
    refused(&bench, "of somebody else", "65534");
    let entries = fs::read_dir(&bench.setup.state_dir).unwrap().count();
    assert_eq!(entries, 0, "something was written to it");
}

#[test]
fn writable_by_others() {
    if !is_ready("state directory") {
        return;
    }
    let _guard = beside_others();
    let bench = bench("state-writable");
    for mode in [0o777, 0o1777, 0o720] {
        chmod(&bench.setup.state_dir, mode);
        refused(&bench, &format!("mode {mode:o}"), &format!("{mode:04o}"));
    }
}

#[test]
fn no_directory() {
    if !is_ready("state directory") {
        return;
    }
    let _guard = beside_others();
    let mut bench = Bench::new("state-file");
    bench.setup.state_dir = bench.path("a-file");
    fs::write(&bench.setup.state_dir, "precious\n").unwrap();
    refused(&bench, "a file", "not a directory");
    assert_eq!(fs::read_to_string(&bench.setup.state_dir).unwrap(), "precious\n");
    bench.setup.state_dir = bench.setup.state_dir.join("below");
    bench.run().is_refusal("below a file", FAILURE, &["a-file"]);
}

#[test]
fn read_only() {
    if !is_ready("state directory") {
        return;
    }
    let _guard = beside_others();
    let bench = bench("state-read-only");
    let path = &bench.setup.state_dir;
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    let mounted = mount_bind_recursive(path, path).and_then(|()| mount_remount(path, flags, ""));
    let _unmount = Unmount(path);
    if let Err(error) = mounted {
        skip("state directory, read-only", &format!("nothing can be mounted here: {error}"));
        return;
    }
    refused(&bench, "read-only", "read-only");
}

#[test]
fn full() {
    if !is_ready("state directory") {
        return;
    }
    let _guard = beside_others();
    let bench = bench("state-full");
    let path = &bench.setup.state_dir;
    let options = c"size=256k,mode=700";
    let mounted = mount("fim-e2e", path, "tmpfs", MountFlags::empty(), Some(options));
    let _unmount = Unmount(path);
    if let Err(error) = mounted {
        skip("state directory, full", &format!("nothing can be mounted here: {error}"));
        return;
    }
    // Some, but not enough to begin with.
    refused(&bench, "little space", "free");
    // And none at all.
    fs::write(path.join("ballast"), vec![0; 1 << 20]).unwrap_err();
    refused(&bench, "no space", "free");
}

/// Below the scratch directory, which is removed when this has gone.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(self.0, flags);
    }
}
