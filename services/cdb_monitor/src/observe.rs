//! Metrics of this service.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::config::Config;
use crate::projection::STREAMS;

/// Metrics.
#[derive(Clone)]
pub struct Observer {
    registry: Registry,
    written: IntCounterVec,
    redis_errors: IntCounter,
    postgres_errors: IntCounter,
}

impl Observer {
    /// Registers everything.
    ///
    /// # Errors
    /// A metric's name is given twice.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let written = IntCounterVec::new(Opts::new("cdb_monitor_entries_total", "Entries in the ledger"), &["stream"])?;
        let redis_errors = IntCounter::new("cdb_monitor_redis_errors_total", "Failures of Redis")?;
        let postgres_errors = IntCounter::new("cdb_monitor_postgres_errors_total", "Failures of the database")?;
        let build = IntGaugeVec::new(Opts::new("cdb_monitor_build_info", "Always 1"), &["build", "mode"])?;
        registry.register(Box::new(written.clone()))?;
        registry.register(Box::new(redis_errors.clone()))?;
        registry.register(Box::new(postgres_errors.clone()))?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[cdb_io::config::BUILD, config.service.mode.as_str()]).set(1);
        for stream in STREAMS {
            written.with_label_values(&[stream]);
        }
        Ok(Self { registry, written, redis_errors, postgres_errors })
    }

    /// For the endpoint.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Entries are in the ledger.
    pub fn written(&self, stream: &str, count: usize) {
        self.written.with_label_values(&[stream]).inc_by(u64::try_from(count).unwrap_or_default());
    }

    /// Redis or the database failed.
    pub fn trouble(&self, error: &anyhow::Error) {
        if error.downcast_ref::<sqlx::Error>().is_some() {
            self.postgres_errors.inc();
        } else {
            self.redis_errors.inc();
        }
    }
}
