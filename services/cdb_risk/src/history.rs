//! Rebuilding the desk after a start: ClOrdIDs, published verdicts, reports, breaker. What cannot be read means
//! that history is incomplete, and then nothing is approved.

use std::collections::BTreeMap;

use cdb_core::breaker::{self, Breaker, Cause};
use cdb_core::desk::{CL_ORD_ID_DAYS, Desk, Seen};
use cdb_core::ids::{ClOrdId, EntryId};
use cdb_core::pnl::DayResult;
use cdb_core::report::Execution;
use cdb_core::time::{Timestamp, UtcDay};
use cdb_io::bus::{Pages, keys};
use redis::AsyncCommands as _;
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data_set::DataSet;

/// A desk that knows its history, and the last report it knows.
pub struct Rebuilt {
    /// The desk.
    pub desk: Desk,
    /// Read on from here.
    pub executions_after: String,
}

/// Reads everything back.
///
/// # Errors
/// Redis is unreachable.
pub async fn rebuild(
    redis: &mut ConnectionManager,
    config: &Config,
    data_set: &DataSet,
    now: Timestamp,
) -> anyhow::Result<Rebuilt> {
    let fields: BTreeMap<String, String> = redis.hgetall(keys::BREAKER).await?;
    let breaker = breaker_from(&fields);
    let is_breaker_known = breaker.is_some();
    let mut desk = Desk::new(
        config.limits.clone(),
        config.limits_hash.clone(),
        data_set.epoch.clone(),
        breaker.unwrap_or_default(),
    );
    if let Some(why) = &data_set.lost {
        desk.lose_state(why.clone());
    }
    let rules: BTreeMap<String, Vec<u8>> = redis.hgetall(keys::RULES).await?;
    for json in rules.values() {
        // Without its rules a symbol is not tradable; that refusal says so.
        if let Ok(rules) = serde_json::from_slice(json) {
            desk.on_rules(rules);
        }
    }
    desk.on_rules_as_of(rules_as_of(&rules));
    recall_ids(redis, &mut desk, now).await?;
    let verdicts = recall_verdicts(redis, &mut desk).await?;
    if verdicts > 0 && !is_breaker_known {
        desk.lose_state("the circuit breaker's state is gone although verdicts exist; check, then run `cdb resume`");
    }
    let kept: Option<Vec<u8>> = redis.get(keys::RESULT).await?;
    let kept = kept.and_then(|json| serde_json::from_slice::<KeptResult>(&json).ok());
    if verdicts > 0 && kept.is_none() {
        desk.lose_state("the day's result is gone although verdicts exist; check, then run `cdb resume`");
    }
    let kept = kept.unwrap_or_default();
    let executions_after = recall_executions(redis, &mut desk, kept).await?;
    Ok(Rebuilt { desk, executions_after })
}

async fn recall_ids(redis: &mut ConnectionManager, desk: &mut Desk, now: Timestamp) -> anyhow::Result<()> {
    for back in 0..=CL_ORD_ID_DAYS {
        let day = UtcDay::from_number(now.day().number() - back);
        let ids: BTreeMap<String, String> = redis.hgetall(format!("{}{day}", keys::SEEN)).await?;
        for (id, value) in ids {
            let fingerprint = value.split(':').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
            match (ClOrdId::parse(&id), fingerprint) {
                (Some(id), Some(fingerprint)) => desk.on_seen(id, Seen { fingerprint, day }),
                _ => desk.lose_state(format!("the ClOrdIDs of {day} cannot be read")),
            }
        }
    }
    Ok(())
}

async fn recall_verdicts(redis: &mut ConnectionManager, desk: &mut Desk) -> anyhow::Result<usize> {
    let mut count = 0;
    let mut seen_entries = std::collections::BTreeSet::new();
    let mut pages = Pages::of(keys::VERDICTS);
    while let Some(entries) = pages.next(redis).await? {
        for entry in entries {
            let json = entry.json();
            // A verdict published again for the same entry reserves nothing again.
            if !seen_entries.insert(json.to_vec()) {
                continue;
            }
            count += 1;
            if let Err(problem) = desk.recall(json) {
                desk.lose_state(format!("verdict {} cannot be read: {problem}", entry.id));
            }
        }
    }
    Ok(count)
}

