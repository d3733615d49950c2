//! docs/benchmarks.md, from the figures alone.

use std::fmt::Write as _;

use crate::bench::{
    load::LOADS,
    results::{Delivery, Hook, Monitor, Results, Runs},
    targets::TARGETS,
};

const HEAD: &str = "\
# Benchmarks

<!-- Generated from a run. Do not edit: `cargo xtask bench` writes it anew. -->

What it costs others to be watched, and what is told of what they did. `cargo xtask bench` measures
it (as root, on Debian 12) and writes this page.

## How

- A workload does an exact number of operations in memory (tmpfs), and takes its own processor time
  with getrusage(2): user and system, of itself and of what it started.
- A **ratio** is that time with a monitor by that without any, in the same round; each figure is the
  median over the rounds. In each round every monitor runs once, and the order rotates. `none again`
  is a second run without any: what it is away from 1.00 is noise.
- `elsewhere`: the monitor watches an empty directory of the same file system. `here`: it watches the
  directory that the workload works in.
- fim runs as released, with its default settings except that it does not hash, with `--output none`
  and the journal; what it does once, such as reading the package databases, is over when the first
  workload begins. After each workload it is waited for until it has told of a file that was created
  after it. Due is one event for each file and directory created and deleted, and one for each file
  written to: the names in the journal are counted, each once. `not due` are those that an event names
  although nothing of the kind was done to them.
- The replay stands for the bpf backend natively: records as the programs make them, of 10,000 files
  that are each made, written and removed, go through the agent as fast as it takes them (`fim
  replay`). The files are there, so that their state is read. A second without loss on one core is a
  second of processor time of all its threads.
- fanotify is measured natively. bpf is measured in QEMU, in a machine of one processor whose clock
  counts instructions (`-icount shift=0`): one nanosecond there is one instruction.

";

const CAVEATS: &str = "\
## What these figures are not

- An emulated processor has no caches, no branch prediction and no costs of switching: instructions
  are what is compared. They repeat within a per cent or two; time on hardware is another matter.
- The machine of the native figures is shared. Processor time suffers less from that than time by
  the clock does, but it does: `none again` says how much.
- A workload that does nothing else is the worst case. A program that also computes pays less.
- The peers in the column \"peer\" of the targets were measured before, on other machines; those in
  the table of the native run, in the same run.
- auditd makes the workload wait rather than lose a record, which processor time does not show. What
  the kernel's audit thread uses is not in auditd's CPU.
- Of what fim takes for an event, some 5 µs of the 14 of a profiled replay are a floor: JSON of
  2,200 bytes that say who it was and what there was before and after (1.8), their SHA-256 in the
  journal's chain (1.2), write(2) (0.7), and the look at the object (1.5). Hence neither 3 µs nor
  300,000 records a second, which are 200,000 events, can be had with such events.
- What fanotify costs a workload is the kernel's price for queueing an event and waking who reads it:
  fatrace and inotifywait, in the same run, show it too.
";

/// The whole page.
pub(crate) fn render(native: Option<&Results>, guests: &[Results]) -> String {
    let mut page = String::from(HEAD);
    targets(&mut page, native, guests);
    workloads(&mut page);
    if let Some(results) = native {
        place(&mut page, "Native", results);
    }
    for results in guests {
        place(&mut page, "Emulated", results);
    }
    page.push_str(CAVEATS);
    page
}

fn line(page: &mut String, cells: &[String]) {
    page.push_str(&format!("| {} |\n", cells.join(" | ")));
}

fn header(page: &mut String, cells: &[&str]) {
    line(page, &cells.iter().map(ToString::to_string).collect::<Vec<_>>());
    page.push_str(&format!("|{}\n", "---|".repeat(cells.len())));
}

fn targets(page: &mut String, native: Option<&Results>, guests: &[Results]) {
    page.push_str("## Targets\n\nRatios, where there is no unit. Several kernels: the worst.\n\n");
    header(page, &["quantity", "peer", "target", "figure", ""]);
    for target in TARGETS {
        let figure = target.figure(native, guests);
        let cells = [
            target.what.into(),
            target.peer.into(),
            target.goal.limit(),
            figure.map_or("–".into(), |figure| target.goal.write(figure)),
            target.verdict(figure).text().into(),
        ];
        line(page, &cells);
    }
    page.push('\n');
}

