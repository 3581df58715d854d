//! An order on the account that cdb did not send opens the breaker for good, until an operator resets it.

use cdb_tests::cell::{Cell, WIDE};
use cdb_tests::orders::{market_buy, resting_buy};
use serde_json::json;

#[tokio::test]
async fn when_the_breaker_opens_open_buys_are_cancelled_where_the_owner_wants_that() {
    let settings = format!("{WIDE}CIRCUIT_OPEN_ACTION=cancel\n");
    let cell = Cell::start_with(&settings, &["--unlimited-exchange", "--balance", "USDT=100000"]).await;
    cell.put(&resting_buy("rest-1", "0.01").to_string()).await;
    cell.until("it rests", async || cell.state_of("rest-1").await.as_deref() == Some("New")).await;
    assert!(cell.cdb(&["breaker", "trip", "--reason", "drill"]).status.success());
    cell.until("it is cancelled", async || cell.state_of("rest-1").await.as_deref() == Some("Canceled")).await;
}

#[tokio::test]
async fn a_foreign_order_opens_the_breaker_until_an_operator_resets_it_and_is_reported_once() {
    let cell = Cell::start().await;
    cell.put(&market_buy("ours-1", "0.001").to_string()).await;
    cell.until("ours is filled", async || cell.state_of("ours-1").await.as_deref() == Some("Filled")).await;
    cell.tell("/foreign-order", &json!({"symbol": "BTCUSDT", "side": "BUY", "qty": "0.01", "price": "38000"})).await;
    cell.until("the breaker is open", async || cell.status().await["breaker"]["state"] == "open").await;
    assert_eq!(cell.status().await["breaker"]["cause"], "foreign_order");

    cell.put(&market_buy("ours-2", "0.001").to_string()).await;
    cell.until("it is refused", async || cell.stream("cdb:verdicts").await.len() == 2).await;
    assert_eq!(cell.stream("cdb:verdicts").await[1]["reason"], "circuit_open");
    let mut exit = market_buy("exit-1", "0.001");
    exit["side"] = "SELL".into();
    cell.put(&exit.to_string()).await;
    cell.until("an exit passes", async || cell.state_of("exit-1").await.as_deref() == Some("Filled")).await;

    let reset = cell.cdb(&["breaker", "reset", "--reason", "it was me, by hand"]);
    assert!(reset.status.success(), "{reset:?}");
    for part in ["cdb_execution", "cdb_risk"] {
        cell.kill(part);
        cell.until("it may trade again", async || cell.status().await["may_trade"] == true).await;
    }
    cell.put(&market_buy("ours-3", "0.001").to_string()).await;
    cell.until("trading goes on", async || cell.state_of("ours-3").await.as_deref() == Some("Filled")).await;
    let findings = cell.stream("cdb:executions").await.into_iter().filter(|message| message["type"] == "finding");
    assert_eq!(findings.count(), 1);
}
