//! The exchange key: which pair signs, whether the exchange still takes it, and how a new one is taken over while orders
//! are under way (design §8).
//!
//! A changed pair of files is proven with a signed read-only call first; a bad pair leaves the old one in use. A key that
//! the exchange refuses opens the breaker until an operator closes it; the refusal is the key's and ends with it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cdb_core::breaker::Cause;
use cdb_core::event::{Event, EventType};
use cdb_core::key_change::{self, KeyPair, Step};
use cdb_core::reason::VenueRefusal;
use cdb_core::time::Timestamp;
use cdb_io::audit_log::{AuditLog, Entry};
use cdb_io::health::Health;
use cdb_io::{clock, conditions, events, secret_pair};
use cdb_mexc::answer::Meaning;
use cdb_mexc::client::{ANSWER_TIMEOUT, Client};
use cdb_mexc::endpoint::{Endpoint, Priority};
use cdb_mexc::signing::Credentials;
use cdb_mexc::wire::VenueAccount;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::venue::Venue;

/// How often the files are read.
const LOOK: Duration = Duration::from_millis(500);
/// How often a key that is refused, or not proven yet, is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a refused key is reported after it was last found so, ms.
const REFUSED_MS: i64 = 30_000;
/// Longest wait until every request that the old pair signed is answered.
const RETIRE_MAX: Duration = ANSWER_TIMEOUT.saturating_add(Duration::from_secs(1));
/// The alert of a key that the exchange refuses.
const ALERT: &str = "exchange_key_refused";
/// Under which name events are published.
const SERVICE: &str = "cdb_execution";

/// The key of this process, the same for every clone.
#[derive(Clone)]
pub struct Keyring {
    inner: Arc<Mutex<Inner>>,
    /// The exchange refused something for the key's sake.
    doubted: Arc<Notify>,
    files: Option<(PathBuf, PathBuf)>,
    /// A right to withdraw is no reason to refuse a key.
    may_withdraw: bool,
}

struct Inner {
    pair: KeyPair,
    /// 1 = the pair that the process began with.
    generation: u64,
    in_use_since: Timestamp,
    /// When the exchange last took it for good.
    proven_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    rights: Option<Rights>,
    /// Why the exchange refuses it.
    refused: Option<String>,
    rejected: Option<Rejected>,
    /// What the files hold beside the pair in use, and since when.
    seen: Option<(KeyPair, Instant)>,
    /// Why the files cannot be used.
    files_fault: Option<String>,
}

/// What the exchange says that a key may do.
#[derive(Clone, Copy)]
struct Rights {
    can_trade: bool,
    can_withdraw: bool,
}

/// A pair that was tried and not taken.
struct Rejected {
    pair: KeyPair,
    reason: String,
    at: Timestamp,
}

/// What a signed call says of a pair.
enum Proof {
    Good(Rights),
    Bad(String),
    /// The exchange did not say.
    Unclear(String),
}

/// What the keyring works with during one term.
pub struct Tools {
    /// The exchange.
    pub venue: Venue,
    /// The audit trail.
    pub audit: AuditLog,
    /// Health.
    pub health: Health,
}

impl Keyring {
    /// The pair that the process begins with, and its files, when it comes out of files.
    pub fn new(pair: KeyPair, files: Option<(PathBuf, PathBuf)>, may_withdraw: bool) -> Self {
        let inner = Inner {
            pair,
            generation: 1,
            in_use_since: clock::now(),
            proven_at: None,
            last_used_at: None,
            rights: None,
            refused: None,
            rejected: None,
            seen: None,
            files_fault: None,
        };
        Self { inner: Arc::new(Mutex::new(inner)), doubted: Arc::default(), files, may_withdraw }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the key in use, the only thing of it that may be shown.
    pub fn fingerprint(&self) -> String {
        self.lock().pair.api_key.fingerprint()
    }

    /// A signed request was accepted.
    pub fn used(&self) {
        self.lock().last_used_at = Some(clock::now());
    }

    /// The exchange refused a signed request for the key's sake: it is asked about the key at once.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// What may be shown of it, for the heartbeat.
    pub fn report(&self) -> Value {
        let inner = self.lock();
        let rejected = inner.rejected.as_ref().map(|rejected| {
            let fingerprint = rejected.pair.api_key.fingerprint();
            json!({"fingerprint": fingerprint, "reason": rejected.reason, "at": rejected.at})
        });
        json!({
            "fingerprint": inner.pair.api_key.fingerprint(), "generation": inner.generation,
            "in_use_since": inner.in_use_since, "proven_at": inner.proven_at, "last_used_at": inner.last_used_at,
            "can_trade": inner.rights.map(|rights| rights.can_trade),
            "can_withdraw": inner.rights.map(|rights| rights.can_withdraw),
            "refused": inner.refused, "rejected": rejected, "files_fault": inner.files_fault,
        })
    }

    /// Watches the key and its files for as long as the term lasts.
    ///
    /// # Errors
    /// Redis or the audit trail failed, or another process leads.
    pub async fn run(self, tools: Tools) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked_at = Instant::now();
        self.ask_about_key(&tools).await?;
        loop {
            let is_doubted = tokio::select! {
                () = self.doubted.notified() => true,
                _ = looks.tick() => false,
            };
            let is_open = {
                let inner = self.lock();
                inner.refused.is_some() || inner.proven_at.is_none()
            };
            if is_doubted || (is_open && asked_at.elapsed() > AGAIN) {
                asked_at = Instant::now();
                self.ask_about_key(&tools).await?;
            }
            self.look(&tools).await?;
        }
    }

