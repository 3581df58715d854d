//! Settings: what every service needs, and where the ledger is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cdb_core::checkpoint::{CheckpointKey, KeyFault};
use cdb_core::secret::Secret;
use cdb_io::config::{Environment, RedisConfig, ServiceConfig};

use crate::audit::AuditConfig;
use crate::console::ConsoleConfig;

/// Design §5.
const LEDGER_AWAY_MAX_SEC: u64 = 60;
/// How often a chain that has grown is signed for.
const CHECKPOINT_INTERVAL_SEC: u64 = 60;
/// An anchored checkpoint must not be older.
const ANCHOR_AGE_MAX_SEC: u64 = 3_600;
/// All records are read again this often.
const AUDIT_RECHECK_SEC: u64 = 86_400;
/// Where the console listens when nothing else is set.
const CONSOLE_PORT: u16 = 8080;

/// Where metrics and health are, unless `HTTP_LISTEN` says otherwise.
pub const DEFAULT_PORT: u16 = 8103;

/// Everything that is set.
#[derive(Clone)]
pub struct Config {
    /// What every service needs.
    pub service: ServiceConfig,
    /// The database.
    pub postgres: PostgresConfig,
    /// The operator's page.
    pub console: ConsoleConfig,
    /// The audit trail.
    pub audit: AuditConfig,
    /// A database away for longer opens the breaker.
    pub ledger_away_max: Duration,
    /// Where this service keeps what neither Redis nor the database may make it forget.
    pub state_dir: PathBuf,
}

/// Where PostgreSQL is. Host, port, user and password are apart, so that no character of a password can change the
/// address.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Host name, or the directory of its socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// The role's password.
    pub password: Option<Secret>,
    /// Role that owns the schema: changes it at a start and rebuilds the ledger, and does nothing else.
    pub owner: String,
    /// Its password; without it the first role does that as well.
    pub owner_password: Option<Secret>,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Every fault, one a line.
    pub fn read() -> anyhow::Result<Self> {
        let mut environment = Environment::of_process();
        let service = ServiceConfig::read(&mut environment, "cdb_monitor", DEFAULT_PORT);
        let postgres = PostgresConfig {
            host: environment.value("POSTGRES_HOST", "127.0.0.1".to_owned()),
            port: environment.value("POSTGRES_PORT", 5432),
            user: environment.value("POSTGRES_USER", "cdb_monitor".to_owned()),
            database: environment.value("POSTGRES_DB", "cdb".to_owned()),
            password: environment.secret_if_present("POSTGRES_PASSWORD", service.mode),
            owner: environment.value("POSTGRES_OWNER_USER", "cdb_owner".to_owned()),
            owner_password: environment.secret_if_present("POSTGRES_OWNER_PASSWORD", service.mode),
        };
        let ledger_away_max = Duration::from_secs(environment.value("LEDGER_AWAY_MAX_SEC", LEDGER_AWAY_MAX_SEC));
        let state_dir = environment.value("STATE_DIR", PathBuf::from("/var/lib/cdb/monitor"));
        let audit = audit(&mut environment, &service);
        let console = console(&mut environment, &service);
        environment.finish()?;
        Ok(Self { service, postgres, console, audit, ledger_away_max, state_dir })
    }
}

fn audit(environment: &mut Environment, service: &ServiceConfig) -> AuditConfig {
    let name = environment.value("AUDIT_ORIGIN", "cdb".to_owned());
    let secret = environment.secret_if_present("CHECKPOINT_KEY", service.mode);
    let key = secret.and_then(|secret| match CheckpointKey::new(&name, &secret) {
        Ok(key) => Some(Arc::new(key)),
        Err(fault) => {
            let variable = if fault == KeyFault::Name { "AUDIT_ORIGIN" } else { "CHECKPOINT_KEY" };
            environment.fault(variable, fault.to_string());
            None
        }
    });
    let mut seconds = |name: &str, default: u64, least: u64| {
        let value = environment.value(name, default);
        if value < least {
            environment.fault(name, format!("must be at least {least}"));
        }
        Duration::from_secs(value.max(least))
    };
    let interval = seconds("CHECKPOINT_INTERVAL_SEC", CHECKPOINT_INTERVAL_SEC, 1);
    let age_max = seconds("ANCHOR_AGE_MAX_SEC", ANCHOR_AGE_MAX_SEC, 2);
    let recheck = seconds("AUDIT_RECHECK_SEC", AUDIT_RECHECK_SEC, 1);
    if age_max <= interval {
        environment.fault("ANCHOR_AGE_MAX_SEC", "must be larger than CHECKPOINT_INTERVAL_SEC");
    }
    let copies = environment.text("CHECKPOINT_DIR").map(PathBuf::from);
    AuditConfig { key, interval, age_max, recheck, copies }
}

fn console(environment: &mut Environment, service: &ServiceConfig) -> ConsoleConfig {
    let user = environment.value("REDIS_OPERATOR_USER", "operator".to_owned());
    let password = environment.secret_if_present("REDIS_OPERATOR_PASSWORD", service.mode);
    let of_operator = |password| RedisConfig { user, password: Some(password), ..service.redis.clone() };
    let hosts = environment.text("CONSOLE_HOSTS").unwrap_or_default();
    let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect();
    ConsoleConfig {
        listen: environment.value("CONSOLE_LISTEN", SocketAddr::from(([127, 0, 0, 1], CONSOLE_PORT))),
        token: environment.secret_if_present("CONSOLE_TOKEN", service.mode),
        operator_redis: password.map(of_operator),
        hosts,
    }
}
