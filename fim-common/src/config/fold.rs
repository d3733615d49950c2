//! `[fold]`: what is written, and what is in force.

use std::time::Duration;

use jiff::SignedDuration;

use super::raw::{self, Scalar};
use super::validate::Check;

/// The longest window.
const LONGEST: Duration = Duration::from_secs(60);

/// `[fold]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// How long an event that may be a step of a change waits for the others; zero: not at all.
    pub window: Duration,
}

impl Default for Fold {
    fn default() -> Self {
        Self { window: Duration::from_millis(500) }
    }
}

impl Fold {
    /// As it is written in a file.
    pub(super) fn window_text(self) -> String {
        match self.window.as_millis() {
            0 => "0".to_owned(),
            millis => format!("\"{millis}ms\""),
        }
    }
}

impl Check<'_> {
    pub(super) fn fold(&mut self, raw: raw::Fold) -> Fold {
        let default = Fold::default();
        let window = self.value(raw.window, default.window, |written| {
            let (said, read) = match written {
                // Without a unit only nothing is clear.
                Scalar::Integer(0) => return Ok(Duration::ZERO),
                Scalar::Integer(number) => (number.to_string(), None),
                Scalar::Text(text) if text == "0" => return Ok(Duration::ZERO),
                Scalar::Text(text) => (format!("{text:?}"), text.parse::<SignedDuration>().ok()),
            };
            let Some(read) = read else {
                return Err(format!("{said} is no duration; as in \"500ms\", \"1s\", or 0"));
            };
            Duration::try_from(read)
                .ok()
                .filter(|window| *window >= Duration::from_millis(1) && *window <= LONGEST)
                .ok_or_else(|| format!("{said} is out of range; allowed: 0, or \"1ms\" to \"60s\""))
        });
        Fold { window }
    }
}
