//! What may be typed.

use std::path::PathBuf;

use cdb_core::time::UtcDay;
use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something failed
  2  the command line or an input file is wrong
  3  a setting, a file or a tool is missing or wrong
  4  a part of the cell cannot be reached
  5  refused: by a limit, a stop, the breaker or the exchange
  6  verification found something
  7  a check found problems
  8  the audit trail ends inside a line: a crash, or a writer at work
  9  the audit trail is shorter than a checkpoint says that it was
 10  there is no audit trail, or it cannot be read";

/// Claire de Binare: the trading safety pipeline's operator command.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Which cell, and how to answer.
    #[command(flatten)]
    pub at: At,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cell, and how to answer.
#[derive(Args, Clone)]
pub struct At {
    /// The cell's file, as `cdb up` writes it.
    #[arg(long, global = true, env = "CDB_CELL", default_value = ".cdb/cell.json")]
    pub cell: PathBuf,
    /// Answer with JSON on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// Who you are, for the record.
    #[arg(long, global = true, env = "USER", default_value = "operator")]
    pub actor: String,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run a whole cell: Redis, PostgreSQL, the stand-in exchange, the three services.
    Up(UpOptions),
    /// Place or cancel orders.
    #[command(subcommand)]
    Order(OrderCommand),
    /// Stop all trading at once.
    Stop(StopOptions),
    /// End a stop.
    Resume(ResumeOptions),
    /// Show whether the desk may trade, and why not.
    Status,
    /// List orders, newest first.
    Orders(OrdersOptions),
    /// List positions with their results.
    Positions,
    /// Compare the last day's fills at the exchange with audit trail and ledger; exit code 7 when they differ.
    Reconcile,
    /// Make every decision again from what was recorded of it; exit code 6 when one comes out otherwise.
    Replay(ReplayOptions),
    /// The circuit breaker.
    #[command(subcommand)]
    Breaker(BreakerCommand),
    /// The audit trail.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The ledger.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// The secrets: what is in use, how old it is, and its exchange for new ones while orders are under way.
    #[command(subcommand)]
    Keys(KeysCommand),
}

/// Ledger commands.
#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Write the whole ledger anew from streams and audit trail. Rows that no source has any more are kept.
    Rebuild(RebuildOptions),
}

/// Options of `cdb ledger rebuild`.
#[derive(Args, Clone)]
#[command(after_help = "Example:\n  cdb ledger rebuild --reason \"database restored from an old copy\"")]
pub struct RebuildOptions {
    /// Why.
    #[arg(long)]
    pub reason: String,
}

/// Options of `cdb replay`.
#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  cdb replay\n  cdb replay --day 2026-11-25 --json")]
pub struct ReplayOptions {
    /// Only decisions of this UTC day, e.g. 2026-11-25.
    #[arg(long, value_parser = day)]
    pub day: Option<UtcDay>,
}

fn day(text: &str) -> Result<UtcDay, String> {
    UtcDay::parse(text).ok_or_else(|| "is no day like 2026-11-25".to_owned())
}

/// Commands about secrets.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// Show the exchange key: fingerprint, age, days left to 90, last use, rights.
    Status,
    /// Take a new secret into use: proven, written, taken up by the running services, on record.
    Rotate(RotateOptions),
    /// Ask the exchange whether it refuses a key pair that was revoked; exit code 7 when it still takes it.
    CheckRevoked(PairSource),
}

/// Where a key pair comes from: the terminal, without echo, when nothing else is said.
#[derive(Args, Clone, Default)]
pub struct PairSource {
    /// Read it from standard input: the key on one line, the secret on the next.
    #[arg(long, conflicts_with_all = ["key_file", "secret_file"])]
    pub stdin: bool,
    /// File with the new key.
    #[arg(long, requires = "secret_file")]
    pub key_file: Option<PathBuf>,
    /// File with its secret.
    #[arg(long, requires = "key_file")]
    pub secret_file: Option<PathBuf>,
    /// Make up a pair and have the stand-in exchange take it; paper cells only.
    #[arg(long, conflicts_with_all = ["stdin", "key_file", "secret_file"])]
    pub paper: bool,
    /// The exchange; the cell's own when absent.
    #[arg(long, env = "MEXC_BASE_URL")]
    pub exchange_url: Option<String>,
}

