//! The stops that need no Redis: file, SIGUSR1, `POST /stop`. They halt, also over a restart, and cancel what is open.

use cdb_tests::cell::Cell;
use cdb_tests::orders::{market_buy, resting_buy};
use rustix::process::Signal;
use serde_json::json;

async fn rests(cell: &Cell, id: &str) {
    cell.put(&resting_buy(id, "0.001").to_string()).await;
    cell.until("it rests", async || cell.state_of(id).await.as_deref() == Some("New")).await;
}

async fn nothing_is_open_at_the_exchange(cell: &Cell) {
    cell.until("nothing is open", async || {
        let orders = cell.admin("/orders").await;
        orders.as_array().unwrap().iter().all(|order| order["status"] != "NEW")
    })
    .await;
}

async fn is_refused(cell: &Cell, id: &str) {
    cell.put(&market_buy(id, "0.001").to_string()).await;
    cell.until("it is refused", async || cell.state_of(id).await.as_deref() == Some("Rejected")).await;
    assert_eq!(cell.reports().await[id].last().unwrap()["reason"], "emergency_stop");
}

#[tokio::test]
async fn a_file_stops_and_its_removal_ends_the_stop() {
    let cell = Cell::start().await;
    rests(&cell, "open-1").await;
    let file = cell.file().with_file_name("stop");
    std::fs::write(&file, "smoke in the room\n").unwrap();
    nothing_is_open_at_the_exchange(&cell).await;
    cell.until("the report says so", async || cell.state_of("open-1").await.as_deref() == Some("Canceled")).await;
    is_refused(&cell, "stopped-1").await;
    assert!(cell.http("cdb_execution", "/readyz").await.contains("smoke in the room"));
    std::fs::remove_file(&file).unwrap();
    cell.until("it is ready", async || cell.http("cdb_execution", "/readyz").await == "ready\n").await;
    cell.put(&market_buy("after-1", "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of("after-1").await.as_deref() == Some("Filled")).await;
}

#[tokio::test]
async fn a_signal_stops_and_cancels_while_redis_is_away_and_a_restart_does_not_forget_it() {
    let cell = Cell::start().await;
    rests(&cell, "open-1").await;
    cell.signal("redis", Signal::STOP);
    cell.signal("cdb_execution", Signal::USR1);
    nothing_is_open_at_the_exchange(&cell).await;
    cell.signal("redis", Signal::CONT);
    cell.until("Redis answers", async || cell.is_connected().await).await;
    cell.until("the end is booked", async || cell.state_of("open-1").await.as_deref() == Some("Canceled")).await;
    is_refused(&cell, "stopped-1").await;
    cell.kill("cdb_execution");
    cell.until("another process says so", async || {
        cell.http("cdb_execution", "/metrics").await.contains("cdb_execution_local_stop 1")
    })
    .await;
    is_refused(&cell, "stopped-2").await;
    assert_eq!(cell.posts().await.len(), 1, "only the first order was ever sent");
}

#[tokio::test]
async fn a_request_with_the_token_stops_and_one_without_does_not() {
    let cell = Cell::start().await;
    let url = cell.description()["services"]["cdb_execution"]["url"].as_str().unwrap().to_owned() + "/stop";
    let http = cdb_mexc::http::builder().unwrap().build().unwrap();
    for wrong in [None, Some("Bearer"), Some("Bearer 0000"), Some("Basic x")] {
        let mut request = http.post(&url).body("let me in");
        if let Some(wrong) = wrong {
            request = request.header("Authorization", wrong);
        }
        assert_eq!(request.send().await.unwrap().status(), 401, "{wrong:?}");
    }
    cell.put(&market_buy("before-1", "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of("before-1").await.as_deref() == Some("Filled")).await;
    let token = std::fs::read_to_string(cell.file().with_file_name("secrets").join("stop_token")).unwrap();
    let answer = http.post(&url).bearer_auth(token.trim()).body("drill").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    is_refused(&cell, "stopped-1").await;
    let output = cell.cdb(&["audit", "verify"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!cell.whole_logs().contains(token.trim()), "the token is in a log");
    assert_eq!(cell.admin("/requests?endpoint=POST%20order").await, json!(cell.posts().await));
}
