//! Metrics of this service: what it writes, and what it sees of the desk when it looks by itself.

use cdb_core::event::EventType;
use cdb_core::second_opinion::Opinion;
use cdb_io::meters::{Meters, Position, UNKNOWN};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::audit::meters::AuditMeters;
use crate::config::Config;
use crate::projection::STREAMS;

/// Services whose heartbeat is looked for.
pub const SERVICES: [&str; 3] = ["cdb_risk", "cdb_execution", "cdb_monitor"];
/// Consumer groups whose lag is looked at.
pub const GROUPS: [&str; 2] = ["cdb_risk", "cdb_execution"];
/// Streams whose length is looked at.
pub const LENGTHS: [&str; 5] = ["cdb:orders", "cdb:verdicts", "cdb:executions", "cdb:events", "cdb:dead"];
/// Positions of the breaker.
const BREAKER: &[&str] = &[UNKNOWN, "closed", "open", "half_open"];
/// Whether everything is stopped.
const STOP: &[&str] = &[UNKNOWN, "clear", "stopped"];
/// Whether there is a permit.
const PERMIT: &[&str] = &[UNKNOWN, "present", "absent"];

/// Metrics.
#[derive(Clone)]
pub struct Observer {
    registry: Registry,
    written: IntCounterVec,
    /// Failures of Redis.
    pub redis_errors: IntCounter,
    /// Failures of the database.
    pub postgres_errors: IntCounter,
    /// Commands that the bus's ACL refused.
    pub acl_denied: IntCounter,
    /// The stop of everything.
    pub stop: Position,
    /// The permit.
    pub permit: Position,
    /// The breaker.
    pub breaker: Position,
    /// 1 for a service whose heartbeat is there.
    pub heartbeats: IntGaugeVec,
    /// Entries of a stream.
    pub lengths: IntGaugeVec,
    /// Entries that a group has not read.
    pub lag: IntGaugeVec,
    /// Entries that a group has read and not acknowledged.
    pub pending: IntGaugeVec,
    /// Millionths of the disk that are free.
    pub disk_free: IntGauge,
    /// The audit trail.
    pub audit: AuditMeters,
    events: IntCounterVec,
    second_opinions: IntCounterVec,
}

impl Observer {
    /// Registers everything.
    ///
    /// # Errors
    /// A metric's name is given twice.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let meters = Meters::of("cdb_monitor");
        meters.build_info(config.service.mode.as_str(), &[])?;
        let words = EventType::ALL.iter().map(|event_type| event_type.as_str());
        Ok(Self {
            written: meters.counters("entries_total", "Entries in the ledger", "stream", STREAMS)?,
            redis_errors: meters.counter("redis_errors_total", "Failures of Redis")?,
            postgres_errors: meters.counter("postgres_errors_total", "Failures of the database")?,
            acl_denied: meters.counter("acl_denied_total", "Log-ins and commands that Redis's ACL refused")?,
            stop: meters.position("stop_state", "1 for whether everything is stopped, as seen on Redis", STOP)?,
            permit: meters.position("permit_state", "1 for whether there is a permit, as seen on Redis", PERMIT)?,
            breaker: meters.position("breaker_state", "1 for the breaker's position, as seen on Redis", BREAKER)?,
            heartbeats: meters.gauges(
                "heartbeat_present",
                "1 while a service's heartbeat is there",
                "service",
                SERVICES,
            )?,
            lengths: meters.gauges("stream_entries", "Entries of a stream", "stream", LENGTHS)?,
            lag: meters.gauges("group_lag_entries", "Entries that a group has not read", "group", GROUPS)?,
            pending: meters.gauges("group_pending_entries", "Entries read and not acknowledged", "group", GROUPS)?,
            disk_free: meters.gauge("disk_free_ppm", "Free share of the disk of STATE_DIR, millionths")?,
            audit: AuditMeters::new(&meters)?,
            events: meters.counters("events_total", "Events of the desk since this process began", "type", words)?,
            second_opinions: meters.counters(
                "second_opinions_total",
                "Verdicts decided again, by what came out",
                "opinion",
                Opinion::WORDS.iter().copied(),
            )?,
            registry: meters.registry(),
        })
    }

    /// For the endpoint.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Entries are in the ledger.
    pub fn written(&self, stream: &str, count: usize) {
        self.written.with_label_values(&[stream]).inc_by(u64::try_from(count).unwrap_or_default());
    }

    /// The desk published an event.
    pub fn event(&self, event_type: EventType) {
        self.events.with_label_values(&[event_type.as_str()]).inc();
    }

    /// A verdict was decided again.
    pub fn second_opinion(&self, word: &str) {
        self.second_opinions.with_label_values(&[word]).inc();
    }

    /// Redis does not say how the desk stands.
    pub fn desk_unknown(&self) {
        self.stop.set(UNKNOWN);
        self.permit.set(UNKNOWN);
        self.breaker.set(UNKNOWN);
    }

    /// Redis or the database failed.
    pub fn trouble(&self, error: &anyhow::Error) {
        if error.downcast_ref::<sqlx::Error>().is_some() {
            self.postgres_errors.inc();
        } else {
            self.redis_errors.inc();
        }
    }
}
