use serde_json::{Value, json};

use super::*;
use crate::audit::Chain;

const START: i64 = 1_767_700_800_000;

/// Chains of records, told one event at a time; each event is a second later.
struct Told {
    chains: BTreeMap<&'static str, (Chain, String)>,
    now: Timestamp,
}

impl Told {
    fn new() -> Self {
        Self { chains: BTreeMap::new(), now: Timestamp::from_millis(START) }
    }

    fn say(&mut self, chain: &'static str, event_type: &str, order: Option<Value>, result: &Value) -> &mut Self {
        let (writer, text) = self.chains.entry(chain).or_insert_with(|| (Chain::genesis(chain, "test"), String::new()));
        text.push_str(&writer.append(event_type, None, order.as_ref(), Some(result), self.now).0);
        self.now = self.now.plus_ms(1_000);
        self
    }

    fn verdict(&mut self, id: &str, decision: &str) -> &mut Self {
        self.say("cdb_risk", VERDICT, None, &json!({ "verdict": verdict(id, decision) }))
    }

    fn submitted(&mut self, chain: &'static str, id: &str) -> &mut Self {
        let order = json!({"cl_ord_id": id, "symbol": "BTCUSDT", "strategy": "s"});
        let approval = json!({"verdict": digest(verdict(id, "approved").as_bytes())});
        let result = json!({"claim": {"granted_at": self.now.millis()}, "approval": approval});
        self.say(chain, SUBMITTED, Some(order), &result)
    }

    fn report(
        &mut self,
        chain: &'static str,
        id: &str,
        status: &str,
        cum_qty: &str,
        trade: Option<(&str, &str)>,
    ) -> &mut Self {
        let mut report = json!({"cl_ord_id": id, "order_id": "C02__1", "ord_status": status, "cum_qty": cum_qty});
        if let Some((trade_id, last_qty)) = trade {
            report["trade_id"] = json!(trade_id);
            report["last_qty"] = json!(last_qty);
        }
        self.say(chain, "ORDER_REPORT", None, &report)
    }

    fn bought(&mut self, id: &str) -> &mut Self {
        self.verdict(id, "approved").submitted("cdb_execution", id);
        self.report("cdb_execution", id, "New", "0", None);
        self.report("cdb_execution", id, "PartiallyFilled", "0.1", Some(("1", "0.1")));
        self.report("cdb_execution", id, "Filled", "0.30", Some(("2", "0.2")))
    }

    /// Chain, record number and kind of each fault.
    fn faults(&self) -> Vec<(String, u64, &'static str)> {
        let mut story = Story::default();
        for (name, (_, text)) in &self.chains {
            story.begin_chain(name);
            for (index, line) in text.lines().enumerate() {
                story.take("f", index + 1, &serde_json::from_str(line).unwrap());
            }
        }
        let faults = story.end().into_iter();
        faults.map(|(chain, fault)| (chain, fault.seq.unwrap(), fault.kind.as_str())).collect()
    }
}

fn verdict(id: &str, decision: &str) -> String {
    json!({"cl_ord_id": id, "decision": decision}).to_string()
}

fn found(chain: &str, seq: u64, kind: &'static str) -> Vec<(String, u64, &'static str)> {
    vec![(chain.to_owned(), seq, kind)]
}

#[test]
fn a_whole_life_and_an_order_that_is_still_open_fit_together() {
    let mut told = Told::new();
    told.bought("a").verdict("b", "approved").submitted("cdb_execution", "b");
    told.report("cdb_execution", "b", "New", "0", None);
    told.verdict("c", "rejected");
    assert_eq!(told.faults(), []);
}

#[test]
fn a_send_without_an_approval_on_record_is_found() {
    let mut told = Told::new();
    told.bought("a").submitted("cdb_execution", "b");
    assert_eq!(told.faults(), found("cdb_execution", 5, "no_approval"));
    let mut refused = Told::new();
    refused.verdict("a", "rejected").submitted("cdb_execution", "a");
    assert_eq!(refused.faults(), found("cdb_execution", 1, "no_approval"));
}

#[test]
fn an_approval_of_other_bytes_is_no_approval() {
    let mut told = Told::new();
    let other = json!({"cl_ord_id": "a", "decision": "approved", "qty": "9"}).to_string();
    told.say("cdb_risk", VERDICT, None, &json!({ "verdict": other })).submitted("cdb_execution", "a");
    assert_eq!(told.faults(), found("cdb_execution", 1, "no_approval"));
}

#[test]
fn submissions_of_builds_that_named_no_verdict_are_taken_as_they_are() {
    let mut told = Told::new();
    let result = json!({"claim": {"granted_at": 1}, "verdict_entry": "1-0"});
    told.say("cdb_execution", SUBMITTED, Some(json!({"cl_ord_id": "a"})), &result);
    assert_eq!(told.faults(), []);
    told.say("cdb_execution", SUBMITTED, Some(json!({"cl_ord_id": "b"})), &json!({}));
    assert_eq!(told.faults(), found("cdb_execution", 2, "no_approval"), "but they must be readable");
}

