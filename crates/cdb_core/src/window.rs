//! Counting in exact sliding windows and in UTC days.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::StrategyId;
use crate::money::Notional;
use crate::time::{Timestamp, UtcDay};

/// Events of the last `window_ms`: an event at `t` counts while `now - t < window_ms`.
#[derive(Debug, Clone)]
pub struct SlidingCount {
    window_ms: i64,
    events: VecDeque<Timestamp>,
}

impl SlidingCount {
    /// An empty window.
    #[must_use]
    pub const fn new(window_ms: i64) -> Self {
        Self { window_ms, events: VecDeque::new() }
    }

    /// Counts one event.
    pub fn record(&mut self, at: Timestamp) {
        self.events.push_back(at);
    }

    /// How many events lie in the window that ends at `now`. A clock that went back never frees a slot.
    pub fn count(&mut self, now: Timestamp) -> u64 {
        while self.events.front().is_some_and(|at| now.since_ms(*at) >= self.window_ms) {
            self.events.pop_front();
        }
        u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.events.clear();
    }

    /// Takes back one event of this instant.
    pub fn take_back(&mut self, at: Timestamp) {
        if let Some(index) = self.events.iter().rposition(|event| *event == at) {
            self.events.remove(index);
        }
    }
}

/// What was approved on one UTC day, exits not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DayCount {
    /// The day.
    pub day: UtcDay,
    /// Approved orders.
    pub orders: u64,
    /// Approved notional.
    pub notional: Notional,
}

impl DayCount {
    /// The count as of `now`: zero when a new day has begun.
    #[must_use]
    pub fn on(self, now: Timestamp) -> Self {
        // A clock that steps back into yesterday keeps today's count.
        if now.day() > self.day { Self { day: now.day(), ..Self::default() } } else { self }
    }

    /// Adds one approval.
    #[must_use]
    pub fn plus(self, notional: Notional, now: Timestamp) -> Self {
        let today = self.on(now);
        Self { orders: today.orders.saturating_add(1), notional: today.notional + notional, ..today }
    }

    /// Takes back one approval of this day.
    #[must_use]
    pub fn minus(self, notional: Notional, at: Timestamp) -> Self {
        if at.day() != self.day {
            return self;
        }
        Self { orders: self.orders.saturating_sub(1), notional: self.notional - notional, ..self }
    }
}

/// Amounts of the last `window_ms`, with their sum.
#[derive(Debug, Clone)]
pub struct SlidingSum {
    window_ms: i64,
    amounts: VecDeque<(Timestamp, Notional)>,
    sum: Notional,
}

impl SlidingSum {
    /// An empty window.
    #[must_use]
    pub const fn new(window_ms: i64) -> Self {
        Self { window_ms, amounts: VecDeque::new(), sum: Notional::ZERO }
    }

    /// Adds one amount.
    pub fn record(&mut self, amount: Notional, at: Timestamp) {
        self.amounts.push_back((at, amount));
        self.sum = self.sum + amount;
    }

    /// Takes back one amount of this instant.
    pub fn take_back(&mut self, amount: Notional, at: Timestamp) {
        if let Some(index) = self.amounts.iter().rposition(|known| *known == (at, amount)) {
            self.amounts.remove(index);
            self.sum = self.sum - amount;
        }
    }

    /// The sum over the window that ends at `now`. A clock that went back never frees anything.
    pub fn sum(&mut self, now: Timestamp) -> Notional {
        while let Some((at, amount)) = self.amounts.front().copied()
            && now.since_ms(at) >= self.window_ms
        {
            self.amounts.pop_front();
            self.sum = self.sum - amount;
        }
        self.sum
    }
}

/// What was approved in the moments before an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PaceCount {
    /// Approvals of the last second.
    pub all: u64,
    /// This strategy's approvals of the last second.
    pub of_strategy: u64,
    /// Approved notional of the last minute, exits not counted.
    pub minute_notional: Notional,
    /// This strategy's approvals of the same symbol, side, type and size within the window for repeats, exits not counted.
    pub repeats: u64,
}

