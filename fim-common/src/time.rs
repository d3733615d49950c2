//! Instants: nanoseconds since the Unix epoch, written as RFC 3339 in UTC with nine digits.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An instant in UTC, in nanoseconds since 1970-01-01T00:00:00Z; negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i128);

impl Timestamp {
    /// The wall clock now.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// From seconds and nanoseconds, as `struct timespec` holds them.
    pub fn from_unix(seconds: i64, nanoseconds: u32) -> Self {
        Self(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
    }

    /// From nanoseconds since the epoch.
    pub fn from_nanos(nanoseconds: i128) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the epoch.
    pub fn as_nanos(self) -> i128 {
        self.0
    }

    /// Nanoseconds from `earlier` to this instant; negative when it is the later one.
    pub fn since(self, earlier: Self) -> i128 {
        self.0 - earlier.0
    }
}

/// An instant in the local time zone, by a strftime(3) format.
pub fn local(time: Timestamp, format: &str) -> String {
    let zone = jiff::tz::TimeZone::system();
    jiff::Timestamp::from_nanosecond(time.as_nanos())
        .map_or_else(|_| time.to_string(), |at| at.to_zoned(zone).strftime(format).to_string())
}

/// What a person means by a time: RFC 3339, a date with or without a time of the local time zone,
/// or how long before `now` (`90s`, `15m`, `2h`, `3d`, `1w`).
///
/// # Errors
/// What is wrong, and what would be right.
pub fn when(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(604_800),
        _ => None,
    };
    if let (Some(seconds), Ok(number)) = (seconds, number.parse::<u32>()) {
        let ago = i128::from(number) * seconds * 1_000_000_000;
        return Ok(Timestamp(now.0 - ago));
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let civil = text.parse::<jiff::civil::DateTime>();
    let zoned = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::system()));
    zoned.map(|zoned| Timestamp(zoned.timestamp().as_nanosecond())).map_err(|_| {
        format!("{text:?} is not a time; as in 2026-11-22T19:00, 2026-11-22, 15m, 2h, 3d")
    })
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(after.as_nanos() as i128),
            Err(before) => Self(-(before.duration().as_nanos() as i128)),
        }
    }
}

/// `2023-11-14T22:13:20.000000005Z`.
const TEXT: usize = 30;

/// Writes `value` in decimal digits, as many as there is room for.
fn digits(mut value: u32, text: &mut [u8]) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// The text of an instant from 1970 to 2262. An event has up to ten of them, and a calendar for all
/// ages and zones takes five times as long.
fn text(nanoseconds: i128) -> Option<[u8; TEXT]> {
    let nanoseconds = u64::try_from(i64::try_from(nanoseconds).ok()?).ok()?;
    let (seconds, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let (day, second) = (seconds / 86_400, (seconds % 86_400) as u32);
    // The Gregorian calendar in years that begin in March, so that leap days are last; from
    // 0000-03-01, which is 719,468 days before the epoch. An era is 400 years.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let date = day - (153 * march + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    digits(year as u32, &mut text[..4]);
    digits(month as u32, &mut text[5..7]);
    digits(date as u32, &mut text[8..10]);
    digits(second / 3_600, &mut text[11..13]);
    digits(second / 60 % 60, &mut text[14..16]);
    digits(second % 60, &mut text[17..19]);
    digits(fraction as u32, &mut text[20..29]);
    Some(text)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = text(self.0)
            && let Ok(text) = std::str::from_utf8(&text)
        {
            return f.write_str(text);
        }
        // A file system may carry a time outside jiff's years -9999..9999: clamp, never fail.
        let jiff = jiff::Timestamp::from_nanosecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        write!(f, "{jiff:.9}")
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_nanosecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match text(self.0) {
            Some(text) => serializer.serialize_str(std::str::from_utf8(&text).unwrap_or_default()),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, UTC, nanoseconds"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_digits_and_back() {
        let t = Timestamp::from_unix(1_700_000_000, 5);
        assert_eq!(t.to_string(), "2023-11-14T22:13:20.000000005Z");
        assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
    }

    #[test]
    fn the_short_way_says_the_same() {
        let end = i128::from(i64::MAX);
        // Some 17 days.
        let instants = (0..end).step_by(1_468_923_456_789_012);
        // Around 29 February and 1 March.
        let around = [951_782_400_i64, 951_868_800, 1_709_164_800, 4_107_542_400]
            .into_iter()
            .flat_map(|second| [-1, 0, 1].map(|off| i128::from(second) * 1_000_000_000 + off));
        for nanoseconds in instants.chain(around).chain([0, 1, end, end + 1, -1]) {
            let long = jiff::Timestamp::from_nanosecond(nanoseconds).unwrap();
            let instant = Timestamp::from_nanos(nanoseconds);
            assert_eq!(instant.to_string(), format!("{long:.9}"));
            assert_eq!(serde_json::to_string(&instant).unwrap(), format!("\"{long:.9}\""));
        }
    }

    #[test]
    fn what_a_person_means_by_a_time() {
        let now = Timestamp::from_unix(1_700_000_000, 5);
        let ago = |seconds: i64| Ok(Timestamp::from_unix(1_700_000_000 - seconds, 5));
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259_200), ("1w", 604_800)]
        {
            assert_eq!(when(text, now), ago(seconds), "{text}");
        }
        assert_eq!(when("2023-11-14T22:13:20.000000005Z", now), Ok(now));
        assert_eq!(
            when("2023-11-14T23:13:20+01:00", now),
            Ok(Timestamp::from_unix(1_700_000_000, 0))
        );
        for text in ["2023-11-14", "2023-11-14T22:13", "2023-11-14 22:13:20"] {
            assert!(when(text, now).is_ok(), "{text}");
        }
        for text in ["", "h", "-2h", "2x", "yesterday", "2023-13-01", "99999999999h"] {
            assert!(when(text, now).unwrap_err().contains("is not a time"), "{text}");
        }
    }

    #[test]
    fn absurd_times_are_clamped() {
        assert!(Timestamp::from_unix(i64::MAX, 0).to_string().starts_with("9999-"));
        assert!(Timestamp::from_unix(i64::MIN, 0).to_string().starts_with("-00"));
    }
}
