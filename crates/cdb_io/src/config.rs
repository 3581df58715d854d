//! A service's environment, read once, all faults at once.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use cdb_core::limits::ConfigFault;
use cdb_core::report::Mode;
use cdb_core::secret::Secret;

use crate::secret_file::{self, Place, SecretError};
use crate::secret_pair;

/// Two secrets that belong together, and their files where they are in files.
pub type SecretPair = (Secret, Secret, Option<(PathBuf, PathBuf)>);

/// Reads variables and collects what is wrong with them.
#[derive(Debug)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    faults: Vec<ConfigFault>,
}

impl Environment {
    /// The process's environment.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::new(variables)
    }

    /// A given environment.
    #[must_use]
    pub const fn new(variables: BTreeMap<String, String>) -> Self {
        Self { variables, faults: Vec::new() }
    }

    /// All variables.
    #[must_use]
    pub const fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// A variable's text; set but empty counts as absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A value, or its default when absent; an unreadable one is a fault.
    pub fn value<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> T {
        match self.text(name).map(T::from_str) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                self.fault(name, format!("cannot be read: {error}"));
                default
            }
        }
    }

    /// A secret that must be there.
    pub fn secret(&mut self, name: &str, mode: Mode) -> Option<Secret> {
        match secret_file::load(self, name, mode) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.fault(name, error.to_string());
                None
            }
        }
    }

    /// Two secrets that belong together, read as one where both are in files, and then those files.
    pub fn secret_pair(&mut self, first: &str, second: &str, mode: Mode) -> Option<SecretPair> {
        let places = (secret_file::place(self, first, mode), secret_file::place(self, second, mode));
        if let (Ok(Place::File(first_file)), Ok(Place::File(second_file))) = places {
            // Each by itself as well: a fault is told with its name.
            let alone = (self.secret(first, mode)?, self.secret(second, mode)?);
            let (one, other) = secret_pair::read(&first_file, &second_file).unwrap_or(alone);
            return Some((one, other, Some((first_file, second_file))));
        }
        let pair = (self.secret(first, mode), self.secret(second, mode));
        let (Some(one), Some(other)) = pair else { return None };
        Some((one, other, None))
    }

    /// A secret that may be absent.
    pub fn secret_if_present(&mut self, name: &str, mode: Mode) -> Option<Secret> {
        match secret_file::load(self, name, mode) {
            Ok(secret) => Some(secret),
            Err(SecretError::Absent) => None,
            Err(error) => {
                self.fault(name, error.to_string());
                None
            }
        }
    }

    /// Notes a fault.
    pub fn fault(&mut self, name: &str, text: impl Into<String>) {
        self.faults.push(ConfigFault { name: name.to_owned(), text: text.into() });
    }

    /// Notes several faults.
    pub fn add_faults(&mut self, faults: Vec<ConfigFault>) {
        self.faults.extend(faults);
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every fault, one a line.
    pub fn finish(self) -> anyhow::Result<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = self.faults.iter().map(|fault| format!("  {fault}")).collect();
        anyhow::bail!("the configuration has {} fault(s):\n{}", lines.len(), lines.join("\n"))
    }
}

/// What every service needs to know.
#[derive(Clone)]
pub struct ServiceConfig {
    /// The service, also its consumer group.
    pub service: &'static str,
    /// This instance, also its consumer.
    pub instance: String,
    /// Paper, validate or live.
    pub mode: Mode,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// Where `/metrics`, `/healthz` and `/readyz` listen.
    pub http_listen: SocketAddr,
    /// Root of the audit trail.
    pub audit_dir: PathBuf,
    /// With fewer bytes free for the audit trail, trading halts.
    pub audit_min_free: u64,
    /// Sealed days are compressed this many days later; `None` = never.
    pub audit_compress_after: Option<i64>,
}

/// Where Redis is and as whom to speak to it. Host, port, user and password are apart, so that no character of a
/// password can change the address.
#[derive(Clone)]
pub struct RedisConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// ACL user.
    pub user: String,
    /// Its password; absent for a server without authentication.
    pub password: Option<Secret>,
}

/// The build that runs, for heartbeats, audit records and metrics: the commit when the build was told it.
pub const BUILD: &str = match option_env!("CDB_BUILD_ID") {
    Some(id) => id,
    None => env!("CARGO_PKG_VERSION"),
};

/// Room for weeks of records at the pace of the order limits.
const AUDIT_MIN_FREE_MB: u64 = 256;
/// Bytes.
const MB: u64 = 1_000_000;
/// A week of days can be read with any tool.
const AUDIT_COMPRESS_AFTER_DAYS: u32 = 7;

