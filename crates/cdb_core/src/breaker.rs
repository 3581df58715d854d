//! The circuit breaker's state machine (design §5). CLOSED = trading. Only [`Breaker::on`] moves it.
//!
//! Failure causes recover through one probe after a timeout that doubles with each relapse; loss, drawdown and
//! security causes latch until an operator resets them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::time::Timestamp;
use crate::window::SlidingCount;

/// Milliseconds of the rolling hour in which failures are counted.
const HOUR_MS: i64 = 3_600_000;
/// Most times the recovery timeout doubles.
const DOUBLINGS_MAX: u32 = 6;

/// Why the breaker opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// `MAX_CONSECUTIVE_FAILURES` in a row.
    ConsecutiveFailures,
    /// `MAX_FAILURES_PER_HOUR` in a rolling hour.
    FailuresPerHour,
    /// `MAX_DAILY_LOSS_PCT`.
    DailyLoss,
    /// `MAX_DRAWDOWN_PCT`.
    Drawdown,
    /// Exchange and books disagree.
    ReconciliationBreak,
    /// An order on the account that cdb did not send.
    ForeignOrder,
    /// The audit trail cannot be written.
    AuditUnwritable,
    /// HTTP 418.
    ExchangeBan,
    /// Our clock and the exchange's are too far apart.
    ClockOffset,
    /// The ledger has been away for over 60 s.
    LedgerAway,
    /// An order's doubt lasted beyond its bound.
    DoubtTooLong,
    /// The exchange refuses the key.
    KeyRefused,
    /// An operator opened it.
    Operator,
}

impl Cause {
    /// Every cause.
    pub const ALL: &'static [Self] = &[
        Self::ConsecutiveFailures,
        Self::FailuresPerHour,
        Self::DailyLoss,
        Self::Drawdown,
        Self::ReconciliationBreak,
        Self::ForeignOrder,
        Self::AuditUnwritable,
        Self::ExchangeBan,
        Self::ClockOffset,
        Self::LedgerAway,
        Self::DoubtTooLong,
        Self::KeyRefused,
        Self::Operator,
    ];

    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailuresPerHour => "failures_per_hour",
            Self::DailyLoss => "daily_loss",
            Self::Drawdown => "drawdown",
            Self::ReconciliationBreak => "reconciliation_break",
            Self::ForeignOrder => "foreign_order",
            Self::AuditUnwritable => "audit_unwritable",
            Self::ExchangeBan => "exchange_ban",
            Self::ClockOffset => "clock_offset",
            Self::LedgerAway => "ledger_away",
            Self::DoubtTooLong => "doubt_too_long",
            Self::KeyRefused => "key_refused",
            Self::Operator => "operator",
        }
    }

    /// Parses the code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.code() == code)
    }

    /// Whether only an operator may end it. Failure-type causes recover by themselves.
    #[must_use]
    pub const fn latches(self) -> bool {
        match self {
            Self::ConsecutiveFailures
            | Self::FailuresPerHour
            | Self::ClockOffset
            | Self::LedgerAway
            | Self::AuditUnwritable
            | Self::ExchangeBan => false,
            Self::DailyLoss
            | Self::Drawdown
            | Self::ReconciliationBreak
            | Self::ForeignOrder
            | Self::DoubtTooLong
            | Self::KeyRefused
            | Self::Operator => true,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// The breaker's position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Trading.
    #[default]
    Closed,
    /// Not trading.
    Open {
        /// Why.
        cause: Cause,
        /// Since when.
        opened_at: Timestamp,
        /// When a probe is tried; `None` when only an operator ends it.
        retry_at: Option<Timestamp>,
    },
    /// One order at a time may test the exchange.
    HalfOpen {
        /// Why it had opened.
        cause: Cause,
        /// Since when it is half open.
        since: Timestamp,
    },
}

/// What moves the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A send that began at `begun_at` was answered.
    Success {
        /// When that send began.
        begun_at: Timestamp,
    },
    /// A send that began at `begun_at` failed: timeout, 5xx, auth error, in doubt, 429. Business refusals are not.
    Failure {
        /// When that send began.
        begun_at: Timestamp,
    },
    /// A condition that opens it at once.
    Trip(Cause),
    /// An operator closes it.
    Reset,
    /// Time passed.
    Tick,
}

