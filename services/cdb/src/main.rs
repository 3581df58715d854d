//! `cdb`: the operator's command. Runs a cell, places orders, stops, resumes, shows, verifies.

mod arguments; // what may be typed
mod outcome; // exit codes
mod output; // tables and JSON
mod cell; // where a cell's parts are
mod connect; // Redis and the monitor's views
mod watch; // what becomes of orders
mod orders; // order new, cancel, cancel-all, from flags or files
mod desk; // stop, resume, status, orders, positions, breaker
mod replay; // decisions made again
mod reconcile; // exchange, audit trail and ledger side by side
mod audit; // audit verify
mod ledger; // ledger rebuild
mod keys; // secrets: status and rotation
mod up; // running a cell
mod demo; // the sample orders

use std::process::ExitCode;

use cdb_io::operator::BreakerMove;
use clap::Parser as _;

use crate::arguments::{Arguments, AuditCommand, BreakerCommand, Command, KeysCommand, LedgerCommand, OrderCommand};
use crate::outcome::Outcome;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Up(options) => up::run(options).await,
        Command::Order(OrderCommand::New(options)) => orders::new(&arguments.at, options).await,
        Command::Order(OrderCommand::Cancel(options)) => orders::cancel(&arguments.at, options).await,
        Command::Order(OrderCommand::CancelAll(options)) => orders::cancel_all(&arguments.at, options).await,
        Command::Stop(options) => desk::stop(&arguments.at, options).await,
        Command::Resume(options) => desk::resume(&arguments.at, options).await,
        Command::Status => desk::status(&arguments.at).await,
        Command::Orders(options) => desk::orders(&arguments.at, options).await,
        Command::Positions => desk::positions(&arguments.at).await,
        Command::Breaker(BreakerCommand::Status) => desk::breaker(&arguments.at).await,
        Command::Breaker(BreakerCommand::Trip(options)) => {
            desk::move_breaker(&arguments.at, BreakerMove::Trip, options).await
        }
        Command::Breaker(BreakerCommand::Reset(options)) => {
            desk::move_breaker(&arguments.at, BreakerMove::Reset, options).await
        }
        Command::Replay(options) => replay::run(&arguments.at, options).await,
        Command::Reconcile => reconcile::run(&arguments.at).await,
        Command::Audit(AuditCommand::Verify(options)) => audit::verify::run(&arguments.at, options),
        Command::Ledger(LedgerCommand::Rebuild(options)) => ledger::rebuild(&arguments.at, options).await,
        Command::Keys(KeysCommand::Status) => keys::status::run(&arguments.at).await,
        Command::Keys(KeysCommand::Rotate(options)) => keys::exchange::rotate(&arguments.at, options).await,
        Command::Keys(KeysCommand::CheckRevoked(source)) => keys::exchange::check_revoked(&arguments.at, source).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Outcome { code, message }) => {
            if !message.is_empty() {
                eprintln!("cdb: {message}");
            }
            ExitCode::from(code)
        }
    }
}
