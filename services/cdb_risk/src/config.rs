//! Settings: what every service needs, the limits, the verdict key.

use std::path::PathBuf;

use cdb_core::limits::{Limits, Setting, limits_hash};
use cdb_core::verdict::VerdictKey;
use cdb_io::config::{Environment, ServiceConfig};

/// Where metrics and health are, unless `HTTP_LISTEN` says otherwise.
pub const DEFAULT_PORT: u16 = 8101;

/// Everything that is set.
#[derive(Clone)]
pub struct Config {
    /// What every service needs.
    pub service: ServiceConfig,
    /// The limits.
    pub limits: Limits,
    /// Every limit's effective text, with where it is from.
    pub settings: Vec<Setting>,
    /// Identity of the limits.
    pub limits_hash: String,
    /// Signs verdicts.
    pub verdict_key: VerdictKey,
    /// Where risk remembers what Redis must not be able to forget.
    pub state_dir: PathBuf,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Every fault, one a line.
    pub fn read() -> anyhow::Result<Self> {
        let mut environment = Environment::of_process();
        let service = ServiceConfig::read(&mut environment, "cdb_risk", DEFAULT_PORT);
        let state_dir = environment.value("STATE_DIR", PathBuf::from("/var/lib/cdb/risk"));
        let verdict_key = environment.secret("VERDICT_KEY", service.mode);
        let limits = Limits::from_variables(environment.variables());
        match (limits, verdict_key) {
            (Ok((limits, settings)), Some(secret)) => {
                environment.finish()?;
                let limits_hash = limits_hash(&settings);
                let verdict_key = VerdictKey::new(&secret);
                Ok(Self { service, limits, settings, limits_hash, verdict_key, state_dir })
            }
            (limits, _) => {
                environment.add_faults(limits.err().unwrap_or_default());
                environment.finish()?;
                anyhow::bail!("the configuration is incomplete")
            }
        }
    }

    /// The limits in force, for the record.
    pub fn in_force(&self) -> serde_json::Value {
        let settings = self.settings.iter().map(|setting| (setting.name.to_owned(), setting.value.clone().into()));
        let settings: serde_json::Map<_, _> = settings.collect();
        serde_json::json!({"limits_hash": self.limits_hash, "limits": settings})
    }

    /// Logs every limit with its origin.
    pub fn announce(&self) {
        for setting in &self.settings {
            let origin = if setting.is_set { "environment" } else { "default" };
            tracing::info!(name = setting.name, value = setting.value, origin, "limit");
        }
        tracing::info!(limits_hash = self.limits_hash, mode = self.service.mode.as_str(), "limits in force");
    }
}
