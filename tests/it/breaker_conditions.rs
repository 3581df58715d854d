//! What execution and monitor see and the breaker must heed: a ban, a clock far off, a doubt without end, a ledger that
//! is away, a disk that is nearly full (I10). The breaker opens, an order is refused with its code, and where the cause ends by itself trading goes
//! on.

use cdb_tests::cell::{Cell, WIDE};
use cdb_tests::orders::market_buy;
use rustix::process::Signal;
use serde_json::json;

async fn opens_because_of(cell: &Cell, cause: &str) {
    cell.until("the breaker is open", async || cell.status().await["breaker"]["state"] == "open").await;
    assert_eq!(cell.status().await["breaker"]["cause"], cause);
    let id = format!("refused-{cause}").replace('_', "-");
    cell.put(&market_buy(&id, "0.001").to_string()).await;
    cell.until("it is refused", async || {
        let verdicts = cell.stream("cdb:verdicts").await;
        verdicts.iter().any(|verdict| verdict["cl_ord_id"] == id.as_str() && verdict["reason"] == "circuit_open")
    })
    .await;
}

async fn trades_again(cell: &Cell, id: &str) {
    cell.until("the breaker lets a probe through", async || {
        let state = cell.status().await["breaker"]["state"].clone();
        state == "half_open" || state == "closed"
    })
    .await;
    let count = std::cell::Cell::new(0_u32);
    cell.until("an order is filled", async || {
        count.set(count.get() + 1);
        let id = format!("{id}-{}", count.get());
        cell.put(&market_buy(&id, "0.0003").to_string()).await;
        cell.reports().await.values().any(|reports| {
            let last = reports.last().unwrap();
            last["ord_status"] == "Filled" && last["cl_ord_id"].as_str().unwrap().starts_with(&id[..5])
        })
    })
    .await;
}

async fn cell_with(settings: &str) -> Cell {
    let settings = format!("{WIDE}RECOVERY_TIMEOUT_SEC=1\n{settings}");
    Cell::start_with(&settings, &["--unlimited-exchange", "--balance", "USDT=100000"]).await
}

/// FL-RL-04: nobody knocks during a ban.
#[tokio::test]
async fn a_ban_opens_it_and_nothing_is_sent_until_the_ban_is_over_whoever_restarts() {
    let cell = cell_with("").await;
    let fault = json!({"kind": "refuse", "status": 418, "retry_after_s": 6});
    cell.tell("/faults", &json!([{"endpoint": "GET account", "count": 1, "fault": fault}])).await;
    opens_because_of(&cell, "exchange_ban").await;
    let events = cell.stream("cdb:events").await;
    assert!(events.iter().any(|event| event["type"] == "banned"), "{events:?}");
    // Another process keeps to it as well.
    cell.kill("cdb_execution");
    let requests = cell.admin("/requests").await;
    let all = requests.as_array().unwrap();
    let banned_at = all.iter().find(|request| request["status"] == 418).unwrap()["at_us"].as_i64().unwrap();
    trades_again(&cell, "after").await;
    let requests = cell.admin("/requests").await;
    let times = requests.as_array().unwrap().iter().map(|request| request["at_us"].as_i64().unwrap());
    let first_after = times.filter(|at| *at > banned_at + 500_000).min().unwrap();
    assert!(first_after - banned_at > 5_500_000, "asked again after {} ms", (first_after - banned_at) / 1_000);
}

/// FL-RK-13, with everything real.
#[tokio::test]
async fn half_open_lets_exactly_one_of_a_hundred_parallel_orders_through() {
    let cell = cell_with("").await;
    let ban = json!({"kind": "refuse", "status": 418, "retry_after_s": 1});
    cell.tell("/faults", &json!([{"endpoint": "GET account", "count": 1, "fault": ban}])).await;
    cell.until("it is half open", async || cell.status().await["breaker"]["state"] == "half_open").await;
    // The probe is under way for longer than it takes to decide a hundred orders.
    let slow = json!({"kind": "delay_after", "delay_ms": 3_000});
    cell.tell("/switches", &json!({"stream_is_silent": true})).await;
    cell.tell("/faults", &json!([{"endpoint": "POST order", "count": 1, "fault": slow}])).await;
    cell.until("prices are fresh again", async || cell.http("cdb_risk", "/readyz").await == "ready\n").await;
    let orders: Vec<String> = (0..100).map(|n| market_buy(&format!("p-{n}"), "0.0003").to_string()).collect();
    futures_util::future::join_all(orders.iter().map(|order| cell.put(order))).await;
    cell.until("all are answered", async || cell.length_of("cdb:verdicts").await == 100).await;
    let verdicts = cell.stream("cdb:verdicts").await;
    let approved = verdicts.iter().filter(|verdict| verdict["decision"] == "approved").count();
    let refused = verdicts.iter().filter(|verdict| verdict["reason"] == "circuit_open").count();
    assert_eq!((approved, refused), (1, 99));
    cell.until("the probe closes it", async || cell.status().await["breaker"]["state"] == "closed").await;
    assert_eq!(cell.posts().await.len(), 1);
}

