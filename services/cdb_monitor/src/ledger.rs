//! The streams' entries as rows. Every statement may be repeated without effect.

use std::time::Duration;

use anyhow::Context as _;
use cdb_core::event::Event;
use cdb_core::ids::EntryId;
use cdb_core::report::{AccountSnapshot, Execution, ExecutionReport, Finding};
use cdb_core::time::Timestamp;
use cdb_io::bus::Entry;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Postgres, Transaction};

use crate::config::Config;

/// Connections at most.
const CONNECTIONS_MAX: u32 = 4;
/// Longest wait for one.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// The ledger.
#[derive(Clone)]
pub struct Ledger {
    /// The pool, for views.
    pub pool: PgPool,
}

/// A verdict as far as the ledger keeps it.
#[derive(Deserialize)]
struct PublishedVerdict {
    cl_ord_id: String,
    decision: String,
    reason: Option<String>,
    detail: String,
    checks: Value,
    command: Option<Value>,
    notional: Option<Decimal>,
    limits_hash: String,
    epoch: String,
    ts: Timestamp,
}

impl Ledger {
    /// A ledger that connects when it is first used: alerts go out while the database is away.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let postgres = &config.postgres;
        let mut options = PgConnectOptions::new()
            .host(&postgres.host)
            .port(postgres.port)
            .username(&postgres.user)
            .database(&postgres.database)
            .application_name("cdb_monitor");
        if let Some(password) = &postgres.password {
            options = options.password(password.expose());
        }
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_MAX)
            .connect_lazy_with(options);
        Self { pool }
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// The database is unreachable, or a migration fails.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        sqlx::migrate!().run(&self.pool).await.context("migrating the ledger")
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query_scalar!("SELECT 1").fetch_one(&self.pool).await.map(|_| ())
    }

    /// The last entry of a stream that is in the ledger; `0` before the first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn cursor(&self, stream: &str) -> Result<String, sqlx::Error> {
        let entry = sqlx::query_scalar!("SELECT entry FROM cursors WHERE stream = $1", stream)
            .fetch_optional(&self.pool)
            .await?;
        Ok(entry.unwrap_or_else(|| "0".to_owned()))
    }

    /// Writes entries of a stream and moves its cursor, all or none.
    ///
    /// # Errors
    /// The database failed. What cannot be read is written as a dead letter, never lost.
    pub async fn write(&self, stream: &str, entries: &[Entry]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for entry in entries {
            let outcome = match stream {
                "cdb:verdicts" => verdict(&mut transaction, entry).await?,
                "cdb:executions" => execution(&mut transaction, entry).await?,
                "cdb:events" => event(&mut transaction, entry).await?,
                _ => dead_letter(&mut transaction, entry).await?,
            };
            if let Err(problem) = outcome {
                unreadable(&mut transaction, stream, entry, &problem).await?;
            }
        }
        if let Some(last) = entries.last() {
            place_cursor(&mut *transaction, stream, &last.id).await?;
        }
        transaction.commit().await
    }

    /// Moves a cursor that goes with no rows.
    ///
    /// # Errors
    /// The database failed.
    pub async fn move_cursor(&self, name: &str, entry: &EntryId) -> Result<(), sqlx::Error> {
        place_cursor(&self.pool, name, entry).await
    }
}

async fn place_cursor(to: impl sqlx::PgExecutor<'_>, stream: &str, entry: &EntryId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO cursors (stream, entry) VALUES ($1, $2)
                 ON CONFLICT (stream) DO UPDATE SET entry = EXCLUDED.entry",
        stream,
        entry.as_str()
    )
    .execute(to)
    .await
    .map(|_| ())
}

/// Whether the entry could be read; the database's own failures are outside.
type Written = Result<Result<(), String>, sqlx::Error>;

/// As the database keeps it.
pub fn time(at: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at.millis()).unwrap_or_default()
}

async fn verdict(transaction: &mut Transaction<'_, Postgres>, entry: &Entry) -> Written {
    let verdict = match serde_json::from_slice::<PublishedVerdict>(entry.json()) {
        Ok(verdict) => verdict,
        Err(error) => return Ok(Err(error.to_string())),
    };
    sqlx::query!(
        "INSERT INTO verdicts (entry, cl_ord_id, decision, reason, detail, checks, command, notional, limits_hash,
                               epoch, decided_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
        entry.id.as_str(),
        verdict.cl_ord_id,
        verdict.decision,
        verdict.reason,
        verdict.detail,
        verdict.checks,
        verdict.command,
        verdict.notional,
        verdict.limits_hash,
        verdict.epoch,
        time(verdict.ts)
    )
    .execute(&mut **transaction)
    .await?;
    Ok(Ok(()))
}

async fn execution(transaction: &mut Transaction<'_, Postgres>, entry: &Entry) -> Written {
    match Execution::parse(entry.json()) {
        Ok(Execution::ExecutionReport(of_order)) => report(transaction, entry, &of_order).await?,
        Ok(Execution::AccountSnapshot(snapshot)) => account(transaction, entry, &snapshot).await?,
        Ok(Execution::Finding(found)) => finding(transaction, entry, &found).await?,
        Err(problem) => return Ok(Err(problem)),
    }
    Ok(Ok(()))
}