/// The day's result and the last report that is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptResult {
    /// The result.
    pub result: DayResult,
    /// Entry of `cdb:executions`.
    pub as_of: String,
}

async fn recall_executions(redis: &mut ConnectionManager, desk: &mut Desk, kept: KeptResult) -> anyhow::Result<String> {
    let mut pages = Pages::of(keys::EXECUTIONS);
    desk.restore_result(kept.result);
    // Everything stands after the empty one.
    let as_of = EntryId::parse(&kept.as_of);
    while let Some(entries) = pages.next(redis).await? {
        for entry in entries {
            match Execution::parse(entry.json()) {
                Ok(execution) if as_of.as_ref().is_none_or(|as_of| entry.id.is_after(as_of)) => {
                    desk.on_execution(&execution, time_of(&execution));
                }
                Ok(execution) => {
                    desk.recall_execution(&execution, time_of(&execution));
                }
                Err(problem) => desk.lose_state(format!("report {} cannot be read: {problem}", entry.id)),
            }
        }
    }
    Ok(pages.after())
}

/// When the message was made: the breaker's rolling hour counts from there.
const fn time_of(execution: &Execution) -> Timestamp {
    match execution {
        Execution::ExecutionReport(report) => report.ts,
        Execution::AccountSnapshot(snapshot) => snapshot.ts,
        Execution::Finding(finding) => finding.ts,
    }
}

/// The breaker out of `cdb:breaker`; `None` when it is not there or not readable.
fn breaker_from(fields: &BTreeMap<String, String>) -> Option<Breaker> {
    let time = |name: &str| {
        let text = fields.get(name)?;
        text.parse().ok().map(Timestamp::from_millis)
    };
    let cause = || fields.get("cause").and_then(|code| Cause::parse(code));
    let state = match fields.get("state")?.as_str() {
        "closed" => breaker::State::Closed,
        "open" => breaker::State::Open { cause: cause()?, opened_at: time("opened_at")?, retry_at: time("retry_at") },
        "half_open" => breaker::State::HalfOpen { cause: cause()?, since: time("opened_at")? },
        _ => return None,
    };
    let (counts_from, closed_at) = (time("counts_from").unwrap_or_default(), time("closed_at").unwrap_or_default());
    let relapses = fields.get("relapses").and_then(|text| text.parse().ok()).unwrap_or_default();
    Some(Breaker::restored(state, counts_from, closed_at, relapses))
}

/// The breaker as fields of `cdb:breaker`.
#[must_use]
pub fn breaker_fields(breaker: &Breaker) -> Vec<String> {
    let millis = |at: Timestamp| at.millis().to_string();
    let (state, cause, latched, opened_at, retry_at) = match breaker.state() {
        breaker::State::Closed => ("closed", String::new(), "0", String::new(), String::new()),
        breaker::State::Open { cause, opened_at, retry_at } => {
            let latched = if retry_at.is_none() { "1" } else { "0" };
            ("open", cause.to_string(), latched, millis(opened_at), retry_at.map(millis).unwrap_or_default())
        }
        breaker::State::HalfOpen { cause, since } => {
            ("half_open", cause.to_string(), "0", millis(since), String::new())
        }
    };
    let pairs = [
        ("state", state.to_owned()),
        ("cause", cause),
        ("latched", latched.to_owned()),
        ("opened_at", opened_at),
        ("retry_at", retry_at),
        ("counts_from", millis(breaker.counts_from())),
        ("closed_at", millis(breaker.closed_at())),
        ("relapses", breaker.relapses().to_string()),
    ];
    pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

/// When the rules in the hash were read; long ago, when it does not say.
pub fn rules_as_of(rules: &BTreeMap<String, Vec<u8>>) -> Timestamp {
    let text = rules.get(keys::RULES_AS_OF).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Timestamp::from_millis(text.and_then(|text| text.parse().ok()).unwrap_or_default())
}
