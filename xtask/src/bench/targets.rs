//! What is to be reached, and whether the figures do.

use crate::bench::{
    load::LOADS,
    results::{Delivery, Monitor, Results},
};

/// One line of the table.
pub(crate) struct Target {
    pub(crate) what: &'static str,
    /// What the best monitor that loses nothing was measured at before.
    pub(crate) peer: &'static str,
    pub(crate) goal: Goal,
    measure: fn(&Results) -> Option<f64>,
    place: Place,
}

/// Where it is measured: the bpf backend where its kernel runs, fanotify here.
#[derive(PartialEq, Eq)]
enum Place {
    Native,
    Guest,
}

/// A limit, and the digits and the unit that it is written with.
pub(crate) enum Goal {
    AtMost(f64, usize, &'static str),
    AtLeast(f64, usize, &'static str),
}

/// The verdict on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reached,
    NotReached,
    NotMeasured,
}

impl Verdict {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::NotReached => "not reached",
            Self::NotMeasured => "not measured",
        }
    }
}

const MEGABYTE: f64 = 1e6;

/// All of them, in the order of the page.
pub(crate) const TARGETS: &[Target] = &[
    guest("unmonitored pwrite", "auditd 1.29", Goal::ratio(1.01), |results| {
        results.ratio("write_storm", Monitor::FimElsewhere)
    }),
    guest("unmonitored stat", "auditd 1.52", Goal::ratio(1.01), |results| {
        results.ratio("stat", Monitor::FimElsewhere)
    }),
    guest("unmonitored open for reading", "quark 2.37", Goal::ratio(1.04), |results| {
        results.ratio("open_for_reading", Monitor::FimElsewhere)
    }),
    guest("unmonitored open for writing", "quark 2.49", Goal::ratio(1.08), |results| {
        results.ratio("open_for_writing", Monitor::FimElsewhere)
    }),
    guest("unmonitored create and delete", "auditd 1.10–1.17", Goal::ratio(1.05), |results| {
        results.ratio("create_delete", Monitor::FimElsewhere)
    }),
    guest("monitored write storm", "inotify 1.8–2.1, quark 10", Goal::ratio(1.02), |results| {
        results.ratio("write_storm", Monitor::FimHere)
    }),
    guest("monitored create and delete", "quark 2.77, auditd 2.83", Goal::ratio(1.20), |results| {
        results.ratio("create_delete", Monitor::FimHere)
    }),
    guest("monitored open, write, close", "auditd 6–8", Goal::ratio(1.40), |results| {
        results.ratio("open_write_close", Monitor::FimHere)
    }),
    guest("operations lost in all of these", "auditd 0, quark 0", Goal::none(), lost),
    guest(
        "operations that the default ring holds",
        "fact 291",
        Goal::AtLeast(25_000.0, 0, ""),
        |results| results.ring_holds.map(|count| count as f64),
    ),
    native("operations lost, fanotify", "", Goal::none(), lost),
    native(
        "agent's CPU for an event, without hashing",
        "auditd 38–48 µs",
        Goal::AtMost(3.0, 1, " µs"),
        Results::replay_per_event,
    ),
    native(
        "the same, fanotify, reading the kernel's queue included",
        "fatrace 17 µs an operation",
        Goal::AtMost(3.0, 1, " µs"),
        |results| results.cpu_per_event("create_delete"),
    ),
    native(
        "records a second without loss, one core",
        "auditd 22–30 k",
        Goal::AtLeast(300_000.0, 0, ""),
        Results::replay_rate,
    ),
    native(
        "resident memory with 10,000 watched files, without the ring, fanotify",
        "quark 18 MB, fact 49 MB",
        Goal::AtMost(25.0, 1, " MB"),
        resident,
    ),
    guest("the same, bpf", "", Goal::AtMost(25.0, 1, " MB"), resident),
    native("fanotify: monitored create and delete", "fatrace 1.32", Goal::ratio(1.35), |results| {
        results.ratio("create_delete", Monitor::FimHere)
    }),
    native("fanotify: open for reading outside", "fatrace 2.16", Goal::ratio(1.10), |results| {
        results.ratio("open_for_reading", Monitor::FimElsewhere)
    }),
];

const fn guest(
    what: &'static str,
    peer: &'static str,
    goal: Goal,
    measure: fn(&Results) -> Option<f64>,
) -> Target {
    Target { what, peer, goal, measure, place: Place::Guest }
}

const fn native(
    what: &'static str,
    peer: &'static str,
    goal: Goal,
    measure: fn(&Results) -> Option<f64>,
) -> Target {
    Target { what, peer, goal, measure, place: Place::Native }
}

/// Lost by the counters, or due and not delivered: whichever is more.
fn lost(results: &Results) -> Option<f64> {
    let mut sum = None;
    for load in LOADS {
        if let Some(Delivery { due, delivered, lost, .. }) = results.delivery(load.name) {
            *sum.get_or_insert(0.0) += lost.max(due - delivered) as f64;
        }
    }
    sum
}

fn resident(results: &Results) -> Option<f64> {
    let all = results.resident?;
    Some(all.saturating_sub(results.ring_resident) as f64 / MEGABYTE)
}

impl Target {
    /// The figure, with the worst of several machines.
    pub(crate) fn figure(&self, native: Option<&Results>, guests: &[Results]) -> Option<f64> {
        let places = match self.place {
            Place::Native => native.as_slice(),
            Place::Guest => &guests.iter().collect::<Vec<_>>(),
        };
        let figures = places.iter().filter_map(|results| (self.measure)(results));
        figures.reduce(|one, other| match self.goal {
            Goal::AtMost(..) => one.max(other),
            Goal::AtLeast(..) => one.min(other),
        })
    }

    pub(crate) fn verdict(&self, figure: Option<f64>) -> Verdict {
        match (figure, &self.goal) {
            (None, _) => Verdict::NotMeasured,
            (Some(figure), goal) if goal.reached(figure) => Verdict::Reached,
            _ => Verdict::NotReached,
        }
    }
}

impl Goal {
    const fn ratio(limit: f64) -> Self {
        Self::AtMost(limit, 2, "")
    }

    const fn none() -> Self {
        Self::AtMost(0.0, 0, "")
    }

    /// As the figure is written: 1.014 is 1.01.
    fn reached(&self, figure: f64) -> bool {
        let rounded = |digits: usize| {
            let unit = 10_f64.powi(i32::try_from(digits).unwrap_or(0));
            (figure * unit).round() / unit
        };
        match *self {
            Self::AtMost(limit, digits, _) => rounded(digits) <= limit,
            Self::AtLeast(limit, digits, _) => rounded(digits) >= limit,
        }
    }

    pub(crate) fn write(&self, figure: f64) -> String {
        let (Self::AtMost(_, digits, unit) | Self::AtLeast(_, digits, unit)) = *self;
        format!("{figure:.digits$}{unit}")
    }

    pub(crate) fn limit(&self) -> String {
        match *self {
            Self::AtMost(limit, ..) => format!("≤ {}", self.write(limit)),
            Self::AtLeast(limit, ..) => format!("≥ {}", self.write(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_counts_as_it_is_written() {
        assert!(Goal::ratio(1.01).reached(1.014));
        assert!(!Goal::ratio(1.01).reached(1.016));
        assert!(Goal::AtLeast(25_000.0, 0, "").reached(25_000.0));
        assert!(!Goal::none().reached(1.0));
        assert_eq!(Goal::AtMost(3.0, 1, " µs").limit(), "≤ 3.0 µs");
    }
}
