//! `cargo xtask bench scan`: a first scan and a check of the same tree by fim, AIDE and Samhain, in
//! turn, and what reading and hashing alone take; then a million files ([`many`]).

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use nix::sys::resource::UsageWho;

use crate::{
    bench::{results::median, sections},
    ebpf,
    setup::{self, Need},
    workspace::{Workspace, output, processor_time, say},
};

mod many;
mod peers;

use many::Many;

/// What to scan.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Files of the tree.
    #[arg(long, value_name = "COUNT", default_value_t = 50_000)]
    files: u64,
    /// Their mean size.
    #[arg(long, value_name = "BYTES", default_value_t = 13_700)]
    mean: u64,
    /// Rounds; in each, every program runs once.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: u32,
    /// Files of another tree, of which only the memory is looked at; 0: none.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    many: u64,
}

/// The best first scan and check of a peer are to be reached so many times.
const GOALS: [f64; 2] = [6.0, 100.0];
/// What runs in each round.
const RUNS: [Run; 9] = [
    Run { program: "fim", what: What::First, title: "`fim baseline create`" },
    Run { program: "fim", what: What::Check, title: "`fim check`" },
    Run { program: "fim", what: What::Deep, title: "`fim check --deep`" },
    Run { program: "aide", what: What::First, title: "`aide --init`" },
    Run { program: "aide", what: What::Check, title: "`aide --check`" },
    Run { program: "samhain", what: What::First, title: "`samhain -t init`" },
    Run { program: "samhain", what: What::Check, title: "`samhain -t check`" },
    Run { program: "limit", what: What::Check, title: "limit: list and stat only" },
    Run { program: "limit", what: What::First, title: "limit: list, read, `sha256sum`" },
];

#[derive(Clone, Copy, PartialEq, Eq)]
struct Run {
    program: &'static str,
    what: What,
    title: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    First,
    Check,
    Deep,
}

/// What one run took.
#[derive(Clone, Copy, Default)]
struct Took {
    wall: f64,
    cpu: f64,
    /// Peak of the resident memory, in bytes.
    resident: u64,
}

/// Measures, and writes the section.
pub(crate) fn bench(ws: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(ws, &[Need::Scanners])?;
    let fim = ebpf::build(ws, true)?;
    // In memory: what is compared is programs, not disks.
    let base = PathBuf::from(format!("/dev/shm/fim-bench-scan-{}", std::process::id()));
    let measured = measure(options, &fim, &base);
    let measured = measured.inspect_err(|_| drop(fs::remove_dir_all(&base)))?;
    fs::remove_dir_all(base.join("tree")).ok();
    let many = (options.many > 0).then(|| many::measure(options.many, &fim, &base));
    fs::remove_dir_all(&base).ok();
    let section = section(options, &measured, many.transpose()?.as_ref())?;
    sections::write(ws, "scan", &section)
}

fn measure(options: &Options, fim: &Path, base: &Path) -> Result<Vec<(Run, Vec<Took>)>> {
    let tree = base.join("tree");
    fs::create_dir_all(&tree).with_context(|| format!("creating {}", tree.display()))?;
    say(format!("bench: making {} files", options.files));
    grow(&tree, options.files, options.mean)?;
    let mut all: Vec<(Run, Vec<Took>)> = RUNS.iter().map(|run| (*run, Vec::new())).collect();
    for round in 0..options.rounds {
        say(format!("bench: scan, round {} of {}", round + 1, options.rounds));
        for (run, took) in &mut all {
            took.push(one(*run, fim, base, &tree).with_context(|| run.title.to_owned())?);
        }
    }
    Ok(all)
}

