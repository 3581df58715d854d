//! The exchange key is exchanged for another while orders are under way: none is lost, none is doubled, nothing is signed
//! with half of one pair and half of another, and a bad pair changes nothing (design §8; G-107 to G-118).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Output;

use cdb_tests::cell::{Cell, WIDE};
use cdb_tests::chaos::broken_promises;
use cdb_tests::orders::{market_buy, resting_buy};
use serde_json::{Value, json};

fn file(cell: &Cell, name: &str) -> PathBuf {
    cell.file().with_file_name("secrets").join(name)
}

fn key_in_file(cell: &Cell) -> String {
    fs::read_to_string(file(cell, "mexc_api_key")).unwrap().trim().to_owned()
}

/// Content and identity of both files.
fn files(cell: &Cell) -> Vec<(String, u64)> {
    let one = |name: &str| {
        let path = file(cell, name);
        (fs::read_to_string(&path).unwrap(), fs::metadata(&path).unwrap().ino())
    };
    vec![one("mexc_api_key"), one("mexc_api_secret")]
}

fn pair(n: u32) -> (String, String) {
    (format!("mxTESTONLY{n:010}"), format!("tests-only-secret-{n:010}"))
}

async fn add(cell: &Cell, n: u32) {
    let (key, secret) = pair(n);
    cell.tell("/keys/add", &json!({"api_key": key, "api_secret": secret})).await;
}

/// What the running cdb_execution says of its key.
async fn in_use(cell: &Cell) -> Value {
    let output = cell.cdb_reading(&["--json", "keys", "status"], "").await;
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let secrets = status["secrets"].as_array().cloned().unwrap_or_default();
    secrets.into_iter().find(|one| one["secret"] == "MEXC_API_KEY").unwrap_or(Value::Null)
}

