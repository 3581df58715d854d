//! The audit trail as this service sees it: every chain verified as it grows, checkpoints signed, anchored in the ledger
//! and published, and alerts when a chain is not what it was (design §7). It reads the chains and never writes them.

mod chains; // the files, followed and signed
mod notes; // checkpoints as files
mod anchors; // checkpoints in the ledger
mod alarms; // what is wrong, told once
pub mod meters; // metrics

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cdb_core::checkpoint::CheckpointKey;
use cdb_core::event::{Event, EventType};
use cdb_io::bus::{Bus, keys};
use cdb_io::health::Health;
use cdb_io::supervise::Shutdown;
use cdb_io::{clock, events};
use redis::AsyncCommands as _;
use serde_json::{Value, json};

use self::alarms::{Alarms, Level};
use self::chains::{Chains, Settings, Signed};
use self::meters::AuditMeters;
use self::notes::NoteFiles;
use crate::config::Config;
use crate::ledger::Ledger;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for Redis or the database.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the directory of copies, which may lie on another machine.
const COPY_MAX: Duration = Duration::from_secs(10);
/// How this task is called in `/readyz`.
const TASK: &str = "audit";

/// What is set.
#[derive(Clone)]
pub struct AuditConfig {
    /// Signs checkpoints; without it none are signed.
    pub key: Option<Arc<CheckpointKey>>,
    /// A chain that has grown is signed for this often.
    pub interval: Duration,
    /// An anchor must not be older than this.
    pub age_max: Duration,
    /// All records are read again this often.
    pub recheck: Duration,
    /// Where copies of the checkpoints go, e.g. a directory of another machine or a git work tree.
    pub copies: Option<PathBuf>,
}

/// Follows the chains until the end is asked for.
///
/// # Errors
/// The state directory cannot be written.
pub async fn run(
    config: Config,
    ledger: Ledger,
    bus: Bus,
    health: Health,
    meters: AuditMeters,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    if config.audit.key.is_none() {
        tracing::warn!("CHECKPOINT_KEY is not set: the audit chains are verified, but no checkpoint is signed");
    }
    let mut watch = Watch::new(config, ledger, bus, meters)?;
    health.progress_of(TASK);
    loop {
        let has_more = watch.round().await;
        health.progress_of(TASK);
        match has_more {
            Ok(_) => health.well(TASK),
            Err(ref error) => {
                tracing::warn!(error = format!("{error:#}"), "the audit trail was not looked at");
                health.trouble(TASK, format!("{error:#}"));
            }
        }
        let pause = if has_more.unwrap_or(false) { Duration::ZERO } else { LOOK };
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Places where a checkpoint is anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The database.
    Ledger,
    /// The directory of copies.
    Copies,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 2] = [Self::Ledger, Self::Copies];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Copies => "copies",
        }
    }
}

/// How far a chain is anchored at a place.
struct Anchored {
    /// The newest note that is there.
    note: String,
    at: Instant,
}

struct Watch {
    config: Config,
    ledger: Ledger,
    bus: Bus,
    meters: AuditMeters,
    /// Away while a thread that may block looks at it.
    chains: Option<Chains>,
    copies: Option<Arc<NoteFiles>>,
    anchored: BTreeMap<(String, Place), Anchored>,
    /// What is published.
    announced: BTreeMap<String, String>,
    alarms: Alarms,
    /// Whether the ledger's own anchors are known.
    has_recalled: bool,
    began: Instant,
    /// The operator's last wish; `None` before the first look, what stands there then was for an earlier process.
    wish: Option<Option<String>>,
}

impl Watch {
    fn new(config: Config, ledger: Ledger, bus: Bus, meters: AuditMeters) -> anyhow::Result<Self> {
        let audit = &config.audit;
        let chains = Chains::new(Settings {
            audit_dir: config.service.audit_dir.clone(),
            state_dir: config.state_dir.join("audit"),
            key: audit.key.clone(),
            interval: audit.interval,
            interval_idle: audit.age_max / 2,
            recheck: audit.recheck,
        })?;
        Ok(Self {
            config,
            ledger,
            bus,
            meters,
            chains: Some(chains),
            copies: None,
            anchored: BTreeMap::new(),
            announced: BTreeMap::new(),
            alarms: Alarms::default(),
            has_recalled: false,
            began: Instant::now(),
            wish: None,
        })
    }