/// The breaker with the counts it decides by.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: State,
    consecutive_failures: u64,
    failures: SlidingCount,
    relapses: u32,
    /// Results of sends begun before this instant count for nothing.
    counts_from: Timestamp,
    /// What was found before this instant was dealt with when the breaker closed.
    closed_at: Timestamp,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            consecutive_failures: 0,
            failures: SlidingCount::new(HOUR_MS),
            relapses: 0,
            counts_from: Timestamp::default(),
            closed_at: Timestamp::default(),
        }
    }
}

impl Breaker {
    /// Continues from a persisted state.
    #[must_use]
    pub fn restored(state: State, counts_from: Timestamp, closed_at: Timestamp, relapses: u32) -> Self {
        Self { state, counts_from, closed_at, relapses: relapses.min(DOUBLINGS_MAX), ..Self::default() }
    }

    /// How often a probe failed since it last closed; each doubles the recovery timeout.
    #[must_use]
    pub const fn relapses(&self) -> u32 {
        self.relapses
    }

    /// What was found before this instant was dealt with when the breaker closed.
    #[must_use]
    pub const fn closed_at(&self) -> Timestamp {
        self.closed_at
    }

    /// Results of sends begun before this instant count for nothing.
    #[must_use]
    pub const fn counts_from(&self) -> Timestamp {
        self.counts_from
    }

    /// Failures in a row, and failures of the rolling hour.
    #[must_use]
    pub fn failures(&self, now: Timestamp) -> (u64, u64) {
        (self.consecutive_failures, self.failures.clone().count(now))
    }

    /// The position.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Moves the machine; the new state when it changed.
    pub fn on(&mut self, input: Input, limits: &Limits, now: Timestamp) -> Option<State> {
        let before = self.state;
        match (self.state, input) {
            (State::Closed, Input::Success { begun_at }) if begun_at >= self.counts_from => {
                self.consecutive_failures = 0;
            }
            (State::Closed, Input::Failure { begun_at }) if begun_at >= self.counts_from => {
                self.count_failure(limits, now);
            }
            (State::HalfOpen { .. }, Input::Success { begun_at }) if begun_at >= self.counts_from => {
                self.close(now);
            }
            (State::HalfOpen { cause, .. }, Input::Failure { begun_at }) if begun_at >= self.counts_from => {
                self.relapses = self.relapses.saturating_add(1).min(DOUBLINGS_MAX);
                self.open(cause, limits, now);
            }
            // Results of sends begun before the trip say nothing about the exchange after it.
            (_, Input::Success { .. } | Input::Failure { .. }) => {}
            (State::Closed | State::HalfOpen { .. }, Input::Trip(cause)) => self.open(cause, limits, now),
            // A latching cause takes over an opening that would end by itself; otherwise the first cause stays.
            (State::Open { cause: first, .. }, Input::Trip(cause)) => {
                if cause.latches() && !first.latches() {
                    self.open(cause, limits, now);
                }
            }
            (State::Closed, Input::Reset) => {}
            (State::Open { .. } | State::HalfOpen { .. }, Input::Reset) => self.close(now),
            (State::Open { cause, retry_at: Some(retry_at), .. }, Input::Tick) if now >= retry_at => {
                self.state = State::HalfOpen { cause, since: now };
                self.counts_from = now;
            }
            (State::Closed | State::Open { .. } | State::HalfOpen { .. }, Input::Tick) => {}
        }
        (self.state != before).then_some(self.state)
    }