    /// Asks the exchange whether it takes the key in use.
    async fn ask_about_key(&self, tools: &Tools) -> anyhow::Result<()> {
        match self.prove(tools, &tools.venue.client).await? {
            Proof::Good(rights) => self.taken(tools, rights).await,
            Proof::Bad(reason) => self.refused(tools, reason).await,
            Proof::Unclear(text) => {
                tracing::warn!(text, "it is not clear whether the exchange takes the key");
                Ok(())
            }
        }
    }

    /// One signed read-only call with a client's pair, within the budget.
    async fn prove(&self, tools: &Tools, client: &Client) -> anyhow::Result<Proof> {
        let account = async |_: &Client, stamp| client.account(stamp).await;
        let answer = tools.venue.call(Endpoint::Account, Priority::Query, account).await?;
        Ok(match answer {
            Ok(account) => self.judge(&account),
            Err(trouble) => match trouble.meaning {
                Meaning::Refused(VenueRefusal::Auth) => Proof::Bad(trouble.text),
                Meaning::Refused(_)
                | Meaning::Unknown
                | Meaning::RateLimited { .. }
                | Meaning::Banned { .. }
                | Meaning::NotFound
                | Meaning::NoListenKey => Proof::Unclear(trouble.text),
            },
        })
    }

    fn judge(&self, account: &VenueAccount) -> Proof {
        let rights = Rights { can_trade: account.can_trade, can_withdraw: account.can_withdraw };
        if rights.can_withdraw && !self.may_withdraw {
            Proof::Bad("it may withdraw: whoever has it can empty the account".to_owned())
        } else if !rights.can_trade {
            Proof::Bad("it may not trade".to_owned())
        } else {
            Proof::Good(rights)
        }
    }

    async fn taken(&self, tools: &Tools, rights: Rights) -> anyhow::Result<()> {
        let was_refused = {
            let mut inner = self.lock();
            inner.proven_at = Some(clock::now());
            inner.rights = Some(rights);
            inner.refused.take().is_some()
        };
        if was_refused {
            tools.health.well("exchange key");
            // It ends the report; the breaker stays open until an operator closes it.
            conditions::report(&mut tools.venue.redis(), SERVICE, Cause::KeyRefused, "over", 0).await?;
            let detail = json!({"id": ALERT, "fingerprint": self.fingerprint()});
            self.tell(tools, EventType::AlertResolved, "the exchange takes the key", detail).await?;
        }
        Ok(())
    }

    async fn refused(&self, tools: &Tools, reason: String) -> anyhow::Result<()> {
        // First of all: nothing is approved from here on.
        tools.venue.report(Cause::KeyRefused, &reason, REFUSED_MS).await?;
        let (fingerprint, is_news) = {
            let mut inner = self.lock();
            let is_news = inner.refused.as_ref() != Some(&reason);
            inner.refused = Some(reason.clone());
            (inner.pair.api_key.fingerprint(), is_news)
        };
        tools.health.trouble("exchange key", format!("{fingerprint} is refused: {reason}"));
        if is_news {
            tracing::error!(fingerprint, reason, "the exchange refuses the key");
            self.record(tools, "KEY_REFUSED", json!({"fingerprint": fingerprint, "reason": reason})).await?;
            let detail = json!({"fingerprint": fingerprint, "is_in_use": true});
            self.tell(tools, EventType::KeyRejected, &reason, detail).await?;
            let detail = json!({"id": ALERT, "level": "critical", "fingerprint": fingerprint});
            self.tell(tools, EventType::AlertRaised, &format!("exchange key {fingerprint}: {reason}"), detail).await?;
        }
        Ok(())
    }