impl ServiceConfig {
    /// Reads what every service needs; faults are noted in `environment`.
    pub fn read(environment: &mut Environment, service: &'static str, default_port: u16) -> Self {
        let mode_text = environment.text("TRADING_MODE").unwrap_or("paper").to_owned();
        let mode = Mode::parse(&mode_text).unwrap_or_else(|| {
            environment.fault("TRADING_MODE", "must be paper, validate or live");
            Mode::Paper
        });
        refuse_real_money(environment, mode);
        let redis = RedisConfig {
            host: environment.value("REDIS_HOST", "127.0.0.1".to_owned()),
            port: environment.value("REDIS_PORT", 6379),
            user: environment.value("REDIS_USER", service.to_owned()),
            password: environment.secret_if_present("REDIS_PASSWORD", mode),
        };
        Self {
            service,
            instance: environment.value("CDB_INSTANCE", "1".to_owned()),
            mode,
            redis,
            http_listen: environment.value("HTTP_LISTEN", SocketAddr::from(([127, 0, 0, 1], default_port))),
            audit_dir: environment.value("AUDIT_DIR", PathBuf::from("/var/log/cdb/audit")),
            audit_min_free: environment.value("AUDIT_MIN_FREE_MB", AUDIT_MIN_FREE_MB).saturating_mul(MB),
            audit_compress_after: Some(environment.value("AUDIT_COMPRESS_AFTER_DAYS", AUDIT_COMPRESS_AFTER_DAYS))
                .filter(|days| *days > 0)
                .map(i64::from),
        }
    }

    /// Name of this instance's audit chain: one writer a chain.
    #[must_use]
    pub fn audit_name(&self) -> String {
        match self.instance.as_str() {
            "1" => self.service.to_owned(),
            instance => format!("{}-{instance}", self.service),
        }
    }

    /// Why trading must halt before the audit trail's disk is full; `None` while there is room. A disk that cannot be
    /// asked has none.
    #[must_use]
    pub fn audit_disk_trouble(&self) -> Option<String> {
        let dir = self.audit_dir.display();
        let free = match rustix::fs::statvfs(&self.audit_dir) {
            Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
            Err(error) => return Some(format!("the disk of AUDIT_DIR {dir} cannot be asked: {error}")),
        };
        let (free_mb, least_mb) = (free / MB, self.audit_min_free / MB);
        (free < self.audit_min_free).then(|| {
            format!(
                "the disk of AUDIT_DIR {dir} has {free_mb} MB free, fewer than AUDIT_MIN_FREE_MB={least_mb}: make room, \
                 and trading goes on by itself; delete no audit file"
            )
        })
    }

    /// What every service records when it starts.
    #[must_use]
    pub fn started(&self) -> serde_json::Value {
        serde_json::json!({"mode": self.mode.as_str(), "instance": self.instance})
    }
}

/// This version trades on paper only: reconciliation, preflight and loss limits come before real money (design §9).
/// Settings that ask for more stop the start instead of being read as something less.
fn refuse_real_money(environment: &mut Environment, mode: Mode) {
    if mode != Mode::Paper {
        environment.fault("TRADING_MODE", "must be paper: this version does not trade real money yet");
    }
    for known in ["TRADING_MODE", "DRY_RUN"] {
        let is_alike = |name: &&String| *name != known && strsim::levenshtein(&name.to_uppercase(), known) <= 2;
        let alike: Vec<String> = environment.variables.keys().filter(is_alike).cloned().collect();
        for name in alike {
            environment.fault(&name, format!("is not known; did you mean {known}?"));
        }
    }
    match environment.text("DRY_RUN") {
        None | Some("true") => {}
        Some(_) => environment.fault("DRY_RUN", "must be true or absent: this version does not trade real money yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_with(pairs: &[(&str, &str)]) -> String {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut environment = Environment::new(variables);
        let config = ServiceConfig::read(&mut environment, "cdb_test", 1);
        let faults = environment.finish().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(config.mode == Mode::Paper || !faults.is_empty(), "{pairs:?} may trade real money");
        faults
    }

    /// FL-RK-22: a dry run that is not dry, for a name or a value that nobody reads.
    #[test]
    fn only_one_spelling_of_each_mode_is_read_and_anything_alike_stops_the_start() {
        for fine in [&[][..], &[("DRY_RUN", "")], &[("DRY_RUN", "true")], &[("TRADING_MODE", "paper")]] {
            assert_eq!(faults_with(fine), "", "{fine:?}");
        }
        for value in ["False", "false", "no", "0", "flase", "true ", "TRUE"] {
            assert!(faults_with(&[("DRY_RUN", value)]).contains("DRY_RUN"), "{value}");
        }
        for value in ["live", "validate", "LIVE", "Paper", "real"] {
            assert!(faults_with(&[("TRADING_MODE", value)]).contains("TRADING_MODE"), "{value}");
        }
        for name in ["DRYRUN", "DRY-RUN", "dry_run", "TRADINGMODE", "TRADING_MODUS"] {
            assert!(faults_with(&[(name, "true")]).contains("did you mean"), "{name}");
        }
    }
}