#[tokio::test]
async fn a_clock_far_off_opens_it_and_nothing_is_signed_meanwhile() {
    let cell = cell_with("").await;
    cell.tell("/switches", &json!({"clock_skew_ms": -60_000})).await;
    // The first refusal has it measured.
    cell.put(&market_buy("ahead-1", "0.001").to_string()).await;
    opens_because_of(&cell, "clock_offset").await;
    cell.tell("/switches", &json!({})).await;
    trades_again(&cell, "after").await;
}

/// FL-OD-17: an unclear order is never given up as rejected; it stays reserved, and new risk waits for an operator.
#[tokio::test]
async fn a_doubt_without_end_opens_it_until_an_operator_resets_it() {
    let cell = cell_with("DOUBT_MAX_SEC=3\n").await;
    let unknown = json!({"kind": "refuse", "status": 503});
    let rule = |endpoint: &str| json!({"endpoint": endpoint, "fault": unknown});
    cell.tell("/switches", &json!({"stream_is_silent": true})).await;
    cell.tell("/faults", &json!([rule("POST order"), rule("GET order")])).await;
    cell.put(&market_buy("doubt-1", "0.001").to_string()).await;
    opens_because_of(&cell, "doubt_too_long").await;
    cell.tell("/faults", &json!([])).await;
    cell.until("it is proven absent", async || cell.state_of("doubt-1").await.as_deref() == Some("Rejected")).await;
    assert_eq!(cell.status().await["breaker"]["state"], "open", "it does not end by itself");
    // What was reported still holds for a while; until then a reset is followed by the next opening.
    cell.until("it stays closed after a reset", async || {
        assert!(cell.cdb(&["breaker", "reset", "--reason", "looked into"]).status.success());
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        cell.status().await["breaker"]["state"] == "closed"
    })
    .await;
}

#[tokio::test]
async fn a_ledger_that_is_away_for_too_long_opens_it_and_its_return_ends_it() {
    let cell = cell_with("LEDGER_AWAY_MAX_SEC=2\n").await;
    cell.signal_family("postgres", Signal::STOP);
    opens_because_of(&cell, "ledger_away").await;
    cell.signal_family("postgres", Signal::CONT);
    trades_again(&cell, "after").await;
}

#[tokio::test]
async fn a_disk_nearly_full_halts_trading_before_a_record_is_lost_and_room_ends_it() {
    let disk = tempfile::Builder::new().prefix("cdb-audit-disk").tempdir_in("/dev/shm").unwrap();
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    let free_mb = stat.f_bavail * stat.f_frsize / 1_000_000;
    // Others use this disk as well: far enough from the edge on both sides.
    let margin_mb = (free_mb / 4).min(128);
    let settings = format!(
        "{WIDE}RECOVERY_TIMEOUT_SEC=1\nAUDIT_MIN_FREE_MB={}\nAUDIT_COMPRESS_AFTER_DAYS=1\n",
        free_mb - margin_mb
    );
    let options = ["--unlimited-exchange", "--balance", "USDT=100000"];
    let link = |cell: &std::path::Path| std::os::unix::fs::symlink(disk.path(), cell.join("audit")).unwrap();
    let cell = Cell::start_prepared(&settings, &options, link).await;
    cell.put(&market_buy("room", "0.0003").to_string()).await;
    cell.until("it is filled", async || cell.state_of("room").await.as_deref() == Some("Filled")).await;

    let filler = disk.path().join("filler");
    let megabyte = vec![1_u8; 1_000_000];
    let mut file = std::fs::File::create(&filler).unwrap();
    for _ in 0..2 * margin_mb {
        std::io::Write::write_all(&mut file, &megabyte).unwrap();
    }
    // An open file would keep its room after it is removed.
    drop(file);
    opens_because_of(&cell, "audit_unwritable").await;
    let posts = cell.posts().await.len();
    for service in ["cdb_risk", "cdb_execution"] {
        cell.until("the reason is told", async || {
            let said = cell.http(service, "/readyz").await;
            said.contains("AUDIT_MIN_FREE_MB") && said.contains("make room")
        })
        .await;
    }
    assert_eq!(cell.posts().await.len(), posts, "an order left although its record might not have fitted");

    std::fs::remove_file(filler).unwrap();
    trades_again(&cell, "again").await;
    assert!(cell.cdb(&["audit", "verify"]).status.success());
}
