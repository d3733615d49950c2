//! Brings a machine to where everything can be built and tested.
//!
//! What is needed is a list of items, each with a probe that costs milliseconds. Only what a probe
//! misses is installed, so a second run does nothing.

mod apt;
mod tools;

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{
    arm64, cross,
    kernels::{self, Kernel},
    setup::apt::Distribution,
    toolchain::{self, BpfToolchain, LLVM_MAJOR},
    vm, windows,
    workspace::{Workspace, output, probe, say, which},
};

pub(crate) use apt::{Apt, Mirrors};
pub(crate) use tools::llvm_prefix;

/// Something that a task cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Building the BPF object and the agent.
    Build,
    /// The linters.
    Lint,
    /// Virtual machines, without a kernel.
    Vm,
    /// The monitors that the benchmark compares with.
    Peers,
    /// The scanners that its part about scans compares with.
    Scanners,
    /// Compiling for arm64.
    Arm64,
    /// Compiling for Windows, and running that under Wine.
    Windows,
    /// A browser, for the report.
    Browser,
    /// Programs that sinks send to.
    Receivers,
    /// Making the Debian package.
    Package,
    /// Trying out what is delivered.
    Deploy,
    /// Editors and tools that replace files.
    Editors,
    /// A kernel to boot in one.
    Kernel(&'static Kernel),
}

/// One thing to have, and what to say to a person who has to get it by hand.
struct Item {
    what: String,
    why: &'static str,
    how: String,
    present: bool,
    fix: Fix,
}

/// How an item is brought in where this program can do it.
enum Fix {
    /// Debian packages, all from one suite.
    Packages(&'static [&'static str], Suite),
    /// A Rust program below `target/tools`.
    Tool(tools::Tool),
    /// A test kernel below `target/kernels`.
    Kernel(&'static Kernel),
    /// A program of Python's below `target/tools`.
    KubernetesValidate,
    /// Nothing that this program should do by itself.
    ByHand,
}

/// Where Debian packages come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    Release,
    Backports,
}

/// Makes sure that what the tasks need is there, installing what is missing.
pub(crate) fn ensure(ws: &Workspace, needs: &[Need]) -> Result<()> {
    if missing(ws, needs).is_empty() {
        return Ok(());
    }
    // Two runs at once would fetch the same things into the same places. The second one waits, and
    // then finds less to do.
    let _lock = lock(ws)?;
    let missing = missing(ws, needs);
    for item in &missing {
        say(format!("missing: {} ({})", item.what, item.why));
    }
    if missing.is_empty() {
        return Ok(());
    }
    for error in install(ws, &missing) {
        say(format!("setup: {error:#}"));
    }
    let missing = self::missing(ws, needs);
    if missing.is_empty() {
        return Ok(());
    }
    let mut text = String::from("this machine still lacks something that is needed:\n");
    for item in &missing {
        text.push_str(&format!("  {}\n    why: {}\n    how: {}\n", item.what, item.why, item.how));
    }
    bail!("{}", text.trim_end())
}

/// Waits until no other run installs anything; the lock is released when the file is closed.
fn lock(ws: &Workspace) -> Result<File> {
    let path = ws.target.join("setup.lock");
    let open = || {
        fs::create_dir_all(&ws.target)?;
        // Reading is enough for a lock, also where another user made the file.
        let file = File::open(&path).or_else(|_| File::create(&path))?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    };
    open().with_context(|| format!("locking {}", path.display()))
}

fn missing(ws: &Workspace, needs: &[Need]) -> Vec<Item> {
    let mut items = items(ws, needs);
    items.retain(|item| !item.present);
    items
}

/// Installs what it can; gives what went wrong.
fn install(ws: &Workspace, missing: &[Item]) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    // Packages first: the tools are built with them.
    errors.extend(install_packages(ws, missing).err());
    for item in missing {
        let result = match item.fix {
            Fix::Tool(tool) => tools::install(ws, tool),
            Fix::Kernel(kernel) => kernels::fetch(ws, kernel),
            Fix::KubernetesValidate => tools::install_kubernetes_validate(ws),
            Fix::Packages(..) | Fix::ByHand => Ok(()),
        };
        errors.extend(result.err());
    }
    errors
}

fn install_packages(ws: &Workspace, missing: &[Item]) -> Result<()> {
    let packages = |from: Suite| -> Vec<&str> {
        let mut names = Vec::new();
        for item in missing {
            if let Fix::Packages(packages, source) = &item.fix
                && *source == from
            {
                names.extend_from_slice(packages);
            }
        }
        names
    };
    let (release, backports) = (packages(Suite::Release), packages(Suite::Backports));
    if release.is_empty() && backports.is_empty() {
        return Ok(());
    }
    let distribution = Distribution::read();
    if !distribution.is_bookworm() {
        bail!("packages are installed on Debian 12 only, this is {}", distribution.name);
    }
    if !is_root() {
        bail!("installing packages needs root");
    }
    Apt::for_install(ws, &Mirrors::read())?.install(&release, &backports)
}

