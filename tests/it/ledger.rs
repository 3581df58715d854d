//! The ledger has every row once whatever goes away meanwhile, can be rebuilt from streams and audit trail, is not
//! blocked by what it cannot take, and its roles can do their own and nothing else.

use std::collections::BTreeSet;

use cdb_tests::cell::Cell;
use cdb_tests::orders::{cancel, market_buy, resting_buy};
use cdb_tests::sql::{Role, TABLES};
use rustix::process::Signal;
use serde_json::{Value, json};

async fn publish(cell: &Cell, event: &str) {
    let mut xadd = redis::cmd("XADD");
    xadd.arg("cdb:events").arg("*").arg("json").arg(event);
    let _entry: String = xadd.query_async(&mut cell.operator().commands()).await.unwrap();
}

fn event(event_type: &str, reason: &str, detail: &Value) -> String {
    json!({"v": 1, "type": event_type, "service": "cdb_risk", "actor": "service", "reason": reason, "detail": detail,
        "ts": cdb_io::clock::now()})
    .to_string()
}

/// Something of everything that the ledger keeps.
async fn a_busy_day(cell: &Cell) {
    for n in 0..5 {
        cell.put(&market_buy(&format!("day-{n}"), "0.002").to_string()).await;
    }
    cell.put(&market_buy("day-0", "0.002").to_string()).await;
    cell.put(&resting_buy("day-rests", "0.01").to_string()).await;
    let mut refused = market_buy("day-refused", "0.002");
    refused["symbol"] = json!("DOGEUSDT");
    cell.put(&refused.to_string()).await;
    cell.put("{no order").await;
    cell.until("it rests", async || cell.state_of("day-rests").await.as_deref() == Some("New")).await;
    cell.put(&cancel("day-cancels", "day-rests").to_string()).await;
    cell.until("it is cancelled", async || cell.state_of("day-rests").await.as_deref() == Some("Canceled")).await;
    cell.tell("/transfer", &json!({"asset": "USDT", "amount": "-250"})).await;
    cell.until("the transfer is found", async || {
        cell.stream("cdb:executions").await.iter().any(|message| message["kind"] == "transfer")
    })
    .await;
    assert!(cell.cdb(&["stop", "drill"]).status.success());
    assert!(cell.cdb(&["resume", "--reason", "drill over"]).status.success());
    publish(cell, &event("alert_raised", "a drill", &json!({"rule": "drill", "level": "warning"}))).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    cell.until_ledger_is_level().await;
}

/// Every row of every table, without these columns.
fn all_rows(cell: &Cell, without: &[&str]) -> Vec<(&'static str, BTreeSet<String>)> {
    TABLES.into_iter().map(|table| (table, cell.rows(table, without).into_iter().collect())).collect()
}

/// Removes every row, as if the database had been lost.
fn empty(cell: &Cell) {
    for table in TABLES.into_iter().chain(["cursors"]) {
        let _none = cell.sql(Role::Owner, &format!("DELETE FROM {table}"));
    }
}

