//! The loop from the streams to the ledger: read, write, acknowledge. An entry that was written and not acknowledged
//! is written again without effect.

use std::time::Duration;

use cdb_io::bus::{self, Ask, Bus, Entry, keys};
use cdb_io::clock;
use cdb_io::health::Health;
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
    let service = &config.service;
    bus::ensure_group(&mut connection, stream, service.service).await?;
    let mut pending_after = Some("0".to_owned());
    loop {
        let ask = pending_after.as_deref().map_or(Ask::New, Ask::OwnPending);
        let entries = bus::read_group(&mut connection, stream, service.service, &service.instance, ask, BATCH).await?;
        if pending_after.is_some() {
            pending_after = entries.last().map(|last| last.id.to_string());
        }
        if !entries.is_empty() {
            ledger.write(stream, &entries).await?;
            acknowledge(&bus, stream, service.service, &entries).await?;
            observer.written(stream, entries.len());
        }
        health.well(stream);
        health.progress();
        if stream == keys::EVENTS {
            beat(&bus, service.service).await?;
        }
    }
}

async fn acknowledge(bus: &Bus, stream: &str, group: &str, entries: &[Entry]) -> anyhow::Result<()> {
    let mut command = redis::cmd("XACK");
    command.arg(stream).arg(group);
    for entry in entries {
        command.arg(entry.id.as_str());
    }
    let () = command.query_async(&mut bus.commands()).await?;
    Ok(())
}

async fn beat(bus: &Bus, service: &str) -> anyhow::Result<()> {
    let beat = serde_json::json!({"build": cdb_io::config::BUILD, "ts": clock::now()}).to_string();
    let key = format!("{}{service}", keys::HEARTBEAT);
    let () = redis::cmd("SET").arg(key).arg(beat).arg("PX").arg(5_000).query_async(&mut bus.commands()).await?;
    Ok(())
}