fn is_root() -> bool {
    probe("id", &["-u"]).is_some_and(|uid| uid.trim() == "0")
}

fn items(ws: &Workspace, needs: &[Need]) -> Vec<Item> {
    let mut items = Vec::new();
    // Every task builds something.
    items.push(compiler());
    if needs.contains(&Need::Build) || needs.contains(&Need::Lint) {
        items.push(bpf_toolchain());
    }
    if needs.contains(&Need::Build) {
        items.extend(bpf_linker(ws));
        items.extend(librdkafka());
    }
    if needs.contains(&Need::Lint) {
        items.extend(lint_tools(ws));
    }
    if needs.contains(&Need::Vm) {
        items.push(program("rpmbuild", &["rpm"], "unit tests read a database that rpm has made"));
        items.extend(vm_tools());
    }
    if needs.contains(&Need::Browser) {
        items.push(program("chromium", &["chromium"], "shows the report in the tests"));
    }
    if needs.contains(&Need::Package) {
        items.push(Item {
            what: format!("cargo-deb {}", tools::CARGO_DEB.version),
            why: "makes the Debian package",
            how: format!("cargo install cargo-deb --version {}", tools::CARGO_DEB.version),
            present: tools::CARGO_DEB.installed(ws),
            fix: Fix::Tool(tools::CARGO_DEB),
        });
    }
    if needs.contains(&Need::Deploy) {
        items.extend(deploy_tools(ws));
    }
    if needs.contains(&Need::Receivers) {
        items.extend(receivers());
    }
    if needs.contains(&Need::Editors) {
        let why = "replaces files in the tests";
        items.extend([
            program("vim", &["vim"], why),
            program("nano", &["nano"], why),
            program("emacs", &["emacs-nox"], why),
            program("rsync", &["rsync"], why),
            program("git", &["git"], why),
            program("rpmbuild", &["rpm"], why),
            program("dnf", &["dnf"], why),
            program("createrepo_c", &["createrepo-c"], why),
        ]);
    }
    if needs.contains(&Need::Peers) {
        let why = "`cargo xtask bench` compares with it";
        items.extend([
            program("auditd", &["auditd"], why),
            program("fatrace", &["fatrace"], why),
            program("inotifywait", &["inotify-tools"], why),
        ]);
    }
    if needs.contains(&Need::Scanners) {
        let why = "`cargo xtask bench scan` compares with it";
        items.extend([program("aide", &["aide"], why), program("samhain", &["samhain"], why)]);
    }
    if needs.contains(&Need::Arm64) {
        items.extend(arm64_tools());
    }
    if needs.contains(&Need::Windows) {
        items.extend(windows_tools());
    }
    for need in needs {
        if let Need::Kernel(kernel) = need {
            items.extend(kernel_items(ws, kernel));
        }
    }
    items
}

fn compiler() -> Item {
    // crt1.o is what a compiler without the C library's development files lacks.
    let linkable = probe("cc", &["-print-file-name=crt1.o"])
        .is_some_and(|path| path.trim_start().starts_with('/'));
    Item {
        what: "a C compiler and the C library's development files".into(),
        why: "cargo links through cc, and some crates compile C",
        how: "Debian and Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc".into(),
        present: linkable,
        fix: Fix::Packages(&["gcc", "libc6-dev"], Suite::Release),
    }
}

fn bpf_toolchain() -> Item {
    Item {
        what: "a Rust compiler for the BPF target".into(),
        why: "the kernel side is Rust, compiled for bpfel-unknown-none",
        how: format!(
            "rustup toolchain install nightly --component rust-src (with LLVM {LLVM_MAJOR} or \
             older, see `rustc +nightly -vV`), or on Debian 12: apt-get install rustc-web \
             libstd-rust-web-dev-bpf"
        ),
        present: BpfToolchain::find().is_some(),
        fix: Fix::Packages(&["rustc-web", "libstd-rust-web-dev-bpf"], Suite::Release),
    }
}

/// What librdkafka is compiled with, which the sinks for Kafka are made of.
fn librdkafka() -> Vec<Item> {
    let why = "the sinks for Kafka compile librdkafka";
    vec![
        program("make", &["make"], why),
        program("pkg-config", &["pkg-config"], why),
        Item {
            what: "OpenSSL's development files, with its static library".into(),
            why,
            how: "Debian and Ubuntu: apt-get install libssl-dev".into(),
            present: probe("cc", &["-print-file-name=libcrypto.a"])
                .is_some_and(|path| path.trim_start().starts_with('/')),
            fix: Fix::Packages(&["libssl-dev"], Suite::Release),
        },
    ]
}

