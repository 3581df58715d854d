//! What became of open orders: told by the user stream, and asked for where it says nothing: at once after an answer
//! and for all of them again and again. A state says only how much was executed; fills are booked one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cdb_core::command::WIRE_VERSION;
use cdb_core::ids::{ClOrdId, OrderId, Symbol};
use cdb_core::lifecycle::Observation;
use cdb_core::report::{Fill, Finding, FindingKind, Source};
use cdb_core::time::Timestamp;
use cdb_io::clock;
use cdb_mexc::answer::Meaning;
use cdb_mexc::client::Client;
use cdb_mexc::endpoint::{Endpoint, Priority};
use cdb_mexc::wire::{VenueOrder, VenueTrade};
use tokio::sync::Notify;

use crate::book::{Along, Book, Tracked};
use crate::leading::Crew;
use crate::streams::Live;
use crate::venue::Venue;

/// How often all open orders are looked at.
const SWEEP: Duration = Duration::from_millis(1_000);
/// Rounds between two looks while the user stream is open.
const SWEEP_EVERY: u64 = 5;
/// How long the user stream has to tell of an order or of its fills before it is asked for.
const STREAM_GRACE: Duration = Duration::from_millis(500);
/// An acknowledged order that is not there for this long is missing.
const MISSING_AFTER: Duration = Duration::from_secs(30);
/// Looks at an order right after its answer before the sweep takes over.
const EARLY_LOOKS: u32 = 4;
/// Pause before the second early look; doubles.
const EARLY_PAUSE: Duration = Duration::from_millis(100);

/// The tracker of one term.
#[derive(Clone)]
pub struct Tracker {
    book: Book,
    venue: Venue,
    crew: Crew,
    poked: Arc<Poked>,
    live: Live,
}

#[derive(Default)]
struct Poked {
    ids: Mutex<BTreeSet<ClOrdId>>,
    told: Notify,
}

impl Tracker {
    /// A tracker.
    pub fn new(book: Book, venue: Venue, crew: Crew, live: Live) -> Self {
        Self { book, venue, crew, poked: Arc::default(), live }
    }

    /// Asks for a look at an order soon.
    pub fn poke(&self, id: &ClOrdId) {
        self.poked.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        self.poked.told.notify_one();
    }

