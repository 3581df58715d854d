//! `cdb_execution`: sends approved orders to the exchange at most once, audited first, and books what comes of them.
//!
//! One instance sends, the one that holds the lease. An order's way: verdict, gate, durable audit record, request,
//! answer, report. Whatever it does not know about an order it asks the exchange for; it never sends again.

mod config; // settings
mod gatekeeper; // the gate and the rate budgets, asked
mod keyring; // the exchange key, and how a new one is taken over
mod venue; // every call to the exchange, within its budget
mod book; // the orders that were claimed, and what is recorded and published of them
mod recovery; // what an earlier process left behind
mod sender; // verdicts in, orders out
mod canceler; // cancels
mod tracker; // what became of open and doubtful orders
mod streams; // what the exchange tells by itself
mod local_stop; // stops that need no Redis
mod stop_sweep; // cancels while stopped
mod reconcile; // orders that are not ours
mod market; // prices and rules
mod account; // balances at a moment when every fill is booked
mod leading; // one term as the sending instance
mod observe; // one log line and one metric for each thing that happens

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use cdb_io::audit_log::{self, Entry};
use cdb_io::health::Health;
use cdb_io::supervise::{Shutdown, Tasks};
use cdb_io::{health, healthcheck, no_dumps, supervise, telemetry};
use serde_json::json;

use crate::config::Config;
use crate::leading::Process;
use crate::local_stop::LocalStop;
use crate::observe::Observer;

/// Pause before trying again after Redis went away.
const RETRY: Duration = Duration::from_millis(500);
/// How often ages and the disk are looked at.
const LOOK_AROUND: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if let Some(outcome) = healthcheck::asked(config::DEFAULT_PORT).await {
        return outcome;
    }
    telemetry::start();
    supervise::exit_code("cdb_execution", &serve().await)
}

async fn serve() -> anyhow::Result<()> {
    no_dumps::forbid()?;
    let config = Config::read().context("cdb_execution does not start")?;
    let health = Health::default();
    let observer = Observer::new(&config)?;
    let (audit, writer_end) = audit_log::open_for(&config.service)?;
    let mut started = config.service.started();
    started["key_fingerprint"] = json!(config.key_pair.api_key.fingerprint());
    audit.note(Entry::of("SERVICE_STARTED", started)).await?;
    let mut tasks = Tasks::default();
    let listen = config.service.http_listen;
    let stop = LocalStop::open(config.stop_file.clone());
    let routes = stop.routes(config.stop_token.clone(), observer.clone());
    let served = health::serve(listen, health.clone(), observer.registry(), routes, tasks.shutdown());
    tasks.spawn("http", served);
    tasks.spawn("audit", writer_end.wait());
    let watching = stop.clone().watch(audit.clone(), health.clone(), observer.clone(), tasks.shutdown());
    tasks.spawn("stop", watching);
    tasks.spawn("look around", look_around(observer.clone(), config.service.audit_dir.clone(), tasks.shutdown()));
    let process = Process::new(config, audit, health, observer, stop.clone())?;
    tasks.spawn("cancels", stop.cancel(process.config.clone(), process.client(), tasks.shutdown()));
    tasks.spawn("execution", run(process, tasks.shutdown()));
    tasks.run().await
}

/// Ages and the disk are told whether this instance sends or not.
async fn look_around(observer: Observer, audit_dir: PathBuf, mut shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        observer.look_around(&audit_dir);
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(LOOK_AROUND) => {}
        }
    }
}

/// Leads whenever it can, until the end is asked for. A failure of Redis ends a term, never the process: a new term
/// begins with what the audit trail and the exchange know.
async fn run(process: Process, shutdown: Shutdown) -> anyhow::Result<()> {
    while !shutdown.is_asked() {
        process.health.progress();
        match leading::term(&process, shutdown.clone()).await {
            Ok(()) => process.health.well("redis"),
            Err(error) => {
                process.observer.redis_errors.inc();
                tracing::error!(error = format!("{error:#}"), "no order is sent until the next term begins");
                process.health.trouble("redis", format!("{error:#}"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    process.audit.record(Entry::of("SERVICE_STOPPED", json!({}))).await?;
    Ok(())
}
