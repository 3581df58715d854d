//! The whole ledger anew, out of the streams and the audit trail, in one transaction: whoever reads sees the old rows
//! until the new ones are complete. A row that neither source has any more is kept and counted. The equity curve and the
//! list of rebuilds are observations, which no source repeats: they stay as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use cdb_core::audit::{FaultKind, Record};
use cdb_core::report::{Execution, ExecutionReport, Finding};
use cdb_io::audit_files;
use cdb_io::bus::{Bus, Pages, keys};
use cdb_io::supervise::Shutdown;
use redis::AsyncCommands as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::mpsc;

use super::rows::Rows;
use super::{Ledger, place_cursor};
use crate::projection::STREAMS;

/// How often a wish is looked for.
const LOOK: Duration = Duration::from_millis(500);
/// Records of the audit trail in one batch.
const BATCH: usize = 500;
/// Batches that may wait for the database.
const BATCHES: usize = 4;
/// The tables that sources repeat.
const TABLES: [&str; 8] = ["verdicts", "reports", "fills", "balances", "findings", "events", "dead_letters", "orders"];

/// An operator's wish (`cdb:ledger:command`).
#[derive(Debug, Clone, Deserialize)]
struct Wish {
    id: String,
    actor: String,
    reason: String,
}

/// What came of a wish.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// It is being done.
    Running,
    /// The ledger is new.
    Done {
        /// What is in it.
        outcome: Outcome,
    },
    /// Nothing was changed.
    Failed {
        /// Why.
        text: String,
    },
}

/// What a rebuild left.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// By table.
    tables: BTreeMap<&'static str, Counts>,
    /// Records of the audit trail that tell of orders.
    audit_records: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counts {
    /// Rows out of the sources.
    rebuilt: i64,
    /// Rows that were there and that no source has any more.
    kept: u64,
}

/// The wishes of this process's life that were met, or not.
#[derive(Clone, Default)]
pub struct Rebuilds(Arc<Mutex<BTreeMap<String, State>>>);

impl Rebuilds {
    /// What came of one.
    pub fn state_of(&self, id: &str) -> Option<State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn set(&self, id: &str, state: State) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), state);
    }
}

/// Does what operators ask for, until the end is asked for.
///
/// # Errors
/// Never: what fails is said to whoever asked.
pub async fn serve(
    ledger: Ledger,
    bus: Bus,
    audit_dir: PathBuf,
    rebuilds: Rebuilds,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
        // Redis away is said by others; the wish is still there afterwards.
        let json: Option<String> = bus.commands().get(keys::LEDGER_COMMAND).await.unwrap_or_default();
        let Some(wish) = json.and_then(|json| serde_json::from_str::<Wish>(&json).ok()) else { continue };
        if rebuilds.state_of(&wish.id).is_some() {
            continue;
        }
        rebuilds.set(&wish.id, State::Running);
        tracing::warn!(id = wish.id, actor = wish.actor, reason = wish.reason, "the ledger is rebuilt");
        let rebuilt = tokio::select! {
            // The transaction is given up: the ledger is as it was.
            () = shutdown.asked() => return Ok(()),
            rebuilt = ledger.rebuild(&wish, &bus, &audit_dir) => rebuilt,
        };
        let state = match rebuilt {
            Ok(outcome) => {
                tracing::info!(id = wish.id, outcome = ?outcome, "the ledger is new");
                State::Done { outcome }
            }
            Err(error) => {
                let text = format!("{error:#}");
                tracing::error!(id = wish.id, text, "the ledger was not rebuilt");
                State::Failed { text }
            }
        };
        rebuilds.set(&wish.id, state);
    }
}

