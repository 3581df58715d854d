//! `cdb_monitor`: keeps the ledger and watches the desk.
//!
//! The ledger is a projection of the streams: every entry is written once, whatever is delivered twice. Sending an
//! order never waits for it.

mod config; // settings
mod ledger; // the streams' entries as rows
mod projection; // the loop from the streams to the ledger
mod views; // what the CLI and the console ask for
mod observe; // metrics

use std::process::ExitCode;

use anyhow::Context as _;
use cdb_io::bus::Bus;
use cdb_io::health::Health;
use cdb_io::supervise::Tasks;
use cdb_io::{health, supervise, telemetry};

use crate::config::Config;
use crate::ledger::Ledger;
use crate::observe::Observer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::start();
    supervise::exit_code("cdb_monitor", &serve().await)
}

async fn serve() -> anyhow::Result<()> {
    let config = Config::read().context("cdb_monitor does not start")?;
    let health = Health::default();
    let observer = Observer::new(&config)?;
    let ledger = Ledger::open(&config).await?;
    let bus = Bus::connect(&config.service.redis).await?;
    let mut tasks = Tasks::default();
    let views = views::routes(ledger.clone(), bus.clone(), config.service.mode);
    let listen = config.service.http_listen;
    tasks.spawn("http", health::serve(listen, health.clone(), observer.registry(), views, tasks.shutdown()));
    for stream in projection::STREAMS {
        let task =
            projection::run(stream, config.clone(), ledger.clone(), health.clone(), observer.clone(), tasks.shutdown());
        tasks.spawn("projection", task);
    }
    tasks.spawn("watch", projection::watch(config, ledger, bus, tasks.shutdown()));
    tasks.run().await
}
