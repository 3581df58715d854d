//! Comparison with the exchange: an order or fill on the account that cdb did not cause is a finding, which opens the
//! breaker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cdb_core::command::WIRE_VERSION;
use cdb_core::ids::{ClOrdId, OrderId, Symbol};
use cdb_core::report::{Finding, FindingKind, Source};
use cdb_core::time::Timestamp;
use cdb_io::bus::keys;
use cdb_io::clock;
use cdb_mexc::answer::Meaning;
use cdb_mexc::client::Client;
use cdb_mexc::endpoint::{Endpoint, Priority};
use cdb_mexc::push::VenueDeal;
use cdb_mexc::wire::{VenueOrder, VenueTrade};
use redis::AsyncCommands as _;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;

use crate::book::{Along, Book};
use crate::tracker::booked;
use crate::venue::Venue;

/// Length of a round.
const TICK: Duration = Duration::from_secs(1);
/// Rounds between two comparisons of orders.
const ORDERS_EVERY: u64 = 5;
/// Rounds between two comparisons of fills.
const FILLS_EVERY: u64 = 60;
/// Fills older than a day are compared no more, ms.
const DAY_MS: i64 = 24 * 3_600_000;
/// A fill this old that nobody told of is a finding, ms; younger ones are on their way.
const LATE_MS: i64 = 10_000;

/// What an earlier term knows: since when this cell trades, and which orders were found before.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Time of the first audit record, RFC 3339.
    pub born_at: Arc<str>,
    /// Exchange ids of orders that were reported as not ours.
    pub found: Arc<Mutex<BTreeSet<String>>>,
}

/// What is on the account and not ours: reported once each.
#[derive(Clone)]
pub struct Strangers {
    book: Book,
    known: Known,
}

impl Strangers {
    /// With what an earlier term knows.
    pub const fn new(book: Book, known: Known) -> Self {
        Self { book, known }
    }

    /// Meets an order; one that cdb did not send is a finding.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn order(&self, order: VenueOrder) -> anyhow::Result<()> {
        let created_at = Timestamp::from_millis(order.created_at);
        if self.is_ours(order.cl_ord_id.as_deref(), &order.order_id).await || !self.is_of_this_cell(created_at) {
            return Ok(());
        }
        tracing::error!(order_id = %order.order_id, symbol = %order.symbol, "an order that cdb did not send");
        let theirs = format!("{:?}, executed {}", order.status, order.executed_qty);
        let text = "an order on the account that cdb did not send: is the key known to somebody else?";
        self.report(FindingKind::ForeignOrder, order.symbol, &order.order_id, None, theirs, text).await
    }

    /// Meets a fill of an order that is not in the book; one that cdb did not cause is a finding.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn deal(&self, deal: VenueDeal) -> anyhow::Result<()> {
        let VenueDeal { symbol, cl_ord_id, trade } = deal;
        if !self.is_of_this_cell(Timestamp::from_millis(trade.time)) {
            return Ok(());
        }
        let theirs = format!("{} at {}", trade.qty, trade.price);
        let trade_id = Some(trade.trade_id.to_string());
        if self.is_ours(cl_ord_id.as_deref(), &trade.order_id).await {
            // Its order ended too long ago to be in the book.
            let text = "a fill of an order of ours that had ended long before: it is in no book";
            tracing::error!(order_id = %trade.order_id, %symbol, text);
            return self.report(FindingKind::MissedFill, symbol, &trade.order_id, trade_id, theirs, text).await;
        }
        let text = "a fill on the account that cdb did not cause: is the key known to somebody else?";
        tracing::error!(order_id = %trade.order_id, %symbol, text);
        self.report(FindingKind::ForeignTrade, symbol, &trade.order_id, trade_id, theirs, text).await
    }

    /// Whether an order was met before.
    fn is_known(&self, order_id: &OrderId) -> bool {
        self.known.found.lock().unwrap_or_else(PoisonError::into_inner).contains(order_id.as_str())
    }

    /// Remembers that an order was met.
    fn remember(&self, order_id: &OrderId) {
        self.known.found.lock().unwrap_or_else(PoisonError::into_inner).insert(order_id.to_string());
    }

    /// Whether cdb sent it: under this id of ours, and the exchange has no other order of that id.
    async fn is_ours(&self, cl_ord_id: Option<&str>, order_id: &OrderId) -> bool {
        if self.book.find_by_order_id(order_id).is_some() {
            return true;
        }
        let Some(id) = cl_ord_id.and_then(ClOrdId::parse).filter(|id| self.book.was_submitted(id)) else {
            return false;
        };
        match self.book.find_even_ended(&id) {
            Some(tracked) => tracked.order.lock().await.order_id.as_ref().is_none_or(|known| known == order_id),
            None => true,
        }
    }

    /// Orders from before this cell's first audit record are nobody's business here.
    fn is_of_this_cell(&self, at: Timestamp) -> bool {
        at.to_rfc3339().as_str() >= &*self.known.born_at
    }

    async fn report(
        &self,
        kind: FindingKind,
        symbol: Symbol,
        order_id: &OrderId,
        trade_id: Option<String>,
        theirs: String,
        text: &str,
    ) -> anyhow::Result<()> {
        // One finding for an order, and one for each of its fills that no book has.
        let name = match (kind, &trade_id) {
            (FindingKind::MissedFill, Some(trade_id)) => trade_id.clone(),
            _ => order_id.to_string(),
        };
        if !self.known.found.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            return Ok(());
        }
        let finding = Finding {
            v: WIRE_VERSION,
            kind,
            symbol: Some(symbol),
            order_id: Some(order_id.to_string()),
            trade_id,
            ours: None,
            theirs: Some(theirs),
            text: text.to_owned(),
            ts: clock::now(),
        };
        self.book.publish_finding(finding).await
    }
}

