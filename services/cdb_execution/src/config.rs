//! Settings: what every service needs, the exchange, the rate budgets, the keys.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cdb_core::ids::Symbol;
use cdb_core::key_change::KeyPair;
use cdb_core::limits::{CircuitOpenAction, Limits};
use cdb_core::report::Mode;
use cdb_core::secret::Secret;
use cdb_core::verdict::VerdictKey;
use cdb_io::config::{Environment, ServiceConfig};
use cdb_mexc::endpoint::Budgets;

/// Where the exchange is when nothing else is set.
const LIVE_BASE: &str = "https://api.mexc.com";
/// Where its streams are when nothing else is set.
const LIVE_STREAM: &str = "wss://wbs-api.mexc.com/ws";

/// Four times what it takes to prove that the exchange does not have an order.
const DOUBT_MAX_SEC: u64 = 60;

/// Where metrics and health are, unless `HTTP_LISTEN` says otherwise.
pub const DEFAULT_PORT: u16 = 8102;

/// Everything that is set.
#[derive(Clone)]
pub struct Config {
    /// What every service needs.
    pub service: ServiceConfig,
    /// Checks verdicts.
    pub verdict_key: VerdictKey,
    /// Signs requests, from the start on.
    pub key_pair: KeyPair,
    /// Where the pair is watched for changes, when it is in files.
    pub key_files: Option<(PathBuf, PathBuf)>,
    /// A key is used although the exchange says that it may withdraw.
    pub may_withdraw: bool,
    /// Where the exchange is.
    pub exchange_base: String,
    /// Where its streams are.
    pub stream_base: String,
    /// How long the exchange may accept a request, ms.
    pub recv_window_ms: i64,
    /// Rate budgets.
    pub budgets: Budgets,
    /// Symbols whose prices are published.
    pub symbols: BTreeSet<Symbol>,
    /// What becomes of open orders while everything is stopped.
    pub stop_action: StopAction,
    /// Its existence stops this process; written by the stops that need no Redis.
    pub stop_file: PathBuf,
    /// Opens `POST /stop`; without it nobody can use that.
    pub stop_token: Option<Secret>,
    /// A doubt that lasts longer opens the breaker.
    pub doubt_max: Duration,
    /// What becomes of open buys while the breaker is open.
    pub circuit_open_action: CircuitOpenAction,
}

/// `EMERGENCY_STOP_ACTION`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAction {
    /// They are cancelled.
    Cancel,
    /// They stay.
    Halt,
}

impl FromStr for StopAction {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cancel" => Ok(Self::Cancel),
            "halt" => Ok(Self::Halt),
            _ => Err("must be cancel or halt"),
        }
    }
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Every fault, one a line.
    pub fn read() -> anyhow::Result<Self> {
        let mut environment = Environment::of_process();
        let service = ServiceConfig::read(&mut environment, "cdb_execution", DEFAULT_PORT);
        let verdict_key = environment.secret("VERDICT_KEY", service.mode);
        let key_pair = environment.secret_pair("MEXC_API_KEY", "MEXC_API_SECRET", service.mode);
        let may_withdraw = environment.value("MEXC_KEY_MAY_WITHDRAW", false);
        let exchange_base = exchange_base(&mut environment, service.mode);
        let stream_base = stream_base(&mut environment, service.mode, &exchange_base);
        let budgets = budgets(&mut environment, service.mode);
        let stop_action = environment.value("EMERGENCY_STOP_ACTION", StopAction::Cancel);
        let stop_file = environment.value("CDB_STOP_FILE", service.audit_dir.join("cdb_execution.stop"));
        let stop_token = environment.secret_if_present("STOP_TOKEN", service.mode);
        let doubt_max = Duration::from_secs(environment.value("DOUBT_MAX_SEC", DOUBT_MAX_SEC));
        // The same reading as in cdb_risk, so that both refuse the same mistakes.
        let limits = Limits::from_variables(environment.variables());
        match (limits, verdict_key, key_pair) {
            (Ok((limits, _)), Some(verdict_key), Some((api_key, api_secret, key_files))) => {
                environment.finish()?;
                Ok(Self {
                    service,
                    verdict_key: VerdictKey::new(&verdict_key),
                    key_pair: KeyPair { api_key, api_secret },
                    key_files,
                    may_withdraw,
                    exchange_base,
                    stream_base,
                    recv_window_ms: limits.recv_window_ms,
                    budgets,
                    symbols: limits.allowed_symbols,
                    stop_action,
                    stop_file,
                    stop_token,
                    doubt_max,
                    circuit_open_action: limits.circuit_open_action,
                })
            }
            (limits, ..) => {
                environment.add_faults(limits.err().unwrap_or_default());
                environment.finish()?;
                anyhow::bail!("the configuration is incomplete")
            }
        }
    }
}

