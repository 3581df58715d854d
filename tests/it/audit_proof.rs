//! The monitor follows the audit chains as they grow, signs checkpoints, anchors them, and raises an alert when a chain
//! is not what it was.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use cdb_core::checkpoint::{self, Checkpoint, PublicKey};
use cdb_io::audit_files;
use cdb_tests::cell::{Cell, WIDE};
use cdb_tests::orders::market_buy;
use serde_json::Value;

async fn cell() -> Cell {
    let settings = format!("{WIDE}CHECKPOINT_INTERVAL_SEC=1\nAUDIT_RECHECK_SEC=1\n");
    Cell::start_with(&settings, &["--unlimited-exchange", "--balance", "USDT=1000000"]).await
}

async fn is_filled(cell: &Cell, id: &str) {
    cell.put(&market_buy(id, "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of(id).await.as_deref() == Some("Filled")).await;
}

fn public_key(cell: &Cell) -> PublicKey {
    let file = cell.file().with_file_name("monitor").join("audit/checkpoints/public-key");
    std::fs::read_to_string(file).unwrap().parse().unwrap()
}

/// The newest checkpoint of execution's chain that was published as anchored in the ledger.
async fn anchored(cell: &Cell) -> Option<Checkpoint> {
    let events = cell.stream("cdb:events").await;
    let is_anchored = |event: &&Value| {
        let is_there = event["detail"]["anchored"].as_array().is_some_and(|places| places.contains(&"ledger".into()));
        event["type"] == "checkpoint" && event["detail"]["chain"] == "cdb_execution" && is_there
    };
    let event = events.iter().rev().find(is_anchored)?;
    Some(checkpoint::verify(event["detail"]["note"].as_str()?, &public_key(cell)).expect("a genuine note"))
}

/// The alerts about execution's chain: what kind each was raised for, `over` where it ended.
async fn alerts(cell: &Cell) -> Vec<String> {
    let events = cell.stream("cdb:events").await;
    let of_chain = events.iter().filter(|event| event["detail"]["id"] == "audit_chain:cdb_execution");
    let word = |event: &Value| match event["type"].as_str() {
        Some("alert_raised") => event["detail"]["kind"].as_str().unwrap_or_default().to_owned(),
        _ => "over".to_owned(),
    };
    of_chain.map(word).collect()
}

/// Changes one byte of a file that its writer has open.
fn flip(file: &Path, at: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&byte).unwrap();
}

#[tokio::test]
async fn a_chain_is_signed_for_as_it_grows_and_what_is_changed_behind_the_follower_raises_an_alert() {
    let cell = cell().await;
    is_filled(&cell, "proof-1").await;
    cell.until("it is anchored", async || anchored(&cell).await.is_some()).await;
    let first = anchored(&cell).await.unwrap();
    is_filled(&cell, "proof-2").await;
    cell.until("a longer chain is anchored", async || {
        anchored(&cell).await.is_some_and(|newest| newest.size > first.size)
    })
    .await;
    let newest = anchored(&cell).await.unwrap();
    let mut head = None;
    audit_files::verify_dir(&cell.audit_dir().join("cdb_execution"), |record| {
        if record.seq == newest.size {
            head = Some(record.hash.clone());
        }
    })
    .unwrap();
    let signed_for: String = newest.head.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(head, Some(signed_for), "what was signed for is the record of that number");

    // The next process goes on from its own position and signs for what is new.
    cell.kill("cdb_monitor");
    is_filled(&cell, "proof-3").await;
    cell.until("the chain is anchored again", async || {
        anchored(&cell).await.is_some_and(|anchor| anchor.size > newest.size)
    })
    .await;
    let metrics = cell.http("cdb_monitor", "/metrics").await;
    assert!(metrics.contains("cdb_monitor_audit_state{state=\"clean\"} 1"), "{metrics}");
    assert_eq!(alerts(&cell).await, Vec::<String>::new());

    let (_, file) = audit_files::files(&cell.audit_dir().join("cdb_execution")).unwrap().pop().unwrap();
    flip(&file, 20);
    cell.until("an alert is raised", async || alerts(&cell).await == ["broken"]).await;
    assert!(cell.http("cdb_monitor", "/metrics").await.contains("cdb_monitor_audit_state{state=\"broken\"} 1"));
    let signed = anchored(&cell).await.unwrap().size;
    is_filled(&cell, "proof-4").await;
    // Nothing is signed for while it stands; a restart finds it as well and tells it once only.
    cell.kill("cdb_monitor");
    let is_broken = "cdb_monitor_audit_state{state=\"broken\"} 1";
    cell.until("it is found again", async || cell.http("cdb_monitor", "/metrics").await.contains(is_broken)).await;
    assert_eq!(anchored(&cell).await.unwrap().size, signed);
    assert_eq!(alerts(&cell).await, ["broken"]);
    flip(&file, 20);
    cell.kill("cdb_monitor");
    cell.until("it is over", async || alerts(&cell).await == ["broken", "over"]).await;
    cell.until("the chain is signed for again", async || anchored(&cell).await.unwrap().size > signed).await;
}
