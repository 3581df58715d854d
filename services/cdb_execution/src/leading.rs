//! One term as the sending instance: wait for the lease, settle what an earlier process left, then send.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use cdb_core::breaker::Cause;
use cdb_core::event::{Event, EventType, SecurityKind};
use cdb_core::ids::EntryId;
use cdb_core::report::Source;
use cdb_core::sending::{SEND_DEADLINE_MS, Sending};
use cdb_core::verdict::{ApprovedCancel, ApprovedOrder, BadVerdict, VerdictKey, Verified, verify};
use cdb_io::audit_log::{AuditLog, Entry};
use cdb_io::bus::{self, Bus, Left, keys};
use cdb_io::health::Health;
use cdb_io::lease::{Asked, LEASE_RENEWAL, LEASE_TTL_MS, Lease};
use cdb_io::scripts::Scripts;
use cdb_io::supervise::Shutdown;
use cdb_io::{clock, events, heartbeat};
use cdb_mexc::client::Client;
use cdb_mexc::signing::Credentials;
use futures_util::FutureExt as _;
use redis::aio::ConnectionManager;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::account::Accountant;
use crate::book::Book;
use crate::canceler::Canceler;
use crate::config::Config;
use crate::gatekeeper::Gatekeeper;
use crate::keyring::{Keyring, Tools};
use crate::local_stop::LocalStop;
use crate::market::{self, Pairs, Quotes};
use crate::observe::Observer;
use crate::reconcile::{Reconciler, Strangers};
use crate::recovery::{self, Recovered};
use crate::sender::{Sender, Wanted};
use crate::stop_sweep;
use crate::streams::{self, Live, UserStream};
use crate::tracker::Tracker;
use crate::venue::Venue;

/// Verdicts read at once.
const BATCH: usize = 64;
/// Entries remembered as handed on; the oldest are long done.
const HANDED_ON_MAX: usize = 100_000;
/// How often entries are looked for that another instance read and left, and how long they must have been left.
const RECLAIM: Duration = Duration::from_secs(10);
/// Longest wait for sends in flight when the process is asked to end.
const DRAIN: Duration = Duration::from_secs(10);

/// How often the audit trail's disk is looked at.
const DISK_LOOK: Duration = Duration::from_secs(1);
/// How long a disk that is nearly full is reported after it was last looked at, ms.
const DISK_REPORT_MS: i64 = 3_000;
/// Longest wait for the exchange when nothing depends on its answer any more.
const GOODBYE: Duration = Duration::from_secs(1);

/// What lives as long as the process.
pub struct Process {
    /// Settings.
    pub config: Config,
    /// The audit trail.
    pub audit: AuditLog,
    /// Health.
    pub health: Health,
    /// Metrics and logs.
    pub observer: Observer,
    /// The exchange key.
    pub keyring: Keyring,
    client: Client,
    stop: LocalStop,
}

impl Process {
    /// Prepares the exchange client.
    ///
    /// # Errors
    /// The API key cannot be carried by a header.
    pub fn new(
        config: Config,
        audit: AuditLog,
        health: Health,
        observer: Observer,
        stop: LocalStop,
    ) -> anyhow::Result<Self> {
        let pair = config.key_pair.clone();
        let credentials = Credentials::new(pair.api_key.clone(), &pair.api_secret);
        let client = Client::new(&config.exchange_base, credentials).map_err(anyhow::Error::msg)?;
        let keyring = Keyring::new(pair, config.key_files.clone(), config.may_withdraw);
        observer.key(&keyring.fingerprint(), 1);
        Ok(Self { config, audit, health, observer, keyring, client, stop })
    }

    /// The exchange client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

/// The tasks of one term. The first that fails ends the term.
#[derive(Clone)]
pub struct Crew {
    set: Arc<Mutex<JoinSet<()>>>,
    failures: mpsc::Sender<anyhow::Error>,
}

impl Crew {
    fn new() -> (Self, mpsc::Receiver<anyhow::Error>) {
        let (failures, failed) = mpsc::channel(1);
        (Self { set: Arc::default(), failures }, failed)
    }

