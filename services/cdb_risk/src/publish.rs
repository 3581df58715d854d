//! Verdicts out: exactly one for each entry of `cdb:orders`, in one script call that also acknowledges.

use cdb_core::command::Command;
use cdb_core::desk::{CL_ORD_ID_DAYS, Decided};
use cdb_core::verdict::VerdictKey;
use cdb_io::bus::Entry;
use cdb_io::scripts::{self, Script, Scripts};
use redis::aio::ConnectionManager;
use serde_json::json;

/// How long a day's ClOrdIDs are kept, s.
const KEEP_S: i64 = (CL_ORD_ID_DAYS + 1) * 86_400;

/// What came of publishing one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It stands.
    Done,
    /// A stop was set meanwhile: decide again.
    Stopped,
    /// The verdict to be repeated is no longer kept.
    OriginalGone,
    /// Another instance decides.
    NotLeader,
}

/// The script call for one decision.
fn call(scripts: &Scripts, token: &str, key: &VerdictKey, entry: &Entry, decided: &Decided) -> redis::Cmd {
    match decided {
        Decided::Verdict { verdict, seen } => {
            let mut request = json!({
                "token": token, "entry": entry.id, "kind": "verdict", "cl_ord_id": verdict.cl_ord_id, "keep_s": KEEP_S,
            });
            if let Some(seen) = seen {
                request["day"] = json!(seen.day.to_string());
                request["fingerprint"] = json!(format!("{:016x}", seen.fingerprint));
            }
            if let (true, Some(Command::New(order))) = (verdict.is_approved(), &verdict.command) {
                request["symbol"] = json!(order.symbol);
                request["strategy"] = json!(order.strategy);
            }
            let json = verdict.to_json();
            let signature = key.sign(json.as_bytes());
            scripts.command(Script::Verdict, &[&request.to_string(), &json, &signature])
        }
        Decided::Replay { cl_ord_id, day } => {
            let request = json!({
                "token": token, "entry": entry.id, "kind": "replay", "cl_ord_id": cl_ord_id, "day": day.to_string(),
            });
            scripts.command(Script::Verdict, &[&request.to_string()])
        }
        Decided::DeadLetter(fault) => {
            let request = json!({"token": token, "entry": entry.id, "kind": "dead"});
            let text = fault.to_string();
            scripts.command(Script::Verdict, &[&request.to_string(), "malformed", &text, &entry.original()])
        }
    }
}

/// Publishes decisions in their order, in one round trip.
///
/// # Errors
/// Redis did not answer: nothing is known about which of them stand, and the term is over.
pub async fn publish(
    redis: &mut ConnectionManager,
    scripts: &Scripts,
    token: &str,
    key: &VerdictKey,
    decisions: &[(Entry, Decided)],
) -> anyhow::Result<Vec<Published>> {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    for (entry, decided) in decisions {
        pipeline.add_command(call(scripts, token, key, entry, decided));
    }
    let replies: Vec<redis::Value> = pipeline.query_async(redis).await?;
    anyhow::ensure!(replies.len() == decisions.len(), "Redis answered {} of {} calls", replies.len(), decisions.len());
    let outcome = |reply| {
        let reply = scripts::outcome(Ok(reply))?;
        match scripts::word(&reply).as_deref() {
            Some("done" | "done_before") => Ok(Published::Done),
            Some("stopped") => Ok(Published::Stopped),
            Some("original_gone") => Ok(Published::OriginalGone),
            Some("not_leader") => Ok(Published::NotLeader),
            _ => anyhow::bail!("verdict.lua answered {reply:?}"),
        }
    };
    replies.into_iter().map(outcome).collect()
}