/// The approvals that the throttles count.
#[derive(Debug, Clone)]
pub struct Pace {
    all: SlidingCount,
    by_strategy: BTreeMap<StrategyId, SlidingCount>,
    minute_notional: SlidingSum,
    repeat_window_ms: i64,
    repeats: BTreeMap<u64, SlidingCount>,
}

impl Pace {
    /// Nothing approved yet; repeats are counted over `repeat_window_ms`.
    #[must_use]
    pub const fn new(repeat_window_ms: i64) -> Self {
        Self {
            all: SlidingCount::new(1_000),
            by_strategy: BTreeMap::new(),
            minute_notional: SlidingSum::new(60_000),
            repeat_window_ms,
            repeats: BTreeMap::new(),
        }
    }

    /// Counts repeats over another window from here on.
    pub fn set_repeat_window(&mut self, window_ms: i64) {
        self.repeat_window_ms = window_ms;
        for counter in self.repeats.values_mut() {
            counter.window_ms = window_ms;
        }
    }

    /// Counts one approval.
    pub fn record(&mut self, strategy: &StrategyId, at: Timestamp) {
        self.all.record(at);
        let counter = self.by_strategy.entry(strategy.clone()).or_insert_with(|| SlidingCount::new(1_000));
        counter.record(at);
    }

    /// Counts what an approved order that is no exit adds; `shape` is all that makes two orders repeats of one another.
    pub fn record_risk(&mut self, shape: u64, notional: Notional, at: Timestamp) {
        self.minute_notional.record(notional, at);
        let window_ms = self.repeat_window_ms;
        self.repeats.entry(shape).or_insert_with(|| SlidingCount::new(window_ms)).record(at);
    }

    /// Takes back what [`Self::record`] counted.
    pub fn take_back(&mut self, strategy: &StrategyId, at: Timestamp) {
        self.all.take_back(at);
        if let Some(counter) = self.by_strategy.get_mut(strategy) {
            counter.take_back(at);
        }
    }

    /// Takes back what [`Self::record_risk`] counted.
    pub fn take_back_risk(&mut self, shape: u64, notional: Notional, at: Timestamp) {
        self.minute_notional.take_back(notional, at);
        if let Some(counter) = self.repeats.get_mut(&shape) {
            counter.take_back(at);
        }
    }

    /// The counts for an order of this strategy and shape.
    pub fn counts(&mut self, strategy: &StrategyId, shape: u64, now: Timestamp) -> PaceCount {
        PaceCount {
            all: self.all.count(now),
            of_strategy: self.by_strategy.get_mut(strategy).map_or(0, |counter| counter.count(now)),
            minute_notional: self.minute_notional.sum(now),
            repeats: self.repeats.get_mut(&shape).map_or(0, |counter| counter.count(now)),
        }
    }

