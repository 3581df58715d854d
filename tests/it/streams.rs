//! The user stream: what it tells is booked at once and once, whatever it loses, repeats, reorders or breaks; what it
//! does not tell is asked for.

use std::collections::BTreeMap;

use cdb_tests::cell::Cell;
use cdb_tests::orders::{cancel, market_buy, resting_buy};
use serde_json::{Value, json};

async fn metric(cell: &Cell, name: &str) -> f64 {
    let text = cell.http("cdb_execution", "/metrics").await;
    let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(' '));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(-1.0)
}

async fn is_up(cell: &Cell) -> bool {
    metric(cell, "cdb_execution_stream_up{stream=\"user\"}").await == 1.0
}

async fn is_filled(cell: &Cell, id: &str) -> bool {
    cell.state_of(id).await.as_deref() == Some("Filled")
}

/// Of every order: quantity executed, fees in the quote asset, number of fills; by the stand-in and by the reports.
async fn both_books(cell: &Cell) -> [BTreeMap<String, (String, String, usize)>; 2] {
    let decimal = |value: &Value| value.as_str().unwrap().parse::<rust_decimal::Decimal>().unwrap();
    let sum = |fills: Vec<(rust_decimal::Decimal, rust_decimal::Decimal)>| {
        let qty: rust_decimal::Decimal = fills.iter().map(|(qty, _)| qty).sum();
        let fee: rust_decimal::Decimal = fills.iter().map(|(_, fee)| fee).sum();
        (qty.normalize().to_string(), fee.normalize().to_string(), fills.len())
    };
    let mut theirs: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for trade in cell.admin("/trades").await.as_array().unwrap() {
        let id = trade["client_id"].as_str().unwrap().to_owned();
        theirs.entry(id).or_default().push((decimal(&trade["qty"]), decimal(&trade["fee"])));
    }
    let mut ours: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (id, reports) in cell.reports().await {
        for fill in reports.iter().filter(|report| report["exec_type"] == "Trade") {
            ours.entry(id.clone()).or_default().push((decimal(&fill["last_qty"]), decimal(&fill["commission"])));
        }
    }
    [theirs, ours].map(|books| books.into_iter().map(|(id, fills)| (id, sum(fills))).collect())
}

#[tokio::test]
async fn what_the_stream_tells_is_booked_without_asking() {
    let cell = Cell::start().await;
    cell.until("the user stream is up", async || is_up(&cell).await).await;
    cell.put(&market_buy("told-1", "0.001").to_string()).await;
    cell.until("it is filled", async || is_filled(&cell, "told-1").await).await;
    cell.put(&resting_buy("told-2", "0.001").to_string()).await;
    cell.until("it rests", async || cell.state_of("told-2").await.as_deref() == Some("New")).await;
    cell.put(&cancel("told-3", "told-2").to_string()).await;
    cell.until("it is cancelled", async || cell.state_of("told-2").await.as_deref() == Some("Canceled")).await;
    let reports = cell.reports().await;
    assert!(reports["told-1"].iter().any(|report| report["exec_type"] == "Trade" && report["source"] == "stream"));
    let last = reports["told-2"].last().unwrap();
    assert_eq!((&last["source"], &last["cancel_cl_ord_id"]), (&json!("stream"), &json!("told-3")));
    let fills = reports["told-1"].iter().filter(|report| report["exec_type"] == "Trade");
    assert!(fills.into_iter().all(|fill| fill["source"] == "stream"), "{reports:?}");
    let requests = cell.admin("/requests?endpoint=GET%20order").await;
    assert_eq!(requests, json!([]), "the order was asked for");
    assert_eq!(metric(&cell, "cdb_execution_stream_missed_fills_total").await, 0.0);
}

