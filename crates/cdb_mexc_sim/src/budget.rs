//! Rate limits as the exchange counts them: by arrival, in exact sliding windows (exchange API §4).

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

/// Breaches within [`PERSISTENCE_US`] that turn 429 into 418.
const BREACHES_TO_BAN: usize = 5;
/// See [`BREACHES_TO_BAN`].
const PERSISTENCE_US: i64 = 10_000_000;
/// How long a ban lasts, s.
const BAN_S: u64 = 120;

/// One rule: at most `limit` units in any `window_us`.
#[derive(Debug, Clone)]
struct Window {
    window_us: i64,
    limit: Option<u64>,
    arrivals: VecDeque<(i64, u64)>,
    used: u64,
    peak: u64,
    breaches: u64,
}

impl Window {
    const fn new(window_ms: i64, limit: Option<u64>) -> Self {
        Self { window_us: window_ms * 1_000, limit, arrivals: VecDeque::new(), used: 0, peak: 0, breaches: 0 }
    }

    /// Counts an arrival; whether it breaks the rule.
    fn arrive(&mut self, now_us: i64, weight: u64) -> bool {
        while let Some((at, old)) = self.arrivals.front().copied() {
            if now_us - at < self.window_us {
                break;
            }
            self.used -= old;
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((now_us, weight));
        self.used += weight;
        self.peak = self.peak.max(self.used);
        let is_breach = self.limit.is_some_and(|limit| self.used > limit);
        self.breaches += u64::from(is_breach);
        is_breach
    }
}

/// What one window saw.
#[derive(Debug, Clone, Serialize)]
pub struct WindowReport {
    /// Its name.
    pub window: String,
    /// Length, ms.
    pub window_ms: i64,
    /// Its limit; `None` = only watched.
    pub limit: Option<u64>,
    /// Most units in any window of this length.
    pub peak: u64,
    /// Arrivals beyond the limit.
    pub breaches: u64,
}

/// What the exchange answers to an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Go on.
    Admitted,
    /// 429.
    TooMany {
        /// `Retry-After`, s.
        retry_after_s: u64,
    },
    /// 418.
    Banned {
        /// `Retry-After`, s.
        retry_after_s: u64,
    },
}

/// All windows.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    windows: BTreeMap<String, Window>,
    recent_breaches: VecDeque<i64>,
    banned_until_us: i64,
    is_unlimited: bool,
}

impl Budget {
    /// No rule is enforced; everything is still counted. For load tests of other parts.
    pub const fn unlimited(&mut self) {
        self.is_unlimited = true;
    }

    /// Forgets what was counted; whether rules are enforced stays.
    pub fn reset(&mut self) {
        *self = Self { is_unlimited: self.is_unlimited, ..Self::default() };
    }

    /// Counts one request.
    pub fn arrive(&mut self, method: &str, path: &str, weight: u64, now_us: i64) -> Admission {
        if now_us < self.banned_until_us {
            return Admission::Banned { retry_after_s: seconds(self.banned_until_us - now_us) };
        }
        let is_new = method == "POST" && matches!(path, "order" | "batchOrders");
        let is_cancel = method == "DELETE" && matches!(path, "order" | "openOrders" | "order/all");
        let endpoint = format!("weight {method} {path} 10s");
        let mut rules: Vec<(String, i64, Option<u64>, u64)> =
            vec![(endpoint, 10_000, Some(300), weight), ("all requests 1s".to_owned(), 1_000, Some(20), 1)];
        if is_new || is_cancel {
            rules.push(("orders and cancels 1s".to_owned(), 1_000, Some(12), 1));
            rules.push(("orders and cancels 10s".to_owned(), 10_000, None, 1));
        }
        if is_new {
            rules.push(("new orders 1s".to_owned(), 1_000, None, 1));
        }
        if matches!(path, "account" | "batchOrders") {
            rules.push((format!("{path} 1s"), 1_000, Some(2), 1));
        }
        let mut is_breach = false;
        for (name, window_ms, limit, weight) in rules {
            let limit = limit.filter(|_| !self.is_unlimited);
            let window = self.windows.entry(name).or_insert_with(|| Window::new(window_ms, limit));
            is_breach |= window.arrive(now_us, weight);
        }
        if !is_breach {
            return Admission::Admitted;
        }
        self.recent_breaches.push_back(now_us);
        self.recent_breaches.retain(|at| now_us - at < PERSISTENCE_US);
        if self.recent_breaches.len() >= BREACHES_TO_BAN {
            self.banned_until_us = now_us + i64::try_from(BAN_S).unwrap_or_default() * 1_000_000;
            return Admission::Banned { retry_after_s: BAN_S };
        }
        Admission::TooMany { retry_after_s: 1 }
    }

    /// What every window saw.
    #[must_use]
    pub fn report(&self) -> Vec<WindowReport> {
        let report = |(name, window): (&String, &Window)| WindowReport {
            window: name.clone(),
            window_ms: window.window_us / 1_000,
            limit: window.limit,
            peak: window.peak,
            breaches: window.breaches,
        };
        self.windows.iter().map(report).collect()
    }
}

fn seconds(us: i64) -> u64 {
    u64::try_from(us / 1_000_000 + 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thirteenth_order_in_a_second_is_too_many_and_persistence_is_banned() {
        let mut budget = Budget::default();
        for n in 0..12 {
            assert_eq!(budget.arrive("POST", "order", 1, n), Admission::Admitted);
        }
        for n in 0..4 {
            assert_eq!(budget.arrive("DELETE", "order", 1, 20 + n), Admission::TooMany { retry_after_s: 1 });
        }
        assert!(matches!(budget.arrive("POST", "order", 1, 30), Admission::Banned { .. }));
        assert!(matches!(budget.arrive("GET", "time", 1, 5_000_000), Admission::Banned { .. }));
        assert_eq!(budget.arrive("GET", "time", 1, 200_000_000), Admission::Admitted);
    }

    #[test]
    fn an_arrival_leaves_exactly_one_window_later() {
        let mut budget = Budget::default();
        budget.arrive("GET", "account", 10, 0);
        budget.arrive("GET", "account", 10, 0);
        assert!(matches!(budget.arrive("GET", "account", 10, 999_999), Admission::TooMany { .. }));
        let mut budget = Budget::default();
        budget.arrive("GET", "account", 10, 0);
        budget.arrive("GET", "account", 10, 0);
        assert_eq!(budget.arrive("GET", "account", 10, 1_000_000), Admission::Admitted);
    }
}
