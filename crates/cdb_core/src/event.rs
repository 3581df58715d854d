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

impl EventType {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::ServiceStarted,
        Self::ServiceStopping,
        Self::ConfigLoaded,
        Self::StopSeen,
        Self::StopCleared,
        Self::BreakerOpened,
        Self::BreakerHalfOpen,
        Self::BreakerClosed,
        Self::BreakerReset,
        Self::StateLost,
        Self::Resumed,
        Self::LeaseAcquired,
        Self::LeaseLost,
        Self::KeyLoaded,
        Self::KeyRotated,
        Self::KeyRejected,
        Self::RateLimited,
        Self::Banned,
        Self::Security,
        Self::AuditTrouble,
        Self::Checkpoint,
        Self::AlertRaised,
        Self::AlertResolved,
        Self::OperatorAction,
    ];

    /// The wire word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceStarted => "service_started",
            Self::ServiceStopping => "service_stopping",
            Self::ConfigLoaded => "config_loaded",
            Self::StopSeen => "stop_seen",
            Self::StopCleared => "stop_cleared",
            Self::BreakerOpened => "breaker_opened",
            Self::BreakerHalfOpen => "breaker_half_open",
            Self::BreakerClosed => "breaker_closed",
            Self::BreakerReset => "breaker_reset",
            Self::StateLost => "state_lost",
            Self::Resumed => "resumed",
            Self::LeaseAcquired => "lease_acquired",
            Self::LeaseLost => "lease_lost",
            Self::KeyLoaded => "key_loaded",
            Self::KeyRotated => "key_rotated",
            Self::KeyRejected => "key_rejected",
            Self::RateLimited => "rate_limited",
            Self::Banned => "banned",
            Self::Security => "security",
            Self::AuditTrouble => "audit_trouble",
            Self::Checkpoint => "checkpoint",
            Self::AlertRaised => "alert_raised",
            Self::AlertResolved => "alert_resolved",
            Self::OperatorAction => "operator_action",
        }
    }

    /// The word for it in the audit trail.
    #[must_use]
    pub const fn record_type(self) -> &'static str {
        match self {
            Self::ServiceStarted => "SERVICE_STARTED",
            Self::ServiceStopping => "SERVICE_STOPPING",
            Self::ConfigLoaded => "CONFIG_LOADED",
            Self::StopSeen => "STOP_SEEN",
            Self::StopCleared => "STOP_CLEARED",
            Self::BreakerOpened => "BREAKER_OPENED",
            Self::BreakerHalfOpen => "BREAKER_HALF_OPEN",
            Self::BreakerClosed => "BREAKER_CLOSED",
            Self::BreakerReset => "BREAKER_RESET",
            Self::StateLost => "STATE_LOST",
            Self::Resumed => "RESUMED",
            Self::LeaseAcquired => "LEASE_ACQUIRED",
            Self::LeaseLost => "LEASE_LOST",
            Self::KeyLoaded => "KEY_LOADED",
            Self::KeyRotated => "KEY_ROTATED",
            Self::KeyRejected => "KEY_REJECTED",
            Self::RateLimited => "RATE_LIMITED",
            Self::Banned => "BANNED",
            Self::Security => "SECURITY",
            Self::AuditTrouble => "AUDIT_TROUBLE",
            Self::Checkpoint => "CHECKPOINT",
            Self::AlertRaised => "ALERT_RAISED",
            Self::AlertResolved => "ALERT_RESOLVED",
            Self::OperatorAction => "OPERATOR_ACTION",
        }
    }
}

/// Kinds of security event (`detail.kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityKind {
    /// A verdict that cdb_risk did not sign.
    BadSignature,
    /// A genuine verdict put on the stream again.
    ReplayedVerdict,
    /// A wrong token or log-in.
    AuthFailed,
    /// Refused by Redis.
    AclDenied,
    /// The exchange answered 401 or 403.
    ExchangeAuth,
}

impl SecurityKind {
    /// Every kind.
    pub const ALL: &'static [Self] =
        &[Self::BadSignature, Self::ReplayedVerdict, Self::AuthFailed, Self::AclDenied, Self::ExchangeAuth];

    /// The wire word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadSignature => "bad_signature",
            Self::ReplayedVerdict => "replayed_verdict",
            Self::AuthFailed => "auth_failed",
            Self::AclDenied => "acl_denied",
            Self::ExchangeAuth => "exchange_auth",
        }
    }
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
    fn every_kind_is_listed_under_its_wire_word() {
        for event_type in EventType::ALL {
            assert_eq!(serde_json::to_string(event_type).unwrap(), format!("\"{}\"", event_type.as_str()));
        }
        for kind in SecurityKind::ALL {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{}\"", kind.as_str()));
        }
        let words: std::collections::BTreeSet<_> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), EventType::ALL.len());
    }

    #[test]
    fn the_golden_event_reads_and_writes_the_same_bytes() {
        let json = r#"{"v":1,"type":"breaker_opened","service":"cdb_risk","actor":"service","reason":"3 failures","detail":{"cause":"consecutive_failures"},"ts":1700000000000}"#;
        let event: Event = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
    }
}
