//! Names of containers and pods, as far as files of the host have them. Nobody's API is asked.
//!
//! A control group has the id of a container and the uid of a pod ([`super::cgroup`]). By these:
//!
//! | file | of | names |
//! |---|---|---|
//! | `run/containerd/…/k8s.io/<id>/config.json`, `run/k3s/…` | containerd | container, pod, namespace |
//! | `run/containers/storage/overlay-containers/<id>/userdata/config.json` | CRI-O | the same |
//! | `var/lib/docker/containers/<id>/config.v2.json` | Docker | container, and by cri-dockerd the rest |
//! | `var/log/containers/<pod>_<namespace>_<container>-<id>.log` | kubelet | all, once it has begun |
//! | `var/log/pods/<namespace>_<pod>_<uid>` | kubelet | pod, namespace |
//!
//! (containerd: `pkg/cri/annotations`; CRI-O: `pkg/annotations`; kubelet: `kuberuntime/helpers.go`,
//! `legacy.go`.) A runtime writes its file before the container begins, kubelet makes its names
//! afterwards: what is not found is looked for again.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fim_common::event::actor::{Container, Kubernetes};
use serde::Deserialize;

/// Where runtimes keep a directory for each container, and their file in it.
const BUNDLES: [(&str, &str); 3] = [
    ("run/containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"),
    ("run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"),
    ("run/containers/storage/overlay-containers", "userdata/config.json"),
];
/// Docker's.
const DOCKER: (&str, &str) = ("var/lib/docker/containers", "config.v2.json");
/// Links of kubelet, by the names and the id of the container.
const LOGS: &str = "var/log/containers";
/// Its directories, by the names and the uid of the pod.
const POD_LOGS: &str = "var/log/pods";

/// Bytes; the configuration of a container takes some 10 to 30 thousand.
const FILE_MAX: u64 = 4 << 20;
/// Entries of a directory of logs that are looked at: a node has 110 pods by default.
const ENTRIES_MAX: usize = 65_536;
/// Containers and pods whose names are remembered.
const KNOWN_MAX: usize = 16_384;
/// Between two looks for what was not found.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And for how long: by then kubelet has made its names, or there are none.
const LOOK_FOR: Duration = Duration::from_secs(60);

/// What is known; each name is absent where no file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    container: Option<String>,
    pod: Option<String>,
    namespace: Option<String>,
}

/// Id of a container, uid of a pod.
type Key = (Option<String>, Option<String>);

#[derive(Debug)]
struct Known {
    named: Named,
    /// Something is missing, since then.
    wanting: Option<Instant>,
}

/// The names on this host.
#[derive(Debug)]
pub(super) struct Workloads {
    root: PathBuf,
    known: HashMap<Key, Known>,
    looked: Instant,
    generation: u64,
}

impl Workloads {
    /// Those below the host's root directory.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), known: HashMap::new(), looked: Instant::now(), generation: 0 }
    }

    /// Looks again for what was missing, once a second. The number changes when something was found:
    /// what was made with names of before is to be made anew.
    pub(super) fn refresh(&mut self) -> u64 {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.look_again();
        }
        self.generation
    }

    fn look_again(&mut self) {
        self.looked = Instant::now();
        let root = &self.root;
        let mut found = false;
        for (key, known) in &mut self.known {
            let Some(since) = known.wanting else { continue };
            let named = look(root, key);
            if named != known.named {
                known.named = named;
                found = true;
            }
            if is_whole(key, &known.named) || since.elapsed() >= LOOK_FOR {
                known.wanting = None;
            }
        }
        self.generation += u64::from(found);
    }

    /// Adds the names to what a control group says.
    pub(super) fn name(&mut self, container: &mut Option<Container>, pod: &mut Option<Kubernetes>) {
        if container.is_none() && pod.is_none() {
            return;
        }
        let key: Key = (
            container.as_ref().map(|container| container.id.clone()),
            pod.as_ref().map(|kubernetes| kubernetes.pod.uid.clone()),
        );
        let named = match self.known.get(&key) {
            Some(known) => known.named.clone(),
            None => self.learn(key),
        };
        if let Some(container) = container {
            container.name = named.container;
        }
        if let Some(kubernetes) = pod {
            kubernetes.pod.name = named.pod;
            kubernetes.namespace = named.namespace;
        }
    }

    fn learn(&mut self, key: Key) -> Named {
        // Forgetting all costs one look for each that is still there.
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let named = look(&self.root, &key);
        let wanting = (!is_whole(&key, &named)).then(Instant::now);
        self.known.insert(key, Known { named: named.clone(), wanting });
        named
    }
}

