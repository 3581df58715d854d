//! Nothing is sent before its audit record is durable (I6): when the file cannot grow, the order does not leave; when what
//! became of it cannot be recorded, the exchange is asked once there is room (FL-AU-06).

use std::process::Command;

use cdb_io::audit_files;
use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;

fn executor(cell: &Cell) -> u64 {
    cell.description()["services"]["cdb_execution"]["pid"].as_u64().unwrap()
}

#[tokio::test]
async fn an_order_whose_record_does_not_fit_on_the_disk_does_not_leave() {
    let cell = Cell::start().await;
    for round in 0..2 {
        let files = audit_files::files(&cell.audit_dir().join("cdb_execution")).unwrap();
        let size = std::fs::metadata(&files.last().unwrap().1).unwrap().len();
        let before = executor(&cell);
        // Room for a part of the next record.
        let limit = format!("--fsize={}", size + 40);
        let status = Command::new("prlimit").args(["--pid", &before.to_string(), &limit]).status().unwrap();
        assert!(status.success());
        cell.put(&market_buy(&format!("full-{round}"), "0.001").to_string()).await;
        cell.until("the executor has ended", async || executor(&cell) != before).await;
        let id = format!("full-{round}");
        cell.until("it is proven absent", async || cell.state_of(&id).await.as_deref() == Some("Rejected")).await;
        assert_eq!(cell.posts().await.len(), round, "an order left without its record");
        cell.put(&market_buy(&format!("fits-{round}"), "0.001").to_string()).await;
        let id = format!("fits-{round}");
        cell.until("it is filled", async || cell.state_of(&id).await.as_deref() == Some("Filled")).await;
    }
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    let output = cell.cdb(&["audit", "verify"]);
    assert!(output.status.success(), "{output:?}");
}

/// Length of the last ORDER_SUBMITTED in the executor's file, and of the whole file.
fn lengths(cell: &Cell) -> (u64, u64) {
    let files = audit_files::files(&cell.audit_dir().join("cdb_execution")).unwrap();
    let text = std::fs::read_to_string(&files.last().unwrap().1).unwrap();
    let line = text.split_inclusive('\n').rfind(|line| line.contains("\"ORDER_SUBMITTED\"")).unwrap();
    (u64::try_from(line.len()).unwrap(), u64::try_from(text.len()).unwrap())
}

#[tokio::test]
async fn fl_au_06_an_order_whose_answer_does_not_fit_on_the_disk_is_asked_for_and_recorded_once_there_is_room() {
    let cell = Cell::start().await;
    cell.put(&market_buy("answer-0", "0.001").to_string()).await;
    cell.until("it is filled", async || cell.state_of("answer-0").await.as_deref() == Some("Filled")).await;
    let (submission, size) = lengths(&cell);
    let before = executor(&cell);
    // Room for the submission and for a part of the next record.
    let limit = format!("--fsize={}", size + submission + 60);
    let status = Command::new("prlimit").args(["--pid", &before.to_string(), &limit]).status().unwrap();
    assert!(status.success());
    cell.put(&market_buy("answer-1", "0.001").to_string()).await;
    cell.until("the executor has ended", async || executor(&cell) != before).await;
    assert_eq!(cell.posts().await.len(), 2, "the order had left");
    cell.until("it is filled", async || cell.state_of("answer-1").await.as_deref() == Some("Filled")).await;
    cell.until("all have ended", async || cell.unfinished().await.is_empty()).await;
    assert_eq!(cell.posts().await.len(), 2, "it was sent once");
    let output = cell.cdb(&["audit", "verify"]);
    assert!(output.status.success(), "{output:?}");
}