#[test]
fn an_order_that_the_exchange_has_needs_an_earlier_submission() {
    let mut told = Told::new();
    told.report("cdb_execution", "ghost", "New", "0", None);
    assert_eq!(told.faults(), found("cdb_execution", 1, "not_submitted"));
    let mut late = Told::new();
    late.verdict("a", "approved").report("cdb_execution", "a", "New", "0", None).submitted("cdb_execution", "a");
    assert_eq!(late.faults(), found("cdb_execution", 1, "not_submitted"), "recorded after");
    let mut other = Told::new();
    other.verdict("a", "approved").submitted("cdb_execution", "a").report("cdb_execution-2", "a", "New", "0", None);
    assert_eq!(other.faults(), [], "submitted by another instance");
}

#[test]
fn an_order_that_was_refused_before_it_left_needs_none() {
    let mut told = Told::new();
    let refused = json!({"cl_ord_id": "a", "ord_status": "Rejected", "cum_qty": "0", "source": "gate"});
    told.say("cdb_execution", "ORDER_REJECTED", None, &refused);
    assert_eq!(told.faults(), []);
}

#[test]
fn a_second_submission_of_one_order_is_found() {
    let mut told = Told::new();
    told.verdict("a", "approved").submitted("cdb_execution", "a").submitted("cdb_execution-2", "a");
    assert_eq!(told.faults(), found("cdb_execution-2", 1, "submitted_twice"));
}

#[test]
fn an_order_ends_once() {
    let mut told = Told::new();
    told.bought("a").report("cdb_execution", "a", "Canceled", "0.3", None);
    assert_eq!(told.faults(), found("cdb_execution", 5, "after_its_end"));
    let mut reopened = Told::new();
    reopened.bought("a").report("cdb_execution", "a", "New", "0.3", None);
    assert_eq!(reopened.faults(), found("cdb_execution", 5, "after_its_end"));
    let mut late_fill = Told::new();
    late_fill.verdict("a", "approved").submitted("cdb_execution", "a");
    late_fill.report("cdb_execution", "a", "Canceled", "0", None);
    late_fill.report("cdb_execution", "a", "Canceled", "0.1", Some(("1", "0.1")));
    assert_eq!(late_fill.faults(), [], "a fill may come after the cancel");
}

#[test]
fn fills_add_up() {
    let mut told = Told::new();
    told.bought("a").report("cdb_execution", "a", "Filled", "0.4", None);
    assert_eq!(told.faults(), found("cdb_execution", 5, "fills_disagree"));
    let mut unbooked = Told::new();
    unbooked.verdict("a", "approved").submitted("cdb_execution", "a");
    unbooked.report("cdb_execution", "a", "PartiallyFilled", "0.1", Some(("1", "0.2")));
    assert_eq!(unbooked.faults(), found("cdb_execution", 2, "fills_disagree"));
}

#[test]
fn a_grant_within_a_stop_is_found_and_one_outside_its_scope_is_not() {
    for (key, is_covered) in [
        (Some("emergency_stop"), true),
        (Some("emergency_stop:symbol:BTCUSDT"), true),
        (Some("emergency_stop:symbol:ETHUSDT"), false),
        (Some("emergency_stop:strategy:s"), true),
        (Some("emergency_stop:strategy:t"), false),
    ] {
        let mut told = Told::new();
        told.verdict("a", "approved").say("cdb_risk", STOP_SET, None, &json!({ "key": key }));
        told.submitted("cdb_execution", "a");
        let seen = told.now.millis();
        told.say("cdb_risk", STOP_CLEARED, None, &json!({"key": key, "still_set_at": seen}));
        let expected = if is_covered { found("cdb_execution", 1, "sent_while_stopped") } else { vec![] };
        assert_eq!(told.faults(), expected, "{key:?}");
    }
}

#[test]
fn only_the_time_in_which_a_stop_was_seen_counts() {
    let key = json!({"key": "emergency_stop"});
    let mut told = Told::new();
    told.verdict("a", "approved").say("cdb_risk", STOP_SET, None, &key);
    let seen = told.now.millis();
    told.submitted("cdb_execution", "a");
    told.say("cdb_risk", STOP_CLEARED, None, &json!({"key": "emergency_stop", "still_set_at": seen}));
    assert_eq!(told.faults(), [], "granted after it was last seen");
    let mut restarted = Told::new();
    restarted.verdict("a", "approved").say("cdb_risk", STOP_SET, None, &key);
    restarted.say("cdb_risk", "LEASE_ACQUIRED", None, &json!({})).submitted("cdb_execution", "a");
    let seen = restarted.now.millis();
    restarted.say("cdb_risk", STOP_CLEARED, None, &json!({"key": "emergency_stop", "still_set_at": seen}));
    assert_eq!(restarted.faults(), [], "whoever saw it began anew");
}

#[test]
fn a_local_stop_binds_its_own_instance() {
    for (chain, count) in [("cdb_execution", 1), ("cdb_execution-2", 0)] {
        let mut told = Told::new();
        told.verdict("a", "approved").say("cdb_execution", STOP_SET, None, &json!({"reason": "file"}));
        told.submitted(chain, "a");
        let seen = told.now.millis();
        told.say("cdb_execution", STOP_CLEARED, None, &json!({"still_set_at": seen}));
        assert_eq!(told.faults().len(), count, "{chain}");
    }
}
