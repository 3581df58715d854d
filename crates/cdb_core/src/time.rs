//! UTC milliseconds and the UTC day. Durations inside a process use its monotonic clock, never these.

use std::fmt;

use serde::{Deserialize, Serialize};

/// UTC epoch milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From epoch milliseconds.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }
    /// Epoch milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }
    /// Later (or earlier, when negative) by `ms`.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to `self`, negative when `earlier` is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
    /// The UTC day this instant lies in.
    #[must_use]
    pub const fn day(self) -> UtcDay {
        UtcDay(self.0.div_euclid(UtcDay::MS))
    }
    /// `2026-11-25T02:33:49.123Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        chrono::DateTime::from_timestamp_millis(self.0)
            .map_or_else(|| self.0.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
    }
    /// Reads what [`Self::to_rfc3339`] writes; `None` for any other text.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time = Self(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis());
        (time.to_rfc3339() == text).then_some(time)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// A UTC day, counted from 1970-01-01. Every daily limit resets at its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UtcDay(i64);

impl UtcDay {
    /// Milliseconds in a day.
    pub const MS: i64 = 86_400_000;

    /// From a count of days since 1970-01-01.
    #[must_use]
    pub const fn from_number(days: i64) -> Self {
        Self(days)
    }
    /// Days since 1970-01-01.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }
    /// Reads `2026-11-25`; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        let day = Timestamp(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()).day();
        // One spelling only: the library also takes blanks and missing zeros.
        (day.to_string() == text).then_some(day)
    }
    /// The day's first instant.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(Self::MS))
    }
}

/// `2026-11-25`.
impl fmt::Display for UtcDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_millis(self.start().millis()) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%d")),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_changes_at_midnight_utc_exactly() {
        let midnight = Timestamp::from_millis(1_700_006_400_000);
        assert_eq!(midnight.day().to_string(), "2023-11-15");
        assert_eq!(midnight.plus_ms(-1).day().to_string(), "2023-11-14");
        assert_eq!(midnight.day().start(), midnight);
    }

    #[test]
    fn an_instant_reads_back_in_its_one_spelling() {
        let time = Timestamp::from_millis(1_700_006_400_123);
        assert_eq!(Timestamp::parse_rfc3339(&time.to_rfc3339()), Some(time));
        for bad in ["", "2023-11-15", "2023-11-15T00:00:00Z", "2023-11-15T01:00:00.123+01:00"] {
            assert_eq!(Timestamp::parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_day_reads_back_in_its_one_spelling() {
        let day = UtcDay::from_number(20_000);
        assert_eq!(UtcDay::parse(&day.to_string()), Some(day));
        for bad in ["", "2026-1-05", "2026-02-30", " 2026-11-25", "2026-11-25 ", "26-11-25", "audit"] {
            assert_eq!(UtcDay::parse(bad), None, "{bad:?}");
        }
    }
}