fn bpf_linker(ws: &Workspace) -> Vec<Item> {
    let linker = Item {
        what: format!("bpf-linker {}", tools::BPF_LINKER.version),
        why: "links the BPF object",
        how: format!(
            "cargo install bpf-linker --version {} with LLVM {LLVM_MAJOR} installed, see \
             xtask/src/setup/tools.rs",
            tools::BPF_LINKER.version
        ),
        present: tools::BPF_LINKER.installed(ws) || toolchain::linker(ws).is_some(),
        fix: Fix::Tool(tools::BPF_LINKER),
    };
    // libLLVM is needed at run time as well.
    let llvm = Item {
        what: format!("LLVM {LLVM_MAJOR} with its development files"),
        why: "bpf-linker is built with it",
        how: format!("Debian 12: apt-get install llvm-{LLVM_MAJOR}-dev; or https://apt.llvm.org"),
        present: linker.present || llvm_prefix().is_some(),
        fix: Fix::Packages(&["llvm-22-dev"], Suite::Release),
    };
    vec![llvm, linker]
}

fn lint_tools(ws: &Workspace) -> Vec<Item> {
    let component = |name: &'static str, program: &str| Item {
        what: format!("cargo {name}"),
        why: "part of `cargo xtask lint`",
        how: format!("rustup component add {name}"),
        present: output(ws.cargo().args([program, "--version"])).is_ok(),
        fix: Fix::ByHand,
    };
    vec![
        component("rustfmt", "fmt"),
        component("clippy", "clippy"),
        Item {
            what: "clippy for the BPF toolchain".into(),
            why: "part of `cargo xtask lint`",
            how: "rustup component add clippy --toolchain nightly; or with Debian 12's rustc-web: \
                  apt-get install rust-web-clippy"
                .into(),
            present: toolchain::has_clippy(),
            fix: Fix::Packages(&["rust-web-clippy"], Suite::Release),
        },
        program("git", &["git"], "says which files are the repository's"),
        Item {
            what: format!("cargo-deny {}", tools::CARGO_DENY.version),
            why: "checks licences and sources of the dependencies",
            how: format!("cargo install cargo-deny --version {}", tools::CARGO_DENY.version),
            present: tools::CARGO_DENY.installed(ws),
            fix: Fix::Tool(tools::CARGO_DENY),
        },
    ]
}

