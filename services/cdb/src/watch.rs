//! What becomes of orders: reads verdicts, reports and dead letters from a point on, and keeps what belongs to whom.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cdb_core::report::{Execution, ExecutionReport, OrdStatus};
use cdb_io::bus::{Bus, Entry, entry, keys};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamRangeReply, StreamReadReply};
use serde::Deserialize;

use crate::outcome::{Result, UNREACHABLE, WithCode as _};

/// How long one read waits.
const BLOCK_MS: u64 = 200;
/// Entries read at once.
const COUNT: u64 = 500;

/// A verdict as far as a person wants it.
#[derive(Debug, Clone, Deserialize)]
pub struct Verdict {
    /// The order.
    pub cl_ord_id: String,
    /// approved or rejected.
    pub decision: String,
    /// Code of a refusal.
    pub reason: Option<String>,
    /// Figures.
    pub detail: String,
}

/// What is known of one order.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Risk's answer.
    pub verdict: Option<Verdict>,
    /// Times the verdict was published.
    pub verdicts: u32,
    /// Reports in their order.
    pub reports: Vec<ExecutionReport>,
}

impl Story {
    /// The latest state.
    pub fn status(&self) -> Option<OrdStatus> {
        self.reports.last().map(|report| report.ord_status)
    }
    /// Whether risk refused it.
    pub fn is_refused(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.decision == "rejected")
    }
    /// Whether nothing more is to come.
    pub fn is_over(&self) -> bool {
        self.is_refused() || self.status().is_some_and(OrdStatus::is_final)
    }
    /// The cancel outcome that names this cancel command, if any.
    pub fn cancel_outcome(&self, cancel: &str) -> Option<&ExecutionReport> {
        let names_it =
            |report: &&ExecutionReport| report.cancel_cl_ord_id.as_ref().is_some_and(|id| id.as_str() == cancel);
        self.reports.iter().find(names_it)
    }
}

/// A dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The entry that could not be acted on.
    pub entry: String,
    /// For a person.
    pub text: String,
}

/// Watches from the moment it was made.
pub struct Watch {
    connection: MultiplexedConnection,
    after: [String; 3],
    /// By ClOrdID.
    pub stories: BTreeMap<String, Story>,
    /// By verdict or order entry.
    pub dead: Vec<DeadLetter>,
    /// Order ids of verdict entries, to know whose dead letter it is.
    verdict_entries: BTreeMap<String, String>,
}

const WATCHED: [&str; 3] = [keys::VERDICTS, keys::EXECUTIONS, keys::DEAD];

impl Watch {
    /// Begins to watch: what is published after this is seen.
    pub async fn begin(bus: &Bus) -> Result<Self> {
        let mut connection = bus.blocking().await.code(UNREACHABLE)?;
        let mut after = ["0".to_owned(), "0".to_owned(), "0".to_owned()];
        for (after, stream) in after.iter_mut().zip(WATCHED) {
            let last: StreamRangeReply = redis::cmd("XREVRANGE")
                .arg(stream)
                .arg("+")
                .arg("-")
                .arg("COUNT")
                .arg(1)
                .query_async(&mut connection)
                .await
                .code(UNREACHABLE)?;
            if let Some(last) = last.ids.first() {
                after.clone_from(&last.id);
            }
        }
        Ok(Self { connection, after, stories: BTreeMap::new(), dead: Vec::new(), verdict_entries: BTreeMap::new() })
    }

    /// Reads on until `is_enough`, or until the time is up; whether it is enough.
    pub async fn until(&mut self, limit: Duration, is_enough: impl Fn(&Self) -> bool) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            if is_enough(self) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(COUNT).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS").arg(&WATCHED).arg(&self.after);
        let reply: Option<StreamReadReply> = command.query_async(&mut self.connection).await.code(UNREACHABLE)?;
        for key in reply.map(|reply| reply.keys).unwrap_or_default() {
            for entry in key.ids.into_iter().filter_map(entry) {
                if let Some(index) = WATCHED.iter().position(|stream| *stream == key.key) {
                    self.after[index] = entry.id.to_string();
                }
                self.take(&key.key, &entry);
            }
        }
        Ok(())
    }

    fn take(&mut self, stream: &str, entry: &Entry) {
        match stream {
            keys::VERDICTS => {
                if let Ok(verdict) = serde_json::from_slice::<Verdict>(entry.json()) {
                    self.verdict_entries.insert(entry.id.to_string(), verdict.cl_ord_id.clone());
                    let story = self.stories.entry(verdict.cl_ord_id.clone()).or_default();
                    story.verdicts += 1;
                    story.verdict = Some(verdict);
                }
            }
            keys::EXECUTIONS => {
                if let Ok(Execution::ExecutionReport(report)) = Execution::parse(entry.json()) {
                    self.stories.entry(report.cl_ord_id.to_string()).or_default().reports.push(*report);
                }
            }
            _ => self.dead.push(DeadLetter { entry: entry.text("entry"), text: entry.text("text") }),
        }
    }

    /// What is known of an order.
    pub fn story(&self, id: &str) -> Story {
        self.stories.get(id).cloned().unwrap_or_default()
    }

    /// The dead letter of an entry of `cdb:orders`, or of the verdict on this ClOrdID.
    pub fn dead_letter(&self, order_entry: &str, id: &str) -> Option<&DeadLetter> {
        self.dead.iter().find(|letter| {
            letter.entry == order_entry || self.verdict_entries.get(&letter.entry).is_some_and(|of| of == id)
        })
    }
}

/// A word for where an order stands, e.g. `FILLED`.
pub fn standing_word(story: &Story) -> String {
    let Some(last) = story.reports.last() else { return String::new() };
    match last.ord_status {
        OrdStatus::PendingNew if last.in_doubt => "IN DOUBT".to_owned(),
        OrdStatus::Rejected => "NOT SENT".to_owned(),
        OrdStatus::New => "OPEN".to_owned(),
        status => status.as_str().to_uppercase(),
    }
}

/// What was filled and why it ended, e.g. `0.002 @ 39466.43`; empty when there is nothing to tell.
pub fn standing_figures(story: &Story) -> String {
    let Some(last) = story.reports.last() else { return String::new() };
    let fills = last
        .avg_px
        .map(|avg_px| format!("{} @ {}", last.cum_qty.decimal().normalize(), avg_px.decimal().round_dp(6).normalize()));
    fills.into_iter().chain(last.reason.clone()).collect::<Vec<_>>().join(", ")
}

/// Both in one, e.g. `FILLED 0.002 @ 39466.43`.
pub fn standing(story: &Story) -> String {
    format!("{} {}", standing_word(story), standing_figures(story)).trim().to_owned()
}
