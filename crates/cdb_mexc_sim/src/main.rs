//! `mexc-sim`: the stand-in exchange as a process.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use cdb_mexc_sim::server::{Server, Setup};
use clap::Parser;
use rust_decimal::Decimal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

/// A stand-in MEXC spot exchange for paper trading, tests and drills.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  mexc-sim --listen 127.0.0.1:8090 --admin 127.0.0.1:8091 --api-key k --api-secret s \\\n    --balance USDT=10000 --replay examples/data/trades-BTCUSDT-2021-01-08.csv"
)]
struct Arguments {
    /// Where the exchange listens (port 0 = any free one).
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where the admin interface listens.
    #[arg(long, default_value = "127.0.0.1:8091")]
    admin: SocketAddr,
    /// API key that opens the account.
    #[arg(long, required_unless_present = "api_key_file")]
    api_key: Option<String>,
    /// File with the API key.
    #[arg(long, conflicts_with = "api_key")]
    api_key_file: Option<PathBuf>,
    /// API secret.
    #[arg(long, required_unless_present = "api_secret_file")]
    api_secret: Option<String>,
    /// File with the API secret.
    #[arg(long, conflicts_with = "api_secret")]
    api_secret_file: Option<PathBuf>,
    /// Opening balance, e.g. USDT=10000; may be given several times.
    #[arg(long = "balance", value_parser = balance)]
    balances: Vec<(String, Decimal)>,
    /// File of recorded trades to replay; may be given several times.
    #[arg(long)]
    replay: Vec<PathBuf>,
    /// Seed of random faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File that keeps balances, orders and trades over a restart.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Ask the stand-in at this address whether it answers, and end.
    #[arg(long, exclusive = true, value_name = "ADDRESS")]
    healthcheck: Option<SocketAddr>,
    /// Count requests but enforce no rate limit (for load tests of other parts).
    #[arg(long)]
    unlimited: bool,
}

fn balance(text: &str) -> Result<(String, Decimal), String> {
    let (asset, amount) = text.split_once('=').ok_or("must look like USDT=10000")?;
    Ok((asset.to_owned(), amount.parse().map_err(|error| format!("{error}"))?))
}

fn given_or_read(given: Option<String>, file: Option<PathBuf>) -> anyhow::Result<String> {
    match (given, file) {
        (Some(text), _) => Ok(text),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        (None, None) => anyhow::bail!("neither a value nor a file was given"),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(address) = arguments.healthcheck {
        let answer = tokio::time::timeout(std::time::Duration::from_secs(2), ping(address));
        return answer.await.context("no answer within 2 s")?;
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let server = Server::open(Setup {
        listen: arguments.listen,
        admin: arguments.admin,
        api_key: given_or_read(arguments.api_key, arguments.api_key_file)?,
        api_secret: given_or_read(arguments.api_secret, arguments.api_secret_file)?,
        balances: arguments.balances,
        replay: arguments.replay,
        seed: arguments.seed,
        keep_in: arguments.state,
        is_unlimited: arguments.unlimited,
    })
    .await?;
    // Read by whoever started it with port 0.
    println!("{}", serde_json::json!({"listen": server.address, "admin": server.admin_address}));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        ended = server.serve() => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn ping(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /api/v3/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200 "), "the stand-in does not answer as it should");
    Ok(())
}