/// A program that is the Debian package's of the same or another name.
fn program(name: &'static str, package: &'static [&'static str], why: &'static str) -> Item {
    Item {
        what: name.into(),
        why,
        how: format!("install the package {}", package.join(" ")),
        present: which(name).is_some(),
        fix: Fix::Packages(package, Suite::Release),
    }
}

fn vm_tools() -> Vec<Item> {
    let shipped = "is shipped to the test machines, whose busybox has none";
    vec![
        Item {
            what: "QEMU for x86-64, newer than 7.2".into(),
            why: "boots the test kernels; 7.2 panics guests of two CPUs under load",
            how: "Debian 12: apt-get install --no-install-recommends -t bookworm-backports \
                  qemu-system-x86; elsewhere the distribution's qemu-system-x86"
                .into(),
            present: vm::qemu_version().is_some_and(|version| version > (7, 2)),
            fix: Fix::Packages(&["qemu-system-x86"], Suite::Backports),
        },
        Item {
            what: "a static busybox".into(),
            why: "is the userland of the test machines",
            how: "Debian and Ubuntu: apt-get install busybox-static; Fedora: dnf install busybox"
                .into(),
            present: vm::busybox().is_some(),
            fix: Fix::Packages(&["busybox-static"], Suite::Release),
        },
        program("mkfs.ext4", &["e2fsprogs"], shipped),
        program("mkfs.xfs", &["xfsprogs"], shipped),
        program("btrfs", &["btrfs-progs"], shipped),
        program("setfacl", &["acl"], shipped),
        program("setfattr", &["attr"], shipped),
    ]
}

fn deploy_tools(ws: &Workspace) -> Vec<Item> {
    let why = "the stage `deploy` tries out what is delivered";
    vec![
        program("mmdebstrap", &["mmdebstrap"], why),
        program("dockerd", &["docker.io"], why),
        program("docker-compose", &["docker-compose"], why),
        program("prometheus", &["prometheus"], why),
        program("curl", &["curl"], why),
        program("systemd-analyze", &["systemd"], "checks the unit of the package"),
        program("openssl", &["openssl"], why),
        program("jq", &["jq"], "commands of the documentation are run"),
        Item {
            what: "Python's venv".into(),
            why: "a program of Python's is installed with it",
            how: "Debian and Ubuntu: apt-get install python3-venv".into(),
            present: Path::new("/usr/share/python-wheels").is_dir(),
            fix: Fix::Packages(&["python3-venv"], Suite::Release),
        },
        Item {
            what: format!("kubernetes-validate {}", tools::KUBERNETES_VALIDATE),
            why: "has Kubernetes' schemas, which the manifests have to fit",
            how: format!("pip install kubernetes-validate=={}", tools::KUBERNETES_VALIDATE),
            present: tools::has_kubernetes_validate(ws),
            fix: Fix::KubernetesValidate,
        },
    ]
}

fn library_sources() -> Item {
    Item {
        what: "the sources of Debian's Rust library".into(),
        why: "the library for arm64 and for Windows is built from them",
        how: "Debian 12: apt-get install rustc-web rust-web-src".into(),
        present: cross::has_sources(),
        fix: Fix::Packages(&["rustc-web", "rust-web-src"], Suite::Release),
    }
}

fn windows_tools() -> Vec<Item> {
    vec![
        library_sources(),
        Item {
            what: "clippy of Debian's Rust compiler".into(),
            why: "checks what is compiled for Windows only",
            how: "Debian 12: apt-get install rust-web-clippy".into(),
            present: cross::has_clippy(),
            fix: Fix::Packages(&["rust-web-clippy"], Suite::Release),
        },
        Item {
            what: "a C compiler for Windows, mingw-w64".into(),
            why: "links, and compiles SQLite; the -win32 flavour needs no library at run time",
            how: "Debian and Ubuntu: apt-get install gcc-mingw-w64-x86-64-win32".into(),
            present: windows::has_c(),
            fix: Fix::Packages(
                &["gcc-mingw-w64-x86-64-win32", "mingw-w64-x86-64-dev"],
                Suite::Release,
            ),
        },
        Item {
            what: "Wine, 64 bit".into(),
            why: "runs the tests for Windows",
            how: "Debian and Ubuntu: apt-get install --no-install-recommends wine64".into(),
            present: windows::has_wine(),
            fix: Fix::Packages(&["wine64"], Suite::Release),
        },
    ]
}

fn receivers() -> Vec<Item> {
    let why = "the tests of sinks send events to it";
    let gtls = ["x86_64", "aarch64"]
        .map(|arch| format!("/usr/lib/{arch}-linux-gnu/rsyslog/lmnsd_gtls.so"))
        .iter()
        .any(|path| Path::new(path).exists());
    vec![
        program("curl", &["curl"], "commands of the documentation are run"),
        program("rsyslogd", &["rsyslog"], why),
        Item {
            what: "rsyslog's TLS".into(),
            why,
            how: "Debian and Ubuntu: apt-get install rsyslog-gnutls".into(),
            present: gtls,
            fix: Fix::Packages(&["rsyslog-gnutls"], Suite::Release),
        },
        program("openssl", &["openssl"], "makes the certificates of these tests"),
        program("nginx", &["nginx-light"], why),
        program(
            "java",
            &["openjdk-17-jre-headless"],
            "OpenSearch and Kafka, which they send to, are Java",
        ),
        program("javac", &["openjdk-17-jdk-headless"], "compiles what starts these"),
        program("mvn", &["maven"], "fetches what these are made of"),
        Item {
            what: "pip".into(),
            why: "fetches the OpenTelemetry collector of these tests",
            how: "Debian and Ubuntu: apt-get install python3-pip".into(),
            present: probe("python3", &["-m", "pip", "--version"]).is_some(),
            fix: Fix::Packages(&["python3-pip"], Suite::Release),
        },
    ]
}

fn arm64_tools() -> Vec<Item> {
    vec![
        library_sources(),
        Item {
            what: "a C compiler for arm64".into(),
            why: "some dependencies compile C",
            how: "Debian and Ubuntu: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
                .into(),
            present: arm64::has_c(),
            fix: Fix::Packages(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"], Suite::Release),
        },
    ]
}

fn kernel_items(ws: &Workspace, kernel: &'static Kernel) -> Vec<Item> {
    let why = "unpacks and indexes a test kernel's modules";
    vec![
        program("depmod", &["kmod"], why),
        program("xz", &["xz-utils"], why),
        program("zstd", &["zstd"], why),
        Item {
            what: format!("test kernel {}", kernel.name),
            why: "the virtual machine boots it",
            how: format!(
                "on Debian: cargo xtask setup --kernel {}; elsewhere unpack Debian's package of \
                 it ({}, suite {}) so that {} has `release` (a text file with the release), \
                 `vmlinuz` and `lib/modules/<release>` with modules.dep",
                kernel.name,
                kernel.pattern(),
                kernel.suite,
                kernel.dir(ws).display(),
            ),
            present: kernel.installed(ws).is_some(),
            fix: Fix::Kernel(kernel),
        },
    ]
}
