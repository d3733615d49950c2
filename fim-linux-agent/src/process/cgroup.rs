//! Containers and pods, told from control groups.
//!
//! The kernel gives a process's cgroup v2 as a number: the inode number of its directory. For a
//! live process `/proc/<pid>/cgroup` has the path; for one that is gone the directory is looked
//! for below the cgroup mount, where it usually outlives the process.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fim_common::event::actor::{Container, Kubernetes, Pod};

/// Not more often than this is the whole tree walked for a number that is not known: it takes
/// about 3 µs a directory.
const WALK_EVERY: Duration = Duration::from_secs(1);

/// Most numbers that are remembered.
const KNOWN_MAX: usize = 65_536;

/// The container and pod of a cgroup path. The innermost counts: Kubernetes in Docker has two.
pub fn container(path: &str) -> (Option<Container>, Option<Kubernetes>) {
    let (mut container, mut pod) = (None, None);
    let mut above = "";
    for component in path.split('/') {
        if let Some((id, runtime)) = container_id(component, above) {
            let runtime = runtime.map(str::to_owned);
            container = Some(Container { id: id.to_owned(), runtime, name: None });
        }
        // runc without systemd's help writes `<slice>:<prefix>:<id>` as one component.
        if let Some(uid) = pod_uid(component.split(':').next().unwrap_or(component)) {
            pod = Some(Kubernetes { pod: Pod { uid, name: None }, namespace: None });
        }
        above = component;
    }
    (container, pod)
}

/// The container and pod in the content of `/proc/<pid>/cgroup`: with cgroup v1 one line a
/// hierarchy, and not every one of them has the container.
pub fn container_of_file(content: &str) -> (Option<Container>, Option<Kubernetes>) {
    content
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .map(container)
        .find(|found| found.0.is_some() || found.1.is_some())
        .unwrap_or_default()
}

fn container_id<'a>(component: &'a str, above: &str) -> Option<(&'a str, Option<&'static str>)> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let at = name.rfind(['-', ':']).map_or(0, |at| at + 1);
    let (prefix, id) = (&name[..at.saturating_sub(1)], &name[at..]);
    if id.len() != 64 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let prefix = prefix.rsplit(':').next().unwrap_or(prefix);
    let runtime = match (prefix, above) {
        ("", "docker") | ("docker", _) => Some("docker"),
        ("", "libpod_parent") | ("libpod", _) => Some("podman"),
        ("cri-containerd" | "containerd" | "nerdctl", _) => Some("containerd"),
        ("crio", _) => Some("cri-o"),
        ("", _) => None,
        // The monitor of a container (conmon) has a scope of its own beside it and is on the host.
        _ => return None,
    };
    Some((id, runtime))
}

/// `pod<uid>` (cgroupfs driver), `kubepods-burstable-pod<uid with underscores>.slice` (systemd's,
/// where `-` separates levels). A static pod's uid is a hash without dashes.
fn pod_uid(component: &str) -> Option<String> {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let uid = match name.strip_prefix("kubepods") {
        Some(rest) => &rest[rest.find("-pod")? + 4..],
        None => name.strip_prefix("pod")?,
    };
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let others = uid.bytes().filter(|&b| b == b'-' || b == b'_').count();
    (digits == 32 && (others == 4 || others == 0) && digits + others == uid.len())
        .then(|| uid.replace('_', "-"))
}

/// From the kernel's number of a cgroup to its path.
#[derive(Debug)]
pub struct Cgroups {
    /// Where cgroup v2 is mounted; `None` on a host without it.
    mount: Option<PathBuf>,
    known: HashMap<u64, String>,
    walked: Option<Instant>,
}

impl Cgroups {
    /// Those of this host, by `<proc>/self/mountinfo`.
    pub fn new(proc: &Path) -> Self {
        let mountinfo = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
        Self::at(mount_of_v2(&mountinfo))
    }

    fn at(mount: Option<PathBuf>) -> Self {
        Self { mount, known: HashMap::new(), walked: None }
    }

    /// Remembers what `/proc/<pid>/cgroup` of a live process says.
    pub fn learn(&mut self, file: &str) {
        let (Some(mount), Some(path)) = (&self.mount, path_in_v2(file)) else {
            return;
        };
        if let Ok(metadata) = fs::metadata(mount.join(path.trim_start_matches('/'))) {
            self.remember(metadata.ino(), path.to_owned());
        }
    }

    /// The path of the cgroup with this number, below the mount, with a leading slash.
    pub fn path(&mut self, id: u64) -> Option<&str> {
        if id == 0 {
            return None;
        }
        if !self.known.contains_key(&id) && self.walked.is_none_or(|at| at.elapsed() >= WALK_EVERY)
        {
            self.walked = Some(Instant::now());
            self.walk();
        }
        self.known.get(&id).map(String::as_str)
    }

    fn remember(&mut self, id: u64, path: String) {
        // Numbers are not reused within a boot; forgetting all of them costs one walk.
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(id, path);
    }

