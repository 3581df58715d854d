//! Entries as rows, each a JSON object whose fields are the table's columns. Nothing here asks the database, and the same
//! entries always give the same rows. What cannot be read becomes a dead letter, never lost.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use cdb_core::event::Event;
use cdb_core::report::{AccountSnapshot, Execution, ExecutionReport, Finding};
use cdb_core::time::Timestamp;
use cdb_io::bus::{Entry, keys};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Rows of several tables, in the order of the entries. Of each order there is one row a batch, and they are sorted, so
/// that two batches at one time never wait for each other in a circle.
#[derive(Default)]
pub struct Rows {
    pub verdicts: Vec<Value>,
    pub reports: Vec<Value>,
    pub fills: Vec<Value>,
    pub balances: Vec<Value>,
    pub findings: Vec<Value>,
    pub events: Vec<Value>,
    pub dead_letters: Vec<Value>,
    /// Orders by their first verdict.
    pub decided: BTreeMap<String, Value>,
    /// Orders by their latest report.
    pub changed: BTreeMap<String, Value>,
}

/// A verdict as far as the ledger keeps it.
#[derive(Deserialize)]
struct PublishedVerdict {
    cl_ord_id: String,
    decision: String,
    reason: Option<String>,
    detail: String,
    checks: Value,
    command: Option<Value>,
    notional: Option<Decimal>,
    limits_hash: String,
    epoch: String,
    ts: Timestamp,
}

impl Rows {
    /// Of a stream's entries.
    pub fn of(stream: &str, entries: &[Entry]) -> Self {
        let mut rows = Self::default();
        for entry in entries {
            if let Err(problem) = rows.add(stream, entry) {
                rows.dead_letters.push(unreadable(stream, entry, &problem));
            }
        }
        rows
    }

    /// An entry as a dead letter of this service.
    pub fn unreadable(stream: &str, entry: &Entry, problem: &str) -> Self {
        Self { dead_letters: vec![unreadable(stream, entry, problem)], ..Self::default() }
    }

    fn add(&mut self, stream: &str, entry: &Entry) -> Result<(), String> {
        match stream {
            keys::VERDICTS => {
                let verdict = serde_json::from_slice(entry.json()).map_err(|error| error.to_string())?;
                self.verdict(entry.id.as_str(), verdict);
            }
            keys::EXECUTIONS => self.execution(entry.id.as_str(), &Execution::parse(entry.json())?),
            keys::EVENTS => {
                let event = serde_json::from_slice(entry.json()).map_err(|error| error.to_string())?;
                self.event(entry.id.as_str(), event);
            }
            _ => self.dead_letters.push(json!({
                "entry": entry.id.as_str(), "stream": entry.text("stream"), "of_entry": entry.text("entry"),
                "reason": entry.text("reason"), "note": entry.text("text"), "original": entry.text("bytes"),
            })),
        }
        Ok(())
    }

    fn verdict(&mut self, entry: &str, verdict: PublishedVerdict) {
        let command = verdict.command.as_ref();
        let field = |name: &str| command.and_then(|command| command[name].as_str());
        // A price that is no number is one of the reasons for a refusal.
        let number = |name: &str| field(name).and_then(|text| Decimal::from_str(text).ok());
        if field("type").is_none_or(|kind| kind == "new") {
            let order = json!({
                "cl_ord_id": verdict.cl_ord_id, "strategy": field("strategy"), "symbol": field("symbol"),
                "side": field("side"), "ord_type": field("ord_type"), "tif": field("tif"), "qty": number("qty"),
                "quote_qty": number("quote_qty"), "price": number("price"), "decision": verdict.decision,
                "reason": verdict.reason, "detail": verdict.detail, "notional": verdict.notional,
                "decided_at": verdict.ts.to_rfc3339(), "verdict_entry": entry,
            });
            self.decided.entry(verdict.cl_ord_id.clone()).or_insert(order);
        }
        self.verdicts.push(json!({
            "entry": entry, "cl_ord_id": verdict.cl_ord_id, "decision": verdict.decision, "reason": verdict.reason,
            "detail": verdict.detail, "checks": verdict.checks, "command": verdict.command,
            "notional": verdict.notional, "limits_hash": verdict.limits_hash, "epoch": verdict.epoch,
            "decided_at": verdict.ts.to_rfc3339(),
        }));
    }

    /// One message of cdb_execution, from the stream or from the audit trail.
    pub fn execution(&mut self, entry: &str, execution: &Execution) {
        match execution {
            Execution::ExecutionReport(report) => self.report(entry, report),
            Execution::AccountSnapshot(snapshot) => self.account(entry, snapshot),
            Execution::Finding(finding) => self.finding(entry, finding),
        }
    }

