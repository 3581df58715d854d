//! `cdb audit verify` is clean after trading and names the line after one byte was changed.

use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;

#[tokio::test]
async fn one_changed_byte_is_found_on_its_line() {
    let cell = Cell::start().await;
    for n in 0..3 {
        cell.put(&market_buy(&format!("t-{n}"), "0.001").to_string()).await;
    }
    cell.until("they are filled", async || cell.state_of("t-2").await.as_deref() == Some("Filled")).await;
    let clean = cell.cdb(&["audit", "verify"]);
    assert!(clean.status.success(), "{clean:?}");

    let dir = cell.audit_dir().join("cdb_execution");
    let copy = tempfile::tempdir().unwrap();
    let chain = copy.path().join("cdb_execution");
    std::fs::create_dir(&chain).unwrap();
    let file = std::fs::read_dir(&dir)
        .unwrap()
        .map(|item| item.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let third_line = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 20;
    bytes[third_line] ^= 1;
    std::fs::write(chain.join(file.file_name().unwrap()), bytes).unwrap();
    let found = cell.cdb(&["audit", "verify", copy.path().to_str().unwrap()]);
    assert_eq!(found.status.code(), Some(6));
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(text.contains("line 3"), "{text}");
}
