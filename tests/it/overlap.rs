//! Two executors alive at once: the second waits for the lease, takes over when the first is paused past it, and the
//! first comes back to a gate that knows its token is stale.

use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;
use cdb_tests::second::Second;

/// Puts orders until one of them is filled.
async fn one_is_filled(cell: &Cell, name: &str) {
    let count = std::cell::Cell::new(0_u32);
    cell.until("an order is filled", async || {
        count.set(count.get() + 1);
        let id = format!("{name}-{}", count.get());
        cell.put(&market_buy(&id, "0.001").to_string()).await;
        let reports = cell.reports().await;
        reports.iter().any(|(id, reports)| {
            id.starts_with(name) && reports.last().is_some_and(|last| last["ord_status"] == "Filled")
        })
    })
    .await;
}

/// FL-CO-04: two instances at once.
#[tokio::test]
async fn a_paused_executor_is_replaced_and_sends_nothing_when_it_comes_back() {
    let cell = Cell::start().await;
    let _second = Second::start(&cell);
    for n in 0..20 {
        cell.put(&market_buy(&format!("first-{n}"), "0.001").to_string()).await;
    }
    // In the middle of its work, with sends in flight.
    cell.signal("cdb_execution", rustix::process::Signal::STOP);
    for n in 0..10 {
        cell.put(&market_buy(&format!("paused-{n}"), "0.001").to_string()).await;
    }
    cell.until("the second leads", async || {
        let events = cell.stream("cdb:events").await;
        let leads =
            events.iter().filter(|event| event["type"] == "lease_acquired" && event["service"] == "cdb_execution");
        leads.count() == 2
    })
    .await;
    // It first settles what the paused one left in doubt; orders meanwhile expire unsent.
    one_is_filled(&cell, "second").await;
    cell.signal("cdb_execution", rustix::process::Signal::CONT);
    one_is_filled(&cell, "third").await;
    cell.until("every approved order has ended", async || {
        let reports = cell.reports().await;
        let verdicts = cell.stream("cdb:verdicts").await;
        let approved = verdicts.iter().filter(|verdict| verdict["decision"] == "approved");
        approved.into_iter().all(|verdict| {
            let last = reports.get(verdict["cl_ord_id"].as_str().unwrap()).and_then(|reports| reports.last());
            last.is_some_and(|last| last["ord_status"] == "Filled" || last["ord_status"] == "Rejected")
        })
    })
    .await;
    let orders = cell.admin("/orders").await;
    let mut ids: Vec<&str> =
        orders.as_array().unwrap().iter().map(|order| order["client_id"].as_str().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "two orders of one id");
    let output = cell.cdb(&["audit", "verify"]);
    assert!(output.status.success(), "{output:?}");
}
