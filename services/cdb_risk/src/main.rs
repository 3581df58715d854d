//! `cdb_risk`: approves or refuses every order against limits and signs its verdict.
//!
//! One instance decides, the one that holds the lease. Its loop: read, decide, commit (one script call that checks
//! the lease, publishes and acknowledges), record. Where it does not know its own history it refuses everything.

mod config; // settings
mod data_set; // is this the Redis data set we know?
mod stop_memory; // stops that Redis cannot make it forget
mod feeds; // orders, reports and prices as they come in
mod history; // rebuilding the desk after a start
mod publish; // verdicts out, exactly one for each entry
mod trail; // what is put on record
mod leading; // the loop of the deciding instance
mod observe; // one log line and one metric for each thing that happens

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use cdb_core::event::{Event, EventType};
use cdb_io::audit_log::{AuditLog, Entry};
use cdb_io::bus::Bus;
use cdb_io::health::Health;
use cdb_io::supervise::{Shutdown, Tasks};
use cdb_io::{audit_log, clock, events, health, healthcheck, no_dumps, supervise, telemetry};
use serde_json::json;

use crate::config::Config;
use crate::observe::Observer;

/// Pause before trying again after Redis went away.
const RETRY: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if let Some(outcome) = healthcheck::asked(config::DEFAULT_PORT).await {
        return outcome;
    }
    telemetry::start();
    supervise::exit_code("cdb_risk", &serve().await)
}

async fn serve() -> anyhow::Result<()> {
    no_dumps::forbid()?;
    let config = Config::read().context("cdb_risk does not start")?;
    config.announce();
    let health = Health::default();
    let observer = Observer::new(&config)?;
    let (audit, writer_end) = audit_log::open_for(&config.service)?;
    audit.note(Entry::of("SERVICE_STARTED", config.service.started())).await?;
    audit.note(Entry::of("CONFIG_LOADED", config.in_force())).await?;
    let mut tasks = Tasks::default();
    tasks.spawn("audit", writer_end.wait());
    let listen = config.service.http_listen;
    let served = health::serve(listen, health.clone(), observer.registry(), axum::Router::new(), tasks.shutdown());
    tasks.spawn("http", served);
    tasks.spawn("risk", run(config, audit, health, observer, tasks.shutdown()));
    tasks.run().await
}

/// Leads whenever it can, until the end is asked for. A failure of Redis ends a term, never the process: a new term
/// begins with a rebuilt desk.
async fn run(
    config: Config,
    audit: AuditLog,
    health: Health,
    mut observer: Observer,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut has_started = false;
    while !shutdown.is_asked() {
        health.progress();
        let term = async {
            let bus = Bus::connect(&config.service.redis).await?;
            if !has_started {
                announce_start(&bus, &config).await?;
                has_started = true;
            }
            leading::term(&bus, &config, &audit, &health, &mut observer, shutdown.clone()).await
        };
        match term.await {
            Ok(()) => health.well("redis"),
            Err(error) => {
                observer.redis_error();
                tracing::error!(error = format!("{error:#}"), "no verdicts until Redis answers again");
                health.trouble("redis", format!("{error:#}"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    audit.record(Entry::of("SERVICE_STOPPED", json!({}))).await?;
    Ok(())
}

async fn announce_start(bus: &Bus, config: &Config) -> anyhow::Result<()> {
    let now = clock::now();
    let name = config.service.service;
    let mode = config.service.mode.as_str();
    let started = json!({"build": cdb_io::config::BUILD, "mode": mode, "instance": config.service.instance});
    let started = Event::by_service(EventType::ServiceStarted, name, "started", started, now);
    let loaded = Event::by_service(EventType::ConfigLoaded, name, "limits in force", config.in_force(), now);
    for event in [started, loaded] {
        events::publish(&mut bus.commands(), &event).await?;
    }
    Ok(())
}