async fn report(
    transaction: &mut Transaction<'_, Postgres>,
    entry: &Entry,
    report: &ExecutionReport,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO reports (entry, cl_ord_id, exec_id, order_id, exec_type, ord_status, in_doubt, strategy, symbol,
                              side, cum_qty, avg_px, reason, note, source, mode, transact_time, reported_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
         ON CONFLICT DO NOTHING",
        entry.id.as_str(),
        report.cl_ord_id.as_str(),
        report.exec_id,
        report.order_id.as_ref().map(|id| id.as_str()),
        word(&report.exec_type),
        report.ord_status.as_str(),
        report.in_doubt,
        report.strategy.as_str(),
        report.symbol.as_str(),
        report.side.as_str(),
        report.cum_qty.decimal(),
        report.avg_px.map(|price| price.decimal()),
        report.reason,
        report.text,
        word(&report.source),
        report.mode.as_str(),
        time(report.transact_time),
        time(report.ts)
    )
    .execute(&mut **transaction)
    .await?;
    let Some(fill) = &report.fill else { return Ok(()) };
    sqlx::query!(
        "INSERT INTO fills (mode, symbol, trade_id, cl_ord_id, strategy, side, qty, price, commission,
                            commission_asset, is_maker, traded_at, entry)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
        report.mode.as_str(),
        report.symbol.as_str(),
        fill.trade_id.as_str(),
        report.cl_ord_id.as_str(),
        report.strategy.as_str(),
        report.side.as_str(),
        fill.last_qty.decimal(),
        fill.last_px.decimal(),
        fill.commission.decimal(),
        fill.commission_asset.as_str(),
        fill.is_maker,
        time(report.transact_time),
        entry.id.as_str()
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn account(
    transaction: &mut Transaction<'_, Postgres>,
    entry: &Entry,
    snapshot: &AccountSnapshot,
) -> Result<(), sqlx::Error> {
    for balance in &snapshot.balances {
        sqlx::query!(
            "INSERT INTO balances (entry, asset, free, locked, mode, taken_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING",
            entry.id.as_str(),
            balance.asset.as_str(),
            balance.free.decimal(),
            balance.locked.decimal(),
            snapshot.mode.as_str(),
            time(snapshot.ts)
        )
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

async fn finding(
    transaction: &mut Transaction<'_, Postgres>,
    entry: &Entry,
    finding: &Finding,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO findings (entry, kind, symbol, order_id, trade_id, note, found_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        entry.id.as_str(),
        word(&finding.kind),
        finding.symbol.as_ref().map(|symbol| symbol.as_str()),
        finding.order_id,
        finding.trade_id,
        finding.text,
        time(finding.ts)
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn event(transaction: &mut Transaction<'_, Postgres>, entry: &Entry) -> Written {
    let event = match serde_json::from_slice::<Event>(entry.json()) {
        Ok(event) => event,
        Err(error) => return Ok(Err(error.to_string())),
    };
    sqlx::query!(
        "INSERT INTO events (entry, event_type, service, actor, reason, detail, happened_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        entry.id.as_str(),
        word(&event.event_type),
        event.service,
        event.actor,
        event.reason,
        event.detail,
        time(event.ts)
    )
    .execute(&mut **transaction)
    .await?;
    Ok(Ok(()))
}

async fn dead_letter(transaction: &mut Transaction<'_, Postgres>, entry: &Entry) -> Written {
    let letter = DeadLetter {
        entry: entry.id.to_string(),
        stream: entry.text("stream"),
        of_entry: entry.text("entry"),
        reason: entry.text("reason"),
        note: entry.text("text"),
        original: entry.text("bytes"),
    };
    letter.write(transaction).await?;
    Ok(Ok(()))
}

/// Keeps an entry that this service itself cannot read.
async fn unreadable(
    transaction: &mut Transaction<'_, Postgres>,
    stream: &str,
    entry: &Entry,
    problem: &str,
) -> Result<(), sqlx::Error> {
    tracing::error!(stream, entry = %entry.id, problem, "an entry cannot be read");
    let letter = DeadLetter {
        entry: format!("{stream}/{}", entry.id),
        stream: stream.to_owned(),
        of_entry: entry.id.to_string(),
        reason: "unreadable".to_owned(),
        note: problem.to_owned(),
        original: json!(entry.text("json")).to_string(),
    };
    letter.write(transaction).await
}

/// A row of `dead_letters`.
struct DeadLetter {
    entry: String,
    stream: String,
    of_entry: String,
    reason: String,
    note: String,
    original: String,
}

impl DeadLetter {
    async fn write(self, transaction: &mut Transaction<'_, Postgres>) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "INSERT INTO dead_letters (entry, stream, of_entry, reason, note, original) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING",
            self.entry,
            self.stream,
            self.of_entry,
            self.reason,
            self.note,
            self.original
        )
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }
}

/// The wire word of an enum that is one word on the wire.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}
