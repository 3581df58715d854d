//! What cdb_risk puts on record in its own audit chain: each verdict with all its checks, stops as it sees them, the
//! breaker, operators' commands, the figures of the day. Nothing waits for the disk here, only for room in the writer's
//! queue: an order waits for its record once, in cdb_execution, before it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use cdb_core::audit::story::{STOP_CLEARED, STOP_SET, VERDICT};
use cdb_core::desk::Desk;
use cdb_core::event::Event;
use cdb_core::time::Timestamp;
use cdb_core::verdict::{Verdict, digest};
use cdb_io::audit_files;
use cdb_io::audit_log::{AuditEnded, AuditLog, Entry};
use cdb_io::bus::{Pages, keys};
use redis::aio::ConnectionManager;
use serde_json::{Value, json};

/// How often the figures of the day are recorded, ms.
const FIGURES_EVERY_MS: i64 = 3_600_000;

/// The chain, as one term writes it.
pub struct Trail {
    log: AuditLog,
    /// The stops in force, and when each was last seen to be.
    stops: BTreeMap<String, Timestamp>,
    figures_at: Timestamp,
}

impl Trail {
    /// For a new term: it has seen no stop yet.
    pub const fn new(log: AuditLog) -> Self {
        Self { log, stops: BTreeMap::new(), figures_at: Timestamp::from_millis(0) }
    }

    /// A verdict, before it is published.
    pub async fn verdict(&self, verdict: &Verdict) -> Result<(), AuditEnded> {
        self.log.note(of_verdict(&verdict.to_json())).await
    }

    /// A verdict that was never published: a stop was set meanwhile, or another instance decides.
    pub async fn withdrawn(&self, verdict: &Verdict, why: &str) -> Result<(), AuditEnded> {
        let verdict = digest(verdict.to_json().as_bytes());
        self.log.note(Entry::of("VERDICT_WITHDRAWN", json!({"verdict": verdict, "reason": why}))).await
    }

    /// The stops that were set when they were asked for.
    pub async fn stops(&mut self, set: &BTreeMap<String, String>, asked_at: Timestamp) -> Result<(), AuditEnded> {
        let gone: Vec<String> = self.stops.keys().filter(|key| !set.contains_key(*key)).cloned().collect();
        for key in gone {
            self.stop_ended(&key).await?;
        }
        for (key, reason) in set {
            if self.stops.insert(key.clone(), asked_at).is_none() {
                self.log.note(Entry::of(STOP_SET, json!({"key": key, "reason": reason})).by("unknown")).await?;
            }
        }
        Ok(())
    }

    /// A stop was deleted, or is seen to be gone. Until when it was certainly set is on record with it.
    pub async fn stop_ended(&mut self, key: &str) -> Result<(), AuditEnded> {
        match self.stops.remove(key) {
            Some(still_set_at) => {
                let result = json!({"key": key, "still_set_at": still_set_at});
                self.log.note(Entry::of(STOP_CLEARED, result).by("unknown")).await
            }
            None => Ok(()),
        }
    }

    /// What is also published on `cdb:events`.
    pub async fn event(&self, event: &Event) -> Result<(), AuditEnded> {
        let result = json!({"reason": event.reason, "detail": event.detail});
        self.log.note(Entry::of(event.event_type.record_type(), result).by(&event.actor)).await
    }

    /// What an operator asked for.
    pub async fn command(&self, actor: &str, command: &str, reason: &str) -> Result<(), AuditEnded> {
        let result = json!({"command": command, "reason": reason});
        self.log.note(Entry::of("BREAKER_COMMAND", result).by(actor)).await
    }

    /// The day's result and use, once an hour.
    pub async fn figures(&mut self, desk: &Desk, now: Timestamp) -> Result<(), AuditEnded> {
        if (0..FIGURES_EVERY_MS).contains(&now.since_ms(self.figures_at)) {
            return Ok(());
        }
        self.figures_at = now;
        let day = desk.day(now);
        let result = json!({
            "day": now.day().to_string(), "result": desk.result(), "orders": day.orders, "notional": day.notional,
            "state_lost": desk.state_lost(),
        });
        self.log.note(Entry::of("DAY_FIGURES", result)).await
    }
}

/// The verdict's exact bytes as text, so that its digest can be made again from the record.
fn of_verdict(json: &str) -> Entry {
    let parts: Value = serde_json::from_str(json).unwrap_or_default();
    let result = json!({"decision": parts["decision"], "reason": parts["reason"], "verdict": json});
    let order = parts.get("command").filter(|command| !command.is_null()).cloned();
    Entry { event_type: VERDICT, actor: None, order, result: Some(result) }
}

/// Records verdicts that an earlier process published and had no time to record.
///
/// # Errors
/// Redis or the trail cannot be read.
pub async fn catch_up(redis: &mut ConnectionManager, log: &AuditLog, audit_dir: &Path) -> anyhow::Result<()> {
    let dir = audit_dir.to_owned();
    let recorded = tokio::task::spawn_blocking(move || recorded_verdicts(&dir)).await??;
    let mut pages = Pages::of(keys::VERDICTS);
    while let Some(entries) = pages.next(redis).await? {
        for entry in entries {
            let Ok(json) = std::str::from_utf8(entry.json()) else { continue };
            if !recorded.contains(&digest(json.as_bytes())) {
                tracing::warn!(entry = %entry.id, "recording a verdict that was published and not recorded");
                log.note(of_verdict(json)).await?;
            }
        }
    }
    Ok(())
}

/// Digests of the verdicts on record, in the chains of every instance.
fn recorded_verdicts(audit_dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut recorded = BTreeSet::new();
    for item in std::fs::read_dir(audit_dir).with_context(|| format!("reading AUDIT_DIR {}", audit_dir.display()))? {
        let path = item?.path();
        let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cdb_risk"));
        if !is_ours || !path.is_dir() {
            continue;
        }
        audit_files::verify_dir(&path, |record| {
            let result = record.result.filter(|_| record.event_type == VERDICT);
            let result = result.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
            if let Some(verdict) = result.as_ref().and_then(|result| result["verdict"].as_str()) {
                recorded.insert(digest(verdict.as_bytes()));
            }
        })?;
    }
    Ok(recorded)
}
