//! What a rule is: what is measured, from where on it is an alert, for how long it must hold, and when it is over.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::Level;
use super::page::Series;
use super::window::{STATE, UNKNOWN};
use crate::event::EventType;

/// Time series of one metric, by some of their labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// The metric.
    pub metric: String,
    /// Labels that must be these.
    pub labels: BTreeMap<String, String>,
}

impl Selector {
    /// Whether a series is meant.
    #[must_use]
    pub fn matches(&self, series: &Series) -> bool {
        series.metric == self.metric
            && self.labels.iter().all(|(label, value)| series.labels.get(label).is_some_and(|is| is == value))
    }
}

impl Selector {
    /// Whether a series says that the position which is meant is unknown.
    #[must_use]
    pub fn is_unknown_of(&self, series: &Series) -> bool {
        series.metric == self.metric
            && self.labels.contains_key(STATE)
            && series.labels.get(STATE).is_some_and(|state| state == UNKNOWN)
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// By how much counters grew within the window.
    Increase {
        /// The counters, added up.
        of: Vec<Selector>,
        /// ms.
        window_ms: i64,
    },
    /// A part of a whole, both grown within the window.
    Ratio {
        /// Counters of the part.
        part: Vec<Selector>,
        /// Counters of the whole.
        whole: Vec<Selector>,
        /// ms.
        window_ms: i64,
        /// With a smaller whole there is nothing to say.
        min_sample: Decimal,
    },
    /// A quantile of a histogram within the window.
    Quantile {
        /// The histogram, without `_bucket`.
        of: Selector,
        /// Above 0, below 1.
        quantile: Decimal,
        /// ms.
        window_ms: i64,
        /// With fewer observations there is nothing to say.
        min_sample: Decimal,
    },
    /// The worst of gauges as they stand.
    Value {
        /// The gauges.
        of: Vec<Selector>,
        /// Without its sign.
        is_absolute: bool,
    },
}

/// Which side of the threshold is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// At the threshold and above.
    AtLeast,
    /// Below the threshold.
    Below,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, the alert's too.
    pub name: String,
    /// How bad it is.
    pub level: Level,
    /// What it means, for a person, in one line.
    pub title: String,
    /// What is measured.
    pub measure: Measure,
    /// What is measured is divided by this: millionths become a share, seconds days.
    pub divide_by: Decimal,
    /// Which side is bad.
    pub bad: Bad,
    /// From where on it is bad.
    pub threshold: Decimal,
    /// Where it is good again: below it (`at_least`), or at it and above (`below`).
    pub clear: Decimal,
    /// For how long it must be bad before it fires, ms.
    pub for_ms: i64,
    /// For how long it must be good before it is resolved, ms.
    pub clear_for_ms: i64,
    /// One alert for each value of this label.
    pub by: Option<String>,
    /// Events whose last text says why.
    pub explain: Vec<EventType>,
    /// Where it is written what to do.
    pub runbook: String,
}

impl Rule {
    /// Whether a measured value is bad.
    #[must_use]
    pub fn is_bad(&self, value: Decimal) -> bool {
        self.is_beyond(value, self.threshold)
    }

    /// Whether a firing alert goes on with this value.
    #[must_use]
    pub fn goes_on(&self, value: Decimal) -> bool {
        self.is_beyond(value, self.clear)
    }

    fn is_beyond(&self, value: Decimal, bound: Decimal) -> bool {
        match self.bad {
            Bad::AtLeast => value >= bound,
            Bad::Below => value < bound,
        }
    }

    /// Every series that the rule looks at; of a histogram its buckets.
    #[must_use]
    pub fn selectors(&self) -> Vec<Selector> {
        match &self.measure {
            Measure::Increase { of, .. } | Measure::Value { of, .. } => of.clone(),
            Measure::Ratio { part, whole, .. } => part.iter().chain(whole).cloned().collect(),
            Measure::Quantile { of, .. } => {
                vec![Selector { metric: format!("{}_bucket", of.metric), labels: of.labels.clone() }]
            }
        }
    }
}
