//! An order flow for tests that kill it: each order is recorded in the audit trail in DIR, and once its record is durable
//! its id goes out on standard output, which stands for the exchange. Ends after COUNT orders, when given.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cdb_io::audit_log::{self, Entry};
use serde_json::json;
use tokio::task::JoinSet;

/// Orders between grant and answer, as in cdb_execution.
const FLIGHTS: usize = 16;
/// The trail cannot be opened, as when another process writes it.
const NOT_OPENED: u8 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(prefix)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        eprintln!("usage: audit_flow DIR PREFIX [COUNT]");
        return ExitCode::from(2);
    };
    let count: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let (log, ended) = match audit_log::open(&dir, "cdb_execution", "test") {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(NOT_OPENED);
        }
    };
    let next = Arc::new(AtomicU64::new(0));
    let mut flights = JoinSet::new();
    for _ in 0..FLIGHTS {
        let (log, next, prefix) = (log.clone(), Arc::clone(&next), prefix.clone());
        flights.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let id = format!("{prefix}-{number}");
                let order = json!({"cl_ord_id": id, "symbol": "BTCUSDT", "side": "BUY", "qty": "0.001"});
                let result = json!({"claim": {"granted_at": 0}, "pad": "x".repeat(200)});
                let entry =
                    Entry { event_type: "ORDER_SUBMITTED", actor: None, order: Some(order), result: Some(result) };
                let Ok(durable) = log.record(entry).await else { return };
                durable.spend();
                // Nobody reads any more: the test has what it wants.
                if std::io::stdout().lock().write_all(format!("{id}\n").as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
    while flights.join_next().await.is_some() {}
    drop(log);
    match ended.wait().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