    /// Reads, signs, anchors, tells; whether there is more to read at once.
    async fn round(&mut self) -> anyhow::Result<bool> {
        if !self.has_recalled {
            match tokio::time::timeout(ANSWER_MAX, self.recall()).await {
                Ok(Ok(())) => self.has_recalled = true,
                Ok(Err(error)) => {
                    tracing::debug!(error = format!("{error:#}"), "the ledger's anchors are not known yet")
                }
                Err(_) => tracing::debug!("the ledger's anchors are not known yet"),
            }
        }
        let wish = self.fresh_wish().await;
        let is_asked = wish.is_some();
        let mut chains = self.chains.take().context("an earlier look did not come back")?;
        let (chains, looked) = tokio::task::spawn_blocking(move || {
            let looked = chains.look(is_asked);
            (chains, looked)
        })
        .await
        .context("looking at the audit trail")?;
        let signed: Vec<(String, Signed)> =
            chains.all().iter().filter_map(|(name, chain)| Some((name.clone(), chain.signed.clone()?))).collect();
        self.chains = Some(chains);
        self.anchor(&signed).await;
        self.measure(looked.as_ref().err());
        self.announce(&signed, wish).await;
        self.alarms.tell(&self.bus, self.config.service.service).await;
        looked
    }

    /// What the ledger knows: how far each chain was signed for, and which alerts are open.
    async fn recall(&mut self) -> anyhow::Result<()> {
        let key = self.config.audit.key.clone();
        let anchors = match key.as_deref() {
            Some(key) => self.ledger.newest_anchors(key).await?,
            None => Vec::new(),
        };
        self.alarms.recall(self.ledger.open_audit_alerts().await?);
        let chains = self.chains.as_mut().context("an earlier look did not come back")?;
        for anchor in &anchors {
            chains.expect(anchor)?;
        }
        Ok(())
    }

    /// An operator's wish for checkpoints at once, when it is a new one.
    async fn fresh_wish(&mut self) -> Option<String> {
        let mut redis = self.bus.commands();
        let asked = tokio::time::timeout(ANSWER_MAX, redis.get::<_, Option<String>>(keys::ANCHOR_COMMAND)).await;
        let wish = asked.ok()?.ok()?;
        let earlier = self.wish.replace(wish.clone())?;
        if earlier == wish { None } else { wish }
    }

    /// Puts the newest checkpoint of each chain where it is not yet.
    async fn anchor(&mut self, signed: &[(String, Signed)]) {
        for (name, signed) in signed {
            for place in Place::ALL {
                let is_there = self.anchored.get(&(name.clone(), place)).is_some_and(|there| there.note == signed.note);
                if is_there || (place == Place::Copies && self.config.audit.copies.is_none()) {
                    continue;
                }
                let put = match place {
                    Place::Ledger => self.put_into_ledger(signed).await,
                    Place::Copies => self.put_into_copies(signed).await,
                };
                match put {
                    Ok(()) => {
                        let there = Anchored { note: signed.note.clone(), at: Instant::now() };
                        self.anchored.insert((name.clone(), place), there);
                    }
                    Err(error) => {
                        self.meters.anchor_errors.with_label_values(&[place.as_str()]).inc();
                        let (place, error) = (place.as_str(), format!("{error:#}"));
                        tracing::debug!(chain = name, place, error, "a checkpoint is not anchored yet");
                    }
                }
            }
        }
    }

    async fn put_into_ledger(&self, signed: &Signed) -> anyhow::Result<()> {
        let put = self.ledger.anchor(&signed.checkpoint, &signed.note);
        Ok(tokio::time::timeout(ANSWER_MAX, put).await.context("the ledger does not answer")??)
    }

    async fn put_into_copies(&mut self, signed: &Signed) -> anyhow::Result<()> {
        let (dir, key) =
            (self.config.audit.copies.clone().context("no directory is set")?, self.config.audit.key.clone());
        let (known, signed) = (self.copies.clone(), signed.clone());
        let put = tokio::task::spawn_blocking(move || {
            let copies = match known {
                Some(copies) => copies,
                None => Arc::new(NoteFiles::new(dir, key.as_deref())?),
            };
            copies.add(&signed.checkpoint, &signed.note)?;
            anyhow::Ok(copies)
        });
        let copies = tokio::time::timeout(COPY_MAX, put).await.context("the directory does not answer")???;
        self.copies = Some(copies);
        Ok(())
    }