fn rebuild(cell: &Cell) -> Value {
    let output = cell.cdb(&["--json", "ledger", "rebuild", "--reason", "a drill"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_rebuild_out_of_nothing_gives_every_row_again_and_corrects_a_row_that_was_changed() {
    let cell = Cell::start().await;
    a_busy_day(&cell).await;
    let before = all_rows(&cell, &[]);
    for (table, rows) in &before {
        assert!(!rows.is_empty(), "{table} has rows");
    }
    empty(&cell);
    let outcome = rebuild(&cell);
    let after = all_rows(&cell, &[]);
    for ((table, before), (_, after)) in before.iter().zip(&after) {
        let lost: Vec<_> = before.difference(after).collect();
        assert!(lost.is_empty(), "{table} has lost or changed {lost:#?}");
    }
    cell.until_ledger_is_level().await;
    cell.ledger_must_equal_streams().await;
    assert_eq!(outcome["tables"]["fills"]["kept"], 0, "{outcome}");
    assert!(outcome["audit_records"].as_u64().unwrap() > 10, "{outcome}");

    // A changed row is put right, and a row that no source has is kept and told.
    let _changed = cell.sql(Role::Owner, "UPDATE fills SET price = 1 WHERE cl_ord_id = 'day-1'");
    let row = "INSERT INTO dead_letters VALUES ('old', 'cdb:orders', '1-0', 'malformed', 'of a lost Redis', '')";
    let _added = cell.sql(Role::Owner, row);
    let outcome = rebuild(&cell);
    assert_eq!(outcome["tables"]["dead_letters"]["kept"], 1, "{outcome}");
    assert_eq!(cell.sql(Role::Reader, "SELECT count(*) FROM fills WHERE price = 1"), "0");
    assert_eq!(cell.sql(Role::Reader, "SELECT count(*) FROM dead_letters WHERE entry = 'old'"), "1");
    let asked = cell.sql(Role::Reader, "SELECT count(*) FROM rebuilds WHERE reason = 'a drill'");
    assert_eq!(asked, "2", "each is on record");
}

#[tokio::test]
async fn what_the_streams_no_longer_have_comes_from_the_audit_trail() {
    let cell = Cell::start().await;
    let mut redis = cell.as_superuser().await;
    a_busy_day(&cell).await;
    let place = ["entry", "report_entry"];
    let before = all_rows(&cell, &place);
    let mut trim = redis::cmd("XTRIM");
    trim.arg("cdb:executions").arg("MAXLEN").arg(0);
    let trimmed: u64 = trim.query_async(&mut redis).await.unwrap();
    assert!(trimmed > 10);
    empty(&cell);
    let _outcome = rebuild(&cell);
    for (table, before) in before.into_iter().filter(|(table, _)| *table != "balances") {
        let after: BTreeSet<String> = cell.rows(table, &place).into_iter().collect();
        let lost: Vec<_> = before.difference(&after).collect();
        assert!(lost.is_empty(), "{table} has lost or changed {lost:#?}");
    }
    // A trail that was tampered with gives nothing, and the ledger stays as it is.
    let before = all_rows(&cell, &[]);
    let chain = cell.audit_dir().join("cdb_execution");
    let file = cdb_io::audit_files::files(&chain).unwrap().pop().unwrap().1;
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("day-2", "day-9", 1)).unwrap();
    let output = cell.cdb(&["ledger", "rebuild", "--reason", "a drill"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("audit trail is not whole"), "{output:?}");
    for ((table, before), (_, after)) in before.iter().zip(&all_rows(&cell, &[])) {
        assert!(before.is_subset(after), "{table} was changed");
    }
}

/// FL-AU-13: the database is away while orders flow.
#[tokio::test]
async fn a_database_that_is_away_and_comes_back_loses_and_doubles_no_row() {
    let cell = Cell::start().await;
    for round in 0..2 {
        // The one who would start it again sleeps, so that it stays away.
        cell.signal_up(Signal::STOP);
        cell.kill("postgres");
        let gone = || cell.psql(Role::Reader, "SELECT 1");
        cell.until("the database is gone", async || !gone().status.success()).await;
        for n in 0..60 {
            cell.put(&market_buy(&format!("away-{round}-{n}"), "0.0005").to_string()).await;
        }
        let is_filled = async |id: String| cell.state_of(&id).await.as_deref() == Some("Filled");
        cell.until("trading goes on", async || is_filled(format!("away-{round}-59")).await).await;
        cell.until("the monitor says so", async || cell.http("cdb_monitor", "/readyz").await.contains("postgres"))
            .await;
        cell.signal_up(Signal::CONT);
        cell.until_ledger_is_level().await;
    }
    // It goes and comes while rows are being written.
    let text = event("alert_raised", "one of many", &json!({"rule": "many"}));
    let mut pipeline = redis::pipe();
    for _ in 0..20_000 {
        pipeline.xadd("cdb:events", "*", &[("json", &text)]).ignore();
    }
    let () = pipeline.query_async(&mut cell.operator().commands()).await.unwrap();
    for _ in 0..3 {
        let old = cell.description()["postgres"]["pid"].clone();
        cell.kill("postgres");
        cell.until("another one answers", async || {
            cell.description()["postgres"]["pid"] != old && cell.psql(Role::Reader, "SELECT 1").status.success()
        })
        .await;
    }
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    cell.until_ledger_is_level().await;
    cell.ledger_must_equal_streams().await;
}

#[tokio::test]
async fn an_entry_that_the_database_does_not_take_blocks_no_stream() {
    let cell = Cell::start().await;
    publish(&cell, &event("alert_raised", "zero \u{0} byte", &json!({"rule": "zero\u{0}", "\u{0}": 1}))).await;
    let far = event("alert_raised", "far", &json!({"rule": "far"}));
    let mut far: Value = serde_json::from_str(&far).unwrap();
    far["ts"] = json!(9_000_000_000_000_000_000_i64);
    publish(&cell, &far.to_string()).await;
    publish(&cell, &event("alert_raised", "after", &json!({"rule": "after"}))).await;
    cell.until_ledger_is_level().await;
    let reasons = cell.sql(Role::Reader, "SELECT reason FROM events WHERE event_type = 'alert_raised' ORDER BY entry");
    assert_eq!(reasons, "zero \u{fffd} byte\nafter");
    let dead = cell.sql(Role::Reader, "SELECT original FROM dead_letters WHERE reason = 'unreadable'");
    assert!(dead.contains("far") && !dead.contains("after"), "{dead}");
}

#[tokio::test]
async fn the_reader_cannot_write_the_writer_cannot_remove_or_change_tables_and_nobody_is_superuser() {
    let cell = Cell::start().await;
    a_busy_day(&cell).await;
    let off = "BEGIN READ WRITE; ";
    let forbidden_to_all = [
        "DROP TABLE fills",
        "DROP SCHEMA public CASCADE",
        "ALTER TABLE fills ADD COLUMN x text",
        "TRUNCATE fills",
        "DELETE FROM fills",
        "DELETE FROM events",
        "CREATE TABLE mine (x text)",
        "CREATE ROLE mine SUPERUSER",
        "ALTER ROLE cdb_grafana SUPERUSER",
        "SET ROLE cdb_owner",
        "SET ROLE cdb",
        "DROP DATABASE cdb",
        "COPY fills TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/hostname')",
        "SELECT rolpassword FROM pg_authid",
    ];
    let forbidden_to_reader = [
        "INSERT INTO cursors VALUES ('x', '0')",
        "UPDATE orders SET decision = 'approved'",
        "UPDATE cursors SET entry = '0'",
        "INSERT INTO equity SELECT 'paper', now(), 1, 1",
    ];
    let refused = |role: Role, statement: &str| {
        let output = cell.psql(role, statement);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_denied =
            ["permission denied", "must be owner", "must be superuser"].iter().any(|why| text.contains(why));
        assert!(!output.status.success() && is_denied, "{role:?} {statement}: {text}");
    };
    for statement in forbidden_to_all {
        refused(Role::Writer, statement);
        if !statement.starts_with("DROP DATABASE") {
            refused(Role::Reader, &format!("{off}{statement}"));
        }
    }
    for statement in forbidden_to_reader {
        refused(Role::Reader, &format!("{off}{statement}"));
        let output = cell.psql(Role::Reader, statement);
        assert!(!output.status.success(), "{statement}");
    }
    for statement in ["SET ROLE cdb", "CREATE ROLE mine", "DROP DATABASE cdb"] {
        let output = cell.psql(Role::Owner, statement);
        assert!(!output.status.success(), "the owner may {statement}");
    }
    // What each is for, it can do.
    let _written = cell.sql(Role::Writer, "BEGIN; INSERT INTO cursors VALUES ('x', '0'); ROLLBACK");
    for view in [
        "orders",
        "daily_figures",
        "daily_orders",
        "open_alerts",
        "alert_history",
        "keys",
        "key_history",
        "stop_history",
        "breaker_history",
        "audit_history",
        "equity",
        "rebuilds",
    ] {
        let _read = cell.sql(Role::Reader, &format!("SELECT count(*) FROM {view}"));
    }
    let bypass =
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'cdb\\_%' AND (rolsuper OR rolcreaterole OR rolcreatedb)";
    assert_eq!(cell.sql(Role::Admin, bypass), "0");
}

#[tokio::test]
async fn the_figures_of_a_day_are_those_of_its_rows() {
    let cell = Cell::start().await;
    a_busy_day(&cell).await;
    cell.until("the equity was sampled", async || cell.sql(Role::Reader, "SELECT count(*) FROM equity") != "0").await;
    let sums = "SELECT sum(fills) || ' ' || sum(bought) || ' ' || sum(sold) FROM daily_figures";
    let by_hand = "SELECT count(*) || ' ' || sum(qty * price) FILTER (WHERE side = 'BUY') || ' 0' FROM fills";
    assert_eq!(cell.sql(Role::Reader, sums), cell.sql(Role::Reader, by_hand));
    let orders =
        cell.sql(Role::Reader, "SELECT sum(orders) || ' ' || sum(approved) || ' ' || sum(refused) FROM daily_orders");
    assert_eq!(orders, "7 6 1", "five market orders, one that rested, one refused; the repeated one is one");
    let order = "SELECT decision || ' ' || ord_status || ' ' || qty || ' ' || cum_qty || ' ' || ord_type || ' ' || mode
                 FROM orders WHERE cl_ord_id = 'day-1'";
    assert_eq!(cell.sql(Role::Reader, order), "approved Filled 0.002 0.002 MARKET paper");
    let stops = cell.sql(Role::Reader, "SELECT count(*) FROM stop_history WHERE change = 'set' AND reason = 'drill'");
    assert_ne!(stops, "0");
    assert_eq!(cell.sql(Role::Reader, "SELECT alert FROM open_alerts WHERE alert = 'drill'"), "drill");
}