/// The same tree each time: 100 files to a directory, sizes from a fiftieth to four times the mean.
fn grow(tree: &Path, files: u64, mean: u64) -> Result<()> {
    const SIZES: [f64; 8] = [0.02, 0.08, 0.2, 0.4, 0.6, 1.0, 1.7, 4.0];
    let mut seed = 88_172_645_463_325_252_u64;
    let mut random = move || {
        // xorshift64 (Marsaglia 2003).
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let content: Vec<u8> = (0..1 << 20).map(|_| random() as u8).collect();
    let mut directory = PathBuf::new();
    for number in 0..files {
        if number % 100 == 0 {
            directory =
                tree.join(format!("part-{:03}/dir-{:02}", number / 2500, number / 100 % 25));
            fs::create_dir_all(&directory).context("creating a directory")?;
        }
        let share = SIZES[(random() % 8) as usize];
        let size = ((mean as f64 * share) as usize).min(content.len() / 2);
        let from = (random() % (1 << 19)) as usize;
        fs::write(directory.join(format!("file-{number:07}.dat")), &content[from..from + size])
            .context("writing a file")?;
    }
    Ok(())
}

fn one(run: Run, fim: &Path, base: &Path, tree: &Path) -> Result<Took> {
    let state = base.join("state");
    let mut command = match (run.program, run.what) {
        ("fim", what) => {
            let mut command = Command::new(fim);
            command.args(["--log", "warn"]);
            match what {
                What::First => {
                    fs::remove_dir_all(&state).ok();
                    command.args(["baseline", "create"]);
                }
                What::Check => drop(command.arg("check")),
                What::Deep => drop(command.args(["check", "--deep"])),
            }
            command.arg("--watch").arg(tree).arg("--state-dir").arg(&state);
            command
        }
        ("aide", what) => peers::aide(base, tree, what)?,
        ("samhain", what) => peers::samhain(base, tree, what)?,
        (_, What::First) => {
            let mut command = Command::new("sh");
            let script = "find \"$0\" -type f -print0 | xargs -0 -P \"$(nproc)\" -n 500 sha256sum";
            command.args(["-c", script]).arg(tree);
            command
        }
        (_, _) => return Ok(stat_all(tree)),
    };
    spend(&mut command)
}

/// Lists and stats everything with a thread for each core: std's read_dir(3) and statx(2) relative to
/// the directory.
fn stat_all(tree: &Path) -> Took {
    fn below(directory: &Path) -> u64 {
        let mut count = 0;
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            count += 1;
            if entry.metadata().is_ok_and(|metadata| metadata.is_dir()) {
                count += below(&entry.path());
            }
        }
        count
    }
    let before = used(UsageWho::RUSAGE_SELF);
    let start = Instant::now();
    let parts: Vec<PathBuf> =
        fs::read_dir(tree).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|threads| {
        for core in 0..cores {
            let mine = parts.iter().skip(core).step_by(cores);
            threads.spawn(move || mine.map(|part| below(part)).sum::<u64>());
        }
    });
    let wall = start.elapsed().as_secs_f64();
    Took { wall, cpu: used(UsageWho::RUSAGE_SELF) - before, resident: 0 }
}

/// Runs a program to its end. Its output is not looked at; it has to end with 0.
fn spend(command: &mut Command) -> Result<Took> {
    let before = used(UsageWho::RUSAGE_CHILDREN);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("it cannot be started")?;
    let mut resident = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // The peak that the kernel keeps; it goes with the process.
        resident = number(child.id(), "VmHWM:").unwrap_or(resident).max(resident);
        thread::sleep(Duration::from_millis(2));
    };
    let wall = start.elapsed().as_secs_f64();
    if !status.success() {
        let mut text = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut text).ok();
        }
        bail!("it ended with {status}: {text}");
    }
    Ok(Took { wall, cpu: used(UsageWho::RUSAGE_CHILDREN) - before, resident })
}

/// A number of bytes in `/proc/PID/status`.
fn number(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}

/// Processor time in seconds.
fn used(who: UsageWho) -> f64 {
    processor_time(who).map_or(0.0, |time| time.as_secs_f64())
}

