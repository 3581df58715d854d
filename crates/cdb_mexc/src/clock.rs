//! The exchange's clock as measured, and when it may be relied on: nothing is signed with a guessed time (exchange API
//! §3: a request dated 1 s ahead is refused, one dated too late is alive for longer than its fence assumes).

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client::Stamp;

/// Largest difference between the exchange's clock and ours, ms. With more, one of them is broken.
pub const OFFSET_MS_MAX: i64 = 5_000;
/// Largest round trip of a measurement, ms; half of it is the measurement's error.
const ROUND_TRIP_MS_MAX: i64 = 1_000;
/// A measurement holds for this long, ms: even a bad quartz drifts less than 100 ms in that time.
const AGE_MS_MAX: i64 = 600_000;

/// Why nothing can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockFault {
    /// Never measured.
    #[error("the exchange's clock was never measured")]
    Unknown,
    /// Measured too long ago.
    #[error("the exchange's clock was last measured {age_ms} ms ago")]
    Stale {
        /// Age of the last measurement, ms.
        age_ms: i64,
    },
    /// The two clocks are too far apart.
    #[error("the exchange's clock and this host's are {offset_ms} ms apart, more than {OFFSET_MS_MAX}")]
    OutOfBounds {
        /// Exchange's minus ours, ms.
        offset_ms: i64,
    },
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    offset_ms: i64,
    monotonic_ms: i64,
}

/// The exchange's clock.
#[derive(Debug, Default)]
pub struct ServerClock(Mutex<Option<Reading>>);

impl ServerClock {
    /// Takes in one measurement: our clock before and after asking, the exchange's in between, and the monotonic
    /// clock now. A measurement that took too long is not used; whether it was.
    pub fn learn(&self, before_ms: i64, after_ms: i64, exchange_ms: i64, monotonic_ms: i64) -> bool {
        let round_trip_ms = after_ms.saturating_sub(before_ms);
        // A negative round trip means that our clock was set meanwhile.
        let is_usable = (0..=ROUND_TRIP_MS_MAX).contains(&round_trip_ms);
        if is_usable {
            let ours_ms = before_ms.saturating_add(round_trip_ms / 2);
            let offset_ms = exchange_ms.saturating_sub(ours_ms);
            *self.lock() = Some(Reading { offset_ms, monotonic_ms });
        }
        is_usable
    }

    /// Exchange's clock minus ours, ms.
    ///
    /// # Errors
    /// It cannot be relied on.
    pub fn offset_ms(&self, monotonic_ms: i64) -> Result<i64, ClockFault> {
        let reading = self.lock().ok_or(ClockFault::Unknown)?;
        let age_ms = monotonic_ms.saturating_sub(reading.monotonic_ms);
        if age_ms > AGE_MS_MAX {
            return Err(ClockFault::Stale { age_ms });
        }
        let offset_ms = reading.offset_ms;
        if offset_ms.saturating_abs() > OFFSET_MS_MAX {
            Err(ClockFault::OutOfBounds { offset_ms })
        } else {
            Ok(offset_ms)
        }
    }

    /// The last measurement, relied on or not, ms.
    pub fn last_offset_ms(&self) -> Option<i64> {
        self.lock().map(|reading| reading.offset_ms)
    }

    /// For a request made now.
    ///
    /// # Errors
    /// The clock cannot be relied on.
    pub fn stamp(&self, now_ms: i64, monotonic_ms: i64, recv_window_ms: i64) -> Result<Stamp, ClockFault> {
        let timestamp_ms = now_ms.saturating_add(self.offset_ms(monotonic_ms)?);
        Ok(Stamp { timestamp_ms, recv_window_ms })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_stamped_by_a_clock_that_is_unknown_old_or_far_off() {
        let clock = ServerClock::default();
        assert_eq!(clock.stamp(0, 0, 2_000).unwrap_err(), ClockFault::Unknown);
        assert!(clock.learn(1_000, 1_100, 1_350, 50));
        assert_eq!(clock.stamp(2_000, 60, 2_000).unwrap().timestamp_ms, 2_300);
        assert_eq!(clock.offset_ms(50 + AGE_MS_MAX), Ok(300));
        assert_eq!(clock.offset_ms(51 + AGE_MS_MAX), Err(ClockFault::Stale { age_ms: AGE_MS_MAX + 1 }));
        for (exchange_ms, is_fine) in [(5_000, true), (5_001, false), (-5_000, true), (-5_001, false)] {
            assert!(clock.learn(0, 0, exchange_ms, 0));
            assert_eq!(clock.offset_ms(0).is_ok(), is_fine, "{exchange_ms}");
        }
    }

    #[test]
    fn a_measurement_that_took_too_long_or_ended_before_it_began_is_not_used() {
        let clock = ServerClock::default();
        assert!(!clock.learn(0, ROUND_TRIP_MS_MAX + 1, 500, 0));
        assert!(!clock.learn(10, 9, 10, 0));
        assert_eq!(clock.offset_ms(0), Err(ClockFault::Unknown));
    }
}