impl Ledger {
    /// Writes everything anew. A wish that an earlier process met is met already.
    async fn rebuild(&self, wish: &Wish, bus: &Bus, audit_dir: &Path) -> anyhow::Result<Outcome> {
        let _alone = self.turn.write().await;
        self.migrate().await?;
        let owner = self.as_owner().await?;
        let mut transaction = owner.begin().await?;
        for table in TABLES {
            let aside =
                format!("CREATE TEMPORARY TABLE before_{table} ON COMMIT DROP AS TABLE {table}; DELETE FROM {table}");
            sqlx::raw_sql(AssertSqlSafe(aside)).execute(&mut *transaction).await?;
        }
        for stream in STREAMS {
            from_stream(stream, bus, &mut transaction).await?;
        }
        let mut outcome =
            Outcome { audit_records: from_audit(audit_dir, &mut transaction).await?, ..Outcome::default() };
        for table in TABLES {
            let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            let rebuilt: i64 = sqlx::query_scalar(count).fetch_one(&mut *transaction).await?;
            let back = format!("INSERT INTO {table} SELECT * FROM before_{table} ON CONFLICT DO NOTHING");
            let kept = sqlx::raw_sql(AssertSqlSafe(back)).execute(&mut *transaction).await?.rows_affected();
            outcome.tables.insert(table, Counts { rebuilt, kept });
        }
        sqlx::query!(
            "INSERT INTO rebuilds (id, actor, reason, ended_at, outcome) VALUES ($1, $2, $3, clock_timestamp(), $4)
             ON CONFLICT DO NOTHING",
            wish.id,
            wish.actor,
            wish.reason,
            json!(outcome)
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        owner.close().await;
        Ok(outcome)
    }
}

async fn from_stream(stream: &'static str, bus: &Bus, connection: &mut PgConnection) -> anyhow::Result<()> {
    let mut redis = bus.commands();
    let mut pages = Pages::of(stream);
    while let Some(entries) = pages.next(&mut redis).await? {
        Rows::of(stream, &entries).insert(connection).await.with_context(|| format!("writing {stream}"))?;
    }
    let last = pages.after();
    if last != "0" {
        place_cursor(&mut *connection, stream, &last).await?;
    }
    Ok(())
}

/// Reports and findings that the trail has and the streams perhaps not; how many it has.
async fn from_audit(dir: &Path, connection: &mut PgConnection) -> anyhow::Result<u64> {
    let (sender, mut batches) = mpsc::channel(BATCHES);
    let dir = dir.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_trail(&dir, &sender));
    let mut count = 0_u64;
    while let Some(batch) = batches.recv().await {
        let mut rows = Rows::default();
        for (entry, execution) in &batch {
            rows.execution(entry, execution);
            count = count.saturating_add(1);
        }
        rows.insert(connection).await.context("writing what the audit trail has")?;
    }
    reading.await.context("reading the audit trail")??;
    Ok(count)
}

/// Messages with the place that the ledger gives them: `<ms>-<record>-<chain>`.
type Batch = Vec<(String, Execution)>;

fn read_trail(dir: &Path, batches: &mpsc::Sender<Batch>) -> anyhow::Result<()> {
    let items = std::fs::read_dir(dir).with_context(|| format!("reading the audit trail in {}", dir.display()))?;
    let chains = items.map(|item| item.map(|item| item.path())).collect::<std::io::Result<Vec<_>>>()?;
    for chain in chains.into_iter().filter(|path| path.is_dir()) {
        let name = chain.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut batch = Batch::new();
        let verifier = audit_files::verify_dir(&chain, |record| {
            batch.extend(told(record, &name));
            if batch.len() >= BATCH {
                // Nobody takes it any more: the rebuild has failed already.
                let _given_up = batches.blocking_send(std::mem::take(&mut batch));
            }
        })?;
        // The last line may be half written at this moment.
        if let Some(fault) = verifier.faults().iter().find(|fault| fault.kind != FaultKind::TornTail) {
            let (file, line, text) = (&fault.file, fault.line, &fault.text);
            bail!("the audit trail is not whole ({name}/{file} line {line}: {text}); see `cdb audit verify`");
        }
        let _given_up = batches.blocking_send(batch);
    }
    Ok(())
}

/// What a record tells of an order or of a difference.
fn told(record: &Record<'_>, chain: &str) -> Option<(String, Execution)> {
    let result = record.result?.get();
    let (at, execution) = if record.event_type == "FINDING" {
        let finding: Finding = serde_json::from_str(result).ok()?;
        (finding.ts, Execution::Finding(finding))
    } else if record.event_type.starts_with("ORDER_") {
        let report: ExecutionReport = serde_json::from_str(result).ok()?;
        (report.ts, Execution::ExecutionReport(Box::new(report)))
    } else {
        return None;
    };
    Some((format!("{}-{}-{chain}", at.millis(), record.seq), execution))
}