/// Options of `cdb keys rotate`.
#[derive(Args, Clone)]
#[command(
    after_help = "Examples:\n  cdb keys rotate                             asks for the new pair without echo\n  cdb keys rotate --stdin --check-old-revoked < pair\n  cdb keys rotate --paper                     the same with a made-up pair, in a paper cell"
)]
pub struct RotateOptions {
    /// Where the new pair comes from.
    #[command(flatten)]
    pub source: PairSource,
    /// Directory of the secret files; the cell's own when absent.
    #[arg(long)]
    pub secrets: Option<PathBuf>,
    /// Write into the files as they are, for containers whose mounts are single files.
    #[arg(long)]
    pub in_place: bool,
    /// Take a key although the exchange says that it may withdraw; cdb_execution needs MEXC_KEY_MAY_WITHDRAW=true.
    #[arg(long)]
    pub allow_withdraw: bool,
    /// Longest wait until the running service uses the new secret, s.
    #[arg(long, default_value_t = 45)]
    pub wait_sec: u64,
    /// The services do not run: replace the files and wait for nobody.
    #[arg(long)]
    pub offline: bool,
    /// Then wait until the exchange refuses the old key.
    #[arg(long, conflicts_with = "offline")]
    pub check_old_revoked: bool,
    /// For how long, s.
    #[arg(long, default_value_t = 900, requires = "check_old_revoked")]
    pub revoke_wait_sec: u64,
}

/// Breaker commands.
#[derive(Subcommand)]
pub enum BreakerCommand {
    /// Show its position.
    Status,
    /// Open it: only exits pass until it is reset.
    Trip(BreakerOptions),
    /// Close it; losses are measured anew from here.
    Reset(BreakerOptions),
}

/// Options of `cdb breaker trip` and `reset`.
#[derive(Args, Clone)]
#[command(after_help = "Example:\n  cdb breaker reset --reason \"loss understood, limits lowered\"")]
pub struct BreakerOptions {
    /// Why.
    #[arg(long)]
    pub reason: String,
}

/// Options of `cdb up`.
#[derive(Args, Clone)]
#[command(
    after_help = "Examples:\n  cdb up                      run until Ctrl-C\n  cdb up --demo --once        run the sample orders and end\n  cdb up --dir /tmp/a --ports 7800 --env-file .env.example"
)]
pub struct UpOptions {
    /// The cell's directory.
    #[arg(long, default_value = ".cdb")]
    pub dir: PathBuf,
    /// First of ten ports.
    #[arg(long, default_value_t = 7700)]
    pub ports: u16,
    /// The console's port; 8080 on the default ports, otherwise the eighth of the ten.
    #[arg(long)]
    pub console_port: Option<u16>,
    /// Limits and other settings, one NAME=value a line.
    #[arg(long)]
    pub env_file: Option<PathBuf>,
    /// Run the sample orders in a fresh cell.
    #[arg(long)]
    pub demo: bool,
    /// The sample orders.
    #[arg(long, default_value = "examples/orders.jsonl")]
    pub orders: PathBuf,
    /// Recorded trades for the stand-in exchange; may be given several times.
    #[arg(long)]
    pub replay: Vec<PathBuf>,
    /// Opening balance at the stand-in exchange, e.g. USDT=10000; may be given several times.
    #[arg(long = "balance", default_values_t = [String::from("USDT=10000")])]
    pub balances: Vec<String>,
    /// Seed of the stand-in's random faults.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The stand-in counts requests but enforces no rate limit (for load tests).
    #[arg(long)]
    pub unlimited_exchange: bool,
    /// End after the demo.
    #[arg(long, conflicts_with = "serve")]
    pub once: bool,
    /// Stay after the demo.
    #[arg(long)]
    pub serve: bool,
}

/// Order commands.
#[derive(Subcommand)]
pub enum OrderCommand {
    /// Place orders from flags, a file of JSON lines, or standard input, and wait for what becomes of them.
    New(NewOptions),
    /// Cancel one order.
    Cancel(CancelOptions),
    /// Cancel all open orders.
    CancelAll(CancelAllOptions),
}