    fn count_failure(&mut self, limits: &Limits, now: Timestamp) {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.failures.record(now);
        if self.consecutive_failures >= limits.max_consecutive_failures {
            self.open(Cause::ConsecutiveFailures, limits, now);
        } else if self.failures.count(now) >= limits.max_failures_per_hour {
            self.open(Cause::FailuresPerHour, limits, now);
        }
    }

    fn open(&mut self, cause: Cause, limits: &Limits, now: Timestamp) {
        let factor = 1_i64.checked_shl(self.relapses).unwrap_or(i64::MAX);
        let wait_ms = limits.recovery_timeout_sec.saturating_mul(1_000).saturating_mul(factor);
        let retry_at = (!cause.latches()).then(|| now.plus_ms(wait_ms));
        self.state = State::Open { cause, opened_at: now, retry_at };
        self.counts_from = now;
    }

    /// Closing starts the counts afresh, so that one later failure does not open it again.
    fn close(&mut self, now: Timestamp) {
        self.state = State::Closed;
        self.consecutive_failures = 0;
        self.relapses = 0;
        self.failures.clear();
        self.counts_from = now;
        self.closed_at = now;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn limits() -> Limits {
        Limits::from_variables(&BTreeMap::new()).unwrap().0
    }

    fn fail(breaker: &mut Breaker, times: usize, at: Timestamp) {
        for _ in 0..times {
            breaker.on(Input::Failure { begun_at: at }, &limits(), at);
        }
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_two_do_not() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 2, NOW);
        assert_eq!(breaker.state(), State::Closed);
        breaker.on(Input::Success { begun_at: NOW }, &limits(), NOW);
        fail(&mut breaker, 2, NOW);
        assert_eq!(breaker.state(), State::Closed);
        fail(&mut breaker, 1, NOW);
        assert!(matches!(breaker.state(), State::Open { cause: Cause::ConsecutiveFailures, .. }));
    }

    #[test]
    fn ten_failures_in_an_hour_open_it_and_nine_do_not() {
        let mut breaker = Breaker::default();
        for minute in 0..9 {
            let at = NOW.plus_ms(minute * 60_000);
            fail(&mut breaker, 1, at);
            breaker.on(Input::Success { begun_at: at }, &limits(), at);
        }
        assert_eq!(breaker.state(), State::Closed);
        let later = NOW.plus_ms(HOUR_MS);
        fail(&mut breaker, 1, later);
        assert_eq!(breaker.state(), State::Closed, "the first failure has left the hour");
        fail(&mut breaker, 1, later);
        assert!(matches!(breaker.state(), State::Open { cause: Cause::FailuresPerHour, .. }));
    }

