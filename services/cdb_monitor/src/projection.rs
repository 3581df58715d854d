//! The loop from the streams to the ledger: read on from the ledger's own cursor, write rows and cursor in one
//! transaction. The monitor needs no right to change any stream.

use std::time::Duration;

use cdb_io::bus::{self, Bus, keys};
use cdb_io::health::Health;
use cdb_io::heartbeat;
use cdb_io::supervise::Shutdown;

use crate::config::Config;
use crate::ledger::Ledger;
use crate::observe::Observer;

/// The streams that make the ledger.
pub const STREAMS: [&str; 4] = [keys::VERDICTS, keys::EXECUTIONS, keys::EVENTS, keys::DEAD];
/// Entries written in one transaction.
const BATCH: usize = 500;
/// Pause before trying again after Redis or the database went away.
const RETRY: Duration = Duration::from_millis(1_000);
/// How long a heartbeat lasts, ms.
const HEARTBEAT_MS: u64 = 5_000;

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
    let mut cursor = ledger.cursor(stream).await?;
    loop {
        let entries = bus::read_after(&mut connection, stream, &cursor, BATCH).await?;
        if let Some(last) = entries.last() {
            ledger.write(stream, &entries).await?;
            cursor = last.id.to_string();
            observer.written(stream, entries.len());
        }
        health.well(stream);
        health.progress();
        if stream == keys::EVENTS {
            heartbeat::beat(&mut bus.commands(), config.service.service, None, HEARTBEAT_MS).await?;
        }
    }
}
