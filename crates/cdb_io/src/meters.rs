//! Metrics under one rule of names: `cdb_<service>_<noun>_<unit>`, counters end in `_total`, labels come from closed
//! sets and every value of theirs is there at 0 from the start, so that the first failure is an increase and not a birth.

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::config::BUILD;

/// Bounds of time-outs and answers, s.
const SECONDS: [f64; 13] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0];

/// Makes and registers one service's metrics.
pub struct Meters {
    service: &'static str,
    registry: Registry,
}

/// What every constructor returns; the error is a name that is given twice or is no name.
type Made<T> = Result<T, prometheus::Error>;

impl Meters {
    /// For a service: `cdb_risk`.
    #[must_use]
    pub fn of(service: &'static str) -> Self {
        Self { service, registry: Registry::new() }
    }

    /// For the endpoint.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}_{name}", self.service), help)
    }

    /// `<service>_<name>`, which ends in `_total`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn counter(&self, name: &str, help: &str) -> Made<IntCounter> {
        let counter = IntCounter::with_opts(self.options(name, help))?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    /// Counters by one label, all at 0.
    ///
    /// # Errors
    /// The name is taken.
    pub fn counters<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Made<IntCounterVec> {
        let counters = IntCounterVec::new(self.options(name, help), &[label])?;
        self.registry.register(Box::new(counters.clone()))?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(counters)
    }

    /// Counters by two labels, every combination at 0.
    ///
    /// # Errors
    /// The name is taken.
    pub fn counters_by_two<'a>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; 2],
        first: impl IntoIterator<Item = &'a str>,
        second: &[&str],
    ) -> Made<IntCounterVec> {
        let counters = IntCounterVec::new(self.options(name, help), &labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        for one in first {
            for other in second {
                counters.with_label_values(&[one, other]);
            }
        }
        Ok(counters)
    }

    /// A gauge at 0.
    ///
    /// # Errors
    /// The name is taken.
    pub fn gauge(&self, name: &str, help: &str) -> Made<IntGauge> {
        let gauge = IntGauge::with_opts(self.options(name, help))?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    /// Gauges by one label, all at 0.
    ///
    /// # Errors
    /// The name is taken.
    pub fn gauges<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Made<IntGaugeVec> {
        let gauges = IntGaugeVec::new(self.options(name, help), &[label])?;
        self.registry.register(Box::new(gauges.clone()))?;
        for value in values {
            gauges.with_label_values(&[value]).set(0);
        }
        Ok(gauges)
    }

    /// Gauges of settings, which are fractions.
    ///
    /// # Errors
    /// The name is taken.
    pub fn settings(&self, name: &str, help: &str, label: &str) -> Made<GaugeVec> {
        let gauges = GaugeVec::new(self.options(name, help), &[label])?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    /// A position that is exactly one of these words; `unknown` is one of them and is where it begins.
    ///
    /// # Errors
    /// The name is taken.
    pub fn position(&self, name: &str, help: &str, words: &'static [&'static str]) -> Made<Position> {
        let gauges = self.gauges(name, help, "state", words.iter().copied())?;
        let position = Position { gauges, words };
        position.set(UNKNOWN);
        Ok(position)
    }

    /// Durations.
    ///
    /// # Errors
    /// The name is taken.
    pub fn seconds(&self, name: &str, help: &str) -> Made<Histogram> {
        let options = HistogramOpts { common_opts: self.options(name, help), buckets: SECONDS.to_vec() };
        let histogram = Histogram::with_opts(options)?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    /// Durations by one label.
    ///
    /// # Errors
    /// The name is taken.
    pub fn seconds_by<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Made<HistogramVec> {
        let options = HistogramOpts { common_opts: self.options(name, help), buckets: SECONDS.to_vec() };
        let histograms = HistogramVec::new(options, &[label])?;
        self.registry.register(Box::new(histograms.clone()))?;
        for value in values {
            histograms.with_label_values(&[value]);
        }
        Ok(histograms)
    }

    /// `<service>_build_info`: always 1, with what runs.
    ///
    /// # Errors
    /// The name is taken.
    pub fn build_info(&self, mode: &str, more: &[(&str, &str)]) -> Made<()> {
        let labels: Vec<&str> = ["build", "mode"].into_iter().chain(more.iter().map(|(label, _)| *label)).collect();
        let values: Vec<&str> = [BUILD, mode].into_iter().chain(more.iter().map(|(_, value)| *value)).collect();
        let build = IntGaugeVec::new(self.options("build_info", "Always 1, with what runs"), &labels)?;
        build.with_label_values(&values).set(1);
        self.registry.register(Box::new(build))
    }
}

/// The word for what is not known: never shown as good.
pub const UNKNOWN: &str = "unknown";

/// One gauge a word, of which exactly one is 1.
#[derive(Clone)]
pub struct Position {
    gauges: IntGaugeVec,
    words: &'static [&'static str],
}

impl Position {
    /// It is this word, and no other.
    pub fn set(&self, word: &str) {
        for known in self.words {
            self.gauges.with_label_values(&[known]).set(i64::from(*known == word));
        }
    }
}

/// How much of the file system that holds a path is free, millionths; 0 when it cannot be asked.
#[must_use]
pub fn disk_free_ppm(path: &std::path::Path) -> i64 {
    let Ok(stat) = rustix::fs::statvfs(path) else { return 0 };
    let share = u128::from(stat.f_bavail) * 1_000_000 / u128::from(stat.f_blocks.max(1));
    i64::try_from(share).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_one_word_and_begins_unknown() {
        let meters = Meters::of("cdb_test");
        let position = meters.position("stop_state", "help", &[UNKNOWN, "clear", "stopped"]).unwrap();
        let shown = || {
            let families = meters.registry().gather();
            let metrics = families[0].get_metric().to_vec();
            metrics.iter().map(|metric| metric.get_gauge().get_value()).collect::<Vec<_>>()
        };
        assert_eq!(shown(), [0.0, 0.0, 1.0], "in the order of the words: clear, stopped, unknown");
        position.set("stopped");
        assert_eq!(shown(), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn free_space_is_a_share_and_what_cannot_be_asked_is_full() {
        assert!((1..=1_000_000).contains(&disk_free_ppm(std::path::Path::new("/"))));
        assert_eq!(disk_free_ppm(std::path::Path::new("/nowhere/at/all")), 0);
    }
}