    /// Sets the metrics and says what is wrong.
    fn measure(&mut self, unreadable: Option<&anyhow::Error>) {
        let Some(chains) = &self.chains else { return };
        let mut wrong = BTreeMap::new();
        if let Some(error) = unreadable {
            wrong.insert("audit_unreadable".to_owned(), (Level::Critical, format!("{error:#}"), json!({})));
        }
        let (mut records, mut unread, mut lag, mut age) = (0_u64, 0_u64, Duration::ZERO, Duration::ZERO);
        for (name, chain) in chains.all() {
            records = records.saturating_add(chain.records());
            unread = unread.saturating_add(chain.unread);
            lag = lag.max(chain.level_at.elapsed());
            if let Some((kind, text)) = chain.trouble() {
                let detail = json!({"chain": name, "kind": kind});
                wrong.insert(
                    format!("audit_chain:{name}"),
                    (Level::Critical, format!("audit chain {name}: {text}"), detail),
                );
            }
            for place in self.places() {
                let anchored = self.anchored.get(&(name.clone(), place));
                age = age.max(anchored.map_or(self.began, |there| there.at).elapsed());
            }
        }
        let is_signing = self.config.audit.key.is_some();
        if is_signing && age > self.config.audit.age_max {
            let seconds = age.as_secs();
            let text = format!("the newest audit checkpoint was anchored {seconds} s ago");
            wrong.insert("audit_anchor_age".to_owned(), (Level::Warning, text, json!({"seconds": seconds})));
        }
        let is_broken = wrong.values().any(|(level, ..)| *level == Level::Critical);
        let state = if is_broken {
            "broken"
        } else if chains.all().is_empty() {
            "unknown"
        } else {
            "clean"
        };
        let age = is_signing.then_some(age);
        self.meters.looked(state, chains.all().len(), records, unread, lag, age);
        self.alarms.set(wrong);
    }

    fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let has_copies = self.config.audit.copies.is_some();
        Place::ALL.into_iter().filter(move |place| *place == Place::Ledger || has_copies)
    }

    /// Publishes checkpoints that are new, and answers an operator's wish.
    async fn announce(&mut self, signed: &[(String, Signed)], wish: Option<String>) {
        for (name, signed) in signed {
            if self.announced.get(name) == Some(&signed.note) {
                continue;
            }
            let reason = format!("{name} has {} records", signed.checkpoint.size);
            if self.publish(reason, self.told(name, signed)).await {
                self.announced.insert(name.clone(), signed.note.clone());
                self.meters.checkpoints.inc();
            }
        }
        if let Some(wish) = wish {
            let told: Vec<Value> = signed.iter().map(|(name, signed)| self.told(name, signed)).collect();
            let public = self.config.audit.key.as_ref().map(|key| key.public().to_string());
            let detail = json!({"request": wish, "checkpoints": told, "public_key": public});
            if !self.publish("an operator asked for checkpoints".to_owned(), detail).await {
                // It is answered in the next round.
                self.wish = Some(None);
            }
        }
    }

    fn told(&self, name: &str, signed: &Signed) -> Value {
        let Signed { checkpoint, note } = signed;
        let is_at = |place: &Place| {
            self.anchored.get(&(name.to_owned(), *place)).is_some_and(|there| there.note == signed.note)
        };
        let anchored: Vec<&str> = self.places().filter(is_at).map(Place::as_str).collect();
        json!({
            "chain": name, "size": checkpoint.size, "head": hex::encode(checkpoint.head), "at": checkpoint.at,
            "note": note, "anchored": anchored,
        })
    }

    async fn publish(&self, reason: String, detail: Value) -> bool {
        let event = Event::by_service(EventType::Checkpoint, self.config.service.service, reason, detail, clock::now());
        let mut redis = self.bus.commands();
        let published = tokio::time::timeout(ANSWER_MAX, events::publish(&mut redis, &event)).await;
        matches!(published, Ok(Ok(())))
    }
}
