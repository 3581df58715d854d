//! `cdb reconcile`: fills and fees by the exchange, by the audit trail and by the ledger, side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use cdb_core::event::EventType;
use cdb_core::order::Side;
use cdb_core::report::ExecutionReport;
use cdb_io::audit_files;
use cdb_io::bus::keys;
use cdb_io::operator::fresh_id;
use redis::AsyncCommands as _;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments::At;
use crate::audit::chains;
use crate::cell::Cell;
use crate::connect;
use crate::desk::{operator, record};
use crate::outcome::{CONFIGURATION, FAILURE, PROBLEMS, Result, UNREACHABLE, WithCode as _, end};
use crate::output;

/// Longest wait for cdb_execution to ask the exchange, and then for the ledger to be level.
const WAIT: Duration = Duration::from_secs(60);
/// How long the ledger may lag behind the audit trail.
const LEDGER_LAG: Duration = Duration::from_secs(10);

/// What one side says of one symbol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Totals {
    fills: u64,
    bought: Decimal,
    sold: Decimal,
    fees: BTreeMap<String, Decimal>,
}

impl Totals {
    fn normal(mut self) -> Self {
        self.bought = self.bought.normalize();
        self.sold = self.sold.normalize();
        self.fees = self.fees.into_iter().map(|(asset, fee)| (asset, fee.normalize())).collect();
        self
    }
}

type Books = BTreeMap<String, Totals>;

#[derive(Deserialize)]
struct Answer {
    id: String,
    since_ms: i64,
    symbols: BTreeMap<String, AtExchange>,
}

#[derive(Deserialize)]
struct AtExchange {
    is_whole: bool,
    #[serde(flatten)]
    totals: Totals,
}

/// Has everything compared, and prints the three sides.
pub async fn run(at: &At) -> Result {
    let (cell, bus) = operator(at).await?;
    let id = fresh_id();
    record(&bus, at, EventType::OperatorAction, "compare with the exchange", json!({"command": "reconcile"})).await?;
    let mut redis = bus.commands();
    let () = redis.set(keys::RECONCILE_COMMAND, &id).await.code(UNREACHABLE)?;
    let answered = async {
        loop {
            let json: Option<String> = redis.get(keys::RECONCILE).await.code(UNREACHABLE)?;
            let answer = json.map(|json| serde_json::from_str::<Answer>(&json)).transpose().code(FAILURE)?;
            match answer.filter(|answer| answer.id == id) {
                Some(answer) => return Ok(answer),
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let answer = tokio::time::timeout(WAIT, answered).await;
    let answer = answer
        .map_err(|_| end(UNREACHABLE, "cdb_execution did not answer; does it lead, and is the exchange there?"))??;
    if let Some((symbol, _)) = answer.symbols.iter().find(|(_, side)| !side.is_whole) {
        let text = format!("{symbol} had more fills in one second than the exchange shows: nothing can be said of it");
        return Err(end(FAILURE, text));
    }
    let exchange = normal(answer.symbols.into_iter().map(|(symbol, side)| (symbol, side.totals)).collect());
    let audit = normal(by_audit(&cell, answer.since_ms)?);
    let deadline = tokio::time::Instant::now() + LEDGER_LAG;
    let ledger = loop {
        let ledger = normal(by_ledger(&cell, answer.since_ms).await?);
        if with_all(&ledger, &exchange) == with_all(&audit, &exchange) || tokio::time::Instant::now() > deadline {
            break ledger;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    show(at, &[("exchange", exchange), ("audit", audit), ("ledger", ledger)])
}

fn normal(books: Books) -> Books {
    books.into_iter().map(|(symbol, totals)| (symbol, totals.normal())).filter(|(_, totals)| totals.fills > 0).collect()
}

/// The books with an empty line for each symbol that only the other side has.
fn with_all(books: &Books, other: &Books) -> Books {
    let mut all = books.clone();
    for symbol in other.keys() {
        all.entry(symbol.clone()).or_default();
    }
    all
}

fn by_audit(cell: &Cell, since_ms: i64) -> Result<Books> {
    let mut books = Books::new();
    for chain in chains(&cell.audit_dir)? {
        let verifier = audit_files::verify_dir(&chain, |record| {
            let Some(result) = record.result.filter(|_| record.event_type.starts_with("ORDER_")) else { return };
            let Ok(report) = serde_json::from_str::<ExecutionReport>(result.get()) else { return };
            let Some(fill) = report.fill.as_ref().filter(|_| report.transact_time.millis() >= since_ms) else { return };
            let totals = books.entry(report.symbol.to_string()).or_default();
            totals.fills += 1;
            let sum = if report.side == Side::Buy { &mut totals.bought } else { &mut totals.sold };
            *sum += fill.last_qty.decimal();
            *totals.fees.entry(fill.commission_asset.to_string()).or_default() += fill.commission.decimal();
        });
        let verifier = verifier.code(CONFIGURATION)?;
        if let Some(fault) = verifier.faults().first() {
            return Err(end(PROBLEMS, format!("the audit trail is not clean: {}; see `cdb audit verify`", fault.text)));
        }
    }
    Ok(books)
}

async fn by_ledger(cell: &Cell, since_ms: i64) -> Result<Books> {
    let view = connect::view(cell, &format!("/api/totals?since_ms={since_ms}")).await?;
    serde_json::from_value(view).code(FAILURE)
}

fn show(at: &At, sides: &[(&str, Books)]) -> Result {
    let is_same = sides.iter().all(|(_, books)| *books == sides[0].1);
    if at.json {
        let by_side: BTreeMap<&str, &Books> = sides.iter().map(|(name, books)| (*name, books)).collect();
        output::json(&json!({"agrees": is_same, "sides": by_side}));
    } else {
        let symbols: std::collections::BTreeSet<&String> = sides.iter().flat_map(|(_, books)| books.keys()).collect();
        let mut rows = Vec::new();
        for symbol in symbols {
            for (name, books) in sides {
                let totals = books.get(symbol).cloned().unwrap_or_default();
                let fees: Vec<String> = totals.fees.iter().map(|(asset, fee)| format!("{fee} {asset}")).collect();
                let (bought, sold) = (totals.bought.to_string(), totals.sold.to_string());
                rows.push(vec![
                    symbol.clone(),
                    (*name).to_owned(),
                    totals.fills.to_string(),
                    bought,
                    sold,
                    fees.join(", "),
                ]);
            }
        }
        output::table(&["SYMBOL", "BY", "FILLS", "BOUGHT", "SOLD", "FEES"], &rows);
        println!("{}", if is_same { output::green("all three agree") } else { output::red("they differ") });
    }
    let message = if at.json { String::new() } else { "exchange, audit trail and ledger differ".to_owned() };
    if is_same { Ok(()) } else { Err(end(PROBLEMS, message)) }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn sides_are_compared_by_value_and_not_by_spelling() {
        let one: Value = json!({"BTCUSDT": {"fills": 1, "bought": "0.10", "sold": "0", "fees": {"USDT": "0.050"}}});
        let other: Value =
            json!({"BTCUSDT": {"fills": 1, "bought": "0.1", "sold": "0.0", "fees": {"USDT": "0.05"}}, "ETHUSDT": {}});
        let books = |value: Value| normal(serde_json::from_value::<Books>(value).unwrap());
        assert_eq!(books(one), books(other));
    }
}