    /// Forgets what no window holds any more.
    pub fn prune(&mut self, now: Timestamp) {
        self.by_strategy.retain(|_, counter| counter.count(now) > 0);
        self.repeats.retain(|_, counter| counter.count(now) > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_leaves_exactly_one_window_later() {
        let start = Timestamp::from_millis(10_000);
        let mut window = SlidingCount::new(1_000);
        window.record(start);
        assert_eq!(window.count(start.plus_ms(999)), 1);
        assert_eq!(window.count(start.plus_ms(1_000)), 0);
    }

    #[test]
    fn a_clock_that_goes_back_frees_nothing() {
        let start = Timestamp::from_millis(10_000);
        let mut window = SlidingCount::new(1_000);
        window.record(start);
        assert_eq!(window.count(start.plus_ms(-5_000)), 1);
        let count = DayCount::default().plus(Notional::ZERO, start.plus_ms(UtcDay::MS));
        assert_eq!(count.on(start).orders, 1);
    }

    #[test]
    fn the_day_count_restarts_at_midnight_utc() {
        let midnight = Timestamp::from_millis(UtcDay::MS * 20_000);
        let before = DayCount::default().plus(Notional::parse("10").unwrap(), midnight.plus_ms(-1));
        assert_eq!(before.on(midnight.plus_ms(-1)).orders, 1);
        assert_eq!(before.on(midnight).orders, 0);
        assert!(before.on(midnight).notional.is_zero());
    }

    fn usd(amount: &str) -> Notional {
        Notional::parse(amount).unwrap()
    }

    #[test]
    fn an_amount_leaves_the_sum_exactly_one_window_later() {
        let start = Timestamp::from_millis(10_000);
        let mut window = SlidingSum::new(60_000);
        window.record(usd("10"), start);
        window.record(usd("5"), start.plus_ms(1));
        assert_eq!(window.sum(start.plus_ms(59_999)), usd("15"));
        assert_eq!(window.sum(start.plus_ms(60_000)), usd("5"));
        assert_eq!(window.sum(start.plus_ms(60_001)), Notional::ZERO);
    }

    #[test]
    fn what_is_taken_back_was_never_counted_and_nothing_else_is_taken() {
        let (start, later) = (Timestamp::from_millis(10_000), Timestamp::from_millis(10_001));
        let trend = StrategyId::parse("trend").unwrap();
        let mut pace = Pace::new(1_000);
        for at in [start, later] {
            pace.record(&trend, at);
            pace.record_risk(7, usd("10"), at);
        }
        pace.take_back(&trend, later);
        pace.take_back_risk(7, usd("10"), later);
        let one = PaceCount { all: 1, of_strategy: 1, minute_notional: usd("10"), repeats: 1 };
        assert_eq!(pace.counts(&trend, 7, later), one);
        pace.take_back(&trend, later);
        pace.take_back_risk(7, usd("9"), start);
        pace.take_back_risk(8, usd("10"), later);
        assert_eq!(
            pace.counts(&trend, 7, later),
            PaceCount { repeats: 0, ..one },
            "only what was counted is taken back"
        );
        let today = DayCount::default().plus(usd("10"), start).plus(usd("4"), later);
        let without = today.minus(usd("4"), later);
        assert_eq!((without.orders, without.notional), (1, usd("10")));
        let tomorrow = start.plus_ms(UtcDay::MS);
        assert_eq!(today.minus(usd("4"), tomorrow), today, "another day's approval is not in this count");
    }

    #[test]
    fn another_window_for_repeats_holds_for_what_was_counted_before() {
        let start = Timestamp::from_millis(10_000);
        let trend = StrategyId::parse("trend").unwrap();
        let mut pace = Pace::new(1_000);
        pace.record_risk(7, usd("10"), start);
        pace.set_repeat_window(5_000);
        assert_eq!(pace.counts(&trend, 7, start.plus_ms(4_999)).repeats, 1);
        pace.record_risk(8, usd("10"), start);
        assert_eq!(pace.counts(&trend, 8, start.plus_ms(5_000)).repeats, 0);
    }

    #[test]
    fn only_what_no_window_holds_is_forgotten() {
        let start = Timestamp::from_millis(10_000);
        let (trend, grid) = (StrategyId::parse("trend").unwrap(), StrategyId::parse("grid").unwrap());
        let mut pace = Pace::new(2_000);
        pace.record(&trend, start);
        pace.record(&grid, start.plus_ms(500));
        pace.record_risk(7, usd("10"), start);
        pace.record_risk(8, usd("10"), start.plus_ms(1_500));
        pace.prune(start.plus_ms(1_000));
        assert_eq!((pace.by_strategy.len(), pace.repeats.len()), (1, 2));
        assert!(pace.by_strategy.contains_key(&grid));
        pace.prune(start.plus_ms(2_000));
        assert_eq!((pace.by_strategy.len(), pace.repeats.len()), (0, 1));
        assert!(pace.repeats.contains_key(&8));
    }
}
