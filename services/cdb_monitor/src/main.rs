//! `cdb_monitor`: keeps the ledger and watches the desk.
//!
//! The ledger is a projection of the streams: every entry is written once, whatever is delivered twice. Sending an
//! order never waits for it.

mod config; // settings
mod ledger; // the streams' entries as rows
mod projection; // the loop from the streams to the ledger
mod desk_watch; // the desk as this service sees it by itself
mod books; // positions out of fills
mod watching; // what those who watch ask of the ledger
mod views; // what the CLI asks for
mod console; // the operator's page
mod second_opinion; // every verdict, decided again
mod audit; // the audit chains verified, signed for, anchored
mod observe; // metrics

use std::process::ExitCode;

use anyhow::Context as _;
use cdb_io::bus::Bus;
use cdb_io::health::Health;
use cdb_io::supervise::Tasks;
use cdb_io::{health, healthcheck, no_dumps, supervise, telemetry};

use crate::config::Config;
use crate::ledger::{Ledger, Rebuilds};
use crate::observe::Observer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if let Some(outcome) = healthcheck::asked(config::DEFAULT_PORT).await {
        return outcome;
    }
    telemetry::start();
    supervise::exit_code("cdb_monitor", &serve().await)
}

async fn serve() -> anyhow::Result<()> {
    no_dumps::forbid()?;
    let config = Config::read().context("cdb_monitor does not start")?;
    let health = Health::default();
    let observer = Observer::new(&config)?;
    let ledger = Ledger::of(&config);
    let bus = Bus::lazy(&config.service.redis)?;
    let mut tasks = Tasks::default();
    let rebuilds = Rebuilds::default();
    let views = views::routes(ledger.clone(), bus.clone(), config.service.mode, rebuilds.clone());
    let listen = config.service.http_listen;
    tasks.spawn("http", health::serve(listen, health.clone(), observer.registry(), views, tasks.shutdown()));
    for stream in projection::STREAMS {
        let task =
            projection::run(stream, config.clone(), ledger.clone(), health.clone(), observer.clone(), tasks.shutdown());
        tasks.spawn("projection", task);
    }
    let watching = desk_watch::run(config.clone(), health.clone(), observer.clone(), tasks.shutdown());
    tasks.spawn("desk watch", watching);
    console::start(&config, ledger.clone(), bus.clone(), &mut tasks)?;
    let audit_dir = config.service.audit_dir.clone();
    tasks.spawn("rebuilds", ledger::serve_rebuilds(ledger.clone(), bus.clone(), audit_dir, rebuilds, tasks.shutdown()));
    let (of_audit, meters) = (config.clone(), observer.audit.clone());
    let auditing = audit::run(of_audit, ledger.clone(), bus.clone(), health.clone(), meters, tasks.shutdown());
    tasks.spawn("audit", auditing);
    let mode = config.service.mode.as_str();
    tasks.spawn("equity", watching::sample_equity(ledger.clone(), bus.clone(), mode, tasks.shutdown()));
    let second_opinion =
        second_opinion::run(config.clone(), ledger.clone(), bus.clone(), observer.clone(), tasks.shutdown());
    tasks.spawn("second opinion", second_opinion);
    tasks.spawn("watch", projection::watch(config, ledger, bus, health, observer, tasks.shutdown()));
    tasks.run().await
}
