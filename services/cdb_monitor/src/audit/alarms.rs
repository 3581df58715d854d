//! What is wrong with the audit trail, told when it begins and when it is over; what could not be told is told later.

use std::collections::BTreeMap;
use std::time::Duration;

use cdb_core::event::{Event, EventType};
use cdb_io::bus::Bus;
use cdb_io::{clock, events};
use serde_json::Value;

/// Longest wait for Redis.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Somebody has to act.
    Critical,
    /// To look at today.
    Warning,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// Alerts by id.
#[derive(Default)]
pub struct Alarms {
    wrong: BTreeMap<String, (Level, String, Value)>,
    /// Ids whose alert is open, as far as was told.
    told: Vec<String>,
}

impl Alarms {
    /// Alerts that an earlier process raised: they end when nothing is wrong any more.
    pub fn recall(&mut self, open: Vec<String>) {
        self.told.extend(open.into_iter().filter(|id| !self.wrong.contains_key(id)));
        self.told.sort();
        self.told.dedup();
    }

    /// All that is wrong, by id: level, sentence, figures.
    pub fn set(&mut self, wrong: BTreeMap<String, (Level, String, Value)>) {
        self.wrong = wrong;
    }

    /// The next thing to tell: whether it begins, and its id.
    fn next(&self) -> Option<(bool, String)> {
        let begins = self.wrong.keys().find(|id| !self.told.contains(id)).map(|id| (true, id.clone()));
        begins.or_else(|| self.told.iter().find(|id| !self.wrong.contains_key(*id)).map(|id| (false, id.clone())))
    }

    /// Tells what has begun and what is over.
    pub async fn tell(&mut self, bus: &Bus, service: &str) {
        while let Some((begins, id)) = self.next() {
            let event = self.event(begins, &id, service);
            let mut redis = bus.commands();
            match tokio::time::timeout(ANSWER_MAX, events::publish(&mut redis, &event)).await {
                Ok(Ok(())) if begins => {
                    tracing::error!(alert = id, reason = event.reason, "the audit trail needs somebody");
                    self.told.push(id);
                }
                Ok(Ok(())) => self.told.retain(|told| *told != id),
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    fn event(&self, begins: bool, id: &str, service: &str) -> Event {
        // One rule for all chains: the part before the colon.
        let rule = id.split(':').next().unwrap_or(id);
        let event_type = if begins { EventType::AlertRaised } else { EventType::AlertResolved };
        let (level, reason, mut detail) = match self.wrong.get(id) {
            Some((level, text, figures)) => (level.as_str(), text.clone(), figures.clone()),
            None => ("info", "it is over".to_owned(), Value::Object(serde_json::Map::new())),
        };
        for (name, value) in [("id", id), ("rule", rule), ("level", level)] {
            detail[name] = Value::from(value);
        }
        Event::by_service(event_type, service, reason, detail, clock::now())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(ids: &[&str]) -> BTreeMap<String, (Level, String, Value)> {
        ids.iter().map(|id| ((*id).to_owned(), (Level::Critical, "text".to_owned(), json!({"chain": "x"})))).collect()
    }

    #[test]
    fn each_alert_is_told_once_and_ends_even_when_an_earlier_process_raised_it() {
        let mut alarms = Alarms::default();
        alarms.set(wrong(&["audit_chain:a"]));
        assert_eq!(alarms.next(), Some((true, "audit_chain:a".to_owned())));
        alarms.told.push("audit_chain:a".to_owned());
        assert_eq!(alarms.next(), None);
        alarms.recall(vec!["audit_anchor_age".to_owned(), "audit_anchor_age".to_owned()]);
        assert_eq!(alarms.next(), Some((false, "audit_anchor_age".to_owned())));
        alarms.told.retain(|id| id != "audit_anchor_age");
        alarms.set(wrong(&[]));
        assert_eq!(alarms.next(), Some((false, "audit_chain:a".to_owned())));
    }

    #[test]
    fn an_alert_carries_id_rule_and_level() {
        let mut alarms = Alarms::default();
        alarms.set(wrong(&["audit_chain:a"]));
        let event = alarms.event(true, "audit_chain:a", "cdb_monitor");
        let expected = json!({"chain": "x", "id": "audit_chain:a", "rule": "audit_chain", "level": "critical"});
        assert_eq!((event.event_type, event.detail), (EventType::AlertRaised, expected));
    }
}
