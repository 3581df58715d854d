//! While everything is stopped, open orders are cancelled (`EMERGENCY_STOP_ACTION=cancel`): one symbol a call, again and
//! again, until a later list of open orders is empty and nothing is in flight or in doubt. While the breaker is open,
//! open buys are cancelled where the owner wants that (`CIRCUIT_OPEN_ACTION=cancel`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cdb_core::event::{Event, EventType};
use cdb_core::ids::{ClOrdId, Symbol};
use cdb_core::limits::CircuitOpenAction;
use cdb_core::order::Side;
use cdb_io::bus::keys;
use cdb_io::{clock, events};
use cdb_mexc::endpoint::{Endpoint, Priority};
use redis::AsyncCommands as _;
use serde_json::json;

use crate::book::Book;
use crate::canceler::Canceler;
use crate::config::{Config, StopAction};
use crate::sender::Sender;
use crate::tracker::Tracker;
use crate::venue::Venue;

/// How often the stop is looked for.
const WATCH: Duration = Duration::from_millis(200);
/// Pause between two rounds of cancels.
const AGAIN: Duration = Duration::from_millis(500);

/// Watches for as long as the term lasts.
///
/// # Errors
/// Redis or the audit trail failed.
pub async fn run(config: Config, book: Book, venue: Venue, tracker: Tracker, sender: Sender) -> anyhow::Result<()> {
    if config.stop_action == StopAction::Halt {
        return std::future::pending().await;
    }
    let mut redis = book.gatekeeper().redis();
    loop {
        tokio::time::sleep(WATCH).await;
        let is_stopped: bool = redis.exists(keys::STOP).await?;
        if !is_stopped || book.open_ids(|_| true).is_empty() {
            continue;
        }
        let begun = Instant::now();
        let mut rounds = 0_u32;
        while redis.exists(keys::STOP).await? && !round(&config, &book, &venue, &tracker, &sender).await? {
            rounds = rounds.saturating_add(1);
            tokio::time::sleep(AGAIN).await;
        }
        let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(elapsed_ms, rounds, "open orders were cancelled because of the stop");
        let detail = json!({"elapsed_ms": elapsed_ms, "rounds": rounds});
        let service = config.service.service;
        let event = Event::by_service(EventType::StopSeen, service, "open orders cancelled", detail, clock::now());
        events::publish(&mut redis, &event).await?;
    }
}

/// Cancels everything once; whether nothing is left.
async fn round(
    config: &Config,
    book: &Book,
    venue: &Venue,
    tracker: &Tracker,
    sender: &Sender,
) -> anyhow::Result<bool> {
    let symbols: BTreeSet<Symbol> = config.symbols.iter().cloned().chain(book.symbols()).collect();
    for symbol in &symbols {
        let cancel = async |client: &cdb_mexc::client::Client, stamp| client.cancel_open_orders(symbol, stamp).await;
        if let Err(trouble) = venue.call(Endpoint::CancelOpenOrders, Priority::Cancel, cancel).await? {
            tracing::error!(%symbol, text = trouble.text, "open orders could not be cancelled; trying again");
        }
    }
    tracker.sweep().await?;
    let mut is_empty = true;
    for symbol in &symbols {
        let list = async |client: &cdb_mexc::client::Client, stamp| client.open_orders(symbol, stamp).await;
        let open = venue.call(Endpoint::OpenOrders, Priority::Cancel, list).await?;
        is_empty &= open.is_ok_and(|open| open.orders.is_empty() && !open.is_partial);
    }
    Ok(is_empty && sender.is_idle() && !sender.is_in_doubt() && book.open_ids(|_| true).is_empty())
}

/// Cancels open buys once for each opening of the breaker, for as long as the term lasts.
///
/// # Errors
/// Redis or the audit trail failed.
pub async fn watch_breaker(config: Config, book: Book, canceler: Canceler) -> anyhow::Result<()> {
    if config.circuit_open_action == CircuitOpenAction::Hold {
        return std::future::pending().await;
    }
    let mut redis = book.gatekeeper().redis();
    let mut asked = BTreeSet::new();
    loop {
        tokio::time::sleep(WATCH).await;
        let state: Option<String> = redis.hget(keys::BREAKER, "state").await?;
        if state.as_deref() != Some("open") {
            asked.clear();
            continue;
        }
        for id in book.open_ids(|tracked| tracked.side == Side::Buy) {
            if asked.insert(id.clone()) {
                tracing::warn!(cl_ord_id = %id, "an open buy is cancelled because the circuit breaker is open");
                let cancel = ClOrdId::parse(&uuid::Uuid::now_v7().simple().to_string());
                canceler.cancel(&cancel.unwrap_or_else(|| id.clone()), &id).await?;
            }
        }
    }
}
