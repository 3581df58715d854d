//! What another service sees and the breaker must heed: kept in `cdb:conditions:<service>`, a hash from the cause's code
//! to this. A condition that is not renewed ends by itself.

use serde::{Deserialize, Serialize};

use crate::breaker::Cause;
use crate::time::Timestamp;

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// It holds until then.
    pub until: Timestamp,
    /// For a person.
    pub text: String,
}

/// The cause, when a field of the hash holds now. What cannot be read holds; what no other service can know does not.
#[must_use]
pub fn cause_of(code: &str, json: &[u8], now: Timestamp) -> Option<Cause> {
    let cause = Cause::parse(code)?;
    let is_reported = match cause {
        Cause::ExchangeBan
        | Cause::ClockOffset
        | Cause::DoubtTooLong
        | Cause::AuditUnwritable
        | Cause::LedgerAway
        | Cause::KeyRefused
        | Cause::ReconciliationBreak => true,
        Cause::ConsecutiveFailures
        | Cause::FailuresPerHour
        | Cause::DailyLoss
        | Cause::Drawdown
        | Cause::ForeignOrder
        | Cause::Operator => false,
    };
    let holds = serde_json::from_slice::<Condition>(json).map_or(true, |condition| condition.until > now);
    (is_reported && holds).then_some(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_until_its_end_and_an_unreadable_one_holds() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let json = |until: i64| format!(r#"{{"until":{until},"text":"x"}}"#);
        let of = |code: &str, json: &str| cause_of(code, json.as_bytes(), now);
        assert_eq!(of("exchange_ban", &json(1_700_000_000_001)), Some(Cause::ExchangeBan));
        assert_eq!(of("exchange_ban", &json(1_700_000_000_000)), None);
        assert_eq!(of("clock_offset", "?"), Some(Cause::ClockOffset));
        for code in ["operator", "daily_loss", "nonsense"] {
            assert_eq!(of(code, &json(1_800_000_000_000)), None, "{code}");
        }
    }
}
