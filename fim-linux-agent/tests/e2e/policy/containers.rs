//! Rules for paths inside every container.
//!
//! The containers are made by hand, of what every runtime makes them: a control group, a mount
//! namespace, a root directory that the host has mounted, and a volume in it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::{event, rule, start};
use crate::agent::Agent;
use crate::environment::{Backend, backend, beside_others, is_ready, patience, skip};
use crate::event::{Event, path_text, sha256};
use crate::scratch::Scratch;

/// Where kubelet names its containers.
const LOGS: &str = "/var/log/containers";

/// A directory that no host has.
const INSIDE: &str = "/fim-e2e-inside";

/// Where its first process goes from the host's root directory to its own, as runc does.
const START: &str = r#"
set -e
echo $$ > "$1/cgroup.procs"
exec unshare -m sh -c '
    set -e
    mount --make-rprivate /
    mount --bind "$2" "$1/$3/volume"
    cd "$1"
    pivot_root . old
    exec /busybox sh -c "cd / && /busybox umount -l /old && exec /busybox sh"
' sh "$2" "$3" "$4"
"#;

/// A shell in a container of its own.
struct Container {
    id: String,
    root: PathBuf,
    volume: PathBuf,
    group: PathBuf,
    shell: Child,
    input: Option<ChildStdin>,
}

impl Container {
    fn start(scratch: &mut Scratch, groups: &Path, number: usize) -> Self {
        let id = format!("{number:x}").repeat(64);
        // As containerd does it for a pod, and kubelet beside it.
        let pod = format!("00000000_0000_0000_0000_{number:012x}");
        let group = groups.join(format!("kubepods-pod{pod}.slice:cri-containerd:{id}"));
        fs::create_dir(&group).unwrap();
        fs::create_dir_all(LOGS).unwrap();
        fs::write(log(&id), "").unwrap();
        let root = scratch.mount(&format!("root {number}"), &["-t", "tmpfs", "tmpfs"]).unwrap();
        let volume = scratch.directory(&format!("volume {number}"));
        let busybox = ["/usr/bin/busybox", "/bin/busybox"];
        let busybox = busybox.into_iter().find(|path| Path::new(path).exists()).unwrap();
        fs::copy(busybox, root.join("busybox")).unwrap();
        fs::create_dir(root.join("old")).unwrap();
        let inside = root.join(INSIDE.trim_start_matches('/'));
        for name in ["real/volume", "real/quiet"] {
            fs::create_dir_all(inside.join(name)).unwrap();
        }
        // What it leads to on the host is no business of the container.
        std::os::unix::fs::symlink(format!("{INSIDE}/real"), inside.join("link")).unwrap();
        fs::write(inside.join("real/known"), "image\n").unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", START, "sh"])
            .args([&group, &root, &volume])
            .arg(format!("{}/real", INSIDE.trim_start_matches('/')))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let input = shell.stdin.take();
        Self { id, root, volume, group, shell, input }
    }

