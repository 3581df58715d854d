//! Whatever the network does, and however many processes send, the exchange never counts more than it allows (I5). The
//! stand-in counts by arrival, in exact sliding windows.

use std::time::Duration;

use cdb_tests::cell::{Cell, WIDE};
use cdb_tests::orders::{cancel, market_buy, resting_buy};
use cdb_tests::second::Second;
use serde_json::json;

/// The budgets' own defaults: whatever WIDE says of them is left out.
fn settings() -> String {
    WIDE.lines().filter(|line| !line.starts_with("RATE_")).map(|line| format!("{line}\n")).collect()
}

/// FL-RL-01, FL-RL-02: across a window's edge, and from two processes with one key.
#[tokio::test]
async fn a_slow_network_lost_answers_a_restart_and_a_second_process_break_no_window() {
    let cell = Cell::start_with(&settings(), &["--balance", "USDT=1000000"]).await;
    cell.tell("/switches", &json!({"network_delay_ms": 25})).await;
    let lost = json!({"kind": "delay_after", "delay_ms": 3_000});
    cell.tell("/faults", &json!([{"endpoint": "POST order", "per_mille": 50, "fault": lost}])).await;
    let _second = Second::start(&cell);
    for n in 0..160 {
        cell.put(&market_buy(&format!("b-{n}"), "0.001").to_string()).await;
        if n == 80 {
            cell.kill("cdb_execution");
        }
        // More than the budget of new orders, so that they always wait for it.
        tokio::time::sleep(Duration::from_millis(90)).await;
    }
    cell.until("all are answered", async || cell.length_of("cdb:verdicts").await == 160).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    let budget = cell.admin("/budget").await;
    assert_eq!(budget["breaches"], 0, "{budget}");
    let windows = budget["windows"].as_array().unwrap();
    let peak = |name: &str| windows.iter().find(|window| window["window"] == name).unwrap()["peak"].as_u64().unwrap();
    // The owner's own budgets are tighter than what the exchange enforces.
    assert!(peak("new orders 1s") <= 8 && peak("orders and cancels 1s") <= 10, "{budget}");
    assert!(peak("orders and cancels 10s") <= 90 && peak("all requests 1s") <= 15, "{budget}");
    assert_eq!(peak("new orders 1s"), 8, "the budget was never used up: {budget}");
}

/// FL-OD-05: a cancel that overtakes its order, which waits for the budget, ends it for good.
#[tokio::test]
async fn an_order_that_is_cancelled_while_it_waits_for_the_budget_never_leaves() {
    let cell = Cell::start_with(&settings(), &["--balance", "USDT=1000000"]).await;
    for n in 0..32 {
        cell.put(&resting_buy(&format!("q-{n}"), "0.001").to_string()).await;
    }
    cell.put(&cancel("c-31", "q-31").to_string()).await;
    let is_live = async |id: &str| cell.state_of(id).await.as_deref() == Some("New");
    cell.until("the one before it rests", async || is_live("q-30").await).await;
    let reports = &cell.reports().await["q-31"];
    assert_eq!(reports.last().unwrap()["reason"], "canceled_before_send", "{reports:?}");
    let posts = cell.posts().await;
    assert_eq!(posts.len(), 31);
    assert!(posts.iter().all(|post| post["client_id"] != "q-31"));
}
