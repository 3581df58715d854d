//! What happened to the desk (protocol `cdb:events`).

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The kinds of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// A service began.
    ServiceStarted,
    /// A service ends in order.
    ServiceStopping,
    /// The limits in force.
    ConfigLoaded,
    /// A stop is set.
    StopSeen,
    /// A stop is gone.
    StopCleared,
    /// Trading halted.
    BreakerOpened,
    /// A probe may try.
    BreakerHalfOpen,
    /// Trading again.
    BreakerClosed,
    /// An operator closed it.
    BreakerReset,
    /// Risk no longer knows its history.
    StateLost,
    /// An operator ended a stop or a lost state.
    Resumed,
    /// A service leads.
    LeaseAcquired,
    /// A service no longer leads.
    LeaseLost,
    /// A key is in use.
    KeyLoaded,
    /// A new key replaced the old.
    KeyRotated,
    /// A new key was refused.
    KeyRejected,
    /// The exchange answered 429.
    RateLimited,
    /// The exchange answered 418.
    Banned,
    /// Forged, replayed, refused.
    Security,
    /// The audit trail has a problem.
    AuditTrouble,
    /// The audit chain was signed.
    Checkpoint,
    /// An alert fires.
    AlertRaised,
    /// An alert ended.
    AlertResolved,
    /// Somebody used `cdb` or the console.
    OperatorAction,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Wire version.
    pub v: i64,
    /// What kind.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Who reports it.
    pub service: String,
    /// Who caused it: `service`, an operator's name, or `unknown`.
    pub actor: String,
    /// Why, for a person.
    pub reason: String,
    /// Figures.
    #[serde(default)]
    pub detail: serde_json::Value,
    /// When.
    pub ts: Timestamp,
}

impl Event {
    /// An event that the service itself caused.
    #[must_use]
    pub fn by_service(
        event_type: EventType,
        service: &str,
        reason: impl Into<String>,
        detail: serde_json::Value,
        now: Timestamp,
    ) -> Self {
        let v = crate::command::WIRE_VERSION;
        Self { v, event_type, service: service.into(), actor: "service".into(), reason: reason.into(), detail, ts: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_event_reads_and_writes_the_same_bytes() {
        let json = r#"{"v":1,"type":"breaker_opened","service":"cdb_risk","actor":"service","reason":"3 failures","detail":{"cause":"consecutive_failures"},"ts":1700000000000}"#;
        let event: Event = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
    }
}