    /// Has a command run in it.
    fn run(&mut self, command: &str) {
        writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Something in its root directory, by its path on the host.
    fn on_host(&self, path: &str) -> PathBuf {
        self.root.join(INSIDE.trim_start_matches('/')).join(path)
    }

    fn is_watched(&self, agent: &Agent) -> bool {
        agent.log().contains(&format!("container={:?}", self.id))
    }

    /// It ends, and its root directory is unmounted.
    fn stop(&mut self) {
        drop(self.input.take());
        assert!(self.shell.wait().unwrap().success());
        rustix::mount::unmount(&self.root, rustix::mount::UnmountFlags::empty()).unwrap();
    }
}

/// What kubelet makes for a container.
fn log(id: &str) -> PathBuf {
    Path::new(LOGS).join(format!("web-7d4b_shop_proxy-{id}.log"))
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = fs::remove_file(log(&self.id));
        // If nobody else has something there.
        let _ = fs::remove_dir(LOGS);
        drop(self.input.take());
        let _ = self.shell.wait();
        // The last of its processes may still be on their way out.
        let until = Instant::now() + patience();
        while fs::remove_dir(&self.group).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn waits_for(what: &str, agent: &Agent, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience();
    while !done() {
        assert!(Instant::now() < deadline, "{what}\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// It is told as done by the container, under its path on the host.
fn told(agent: &Agent, container: &Container, path: &Path, seen: &str, action: &str) -> Event {
    let event = event(agent, path, action);
    assert_eq!(event.text("container.id"), Some(container.id.as_str()), "{event}");
    assert_eq!(event.text("container.name"), Some("proxy"), "{event}");
    assert_eq!(event.text("kubernetes.pod.name"), Some("web-7d4b"), "{event}");
    assert_eq!(event.text("kubernetes.namespace"), Some("shop"), "{event}");
    assert_eq!(event.text("rule.name"), Some("everywhere"), "{event}");
    if backend() == Backend::Bpf {
        assert_eq!(event.text("fim.path_in_process"), Some(seen), "{event}");
    }
    event
}

#[test]
fn a_rule_for_every_container() {
    const NAME: &str = "policy::containers";
    if !is_ready(NAME) {
        return;
    }
    let _guard = beside_others();
    let mut scratch = Scratch::new("containers");
    let groups = match scratch.mount("groups", &["-t", "cgroup2", "none"]) {
        Ok(groups) => groups,
        Err(error) => return skip(NAME, &format!("no control groups: {error}")),
    };
    let mut early = Container::start(&mut scratch, &groups, 0xa);
    let host = scratch.directory("host");
    let everywhere = format!(
        "[[rule]]\nname = \"everywhere\"\npaths = [\"{INSIDE}/link\"]\n\
         exclude = [\"{INSIDE}/real/quiet\"]\ncontainers = true\n"
    );
    let (agent, _) = start(&scratch, &format!("{everywhere}{}", rule("host", &host, "")));

    // One that runs already, and one that is started now.
    let mut late = Container::start(&mut scratch, &groups, 0xb);
    waits_for("the container is not found", &agent, || late.is_watched(&agent));
    // The other may have been found after the agent's start as well.
    let taken = "baseline of what is newly watched taken";
    waits_for("no baseline of it", &agent, || agent.log().matches(taken).count() >= 1);
    for container in [&mut early, &mut late] {
        container.run(&format!("echo quiet > {INSIDE}/real/quiet/a"));
        container.run(&format!("echo other > {INSIDE}/a"));
        container.run(&format!("echo new > {INSIDE}/link/a"));
        let path = container.on_host("real/a");
        told(&agent, container, &path, &format!("{INSIDE}/real/a"), "created");
        container.run(&format!("echo more >> {INSIDE}/real/known"));
        let path = container.on_host("real/known");
        let event = told(&agent, container, &path, &format!("{INSIDE}/real/known"), "updated");
        assert_eq!(event.text("fim.before.sha256"), Some(sha256(b"image\n").as_str()), "{event}");
        // Its volume is elsewhere on the host.
        container.run(&format!("echo new > {INSIDE}/real/volume/b"));
        let path = container.volume.join("b");
        told(&agent, container, &path, &format!("{INSIDE}/real/volume/b"), "created");
    }

    // That a container has ended deletes nothing.
    late.stop();
    waits_for("its end is not noticed", &agent, || agent.log().contains("a container has ended"));
    fs::write(host.join("a"), "").unwrap();
    event(&agent, &host.join("a"), "created");
    early.run(&format!("rm {INSIDE}/real/a"));
    let path = early.on_host("real/a");
    told(&agent, &early, &path, &format!("{INSIDE}/real/a"), "deleted");
    agent.stop();
    for line in agent.stream.lines() {
        let path = line.path();
        assert!(!path.contains("quiet") && !path.ends_with("inside/a"), "{}", line.event());
        let of_late = path.starts_with(&*path_text(&late.root));
        assert!(!(of_late && line.action == "deleted"), "{}", line.event());
    }
    assert!(!agent.log().contains("ERROR"), "{}", agent.log());
}

/// A container with one command, which is gone with its control group before anybody has read of it.
#[test]
fn a_container_that_is_gone_is_named() {
    const NAME: &str = "policy::containers (gone)";
    const COMMAND: &str = r#"echo $$ > "$1/cgroup.procs"; exec sh -c 'echo > "$1"' sh "$2""#;
    if !is_ready(NAME) {
        return;
    }
    let _guard = beside_others();
    let mut scratch = Scratch::new("containers gone");
    let groups = match scratch.mount("groups", &["-t", "cgroup2", "none"]) {
        Ok(groups) => groups,
        Err(error) => return skip(NAME, &format!("no control groups: {error}")),
    };
    let host = scratch.directory("host");
    let (agent, _) = start(&scratch, &rule("host", &host, ""));
    let containers: Vec<(String, PathBuf)> =
        (1..=20).map(|n| (format!("{n:064x}"), host.join(n.to_string()))).collect();
    for (id, file) in &containers {
        // As Docker does it with systemd's help.
        let slice = groups.join("fim-e2e.slice");
        let group = slice.join(format!("docker-{id}.scope"));
        fs::create_dir_all(&group).unwrap();
        let done = Command::new("sh").args(["-c", COMMAND, "sh"]).args([&group, file]).status();
        assert!(done.unwrap().success());
        fs::remove_dir(&group).unwrap();
        fs::remove_dir(&slice).unwrap();
    }
    for (id, file) in &containers {
        let event = event(&agent, file, "created");
        assert_eq!(event.text("container.id"), Some(id.as_str()), "{event}");
        assert_eq!(event.text("container.runtime"), Some("docker"), "{event}");
    }
    agent.stop();
}
