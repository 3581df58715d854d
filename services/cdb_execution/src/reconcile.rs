//! Comparison with the exchange: an order on the account that cdb did not send is a finding, which opens the breaker.
//! Orders from before this cell's first audit record are nobody's business here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cdb_core::command::WIRE_VERSION;
use cdb_core::ids::ClOrdId;
use cdb_core::report::{Execution, Finding, FindingKind};
use cdb_core::time::Timestamp;
use cdb_io::clock;
use cdb_mexc::endpoint::{Endpoint, Priority};
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

/// Compares for as long as the term lasts.
///
/// # Errors
/// Redis failed.
pub async fn run(config: Config, book: Book, venue: Venue, known: Known) -> anyhow::Result<()> {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        for symbol in &config.symbols {
            let open = async |client: &cdb_mexc::client::Client, stamp| client.open_orders(symbol, stamp).await;
            let all = async |client: &cdb_mexc::client::Client, stamp| client.all_orders(symbol, stamp).await;
            let open = venue.call(Endpoint::OpenOrders, Priority::Poll, open).await?;
            let all = venue.call(Endpoint::AllOrders, Priority::Poll, all).await?;
            let lists = open.into_iter().chain(all);
            for order in lists.flat_map(|list| list.orders).filter(|order| is_foreign(&book, &known, order)) {
                report(&book, &known, order).await?;
            }
        }
    }
}

fn is_foreign(book: &Book, known: &Known, order: &VenueOrder) -> bool {
    let is_ours = order.cl_ord_id.as_deref().and_then(ClOrdId::parse).is_some_and(|id| book.was_submitted(&id));
    let is_of_this_cell = Timestamp::from_millis(order.created_at).to_rfc3339().as_str() >= &*known.born_at;
    !is_ours && is_of_this_cell
}

async fn report(book: &Book, known: &Known, order: VenueOrder) -> anyhow::Result<()> {
    let order_id = order.order_id.to_string();
    if !known.found.lock().unwrap_or_else(PoisonError::into_inner).insert(order_id.clone()) {
        return Ok(());
    }
    tracing::error!(order_id, symbol = %order.symbol, "an order on the account that cdb did not send");
    let finding = Finding {
        v: WIRE_VERSION,
        kind: FindingKind::ForeignOrder,
        symbol: Some(order.symbol),
        order_id: Some(order_id),
        trade_id: None,
        ours: None,
        theirs: Some(format!("{:?}, executed {}", order.status, order.executed_qty)),
        text: "an order on the account that cdb did not send: is the key known to somebody else?".to_owned(),
        ts: clock::now(),
    };
    book.record_finding(&finding).await?;
    book.gatekeeper().publish(vec![Execution::Finding(finding).to_json()]).await
}
