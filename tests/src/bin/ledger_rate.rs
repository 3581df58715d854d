//! `just ledger-rate`: how many entries a second cdb_monitor brings from the streams into the ledger, database included.
//! Risk and execution sleep meanwhile; the entries are copies of a real order's, each with an id of its own.

use std::time::{Duration, Instant};

use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;
use cdb_tests::sql::Role;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Orders: for each a verdict, two reports of which one is a fill, and an event.
const ORDERS: usize = 20_000;
/// Entries put in one pipeline.
const AT_ONCE: usize = 2_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let cell = Cell::start().await;
    let mut redis = cell.as_superuser().await;
    cell.put(&market_buy("model", "0.002").to_string()).await;
    cell.until("the model is filled", async || cell.state_of("model").await.as_deref() == Some("Filled")).await;
    cell.until_ledger_is_level().await;
    let verdicts = cell.stream("cdb:verdicts").await;
    let verdict = verdicts.iter().find(|verdict| verdict["cl_ord_id"] == "model").expect("a verdict").clone();
    let reports = cell.reports().await["model"].clone();
    let (first, fill) = (reports.first().expect("a report").clone(), reports.last().expect("a fill").clone());
    for service in ["cdb_risk", "cdb_execution", "cdb_monitor"] {
        cell.signal(service, Signal::STOP);
    }
    let copy = |message: &Value, n: usize| {
        let mut copy = message.clone();
        copy["cl_ord_id"] = json!(format!("copy-{n}"));
        if copy.get("exec_id").is_some() {
            copy["exec_id"] = json!(format!("{}-{n}", copy["exec_id"]));
        }
        if copy.get("trade_id").is_some() {
            copy["trade_id"] = json!(format!("copy-{n}"));
        }
        copy.to_string()
    };
    let event = json!({"v": 1, "type": "config_loaded", "service": "cdb_risk", "actor": "service", "reason": "a copy",
        "detail": {"n": 1}, "ts": cdb_io::clock::now()});
    for start in (0..ORDERS).step_by(AT_ONCE) {
        let mut pipeline = redis::pipe();
        for n in start..(start + AT_ONCE).min(ORDERS) {
            pipeline.xadd("cdb:verdicts", "*", &[("json", copy(&verdict, n)), ("sig", String::new())]).ignore();
            pipeline.xadd("cdb:executions", "*", &[("json", copy(&first, n))]).ignore();
            pipeline.xadd("cdb:executions", "*", &[("json", copy(&fill, n))]).ignore();
            pipeline.xadd("cdb:events", "*", &[("json", event.to_string())]).ignore();
        }
        let () = pipeline.query_async(&mut redis).await.expect("XADD");
    }
    let mut ends = Vec::new();
    for stream in ["cdb:verdicts", "cdb:executions", "cdb:events"] {
        let last = cell.newest_entry(stream).await;
        // The monitor itself publishes events after these.
        ends.push(format!("(stream = '{stream}' AND entry_place(entry) >= entry_place('{last}'))"));
    }
    let level = format!("SELECT count(*) FROM cursors WHERE {}", ends.join(" OR "));
    let begun = Instant::now();
    cell.signal("cdb_monitor", Signal::CONT);
    while cell.sql(Role::Reader, &level) != "3" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rows = "SELECT (SELECT count(*) FROM orders WHERE cl_ord_id LIKE 'copy-%' AND ord_status = 'Filled')
                || ' ' || (SELECT count(*) FROM fills WHERE trade_id LIKE 'copy-%')";
    assert_eq!(cell.sql(Role::Reader, rows), format!("{ORDERS} {ORDERS}"), "every order and fill is there once");
    let entries = ORDERS * 4;
    println!("{entries} entries in {seconds:.1} s: {:.0} a second into the ledger", entries as f64 / seconds);
    // Those that sleep would not hear that the cell ends.
    for service in ["cdb_risk", "cdb_execution"] {
        cell.signal(service, Signal::KILL);
    }
}