fn workloads(page: &mut String) {
    page.push_str("## Workloads\n\n");
    header(page, &["name", "does"]);
    for load in LOADS {
        line(page, &[load.name.into(), load.about.into()]);
    }
    page.push('\n');
}

fn place(page: &mut String, title: &str, results: &Results) {
    let Results { kernel, backend, cores, rounds, scale, .. } = results;
    let _ = write!(
        page,
        "## {title}: {backend}, Linux {kernel}\n\n{cores} processor{}, {rounds} rounds, {:.0} % of \
         the full number of operations.\n\n",
        if *cores == 1 { "" } else { "s" },
        scale * 100.0
    );
    ratios(page, results);
    events(page, results);
    costs(page, results);
    hooks(page, &results.hooks);
    for note in &results.notes {
        page.push_str(&format!("Not measured: {}.\n\n", note.replace('\n', " ")));
    }
}

fn ratios(page: &mut String, results: &Results) {
    let monitors: Vec<_> =
        results.monitors().into_iter().filter(|monitor| *monitor != Monitor::None).collect();
    let titles = monitors.iter().map(|monitor| monitor.title());
    header(page, &["workload", "ns without"].into_iter().chain(titles).collect::<Vec<_>>());
    for load in LOADS {
        let mut cells = vec![load.name.to_string()];
        cells.push(number(results.nanoseconds(load.name, Monitor::None), 0));
        cells.extend(monitors.iter().map(|monitor| number(results.ratio(load.name, *monitor), 2)));
        line(page, &cells);
    }
    page.push('\n');
}

fn events(page: &mut String, results: &Results) {
    page.push_str("What fim told, watching here; all rounds together:\n\n");
    header(page, &["workload", "due", "delivered", "not due", "operations lost"]);
    for load in LOADS {
        if let Some(Delivery { due, delivered, not_due, lost }) = results.delivery(load.name) {
            let cells = [due, delivered, not_due, lost].map(|count| count.to_string());
            line(page, &[&[load.name.to_string()], &cells[..]].concat());
        }
    }
    page.push('\n');
}

fn costs(page: &mut String, results: &Results) {
    let cost = number(results.cpu_per_event("create_delete"), 1);
    page.push_str(&format!(
        "fim's own processor time for an event of create_delete: {cost} µs. Its resident memory with \
         10,000 watched files: {} MB, of which {:.1} are the ring, whose pages are mapped twice in a \
         row and count twice.",
        number(results.resident.map(|bytes| bytes as f64 / 1e6), 1),
        results.ring_resident as f64 / 1e6,
    ));
    if let (Some(cost), Some(rate)) = (results.replay_per_event(), results.replay_rate()) {
        page.push_str(&format!(
            " In a replay an event takes {cost:.1} µs, and one core keeps up with {rate:.0} records \
             a second."
        ));
    }
    if let Some(count) = results.ring_holds {
        page.push_str(&format!(" The default ring took {count} operations while it was stopped."));
    }
    page.push_str(
        "\n\nThe monitors' own processor time for an operation of the workload, in µs:\n\n",
    );
    let mut monitors = results.monitors();
    monitors.retain(|monitor| !matches!(monitor, Monitor::None | Monitor::NoneAgain));
    let titles = monitors.iter().map(|monitor| monitor.title());
    header(page, &std::iter::once("workload").chain(titles).collect::<Vec<_>>());
    for load in LOADS {
        let costs = monitors.iter().map(|m| number(results.cpu_per_operation(load.name, *m), 2));
        line(page, &std::iter::once(load.name.to_string()).chain(costs).collect::<Vec<_>>());
    }
    page.push('\n');
}

