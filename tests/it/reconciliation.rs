//! Exchange and books are compared: what a transfer, a theft, a stranger or a lost message leaves behind is found, and
//! `cdb reconcile` shows exchange, audit trail and ledger side by side.

use std::time::Duration;

use cdb_tests::cell::Cell;
use cdb_tests::orders::{market_buy, resting_buy};
use serde_json::{Value, json};

async fn findings(cell: &Cell, kind: &str) -> Vec<Value> {
    let messages = cell.stream("cdb:executions").await;
    messages.into_iter().filter(|message| message["type"] == "finding" && message["kind"] == kind).collect()
}

async fn is_filled(cell: &Cell, id: &str) {
    cell.put(&market_buy(id, "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of(id).await.as_deref() == Some("Filled")).await;
}

/// A reading of the account after everything so far.
async fn account_is_read(cell: &Cell) {
    let ts = async || {
        let messages = cell.stream("cdb:executions").await;
        messages.iter().rev().find(|message| message["type"] == "account_snapshot").map(|one| one["ts"].clone())
    };
    let before = ts().await;
    cell.until("the account is read", async || ts().await != before).await;
}

#[tokio::test]
async fn a_transfer_that_the_exchange_tells_of_is_a_finding_and_trading_goes_on() {
    let cell = Cell::start().await;
    is_filled(&cell, "before-1").await;
    account_is_read(&cell).await;
    cell.tell("/transfer", &json!({"asset": "USDT", "amount": "-250"})).await;
    cell.until("it is found", async || findings(&cell, "transfer").await.len() == 1).await;
    assert!(findings(&cell, "balance_break").await.is_empty());
    assert_eq!(cell.status().await["breaker"]["state"], "closed");
    is_filled(&cell, "after-1").await;
    let result = cell.status().await;
    assert_eq!(result["may_trade"], true, "{result}");
}

#[tokio::test]
async fn money_that_goes_without_a_word_opens_the_breaker() {
    let cell = Cell::start().await;
    account_is_read(&cell).await;
    cell.tell("/switches", &json!({"stream_is_silent": true})).await;
    cell.tell("/transfer", &json!({"asset": "BTC", "amount": "-0.1"})).await;
    cell.until("it is found", async || findings(&cell, "balance_break").await.len() == 1).await;
    cell.until("the breaker is open", async || cell.status().await["breaker"]["state"] == "open").await;
    assert_eq!(cell.status().await["breaker"]["cause"], "reconciliation_break");
    let finding = &findings(&cell, "balance_break").await[0];
    assert_eq!((finding["ours"].as_str(), finding["theirs"].as_str()), (Some("1 BTC"), Some("0.9 BTC")));
}

#[tokio::test]
async fn money_that_went_while_nobody_looked_is_found_at_the_next_start() {
    let cell = Cell::start().await;
    is_filled(&cell, "before-1").await;
    account_is_read(&cell).await;
    cell.signal("cdb_execution", rustix::process::Signal::STOP);
    cell.tell("/transfer", &json!({"asset": "USDT", "amount": "-1000"})).await;
    cell.kill("cdb_execution");
    cell.until("it is found", async || findings(&cell, "balance_break").await.len() == 1).await;
}

#[tokio::test]
async fn an_order_with_more_fills_than_one_answer_holds_is_booked_to_its_last_one() {
    let cell = Cell::start().await;
    cell.tell("/switches", &json!({"stream_is_silent": true})).await;
    cell.put(&resting_buy("many-1", "0.15").to_string()).await;
    cell.until("it rests", async || cell.state_of("many-1").await.as_deref() == Some("New")).await;
    let print = json!({"symbol": "BTCUSDT", "price": "38000.00", "qty": "0.001", "taker": "SELL"});
    // Times of fills are whole seconds, and one answer holds 100: no second may have more.
    for _ in 0..150 {
        cell.tell("/print", &print).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    cell.until("it is filled", async || cell.state_of("many-1").await.as_deref() == Some("Filled")).await;
    let trades = cell.admin("/trades").await;
    let count = trades.as_array().unwrap().len();
    assert!(count > 100, "{count} fills are not more than one page");
    let reports = cell.reports().await;
    assert_eq!(reports["many-1"].iter().filter(|report| report["exec_type"] == "Trade").count(), count);
    let output = cell.cdb(&["--json", "reconcile"]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn the_three_sides_agree_to_the_last_digit_until_a_stranger_trades() {
    let cell = Cell::start().await;
    for n in 0..20 {
        let mut order = market_buy(&format!("both-{n}"), "0.01");
        order["side"] = if n % 2 == 0 { "BUY" } else { "SELL" }.into();
        cell.put(&order.to_string()).await;
    }
    cell.until("all are answered", async || cell.length_of("cdb:verdicts").await == 20).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    let output = cell.cdb(&["--json", "reconcile"]);
    assert!(output.status.success(), "{output:?}");
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(view["agrees"], true);
    assert!(view["sides"]["exchange"]["BTCUSDT"]["fills"].as_u64().unwrap() >= 20, "{view}");

    cell.tell("/foreign-order", &json!({"symbol": "BTCUSDT", "side": "BUY", "qty": "0.01"})).await;
    let output = cell.cdb(&["reconcile"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("they differ"), "{text}");
    cell.until("the stranger is found", async || !findings(&cell, "foreign_order").await.is_empty()).await;
}