    /// Reads the files, and does what a change asks for.
    async fn look(&self, tools: &Tools) -> anyhow::Result<()> {
        let Some((first, second)) = self.files.clone() else { return Ok(()) };
        // Whoever replaces the files may hold them for a moment.
        let read = tokio::task::spawn_blocking(move || secret_pair::read(&first, &second)).await?;
        let (api_key, api_secret) = match read {
            Ok(pair) => pair,
            Err(fault) => {
                let text = fault.to_string();
                let mut inner = self.lock();
                if inner.files_fault.as_ref() != Some(&text) {
                    tracing::error!(text, "the files of the exchange key cannot be used; the pair in use stays");
                    inner.files_fault = Some(text);
                }
                return Ok(());
            }
        };
        let seen = KeyPair { api_key, api_secret };
        let step = {
            let mut inner = self.lock();
            inner.files_fault = None;
            let since = match &inner.seen {
                Some((before, since)) if before.is_same(&seen) => *since,
                Some(_) | None => Instant::now(),
            };
            inner.seen = Some((seen.clone(), since));
            let unchanged_ms = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
            let refused = inner.rejected.as_ref().map(|rejected| &rejected.pair);
            key_change::step(&inner.pair, refused, &seen, unchanged_ms)
        };
        match step {
            Step::Keep | Step::Wait | Step::Refused => Ok(()),
            Step::Prove => self.try_pair(tools, seen).await,
        }
    }

    async fn try_pair(&self, tools: &Tools, pair: KeyPair) -> anyhow::Result<()> {
        let credentials = Credentials::new(pair.api_key.clone(), &pair.api_secret);
        let candidate = match tools.venue.client.with(credentials) {
            Ok(candidate) => candidate,
            Err(problem) => return self.reject(tools, pair, problem.to_owned()).await,
        };
        match self.prove(tools, &candidate).await? {
            Proof::Good(rights) => self.take_over(tools, pair, &candidate, rights).await,
            Proof::Bad(reason) => self.reject(tools, pair, reason).await,
            Proof::Unclear(text) => {
                tracing::warn!(text, "a new exchange key could not be proven; it is tried again");
                Ok(())
            }
        }
    }

    async fn take_over(&self, tools: &Tools, pair: KeyPair, candidate: &Client, rights: Rights) -> anyhow::Result<()> {
        let (fingerprint, previous) = (pair.api_key.fingerprint(), self.fingerprint());
        let detail = json!({
            "secret": "MEXC_API_KEY", "fingerprint": fingerprint, "previous": previous,
            "can_trade": rights.can_trade, "can_withdraw": rights.can_withdraw,
        });
        self.record(tools, "KEY_ROTATED", detail.clone()).await?;
        let retired = tools.venue.client.take_over(candidate);
        // Whoever hears of the new key may revoke the old one: nothing that it signed is under way any more.
        let begun = Instant::now();
        while !retired.is_idle() && begun.elapsed() < RETIRE_MAX {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let generation = {
            let mut inner = self.lock();
            inner.pair = pair;
            inner.generation += 1;
            inner.in_use_since = clock::now();
            inner.rejected = None;
            inner.generation
        };
        tracing::info!(fingerprint, previous, generation, "another exchange key is in use");
        tools.venue.observer().key(&fingerprint, generation);
        self.taken(tools, rights).await?;
        self.tell(tools, EventType::KeyRotated, "another exchange key is in use", detail).await
    }

    async fn reject(&self, tools: &Tools, pair: KeyPair, reason: String) -> anyhow::Result<()> {
        let fingerprint = pair.api_key.fingerprint();
        tracing::error!(fingerprint, reason, "a new exchange key is not taken; the old one stays in use");
        let detail =
            json!({"secret": "MEXC_API_KEY", "fingerprint": fingerprint, "reason": reason, "is_in_use": false});
        self.record(tools, "KEY_REJECTED", detail.clone()).await?;
        self.tell(tools, EventType::KeyRejected, &reason, detail).await?;
        let detail = json!({"id": format!("exchange_key_rejected:{fingerprint}"), "level": "warning"});
        self.tell(tools, EventType::AlertRaised, &format!("new exchange key {fingerprint}: {reason}"), detail).await?;
        // Last, so that whoever sees it finds it on record.
        self.lock().rejected = Some(Rejected { pair, reason, at: clock::now() });
        Ok(())
    }

    async fn record(&self, tools: &Tools, event_type: &'static str, result: Value) -> anyhow::Result<()> {
        let entry = Entry { event_type, actor: None, order: None, result: Some(result) };
        tools.audit.record(entry).await?;
        Ok(())
    }

    async fn tell(&self, tools: &Tools, event_type: EventType, reason: &str, detail: Value) -> anyhow::Result<()> {
        let event = Event::by_service(event_type, SERVICE, reason, detail, clock::now());
        events::publish(&mut tools.venue.redis(), &event).await?;
        Ok(())
    }
}
