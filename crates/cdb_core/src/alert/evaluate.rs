//! From samples to alerts: quiet, pending, firing. What is bad for long enough fires, once; it is resolved when it has been
//! good for long enough, with room between the two figures, so that nothing flaps. What is not measured is unknown: a
//! pending alert is forgotten, a firing one stands.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use super::page::Series;
use super::rule::{Bad, Measure, Rule, Selector};
use super::window::Watch;
use crate::time::Timestamp;

/// Instances of one rule at most.
const INSTANCES_MAX: usize = 64;

/// What a rule says of one of its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Bad, not for long enough yet.
    Pending { since: Timestamp },
    Firing {
        /// Good since then, not for long enough yet.
        good_since: Option<Timestamp>,
    },
}

/// What an evaluation changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The alert: the rule's name, and behind a slash what it is about.
    pub alert: String,
    /// Which rule.
    pub rule: String,
    /// What it is about, of a rule with `by`.
    pub about: Option<String>,
    /// What happened.
    pub moved: Moved,
}

/// How an alert moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It fires, with this value.
    Raised(Decimal),
    /// It is over.
    Resolved(Decimal),
}

/// Rules, and how each stands.
#[derive(Debug, Clone)]
pub struct Evaluator {
    rules: Vec<Rule>,
    watch: Watch,
    standings: BTreeMap<(usize, String), Standing>,
}

impl Evaluator {
    /// Begins quiet but for alerts that fired before, by name: they are resolved once they are measured as good.
    #[must_use]
    pub fn new(rules: Vec<Rule>, firing: &BTreeSet<String>) -> Self {
        let mut standings = BTreeMap::new();
        for alert in firing {
            let (name, about) = alert.split_once('/').unwrap_or((alert, ""));
            if let Some(at) = rules.iter().position(|rule| rule.name == name) {
                standings.insert((at, about.to_owned()), Standing::Firing { good_since: None });
            }
        }
        Self { rules, watch: Watch::default(), standings }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A target does not answer.
    pub fn missing(&mut self, target: &str) {
        self.watch.missing(target);
    }

    /// A page of a target.
    pub fn read(&mut self, target: &str, page: &[(Series, Decimal)], now: Timestamp) {
        let Self { rules, watch, .. } = self;
        watch.read(target, page, |series| kept_ms(rules, series), now);
    }

    /// Looks at every rule.
    pub fn evaluate(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            let measured = measure(rule, &self.watch, now);
            for about in measured.keys().filter(|about| measured.len() <= INSTANCES_MAX || about.is_empty()) {
                let key = (at, about.clone());
                let (next, moved) = step(rule, self.standings.get(&key).copied(), measured[about], now);
                match next {
                    Some(next) => self.standings.insert(key, next),
                    None => self.standings.remove(&key),
                };
                if let Some(moved) = moved {
                    let about = (!about.is_empty()).then(|| about.clone());
                    let alert =
                        about.as_ref().map_or_else(|| rule.name.clone(), |about| format!("{}/{about}", rule.name));
                    changes.push(Change { alert, rule: rule.name.clone(), about, moved });
                }
            }
            // What is not measured any more is unknown.
            self.standings.retain(|(of, about), standing| {
                *of != at || measured.contains_key(about) || matches!(standing, Standing::Firing { .. })
            });
        }
        changes
    }
}

/// One step of one alert; `None` is quiet.
fn step(
    rule: &Rule,
    standing: Option<Standing>,
    value: Option<Decimal>,
    now: Timestamp,
) -> (Option<Standing>, Option<Moved>) {
    let Some(value) = value else {
        let kept = standing.filter(|standing| matches!(standing, Standing::Firing { .. }));
        return (kept, None);
    };
    match standing {
        None | Some(Standing::Pending { .. }) if !rule.is_bad(value) => (None, None),
        None | Some(Standing::Pending { .. }) => {
            let since = match standing {
                Some(Standing::Pending { since }) => since,
                Some(Standing::Firing { .. }) | None => now,
            };
            if now.since_ms(since) >= rule.for_ms {
                (Some(Standing::Firing { good_since: None }), Some(Moved::Raised(value)))
            } else {
                (Some(Standing::Pending { since }), None)
            }
        }
        Some(Standing::Firing { .. }) if rule.goes_on(value) => (Some(Standing::Firing { good_since: None }), None),
        Some(Standing::Firing { good_since }) => {
            let good_since = good_since.unwrap_or(now);
            if now.since_ms(good_since) >= rule.clear_for_ms {
                (None, Some(Moved::Resolved(value)))
            } else {
                (Some(Standing::Firing { good_since: Some(good_since) }), None)
            }
        }
    }
}

