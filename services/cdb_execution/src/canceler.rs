//! Cancels: of an order in line, in flight, or at the exchange. A cancel may be asked for again freely; how the order
//! ended is read from the order, never from the cancel's answer.

use std::sync::Arc;
use std::time::Duration;

use cdb_core::ids::{ClOrdId, EntryId};
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
                ids.extend(self.book.open_ids(|tracked| is_meant(&tracked.symbol)));
                ids
            }
        }
    }

    /// Begins to cancel each order. The verdict is acknowledged when all is done: a cancel that dies with its term is
    /// delivered again to the next one, and a cancel may be asked for again freely.
    pub fn start(&self, entry: EntryId, cancel: ClOrdId, targets: Vec<ClOrdId>) {
        let canceler = self.clone();
        self.crew.spawn("cancel", async move {
            let each = targets.iter().map(|target| canceler.cancel(&cancel, target));
            for outcome in futures_util::future::join_all(each).await {
                outcome?;
            }
            canceler.book.gatekeeper().acknowledge(&entry).await
        });
    }

    /// Cancels one order; how it went is in the reports.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn cancel(&self, cancel: &ClOrdId, target: &ClOrdId) -> anyhow::Result<()> {
        // In line: taken out, unless it is being asked for right now; then it leaves the line one way or the other.
        while self.sender.is_waiting(target) {
            if let Some(wanted) = self.sender.withdraw(target) {
                return self.sender.refuse_withdrawn(&wanted).await;
            }
            let _again = tokio::time::timeout(PAUSE, self.sender.line_changed()).await;
        }
        let Some(tracked) = self.wait_until_answered(target).await else { return Ok(()) };
        let symbol = tracked.symbol.clone();
        for _ in 0..TRIES {
            {
                let mut order = tracked.order.lock().await;
                if order.status.is_final() {
                    drop(order);
                    return self.refuse(&tracked, cancel, "the order has ended already").await;
                }
                // Before it is asked for: the user stream may tell of the end before the answer comes.
                order.cancel = Some(cancel.clone());
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
                Err((
                    Meaning::NoListenKey | Meaning::Unknown | Meaning::RateLimited { .. } | Meaning::Banned { .. },
                    _,
                )) => {}
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

    /// Waits until an order that is on its way was answered or its doubt has ended; a cancel that overtakes it would
    /// find nothing. `None` when it is gone: it has ended.
    async fn wait_until_answered(&self, target: &ClOrdId) -> Option<Arc<Tracked>> {
        loop {
            let tracked = self.book.find(target)?;
            {
                let changed = tracked.changed.notified();
                if tracked.order.lock().await.status == OrdStatus::PendingNew {
                    // Looked at again now and then, in case a change came between the look and the wait.
                    let _again = tokio::time::timeout(PAUSE, changed).await;
                    continue;
                }
            }
            return Some(tracked);
        }
    }
}