    /// Ends every task. The tasks hold the crew themselves, so that dropping it would not.
    fn dismiss(&self) {
        drop(std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Starts a task.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let failures = self.failures.clone();
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        while set.try_join_next().is_some() {}
        set.spawn(async move {
            let guard = PanicGuard { name, failures: failures.clone() };
            let outcome = task.await;
            std::mem::forget(guard);
            if let Err(error) = outcome {
                // One failure ends the term; further ones need not be heard.
                let _full = failures.try_send(error.context(name));
            }
        });
    }
}

/// Reports a task that panicked: a broken invariant stops the term.
struct PanicGuard {
    name: &'static str,
    failures: mpsc::Sender<anyhow::Error>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _full = self.failures.try_send(anyhow::anyhow!("task {} panicked", self.name));
        }
    }
}

/// Waits for the lease, leads, and gives the lease back.
///
/// # Errors
/// Redis, the audit trail or the lease was lost: the term is over.
pub async fn term(process: &Process, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let config = &process.config;
    let bus = Bus::connect(&config.service.redis).await?;
    let mut redis = bus.commands();
    bus::ensure_group(&mut redis, keys::VERDICTS, config.service.service).await?;
    let scripts = Scripts::bind(&mut redis).await?;
    let lease = Lease::new("execution", &config.service.instance);
    let token = loop {
        process.health.progress();
        match lease.ask(&scripts, &mut redis).await? {
            Asked::Ours(token) => break token,
            Asked::NoEpoch => process.health.trouble("lease", "cdb_risk has not opened this Redis data set yet"),
            Asked::Held => process.health.trouble("lease", "another instance sends; this one stands by"),
        }
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(LEASE_RENEWAL) => {}
        }
    };
    process.health.well("lease");
    let (crew, mut failed) = Crew::new();
    let (health, service) = (process.health.clone(), config.service.service);
    let keyring = process.keyring.clone();
    crew.spawn("lease", beat(redis.clone(), scripts.clone(), lease.clone(), token.clone(), health, service, keyring));
    let led = lead(process, &bus, scripts.clone(), token, &crew, &mut shutdown);
    let outcome = tokio::select! {
        outcome = led => outcome,
        failure = failed.recv() => Err(failure.unwrap_or_else(|| anyhow::anyhow!("the crew is gone"))),
    };
    crew.dismiss();
    process.observer.leading(false);
    if outcome.is_ok() {
        lease.release(&scripts, &mut redis).await?;
    }
    outcome
}

async fn beat(
    mut redis: ConnectionManager,
    scripts: Scripts,
    lease: Lease,
    token: String,
    health: Health,
    service: &'static str,
    keyring: Keyring,
) -> anyhow::Result<()> {
    loop {
        match lease.ask(&scripts, &mut redis).await? {
            Asked::Ours(current) if current == token => health.progress(),
            Asked::Ours(_) | Asked::Held | Asked::NoEpoch => bail!("the lease was lost"),
        }
        let secrets = json!({"MEXC_API_KEY": keyring.report()});
        heartbeat::beat(&mut redis, service, Some(true), &secrets, LEASE_TTL_MS).await?;
        tokio::time::sleep(LEASE_RENEWAL).await;
    }
}