/// For how long a series' growth is kept; `None` when no rule looks at it.
fn kept_ms(rules: &[Rule], series: &Series) -> Option<i64> {
    let is_of = |selector: &Selector| selector.matches(series) || selector.is_unknown_of(series);
    let looks = |rule: &&Rule| rule.selectors().iter().any(is_of);
    let window_ms = |rule: &Rule| match &rule.measure {
        Measure::Increase { window_ms, .. }
        | Measure::Ratio { window_ms, .. }
        | Measure::Quantile { window_ms, .. } => *window_ms,
        Measure::Value { .. } => 0,
    };
    rules.iter().filter(looks).map(window_ms).max()
}

/// What a rule measures, by what it is about (empty without `by`); `None` is unknown.
fn measure(rule: &Rule, watch: &Watch, now: Timestamp) -> BTreeMap<String, Option<Decimal>> {
    let about = |series: &Series| match &rule.by {
        None => Some(String::new()),
        Some(by) => series.labels.get(by).cloned(),
    };
    let mut measured: BTreeMap<String, Option<Decimal>> = BTreeMap::new();
    match &rule.measure {
        Measure::Increase { of, window_ms } => {
            for (series, grew) in watch.increases(of, *window_ms, now) {
                let Some(about) = about(series) else { continue };
                let sum = measured.entry(about).or_default();
                *sum = Some(sum.unwrap_or_default().saturating_add(grew));
            }
        }
        Measure::Ratio { part, whole, window_ms, min_sample } => {
            let part = watch.increase(part, *window_ms, now);
            let whole = watch.increase(whole, *window_ms, now);
            let ratio = match (part, whole) {
                (Some(part), Some(whole)) if whole >= *min_sample => part.checked_div(whole),
                // Too little happened for a share to mean anything: nothing is wrong that a share could show.
                (Some(_), Some(_)) => Some(Decimal::ZERO),
                (None, _) | (_, None) => None,
            };
            measured.insert(String::new(), ratio);
        }
        Measure::Quantile { of, quantile, window_ms, min_sample } => {
            for (about, buckets) in buckets(watch, of, *window_ms, now, about) {
                measured.insert(about, Some(quantile_of(&buckets, *quantile, *min_sample)));
            }
        }
        Measure::Value { of, is_absolute } => {
            for (series, value) in watch.values(of, now) {
                let Some(about) = about(series) else { continue };
                let value = if *is_absolute { value.abs() } else { value };
                let worst = measured.entry(about).or_insert(Some(value));
                *worst = worst.map(|worst| match rule.bad {
                    Bad::AtLeast => worst.max(value),
                    Bad::Below => worst.min(value),
                });
            }
        }
    }
    for value in measured.values_mut() {
        *value = value.and_then(|value| value.checked_div(rule.divide_by));
    }
    measured
}

/// Observations at most at each bound, the bounds rising; `None` is no bound.
type Buckets = Vec<(Option<Decimal>, Decimal)>;

fn buckets(
    watch: &Watch,
    of: &Selector,
    window_ms: i64,
    now: Timestamp,
    about: impl Fn(&Series) -> Option<String>,
) -> BTreeMap<String, Buckets> {
    let selector = Selector { metric: format!("{}_bucket", of.metric), labels: of.labels.clone() };
    let mut found: BTreeMap<String, BTreeMap<(bool, Decimal), Decimal>> = BTreeMap::new();
    for (series, grew) in watch.increases(&[selector], window_ms, now) {
        let (Some(about), Some(bound)) = (about(series), series.labels.get("le")) else { continue };
        let bound = bound.parse::<Decimal>().ok();
        let key = (bound.is_none(), bound.unwrap_or_default());
        let count = found.entry(about).or_default().entry(key).or_default();
        *count = count.saturating_add(grew);
    }
    let sorted = |buckets: BTreeMap<(bool, Decimal), Decimal>| {
        buckets.into_iter().map(|((is_last, bound), count)| ((!is_last).then_some(bound), count)).collect()
    };
    found.into_iter().map(|(about, buckets)| (about, sorted(buckets))).collect()
}

/// The quantile, evenly spread within its bucket, as Prometheus has it; 0 with too few observations.
fn quantile_of(buckets: &Buckets, quantile: Decimal, min_sample: Decimal) -> Decimal {
    let total = buckets.last().map(|(_, count)| *count).unwrap_or_default();
    if total < min_sample {
        return Decimal::ZERO;
    }
    let rank = total.saturating_mul(quantile);
    let (mut lower, mut below) = (Decimal::ZERO, Decimal::ZERO);
    for (bound, count) in buckets {
        // Beyond the last bound nothing more is known than that it is beyond.
        let Some(bound) = bound else { return lower };
        if *count >= rank {
            let within = count.saturating_sub(below);
            let share = rank.saturating_sub(below).checked_div(within).unwrap_or(Decimal::ONE);
            return lower.saturating_add(bound.saturating_sub(lower).saturating_mul(share));
        }
        (lower, below) = (*bound, *count);
    }
    lower
}

#[cfg(test)]
mod tests;
