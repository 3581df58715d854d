//! The desk as this service sees it by itself, over a connection of its own: stop, permit, breaker, heartbeats, lengths
//! and lags, refusals of the bus. Where Redis does not say, it is `unknown`, never well.

use std::collections::BTreeMap;
use std::time::Duration;

use cdb_core::event::Event;
use cdb_io::bus::{self, Bus, keys};
use cdb_io::health::Health;
use cdb_io::meters::disk_free_ppm;
use cdb_io::supervise::Shutdown;
use redis::aio::ConnectionManager;
use redis::streams::{StreamInfoGroupsReply, StreamRangeReply};

use crate::config::Config;
use crate::observe::{GROUPS, LENGTHS, Observer, SERVICES};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// Pause before trying again after Redis went away.
const RETRY: Duration = Duration::from_secs(1);
/// Events read at once.
const BATCH: usize = 500;
/// Refusals asked for; Redis keeps 128.
const ACL_ENTRIES: usize = 128;

/// What is done over and over.
#[derive(Clone, Copy)]
enum Work {
    /// Looks at keys and streams.
    Look,
    /// Counts events.
    Listen,
}

impl Work {
    const fn name(self) -> &'static str {
        match self {
            Self::Look => "desk",
            Self::Listen => "events",
        }
    }
}

#[derive(Clone)]
struct Watch {
    config: Config,
    health: Health,
    observer: Observer,
}

/// Looks until the end is asked for.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn run(config: Config, health: Health, observer: Observer, shutdown: Shutdown) -> anyhow::Result<()> {
    let watch = Watch { config, health, observer };
    let looking = watch.clone().until_asked(Work::Look, shutdown.clone());
    tokio::try_join!(looking, watch.until_asked(Work::Listen, shutdown)).map(|_| ())
}

impl Watch {
    async fn until_asked(self, work: Work, mut shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            let working = async {
                match work {
                    Work::Look => self.look().await,
                    Work::Listen => self.listen().await,
                }
            };
            let error = tokio::select! {
                () = shutdown.asked() => return Ok(()),
                outcome = working => outcome.err().unwrap_or_else(|| anyhow::anyhow!("it ended by itself")),
            };
            self.observer.redis_errors.inc();
            self.observer.desk_unknown();
            let name = work.name();
            tracing::error!(name, error = format!("{error:#}"), "Redis does not say how the desk stands");
            self.health.trouble(name, format!("{error:#}"));
            tokio::select! {
                () = shutdown.asked() => return Ok(()),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn look(&self) -> anyhow::Result<()> {
        let mut redis = Bus::connect(&self.config.service.redis).await?.commands();
        let mut refusals = Refusals::default();
        loop {
            desk(&mut redis, &self.observer).await?;
            streams(&mut redis, &self.observer).await?;
            self.observer.acl_denied.inc_by(refusals.fresh(&mut redis).await?);
            self.observer.disk_free.set(disk_free_ppm(&self.config.state_dir));
            self.health.well(Work::Look.name());
            self.health.progress_of(Work::Look.name());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Counts the desk's events as they come, from now on.
    async fn listen(&self) -> anyhow::Result<()> {
        let bus = Bus::connect(&self.config.service.redis).await?;
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(keys::EVENTS).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: StreamRangeReply = newest.query_async(&mut bus.commands()).await?;
        let mut after = newest.ids.first().map_or_else(|| "0".to_owned(), |entry| entry.id.clone());
        let mut connection = bus.blocking().await?;
        loop {
            let entries = bus::read_after(&mut connection, keys::EVENTS, &after, BATCH).await?;
            for entry in &entries {
                // What cannot be read is a dead letter of the ledger.
                if let Ok(event) = serde_json::from_slice::<Event>(entry.json()) {
                    self.observer.event(event.event_type);
                }
                after = entry.id.to_string();
            }
            self.health.well(Work::Listen.name());
        }
    }
}

async fn desk(redis: &mut ConnectionManager, observer: &Observer) -> anyhow::Result<()> {
    let mut pipeline = redis::pipe();
    pipeline.exists(keys::STOP).exists(keys::PERMIT).hget(keys::BREAKER, "state");
    for service in SERVICES {
        pipeline.exists(format!("{}{service}", keys::HEARTBEAT));
    }
    type Seen = (bool, bool, Option<String>, bool, bool, bool);
    let (stop, permit, breaker, risk, execution, monitor): Seen = pipeline.query_async(redis).await?;
    observer.stop.set(if stop { "stopped" } else { "clear" });
    observer.permit.set(if permit { "present" } else { "absent" });
    observer.breaker.set(breaker.as_deref().unwrap_or(cdb_io::meters::UNKNOWN));
    for (service, is_there) in SERVICES.iter().zip([risk, execution, monitor]) {
        observer.heartbeats.with_label_values(&[service]).set(i64::from(is_there));
    }
    Ok(())
}

async fn streams(redis: &mut ConnectionManager, observer: &Observer) -> anyhow::Result<()> {
    let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    for stream in LENGTHS {
        let length: usize = redis::cmd("XLEN").arg(stream).query_async(redis).await?;
        observer.lengths.with_label_values(&[stream]).set(gauge(length));
    }
    for (stream, group) in [keys::ORDERS, keys::VERDICTS].into_iter().zip(GROUPS) {
        let reply = redis::cmd("XINFO").arg("GROUPS").arg(stream).query_async::<StreamInfoGroupsReply>(redis).await;
        // Before the first start of the reader there is no stream.
        let groups = reply.map(|reply| reply.groups).unwrap_or_default();
        let found = groups.into_iter().find(|found| found.name == group);
        let (lag, pending) = found.map_or((0, 0), |found| (found.lag.unwrap_or_default(), found.pending));
        observer.lag.with_label_values(&[group]).set(gauge(lag));
        observer.pending.with_label_values(&[group]).set(gauge(pending));
    }
    Ok(())
}

/// What the bus refused: the log's entries count on while the same refusal repeats.
#[derive(Default)]
struct Refusals {
    /// How often each entry stood for a refusal; `None` before the first look.
    seen: Option<BTreeMap<String, u64>>,
}

impl Refusals {
    /// Refusals since the last look; none at the first, whose log may be old.
    async fn fresh(&mut self, redis: &mut ConnectionManager) -> anyhow::Result<u64> {
        let reply: Vec<BTreeMap<String, redis::Value>> =
            redis::cmd("ACL").arg("LOG").arg(ACL_ENTRIES).query_async(redis).await?;
        let mut now = BTreeMap::new();
        for entry in &reply {
            let text = |name: &str| entry.get(name).map(|value| format!("{value:?}")).unwrap_or_default();
            let count = entry.get("count").and_then(|count| redis::from_redis_value_ref(count).ok()).unwrap_or(1_u64);
            let name = ["reason", "context", "object", "username"].map(text).join("/");
            let total = now.entry(name).or_insert(0_u64);
            *total = total.saturating_add(count);
        }
        let fresh = self.seen.as_ref().map_or(0, |seen| {
            now.iter().map(|(name, count)| count.saturating_sub(seen.get(name).copied().unwrap_or(0))).sum()
        });
        self.seen = Some(now);
        Ok(fresh)
    }
}
