//! Comparison with the exchange: an order or fill on the account that cdb did not cause is a finding, which opens the
//! breaker.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cdb_core::command::WIRE_VERSION;
use cdb_core::ids::{ClOrdId, OrderId, Symbol};
use cdb_core::report::{Execution, Finding, FindingKind};
use cdb_core::time::Timestamp;
use cdb_io::clock;
use cdb_mexc::endpoint::{Endpoint, Priority};
use cdb_mexc::push::VenueDeal;
use cdb_mexc::wire::VenueOrder;

use crate::book::Book;
use crate::config::Config;
use crate::venue::Venue;

/// How often the lists are compared.
const EVERY: Duration = Duration::from_secs(5);

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
        self.book.record_finding(&finding).await?;
        self.book.gatekeeper().publish(vec![Execution::Finding(finding).to_json()]).await
    }
}

/// Compares for as long as the term lasts.
///
/// # Errors
/// Redis failed.
pub async fn run(config: Config, venue: Venue, strangers: Strangers) -> anyhow::Result<()> {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        for symbol in &config.symbols {
            let open = async |client: &cdb_mexc::client::Client, stamp| client.open_orders(symbol, stamp).await;
            let all = async |client: &cdb_mexc::client::Client, stamp| client.all_orders(symbol, stamp).await;
            let open = venue.call(Endpoint::OpenOrders, Priority::Poll, open).await?;
            let all = venue.call(Endpoint::AllOrders, Priority::Poll, all).await?;
            for order in open.into_iter().chain(all).flat_map(|list| list.orders) {
                strangers.order(order).await?;
            }
        }
    }
}