    fn walk(&mut self) {
        let Some(mount) = self.mount.clone() else {
            return;
        };
        let mut stack = vec![mount.clone()];
        let mut seen = 0;
        while let Some(directory) = stack.pop() {
            seen += 1;
            if seen > KNOWN_MAX {
                return;
            }
            if let Ok(metadata) = fs::symlink_metadata(&directory) {
                let below = directory.strip_prefix(&mount).unwrap_or(&directory);
                self.remember(metadata.ino(), format!("/{}", below.to_string_lossy()));
            }
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            stack.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
    }
}

fn path_in_v2(file: &str) -> Option<&str> {
    file.lines().find_map(|line| line.strip_prefix("0::"))
}

/// proc_pid_mountinfo(5): the file system type stands behind ` - `.
fn mount_of_v2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5f2a1b0c9d8e7f605f2a1b0c9d8e7f605f2a1b0c9d8e7f605f2a1b0c9d8e7f60";
    const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000abc";
    const UID: &str = "2b9a5a6e-0b9c-4a53-9d0e-7c9f6f1f2a3b";

    #[test]
    fn paths() {
        let under = UID.replace('-', "_");
        type Found = Option<(&'static str, Option<&'static str>)>;
        let table: &[(String, Found, Option<&str>)] = &[
            ("/".into(), None, None),
            ("/user.slice/user-1000.slice/session-1.scope".into(), None, None),
            ("/system.slice/sshd.service".into(), None, None),
            (format!("/docker/{ID}"), Some((ID, Some("docker"))), None),
            (format!("/system.slice/docker-{ID}.scope"), Some((ID, Some("docker"))), None),
            (format!("/system.slice/docker-{ID}.scope/init"), Some((ID, Some("docker"))), None),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Some((ID, Some("podman"))),
                None,
            ),
            (format!("/libpod_parent/libpod-{ID}"), Some((ID, Some("podman"))), None),
            (format!("/machine.slice/libpod-conmon-{ID}.scope"), None, None),
            (format!("/system.slice/nerdctl-{ID}.scope"), Some((ID, Some("containerd"))), None),
            (format!("/kubepods/burstable/pod{UID}/{ID}"), Some((ID, None)), Some(UID)),
            (format!("/kubepods/pod{UID}/crio-{ID}"), Some((ID, Some("cri-o"))), Some(UID)),
            (format!("/kubepods/besteffort/pod{UID}/crio-conmon-{ID}"), None, Some(UID)),
            (
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/cri-containerd-{ID}.scope"
                ),
                Some((ID, Some("containerd"))),
                Some(UID),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope"),
                Some((ID, Some("cri-o"))),
                Some(UID),
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-burstable-pod{under}.slice:cri-containerd:{ID}"
                ),
                Some((ID, Some("containerd"))),
                Some(UID),
            ),
            (
                format!("/docker/{OTHER}/kubelet/kubepods/pod{UID}/{ID}"),
                Some((ID, None)),
                Some(UID),
            ),
            (
                format!("/kubepods/burstable/pod{}/{ID}", UID.replace('-', "")),
                Some((ID, None)),
                Some("2b9a5a6e0b9c4a539d0e7c9f6f1f2a3b"),
            ),
            (format!("/ecs/task/{ID}"), Some((ID, None)), None),
            (format!("/docker/{}", &ID[1..]), None, None),
            ("/kubepods/podcast".into(), None, None),
            ("/kubepods.slice/kubepods-é-podö.slice".into(), None, None),
        ];
        for (path, id, uid) in table {
            let (container, kubernetes) = container(path);
            let found = container.as_ref().map(|c| (c.id.as_str(), c.runtime.as_deref()));
            assert_eq!(found, *id, "{path}");
            assert_eq!(kubernetes.map(|k| k.pod.uid).as_deref(), *uid, "{path}");
        }
    }

    #[test]
    fn v1_has_a_line_for_each_hierarchy() {
        let file = format!("9:name=systemd:/\n4:memory:/docker/{ID}\n0::/\n");
        assert_eq!(container_of_file(&file).0.map(|c| c.id).as_deref(), Some(ID));
        assert_eq!(container_of_file("0::/\n"), (None, None));
        assert_eq!(container_of_file("rubbish"), (None, None));
    }

    #[test]
    fn a_number_is_found_by_walking() {
        let mount = tempfile::tempdir().unwrap();
        let below = mount.path().join("a.slice/b.scope");
        fs::create_dir_all(&below).unwrap();
        let id = fs::metadata(&below).unwrap().ino();
        let mut cgroups = Cgroups::at(Some(mount.path().to_owned()));
        assert_eq!(cgroups.path(id), Some("/a.slice/b.scope"));
        assert_eq!(cgroups.path(0), None);
        fs::remove_dir(&below).unwrap();
        assert_eq!(cgroups.path(id), Some("/a.slice/b.scope"), "it is remembered");
    }

    #[test]
    fn the_mount_is_found() {
        let info = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of_v2(info), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_of_v2(""), None);
    }
}