async fn lead(
    process: &Process,
    bus: &Bus,
    scripts: Scripts,
    token: String,
    crew: &Crew,
    shutdown: &mut Shutdown,
) -> anyhow::Result<()> {
    let config = &process.config;
    let mut redis = bus.commands();
    tracing::info!(token, "this instance sends");
    process.observer.leading(true);
    announce(&mut redis, process, &token).await?;
    let redis_offset_ms = redis_clock_offset_ms(&mut redis).await?;
    let gatekeeper = Gatekeeper::new(redis.clone(), scripts, token, config.recv_window_ms);
    let observer = process.observer.clone();
    let book = Book::new(process.audit.clone(), gatekeeper.clone(), config.service.mode, observer.clone());
    let client = process.client.clone();
    let keyring = process.keyring.clone();
    let venue =
        Venue::open(client, config.budgets, gatekeeper.clone(), config.recv_window_ms, keyring.clone(), observer)
            .await?;
    let live = Live::default();
    let tracker = Tracker::new(book.clone(), venue.clone(), crew.clone(), live.clone());
    let sender = Sender::new(
        book.clone(),
        venue.clone(),
        tracker.clone(),
        crew.clone(),
        redis_offset_ms,
        config.doubt_max,
        process.stop.clone(),
    );
    let canceler = Canceler::new(book.clone(), venue.clone(), tracker.clone(), sender.clone(), crew.clone());

    let handed_on = Mutex::default();
    let intake = Intake { process, handed_on, redis: redis.clone(), gatekeeper };
    // What a former leader was granted and has not recorded yet is on record after this, or is never sent.
    tokio::time::sleep(Duration::from_millis(u64::try_from(SEND_DEADLINE_MS)?)).await;
    let pending = intake.pending(Duration::ZERO).await?;
    let approved: Vec<ApprovedOrder> = pending.iter().filter_map(|(_, verified)| approved_order(verified)).collect();
    let Recovered { unsettled, known, baseline } =
        recovery::recover(&book, &config.service.audit_dir, &approved, &config.verdict_key).await?;
    crew.spawn("clock", venue.clone().keep_clock());
    let tools = Tools { venue: venue.clone(), audit: process.audit.clone(), health: process.health.clone() };
    crew.spawn("keyring", keyring.run(tools));
    // Prices and streams go on while doubts are settled; only sending waits.
    let pairs = Pairs::default();
    let quotes = Quotes::new(config.symbols.clone(), venue.clone(), redis);
    for symbols in streams::by_connection(config.symbols.iter().cloned()) {
        let market = streams::run_market(config.stream_base.clone(), symbols, venue.clone(), quotes.clone());
        crew.spawn("market stream", market);
    }
    crew.spawn("market", market::run(config.clone(), venue.clone(), quotes.clone(), pairs.clone()));
    let strangers = Strangers::new(book.clone(), known);
    let user_stream = UserStream::new(
        config.stream_base.clone(),
        book.clone(),
        venue.clone(),
        tracker.clone(),
        strangers.clone(),
        crew.clone(),
        live,
    );
    crew.spawn("user stream", user_stream.clone().run());
    for order in unsettled {
        let Some(tracked) = book.find(&order.cl_ord_id) else { continue };
        match order.doubt {
            Some(claim) => {
                tracing::warn!(cl_ord_id = %order.cl_ord_id, "an earlier process left this order in doubt");
                let resolving =
                    sender.clone().resolve(tracked, Sending::recovered(claim, clock::monotonic_ms()), Source::Recovery);
                crew.spawn("recovery", resolving);
            }
            None => tracker.poke(&order.cl_ord_id),
        }
    }
    tokio::select! {
        () = sender.without_doubts() => {}
        () = shutdown.asked() => return Ok(()),
    }
    let reconciler = Reconciler::new(config.symbols.clone(), book.clone(), venue.clone(), strangers);
    crew.spawn("reconcile", reconciler.run());
    let sweeping = stop_sweep::run(config.clone(), book.clone(), venue.clone(), tracker.clone(), sender.clone());
    crew.spawn("stop", sweeping);
    crew.spawn("breaker", stop_sweep::watch_breaker(config.clone(), book.clone(), canceler.clone()));
    crew.spawn("tracker", tracker.clone().run());
    crew.spawn("disk", guard_disk(config.clone(), process.health.clone(), venue.clone()));
    let accountant = Accountant::new(book.clone(), venue, tracker, sender.clone(), pairs, quotes, baseline);
    crew.spawn("account", accountant.run());
    crew.spawn("sender", sender.clone().run());
    crew.spawn("standing", sender.clone().keep_standing());
    process.health.well("redis");
    for (entry, verified) in pending {
        intake.pass_on(entry, verified, &sender, &canceler).await?;
    }
    intake.run(bus, &sender, &canceler, shutdown).await?;
    tokio::time::timeout(DRAIN, sender.drained()).await.context("sends in flight did not end in time")?;
    // Left to lapse when the exchange does not answer.
    let _late = tokio::time::timeout(GOODBYE, user_stream.give_key_back()).await;
    Ok(())
}

