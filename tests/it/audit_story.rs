//! The chains together tell the whole of what happened, each record with its build, and `cdb audit verify` compares them:
//! sends with approvals and stops, reports with submissions, fills with what was filled.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use cdb_io::audit_files;
use cdb_tests::cell::{Cell, programs};
use cdb_tests::orders::{market_buy, resting_buy};
use serde_json::Value;

const CONTRADICTORY: i32 = 7;

/// Event types of a chain, with how often each stands there; every record names its build.
fn types(chain: &Path) -> BTreeMap<String, usize> {
    let mut types = BTreeMap::new();
    let verifier = audit_files::verify_dir(chain, |record| {
        assert!(!record.build.is_empty());
        *types.entry(record.event_type.clone()).or_default() += 1;
    });
    assert_eq!(verifier.unwrap().faults(), []);
    types
}

/// Who did it, by the first record of a type.
fn actor_of(chain: &Path, event_type: &str) -> Option<String> {
    let mut actor = None;
    audit_files::verify_dir(chain, |record| {
        if record.event_type == event_type && actor.is_none() {
            actor.clone_from(&record.actor);
        }
    })
    .unwrap();
    actor
}

fn verify(dir: &Path) -> (Option<i32>, Value) {
    let output = Command::new(programs().join("cdb")).args(["--json", "audit", "verify"]).arg(dir).output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// A copy of a trail without its locks.
fn copy_of(trail: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for chain in fs::read_dir(trail).unwrap().map(|item| item.unwrap().path()).filter(|path| path.is_dir()) {
        let to = copy.path().join(chain.file_name().unwrap());
        fs::create_dir(&to).unwrap();
        for (_, file) in audit_files::files(&chain).unwrap() {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn a_day_at_the_desk_is_on_record_and_holds_together() {
    let cell = Cell::start().await;
    let (risk, execution) = (cell.audit_dir().join("cdb_risk"), cell.audit_dir().join("cdb_execution"));
    cell.put(&market_buy("filled", "0.001").to_string()).await;
    cell.put(&resting_buy("resting", "0.001").to_string()).await;
    let mut forbidden = market_buy("refused", "0.001");
    forbidden["symbol"] = "DOGEUSDT".into();
    cell.put(&forbidden.to_string()).await;
    cell.until("one is filled", async || cell.state_of("filled").await.as_deref() == Some("Filled")).await;
    cell.until("one rests", async || cell.state_of("resting").await.as_deref() == Some("New")).await;
    assert!(cell.cdb(&["--actor", "alice", "breaker", "trip", "--reason", "drill"]).status.success());
    cell.until("the trip is on record", async || types(&risk).contains_key("BREAKER_OPENED")).await;
    assert!(cell.cdb(&["--actor", "bob", "breaker", "reset", "--reason", "over"]).status.success());
    cell.until("the reset is on record", async || types(&risk).contains_key("BREAKER_CLOSED")).await;
    assert!(cell.cdb(&["stop", "drill\nwith \u{2028} breaks"]).status.success());
    cell.until("the stop is on record", async || types(&risk).contains_key("STOP_SET")).await;
    cell.put(&market_buy("stopped", "0.001").to_string()).await;
    cell.until("it is refused", async || cell.state_of("resting").await.as_deref() == Some("Canceled")).await;
    cell.until("four are answered", async || types(&risk).get("VERDICT") == Some(&4)).await;
    assert!(cell.cdb(&["resume", "--reason", "over"]).status.success());
    cell.until("the end of the stop is on record", async || types(&risk).contains_key("STOP_CLEARED")).await;

    let (of_risk, of_execution) = (types(&risk), types(&execution));
    for expected in ["DAY_OPENED", "SERVICE_STARTED", "CONFIG_LOADED", "LEASE_ACQUIRED", "DAY_FIGURES"] {
        assert_eq!(of_risk.get(expected), Some(&1), "{expected} in {of_risk:?}");
    }
    for expected in ["SERVICE_STARTED", "LEASE_ACQUIRED", "KEY_LOADED", "ORDER_FILLED", "ORDER_CANCELED"] {
        assert_eq!(of_execution.get(expected), Some(&1), "{expected} in {of_execution:?}");
    }
    assert_eq!(of_execution.get("ORDER_SUBMITTED"), Some(&2));
    assert_eq!(actor_of(&risk, "BREAKER_COMMAND").as_deref(), Some("alice"));
    cell.until("the trail is level", async || verify(&cell.audit_dir()).0 == Some(0)).await;

    let copy = copy_of(&cell.audit_dir());
    fs::remove_dir_all(copy.path().join("cdb_risk")).unwrap();
    let (code, said) = verify(copy.path());
    assert_eq!(code, Some(CONTRADICTORY), "{said}");
    assert_eq!(said["first_fault"]["fault"]["kind"], "no_approval");
    assert_eq!(said["contradictions"].as_array().unwrap().len(), 2);
    assert_eq!(said["first_fault"]["chain"], "cdb_execution");
}

#[tokio::test]
async fn verdicts_that_risk_had_no_time_to_record_are_recorded_when_it_comes_back() {
    let cell = Cell::start().await;
    for n in 0..20 {
        cell.put(&market_buy(&format!("k-{n}"), "0.001").to_string()).await;
        if n % 7 == 3 {
            cell.kill("cdb_risk");
        }
    }
    cell.until("all are answered", async || cell.stream("cdb:verdicts").await.len() >= 20).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    cell.until("the trail is level", async || verify(&cell.audit_dir()).0 == Some(0)).await;
}

#[tokio::test]
async fn a_verdict_published_by_a_process_that_recorded_nothing_is_recorded_by_the_next() {
    let cell = Cell::start().await;
    cell.put(&market_buy("one", "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of("one").await.as_deref() == Some("Filled")).await;
    let risk = cell.audit_dir().join("cdb_risk");
    let before = types(&risk);
    // As if the records had never come to the disk.
    cell.signal_up(rustix::process::Signal::STOP);
    cell.kill("cdb_risk");
    for (_, file) in audit_files::files(&risk).unwrap() {
        fs::remove_file(file).unwrap();
    }
    cell.signal_up(rustix::process::Signal::CONT);
    cell.until("the verdict is on record again", async || {
        audit_files::files(&risk).is_ok_and(|files| !files.is_empty())
            && types(&risk).get("VERDICT") == before.get("VERDICT")
    })
    .await;
    cell.until("the trail is level", async || verify(&cell.audit_dir()).0 == Some(0)).await;
}
