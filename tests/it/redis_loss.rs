//! Redis loses what it was told: everything, its scripts, or a stop that somebody let expire. Trading stops until an
//! operator has looked, no stop is forgotten, and no order is sent a second time.

use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;
use redis::aio::ConnectionManager;

async fn run(redis: &mut ConnectionManager, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    let _reply: redis::Value = command.query_async(redis).await.unwrap();
}

async fn is_filled(cell: &Cell, id: &str) {
    cell.put(&market_buy(id, "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of(id).await.as_deref() == Some("Filled")).await;
}

/// FL-RD-02: consumer groups that are gone.
#[tokio::test]
async fn after_flushall_nothing_is_sent_until_an_operator_resumes_and_no_id_is_ever_sent_again() {
    let cell = Cell::start().await;
    let mut redis = cell.as_superuser().await;
    let order = market_buy("once-1", "0.001").to_string();
    cell.put(&order).await;
    cell.until("it is filled", async || cell.state_of("once-1").await.as_deref() == Some("Filled")).await;
    assert!(cell.cdb(&["stop", "before the flush"]).status.success());
    cell.until("risk knows the stop", async || cell.http("cdb_risk", "/metrics").await.contains("cdb_risk_stops 1"))
        .await;
    run(&mut redis, &["FLUSHALL"]).await;
    cell.until("the stop is set again", async || cell.value_of("emergency_stop").await.is_some()).await;
    assert_eq!(cell.status().await["may_trade"], false);
    cell.put(&market_buy("lost-1", "0.001").to_string()).await;
    cell.until("it is refused", async || cell.length_of("cdb:verdicts").await >= 1).await;
    assert_eq!(cell.stream("cdb:verdicts").await[0]["decision"], "rejected");

    assert!(cell.cdb(&["resume", "--reason", "compared with the exchange"]).status.success());
    cell.until("it may trade", async || cell.status().await["may_trade"] == true).await;
    // The same order once more: Redis no longer knows its ClOrdID, the audit trail does.
    let mut again: serde_json::Value = serde_json::from_str(&order).unwrap();
    again["ts"] = market_buy("x", "1")["ts"].clone();
    cell.put(&again.to_string()).await;
    is_filled(&cell, "after-1").await;
    let sent = cell.posts().await.into_iter().filter(|post| post["client_id"] == "once-1").count();
    assert_eq!(sent, 1);
}

#[tokio::test]
async fn a_stop_that_expires_is_set_again_and_only_del_or_resume_ends_it() {
    let cell = Cell::start().await;
    let mut redis = cell.as_superuser().await;
    run(&mut redis, &["SET", "emergency_stop", "for a moment"]).await;
    cell.until("risk knows the stop", async || cell.http("cdb_risk", "/metrics").await.contains("cdb_risk_stops 1"))
        .await;
    run(&mut redis, &["PEXPIRE", "emergency_stop", "50"]).await;
    cell.until("it is set again", async || {
        let events = cell.stream("cdb:events").await;
        let is_again =
            |event: &serde_json::Value| event["reason"].as_str().unwrap_or_default().starts_with("set again");
        events.iter().any(is_again) && cell.value_of("emergency_stop").await.as_deref() == Some("for a moment")
    })
    .await;
    run(&mut redis, &["DEL", "emergency_stop"]).await;
    cell.until("it may trade", async || cell.status().await["may_trade"] == true).await;
    is_filled(&cell, "after-1").await;
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_loaded_again_and_trading_goes_on() {
    let cell = Cell::start().await;
    let mut redis = cell.as_superuser().await;
    for round in 0..3 {
        run(&mut redis, &["SCRIPT", "FLUSH"]).await;
        cell.until("it may trade", async || cell.status().await["may_trade"] == true).await;
        let count = std::cell::Cell::new(0_u32);
        cell.until("an order is filled", async || {
            count.set(count.get() + 1);
            cell.put(&market_buy(&format!("s{round}-{}", count.get()), "0.001").to_string()).await;
            let reports = cell.reports().await;
            reports.iter().any(|(id, reports)| {
                id.starts_with(&format!("s{round}-")) && reports.last().unwrap()["ord_status"] == "Filled"
            })
        })
        .await;
    }
}

/// FL-CO-01, FL-CO-02: the stop signal arrives, and an order in mid-air is not dropped.
#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_leaves_no_doubt() {
    let cell = Cell::start().await;
    for n in 0..30 {
        cell.put(&market_buy(&format!("t-{n}"), "0.001").to_string()).await;
        if n == 15 {
            cell.signal("cdb_execution", rustix::process::Signal::TERM);
        }
    }
    cell.until("all are answered", async || cell.length_of("cdb:verdicts").await == 30).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    let reports = cell.reports().await;
    let doubts = reports.values().flatten().filter(|report| report["in_doubt"] == true).count();
    assert_eq!(doubts, 0, "an order in flight was left behind");
    assert!(cell.up_log().contains("cdb_execution ended (exit status: 0)"), "{}", cell.up_log());
}

/// FL-RD-13: a Redis that may throw keys away could throw away the stop; no permit is given on it.
#[tokio::test]
async fn a_redis_that_may_evict_keys_is_not_traded_on() {
    let cell = Cell::start().await;
    let mut redis = cell.as_superuser().await;
    let set = |policy: &str| {
        let mut command = redis::cmd("CONFIG");
        command.arg(&["SET", "maxmemory-policy", policy]);
        command
    };
    let _: String = set("allkeys-lru").query_async(&mut redis).await.unwrap();
    cell.kill("cdb_risk");
    cell.until("the permit has lapsed", async || cell.value_of("cdb:permit").await.is_none()).await;
    cell.put(&market_buy("evict-1", "0.001").to_string()).await;
    cell.until("risk says why", async || cell.whole_logs().contains("maxmemory-policy noeviction")).await;
    assert!(cell.posts().await.is_empty() && cell.stream("cdb:verdicts").await.is_empty());
    let _: String = set("noeviction").query_async(&mut redis).await.unwrap();
    cell.put(&market_buy("evict-2", "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of("evict-2").await.as_deref() == Some("Filled")).await;
}