/// Whether there is nothing more to be found. The container that holds a pod's namespaces has no name
/// in Kubernetes.
fn is_whole((container, pod): &Key, named: &Named) -> bool {
    (container.is_none() || named.container.is_some()) && (pod.is_none() || named.pod.is_some())
}

fn look(root: &Path, (id, uid): &Key) -> Named {
    let mut named = Named::default();
    if let Some(id) = id {
        named = by_runtime(root, id).unwrap_or_default();
        if named.container.is_none() || (uid.is_some() && named.pod.is_none()) {
            named.fill(by_log(root, id));
        }
    }
    if let (Some(uid), None) = (uid, &named.pod) {
        named.fill(by_pod_log(root, uid));
    }
    named
}

impl Named {
    fn fill(&mut self, other: Option<Self>) {
        let Some(other) = other else { return };
        self.container = self.container.take().or(other.container);
        // A pod's name without its namespace is another pod's.
        if self.pod.is_none() {
            (self.pod, self.namespace) = (other.pod, other.namespace);
        }
    }
}

/// What matters of the configuration of a container, the OCI's or Docker's.
#[derive(Deserialize)]
struct Configuration {
    /// OCI; containerd and CRI-O.
    #[serde(default)]
    annotations: HashMap<String, String>,
    /// Docker, with a slash before it.
    #[serde(rename = "Name")]
    name: Option<String>,
    #[serde(rename = "Config")]
    docker: Option<Docker>,
}

#[derive(Deserialize)]
struct Docker {
    #[serde(rename = "Labels", default)]
    labels: Option<HashMap<String, String>>,
}

