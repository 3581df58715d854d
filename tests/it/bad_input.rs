//! What is no order gets one verdict or one dead letter that names the field; the rest goes on, nothing is lost.

use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;
use serde_json::json;

#[tokio::test]
async fn every_kind_of_bad_entry_is_answered_by_name_and_blocks_nothing() {
    let cell = Cell::start().await;
    let order = |id: &str| market_buy(id, "0.001");
    let with = |id: &str, field: &str, value: serde_json::Value| {
        let mut order = order(id);
        order[field] = value;
        order.to_string()
    };
    let mut missing = order("bad-missing");
    missing.as_object_mut().unwrap().remove("symbol");
    let verdicts = [
        (with("bad-nan", "qty", json!("NaN")), "bad-nan", "qty"),
        (with("bad-negative", "qty", json!("-1")), "bad-negative", "qty"),
        (with("bad-digits", "qty", json!("9".repeat(40))), "bad-digits", "qty"),
        (with("bad-type", "qty", json!([1])), "bad-type", "qty"),
        (with("bad-unknown", "leverage", json!(3)), "bad-unknown", "leverage"),
        (with("bad-side", "side", json!("HOLD")), "bad-side", "side"),
        (missing.to_string(), "bad-missing", "symbol"),
    ];
    let dead = ["not json", "[]", "{}", "{\"v\":1", "\u{0}", &with("x", "cl_ord_id", json!("a b"))];
    for (text, ..) in &verdicts {
        cell.put(text).await;
    }
    for text in dead {
        cell.put(text).await;
    }
    let mut without_field = redis::cmd("XADD");
    without_field.arg("cdb:orders").arg("*").arg("order").arg("x");
    let _: String = without_field.query_async(&mut cell.operator().commands()).await.unwrap();
    cell.put(&with("unknown-symbol", "symbol", json!("NOSUCHUSDT"))).await;
    cell.put(&order("good-1").to_string()).await;

    cell.until("the good one is filled", async || cell.state_of("good-1").await.as_deref() == Some("Filled")).await;
    let published = cell.stream("cdb:verdicts").await;
    for (_, id, field) in &verdicts {
        let of_id: Vec<_> = published.iter().filter(|verdict| verdict["cl_ord_id"] == *id).collect();
        assert_eq!(of_id.len(), 1, "{id}");
        assert_eq!(of_id[0]["reason"], "malformed");
        assert!(of_id[0]["detail"].as_str().unwrap().contains(&format!("'{field}'")), "{}", of_id[0]);
    }
    let unknown = published.iter().find(|verdict| verdict["cl_ord_id"] == "unknown-symbol").unwrap();
    assert_eq!(unknown["reason"], "symbol_not_allowed");
    let letters = cell.stream("cdb:dead").await;
    assert_eq!(letters.len(), dead.len() + 1, "{letters:?}");
    assert!(letters.iter().all(|letter| letter["reason"] == "malformed" && letter["text"] != ""));
    let mut pending = redis::cmd("XPENDING");
    pending.arg("cdb:orders").arg("cdb_risk");
    let pending: redis::Value = pending.query_async(&mut cell.operator().commands()).await.unwrap();
    let redis::Value::Array(pending) = pending else { panic!("{pending:?}") };
    assert_eq!(pending[0], redis::Value::Int(0), "nothing is left unanswered");
}

#[tokio::test]
async fn a_verdict_that_risk_did_not_sign_goes_to_the_dead_letters_and_not_to_the_exchange() {
    let cell = Cell::start().await;
    // Only risk may write verdicts, so the forger uses its credentials: even they do not give it the key.
    let forger = cell.as_user("cdb_risk").await;
    let order = market_buy("forged-1", "0.001");
    let verdict = json!({
        "v": 1, "cl_ord_id": "forged-1", "entry": "1-1", "decision": "approved", "detail": "", "checks": [],
        "command": order, "limits_hash": "x", "epoch": "x", "ts": 1, "expires_at": 9_999_999_999_999_i64,
    });
    let mut forge = redis::cmd("XADD");
    forge.arg("cdb:verdicts").arg("*").arg("json").arg(verdict.to_string()).arg("sig").arg("0".repeat(64));
    let _: String = forge.query_async(&mut forger.commands()).await.unwrap();
    cell.until("it is buried", async || !cell.stream("cdb:dead").await.is_empty()).await;
    assert_eq!(cell.stream("cdb:dead").await[0]["reason"], "bad_verdict");
    let events = cell.stream("cdb:events").await;
    assert!(events.iter().any(|event| event["type"] == "security" && event["detail"]["kind"] == "bad_signature"));
    cell.put(&market_buy("genuine-1", "0.001").to_string()).await;
    cell.until("the next is filled", async || cell.state_of("genuine-1").await.as_deref() == Some("Filled")).await;
    assert_eq!(cell.posts().await.len(), 1);
}