/// Compares for as long as the term lasts.
pub struct Reconciler {
    symbols: BTreeSet<Symbol>,
    book: Book,
    venue: Venue,
    strangers: Strangers,
    /// Fills from here on are compared, epoch ms, a whole second: 24 hours, or the cell's life when that is shorter.
    since_ms: i64,
    /// The last command to compare that was carried out.
    asked: Option<String>,
}

/// What was compared on one symbol, and what the exchange says of it.
#[derive(Debug, Default, Serialize)]
struct Compared {
    orders: usize,
    /// Whether the exchange showed every fill.
    is_whole: bool,
    fills: usize,
    bought: Decimal,
    sold: Decimal,
    fees: BTreeMap<String, Decimal>,
}

impl Reconciler {
    /// A comparison of these symbols.
    pub fn new(symbols: BTreeSet<Symbol>, book: Book, venue: Venue, strangers: Strangers) -> Self {
        let born_at = Timestamp::parse_rfc3339(&strangers.known.born_at).unwrap_or_else(clock::now);
        let since_ms = born_at.max(clock::now().plus_ms(-DAY_MS)).millis();
        Self { symbols, book, venue, strangers, since_ms: since_ms - since_ms.rem_euclid(1_000), asked: None }
    }

    /// Orders every few seconds, fills every minute, everything when it is asked for.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut redis = self.book.gatekeeper().redis();
        let mut rounds = tokio::time::interval(TICK);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 0_u64.. {
            rounds.tick().await;
            let command: Option<String> = redis.get(keys::RECONCILE_COMMAND).await?;
            let is_asked = command != self.asked && command.is_some();
            let (with_orders, with_fills) =
                (is_asked || round.is_multiple_of(ORDERS_EVERY), is_asked || round.is_multiple_of(FILLS_EVERY));
            let mut compared = BTreeMap::new();
            for symbol in self.symbols.clone() {
                let orders = if with_orders { self.orders(&symbol).await? } else { Some(0) };
                let fills = if with_fills { self.fills(&symbol).await? } else { Some(Compared::default()) };
                if let (Some(orders), Some(fills)) = (orders, fills) {
                    compared.insert(symbol, Compared { orders, ..fills });
                }
            }
            if with_fills && compared.len() == self.symbols.len() {
                self.venue.observer().reconciled();
            }
            // Without an answer of the exchange for every symbol the command stands.
            if is_asked && compared.len() == self.symbols.len() {
                let result = json!({"id": command, "since_ms": self.since_ms, "ts": clock::now(), "symbols": compared});
                let () = redis.set(keys::RECONCILE, result.to_string()).await?;
                self.asked = command;
            }
        }
        Ok(())
    }

    /// Orders of one symbol; how many, or `None` when the exchange did not say.
    async fn orders(&self, symbol: &Symbol) -> anyhow::Result<Option<usize>> {
        let open = async |client: &Client, stamp| client.open_orders(symbol, stamp).await;
        let all = async |client: &Client, stamp| client.all_orders(symbol, stamp).await;
        let open = self.venue.call(Endpoint::OpenOrders, Priority::Poll, open).await?;
        let all = self.venue.call(Endpoint::AllOrders, Priority::Poll, all).await?;
        let count = all.as_ref().ok().map(|all| all.orders.len());
        for order in open.into_iter().chain(all).flat_map(|list| list.orders) {
            self.strangers.order(order).await?;
        }
        Ok(count)
    }

    /// Fills of one symbol: those of our orders are booked, once, those of others are findings.
    async fn fills(&self, symbol: &Symbol) -> anyhow::Result<Option<Compared>> {
        let Some((trades, is_whole)) = self.venue.trades(symbol, None, Some(self.since_ms)).await? else {
            return Ok(None);
        };
        let mut compared = Compared { is_whole, ..Compared::default() };
        for trade in trades {
            compared.fills += 1;
            let side = if trade.is_buyer { &mut compared.bought } else { &mut compared.sold };
            *side = side.saturating_add(trade.qty.decimal());
            let fee = compared.fees.entry(trade.commission_asset.to_string()).or_default();
            *fee = fee.saturating_add(trade.commission.decimal());
            self.fill(symbol, trade).await?;
        }
        Ok(Some(compared))
    }

    async fn fill(&self, symbol: &Symbol, trade: VenueTrade) -> anyhow::Result<()> {
        let Some(tracked) = self.book.find_by_order_id(&trade.order_id) else {
            return self.fill_of_unknown(symbol, trade).await;
        };
        let at = Timestamp::from_millis(trade.time);
        let is_late = clock::now().since_ms(at) > LATE_MS;
        let order_id = trade.order_id.clone();
        let observation = booked(trade);
        let report = self.book.learn(&tracked, observation, Source::Reconcile, at, Along::default()).await?;
        self.book.end_if_complete(&tracked, Source::Reconcile).await?;
        let Some(fill) = report.filter(|_| is_late).and_then(|report| report.fill) else { return Ok(()) };
        tracing::error!(cl_ord_id = %tracked.id, trade_id = %fill.trade_id, "a fill that nobody had told of is booked now");
        let text = "a fill of an order of ours that nobody had told of; it is booked now";
        let theirs = format!("{} at {}", fill.last_qty, fill.last_px);
        let trade_id = Some(fill.trade_id.to_string());
        self.strangers.report(FindingKind::MissedFill, symbol.clone(), &order_id, trade_id, theirs, text).await
    }

    /// A fill of an order that is not in the book: ours that ended long ago, or not ours.
    async fn fill_of_unknown(&self, symbol: &Symbol, trade: VenueTrade) -> anyhow::Result<()> {
        if self.strangers.is_known(&trade.order_id) {
            return Ok(());
        }
        let order_id = &trade.order_id;
        let query = async |client: &Client, stamp| client.query_by_order_id(symbol, order_id, stamp).await;
        match self.venue.call(Endpoint::QueryOrder, Priority::Poll, query).await? {
            Ok(order) => {
                let is_ours = self.strangers.is_ours(order.cl_ord_id.as_deref(), &order.order_id).await;
                if !is_ours {
                    return self.strangers.order(order).await;
                }
                self.strangers.remember(order_id);
                Ok(())
            }
            Err(trouble) if trouble.meaning == Meaning::NotFound => {
                let deal = VenueDeal { symbol: symbol.clone(), cl_ord_id: None, trade };
                self.strangers.deal(deal).await
            }
            Err(_) => Ok(()),
        }
    }
}
