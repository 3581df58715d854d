//! `cdb ledger rebuild`: asks cdb_monitor to write the whole ledger anew, and waits for it.

use std::time::Duration;

use cdb_core::event::EventType;
use cdb_io::bus::keys;
use cdb_io::operator::fresh_id;
use serde_json::{Value, json};

use crate::arguments::{At, RebuildOptions};
use crate::connect;
use crate::desk::{operator, record};
use crate::outcome::{FAILURE, Result, UNREACHABLE, WithCode as _, end};
use crate::output::{self, cell as text_of};

/// Longest wait for the ledger to be new. The wish is forgotten then, and what was begun is finished all the same.
const WAIT: Duration = Duration::from_secs(3_600);
/// How long a wish stands before the monitor has seen it, s.
const WISH_S: u64 = 600;
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(300);

/// Has the ledger rebuilt; the rows of each table.
pub async fn rebuild(at: &At, options: RebuildOptions) -> Result {
    let (cell, bus) = operator(at).await?;
    let id = fresh_id();
    record(&bus, at, EventType::OperatorAction, &options.reason, json!({"command": "ledger rebuild"})).await?;
    let wish = json!({"id": id, "actor": at.actor, "reason": options.reason}).to_string();
    let mut set = redis::cmd("SET");
    set.arg(keys::LEDGER_COMMAND).arg(wish).arg("EX").arg(WISH_S);
    let () = set.query_async(&mut bus.commands()).await.code(UNREACHABLE)?;
    let path = format!("/api/rebuilds/{id}");
    let deadline = tokio::time::Instant::now() + WAIT;
    let state = loop {
        let state = connect::view(&cell, &path).await?;
        if ["done", "failed"].iter().any(|last| state["state"] == *last) {
            break state;
        }
        if tokio::time::Instant::now() > deadline {
            return Err(end(UNREACHABLE, "cdb_monitor has not finished within an hour; see its log"));
        }
        tokio::time::sleep(LOOK).await;
    };
    if state["state"] == "failed" {
        let text = state["text"].as_str().unwrap_or_default();
        return Err(end(FAILURE, format!("the ledger was not rebuilt, and is as it was: {text}")));
    }
    show(at, &state["outcome"]);
    Ok(())
}

fn show(at: &At, outcome: &Value) {
    if at.json {
        return output::json(outcome);
    }
    let tables = outcome["tables"].as_object().into_iter().flatten();
    let rows: Vec<Vec<String>> = tables
        .map(|(table, counts)| vec![table.clone(), text_of(&counts["rebuilt"]), text_of(&counts["kept"])])
        .collect();
    output::table(&["table", "rebuilt", "kept: in no source any more"], &rows);
    println!("{} records of the audit trail tell of orders", outcome["audit_records"]);
}