fn by_runtime(root: &Path, id: &str) -> Option<Named> {
    let bundles = BUNDLES.iter().chain([&DOCKER]);
    let configuration =
        bundles.filter_map(|(above, file)| read(&root.join(above).join(id).join(file))).next()?;
    let labels = configuration.docker.and_then(|docker| docker.labels).unwrap_or_default();
    let said = |keys: [&str; 2]| {
        let found = keys
            .iter()
            .find_map(|key| configuration.annotations.get(*key).or_else(|| labels.get(*key)));
        found.filter(|name| is_name(name)).cloned()
    };
    let pod = said(["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let namespace = said(["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
    let container = said(["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]);
    let docker = || Some(configuration.name.as_deref()?.trim_start_matches('/').to_owned());
    Some(Named {
        // CRI-O and cri-dockerd call what holds the namespaces `POD`, which is no name.
        container: if pod.is_some() { container } else { container.or_else(docker) },
        namespace: pod.as_ref().and(namespace),
        pod,
    })
}

fn read(path: &Path) -> Option<Configuration> {
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(FILE_MAX).read_to_end(&mut text).ok()?;
    let parsed = serde_json::from_slice(&text);
    parsed.inspect_err(|error| tracing::debug!(%error, path = %path.display(), "no names")).ok()
}

/// `<pod>_<namespace>_<container>-<id>.log`; kubelet cuts a name that is too long, and with it the id.
fn by_log(root: &Path, id: &str) -> Option<Named> {
    find(&root.join(LOGS), |name| {
        let names = name.strip_suffix(".log")?.strip_suffix(id)?.strip_suffix('-')?;
        let [pod, namespace, container] = parts(names)?;
        Some(Named {
            container: Some(container.to_owned()),
            pod: Some(pod.to_owned()),
            namespace: Some(namespace.to_owned()),
        })
    })
}

/// `<namespace>_<pod>_<uid>`
fn by_pod_log(root: &Path, uid: &str) -> Option<Named> {
    find(&root.join(POD_LOGS), |name| {
        let [namespace, pod, found] = parts(name)?;
        (found == uid).then(|| Named {
            container: None,
            pod: Some(pod.to_owned()),
            namespace: Some(namespace.to_owned()),
        })
    })
}

fn find(directory: &Path, is: impl Fn(&str) -> Option<Named>) -> Option<Named> {
    let entries = fs::read_dir(directory).ok()?.flatten().take(ENTRIES_MAX);
    entries.filter_map(|entry| is(entry.file_name().to_str()?)).next()
}

fn parts(name: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = name.split('_').collect();
    let parts: [&str; 3] = parts.try_into().ok()?;
    parts.iter().all(|part| is_name(part)).then_some(parts)
}

/// A name in Kubernetes (a DNS subdomain); nothing else gets into events from names of files.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    (1..=253).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use fim_common::event::actor::Pod;
    use serde_json::json;

    use super::*;

    const ID: &str = "5f2a1b0c9d8e7f605f2a1b0c9d8e7f605f2a1b0c9d8e7f605f2a1b0c9d8e7f60";
    const UID: &str = "2b9a5a6e-0b9c-4a53-9d0e-7c9f6f1f2a3b";

    /// A host's root directory with these files; of one that ends with a slash, the directory.
    fn host(files: &[(String, String)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            make(root.path(), path, content);
        }
        root
    }

    fn make(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::write(path, content).unwrap();
        }
    }

    /// Container, pod and namespace.
    type Names = (Option<String>, Option<String>, Option<String>);

    fn names(workloads: &mut Workloads, id: Option<&str>, uid: Option<&str>) -> Names {
        let mut container = id.map(|id| Container { id: id.to_owned(), ..Container::default() });
        let mut pod = uid.map(|uid| Kubernetes {
            pod: Pod { uid: uid.to_owned(), ..Pod::default() },
            ..Kubernetes::default()
        });
        workloads.name(&mut container, &mut pod);
        let (pod, namespace) = pod.map(|pod| (pod.pod.name, pod.namespace)).unwrap_or_default();
        (container.and_then(|container| container.name), pod, namespace)
    }

    fn some(container: &str, pod: &str, namespace: &str) -> Names {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (text(container), text(pod), text(namespace))
    }

    fn annotated(annotations: serde_json::Value) -> String {
        json!({ "ociVersion": "1.1.0", "process": { "args": ["sleep"] }, "annotations": annotations })
            .to_string()
    }

    #[test]
    fn each_source() {
        let containerd = json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": "proxy",
            "io.kubernetes.cri.sandbox-name": "web-7d4b-x2",
            "io.kubernetes.cri.sandbox-namespace": "shop",
        });
        let sandbox = json!({
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-name": "web-7d4b-x2",
            "io.kubernetes.cri.sandbox-namespace": "shop",
        });
        let crio = |container: &str| {
            json!({
                "io.kubernetes.container.name": container,
                "io.kubernetes.pod.name": "web-7d4b-x2",
                "io.kubernetes.pod.namespace": "shop",
            })
        };
        let docker = |name: &str, labels: serde_json::Value| {
            json!({ "ID": ID, "Name": name, "Config": { "Labels": labels } }).to_string()
        };
        let task = "containerd/io.containerd.runtime.v2.task/k8s.io";
        let overlay = "run/containers/storage/overlay-containers";
        let in_pod = Some(UID);
        let table: &[(&str, String, String, Option<&str>, Names)] = &[
            (
                "containerd",
                format!("run/{task}/{ID}/config.json"),
                annotated(containerd.clone()),
                in_pod,
                some("proxy", "web-7d4b-x2", "shop"),
            ),
            (
                "k3s",
                format!("run/k3s/{task}/{ID}/config.json"),
                annotated(containerd),
                in_pod,
                some("proxy", "web-7d4b-x2", "shop"),
            ),
            (
                "a sandbox has no name of its own",
                format!("run/{task}/{ID}/config.json"),
                annotated(sandbox),
                in_pod,
                some("", "web-7d4b-x2", "shop"),
            ),
            (
                "CRI-O",
                format!("{overlay}/{ID}/userdata/config.json"),
                annotated(crio("proxy")),
                in_pod,
                some("proxy", "web-7d4b-x2", "shop"),
            ),
            (
                "CRI-O's sandbox",
                format!("{overlay}/{ID}/userdata/config.json"),
                annotated(crio("POD")),
                in_pod,
                some("", "web-7d4b-x2", "shop"),
            ),
            (
                "Docker",
                format!("var/lib/docker/containers/{ID}/config.v2.json"),
                docker("/eager_Turing", json!({})),
                None,
                some("eager_Turing", "", ""),
            ),
            (
                "Docker without labels",
                format!("var/lib/docker/containers/{ID}/config.v2.json"),
                docker("/db", json!(null)),
                None,
                some("db", "", ""),
            ),
            (
                "cri-dockerd",
                format!("var/lib/docker/containers/{ID}/config.v2.json"),
                docker("/k8s_proxy_web-7d4b-x2_shop_2b9a_0", crio("proxy")),
                in_pod,
                some("proxy", "web-7d4b-x2", "shop"),
            ),
            (
                "kubelet's link",
                format!("var/log/containers/web-7d4b-x2_shop_proxy-{ID}.log"),
                String::new(),
                in_pod,
                some("proxy", "web-7d4b-x2", "shop"),
            ),
            (
                "kubelet's directory",
                format!("var/log/pods/shop_web-7d4b-x2_{UID}/proxy/0.log"),
                String::new(),
                in_pod,
                some("", "web-7d4b-x2", "shop"),
            ),
        ];
        for (what, path, content, uid, expected) in table {
            let root = host(&[(path.clone(), content.clone())]);
            let mut workloads = Workloads::new(root.path());
            assert_eq!(names(&mut workloads, Some(ID), *uid), *expected, "{what}");
        }
    }

    #[test]
    fn what_is_no_name_is_not_taken_and_nobody_else_s_either() {
        let other = "0".repeat(64);
        let root = host(&[
            (format!("var/log/containers/a_b_c-{other}.log"), String::new()),
            (format!("var/log/containers/a_b-{ID}.log"), String::new()),
            (format!("var/log/containers/a_b_c_d-{ID}.log"), String::new()),
            (format!("var/log/containers/A_b_c\n-{ID}.log"), String::new()),
            (format!("var/log/containers/a_b_c-{}.log", &ID[..60]), String::new()),
            ("var/log/pods/b_a_00000000-0b9c-4a53-9d0e-7c9f6f1f2a3b/".into(), String::new()),
            (format!("var/log/pods/b_{UID}/"), String::new()),
            (
                format!("run/containers/storage/overlay-containers/{ID}/userdata/config.json"),
                "{".into(),
            ),
        ]);
        let mut workloads = Workloads::new(root.path());
        assert_eq!(names(&mut workloads, Some(ID), Some(UID)), some("", "", ""));
        assert_eq!(names(&mut workloads, None, None), some("", "", ""));
        assert_eq!(workloads.known.len(), 1, "nothing is remembered of the host itself");
    }

    #[test]
    fn what_comes_later_is_found_and_told_by_the_number() {
        let root = host(&[]);
        let mut workloads = Workloads::new(root.path());
        assert_eq!(names(&mut workloads, Some(ID), Some(UID)), some("", "", ""));
        let first = workloads.refresh();
        make(root.path(), &format!("var/log/pods/shop_web_{UID}/"), "");
        assert_eq!(workloads.refresh(), first, "once a second only");
        workloads.look_again();
        let second = workloads.refresh();
        assert_ne!(second, first);
        assert_eq!(names(&mut workloads, Some(ID), Some(UID)), some("", "web", "shop"));
        workloads.look_again();
        assert_eq!(workloads.refresh(), second, "nothing new");
        let link = format!("var/log/containers/web_shop_proxy-{ID}.log");
        make(root.path(), &link, "");
        workloads.look_again();
        assert_eq!(names(&mut workloads, Some(ID), Some(UID)), some("proxy", "web", "shop"));
        // What is whole stays as it is when its files go.
        fs::remove_file(root.path().join(link)).unwrap();
        workloads.look_again();
        assert_eq!(names(&mut workloads, Some(ID), Some(UID)), some("proxy", "web", "shop"));
    }
}
