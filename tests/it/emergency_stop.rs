//! Once `SET emergency_stop` has returned there is no further grant, and what was granted earlier leaves within the send
//! deadline or never (I2).

use std::time::{SystemTime, UNIX_EPOCH};

use cdb_core::sending::SEND_DEADLINE_MS;
use cdb_tests::cell::{Cell, WAIT};
use cdb_tests::orders::{market_buy, resting_buy};
use serde_json::json;

fn now_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

async fn set_stop(cell: &Cell, value: &str) {
    let mut command = redis::cmd("SET");
    command.arg("emergency_stop").arg(value);
    let () = command.query_async(&mut cell.operator().commands()).await.unwrap();
}

#[tokio::test]
async fn while_stopped_no_order_of_a_burst_reaches_the_exchange_even_with_an_empty_reason() {
    let cell = Cell::start().await;
    set_stop(&cell, "").await;
    for n in 0..50 {
        cell.put(&market_buy(&format!("s-{n}"), "0.001").to_string()).await;
    }
    cell.until("all are answered", async || cell.stream("cdb:verdicts").await.len() == 50).await;
    let verdicts = cell.stream("cdb:verdicts").await;
    assert!(verdicts.iter().all(|verdict| verdict["reason"] == "emergency_stop"), "{verdicts:?}");
    assert_eq!(cell.posts().await.len(), 0);

    let () = redis::cmd("DEL").arg("emergency_stop").query_async(&mut cell.operator().commands()).await.unwrap();
    cell.until("risk has seen it", async || cell.http("cdb_risk", "/metrics").await.contains("cdb_risk_stops 0")).await;
    cell.put(&market_buy("s-after", "0.001").to_string()).await;
    cell.until("trading goes on", async || cell.state_of("s-after").await.as_deref() == Some("Filled")).await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_burst_lets_nothing_leave_after_the_send_deadline() {
    let cell = Cell::start().await;
    for round in 0..5 {
        let burst = async {
            for n in 0..60 {
                cell.put(&market_buy(&format!("m-{round}-{n}"), "0.001").to_string()).await;
            }
        };
        let stop = async {
            // Earlier or later in the burst, by the verdicts already out.
            let decided = 60 * round + 10 * (round + 1);
            let is_there = async { while cell.length_of("cdb:verdicts").await < decided {} };
            tokio::time::timeout(WAIT, is_there).await.expect("verdicts");
            set_stop(&cell, "in the middle").await;
            now_us()
        };
        let ((), stopped_at_us) = tokio::join!(burst, stop);
        let expected = 60 * (round + 1);
        cell.until("all are answered", async || cell.stream("cdb:verdicts").await.len() == expected).await;
        cell.until("no approved order is left without an end", async || {
            let reports = cell.reports().await;
            let verdicts = cell.stream("cdb:verdicts").await;
            let approved = verdicts.iter().filter(|verdict| verdict["decision"] == "approved");
            let is_over = |id: &str| {
                let last = reports.get(id).and_then(|reports| reports.last()).map(|last| last["ord_status"].clone());
                last.is_some_and(|status| status == "Filled" || status == "Rejected")
            };
            approved.into_iter().all(|verdict| is_over(verdict["cl_ord_id"].as_str().unwrap()))
        })
        .await;
        let late: Vec<_> = cell
            .posts()
            .await
            .into_iter()
            .filter(|post| post["at_us"].as_i64().unwrap() > stopped_at_us + SEND_DEADLINE_MS * 1_000)
            .collect();
        assert!(late.is_empty(), "{late:?}");
        let () = redis::cmd("DEL").arg("emergency_stop").query_async(&mut cell.operator().commands()).await.unwrap();
        cell.until("risk has seen it", async || cell.http("cdb_risk", "/metrics").await.contains("cdb_risk_stops 0"))
            .await;
    }
}

#[tokio::test]
async fn a_stop_for_a_symbol_or_a_strategy_stops_that_and_nothing_else() {
    let cell = Cell::start().await;
    assert!(cell.cdb(&["stop", "--symbol", "ETHUSDT", "drill"]).status.success());
    assert!(cell.cdb(&["stop", "--strategy", "other", "drill"]).status.success());
    let mut eth = market_buy("eth-1", "0.05");
    eth["symbol"] = "ETHUSDT".into();
    let mut other = market_buy("other-1", "0.001");
    other["strategy"] = "other".into();
    for order in [eth, other, market_buy("btc-1", "0.001")] {
        cell.put(&order.to_string()).await;
    }
    cell.until("the third is filled", async || cell.state_of("btc-1").await.as_deref() == Some("Filled")).await;
    assert_eq!(cell.posts().await.len(), 1);
    let verdicts = cell.stream("cdb:verdicts").await;
    assert_eq!(verdicts.iter().filter(|verdict| verdict["reason"] == "emergency_stop").count(), 2);
}

#[tokio::test]
async fn a_stop_cancels_open_orders_again_and_again_until_none_is_left_and_late_fills_are_booked() {
    let cell = Cell::start().await;
    for n in 0..5 {
        cell.put(&resting_buy(&format!("open-{n}"), "0.01").to_string()).await;
    }
    cell.until("they rest", async || cell.state_of("open-4").await.as_deref() == Some("New")).await;
    // The first two cancels come to nothing.
    let fault = json!([{"endpoint": "DELETE openOrders", "count": 2, "fault": {"kind": "refuse", "status": 503}}]);
    cell.tell("/faults", &fault).await;
    set_stop(&cell, "now").await;
    for n in 0..5 {
        let id = format!("open-{n}");
        cell.until("it is cancelled", async || cell.state_of(&id).await.as_deref() == Some("Canceled")).await;
    }
    let open = cell.admin("/orders").await;
    assert!(open.as_array().unwrap().iter().all(|order| order["status"] == "CANCELED"), "{open}");
}
