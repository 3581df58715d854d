//! Killing any one service with -9 in a burst and starting it again loses and doubles nothing: one verdict for each
//! order, at most one request for each, each approved order ends, and exchange, reports, ledger and audit agree.

use std::collections::{BTreeMap, BTreeSet};

use cdb_io::audit_log;
use cdb_tests::cell::Cell;
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

    let mut posts: BTreeMap<String, usize> = BTreeMap::new();
    for post in cell.posts().await {
        *posts.entry(post["client_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(posts.values().all(|times| *times == 1), "sent more than once: {posts:?}");
    // The stand-in accepts a used client id as a second order, so two orders of one id would show here as well.
    let mut orders_of: BTreeMap<String, usize> = BTreeMap::new();
    for order in cell.admin("/orders").await.as_array().unwrap() {
        *orders_of.entry(order["client_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(orders_of.values().all(|times| *times == 1), "two orders of one id: {orders_of:?}");

    let reports = cell.reports().await;
    let orders = cell.admin("/orders").await;
    let mut filled_at_exchange = BTreeMap::new();
    for order in orders.as_array().unwrap() {
        filled_at_exchange.insert(order["client_id"].as_str().unwrap().to_owned(), order["executed"].clone());
    }
    for (id, executed) in &filled_at_exchange {
        let last = reports[id].last().unwrap();
        assert_eq!(decimal(&last["cum_qty"]), decimal(executed), "{id}");
        let trades: BTreeSet<&str> = reports[id].iter().filter_map(|report| report["trade_id"].as_str()).collect();
        let booked = reports[id].iter().filter(|report| report["exec_type"] == "Trade").count();
        assert_eq!(trades.len(), booked, "a fill was reported twice: {id}");
    }
    for (id, reports) in &reports {
        let was_filled = reports.last().unwrap()["ord_status"] == "Filled";
        assert_eq!(was_filled, filled_at_exchange.contains_key(id), "{id}");
    }

    let mut submitted = BTreeSet::new();
    let verifier = audit_log::verify_dir(&cell.audit_dir().join("cdb_execution"), |record| {
        if record.event_type == "ORDER_SUBMITTED" {
            let order: Value = serde_json::from_str(record.order.unwrap().get()).unwrap();
            submitted.insert(order["cl_ord_id"].as_str().unwrap().to_owned());
        }
    })
    .unwrap();
    assert_eq!(verifier.faults(), []);
    for id in posts.keys() {
        assert!(submitted.contains(id), "sent without an audit record: {id}");
    }

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

/// `0.0010` and `0.001` are the same quantity.
fn decimal(value: &Value) -> String {
    value.as_str().unwrap().trim_end_matches('0').trim_end_matches('.').to_owned()
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

#[tokio::test]
async fn killing_risk_in_a_burst_loses_and_doubles_nothing() {
    survives("cdb_risk").await;
}

#[tokio::test]
async fn killing_execution_in_a_burst_loses_and_doubles_nothing() {
    survives("cdb_execution").await;
}

#[tokio::test]
async fn killing_the_monitor_in_a_burst_loses_and_doubles_nothing() {
    survives("cdb_monitor").await;
}