fn approved_order(verified: &Verified) -> Option<ApprovedOrder> {
    match verified {
        Verified::Approved(order) => Some((**order).clone()),
        Verified::Cancel(_) | Verified::Rejected(_) => None,
    }
}

/// Halts trading before the audit trail's disk is full: with no room left an order could not be recorded, nor what
/// becomes of the orders that are open.
async fn guard_disk(config: Config, health: Health, venue: Venue) -> anyhow::Result<()> {
    loop {
        match config.service.audit_disk_trouble() {
            Some(text) => {
                health.trouble("audit disk", text.clone());
                venue.report(Cause::AuditUnwritable, &text, DISK_REPORT_MS).await?;
            }
            None => health.well("audit disk"),
        }
        tokio::time::sleep(DISK_LOOK).await;
    }
}

/// Redis's clock minus ours, ms.
async fn redis_clock_offset_ms(redis: &mut ConnectionManager) -> anyhow::Result<i64> {
    let before = clock::now();
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await?;
    let after = clock::now();
    Ok(seconds * 1_000 + micros / 1_000 - before.millis() - after.since_ms(before) / 2)
}

async fn announce(redis: &mut ConnectionManager, process: &Process, token: &str) -> anyhow::Result<()> {
    let config = &process.config;
    let (service, now) = (config.service.service, clock::now());
    let mode = config.service.mode.as_str();
    let detail = json!({"token": token, "build": cdb_io::config::BUILD, "mode": mode});
    process.audit.note(Entry::of("LEASE_ACQUIRED", json!({"token": token, "mode": mode}))).await?;
    process.audit.note(Entry::of("KEY_LOADED", json!({"fingerprint": process.keyring.fingerprint()}))).await?;
    let leads = Event::by_service(EventType::LeaseAcquired, service, "this instance sends", detail, now);
    let key = json!({"secret": "MEXC_API_KEY", "fingerprint": process.keyring.fingerprint()});
    let key = Event::by_service(EventType::KeyLoaded, service, "exchange key in use", key, now);
    for event in [leads, key] {
        events::publish(redis, &event).await?;
    }
    Ok(())
}

/// Verdicts in.
struct Intake<'a> {
    process: &'a Process,
    /// Entries that this term has in hand or has done.
    handed_on: Mutex<BTreeSet<EntryId>>,
    redis: ConnectionManager,
    gatekeeper: Gatekeeper,
}

