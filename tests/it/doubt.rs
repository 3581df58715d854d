//! An answer that does not say whether the order exists is a doubt: never sent again, asked for until known or proven.

use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;
use serde_json::{Value, json};

async fn one_fault(cell: &Cell, fault: Value) {
    cell.tell("/faults", &json!([{"endpoint": "POST order", "count": 1, "fault": fault}])).await;
}

fn states(reports: &[Value]) -> Vec<(String, bool)> {
    reports
        .iter()
        .map(|report| (report["ord_status"].as_str().unwrap().to_owned(), report["in_doubt"] == true))
        .collect()
}

/// FL-OD-01, FL-OD-08: silence is no refusal, and an order that filled at once is in no list of open ones.
#[tokio::test]
async fn an_order_that_was_executed_without_a_clear_answer_is_found_and_never_sent_again() {
    let cell = Cell::start().await;
    // The stream would tell of the order before its doubt begins.
    cell.tell("/switches", &json!({"stream_is_silent": true})).await;
    let faults = [
        json!({"kind": "execute_then_status", "status": 503}),
        json!({"kind": "execute_then_status", "status": 504}),
        json!({"kind": "broken_reply"}),
        json!({"kind": "lost_reply"}),
        json!({"kind": "reply_with", "body": "<html>welcome</html>"}),
        json!({"kind": "reply_with", "body": "{}"}),
        json!({"kind": "execute_then_status", "status": 429}),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let id = format!("doubt-{n}");
        one_fault(&cell, fault.clone()).await;
        cell.put(&market_buy(&id, "0.001").to_string()).await;
        cell.until("it is known to be filled", async || cell.state_of(&id).await.as_deref() == Some("Filled")).await;
        let reports = cell.reports().await;
        assert_eq!(states(&reports[&id])[0], ("PendingNew".to_owned(), true), "{fault}");
        let posts = cell.posts().await.into_iter().filter(|post| post["client_id"] == id.as_str()).count();
        assert_eq!(posts, 1, "{fault}");
        // 429 and the like leave a ban behind that the next round must not wait for.
        let () = redis::cmd("PING").query_async(&mut cell.operator().commands()).await.unwrap();
    }
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_known_as_soon_as_the_stream_tells_of_it() {
    let cell = Cell::start().await;
    one_fault(&cell, json!({"kind": "lost_reply"})).await;
    cell.put(&market_buy("lost-1", "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of("lost-1").await.as_deref() == Some("Filled")).await;
    let reports = cell.reports().await;
    assert!(reports["lost-1"].iter().all(|report| report["source"] == "stream" && report["in_doubt"] == false));
    assert_eq!(cell.posts().await.len(), 1);
}

#[tokio::test]
async fn an_order_that_never_arrived_is_proven_absent_after_its_fence_and_not_before() {
    let cell = Cell::start().await;
    one_fault(&cell, json!({"kind": "reset"})).await;
    cell.put(&market_buy("absent-1", "0.001").to_string()).await;
    cell.until("it is rejected", async || cell.state_of("absent-1").await.as_deref() == Some("Rejected")).await;
    let reports = cell.reports().await;
    let (first, last) = (&reports["absent-1"][0], reports["absent-1"].last().unwrap());
    assert_eq!(last["reason"], "not_accepted");
    let waited_ms = last["ts"].as_i64().unwrap() - first["ts"].as_i64().unwrap();
    assert!(waited_ms > 10_000, "declared absent after {waited_ms} ms");
    assert_eq!(cell.posts().await.len(), 1);
}

/// FL-OD-03, FL-OD-18: "does not exist" and a list without it prove nothing so early.
#[tokio::test]
async fn a_late_acceptance_and_a_late_visibility_are_found() {
    let cell = Cell::start().await;
    one_fault(&cell, json!({"kind": "delay_before", "delay_ms": 7_000})).await;
    cell.tell("/switches", &json!({"visibility_delay_ms": 1_500, "stream_is_silent": true})).await;
    cell.put(&market_buy("late-1", "0.001").to_string()).await;
    // The exchange refuses what arrives after its window; the stand-in checks the window when it executes.
    cell.until("it is settled", async || {
        matches!(cell.state_of("late-1").await.as_deref(), Some("Filled" | "Rejected"))
    })
    .await;
    let is_at_exchange = !cell.admin("/orders").await.as_array().unwrap().is_empty();
    assert_eq!(cell.state_of("late-1").await.as_deref() == Some("Filled"), is_at_exchange);

    cell.put(&market_buy("late-2", "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of("late-2").await.as_deref() == Some("Filled")).await;
}

#[tokio::test]
async fn a_clear_refusal_of_the_exchange_ends_the_order_with_its_meaning() {
    let cell = Cell::start().await;
    let body = json!({"code": 30005, "msg": "Oversold"}).to_string();
    one_fault(&cell, json!({"kind": "refuse", "status": 400, "body": body})).await;
    cell.put(&market_buy("refused-1", "0.001").to_string()).await;
    cell.until("it is rejected", async || cell.state_of("refused-1").await.as_deref() == Some("Rejected")).await;
    assert_eq!(cell.reports().await["refused-1"].last().unwrap()["reason"], "venue_insufficient_balance");
}
