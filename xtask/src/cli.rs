//! The command line.

use std::{
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    bench, btf,
    conformance::{self, Options},
    deploy, dist, ebpf,
    kernels::{self, Kernel},
    lint,
    setup::{self, Need},
    test,
    vm::{self, GuestFile, Lsm, VmEnd, VmSpec},
    windows,
    workspace::{Workspace, is_executable, say},
};

/// Development tasks of fim.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what building and testing needs (Debian 12 as root; elsewhere say what is missing).
    Setup {
        /// Fetch this test kernel as well: 5.10, 6.1, 6.12, 6.18, 7.x, or a Debian suite.
        #[arg(long = "kernel", value_name = "NAME", value_parser = Kernel::named)]
        kernels: Vec<&'static Kernel>,
    },
    /// Build the BPF object and the agent.
    Build {
        /// With optimisation.
        #[arg(long)]
        release: bool,
    },
    /// Build what is delivered into target/dist: a static program, its manual pages, a package.
    Dist {
        /// Pack a Debian package as well.
        #[arg(long)]
        deb: bool,
        /// Its Debian revision.
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        revision: u32,
        /// Without optimisation, which takes much less time.
        #[arg(long)]
        debug: bool,
    },
    /// Make deploy/kubernetes/fim.yaml from the chart, with `helm`.
    Manifests,
    /// Build for release and run `fim run` in the foreground.
    Run {
        /// Arguments of `fim run`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Boot a Debian kernel in QEMU with the agent at /usr/bin/fim: a shell, or one command.
    Vm(VmArgs),
    /// Cut the type information that the agent's tests resolve out of Debian kernels.
    BtfFixture {
        /// Only for this kernel: 5.10, 6.1, 6.12, 6.18, 7.x, or a Debian suite. May be repeated.
        #[arg(long = "kernel", value_name = "NAME", value_parser = Kernel::named)]
        kernels: Vec<&'static Kernel>,
    },
    /// See what comes of each operation on each file system, and write docs/conformance.md.
    Conformance(Options),
    /// Measure what watching costs, beside other monitors, and write docs/benchmarks.md.
    Bench(bench::Options),
    /// Run one workload of the benchmark, and say what it did.
    #[command(hide = true)]
    BenchLoad { name: String, dir: PathBuf, scale: f64 },
    /// Measure in this place, and leave the results in a file.
    #[command(hide = true)]
    BenchMeasure {
        #[command(flatten)]
        plan: bench::Plan,
        #[arg(long)]
        out: PathBuf,
    },
    /// Build, check and test the agent for Windows, cross-compiled, under Wine.
    #[command(subcommand)]
    Windows(windows::Task),
    /// Run all static checks: rustfmt, clippy, dependencies, tidy.
    Lint {
        /// Check the dependencies for known vulnerabilities as well (needs GitHub).
        #[arg(long)]
        advisories: bool,
    },
    /// Run everything that must hold before a change lands, stage by stage.
    #[command(after_help = test::stages_help())]
    Test {
        /// Run these stages only, and what they need; `e2e` is all that begin so.
        #[arg(long, value_name = "NAME", num_args = 1.., value_parser = test::named)]
        only: Vec<String>,
        /// Arguments for the end-to-end test program (a filter, `--nocapture`).
        #[arg(last = true)]
        args: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct VmArgs {
    /// The kernel: 5.10, 6.1, 6.12, 6.18, 7.x, or a Debian suite. Fetched when it is not there.
    #[arg(long, value_name = "NAME", value_parser = Kernel::named, default_value = kernels::DEFAULT)]
    kernel: &'static Kernel,
    /// Boot with `bpf` in the kernel's list of security modules.
    #[arg(long)]
    lsm_bpf: bool,
    /// Boot with the kernel's list of security modules less `bpf`.
    #[arg(long, conflicts_with = "lsm_bpf")]
    no_lsm_bpf: bool,
    /// More arguments for the kernel's command line.
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Load this kernel module, with what it depends on. May be repeated.
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// Ship a file or directory: HOST, or HOST:GUEST. Programs bring their libraries along. A bare
    /// HOST goes to /usr/bin when it is executable, else to /opt. May be repeated.
    #[arg(long = "copy", value_name = "HOST[:GUEST]")]
    copies: Vec<String>,
    /// Bring what the command leaves in /out to this directory.
    #[arg(long, value_name = "DIR", requires = "command")]
    out: Option<PathBuf>,
    /// End the machine after this many seconds; only with a command.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// Memory of the machine.
    #[arg(long, value_name = "MB", default_value_t = 2048)]
    memory: u32,
    /// Processors of the machine.
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    cpus: u32,
    /// Print what the kernel wrote to its console as well (on standard error, at the end).
    #[arg(long)]
    console: bool,
    /// Ship a debug build of the agent instead of a release build.
    #[arg(long)]
    debug: bool,
    /// Do not build the agent, and ship none.
    #[arg(long, conflicts_with = "debug")]
    no_fim: bool,
    /// The command: one argument is a shell script, several are a program and its arguments. Its
    /// exit code is ours; 124 at the time limit, 125 when the machine failed.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs the task that the arguments name.
pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().task {
        // These run in machines too, where there is no workspace.
        Task::BenchLoad { name, dir, scale } => {
            bench::load(&name, &dir, scale).map(|()| ExitCode::SUCCESS)
        }
        Task::BenchMeasure { plan, out } => bench::measure(&plan, &out).map(|()| ExitCode::SUCCESS),
        task => Workspace::find().and_then(|ws| dispatch(&ws, task)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether a command of a page, `NAME=VALUE cargo xtask …`, is one that there is.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parses(command: &str) -> Result<()> {
    let words = command.split_whitespace().skip_while(|word| word.contains('='));
    let words: Vec<&str> = words.collect();
    let Some(arguments) = words.strip_prefix(&["cargo", "xtask"]) else {
        anyhow::bail!("`{command}` is not of `cargo xtask` alone");
    };
    let all = std::iter::once(&"cargo xtask").chain(arguments);
    Cli::try_parse_from(all).map(drop).with_context(|| format!("`{command}`"))
}

fn dispatch(ws: &Workspace, task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup { kernels } => {
            let mut needs = vec![Need::Build, Need::Lint, Need::Vm];
            let default = Kernel::named(kernels::DEFAULT).map_err(anyhow::Error::msg)?;
            needs.push(Need::Kernel(default));
            needs.extend(kernels.into_iter().map(Need::Kernel));
            setup::ensure(ws, &needs)?;
            say("setup: everything is there");
        }
        Task::Build { release } => {
            let fim = ebpf::build(ws, release)?;
            say(format!("agent: {}", fim.display()));
        }
        Task::Dist { deb, revision, debug } => {
            dist::program(ws, !debug)?;
            if deb {
                dist::deb(ws, revision)?;
            }
        }
        Task::Manifests => deploy::manifests(ws)?,
        Task::Run { args } => {
            let fim = ebpf::build(ws, true)?;
            // Replacing this process gives the agent its terminal, its signals and its exit code.
            let error = Command::new(&fim).arg("run").args(args).exec();
            return Err(error).with_context(|| format!("cannot start {}", fim.display()));
        }
        Task::Vm(args) => return vm(ws, args),
        Task::BtfFixture { kernels } => {
            let every = || kernels::KERNELS.iter().collect();
            let kernels = if kernels.is_empty() { every() } else { kernels };
            for kernel in kernels {
                btf::write_fixture(ws, kernel)?;
            }
        }
        Task::Conformance(options) => conformance::conformance(ws, &options)?,
        Task::Bench(options) => bench::bench(ws, &options)?,
        // They need no workspace, and are run without one.
        Task::BenchLoad { .. } | Task::BenchMeasure { .. } => {}
        Task::Windows(task) => windows::run_task(ws, task)?,
        Task::Lint { advisories } => lint::lint(ws, advisories)?,
        Task::Test { only, args } => test::test(ws, &only, &args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn vm(ws: &Workspace, args: VmArgs) -> Result<ExitCode> {
    let mut spec = VmSpec::new(args.kernel);
    if !args.no_fim {
        let fim = ebpf::build(ws, !args.debug)?;
        spec.files.push(GuestFile::new(fim, "/usr/bin/fim"));
    }
    for copy in &args.copies {
        spec.files.push(parse_copy(copy)?);
    }
    spec.lsm = match (args.lsm_bpf, args.no_lsm_bpf) {
        (true, _) => Lsm::WithBpf,
        (_, true) => Lsm::WithoutBpf,
        _ => Lsm::Default,
    };
    spec.append = args.append;
    spec.modules = args.modules;
    spec.timeout = Duration::from_secs(args.timeout);
    spec.memory_mb = args.memory;
    spec.smp = args.cpus;
    spec.out_dir = args.out;
    spec.echo = true;
    spec.command = match args.command.as_slice() {
        [] => None,
        [script] => Some(script.clone()),
        words => Some(words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")),
    };
    let interactive = spec.command.is_none();
    let outcome = vm::run(ws, &spec)?;
    if args.console || !matches!(outcome.end, VmEnd::Exited(_)) {
        for line in outcome.console.lines() {
            eprintln!("console: {line}");
        }
    }
    if !interactive {
        say(format!("{} after {:.1} s", outcome.end, outcome.elapsed.as_secs_f64()));
    }
    if !outcome.files.is_empty() {
        say(format!("{} files came back", outcome.files.len()));
    }
    Ok(match outcome.end {
        VmEnd::Exited(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        // As timeout(1) has it.
        VmEnd::TimedOut => ExitCode::from(124),
        VmEnd::KernelPanic | VmEnd::Vanished => ExitCode::from(125),
    })
}

fn parse_copy(text: &str) -> Result<GuestFile> {
    if let Some((host, guest)) = text.split_once(':') {
        return Ok(GuestFile::new(host, guest));
    }
    let host = PathBuf::from(text);
    let name = host.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("`{text}` has no file name: say HOST:GUEST"))?;
    let dir = if is_executable(&host) { "/usr/bin" } else { "/opt" };
    let guest = format!("{dir}/{name}");
    Ok(GuestFile::new(host, guest))
}

/// A word as the shell reads it back unchanged.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn copies_name_their_place() {
        let copy = parse_copy("Cargo.toml:/etc/x").unwrap();
        assert_eq!((copy.host.to_str(), &*copy.guest), (Some("Cargo.toml"), "/etc/x"));
        assert_eq!(parse_copy("Cargo.toml").unwrap().guest, "/opt/Cargo.toml");
        assert_eq!(parse_copy("/bin/sh").unwrap().guest, "/usr/bin/sh");
        assert!(parse_copy("/").is_err());
    }
}