/// Options of `cdb order new`.
#[derive(Args, Clone)]
#[command(
    after_help = "Examples:\n  cdb order new --symbol BTCUSDT --side BUY --qty 0.002 --price 39000\n  cdb order new --symbol ETHUSDT --side BUY --market --quote-qty 50\n  cdb order new --file orders.jsonl\n  cat orders.jsonl | cdb order new --file -"
)]
pub struct NewOptions {
    /// A file with one order a line, or - for standard input. A line without `ts` gets the present time.
    #[arg(long, conflicts_with_all = ["symbol", "side", "qty", "quote_qty", "price", "market"])]
    pub file: Option<PathBuf>,
    /// What to trade.
    #[arg(long, required_unless_present = "file")]
    pub symbol: Option<String>,
    /// BUY or SELL.
    #[arg(long, required_unless_present = "file")]
    pub side: Option<String>,
    /// Base quantity.
    #[arg(long)]
    pub qty: Option<String>,
    /// Quote amount, for a market BUY.
    #[arg(long)]
    pub quote_qty: Option<String>,
    /// Limit price.
    #[arg(long)]
    pub price: Option<String>,
    /// A market order.
    #[arg(long, conflicts_with = "price")]
    pub market: bool,
    /// GTC, IOC or FOK.
    #[arg(long, default_value = "GTC")]
    pub tif: String,
    /// Never take liquidity (GTC only).
    #[arg(long)]
    pub post_only: bool,
    /// Only reduce a held position.
    #[arg(long)]
    pub reduce_only: bool,
    /// Who sends it.
    #[arg(long, default_value = "manual")]
    pub strategy: String,
    /// Its id; made up when absent.
    #[arg(long)]
    pub cl_ord_id: Option<String>,
}

/// Options of `cdb order cancel`.
#[derive(Args, Clone)]
#[command(after_help = "Example:\n  cdb order cancel my-order-7")]
pub struct CancelOptions {
    /// The order to cancel.
    pub orig_cl_ord_id: String,
}

/// Options of `cdb order cancel-all`.
#[derive(Args, Clone)]
#[command(after_help = "Example:\n  cdb order cancel-all --symbol BTCUSDT")]
pub struct CancelAllOptions {
    /// Only this symbol.
    #[arg(long)]
    pub symbol: Option<String>,
}

/// Options of `cdb stop`.
#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  cdb stop \"market anomaly\"\n  cdb stop --symbol BTCUSDT \"delisting\"")]
pub struct StopOptions {
    /// Why.
    pub reason: String,
    /// What is stopped.
    #[command(flatten)]
    pub scope: StopScope,
}

/// What a stop covers: everything, or one of these.
#[derive(Args, Clone, Default)]
pub struct StopScope {
    /// Only this symbol.
    #[arg(long, conflicts_with = "strategy")]
    pub symbol: Option<String>,
    /// Only this strategy.
    #[arg(long)]
    pub strategy: Option<String>,
}

/// Options of `cdb resume`.
#[derive(Args, Clone)]
#[command(after_help = "Example:\n  cdb resume --reason \"checked, false alarm\"")]
pub struct ResumeOptions {
    /// Why trading may go on.
    #[arg(long)]
    pub reason: String,
    /// Which stop ends.
    #[command(flatten)]
    pub scope: StopScope,
}

/// Options of `cdb orders`.
#[derive(Args, Clone)]
pub struct OrdersOptions {
    /// How many.
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
}

/// Audit commands.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Verify the audit trail, offline: 0 clean, 6 changed afterwards, 7 breaks a promise, 8 torn tail, 9 behind its anchors, 10 cannot tell.
    Verify(VerifyOptions),
}

/// Options of `cdb audit verify`.
#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  cdb audit verify\n  cdb audit verify /var/log/cdb/audit")]
pub struct VerifyOptions {
    /// The trail's directory, or one chain's; the cell's trail when absent.
    pub dir: Option<PathBuf>,
    /// Signed checkpoints, one note after the other: the trail must hold what they were signed for.
    #[arg(long, requires = "public_key")]
    pub checkpoints: Option<PathBuf>,
    /// The public key of whoever signs them.
    #[arg(long, requires = "checkpoints")]
    pub public_key: Option<PathBuf>,
}
