//! What counters grew by within a window, whatever becomes of the processes that count: a restart begins at 0, a series
//! born at 1 grew by 1, and what was counted before this watch began is nobody's news.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rust_decimal::Decimal;

use super::page::Series;
use super::rule::Selector;
use crate::time::Timestamp;

/// Steps that a window is kept in at most.
const STEPS: i64 = 256;
/// A gauge that was not seen for longer is unknown, ms.
pub const STALE_MS: i64 = 15_000;

/// The label of a position.
pub const STATE: &str = "state";
/// Its word for what is not known.
pub const UNKNOWN: &str = "unknown";

/// One series as it is watched.
#[derive(Debug, Clone)]
struct Watched {
    value: Decimal,
    seen_at: Timestamp,
    /// By how much it grew, and when; only of counters whose growth somebody asks for.
    grew: VecDeque<(Timestamp, Decimal)>,
}

/// Every series that rules look at.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    series: BTreeMap<Series, Watched>,
    /// Who was seen or missed before: what is new there is news.
    known: BTreeSet<String>,
}

impl Watch {
    /// A target does not answer: what it counts until it does is news.
    pub fn missing(&mut self, target: &str) {
        self.known.insert(target.to_owned());
    }

    /// A page of a target. Only series that `kept_ms` knows are kept, with their growth for that long.
    pub fn read(
        &mut self,
        target: &str,
        page: &[(Series, Decimal)],
        kept_ms: impl Fn(&Series) -> Option<i64>,
        now: Timestamp,
    ) {
        let is_known = !self.known.insert(target.to_owned());
        for (series, value) in page {
            let Some(kept_ms) = kept_ms(series) else { continue };
            let before = self.series.get(series).map(|watched| watched.value);
            let grew = match before {
                Some(before) if *value >= before => value.saturating_sub(before),
                // It began again.
                Some(_) => *value,
                None if is_known => *value,
                None => Decimal::ZERO,
            };
            let watched = self.series.entry(series.clone()).or_insert_with(|| Watched {
                value: *value,
                seen_at: now,
                grew: VecDeque::new(),
            });
            (watched.value, watched.seen_at) = (*value, now);
            if grew > Decimal::ZERO {
                watched.grow(grew, now, kept_ms);
            }
        }
    }

    /// By how much the selected counters grew in the window that ends now; `None` while none of them was ever seen.
    #[must_use]
    pub fn increase(&self, of: &[Selector], window_ms: i64, now: Timestamp) -> Option<Decimal> {
        let mut found = self.selected(of).peekable();
        found.peek()?;
        Some(found.map(|(_, watched)| watched.growth(window_ms, now)).fold(Decimal::ZERO, Decimal::saturating_add))
    }

    /// The same for each series.
    pub fn increases(&self, of: &[Selector], window_ms: i64, now: Timestamp) -> Vec<(&Series, Decimal)> {
        self.selected(of).map(|(series, watched)| (series, watched.growth(window_ms, now))).collect()
    }

    /// The selected gauges as they stand; those that were not seen lately, and positions that are unknown, are left out.
    pub fn values(&self, of: &[Selector], now: Timestamp) -> Vec<(&Series, Decimal)> {
        let fresh = self.selected(of).filter(|(_, watched)| now.since_ms(watched.seen_at) <= STALE_MS);
        fresh.filter(|(series, _)| !self.is_unknown(series)).map(|(series, watched)| (series, watched.value)).collect()
    }

    /// A position has one series a word; where `unknown` is the word, the others say nothing.
    fn is_unknown(&self, series: &Series) -> bool {
        if series.labels.get(STATE).is_none_or(|state| state == UNKNOWN) {
            return false;
        }
        let mut unknown = series.clone();
        unknown.labels.insert(STATE.to_owned(), UNKNOWN.to_owned());
        self.series.get(&unknown).is_some_and(|watched| watched.value == Decimal::ONE)
    }

    fn selected(&self, of: &[Selector]) -> impl Iterator<Item = (&Series, &Watched)> {
        self.series.iter().filter(move |(series, _)| of.iter().any(|selector| selector.matches(series)))
    }
}

impl Watched {
    fn grow(&mut self, by: Decimal, now: Timestamp, kept_ms: i64) {
        let step_ms = kept_ms.checked_div(STEPS).unwrap_or(0);
        match self.grew.back_mut() {
            // What is put together counts from its first moment, and so ends a step early, never late.
            Some((at, grew)) if now.since_ms(*at) < step_ms => *grew = grew.saturating_add(by),
            Some(_) | None => self.grew.push_back((now, by)),
        }
        while self.grew.front().is_some_and(|(at, _)| now.since_ms(*at) >= kept_ms) {
            self.grew.pop_front();
        }
    }

    fn growth(&self, window_ms: i64, now: Timestamp) -> Decimal {
        let within = self.grew.iter().filter(|(at, _)| now.since_ms(*at) < window_ms);
        within.map(|(_, grew)| *grew).fold(Decimal::ZERO, Decimal::saturating_add)
    }
}