fn hooks(page: &mut String, hooks: &[Hook]) {
    if hooks.is_empty() {
        return;
    }
    page.push_str(
        "The programs in the kernel: the instructions that the verifier looked at to accept each, \
         and its mean run time in ns (`kernel.bpf_stats_enabled`) during each workload, watched; \
         in brackets how often it ran for an operation, what fim itself opens to tell of it included. \
         Left out is what ran less than once in 200 \
         operations.\n\n",
    );
    let loads = LOADS.iter().map(|load| load.name);
    header(page, &["hook", "is", "verified"].into_iter().chain(loads).collect::<Vec<_>>());
    for hook in hooks {
        let mut cells = vec![hook.name.clone(), hook.target.clone(), hook.verified.to_string()];
        for load in LOADS {
            let runs = hook.loads.iter().find(|runs| runs.load == load.name);
            let often = runs.filter(|runs| runs.runs * 200 >= runs.operations.max(1));
            cells.push(often.map_or(
                String::new(),
                |Runs { operations, runs, nanoseconds, .. }| {
                    let mean = *nanoseconds as f64 / *runs as f64;
                    format!("{mean:.0} ({:.2})", *runs as f64 / *operations as f64)
                },
            ));
        }
        line(page, &cells);
    }
    page.push('\n');
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        load::Done,
        results::{Replay, Sample, Told},
    };

    fn sample(round: u32, monitor: Monitor, load: &str, cpu_us: u64) -> Sample {
        let done =
            Done { operations: 100, created: 100, updated: 0, deleted: 100, cpu_us, wall_us: 1 };
        let here = monitor == Monitor::FimHere;
        let told = Told { events: 200, created: 100, deleted: 99, lost: 1, ..Told::default() };
        Sample {
            round,
            monitor,
            load: load.into(),
            done,
            monitor_cpu_us: here.then_some(500),
            told: here.then_some(told),
        }
    }

    fn results() -> Results {
        let mut samples = Vec::new();
        for (round, here) in [(0, 1100), (1, 1300), (2, 1200)] {
            samples.push(sample(round, Monitor::None, "create_delete", 1000));
            samples.push(sample(round, Monitor::FimHere, "create_delete", here));
            samples.push(sample(round, Monitor::FimElsewhere, "stat", 1));
        }
        Results {
            kernel: "6.1".into(),
            cores: 1,
            backend: "bpf".into(),
            scale: 0.1,
            rounds: 3,
            samples,
            resident: Some(20_000_000),
            ring_resident: 0,
            ring_holds: Some(24_999),
            hooks: vec![Hook {
                name: "unlink".into(),
                target: "exit of vfs_unlink".into(),
                verified: 812,
                loads: vec![Runs {
                    load: "create_delete".into(),
                    operations: 8,
                    runs: 4,
                    nanoseconds: 1000,
                }],
            }],
            replays: vec![Replay {
                records: 300,
                lost: 0,
                events: 200,
                processor_seconds: 0.001,
                seconds: 1.0,
            }],
            notes: vec!["auditd could not run".into()],
        }
    }

    #[test]
    fn the_page_says_what_the_figures_say() {
        let page = render(None, &[results()]);
        for line in [
            "| monitored create and delete | quark 2.77, auditd 2.83 | ≤ 1.20 | 1.20 | reached |",
            "| operations lost in all of these | auditd 0, quark 0 | ≤ 0 | 3 | not reached |",
            "| operations that the default ring holds | fact 291 | ≥ 25000 | 24999 | not reached |",
            "| unmonitored stat | auditd 1.52 | ≤ 1.01 | – | not measured |",
            "| create_delete | 10000 | 1.20 | – |",
            "| create_delete | 600 | 597 | 0 | 3 |",
            "| unlink | exit of vfs_unlink | 812 | 250 (0.50) |  |  |  |  |  |  |  |",
            "Not measured: auditd could not run.",
            "1 processor, 3 rounds, 10 % of the full number of operations.",
        ] {
            assert!(page.contains(&format!("{line}\n")), "no line {line}\nin\n{page}");
        }
        let replayed =
            "In a replay an event takes 5.0 µs, and one core keeps up with 300000 records";
        assert!(page.contains(replayed), "{page}");
        let mut lossy = results();
        lossy.replays[0].lost = 1;
        assert_eq!(lossy.replay_rate(), None);
        assert!(!page.contains("## Native"));
    }
}
