//! Every call to the exchange, within its rate budget. 429 and 418 stop all sending until the time the exchange names,
//! across restarts (`cdb:ban`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use cdb_core::breaker::Cause;
use cdb_core::event::{Event, EventType, SecurityKind};
use cdb_core::gate::Answer;
use cdb_core::ids::{OrderId, Symbol, TradeId};
use cdb_core::reason::VenueRefusal;
use cdb_core::time::Timestamp;
use cdb_io::bus::keys;
use cdb_io::{clock, conditions, events};
use cdb_mexc::answer::{Meaning, Trouble};
use cdb_mexc::client::{Client, Stamp, TRADES_MAX};
use cdb_mexc::clock::{ClockFault, ServerClock};
use cdb_mexc::endpoint::{Budgets, Endpoint, Priority};
use cdb_mexc::wire::VenueTrade;

use redis::AsyncCommands as _;
use serde_json::json;
use tokio::sync::Notify;

use crate::gatekeeper::{Gatekeeper, Settlement};
use crate::keyring::Keyring;
use crate::observe::Observer;

/// Longest wait for a rate slot of a call that is not an order.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(30);

/// A grant older than this is not used.
const GRANT_MAX: Duration = Duration::from_millis(500);
/// Pages of fills read at one time at most.
const PAGES_MAX: usize = 100;
/// How often the exchange's clock is measured.
const CLOCK_EVERY: Duration = Duration::from_secs(60);
/// Pause before a measurement that failed is repeated.
const CLOCK_AGAIN: Duration = Duration::from_secs(2);

/// How long a clock that cannot be relied on is reported after it was last found so, ms.
const CLOCK_TROUBLE_MS: i64 = 15_000;
/// Events of one kind are this far apart at least: a loop of refusals must not fill the stream.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Under which name conditions and events are published.
const SERVICE: &str = "cdb_execution";

/// The exchange, as one term sees it.
#[derive(Clone)]
pub struct Venue {
    /// The calls themselves.
    pub client: Client,
    /// The rate budgets.
    pub budgets: Budgets,
    gatekeeper: Gatekeeper,
    recv_window_ms: i64,
    clock: Arc<ServerClock>,
    /// Told when the exchange refused a request for its time.
    clock_refused: Arc<Notify>,
    /// When each kind of event was last told.
    told: Arc<Mutex<BTreeMap<EventType, Instant>>>,
    keyring: Keyring,
    observer: Observer,
}

impl Venue {
    /// Measures the exchange's clock and is ready.
    ///
    /// # Errors
    /// The exchange's clock cannot be read.
    pub async fn open(
        client: Client,
        budgets: Budgets,
        gatekeeper: Gatekeeper,
        recv_window_ms: i64,
        keyring: Keyring,
        observer: Observer,
    ) -> anyhow::Result<Self> {
        let (clock, clock_refused, told) = (Arc::default(), Arc::default(), Arc::default());
        let venue = Self { client, budgets, gatekeeper, recv_window_ms, clock, clock_refused, told, keyring, observer };
        venue.measure_clock().await?;
        Ok(venue)
    }

