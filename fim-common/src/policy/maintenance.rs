//! Windows in which changes are expected.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};

use crate::time::Timestamp;

/// The longest weekly window.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A time in which changes are expected of rules with `expect = "maintenance"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Unique; events in it name it.
    pub name: String,
    /// When.
    pub when: When,
}

/// When a window is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Once.
    Once {
        /// From then on.
        from: Timestamp,
        /// Until just before.
        until: Timestamp,
    },
    /// Every week.
    Weekly {
        /// The days on which it opens; not empty.
        days: Vec<Weekday>,
        /// At this time of the clock. One that a change of the clock leaves out is that much
        /// later; one that comes twice is the first of the two.
        start: Time,
        /// For this long, whatever the clock says; at most [`LONGEST`].
        duration: SignedDuration,
        /// Of the clock.
        zone: TimeZone,
    },
}

impl Window {
    /// Whether it is open at this moment.
    pub fn contains(&self, time: Timestamp) -> bool {
        match &self.when {
            When::Once { from, until } => *from <= time && time < *until,
            When::Weekly { days, start, duration, zone } => {
                let Ok(moment) = jiff::Timestamp::from_nanosecond(time.as_nanos()) else {
                    return false;
                };
                let today = moment.to_zoned(zone.clone()).date();
                // It may have opened days ago.
                let back = duration.as_hours() / 24 + 1;
                (0..=back).any(|days_ago| {
                    let Ok(day) = today.checked_sub(days_ago.days()) else { return false };
                    if !days.contains(&day.weekday()) {
                        return false;
                    }
                    let opened = day.to_datetime(*start).to_zoned(zone.clone());
                    opened.is_ok_and(|opened| {
                        let since = moment.duration_since(opened.timestamp());
                        since >= SignedDuration::ZERO && since < *duration
                    })
                })
            }
        }
    }

    /// Whether it is over for good.
    pub fn is_over(&self, now: Timestamp) -> bool {
        matches!(&self.when, When::Once { until, .. } if *until <= now)
    }
}

/// A weekday by the first three letters of its name.
pub fn weekday(name: &str) -> Option<Weekday> {
    DAYS.into_iter().find(|(known, _)| *known == name).map(|(_, day)| day)
}

/// The name that [`weekday`] knows.
pub fn weekday_name(day: Weekday) -> &'static str {
    DAYS.into_iter().find(|(_, known)| *known == day).map_or("", |(name, _)| name)
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

#[cfg(test)]
mod tests {
    use jiff::civil::time;

    use super::*;

    fn at(text: &str) -> Timestamp {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_unix(moment.as_second(), 0)
    }

    fn weekly(days: &[&str], start: Time, hours: i64, zone: &str) -> Window {
        Window {
            name: "w".to_owned(),
            when: When::Weekly {
                days: days.iter().map(|day| weekday(day).unwrap()).collect(),
                start,
                duration: SignedDuration::from_hours(hours),
                zone: TimeZone::get(zone).unwrap(),
            },
        }
    }

    #[test]
    fn once_is_half_open() {
        let (from, until) = (at("2026-03-01T22:00:00Z"), at("2026-03-02T04:00:00Z"));
        let window = Window { name: "w".to_owned(), when: When::Once { from, until } };
        for (time, inside) in [
            ("2026-03-01T21:59:59Z", false),
            ("2026-03-01T22:00:00Z", true),
            ("2026-03-02T03:59:59Z", true),
            ("2026-03-02T04:00:00Z", false),
        ] {
            assert_eq!(window.contains(at(time)), inside, "{time}");
        }
        assert!(window.is_over(until) && !window.is_over(from));
    }

    #[test]
    fn weekly_across_midnight_and_across_the_week() {
        let window = weekly(&["sat", "sun"], time(22, 0, 0, 0), 4, "UTC");
        for (time, inside) in [
            ("2026-02-28T21:59:59Z", false), // Saturday
            ("2026-02-28T22:00:00Z", true),
            ("2026-03-01T01:59:59Z", true),
            ("2026-03-01T02:00:00Z", false),
            ("2026-03-01T23:00:00Z", true),
            ("2026-03-02T01:00:00Z", true), // Monday, opened on Sunday
            ("2026-03-02T23:00:00Z", false),
        ] {
            assert_eq!(window.contains(at(time)), inside, "{time}");
        }
        let week = weekly(&["mon"], time(0, 0, 0, 0), 7 * 24, "UTC");
        assert!(week.contains(at("2026-03-08T23:59:59Z")), "all week");
    }

    #[test]
    fn the_clock_is_that_of_the_zone() {
        let window = weekly(&["sun"], time(2, 0, 0, 0), 1, "Europe/Berlin");
        assert!(window.contains(at("2026-01-04T01:30:00Z")), "winter, UTC+1");
        assert!(window.contains(at("2026-07-05T00:30:00Z")), "summer, UTC+2");
        assert!(!window.contains(at("2026-07-05T01:30:00Z")));
        // 2026-03-29: from 02:00 to 03:00 there is no such time; it opens at 03:00, UTC+2.
        assert!(!window.contains(at("2026-03-29T00:59:59Z")));
        assert!(window.contains(at("2026-03-29T01:30:00Z")));
        // 2026-10-25: 02:30 comes twice; the window is one hour, at the first.
        assert!(window.contains(at("2026-10-25T00:30:00Z")));
        assert!(!window.contains(at("2026-10-25T01:30:00Z")));
    }

    #[test]
    fn days_have_names() {
        for (name, day) in DAYS {
            assert_eq!((weekday(name), weekday_name(day)), (Some(day), name));
        }
        assert_eq!(weekday("monday"), None);
    }
}
