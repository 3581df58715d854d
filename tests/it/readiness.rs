//! `/readyz` says 503 with the reason while a service cannot do its work, and `/healthz` goes on saying that the process
//! lives; both by stalling a dependency of a running cell, not by removing it.

use cdb_tests::cell::Cell;
use rustix::process::Signal;

const SERVICES: [&str; 3] = ["cdb_risk", "cdb_execution", "cdb_monitor"];

async fn status(cell: &Cell, service: &str, path: &str) -> (u16, String) {
    let url = cell.description()["services"][service]["url"].as_str().unwrap().to_owned() + path;
    let answer = cdb_mexc::http::builder().unwrap().build().unwrap().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn says(cell: &Cell, service: &str, reason: &str) {
    cell.until(&format!("{service} says {reason}"), async || {
        let (code, text) = status(cell, service, "/readyz").await;
        code == 503 && text.contains(reason)
    })
    .await;
    assert_eq!(status(cell, service, "/healthz").await, (200, "ok\n".to_owned()));
}

async fn is_ready(cell: &Cell, service: &str) {
    cell.until(&format!("{service} is ready"), async || {
        status(cell, service, "/readyz").await == (200, "ready\n".to_owned())
    })
    .await;
}

/// FL-CO-11, FL-RD-01: alive and doing nothing; a connection that answers no more.
#[tokio::test]
async fn a_stalled_redis_makes_all_three_unready_with_the_reason_and_nothing_is_shown_as_well() {
    let cell = Cell::start().await;
    cell.signal("redis", Signal::STOP);
    for (service, reason) in SERVICES.into_iter().zip(["redis", "redis", "desk"]) {
        says(&cell, service, reason).await;
    }
    for (service, metric) in [
        ("cdb_risk", "cdb_risk_stop_state{state=\"unknown\"} 1"),
        ("cdb_risk", "cdb_risk_breaker_state{state=\"unknown\"} 1"),
        ("cdb_risk", "cdb_risk_leads 0"),
        ("cdb_execution", "cdb_execution_leads 0"),
        ("cdb_monitor", "cdb_monitor_stop_state{state=\"unknown\"} 1"),
        ("cdb_monitor", "cdb_monitor_breaker_state{state=\"unknown\"} 1"),
    ] {
        cell.until(metric, async || cell.http(service, "/metrics").await.contains(metric)).await;
    }
    cell.signal("redis", Signal::CONT);
    for service in SERVICES {
        is_ready(&cell, service).await;
    }
    let page = cell.http("cdb_monitor", "/metrics").await;
    assert!(page.contains("cdb_monitor_stop_state{state=\"clear\"} 1"), "{page}");
}

#[tokio::test]
async fn a_stalled_database_makes_the_monitor_unready_with_the_reason_and_the_others_go_on() {
    let cell = Cell::start().await;
    cell.signal_family("postgres", Signal::STOP);
    says(&cell, "cdb_monitor", "postgres").await;
    assert_eq!(status(&cell, "cdb_risk", "/readyz").await.0, 200);
    assert_eq!(status(&cell, "cdb_execution", "/readyz").await.0, 200);
    cell.signal_family("postgres", Signal::CONT);
    is_ready(&cell, "cdb_monitor").await;
}

#[tokio::test]
async fn the_monitor_starts_while_redis_and_the_database_are_away_and_says_so() {
    let cell = Cell::start().await;
    cell.signal("redis", Signal::STOP);
    cell.signal_family("postgres", Signal::STOP);
    let first = cell.description()["services"]["cdb_monitor"]["pid"].clone();
    cell.kill("cdb_monitor");
    cell.until("another process answers", async || {
        cell.description()["services"]["cdb_monitor"]["pid"] != first
            && !cell.http("cdb_monitor", "/healthz").await.is_empty()
    })
    .await;
    says(&cell, "cdb_monitor", "postgres").await;
    says(&cell, "cdb_monitor", "desk").await;
    cell.signal("redis", Signal::CONT);
    cell.signal_family("postgres", Signal::CONT);
    is_ready(&cell, "cdb_monitor").await;
}
