//! The loop from the streams to the ledger: read on from the ledger's own cursor, write rows and cursor in one
//! transaction. The monitor needs no right to change any stream.

use std::time::{Duration, Instant};

use cdb_core::breaker::Cause;
use cdb_io::bus::{self, Bus, keys};
use cdb_io::health::Health;
use cdb_io::supervise::Shutdown;
use cdb_io::{conditions, heartbeat};

use crate::config::Config;
use crate::ledger::Ledger;
use crate::observe::Observer;

/// The streams that make the ledger.
pub const STREAMS: [&str; 4] = [keys::VERDICTS, keys::EXECUTIONS, keys::EVENTS, keys::DEAD];
/// Entries written in one transaction.
const BATCH: usize = 500;
/// Pause before trying again after Redis or the database went away.
const RETRY: Duration = Duration::from_millis(1_000);
/// Longest wait for the database to show that it is there.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long an absence is reported after it was last seen, ms.
const AWAY_REPORT_MS: i64 = 10_000;
/// How long a heartbeat lasts, ms.
const HEARTBEAT_MS: u64 = 5_000;

/// Watches the database, and reports it to the breaker once it has been away for too long.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn watch(
    config: Config,
    ledger: Ledger,
    bus: Bus,
    health: Health,
    observer: Observer,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut seen_at = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
        let answer = tokio::time::timeout(ANSWER_MAX, ledger.ping()).await;
        match &answer {
            Ok(Ok(())) => health.well("postgres"),
            Ok(Err(error)) => {
                observer.postgres_errors.inc();
                health.trouble("postgres", error.to_string());
            }
            Err(_) => {
                observer.postgres_errors.inc();
                health.trouble("postgres", format!("does not answer within {ANSWER_MAX:?}"));
            }
        }
        match answer {
            Ok(Ok(())) => seen_at = Instant::now(),
            Ok(Err(_)) | Err(_) if seen_at.elapsed() > config.ledger_away_max => {
                let text = format!("the ledger does not answer for {} s", seen_at.elapsed().as_secs());
                tracing::error!(text, "the circuit breaker is to open");
                let (mut redis, service) = (bus.commands(), config.service.service);
                let reported = conditions::report(&mut redis, service, Cause::LedgerAway, &text, AWAY_REPORT_MS).await;
                if let Err(error) = reported {
                    tracing::error!(%error, "that could not be reported");
                }
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Keeps one stream in the ledger until the end is asked for.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn run(
    stream: &'static str,
    config: Config,
    ledger: Ledger,
    health: Health,
    observer: Observer,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    health.progress_of(stream);
    loop {
        let reading = read(stream, &config, &ledger, &health, &observer);
        let error = tokio::select! {
            () = shutdown.asked() => return Ok(()),
            Err(error) = reading => error,
        };
        observer.trouble(&error);
        tracing::error!(stream, error = format!("{error:#}"), "the ledger waits");
        health.trouble(stream, format!("{error:#}"));
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn read(
    stream: &'static str,
    config: &Config,
    ledger: &Ledger,
    health: &Health,
    observer: &Observer,
) -> anyhow::Result<()> {
    let bus = Bus::connect(&config.service.redis).await?;
    let mut connection = bus.blocking().await?;
    ledger.migrate().await?;
    let mut cursor = ledger.cursor(stream).await?;
    loop {
        let entries = bus::read_after(&mut connection, stream, &cursor, BATCH).await?;
        if let Some(last) = entries.last() {
            ledger.write(stream, &entries).await?;
            cursor = last.id.to_string();
            observer.written(stream, entries.len());
        }
        health.well(stream);
        health.progress_of(stream);
        if stream == keys::EVENTS {
            heartbeat::beat(&mut bus.commands(), config.service.service, None, &serde_json::Value::Null, HEARTBEAT_MS)
                .await?;
        }
    }
}