/// Fills in several parts, with everything going wrong on the stream.
async fn every_fill_is_booked_once(has_rest_ids: bool) {
    let cell = Cell::start().await;
    cell.tell("/uncertain", &json!({"stream_ids_are_rest_ids": has_rest_ids})).await;
    let switches = json!({"stream_drop_per_mille": 250, "stream_duplicate_per_mille": 250,
        "stream_reorder_per_mille": 250, "stream_broken_per_mille": 100, "extra_fields": true});
    cell.tell("/switches", &switches).await;
    cell.until("the user stream is up", async || is_up(&cell).await).await;
    // Larger than the recorded trades that it meets: each takes several levels of the book, and fewer than the 100 fills
    // of one instant that the list of trades can show.
    for n in 0..40 {
        let mut order = market_buy(&format!("wild-{n}"), "0.04");
        order["side"] = if n % 2 == 0 { "BUY" } else { "SELL" }.into();
        cell.put(&order.to_string()).await;
    }
    cell.until("all are answered", async || cell.length_of("cdb:verdicts").await == 40).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    let [theirs, ours] = both_books(&cell).await;
    assert_eq!(theirs, ours);
    assert!(theirs.values().any(|(_, _, fills)| *fills > 1), "no order filled in parts: {theirs:?}");
    assert!(metric(&cell, "cdb_execution_stream_messages_total{message=\"strange\"}").await > 0.0);
}

#[tokio::test]
async fn a_wild_stream_that_numbers_trades_like_the_list_loses_and_doubles_nothing() {
    every_fill_is_booked_once(true).await;
}

#[tokio::test]
async fn a_wild_stream_that_numbers_trades_otherwise_loses_and_doubles_nothing() {
    every_fill_is_booked_once(false).await;
}

/// `is_told`: whether the exchange says that a key is dead; a connection may also break before it has.
async fn a_dead_key_is_replaced(is_told: bool) {
    let cell = Cell::start().await;
    cell.tell("/switches", &json!({"dead_key_breaks": !is_told})).await;
    cell.until("the user stream is up", async || is_up(&cell).await).await;
    cell.put(&resting_buy("missed-1", "0.001").to_string()).await;
    cell.until("it rests", async || cell.state_of("missed-1").await.as_deref() == Some("New")).await;
    // Ended, with a key that opens nothing any more: the fill comes while nobody listens.
    cell.tell("/listen-keys/lapse", &json!({})).await;
    cell.tell("/streams/cut", &json!({})).await;
    cell.tell("/price", &json!({"symbol": "BTCUSDT", "bid": "37000", "ask": "37001"})).await;
    cell.until("it is filled", async || is_filled(&cell, "missed-1").await).await;
    cell.until("a new key opens the stream", async || is_up(&cell).await).await;
    assert!(metric(&cell, "cdb_execution_stream_ends_total{cause=\"no_listen_key\"}").await >= 1.0);
    cell.until("the market trades again", async || cell.status().await["may_trade"] == true).await;
    cell.put(&market_buy("after-1", "0.001").to_string()).await;
    cell.until("it is filled", async || is_filled(&cell, "after-1").await).await;
    let [theirs, ours] = both_books(&cell).await;
    assert_eq!(theirs, ours);
    assert!(!cell.whole_logs().contains("listenKey"), "a listen key in a log");
}

/// FL-US-01: fills while the stream is opened again.
#[tokio::test]
async fn a_stream_that_ends_or_whose_key_lapses_is_opened_again_and_what_it_missed_is_asked_for() {
    a_dead_key_is_replaced(true).await;
}

/// FL-MX-12: the listen key is dead and its keep-alive goes on for ever.
#[tokio::test]
async fn a_key_that_is_dead_is_replaced_although_its_connection_only_breaks() {
    a_dead_key_is_replaced(false).await;
}

/// FL-US-06: a connection that is dead and says nothing.
#[tokio::test]
async fn a_silent_stream_and_a_refused_channel_cost_time_and_no_fill() {
    let cell = Cell::start().await;
    cell.tell("/switches", &json!({"stream_is_silent": true})).await;
    cell.until("the user stream is up", async || is_up(&cell).await).await;
    cell.put(&market_buy("silent-1", "0.001").to_string()).await;
    cell.until("it is filled", async || is_filled(&cell, "silent-1").await).await;
    cell.until("it is noticed", async || metric(&cell, "cdb_execution_stream_missed_fills_total").await > 0.0).await;

    cell.tell("/switches", &json!({"blocked_channels": ["spot@private.deals"]})).await;
    cell.tell("/streams/cut", &json!({})).await;
    let refused = "cdb_execution_stream_ends_total{cause=\"not_subscribed\"}";
    cell.until("the refusal is seen", async || metric(&cell, refused).await >= 1.0).await;
    cell.put(&market_buy("blocked-1", "0.001").to_string()).await;
    cell.until("it is filled", async || is_filled(&cell, "blocked-1").await).await;
    let [theirs, ours] = both_books(&cell).await;
    assert_eq!(theirs, ours);
}