async fn rotate(cell: &Cell, n: u32, more: &[&str]) -> Output {
    let (key, secret) = pair(n);
    let arguments = [&["--json", "keys", "rotate", "--stdin"], more].concat();
    cell.cdb_reading(&arguments, &format!("{key}\n{secret}\n")).await
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

async fn ends_as(cell: &Cell, id: &str, state: &str) {
    cell.until("it has ended", async || cell.state_of(id).await.as_deref() == Some(state)).await;
}

/// Record types of cdb_execution's audit trail that name this fingerprint.
fn recorded(cell: &Cell, fingerprint: &str) -> Vec<String> {
    let days = fs::read_dir(cell.audit_dir().join("cdb_execution")).unwrap().filter_map(Result::ok);
    let text: String = days.filter_map(|day| fs::read_to_string(day.path()).ok()).collect();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let about = records.filter(|record| record["result"]["fingerprint"] == fingerprint);
    about.map(|record| record["event_type"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_new_key_is_proven_taken_up_and_put_on_record_and_the_old_one_is_seen_to_be_refused() {
    let cell = Cell::start().await;
    cell.put(&resting_buy("before", "0.001").to_string()).await;
    cell.until("it rests", async || cell.state_of("before").await.as_deref() == Some("New")).await;
    let before = in_use(&cell).await;
    assert_eq!(before["generation"], 1);
    add(&cell, 1).await;
    let old_key = key_in_file(&cell);
    let rotating = rotate(&cell, 1, &["--check-old-revoked", "--revoke-wait-sec", "60"]);
    let revoking = async {
        cell.until("the new key is in use", async || in_use(&cell).await["generation"] == 2).await;
        cell.put(&market_buy("between", "0.001").to_string()).await;
        ends_as(&cell, "between", "Filled").await;
        cell.tell("/keys/revoke", &json!({"api_key": old_key})).await;
    };
    let (output, ()) = tokio::join!(rotating, revoking);
    assert!(output.status.success(), "{}", text(&output));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["is_old_revoked"], &said["previous"]), (&json!(true), &before["fingerprint"]));

    // The order of before is still the cell's: it is cancelled with the new key.
    assert!(cell.cdb(&["order", "cancel", "before"]).status.success());
    ends_as(&cell, "before", "Canceled").await;
    let fingerprint = said["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(recorded(&cell, &fingerprint), ["KEY_ROTATED"]);
    cell.until("the ledger knows its age", async || in_use(&cell).await["days_left"] == 90).await;
    let events = cell.stream("cdb:events").await;
    let is_about = |event: &&Value| event["detail"]["fingerprint"] == fingerprint.as_str();
    let kinds: Vec<&str> = events.iter().filter(is_about).filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["operator_action", "key_rotated"]);
    // Neither key nor secret is anywhere in what was said.
    let (key, secret) = pair(1);
    for part in [key.as_str(), secret.as_str(), old_key.as_str()] {
        assert!(!text(&output).contains(part));
    }

    let page = String::from_utf8(cell.cdb_reading(&["keys", "status"], "").await.stdout).unwrap();
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    for part in [fingerprint.as_str(), "90 days left to 90", "trade yes, withdraw no", "last used"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let metrics = cell.http("cdb_execution", "/metrics").await;
    assert!(metrics.contains(&format!("cdb_execution_key_info{{fingerprint=\"{fingerprint}\"}} 1")), "{metrics}");
    let (old_pair, _) = pair(0);
    assert_ne!(old_pair, key_in_file(&cell));
    let revoked = cell.cdb_reading(&["keys", "check-revoked", "--stdin"], &format!("{key}\n{secret}\n")).await;
    assert_eq!(revoked.status.code(), Some(7), "the new key is not revoked: {}", text(&revoked));
}

#[tokio::test]
async fn a_bad_pair_changes_nothing_and_says_why() {
    let cell = Cell::start().await;
    let (before, key) = (files(&cell), in_use(&cell).await["fingerprint"].clone());
    add(&cell, 1).await;
    add(&cell, 2).await;
    let (api_key, api_secret) = pair(3);
    let withdraws = json!({"api_key": api_key, "api_secret": api_secret, "can_withdraw": true});
    cell.tell("/keys/add", &withdraws).await;
    let ((key_1, secret_1), (_, secret_2), unknown, (key_3, secret_3)) = (pair(1), pair(2), pair(9), pair(3));
    let cases = [
        (format!("{key_1}\n{secret_2}\n"), 5, "700002"),
        (format!("{}\n{}\n", unknown.0, unknown.1), 5, "10072"),
        (format!("{key_3}\n{secret_3}\n"), 5, "may withdraw"),
        (format!("{}\n{secret_1}\n", key_in_file(&cell)), 2, "in the files already"),
        (format!("{key_1}\n{key_1}\n"), 2, "the same text"),
        (format!("new_key\n{secret_1}\n"), 2, "placeholder"),
        (format!("{key_1}\n"), 2, "is empty"),
        (String::new(), 2, "is empty"),
    ];
    for (input, code, part) in cases {
        let output = cell.cdb_reading(&["keys", "rotate", "--stdin"], &input).await;
        assert_eq!(output.status.code(), Some(code), "{part}: {}", text(&output));
        assert!(text(&output).contains(part), "{part}: {}", text(&output));
        assert_eq!(files(&cell), before, "{part}");
    }
    let now = in_use(&cell).await;
    assert_eq!((&now["fingerprint"], &now["generation"]), (&key, &json!(1)));
    // Those that the exchange refused are on record, with who tried them.
    let events = cell.stream("cdb:events").await;
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((count("key_rejected"), count("alert_raised"), count("key_rotated")), (3, 3, 0));
    cell.put(&market_buy("after", "0.001").to_string()).await;
    ends_as(&cell, "after", "Filled").await;
}

#[tokio::test]
async fn files_changed_by_hand_are_proven_too_and_half_of_a_change_is_waited_out() {
    let cell = Cell::start().await;
    add(&cell, 1).await;
    let ((key, secret), mixed) = (pair(1), async || cell.admin("/keys").await["mixed"].as_u64().unwrap());
    // As the guide's first procedure has it: one file after the other, with a pause between.
    fs::write(file(&cell, "mexc_api_key"), format!("{key}\n")).unwrap();
    let opened_before = cell.admin("/requests?endpoint=GET%20account").await.as_array().unwrap().len();
    cell.until("the desk has gone on", async || {
        cell.admin("/requests?endpoint=GET%20account").await.as_array().unwrap().len() > opened_before + 1
    })
    .await;
    assert_eq!(in_use(&cell).await["generation"], 1);
    fs::write(file(&cell, "mexc_api_secret"), format!("{secret}\n")).unwrap();
    cell.until("the new key is in use", async || in_use(&cell).await["generation"] == 2).await;
    assert_eq!(mixed().await, 0);

    // A pair that the exchange does not know leaves the old one in use, and somebody is told.
    let (unknown_key, unknown_secret) = pair(7);
    fs::write(file(&cell, "mexc_api_secret"), unknown_secret).unwrap();
    fs::write(file(&cell, "mexc_api_key"), unknown_key).unwrap();
    cell.until("it is not taken", async || in_use(&cell).await["rejected"]["reason"].is_string()).await;
    let now = in_use(&cell).await;
    assert_eq!(now["generation"], 2);
    let events = cell.stream("cdb:events").await;
    assert!(events.iter().any(|event| event["type"] == "alert_raised" && event["service"] == "cdb_execution"));
    let page = String::from_utf8(cell.cdb_reading(&["keys", "status"], "").await.stdout).unwrap();
    assert!(page.contains("not taken"), "{page}");
    cell.put(&market_buy("after", "0.001").to_string()).await;
    ends_as(&cell, "after", "Filled").await;
    assert_eq!(cell.status().await["may_trade"], true);
}

#[tokio::test]
async fn the_old_key_is_not_to_be_revoked_while_the_service_does_not_see_the_new_one_fl_se_08() {
    let cell = Cell::start().await;
    add(&cell, 1).await;
    // What a service sees whose mounts are the single files of before: not what was put in their place.
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["mexc_api_key", "mexc_api_secret"] {
        fs::copy(file(&cell, name), elsewhere.path().join(name)).unwrap();
    }
    let dir = elsewhere.path().to_str().unwrap();
    let output = rotate(&cell, 1, &["--secrets", dir, "--wait-sec", "3"]).await;
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let said = text(&output);
    let old = in_use(&cell).await["fingerprint"].as_str().unwrap().to_owned();
    assert!(said.contains("do not revoke") && said.contains(&old), "{said}");
    // In place, the very files that a mount shows change.
    let inodes = |cell: &Cell| files(cell).into_iter().map(|(_, inode)| inode).collect::<Vec<_>>();
    let before = inodes(&cell);
    let output = rotate(&cell, 1, &["--in-place"]).await;
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(inodes(&cell), before);
    assert_eq!(in_use(&cell).await["generation"], 2);
}

/// Rotations under load: 3, or as many as `CDB_ROTATIONS` says.
#[tokio::test]
async fn rotations_under_load_lose_and_double_nothing_and_never_mix_two_pairs() {
    let rotations: usize = std::env::var("CDB_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let options = ["--unlimited-exchange", "--balance", "USDT=1000000", "--balance", "BTC=1"];
    let cell = Cell::start_with(WIDE, &options).await;
    let is_over = std::cell::Cell::new(false);
    let load = async {
        let mut placed = 0;
        while !is_over.get() {
            cell.put(&market_buy(&format!("load-{placed}"), "0.0005").to_string()).await;
            placed += 1;
            tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        }
        placed
    };
    let rotating = async {
        for n in 0..rotations {
            let old_key = key_in_file(&cell);
            let way: &[&str] = if n % 2 == 0 { &[] } else { &["--in-place"] };
            let output = cell.cdb_reading(&[&["keys", "rotate", "--paper"], way].concat(), "").await;
            assert!(output.status.success(), "rotation {n}: {}", text(&output));
            // At once: nothing that the old key signed may be under way any more.
            cell.tell("/keys/revoke", &json!({"api_key": old_key})).await;
        }
        is_over.set(true);
    };
    let (placed, ()) = tokio::join!(load, rotating);
    cell.until("every order has ended", async || cell.unfinished().await.is_empty()).await;

    let keys = cell.admin("/keys").await;
    assert_eq!((&keys["mixed"], &keys["unknown"]), (&json!(0), &json!(0)), "{keys}");
    let pairs = keys["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), rotations + 1);
    assert!(pairs.iter().all(|pair| pair["refused"] == 0 && pair["opened"].as_u64().unwrap() > 0), "{keys}");
    let reports = cell.reports().await;
    let filled = reports.values().filter(|reports| reports.last().unwrap()["ord_status"] == "Filled").count();
    assert_eq!(filled, placed, "an order was lost or refused");
    let posts = cell.posts().await;
    let ids: std::collections::BTreeSet<&str> = posts.iter().filter_map(|post| post["client_id"].as_str()).collect();
    assert_eq!((posts.len(), ids.len()), (placed, placed), "an order was sent twice or never");
    assert_eq!(broken_promises(&cell, false).await, [""; 0]);
    let now = in_use(&cell).await;
    assert_eq!(now["generation"], json!(rotations + 1));
    eprintln!("{rotations} rotations, {placed} orders, {keys}");
}
