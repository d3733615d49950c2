//! Charts as SVG in the page: no script, nothing fetched, and a text for whoever cannot see them.

use maud::{Markup, PreEscaped, html};

use super::facts::{PARTS, Parts, Severity};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 200.0;
/// Room for the numbers on the left and the times below.
const LEFT: f64 = 52.0;
const BELOW: f64 = 26.0;
const TOP: f64 = 10.0;

/// Bars over time, one colour for each severity. `labels` are places from 0 to 1 with a text.
pub(super) fn timeline(
    severities: &[(u64, Parts); 4],
    labels: &[(f64, String)],
    description: &str,
) -> Markup {
    let total = |part: usize| -> u64 {
        severities.iter().filter_map(|(_, parts)| parts.get(part)).map(|n| u64::from(*n)).sum()
    };
    let highest = (0..PARTS).map(total).max().unwrap_or_default();
    let scale = round_up(highest.max(1));
    let (width, height) = (WIDTH - LEFT - 8.0, HEIGHT - BELOW - TOP);
    let y = |count: f64| TOP + height - height * count / scale as f64;
    let step = width / PARTS as f64;
    html! {
        svg.timeline viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(description) {
            @for line in 0..=4_u32 {
                @let value = scale as f64 * f64::from(line) / 4.0;
                @if scale >= 4 || line == 0 || line == 4 {
                    line.grid x1=(LEFT) x2=(WIDTH - 8.0) y1=(px(y(value))) y2=(px(y(value))) {}
                    text.axis x=(LEFT - 8.0) y=(px(y(value) + 4.0)) text-anchor="end" {
                        (short(value))
                    }
                }
            }
            @for part in 0..PARTS {
                (PreEscaped(bars(severities, part, LEFT + step * part as f64, step, &y)))
            }
            @for (place, text) in labels {
                @let anchor = if *place < 0.05 { "start" } else if *place > 0.95 { "end" } else { "middle" };
                text.axis x=(px(LEFT + width * place)) y=(HEIGHT - 6.0) text-anchor=(anchor) { (text) }
            }
        }
    }
}

/// The bars of one part of the period, on top of each other.
fn bars(
    severities: &[(u64, Parts); 4],
    part: usize,
    x: f64,
    step: f64,
    y: &dyn Fn(f64) -> f64,
) -> String {
    let mut out = String::new();
    let mut below = 0.0;
    for (severity, (_, parts)) in Severity::ALL.iter().zip(severities) {
        let count = f64::from(parts.get(part).copied().unwrap_or_default());
        if count == 0.0 {
            continue;
        }
        let (top, bottom) = (y(below + count), y(below));
        // One change among thousands shows all the same.
        let height = (bottom - top).max(1.5);
        out.push_str(&format!(
            "<rect class=\"s-{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
            severity.name(),
            x + step * 0.12,
            bottom - height,
            step * 0.76,
        ));
        below += count;
    }
    out
}

/// A small line of bars beside a name.
pub(super) fn spark(parts: &Parts) -> Markup {
    let highest = f64::from(parts.iter().copied().max().unwrap_or_default().max(1));
    let mut bars = String::new();
    for (index, count) in parts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = (18.0 * f64::from(*count) / highest).max(1.5);
        bars.push_str(&format!(
            "<rect x=\"{}\" y=\"{:.1}\" width=\"1.6\" height=\"{height:.1}\"/>",
            index * 2,
            20.0 - height
        ));
    }
    html! {
        svg.spark viewBox="0 0 120 20" preserveAspectRatio="none" aria-hidden="true" {
            (PreEscaped(bars))
        }
    }
}

/// A stretch of the coverage strip: from, to (0 to 1) and its class.
pub(super) struct Stretch {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) class: &'static str,
}

/// When the agent ran, and where something was lost.
pub(super) fn strip(stretches: &[Stretch], labels: &[(f64, String)], description: &str) -> Markup {
    let width = WIDTH - 2.0;
    html! {
        svg.strip viewBox="0 0 960 56" role="img" aria-label=(description) {
            defs {
                pattern #hatch width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect.hatch-ground width="6" height="6" {}
                    line.hatch-line x1="0" y1="0" x2="0" y2="6" {}
                }
            }
            rect.down x="1" y="4" width=(width) height="26" rx="3" {}
            @for stretch in stretches {
                rect class=(stretch.class) x=(px(1.0 + width * stretch.from)) y="4" height="26"
                    width=(px((width * (stretch.to - stretch.from)).max(2.0))) {}
            }
            @for (place, text) in labels {
                @let anchor = if *place < 0.05 { "start" } else if *place > 0.95 { "end" } else { "middle" };
                text.axis x=(px(width * place)) y="48" text-anchor=(anchor) { (text) }
            }
        }
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// The next number that is good for an axis.
fn round_up(count: u64) -> u64 {
    let mut scale = 1_u64;
    loop {
        for step in [1, 2, 4, 8] {
            if scale * step >= count {
                return scale * step;
            }
        }
        scale = scale.saturating_mul(10);
    }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1_000_000.0 => format!("{:.1}M", v / 1_000_000.0),
        v if v >= 10_000.0 => format!("{:.0}k", v / 1000.0),
        v if v.fract() == 0.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}