    fn report(&mut self, entry: &str, report: &ExecutionReport) {
        let (order_id, avg_px) = (report.order_id.as_ref().map(|id| id.as_str()), report.avg_px);
        let qty = report.order_qty.map(|qty| qty.decimal());
        self.reports.push(json!({
            "entry": entry, "cl_ord_id": report.cl_ord_id, "exec_id": report.exec_id, "order_id": order_id,
            "exec_type": word(&report.exec_type), "ord_status": report.ord_status.as_str(),
            "in_doubt": report.in_doubt, "strategy": report.strategy, "symbol": report.symbol,
            "side": report.side.as_str(), "cum_qty": report.cum_qty, "avg_px": avg_px, "reason": report.reason,
            "note": report.text, "source": word(&report.source), "mode": report.mode.as_str(),
            "transact_time": report.transact_time.to_rfc3339(), "reported_at": report.ts.to_rfc3339(),
        }));
        let order = json!({
            "cl_ord_id": report.cl_ord_id, "strategy": report.strategy, "symbol": report.symbol,
            "side": report.side.as_str(), "ord_type": report.ord_type, "tif": report.tif, "qty": qty,
            "quote_qty": report.quote_qty, "price": report.price, "ord_status": report.ord_status.as_str(),
            "in_doubt": report.in_doubt, "cum_qty": report.cum_qty, "avg_px": avg_px, "end_reason": report.reason,
            "end_note": report.text, "order_id": order_id, "mode": report.mode.as_str(),
            "changed_at": report.ts.to_rfc3339(), "report_entry": entry,
        });
        self.changed.insert(report.cl_ord_id.to_string(), order);
        let Some(fill) = &report.fill else { return };
        self.fills.push(json!({
            "mode": report.mode.as_str(), "symbol": report.symbol, "trade_id": fill.trade_id,
            "cl_ord_id": report.cl_ord_id, "strategy": report.strategy, "side": report.side.as_str(),
            "qty": fill.last_qty, "price": fill.last_px, "commission": fill.commission,
            "commission_asset": fill.commission_asset, "is_maker": fill.is_maker,
            "traded_at": report.transact_time.to_rfc3339(), "entry": entry,
        }));
    }

    fn account(&mut self, entry: &str, snapshot: &AccountSnapshot) {
        self.balances.extend(snapshot.balances.iter().map(|balance| {
            json!({
                "entry": entry, "asset": balance.asset, "free": balance.free, "locked": balance.locked,
                "mode": snapshot.mode.as_str(), "taken_at": snapshot.ts.to_rfc3339(),
            })
        }));
    }

    fn finding(&mut self, entry: &str, finding: &Finding) {
        self.findings.push(json!({
            "entry": entry, "kind": finding.kind.as_str(), "symbol": finding.symbol, "order_id": finding.order_id,
            "trade_id": finding.trade_id, "ours": finding.ours, "theirs": finding.theirs, "note": finding.text,
            "found_at": finding.ts.to_rfc3339(),
        }));
    }

    fn event(&mut self, entry: &str, event: Event) {
        self.events.push(json!({
            "entry": entry, "event_type": event.event_type.as_str(), "service": event.service, "actor": event.actor,
            "reason": event.reason, "detail": event.detail, "happened_at": event.ts.to_rfc3339(),
        }));
    }
}

fn unreadable(stream: &str, entry: &Entry, problem: &str) -> Value {
    tracing::error!(stream, entry = %entry.id, problem, "an entry cannot be read");
    json!({
        "entry": format!("{stream}/{}", entry.id), "stream": stream, "of_entry": entry.id.as_str(),
        "reason": "unreadable", "note": problem, "original": json!(entry.text("json")).to_string(),
    })
}

/// The wire word of an enum that is one word on the wire.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// As the database takes it: it has no character of code 0, which JSON has. In its place stands U+FFFD.
pub fn storable(rows: Vec<Value>) -> Value {
    fn replaced(value: Value) -> Value {
        let text = |text: String| text.replace('\0', "\u{fffd}");
        match value {
            Value::String(string) => Value::String(text(string)),
            Value::Array(values) => values.into_iter().map(replaced).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (text(name), replaced(value))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }
    replaced(Value::Array(rows))
}

#[cfg(test)]
mod tests {
    use cdb_core::ids::EntryId;

    use super::*;

    fn entry(id: &str, json: &str) -> Entry {
        Entry { id: EntryId::parse(id).unwrap(), fields: vec![("json".to_owned(), json.as_bytes().to_vec())] }
    }

    fn verdict(id: &str, order: &str, decision: &str, command: &Value) -> Entry {
        let verdict = json!({
            "v": 1, "cl_ord_id": order, "decision": decision, "detail": "", "checks": [], "command": command,
            "limits_hash": "h", "epoch": "e", "ts": 1_700_000_000_123_i64,
        });
        entry(id, &verdict.to_string())
    }

    #[test]
    fn an_order_is_its_first_verdict_and_what_is_no_number_is_absent() {
        let command = json!({"type": "new", "symbol": "BTCUSDT", "qty": "0.10", "price": "plenty"});
        let entries = [verdict("1-0", "a", "approved", &command), verdict("2-0", "a", "rejected", &json!({}))];
        let rows = Rows::of(keys::VERDICTS, &entries);
        assert_eq!(rows.verdicts.len(), 2);
        let order = &rows.decided["a"];
        assert_eq!((&order["decision"], &order["verdict_entry"]), (&json!("approved"), &json!("1-0")));
        assert_eq!((&order["qty"], &order["price"]), (&json!("0.10"), &Value::Null));
        assert_eq!(order["decided_at"], "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn a_cancel_is_a_verdict_and_no_order() {
        let rows = Rows::of(keys::VERDICTS, &[verdict("1-0", "c", "approved", &json!({"type": "cancel"}))]);
        assert_eq!((rows.verdicts.len(), rows.decided.len()), (1, 0));
    }

    #[test]
    fn what_cannot_be_read_is_a_dead_letter_beside_the_rest() {
        let entries = [entry("1-0", "{"), verdict("2-0", "a", "approved", &json!({}))];
        let rows = Rows::of(keys::VERDICTS, &entries);
        assert_eq!((rows.dead_letters.len(), rows.verdicts.len()), (1, 1));
        assert_eq!(rows.dead_letters[0]["entry"], "cdb:verdicts/1-0");
    }

    #[test]
    fn the_character_that_the_database_does_not_have_is_replaced_wherever_it_stands() {
        let rows = vec![json!({"a\u{0}": ["x\u{0}y", {"b": "\u{0}"}], "n": 1})];
        assert_eq!(storable(rows), json!([{"a\u{fffd}": ["x\u{fffd}y", {"b": "\u{fffd}"}], "n": 1}]));
    }
}