    /// Looks at orders for as long as the term lasts.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut round = 0_u64;
        loop {
            tokio::select! {
                _ = sweep.tick() => {
                    round = round.wrapping_add(1);
                    if !self.live.is_up() || round.is_multiple_of(SWEEP_EVERY) {
                        self.sweep().await?;
                    }
                    self.book.put_settled_aside().await;
                }
                () = self.poked.told.notified() => {
                    let poked = std::mem::take(&mut *self.poked.ids.lock().unwrap_or_else(PoisonError::into_inner));
                    for id in poked {
                        let tracker = self.clone();
                        self.crew.spawn("look", async move { tracker.look_early(&id).await });
                    }
                }
            }
        }
    }

    /// Looks at an order if its fills do not come by themselves.
    pub fn look_later(&self, id: &ClOrdId) {
        let (tracker, id) = (self.clone(), id.clone());
        self.crew.spawn("look", async move {
            tokio::time::sleep(STREAM_GRACE).await;
            tracker.look(&id).await.map(|_| ())
        });
    }

    /// Whether the user stream tells of an order soon.
    async fn is_told(&self, id: &ClOrdId) -> bool {
        let Some(tracked) = self.book.find(id) else { return true };
        let is_heard_of = || tracked.is_heard_of.load(Ordering::Relaxed);
        let told = async {
            while !is_heard_of() {
                let changed = tracked.changed.notified();
                if !is_heard_of() {
                    changed.await;
                }
            }
        };
        self.live.is_up() && tokio::time::timeout(STREAM_GRACE, told).await.is_ok()
    }

    /// Looks until the order is visible, unless the stream tells of it; right after a create, "does not exist" means nothing.
    async fn look_early(&self, id: &ClOrdId) -> anyhow::Result<()> {
        if self.is_told(id).await {
            return Ok(());
        }
        let mut pause = EARLY_PAUSE;
        for _ in 0..EARLY_LOOKS {
            if self.look(id).await? {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    /// Asks the exchange for one order; whether it answered with it.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn look(&self, id: &ClOrdId) -> anyhow::Result<bool> {
        let Some(tracked) = self.book.find(id) else { return Ok(true) };
        if tracked.order.lock().await.is_settled() {
            return Ok(true);
        }
        let query = async |client: &Client, stamp| client.query(&tracked.symbol, id, stamp).await;
        let answer = self.venue.call(Endpoint::QueryOrder, Priority::Query, query).await?;
        match answer {
            Ok(found) => {
                *tracked.missing_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.take(&tracked, found).await?;
                Ok(true)
            }
            Err(trouble) => {
                if trouble.meaning == Meaning::NotFound {
                    self.miss(&tracked).await?;
                } else {
                    tracing::warn!(cl_ord_id = %id, text = trouble.text, "an order could not be looked at");
                }
                Ok(false)
            }
        }
    }

    /// The exchange says that an order is not there. One that it had acknowledged, for this long: a finding.
    async fn miss(&self, tracked: &Tracked) -> anyhow::Result<()> {
        let Some(order_id) = tracked.order.lock().await.order_id.clone() else { return Ok(()) };
        {
            let mut since = tracked.missing_since.lock().unwrap_or_else(PoisonError::into_inner);
            let is_gone = since.get_or_insert_with(Instant::now).elapsed() > MISSING_AFTER;
            if !is_gone || tracked.is_reported_missing.swap(true, Ordering::Relaxed) {
                return Ok(());
            }
        }
        tracing::error!(cl_ord_id = %tracked.id, %order_id, "an order of ours that the exchange had is not there any more");
        let finding = Finding {
            v: WIRE_VERSION,
            kind: FindingKind::OrderMissing,
            symbol: Some(tracked.symbol.clone()),
            order_id: Some(order_id.to_string()),
            trade_id: None,
            ours: Some(tracked.id.to_string()),
            theirs: None,
            text: "the exchange had this order and says for some time that it does not exist".to_owned(),
            ts: clock::now(),
        };
        self.book.publish_finding(finding).await
    }

    /// Looks at every order that is at the exchange: one list a symbol, then one by one those that are not in it.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn sweep(&self) -> anyhow::Result<()> {
        let mut by_symbol: BTreeMap<Symbol, Vec<(OrderId, Arc<Tracked>)>> = BTreeMap::new();
        for tracked in self.book.all() {
            let order = tracked.order.lock().await;
            if let (false, Some(order_id)) = (order.is_settled(), order.order_id.clone()) {
                drop(order);
                by_symbol.entry(tracked.symbol.clone()).or_default().push((order_id, tracked));
            }
        }
        for (symbol, orders) in by_symbol {
            let answer = self
                .venue
                .call(Endpoint::OpenOrders, Priority::Query, async |client, stamp| {
                    client.open_orders(&symbol, stamp).await
                })
                .await?;
            let Ok(open) = answer else { continue };
            let mut open: BTreeMap<OrderId, VenueOrder> =
                open.orders.into_iter().map(|order| (order.order_id.clone(), order)).collect();
            for (order_id, tracked) in orders {
                match open.remove(&order_id) {
                    Some(found) => self.take(&tracked, found).await?,
                    None => {
                        self.look(&tracked.id).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Books what the exchange says about an order, its fills first asked for when it names more than is booked.
    async fn take(&self, tracked: &Tracked, found: VenueOrder) -> anyhow::Result<()> {
        let at = self.venue.exchange_time();
        let (order_id, executed_qty) = (found.order_id.clone(), found.executed_qty);
        let observation =
            Observation::Found { order_id: found.order_id, status: found.status, executed_qty: found.executed_qty };
        self.book.learn(tracked, observation, Source::Rest, at, Along::default()).await?;
        let is_short = executed_qty > tracked.order.lock().await.cum_qty;
        if is_short {
            let was_up = self.live.is_up();
            let trades = self.venue.trades(&tracked.symbol, Some(&order_id), None).await?;
            for trade in trades.map(|(trades, _)| trades).unwrap_or_default() {
                let at = Timestamp::from_millis(trade.time);
                let report = self.book.learn(tracked, booked(trade), Source::Rest, at, Along::default()).await?;
                if was_up && report.is_some() {
                    self.venue.observer().stream_missed.inc();
                }
            }
        }
        self.book.end_if_complete(tracked, Source::Rest).await
    }
}

/// A fill as the book takes it.
pub fn booked(trade: VenueTrade) -> Observation {
    let fill = Fill {
        last_qty: trade.qty,
        last_px: trade.price,
        trade_id: trade.trade_id,
        commission: trade.commission,
        commission_asset: trade.commission_asset,
        is_maker: trade.is_maker,
    };
    Observation::Traded { order_id: trade.order_id, fill }
}