fn section(
    options: &Options,
    measured: &[(Run, Vec<Took>)],
    many: Option<&Many>,
) -> Result<String> {
    let Options { files, mean, rounds, .. } = *options;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = output(Command::new("uname").arg("-r"))?;
    let mut text = format!(
        "## Scans: Linux {}\n\n{files} files of {mean} bytes in the mean, in memory (tmpfs), {cores} \
         processors, medians of {rounds} rounds; in each, every program ran once. SHA-256 in each. \
         AIDE and Samhain are Debian's; AIDE with a worker for each processor, and both with the \
         properties that fim keeps, as far as they know them. \
         The machine is shared: the time by the clock is longer than on one of one's own, for all of \
         them, so the processor time stands beside it. `cargo xtask bench scan` writes this part \
         alone.\n\n\
         | run | files a second | s | CPU s | CPU µs a file | peak memory, MB |\n|---|---|---|---|---|---|\n",
        kernel.trim(),
    );
    let of = |program: &str, what: What, figure: fn(&Took) -> f64| {
        let (_, took) =
            measured.iter().find(|(run, _)| run.program == program && run.what == what)?;
        median(took.iter().map(figure).collect())
    };
    for (run, took) in measured {
        ensure!(!took.is_empty(), "{} was not run", run.title);
        let wall = of(run.program, run.what, |took| took.wall).unwrap_or(f64::NAN);
        let cpu = of(run.program, run.what, |took| took.cpu).unwrap_or(f64::NAN);
        let peak = took.iter().map(|took| took.resident).max().unwrap_or(0);
        let peak = if peak == 0 { "–".into() } else { format!("{:.0}", peak as f64 / 1e6) };
        writeln!(
            text,
            "| {} | {:.0} | {wall:.2} | {cpu:.2} | {:.1} | {peak} |",
            run.title,
            files as f64 / wall,
            cpu * 1e6 / files as f64,
        )?;
    }
    text.push_str(
        "\n| quantity | target | by the clock | by processor time |  |\n|---|---|---|---|---|\n",
    );
    let times = [
        ("first scan: times the rate of", What::First),
        ("check of what is unchanged: times the rate of", What::Check),
    ];
    for (program, name) in [("aide", "AIDE"), ("samhain", "Samhain")] {
        for ((what, kind), goal) in times.into_iter().zip(GOALS) {
            let ratio = |figure| Some(of(program, kind, figure)? / of("fim", kind, figure)?);
            let clock = ratio(|took: &Took| took.wall).unwrap_or(f64::NAN);
            let cpu = ratio(|took: &Took| took.cpu).unwrap_or(f64::NAN);
            let (target, verdict) = match program {
                "aide" => {
                    (format!("≥ {goal:.0}"), if clock >= goal { "reached" } else { "not reached" })
                }
                _ => ("–".to_owned(), "beside it"),
            };
            writeln!(text, "| {what} {name} | {target} | {clock:.1} | {cpu:.1} | {verdict} |")?;
        }
    }
    text.push_str(
        "\nThe limits: listing and stat(2) alone, with a thread for each processor, is what a check \
         cannot be faster than; reading and `sha256sum` of everything is what a first scan is \
         compared with. `fim check` reads no content where size, times and inode are as they were; \
         `--deep` does.\n",
    );
    if let Some(many) = many {
        text.push_str(&many.section());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_says_what_was_measured() {
        let took = |wall| Took { wall, cpu: wall, resident: 10_000_000 };
        let measured: Vec<_> = RUNS
            .iter()
            .map(|run| match run.program {
                "aide" | "samhain" => (*run, vec![took(12.0), took(11.0), took(13.0)]),
                _ => (*run, vec![took(1.0), took(9.0), took(1.0)]),
            })
            .collect();
        let options = Options { files: 1000, mean: 1, rounds: 3, many: 0 };
        let text = section(&options, &measured, None).unwrap();
        for line in [
            "| `aide --init` | 83 | 12.00 | 12.00 | 12000.0 | 10 |",
            "| first scan: times the rate of AIDE | ≥ 6 | 12.0 | 12.0 | reached |",
            "| check of what is unchanged: times the rate of AIDE | ≥ 100 | 12.0 | 12.0 | not reached |",
        ] {
            assert!(text.contains(&format!("{line}\n")), "no {line} in\n{text}");
        }
    }
}
