//! Every kind of trouble that the exchange can make is one of the meanings of `docs/mexc.md`: the order ends with it,
//! the metric counts it, and afterwards trading goes on.

use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;
use serde_json::{Value, json};

async fn one_fault(cell: &Cell, fault: Value) {
    cell.tell("/faults", &json!([{"endpoint": "POST order", "count": 1, "fault": fault}])).await;
}

async fn ends_as(cell: &Cell, id: &str, state: &str) {
    cell.put(&market_buy(id, "0.001").to_string()).await;
    cell.until("it has ended", async || cell.state_of(id).await.as_deref() == Some(state)).await;
}

async fn reason_of(cell: &Cell, id: &str) -> String {
    cell.reports().await[id].last().unwrap()["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn refusals_of_key_address_and_clock_end_the_order_with_their_meaning() {
    let cell = Cell::start().await;
    for (n, (code, reason)) in
        [(10072, "venue_auth"), (700_002, "venue_auth"), (700_006, "venue_auth"), (700_003, "venue_clock")]
            .into_iter()
            .enumerate()
    {
        let body = json!({"code": code.to_string(), "msg": "没有权限"}).to_string();
        one_fault(&cell, json!({"kind": "refuse", "status": 400, "body": body})).await;
        let id = format!("refused-{n}");
        ends_as(&cell, &id, "Rejected").await;
        assert_eq!(reason_of(&cell, &id).await, reason, "{code}");
    }
    ends_as(&cell, "after-1", "Filled").await;
}

#[tokio::test]
async fn a_revoked_key_opens_the_breaker_and_trading_goes_on_once_it_is_valid_again_and_an_operator_says_so() {
    let cell = Cell::start().await;
    cell.tell("/switches", &json!({"is_key_revoked": true})).await;
    ends_as(&cell, "revoked-1", "Rejected").await;
    assert_eq!(reason_of(&cell, "revoked-1").await, "venue_auth");
    cell.until("the breaker is open", async || cell.status().await["breaker"]["state"] == "open").await;
    assert_eq!(cell.status().await["breaker"]["cause"], "key_refused");
    let raised = async || {
        let events = cell.stream("cdb:events").await;
        events.iter().any(|event| event["type"] == "alert_raised" && event["detail"]["id"] == "exchange_key_refused")
    };
    cell.until("somebody is told", raised).await;
    cell.tell("/switches", &json!({})).await;
    let resolved = async || {
        let events = cell.stream("cdb:events").await;
        events.iter().any(|event| event["type"] == "alert_resolved" && event["detail"]["id"] == "exchange_key_refused")
    };
    cell.until("the key is taken again", resolved).await;
    assert_eq!(cell.status().await["breaker"]["state"], "open", "it does not end by itself");
    assert!(cell.cdb(&["breaker", "reset", "--reason", "the key is valid again"]).status.success());
    cell.until("it may trade", async || cell.status().await["may_trade"] == true).await;
    ends_as(&cell, "valid-1", "Filled").await;
}

/// FL-MX-04: 700003 again and again, from a clock a little off.
#[tokio::test]
async fn a_clock_that_was_set_is_measured_again_after_the_first_refusal() {
    let cell = Cell::start().await;
    // The exchange's clock is set back by more than the second that a request may be ahead.
    cell.tell("/switches", &json!({"clock_skew_ms": -1_500})).await;
    ends_as(&cell, "ahead-1", "Rejected").await;
    assert_eq!(reason_of(&cell, "ahead-1").await, "venue_clock");
    cell.until("the clock is measured again", async || {
        let metrics = cell.http("cdb_execution", "/metrics").await;
        let offset = metrics.lines().find_map(|line| line.strip_prefix("cdb_execution_clock_offset_ms "));
        offset.and_then(|text| text.parse::<f64>().ok()).is_some_and(|offset| offset < -1_000.0)
    })
    .await;
    cell.until("it may trade", async || cell.status().await["may_trade"] == true).await;
    ends_as(&cell, "ahead-2", "Filled").await;
}

#[tokio::test]
async fn an_order_that_the_exchange_calls_filled_is_taken_as_executed_and_not_as_ordered() {
    let cell = Cell::start().await;
    cell.tell("/uncertain", &json!({"market_filled_pct": 90})).await;
    for is_silent in [false, true] {
        cell.tell("/switches", &json!({"stream_is_silent": is_silent})).await;
        let id = format!("short-{is_silent}");
        ends_as(&cell, &id, "Filled").await;
        let executed = cell.reports().await[&id].last().unwrap()["cum_qty"].as_str().unwrap().to_owned();
        assert_eq!(executed.trim_end_matches('0'), "0.0009");
    }
    let output = cell.cdb(&["reconcile"]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_body_of_ten_megabytes_a_firewall_page_and_broken_connections_leave_no_order_unknown() {
    let cell = Cell::start().await;
    let faults = [
        json!({"kind": "reply_with", "body": "x".repeat(10 << 20)}),
        json!({"kind": "broken_reply"}),
        json!({"kind": "reply_with", "body": "{\"symbol\":\"BTC"}),
        json!({"kind": "execute_then_status", "status": 403}),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        one_fault(&cell, fault).await;
        ends_as(&cell, &format!("odd-{n}"), "Filled").await;
    }
    let posts = cell.posts().await;
    assert_eq!(posts.len(), 4, "each was sent once");
}
