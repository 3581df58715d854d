//! Cancels: of an order in line, in flight, or at the exchange. A cancel may be asked for again freely; how the order
//! ended is read from the order, never from the cancel's answer.

use std::sync::Arc;
use std::time::Duration;

use cdb_core::ids::ClOrdId;
use cdb_core::lifecycle::Observation;
use cdb_core::report::{OrdStatus, Source};
use cdb_core::verdict::CancelTarget;
use cdb_mexc::answer::Meaning;
use cdb_mexc::endpoint::{Endpoint, Priority};

use crate::book::{Along, Book, Tracked};
use crate::leading::Crew;
use crate::sender::Sender;
use crate::tracker::Tracker;
use crate::venue::Venue;

/// Times a cancel without an answer is asked for again.
const TRIES: u32 = 5;
/// Longest wait for an order in flight to be answered.
const FLIGHT_WAIT: Duration = Duration::from_secs(60);
/// Pause before a cancel is asked for again.
const PAUSE: Duration = Duration::from_millis(500);

/// The canceler of one term.
#[derive(Clone)]
pub struct Canceler {
    book: Book,
    venue: Venue,
    tracker: Tracker,
    sender: Sender,
    crew: Crew,
}

impl Canceler {
    /// A canceler.
    pub const fn new(book: Book, venue: Venue, tracker: Tracker, sender: Sender, crew: Crew) -> Self {
        Self { book, venue, tracker, sender, crew }
    }

    /// The orders that are meant: those in line and those in the book.
    pub fn targets(&self, target: &CancelTarget) -> Vec<ClOrdId> {
        let in_line = self.sender.waiting();
        let in_line = in_line.iter().map(|wanted| wanted.order().order());
        match target {
            CancelTarget::Order(id) => {
                let is_known = self.book.find(id).is_some() || in_line.into_iter().any(|order| &order.cl_ord_id == id);
                if is_known { vec![id.clone()] } else { Vec::new() }
            }
            CancelTarget::All(symbol) => {
                let is_meant = |one: &cdb_core::ids::Symbol| symbol.as_ref().is_none_or(|wanted| wanted == one);
                let mut ids: Vec<ClOrdId> =
                    in_line.filter(|order| is_meant(&order.symbol)).map(|order| order.cl_ord_id.clone()).collect();
                ids.extend(self.book.open_ids(|order| is_meant(&order.order.symbol)));
                ids
            }
        }
    }

    /// Begins to cancel each order.
    pub fn start(&self, cancel: ClOrdId, targets: Vec<ClOrdId>) {
        for target in targets {
            let canceler = self.clone();
            let cancel = cancel.clone();
            self.crew.spawn("cancel", async move { canceler.cancel(&cancel, &target).await });
        }
    }

    async fn cancel(&self, cancel: &ClOrdId, target: &ClOrdId) -> anyhow::Result<()> {
        if let Some(wanted) = self.sender.withdraw(target) {
            return self.sender.refuse_withdrawn(&wanted).await;
        }
        let Some(tracked) = self.wait_until_answered(target).await else { return Ok(()) };
        let symbol = tracked.order.lock().await.order.symbol.clone();
        for _ in 0..TRIES {
            if tracked.order.lock().await.status.is_final() {
                return self.refuse(&tracked, cancel, "the order has ended already").await;
            }
            let answer = self
                .venue
                .call(Endpoint::CancelOrder, Priority::Cancel, async |client, stamp| {
                    client.cancel(&symbol, target, stamp).await
                })
                .await?;
            match answer.map_err(|trouble| (trouble.meaning, trouble.text)) {
                Ok(()) => {
                    let accepted = Observation::CancelAccepted { cancel: cancel.clone() };
                    let at = self.venue.exchange_time();
                    self.book.learn(&tracked, accepted, Source::Rest, at, Along::default()).await?;
                    self.tracker.poke(target);
                    return Ok(());
                }
                // Not proof that it was cancelled: it may have filled.
                Err((Meaning::NotFound, _)) => {
                    self.tracker.look(target).await?;
                }
                Err((Meaning::Refused(_), text)) => return self.refuse(&tracked, cancel, &text).await,
                Err((Meaning::Unknown | Meaning::RateLimited { .. } | Meaning::Banned { .. }, _)) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.refuse(&tracked, cancel, "the exchange did not carry the cancel out; the order may be open").await
    }

    async fn refuse(&self, tracked: &Tracked, cancel: &ClOrdId, text: &str) -> anyhow::Result<()> {
        let refused = Observation::CancelRefused { cancel: cancel.clone(), text: text.to_owned() };
        self.book.learn(tracked, refused, Source::Rest, self.venue.exchange_time(), Along::default()).await?;
        Ok(())
    }

    /// Waits until an order that is on its way was answered; a cancel that overtakes it would find nothing.
    async fn wait_until_answered(&self, target: &ClOrdId) -> Option<Arc<Tracked>> {
        let answered = async {
            loop {
                match self.book.find(target) {
                    None => self.sender.line_changed().await,
                    Some(tracked) => {
                        let changed = tracked.changed.notified();
                        if tracked.order.lock().await.status != OrdStatus::PendingNew {
                            break;
                        }
                        changed.await;
                    }
                }
            }
        };
        tokio::time::timeout(FLIGHT_WAIT, answered).await.ok()?;
        self.book.find(target)
    }
}