/// Paper mode never reaches the real exchange, live mode never anything else.
fn exchange_base(environment: &mut Environment, mode: Mode) -> String {
    let base = environment.text("MEXC_BASE_URL").map(str::to_owned);
    match (mode, base) {
        (Mode::Paper, Some(base)) if !base.contains("mexc.com") => base,
        (Mode::Paper, _) => {
            environment.fault("MEXC_BASE_URL", "must name the stand-in exchange in paper mode");
            String::new()
        }
        (Mode::Validate | Mode::Live, None) => LIVE_BASE.to_owned(),
        (Mode::Validate | Mode::Live, Some(base)) if base.starts_with("https://") => base,
        (Mode::Validate | Mode::Live, Some(_)) => {
            environment.fault("MEXC_BASE_URL", "must begin with https:// outside paper mode");
            String::new()
        }
    }
}

/// As [`exchange_base`]; in paper mode the streams are those of the same stand-in unless another is named.
fn stream_base(environment: &mut Environment, mode: Mode, exchange_base: &str) -> String {
    let base = environment.text("MEXC_WS_URL").map(str::to_owned);
    match (mode, base) {
        (Mode::Paper, None) => format!("{}/ws", exchange_base.replacen("http", "ws", 1)),
        (Mode::Paper, Some(base)) if !base.contains("mexc.com") => base,
        (Mode::Paper, Some(_)) => {
            environment.fault("MEXC_WS_URL", "must name the stand-in exchange in paper mode");
            String::new()
        }
        (Mode::Validate | Mode::Live, None) => LIVE_STREAM.to_owned(),
        (Mode::Validate | Mode::Live, Some(base)) if base.starts_with("wss://") => base,
        (Mode::Validate | Mode::Live, Some(_)) => {
            environment.fault("MEXC_WS_URL", "must begin with wss:// outside paper mode");
            String::new()
        }
    }
}

/// The rate budgets. Outside paper mode they can be lowered, not raised.
fn budgets(environment: &mut Environment, mode: Mode) -> Budgets {
    let defaults = Budgets::default();
    let mut budget = |name: &str, default: u32| {
        let value = environment.value(name, default);
        if value == 0 || (value > default && mode != Mode::Paper) {
            environment.fault(name, format!("must be between 1 and {default} (only paper mode may raise it)"));
        }
        value
    };
    Budgets {
        orders_per_second: budget("RATE_ORDERS_PER_SECOND", defaults.orders_per_second),
        orders_per_10_seconds: budget("RATE_ORDERS_PER_10_SECONDS", defaults.orders_per_10_seconds),
        new_orders_per_second: budget("RATE_NEW_ORDERS_PER_SECOND", defaults.new_orders_per_second),
        rest_per_second: budget("RATE_REST_PER_SECOND", defaults.rest_per_second),
        endpoint_weight_per_10_seconds: budget("RATE_WEIGHT_PER_10_SECONDS", defaults.endpoint_weight_per_10_seconds),
        account_per_second: budget("RATE_ACCOUNT_PER_SECOND", defaults.account_per_second),
        streams_per_10_seconds: budget("RATE_STREAMS_PER_10_SECONDS", defaults.streams_per_10_seconds),
    }
}
