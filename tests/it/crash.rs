//! Killing any one service with -9 in a burst and starting it again loses and doubles nothing: one verdict for each
//! order, at most one request for each, each approved order ends, and exchange, reports, ledger and audit agree.

use std::collections::BTreeSet;

use cdb_tests::cell::Cell;
use cdb_tests::chaos::broken_promises;
use cdb_tests::orders::market_buy;
use serde_json::Value;

const ORDERS: usize = 80;

async fn burst_with_a_kill(cell: &Cell, part: &str) {
    for n in 0..ORDERS {
        cell.put(&market_buy(&format!("{part}-{n}"), "0.001").to_string()).await;
        if n == ORDERS / 2 {
            cell.kill(part);
        }
    }
}

async fn assert_everything_agrees(cell: &Cell, count: usize) {
    let verdicts = cell.stream("cdb:verdicts").await;
    let answered: BTreeSet<&str> = verdicts.iter().map(|verdict| verdict["cl_ord_id"].as_str().unwrap()).collect();
    assert_eq!((verdicts.len(), answered.len()), (count, count), "one verdict for each order");

    let broken: Vec<String> = broken_promises(cell, false).await;
    assert!(broken.is_empty(), "{broken:#?}");
    let reports = cell.reports().await;
    cell.until("the ledger has every order and fill", async || {
        let view = cell.http("cdb_monitor", "/api/orders?limit=10000").await;
        let rows: Vec<Value> = serde_json::from_str(&view).unwrap_or_default();
        let is_equal = |row: &Value| {
            let id = row["cl_ord_id"].as_str().unwrap_or_default();
            let last = reports.get(id).and_then(|reports| reports.last());
            last.is_none_or(|last| last["ord_status"] == row["ord_status"])
        };
        rows.len() == count && rows.iter().all(is_equal)
    })
    .await;
}

async fn survives(part: &str) {
    let cell = Cell::start().await;
    burst_with_a_kill(&cell, part).await;
    cell.until("all are answered", async || cell.stream("cdb:verdicts").await.len() >= ORDERS).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    assert_everything_agrees(&cell, ORDERS).await;
}

#[tokio::test]
async fn killing_redis_between_two_bursts_loses_and_doubles_nothing() {
    let cell = Cell::start().await;
    for n in 0..ORDERS / 2 {
        cell.put(&market_buy(&format!("before-{n}"), "0.001").to_string()).await;
    }
    cell.until("they have ended", async || {
        cell.stream("cdb:verdicts").await.len() == ORDERS / 2 && cell.unfinished().await.is_empty()
    })
    .await;
    let (epoch, reports) = (cell.value_of("cdb:epoch").await, cell.length_of("cdb:executions").await);
    cell.kill("redis");
    cell.until("it is another Redis", async || cell.is_connected().await && cell.has_restarted().await).await;
    // Redis replays its log as the default user, which must be allowed everything although nobody can be it: otherwise
    // what scripts and transactions wrote is dropped without a word.
    assert!(cell.length_of("cdb:executions").await >= reports, "reports are gone after a restart of Redis");
    assert_eq!(cell.length_of("cdb:verdicts").await, ORDERS / 2, "verdicts are gone after a restart of Redis");
    assert_eq!(cell.value_of("cdb:epoch").await, epoch);
    cell.until("it may trade again", async || cell.status().await["may_trade"] == true).await;
    cell.until("this test is connected again", async || cell.is_connected().await).await;
    for n in 0..ORDERS / 2 {
        cell.put(&market_buy(&format!("after-{n}"), "0.001").to_string()).await;
    }
    cell.until("all are answered", async || cell.stream("cdb:verdicts").await.len() >= ORDERS).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    assert_everything_agrees(&cell, ORDERS).await;
}

#[tokio::test]
async fn killing_the_stand_in_in_a_burst_loses_and_doubles_nothing() {
    survives("exchange").await;
}

/// FL-RD-05: a crash between reading and acknowledging.
#[tokio::test]
async fn killing_risk_in_a_burst_loses_and_doubles_nothing() {
    survives("cdb_risk").await;
}

#[tokio::test]
async fn killing_execution_in_a_burst_loses_and_doubles_nothing() {
    survives("cdb_execution").await;
}

/// FL-RK-15: whoever reports and alerts may fail at any moment; nothing that decides or stops waits for it.
#[tokio::test]
async fn killing_the_monitor_in_a_burst_loses_and_doubles_nothing() {
    survives("cdb_monitor").await;
}
