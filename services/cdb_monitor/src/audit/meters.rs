//! Metrics of the audit trail.

use std::time::Duration;

use cdb_io::meters::{Meters, Position, UNKNOWN};
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::Place;

/// What the chains are, taken together.
const STATES: &[&str] = &[UNKNOWN, "clean", "broken"];

/// Metrics.
#[derive(Clone)]
pub struct AuditMeters {
    state: Position,
    chains: IntGauge,
    records: IntGauge,
    unread: IntGauge,
    lag: IntGauge,
    anchor_age: IntGauge,
    /// Checkpoints that were signed and published.
    pub checkpoints: IntCounter,
    /// Failures to anchor a checkpoint, by place.
    pub anchor_errors: IntCounterVec,
}

impl AuditMeters {
    /// Registers everything.
    ///
    /// # Errors
    /// A metric's name is given twice.
    pub fn new(meters: &Meters) -> Result<Self, prometheus::Error> {
        let places = Place::ALL.iter().map(|place| place.as_str());
        Ok(Self {
            state: meters.position("audit_state", "1 for what the audit chains are, taken together", STATES)?,
            chains: meters.gauge("audit_chains", "Audit chains that are followed")?,
            records: meters.gauge("audit_records", "Records of all chains that were verified")?,
            unread: meters.gauge("audit_unread_bytes", "Bytes of the chains that are not verified yet")?,
            lag: meters.gauge("audit_lag_seconds", "Since when a chain has not been verified to its end")?,
            anchor_age: meters.gauge(
                "anchor_age_seconds",
                "Age of the oldest chain's newest anchored checkpoint; -1 without a key to sign with",
            )?,
            checkpoints: meters.counter("checkpoints_total", "Checkpoints signed and published")?,
            anchor_errors: meters.counters(
                "anchor_errors_total",
                "Failures to anchor a checkpoint",
                "place",
                places,
            )?,
        })
    }

    /// All chains were looked at.
    pub fn looked(
        &self,
        state: &'static str,
        chains: usize,
        records: u64,
        unread: u64,
        lag: Duration,
        age: Option<Duration>,
    ) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.state.set(state);
        self.chains.set(i64::try_from(chains).unwrap_or(i64::MAX));
        self.records.set(gauge(records));
        self.unread.set(gauge(unread));
        self.lag.set(gauge(lag.as_secs()));
        self.anchor_age.set(age.map_or(-1, |age| gauge(age.as_secs())));
    }
}
