//! Once `SET emergency_stop` has returned there is no further grant, and what was granted earlier leaves within the send
//! deadline or never (I2).

use std::time::{SystemTime, UNIX_EPOCH};

use cdb_core::sending::SEND_DEADLINE_MS;
use cdb_io::audit_files;
use cdb_tests::cell::{Cell, WAIT};
use cdb_tests::chaos::Random;
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

/// When the gate granted each order that was recorded, epoch ms.
fn grants(cell: &Cell) -> Vec<i64> {
    let mut grants = Vec::new();
    let verified = audit_files::verify_dir(&cell.audit_dir().join("cdb_execution"), |record| {
        if record.event_type == "ORDER_SUBMITTED" {
            let result: serde_json::Value = serde_json::from_str(record.result.unwrap().get()).unwrap();
            grants.push(result["claim"]["granted_at"].as_i64().unwrap());
        }
    });
    assert_eq!(verified.unwrap().faults(), []);
    grants
}

/// Bursts with a stop in the middle; `CDB_STOP_TRIALS` for more.
#[tokio::test]
async fn a_stop_in_the_middle_of_a_burst_lets_nothing_leave_after_the_send_deadline() {
    const BURST: usize = 24;
    let trials = std::env::var("CDB_STOP_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let cell = Cell::start().await;
    let mut random = Random::seeded(3);
    let (mut sent, mut refused, mut stops) = (0, 0, Vec::new());
    for trial in 0..trials {
        let burst = async {
            for n in 0..BURST {
                cell.put(&market_buy(&format!("m-{trial}-{n}"), "0.0003").to_string()).await;
            }
        };
        let stop = async {
            // Earlier or later in the burst, by the verdicts already out.
            let decided = BURST * trial + usize::try_from(random.below(20)).unwrap();
            let is_there = async { while cell.length_of("cdb:verdicts").await < decided {} };
            tokio::time::timeout(WAIT, is_there).await.expect("verdicts");
            set_stop(&cell, "in the middle").await;
            now_us()
        };
        let ((), stopped_at_us) = tokio::join!(burst, stop);
        let expected = BURST * (trial + 1);
        cell.until("all are answered", async || cell.length_of("cdb:verdicts").await == expected).await;
        cell.until("no approved order is left without an end", async || cell.unfinished().await.is_empty()).await;
        let posts = cell.posts().await;
        let deadline = stopped_at_us + SEND_DEADLINE_MS * 1_000;
        let late: Vec<_> = posts.iter().filter(|post| post["at_us"].as_i64().unwrap() > deadline).collect();
        assert!(late.is_empty(), "{late:?}");
        let left = posts.len();
        (sent, refused) = (sent + left, refused + BURST - left);
        stops.push((stopped_at_us / 1_000, now_us() / 1_000));
        let () = redis::cmd("DEL").arg("emergency_stop").query_async(&mut cell.operator().commands()).await.unwrap();
        cell.until("risk has seen it", async || cell.http("cdb_risk", "/metrics").await.contains("cdb_risk_stops 0"))
            .await;
        // What was granted before the stop is old news to the next trial.
        let reset = cell.tell("/requests/forget", &json!({})).await;
        assert_eq!(reset["ok"], true);
    }
    for granted_at in grants(&cell) {
        let stop = stops.iter().find(|(from, to)| granted_at > *from && granted_at < *to);
        assert_eq!(stop, None, "granted at {granted_at} while stopped");
    }
    eprintln!("{trials} stops: {sent} orders had left, {refused} did not");
    assert!(sent > 0 && refused > 0, "no stop fell into a burst");
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

/// FL-RK-16: a stop key that cannot be read as text stops as well; only its absence means running.
#[tokio::test]
async fn a_stop_key_of_any_type_stops_until_it_is_gone() {
    let cell = Cell::start().await;
    let mut redis = cell.as_superuser().await;
    let _: i64 = redis::cmd("HSET").arg(&["emergency_stop", "why", "by hand"]).query_async(&mut redis).await.unwrap();
    cell.put(&market_buy("typed-1", "0.001").to_string()).await;
    cell.until("it is refused", async || {
        let verdicts = cell.stream("cdb:verdicts").await;
        verdicts.iter().any(|verdict| verdict["cl_ord_id"] == "typed-1" && verdict["reason"] == "emergency_stop")
    })
    .await;
    assert!(cell.posts().await.is_empty());
    let _: i64 = redis::cmd("DEL").arg("emergency_stop").query_async(&mut redis).await.unwrap();
    cell.put(&market_buy("typed-2", "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of("typed-2").await.as_deref() == Some("Filled")).await;
}