    /// Measures the exchange's clock again and again, and at once after a refusal for its sake.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn keep_clock(self) -> anyhow::Result<()> {
        let mut pause = CLOCK_EVERY;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.clock_refused.notified() => {}
            }
            pause = match self.measure_clock().await {
                Ok(()) => CLOCK_EVERY,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the exchange's clock could not be measured anew");
                    CLOCK_AGAIN
                }
            };
        }
    }

    /// Measures the exchange's clock anew.
    ///
    /// # Errors
    /// The exchange did not answer.
    pub async fn measure_clock(&self) -> anyhow::Result<()> {
        let mut before = clock::now();
        let answer = self
            .call(Endpoint::Time, Priority::Query, async |client, _| {
                // After the wait for a rate slot.
                before = clock::now();
                client.time().await.map(|time| (time, clock::now()))
            })
            .await?;
        let (exchange_ms, after) =
            answer.map_err(|trouble| anyhow::anyhow!("the exchange's clock: {}", trouble.text))?;
        let is_usable = self.clock.learn(before.millis(), after.millis(), exchange_ms, clock::monotonic_ms());
        self.observer.clock_offset_ms.set(self.clock.last_offset_ms().unwrap_or_default());
        if let Err(fault) = self.offset_ms() {
            self.report(Cause::ClockOffset, &fault.to_string(), CLOCK_TROUBLE_MS).await?;
            return Err(fault.into());
        }
        anyhow::ensure!(is_usable, "the exchange took too long to tell its time");
        Ok(())
    }

    /// Exchange clock minus ours, ms.
    ///
    /// # Errors
    /// It cannot be relied on: nothing may be signed.
    pub fn offset_ms(&self) -> Result<i64, ClockFault> {
        self.clock.offset_ms(clock::monotonic_ms())
    }

    /// The exchange's clock, as far as it is known.
    pub fn exchange_time(&self) -> Timestamp {
        clock::now().plus_ms(self.clock.last_offset_ms().unwrap_or_default())
    }

    /// Makes one call once the budget has room.
    ///
    /// # Errors
    /// Redis failed, or this process does not lead. What became of the call is inside; without a rate slot in time
    /// it was not made.
    pub async fn call<T>(
        &self,
        endpoint: Endpoint,
        priority: Priority,
        call: impl AsyncFnOnce(&Client, Stamp) -> Result<T, Trouble>,
    ) -> anyhow::Result<Result<T, Trouble>> {
        // Before a slot is taken for nothing.
        if endpoint.is_signed()
            && let Err(fault) = self.offset_ms()
        {
            return Ok(Err(Trouble { meaning: Meaning::Unknown, status: None, text: fault.to_string() }));
        }
        let mut nonce = uuid::Uuid::now_v7().simple().to_string();
        let budgets = endpoint.budgets(priority, &self.budgets);
        let deadline = Instant::now() + SLOT_WAIT_MAX;
        loop {
            let asked_at = Instant::now();
            match self.gatekeeper.ask(&nonce, &budgets, None).await? {
                Answer::Granted(_) if asked_at.elapsed() <= GRANT_MAX => break,
                // Paused meanwhile: the slot may be free by the time the request arrives.
                Answer::Granted(_) => nonce = uuid::Uuid::now_v7().simple().to_string(),
                Answer::Wait(ms) => {
                    let wait = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
                    if Instant::now() + wait > deadline {
                        let text = format!("no rate slot for {} within {SLOT_WAIT_MAX:?}", endpoint.name());
                        return Ok(Err(Trouble { meaning: Meaning::Unknown, status: None, text }));
                    }
                    tokio::time::sleep(wait).await;
                }
                Answer::Refused(refusal) => bail!("the gate refused {}: {refusal}", endpoint.name()),
                Answer::NotLeader => bail!("another instance sends"),
            }
        }
        let stamp = Stamp { timestamp_ms: self.exchange_time().millis(), recv_window_ms: self.recv_window_ms };
        let begun = Instant::now();
        let answer = call(&self.client, stamp).await;
        self.observer.answered(endpoint, begun.elapsed(), answer.as_ref().err());
        match &answer {
            Ok(_) if endpoint.is_signed() => self.keyring.used(),
            Ok(_) => {}
            Err(trouble) => self.heed(trouble).await?,
        }
        if is_answered(answer.as_ref().err()) {
            let slots = Some((nonce.as_str(), budgets.as_slice()));
            self.gatekeeper.settle(Settlement { slots, ..Settlement::default() }).await?;
        }
        Ok(answer)
    }

    /// Fills of a symbol, oldest first, read page by page backwards: of one order, and back to a time (epoch ms), where
    /// given, and whether these are all: of more than a page in one second the exchange shows no more. `None` when a page
    /// could not be read.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn trades(
        &self,
        symbol: &Symbol,
        order_id: Option<&OrderId>,
        since_ms: Option<i64>,
    ) -> anyhow::Result<Option<(Vec<VenueTrade>, bool)>> {
        let mut trades: BTreeMap<TradeId, VenueTrade> = BTreeMap::new();
        let (mut until_ms, mut is_whole) = (None, true);
        for _ in 0..PAGES_MAX {
            let page = async |client: &Client, stamp| client.trades(symbol, order_id, until_ms, stamp).await;
            let Ok(page) = self.call(Endpoint::MyTrades, Priority::Query, page).await? else { return Ok(None) };
            let (is_full, oldest) = (page.len() >= TRADES_MAX, page.iter().map(|trade| trade.time).min());
            let known = trades.len();
            trades.extend(page.into_iter().map(|trade| (trade.trade_id.clone(), trade)));
            let (true, Some(oldest)) = (is_full, oldest) else { break };
            if since_ms.is_some_and(|since_ms| oldest < since_ms) {
                break;
            }
            // Times are shown in whole seconds: the oldest second may go on in the next page.
            let end_of_second = oldest.saturating_sub(oldest.rem_euclid(1_000)).saturating_add(999);
            let is_stuck = trades.len() == known;
            is_whole &= !is_stuck;
            until_ms = Some(if is_stuck { end_of_second.saturating_sub(1_000) } else { end_of_second });
        }
        let is_wanted = |trade: &VenueTrade| since_ms.is_none_or(|since_ms| trade.time >= since_ms);
        let mut trades: Vec<VenueTrade> = trades.into_values().filter(is_wanted).collect();
        trades.sort_by(|one, other| (one.time, &one.trade_id).cmp(&(other.time, &other.trade_id)));
        Ok(Some((trades, is_whole)))
    }

    /// The connection for plain commands.
    pub fn redis(&self) -> redis::aio::ConnectionManager {
        self.gatekeeper.redis()
    }

    /// Metrics and logs.
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Counts the gate's answer for a new order.
    pub fn observe_gate(&self, answer: &Answer) {
        self.observer.gate(answer);
    }

    /// Counts the exchange's answer to a new order.
    pub fn observe_placed(&self, elapsed: Duration, trouble: Option<&Trouble>) {
        if trouble.is_none() {
            self.keyring.used();
        }
        self.observer.answered(Endpoint::NewOrder, elapsed, trouble);
        self.observer.sent(trouble);
    }

    /// Reports a condition that the breaker must heed.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn report(&self, cause: Cause, text: &str, lasts_ms: i64) -> anyhow::Result<()> {
        tracing::error!(cause = cause.code(), text, "the circuit breaker is to open");
        conditions::report(&mut self.gatekeeper.redis(), SERVICE, cause, text, lasts_ms).await?;
        Ok(())
    }

    /// Publishes what the exchange did, each kind at most once in [`TELL_EVERY`].
    async fn tell(&self, event_type: EventType, text: &str, detail: serde_json::Value) -> anyhow::Result<()> {
        let is_due = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = told.get(&event_type).is_none_or(|at| at.elapsed() > TELL_EVERY);
            if is_due {
                told.insert(event_type, Instant::now());
            }
            is_due
        };
        if is_due {
            let event = Event::by_service(event_type, SERVICE, text, detail, clock::now());
            events::publish(&mut self.gatekeeper.redis(), &event).await?;
        }
        Ok(())
    }

    /// Does what trouble asks for: stops all sending until the time the exchange names, or measures its clock.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn heed(&self, trouble: &Trouble) -> anyhow::Result<()> {
        let (wait_s, is_ban) = match trouble.meaning {
            Meaning::RateLimited { wait_s } => (wait_s, false),
            Meaning::Banned { wait_s } => (wait_s, true),
            Meaning::Refused(VenueRefusal::Auth) => {
                self.keyring.doubt();
                self.observer.security(SecurityKind::ExchangeAuth);
                let detail = json!({"kind": "exchange_auth"});
                return self.tell(EventType::Security, &trouble.text, detail).await;
            }
            Meaning::Refused(VenueRefusal::Clock) => {
                self.clock_refused.notify_one();
                return Ok(());
            }
            Meaning::Refused(_) | Meaning::Unknown | Meaning::NotFound | Meaning::NoListenKey => return Ok(()),
        };
        self.observer.rate_limited(wait_s, is_ban);
        let wait_ms = i64::try_from(wait_s).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
        let event_type = if is_ban { EventType::Banned } else { EventType::RateLimited };
        self.tell(event_type, &trouble.text, json!({"wait_s": wait_s})).await?;
        if is_ban {
            self.report(Cause::ExchangeBan, &trouble.text, wait_ms).await?;
        }
        let mut redis = self.gatekeeper.redis();
        let held: Option<i64> = redis.get(keys::BAN).await?;
        // A short wait asked for during a long ban does not end the ban.
        let until = clock::now().plus_ms(wait_ms).millis().max(held.unwrap_or(0));
        let lasts_ms = until.saturating_sub(clock::now().millis()).max(1);
        let () = redis
            .set_options(
                keys::BAN,
                until,
                redis::SetOptions::default()
                    .with_expiration(redis::SetExpiry::PX(u64::try_from(lasts_ms).unwrap_or(1))),
            )
            .await?;
        Ok(())
    }
}

/// Whether the exchange answered at all: only then is a slot freed early.
pub fn is_answered(trouble: Option<&Trouble>) -> bool {
    trouble.is_none_or(|trouble| trouble.status.is_some())
}