impl Intake<'_> {
    /// Verdicts that some instance had read and not acknowledged: all are ours, for we lead.
    async fn pending(&self, idle_for: Duration) -> anyhow::Result<Vec<(bus::Entry, Verified)>> {
        let mut pending = Vec::new();
        let config = &self.process.config.service;
        let idle_ms = u64::try_from(idle_for.as_millis()).unwrap_or(u64::MAX);
        let mut left = Left::of(keys::VERDICTS, config.service, &config.instance, idle_ms);
        while let Some(entries) = left.next(&mut self.redis.clone(), BATCH).await? {
            for entry in entries {
                if self.is_handed_on(&entry.id) {
                    continue;
                }
                if let Some(verified) = self.verify(&entry).await? {
                    pending.push((entry, verified));
                }
            }
        }
        Ok(pending)
    }

    fn is_handed_on(&self, entry: &EntryId) -> bool {
        self.handed_on.lock().unwrap_or_else(PoisonError::into_inner).contains(entry)
    }

    /// A genuine verdict, or `None` after what is none went to the dead letters.
    async fn verify(&self, entry: &bus::Entry) -> anyhow::Result<Option<Verified>> {
        match verified(entry, &self.process.config.verdict_key) {
            Ok(verified) => Ok(Some(verified)),
            Err(bad) => {
                self.bury(entry, "bad_verdict", &bad.to_string()).await?;
                let detail = json!({"kind": "bad_signature", "entry": entry.id});
                self.process.audit.note(Entry::of("SECURITY", detail.clone())).await?;
                let event = Event::by_service(
                    EventType::Security,
                    self.process.config.service.service,
                    format!("a verdict is not genuine: {bad}"),
                    detail,
                    clock::now(),
                );
                events::publish(&mut self.redis.clone(), &event).await?;
                self.process.observer.forged.inc();
                self.process.observer.security(SecurityKind::BadSignature);
                tracing::error!(entry = %entry.id, problem = %bad, "a verdict is not genuine");
                Ok(None)
            }
        }
    }

    /// Puts an entry among the dead letters and acknowledges it.
    async fn bury(&self, entry: &bus::Entry, reason: &str, text: &str) -> anyhow::Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        let dead = pipeline.cmd("XADD").arg(keys::DEAD).arg("*").arg("stream").arg(keys::VERDICTS);
        dead.arg("entry").arg(entry.id.as_str()).arg("reason").arg(reason).arg("text").arg(text);
        dead.arg("bytes").arg(entry.original()).arg("ts").arg(clock::now().millis()).ignore();
        let service = self.process.config.service.service;
        pipeline.cmd("XACK").arg(keys::VERDICTS).arg(service).arg(entry.id.as_str()).ignore();
        let () = pipeline.query_async(&mut self.redis.clone()).await?;
        self.process.observer.dead_letters.inc();
        Ok(())
    }

    /// Hands a verdict to whoever acts on it; a refusal is done by being read.
    async fn pass_on(
        &self,
        entry: bus::Entry,
        verified: Verified,
        sender: &Sender,
        canceler: &Canceler,
    ) -> anyhow::Result<()> {
        {
            let mut handed_on = self.handed_on.lock().unwrap_or_else(PoisonError::into_inner);
            handed_on.insert(entry.id.clone());
            if handed_on.len() > HANDED_ON_MAX {
                handed_on.pop_first();
            }
        }
        match verified {
            Verified::Approved(order) => sender.take(Wanted::new(entry.id, *order)).await,
            Verified::Cancel(cancel) => self.cancel(&entry, cancel, canceler).await,
            Verified::Rejected(_) => self.gatekeeper.acknowledge(&entry.id).await,
        }
    }

    async fn cancel(&self, entry: &bus::Entry, cancel: ApprovedCancel, canceler: &Canceler) -> anyhow::Result<()> {
        let targets = canceler.targets(cancel.target());
        if targets.is_empty() {
            let text = "no open order is meant by this cancel";
            return self.bury(entry, "nothing_to_cancel", text).await;
        }
        canceler.start(entry.id.clone(), cancel.cl_ord_id().clone(), targets);
        Ok(())
    }

    async fn run(
        &self,
        bus: &Bus,
        sender: &Sender,
        canceler: &Canceler,
        shutdown: &mut Shutdown,
    ) -> anyhow::Result<()> {
        let mut connection = bus.blocking().await?;
        let config = &self.process.config.service;
        let mut reclaim = tokio::time::interval(RECLAIM);
        loop {
            let read = bus::read_group(&mut connection, keys::VERDICTS, config.service, &config.instance, BATCH);
            let entries = tokio::select! {
                () = shutdown.asked() => return Ok(()),
                entries = read => entries?,
            };
            // A former instance that was paused may have read entries after this term began.
            if reclaim.tick().now_or_never().is_some() {
                for (entry, verified) in self.pending(RECLAIM).await? {
                    self.pass_on(entry, verified, sender, canceler).await?;
                }
            }
            for entry in entries {
                if let Some(verified) = self.verify(&entry).await? {
                    self.pass_on(entry, verified, sender, canceler).await?;
                }
            }
        }
    }
}

/// What an entry of `cdb:verdicts` says, if cdb_risk signed it.
///
/// # Errors
/// It did not, or it cannot be read.
pub fn verified(entry: &bus::Entry, key: &VerdictKey) -> Result<Verified, BadVerdict> {
    let signature = entry.field("sig").and_then(|sig| std::str::from_utf8(sig).ok()).unwrap_or_default();
    verify(entry.json(), signature, key)
}
