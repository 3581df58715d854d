//! Every call to the exchange, within its rate budget. 429 and 418 stop all sending until the time the exchange names,
//! across restarts (`cdb:ban`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use cdb_core::gate::Answer;
use cdb_core::time::Timestamp;
use cdb_io::bus::keys;
use cdb_io::clock;
use cdb_mexc::answer::{Meaning, Trouble};
use cdb_mexc::client::{Client, Stamp};
use cdb_mexc::endpoint::{Budgets, Endpoint, Priority};

use redis::AsyncCommands as _;

use crate::gatekeeper::{Gatekeeper, Settlement};
use crate::observe::Observer;

/// Longest wait for a rate slot of a call that is not an order.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(30);

/// The exchange, as one term sees it.
#[derive(Clone)]
pub struct Venue {
    /// The calls themselves.
    pub client: Client,
    /// The rate budgets.
    pub budgets: Budgets,
    gatekeeper: Gatekeeper,
    recv_window_ms: i64,
    /// Exchange clock minus ours, ms.
    offset_ms: Arc<AtomicI64>,
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
        observer: Observer,
    ) -> anyhow::Result<Self> {
        let offset_ms = Arc::new(AtomicI64::new(0));
        let venue = Self { client, budgets, gatekeeper, recv_window_ms, offset_ms, observer };
        venue.measure_clock().await?;
        Ok(venue)
    }

    /// Measures the exchange's clock anew.
    ///
    /// # Errors
    /// The exchange did not answer.
    pub async fn measure_clock(&self) -> anyhow::Result<()> {
        let before = clock::now();
        let answer = self.call(Endpoint::Time, Priority::Query, async |client, _| client.time().await).await?;
        let after = clock::now();
        let exchange_ms = answer.map_err(|trouble| anyhow::anyhow!("the exchange's clock: {}", trouble.text))?;
        let ours_ms = before.millis() + after.since_ms(before) / 2;
        self.offset_ms.store(exchange_ms - ours_ms, Ordering::Relaxed);
        self.observer.clock_offset_ms.set(exchange_ms - ours_ms);
        Ok(())
    }

    /// Exchange clock minus ours, ms.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// The exchange's clock.
    pub fn exchange_time(&self) -> Timestamp {
        clock::now().plus_ms(self.offset_ms())
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
        let nonce = uuid::Uuid::now_v7().simple().to_string();
        let budgets = endpoint.budgets(priority, &self.budgets);
        let deadline = Instant::now() + SLOT_WAIT_MAX;
        loop {
            match self.gatekeeper.ask(&nonce, &budgets, None).await? {
                Answer::Granted(_) => break,
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
        if let Err(trouble) = &answer {
            self.heed(trouble).await?;
        }
        if is_answered(answer.as_ref().err()) {
            let slots = Some((nonce.as_str(), budgets.as_slice()));
            self.gatekeeper.settle(Settlement { slots, ..Settlement::default() }).await?;
        }
        Ok(answer)
    }

    /// Counts the gate's answer for a new order.
    pub fn observe_gate(&self, answer: &Answer) {
        self.observer.gate(answer);
    }

    /// Counts the exchange's answer to a new order.
    pub fn observe_placed(&self, elapsed: Duration, trouble: Option<&Trouble>) {
        self.observer.answered(Endpoint::NewOrder, elapsed, trouble);
    }

    /// Stops all sending until the time the exchange names.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn heed(&self, trouble: &Trouble) -> anyhow::Result<()> {
        let (wait_s, is_ban) = match trouble.meaning {
            Meaning::RateLimited { wait_s } => (wait_s, false),
            Meaning::Banned { wait_s } => (wait_s, true),
            Meaning::Refused(_) | Meaning::Unknown | Meaning::NotFound => return Ok(()),
        };
        self.observer.rate_limited(wait_s, is_ban);
        let wait_ms = i64::try_from(wait_s).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
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
