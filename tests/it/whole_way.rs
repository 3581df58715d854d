//! One order goes the whole way: stream, verdict, exchange, reports, ledger, metrics, audit trail.

use cdb_core::secret::Secret;
use cdb_core::verdict::{VerdictKey, Verified, verify};
use cdb_tests::cell::Cell;
use cdb_tests::orders::{cancel, market_buy, resting_buy};
use redis::streams::StreamRangeReply;

#[tokio::test]
async fn an_order_goes_from_the_stream_to_exchange_ledger_metrics_and_audit_and_is_sent_once() {
    let cell = Cell::start().await;
    cell.put(&market_buy("way-1", "0.002").to_string()).await;
    cell.until("it is filled", async || cell.state_of("way-1").await.as_deref() == Some("Filled")).await;

    let verdicts: StreamRangeReply = redis::cmd("XRANGE")
        .arg(&["cdb:verdicts", "-", "+"])
        .query_async(&mut cell.operator().commands())
        .await
        .unwrap();
    let (json, sig): (String, String) = (verdicts.ids[0].get("json").unwrap(), verdicts.ids[0].get("sig").unwrap());
    let key = std::fs::read(cell.file().with_file_name("secrets").join("verdict_key")).unwrap();
    let key = VerdictKey::new(&Secret::parse(&key).ok().unwrap());
    assert!(matches!(verify(json.as_bytes(), &sig, &key), Ok(Verified::Approved(_))));

    let posts = cell.posts().await;
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0]["client_id"], "way-1");

    cell.until("the ledger has it", async || cell.http("cdb_monitor", "/api/orders").await.contains("way-1")).await;
    let orders = cell.http("cdb_monitor", "/api/orders").await;
    assert!(orders.contains("\"ord_status\":\"Filled\""), "{orders}");
    assert!(cell.http("cdb_risk", "/metrics").await.contains("cdb_risk_approved_total 1"));
    let metrics = cell.http("cdb_execution", "/metrics").await;
    assert!(metrics.contains("cdb_execution_gate_answers_total{answer=\"granted\"} 1"), "{metrics}");

    assert!(cell.http("cdb_monitor", "/api/desk").await.contains("\"may_trade\":true"));

    let output = cell.cdb(&["audit", "verify"]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_resting_order_is_cancelled_and_its_reservation_ends() {
    let cell = Cell::start().await;
    cell.put(&resting_buy("rest-1", "0.01").to_string()).await;
    cell.until("it rests", async || cell.state_of("rest-1").await.as_deref() == Some("New")).await;
    cell.put(&cancel("cancel-1", "rest-1").to_string()).await;
    cell.until("it is cancelled", async || cell.state_of("rest-1").await.as_deref() == Some("Canceled")).await;
    let reports = cell.reports().await;
    assert_eq!(reports["rest-1"].last().unwrap()["cancel_cl_ord_id"], "cancel-1");
    cell.until("risk has released it", async || {
        cell.http("cdb_risk", "/metrics").await.contains("cdb_risk_open_orders 0")
    })
    .await;
}

/// FL-RD-18: a producer that does not know whether XADD worked sends again.
#[tokio::test]
async fn the_same_bytes_twice_are_one_order_with_its_verdict_twice() {
    let cell = Cell::start().await;
    let order = market_buy("twice-1", "0.002").to_string();
    cell.put(&order).await;
    cell.put(&order).await;
    cell.until("both are answered", async || cell.stream("cdb:verdicts").await.len() == 2).await;
    cell.until("it is filled", async || cell.state_of("twice-1").await.as_deref() == Some("Filled")).await;
    let verdicts = cell.stream("cdb:verdicts").await;
    assert_eq!(verdicts[0], verdicts[1]);
    // A third order, answered by the exchange, proves that the second verdict was passed over and not merely late.
    cell.put(&market_buy("twice-2", "0.002").to_string()).await;
    cell.until("the next is filled", async || cell.state_of("twice-2").await.as_deref() == Some("Filled")).await;
    assert_eq!(cell.posts().await.len(), 2);
}

/// What is held and may not be traded still has a price: without one, nothing new could be risked.
#[tokio::test]
async fn an_asset_that_is_held_and_not_on_the_list_is_marked_and_locks_nobody_in() {
    let cell =
        Cell::start_with("ALLOWED_SYMBOLS=ETHUSDT\n", &["--balance", "USDT=10000", "--balance", "BTC=0.01"]).await;
    let tried = std::cell::Cell::new(0);
    cell.until("an order is filled as soon as the price of what is held is known", async || {
        let id = format!("eth-{}", tried.get());
        tried.set(tried.get() + 1);
        let mut order = market_buy(&id, "0.05");
        order["symbol"] = "ETHUSDT".into();
        let entry = cell.put(&order.to_string()).await;
        let answer = async || {
            let verdicts = cell.stream("cdb:verdicts").await;
            verdicts.into_iter().find(|verdict| verdict["entry"] == entry.as_str())
        };
        cell.until("it is answered", async || answer().await.is_some()).await;
        let verdict = answer().await.unwrap();
        assert!(verdict["decision"] == "approved" || verdict["reason"] == "no_reference_price", "{verdict}");
        verdict["decision"] == "approved"
    })
    .await;
    cell.put(&market_buy("btc-1", "0.001").to_string()).await;
    cell.until("it is refused", async || {
        let verdicts = cell.stream("cdb:verdicts").await;
        verdicts.iter().any(|verdict| verdict["cl_ord_id"] == "btc-1" && verdict["reason"] == "symbol_not_allowed")
    })
    .await;
}