    #[test]
    fn it_half_opens_after_the_timeout_which_doubles_with_each_relapse() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 3, NOW);
        assert_eq!(breaker.on(Input::Tick, &limits(), NOW.plus_ms(299_999)), None);
        let half_open_at = NOW.plus_ms(300_000);
        assert!(matches!(breaker.on(Input::Tick, &limits(), half_open_at), Some(State::HalfOpen { .. })));
        fail(&mut breaker, 1, half_open_at);
        let State::Open { retry_at, .. } = breaker.state() else { panic!("must reopen") };
        assert_eq!(retry_at, Some(half_open_at.plus_ms(600_000)));
    }

    #[test]
    fn the_doubling_survives_a_restart_ends_at_sixty_four_times_and_begins_anew_once_it_has_closed() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 3, NOW);
        let mut waits = Vec::new();
        let mut at = NOW;
        for _ in 0..9 {
            let State::Open { retry_at: Some(retry_at), .. } = breaker.state() else { panic!("must be open") };
            waits.push(retry_at.since_ms(at) / 300_000);
            at = retry_at;
            breaker.on(Input::Tick, &limits(), at);
            fail(&mut breaker, 1, at);
            let (counts_from, closed_at, relapses) = (breaker.counts_from(), breaker.closed_at(), breaker.relapses());
            breaker = Breaker::restored(breaker.state(), counts_from, closed_at, relapses);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        let State::Open { retry_at: Some(retry_at), .. } = breaker.state() else { panic!("must be open") };
        breaker.on(Input::Tick, &limits(), retry_at);
        breaker.on(Input::Success { begun_at: retry_at }, &limits(), retry_at);
        fail(&mut breaker, 3, retry_at.plus_ms(1));
        let State::Open { retry_at: Some(again), .. } = breaker.state() else { panic!("must be open") };
        assert_eq!(again.since_ms(retry_at.plus_ms(1)), 300_000);
    }

    #[test]
    fn a_result_from_before_the_trip_counts_for_nothing() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 3, NOW);
        let half_open_at = NOW.plus_ms(300_000);
        breaker.on(Input::Tick, &limits(), half_open_at);
        breaker.on(Input::Success { begun_at: NOW }, &limits(), half_open_at);
        assert!(matches!(breaker.state(), State::HalfOpen { .. }));
        breaker.on(Input::Success { begun_at: half_open_at }, &limits(), half_open_at);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_loss_latches_until_reset_and_is_not_replaced_by_a_lesser_cause() {
        let mut breaker = Breaker::default();
        breaker.on(Input::Trip(Cause::DailyLoss), &limits(), NOW);
        breaker.on(Input::Trip(Cause::ClockOffset), &limits(), NOW);
        assert_eq!(breaker.on(Input::Tick, &limits(), NOW.plus_ms(i64::from(i32::MAX))), None);
        assert!(matches!(breaker.state(), State::Open { cause: Cause::DailyLoss, retry_at: None, .. }));
        assert_eq!(breaker.on(Input::Reset, &limits(), NOW), Some(State::Closed));
    }

    #[test]
    fn a_latching_cause_takes_over_one_that_would_recover() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 3, NOW);
        breaker.on(Input::Trip(Cause::Drawdown), &limits(), NOW);
        assert!(matches!(breaker.state(), State::Open { cause: Cause::Drawdown, retry_at: None, .. }));
    }

    #[test]
    fn the_first_latching_cause_stays_and_so_does_the_first_that_recovers() {
        for (first, second) in [
            (Cause::DailyLoss, Cause::Operator),
            (Cause::ClockOffset, Cause::LedgerAway),
            (Cause::Operator, Cause::ExchangeBan),
        ] {
            let mut breaker = Breaker::default();
            let opened = breaker.on(Input::Trip(first), &limits(), NOW);
            assert_eq!(breaker.on(Input::Trip(second), &limits(), NOW.plus_ms(1)), None, "{second} after {first}");
            assert_eq!(Some(breaker.state()), opened);
        }
    }

    #[test]
    fn a_success_from_before_the_last_closing_ends_no_row_of_failures() {
        let mut breaker = Breaker::default();
        breaker.on(Input::Trip(Cause::Operator), &limits(), NOW);
        breaker.on(Input::Reset, &limits(), NOW);
        fail(&mut breaker, 2, NOW.plus_ms(1));
        assert_eq!(breaker.failures(NOW.plus_ms(1)), (2, 2));
        breaker.on(Input::Success { begun_at: NOW.plus_ms(-1) }, &limits(), NOW.plus_ms(2));
        assert_eq!(breaker.failures(NOW.plus_ms(2)), (2, 2));
        breaker.on(Input::Success { begun_at: NOW }, &limits(), NOW.plus_ms(2));
        assert_eq!(breaker.failures(NOW.plus_ms(2)), (0, 2));
        breaker.on(Input::Trip(Cause::Operator), &limits(), NOW.plus_ms(3));
        breaker.on(Input::Reset, &limits(), NOW.plus_ms(3));
        assert_eq!(breaker.failures(NOW.plus_ms(3)), (0, 0), "closing starts the counts afresh");
    }

    #[test]
    fn every_code_reads_back() {
        for cause in Cause::ALL {
            assert_eq!(Cause::parse(cause.code()), Some(*cause));
            assert_eq!(cause.to_string(), cause.code());
        }
    }
}
