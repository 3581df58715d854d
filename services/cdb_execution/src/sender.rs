//! Verdicts in, orders out, first come first served: gate, durable record, request, answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use cdb_core::breaker::Cause;
use cdb_core::gate::{Budget, Claim};
use cdb_core::ids::{ClOrdId, EntryId};
use cdb_core::lifecycle::{Observation, TrackedOrder};
use cdb_core::reason::GateRefusal;
use cdb_core::report::{OrdStatus, Source};
use cdb_core::sending::{Action, Input, Lookup, Sending, Submission};
use cdb_core::verdict::ApprovedOrder;
use cdb_io::clock;
use cdb_mexc::answer::Meaning;
use cdb_mexc::clock::ClockFault;
use cdb_mexc::endpoint::{Endpoint, Priority};
use cdb_mexc::wire::VenueOrder;
use serde_json::to_value;
use tokio::sync::{Notify, Semaphore};

use crate::book::{Along, Book, Tracked};
use crate::leading::Crew;
use crate::local_stop::LocalStop;
use crate::observe::Doubt;
use crate::tracker::Tracker;
use crate::venue::{Venue, is_answered};

/// Orders that may wait for a rate slot; one more is refused.
const QUEUE_MAX: usize = 256;
/// Pause before the exchange's clock is looked at again.
const CLOCK_PAUSE: Duration = Duration::from_millis(100);
/// How long a doubt is reported after it was last looked into, ms; longer than the longest pause between two looks.
const DOUBT_REPORT_MS: i64 = 10_000;
/// How often it is said how many orders stand where.
const STANDING: Duration = Duration::from_millis(500);
/// Orders that may be between grant and answer at one time.
const FLIGHTS: usize = 16;

/// An approved order that waits for its turn.
pub struct Wanted {
    entry: EntryId,
    order: ApprovedOrder,
    is_asking: AtomicBool,
}

impl Wanted {
    /// An order out of this verdict entry.
    pub const fn new(entry: EntryId, order: ApprovedOrder) -> Self {
        Self { entry, order, is_asking: AtomicBool::new(false) }
    }
    /// The approval.
    pub const fn order(&self) -> &ApprovedOrder {
        &self.order
    }
}

/// The sender of one term.
#[derive(Clone)]
pub struct Sender {
    book: Book,
    venue: Venue,
    tracker: Tracker,
    crew: Crew,
    queue: Arc<Queue>,
    flights: Arc<Semaphore>,
    doubts: Arc<AtomicUsize>,
    resolved: Arc<Notify>,
    /// Redis's clock minus ours, ms.
    redis_offset_ms: i64,
    /// A doubt that lasts longer opens the breaker.
    doubt_max: Duration,
    stop: LocalStop,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Arc<Wanted>>>,
    changed: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Wanted>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first in line, kept in line and marked as being asked for.
    async fn first(&self) -> Arc<Wanted> {
        loop {
            let changed = self.changed.notified();
            if let Some(first) = self.lock().front() {
                first.is_asking.store(true, Ordering::Relaxed);
                return Arc::clone(first);
            }
            changed.await;
        }
    }

    fn remove(&self, id: &ClOrdId) -> Option<Arc<Wanted>> {
        let mut waiting = self.lock();
        let index = waiting.iter().position(|wanted| &wanted.order.order().cl_ord_id == id)?;
        let removed = waiting.remove(index);
        drop(waiting);
        self.changed.notify_waiters();
        removed
    }
}

impl Sender {
    /// A sender without orders.
    pub fn new(
        book: Book,
        venue: Venue,
        tracker: Tracker,
        crew: Crew,
        redis_offset_ms: i64,
        doubt_max: Duration,
        stop: LocalStop,
    ) -> Self {
        Self {
            book,
            venue,
            tracker,
            crew,
            queue: Arc::default(),
            flights: Arc::new(Semaphore::new(FLIGHTS)),
            doubts: Arc::default(),
            resolved: Arc::default(),
            redis_offset_ms,
            doubt_max,
            stop,
        }
    }

    /// Takes an order in; one too many is refused.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn take(&self, wanted: Wanted) -> anyhow::Result<()> {
        if self.book.was_submitted(&wanted.order.order().cl_ord_id) {
            // A verdict delivered once more: its order lives or has lived.
            return self.book.gatekeeper().acknowledge(&wanted.entry).await;
        }
        let is_full = self.queue.lock().len() >= QUEUE_MAX;
        if is_full {
            return self.refuse(&wanted, GateRefusal::RateQueueFull).await;
        }
        self.queue.lock().push_back(Arc::new(wanted));
        self.queue.changed.notify_waiters();
        Ok(())
    }

    /// Orders in line.
    pub fn waiting(&self) -> Vec<Arc<Wanted>> {
        self.queue.lock().iter().cloned().collect()
    }

    /// Whether an order is in line.
    pub fn is_waiting(&self, id: &ClOrdId) -> bool {
        self.queue.lock().iter().any(|wanted| &wanted.order.order().cl_ord_id == id)
    }

    /// Takes an order out of the line for its canceler. `None` when it is being asked for, or gone.
    pub fn withdraw(&self, id: &ClOrdId) -> Option<Arc<Wanted>> {
        let waiting = self.queue.lock();
        let is_idle = waiting
            .iter()
            .any(|wanted| &wanted.order.order().cl_ord_id == id && !wanted.is_asking.load(Ordering::Relaxed));
        drop(waiting);
        if is_idle { self.queue.remove(id) } else { None }
    }

    /// Waits until the line has changed.
    pub async fn line_changed(&self) {
        self.queue.changed.notified().await;
    }

    /// Whether no order is between grant and answer.
    pub fn is_idle(&self) -> bool {
        self.flights.available_permits() == FLIGHTS
    }

    /// Whether the outcome of some order is unknown: then no balance can be explained.
    pub fn is_in_doubt(&self) -> bool {
        self.doubts.load(Ordering::Relaxed) > 0
    }

    /// Holds all sending back until the returned guard is dropped.
    pub async fn hold(&self) -> anyhow::Result<tokio::sync::SemaphorePermit<'_>> {
        Ok(self.flights.acquire_many(u32::try_from(FLIGHTS)?).await?)
    }

    /// Waits until no order is between grant and answer.
    pub async fn drained(&self) {
        // The semaphore lives as long as the sender and is never closed.
        let _all = self.hold().await;
    }

    /// Sends what waits, in order, for as long as the term lasts.
    ///
    /// # Errors
    /// Redis or the audit trail failed, or another process leads.
    pub async fn run(self) -> anyhow::Result<()> {
        loop {
            let wanted = self.queue.first().await;
            let flight = Arc::clone(&self.flights).acquire_owned().await?;
            match self.admit(&wanted).await? {
                None => drop(flight),
                Some((tracked, sending)) => {
                    let sender = self.clone();
                    self.crew.spawn("send", async move {
                        let Some(sending) = sender.fly(&wanted, &tracked, sending).await? else { return Ok(()) };
                        let resolving = sender.resolve(tracked, sending, Source::Rest);
                        // Counted as a doubt from here on, no longer as a flight.
                        drop(flight);
                        resolving.await
                    });
                }
            }
        }
    }

    /// Takes the first in line through the gate; the order and its claim when it was granted.
    async fn admit(&self, wanted: &Wanted) -> anyhow::Result<Option<(Arc<Tracked>, Sending)>> {
        let id = &wanted.order.order().cl_ord_id;
        let along = Along { verdict_entry: Some(&wanted.entry), slots: None };
        if self.book.was_submitted(id) {
            self.queue.remove(id);
            self.book.gatekeeper().acknowledge(&wanted.entry).await?;
            return Ok(None);
        }
        if self.stop.is_set() {
            self.queue.remove(id);
            self.refuse(wanted, GateRefusal::EmergencyStop).await?;
            return Ok(None);
        }
        let nonce = uuid::Uuid::now_v7().simple().to_string();
        let budgets = self.order_budgets();
        let mut sending = Sending::Waiting(Box::new(wanted.order.clone()));
        let asked_at_ms = clock::monotonic_ms();
        let offset_ms = match self.venue.offset_ms() {
            Ok(offset_ms) => offset_ms - self.redis_offset_ms,
            // Nothing is dated by a guess; the order waits for the clock until it expires.
            Err(fault) => return self.wait_for_clock(wanted, fault).await,
        };
        let answer = self.book.gatekeeper().ask(&nonce, &budgets, Some((&wanted.order, offset_ms))).await?;
        self.venue.observe_gate(&answer);
        match sending.on(Input::Gate { answer, asked_at_ms }) {
            Action::WriteAudit => {
                // In the book before it leaves the line: a cancel finds it in one of the two.
                let tracked = self.book.track(unsent(&wanted.order));
                self.book.mark_submitted(id.clone());
                self.queue.remove(id);
                Ok(Some((tracked, sending)))
            }
            Action::AskAgainIn(ms) => {
                wanted.is_asking.store(false, Ordering::Relaxed);
                // Not beyond the order's expiry: the gate then says so at once.
                let to_expiry = wanted.order.expires_at().since_ms(clock::now()).max(0);
                let wait = Duration::from_millis(u64::try_from(ms.min(to_expiry + 1)).unwrap_or(0));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.queue.changed.notified() => {}
                }
                Ok(None)
            }
            Action::Learn(observation) => {
                let order = self.book.track(unsent(&wanted.order));
                self.book.mark_submitted(id.clone());
                self.queue.remove(id);
                self.book.learn(&order, observation, Source::Gate, clock::now(), along).await?;
                Ok(None)
            }
            Action::AlreadyClaimed => {
                self.queue.remove(id);
                self.book.gatekeeper().acknowledge(&wanted.entry).await?;
                Ok(None)
            }
            Action::StandDown => bail!("another instance sends"),
            other => bail!("the gate's answer led to {other:?}"),
        }
    }

    async fn wait_for_clock<T>(&self, wanted: &Wanted, fault: ClockFault) -> anyhow::Result<Option<T>> {
        tracing::error!(%fault, "no order is sent");
        if wanted.order.expires_at() <= clock::now() {
            self.queue.remove(&wanted.order.order().cl_ord_id);
            self.refuse(wanted, GateRefusal::Expired).await?;
            return Ok(None);
        }
        wanted.is_asking.store(false, Ordering::Relaxed);
        tokio::time::sleep(CLOCK_PAUSE).await;
        Ok(None)
    }

    fn order_budgets(&self) -> Vec<Budget> {
        Endpoint::NewOrder.budgets(Priority::New, &self.venue.budgets)
    }

    /// Audit, request, answer. What is still in doubt comes back to be resolved.
    async fn fly(&self, wanted: &Wanted, tracked: &Tracked, mut sending: Sending) -> anyhow::Result<Option<Sending>> {
        let Sending::Granted { claim, .. } = &sending else { bail!("only a granted order flies") };
        let claim = claim.clone();
        let command = cdb_core::command::Command::New(wanted.order.order().clone());
        let proof = self.book.record_submission(to_value(&command)?, &claim, &wanted.entry, &wanted.order).await?;
        let action = sending.on(Input::AuditDurable { proof, now_ms: clock::monotonic_ms() });
        match action {
            Action::Submit(submission) => self.submit(wanted, tracked, &claim, submission, sending).await,
            Action::LearnThenQueryIn(observation, _) => {
                let along = Along { verdict_entry: Some(&wanted.entry), slots: None };
                self.book.learn(tracked, observation, Source::Gate, clock::now(), along).await?;
                Ok(Some(sending))
            }
            other => bail!("a durable record led to {other:?}"),
        }
    }

    async fn submit(
        &self,
        wanted: &Wanted,
        tracked: &Tracked,
        claim: &Claim,
        submission: Submission,
        mut sending: Sending,
    ) -> anyhow::Result<Option<Sending>> {
        let begun = Instant::now();
        let (answer, trouble) = self.venue.client.place(submission).await;
        self.venue.observe_placed(begun.elapsed(), trouble.as_ref());
        let budgets = self.order_budgets();
        let slots = is_answered(trouble.as_ref()).then_some((claim.nonce.as_str(), budgets.as_slice()));
        let along = Along { verdict_entry: Some(&wanted.entry), slots };
        if let Some(trouble) = &trouble {
            self.venue.heed(trouble).await?;
        }
        match sending.on(Input::Venue { answer, now_ms: clock::monotonic_ms() }) {
            Action::Learn(observation) => {
                let is_accepted = matches!(observation, Observation::Accepted { .. });
                self.book.learn(tracked, observation, Source::Rest, self.venue.exchange_time(), along).await?;
                if is_accepted {
                    self.tracker.poke(&tracked.id);
                }
                Ok(None)
            }
            Action::LearnThenQueryIn(observation, _) => {
                self.book.learn(tracked, observation, Source::Rest, clock::now(), along).await?;
                Ok(Some(sending))
            }
            other => bail!("the exchange's answer led to {other:?}"),
        }
    }

    async fn refuse(&self, wanted: &Wanted, refusal: GateRefusal) -> anyhow::Result<()> {
        let mut sending = Sending::Waiting(Box::new(wanted.order.clone()));
        let Action::Learn(observation) = sending.on(Input::GiveUp(refusal)) else { bail!("a refusal is learnt") };
        let order = self.book.track(unsent(&wanted.order));
        self.book.mark_submitted(order.id.clone());
        let along = Along { verdict_entry: Some(&wanted.entry), slots: None };
        self.book.learn(&order, observation, Source::Gate, clock::now(), along).await?;
        Ok(())
    }

    /// Publishes the end of an order that its canceler took out of the line.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn refuse_withdrawn(&self, wanted: &Wanted) -> anyhow::Result<()> {
        self.refuse(wanted, GateRefusal::CanceledBeforeSend).await
    }

    /// Asks the exchange until the outcome of an order in doubt is known or proven.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub fn resolve(
        self,
        tracked: Arc<Tracked>,
        sending: Sending,
        source: Source,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let counted = Counted::begin(&self);
        async move {
            let _counted = counted;
            self.find_out(&tracked, sending, source).await
        }
    }

    async fn find_out(&self, tracked: &Tracked, mut sending: Sending, source: Source) -> anyhow::Result<()> {
        let Sending::InDoubt { pause_ms, .. } = &sending else { return Ok(()) };
        let mut pause = *pause_ms;
        let since = Instant::now();
        loop {
            if since.elapsed() > self.doubt_max {
                let text = format!("nobody knows for {:?} whether the exchange has {}", since.elapsed(), tracked.id);
                self.venue.report(Cause::DoubtTooLong, &text, DOUBT_REPORT_MS).await?;
            }
            let pause_is_over = tokio::time::sleep(Duration::from_millis(u64::try_from(pause).unwrap_or(0)));
            tokio::select! {
                () = pause_is_over => {}
                // The user stream told of it.
                () = known(tracked) => return Ok(()),
            }
            let lookup = self.look_up(tracked).await?;
            match sending.on(Input::Looked { lookup, now_ms: clock::monotonic_ms() }) {
                Action::QueryIn(ms) => pause = ms,
                // With this the outcome is known, and the order's life goes on with the tracker.
                Action::Learn(observation) => {
                    let at = self.venue.exchange_time();
                    self.book.learn(tracked, observation, source, at, Along::default()).await?;
                    self.tracker.poke(&tracked.id);
                    return Ok(());
                }
                other => bail!("a lookup led to {other:?}"),
            }
        }
    }

    /// Looks for an order by our id: by query, and beyond its fence in the lists of open and of all orders too.
    async fn look_up(&self, tracked: &Tracked) -> anyhow::Result<Lookup> {
        let (symbol, id) = (&tracked.symbol, &tracked.id);
        // Read before asking: the answer is about a moment no earlier than this.
        let exchange_time = self.venue.exchange_time();
        let query = self
            .venue
            .call(Endpoint::QueryOrder, Priority::Query, async |client, stamp| client.query(symbol, id, stamp).await)
            .await?;
        match query {
            Ok(found) => return Ok(found_lookup(found)),
            Err(trouble) if trouble.meaning == Meaning::NotFound => {}
            Err(_) => return Ok(Lookup::Unanswered),
        }
        let open = self
            .venue
            .call(Endpoint::OpenOrders, Priority::Query, async |client, stamp| client.open_orders(symbol, stamp).await)
            .await?;
        let all = self
            .venue
            .call(Endpoint::AllOrders, Priority::Query, async |client, stamp| client.all_orders(symbol, stamp).await)
            .await?;
        let (Ok(open), Ok(all)) = (open, all) else { return Ok(Lookup::Unanswered) };
        let is_partial = open.is_partial || all.is_partial;
        let mut orders = open.orders.into_iter().chain(all.orders);
        let found = orders.find(|order| order.cl_ord_id.as_deref() == Some(id.as_str()));
        Ok(match found {
            Some(found) => found_lookup(found),
            None if is_partial => Lookup::Unanswered,
            None => Lookup::Absent { exchange_time },
        })
    }

    /// Says how many orders stand where, for as long as the term lasts.
    ///
    /// # Errors
    /// Never.
    pub async fn keep_standing(self) -> anyhow::Result<()> {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        loop {
            let observer = self.venue.observer();
            let standing = &observer.standing;
            standing.queued.set(gauge(self.queue.lock().len()));
            standing.in_flight.set(gauge(FLIGHTS.saturating_sub(self.flights.available_permits())));
            standing.in_doubt.set(gauge(self.doubts.load(Ordering::Relaxed)));
            standing.open.set(gauge(self.book.open_ids(|_| true).len()));
            observer.audit_queue.set(gauge(self.book.audit_queue()));
            tokio::time::sleep(STANDING).await;
        }
    }

    /// Waits until no order is in doubt.
    pub async fn without_doubts(&self) {
        loop {
            let resolved = self.resolved.notified();
            if !self.is_in_doubt() {
                return;
            }
            resolved.await;
        }
    }
}

/// Counts a doubt for as long as it lasts.
struct Counted {
    doubts: Arc<AtomicUsize>,
    resolved: Arc<Notify>,
    _age: Doubt,
}

impl Counted {
    fn begin(sender: &Sender) -> Self {
        sender.doubts.fetch_add(1, Ordering::Relaxed);
        let doubt = sender.venue.observer().doubt();
        Self { doubts: Arc::clone(&sender.doubts), resolved: Arc::clone(&sender.resolved), _age: doubt }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.doubts.fetch_sub(1, Ordering::Relaxed);
        self.resolved.notify_waiters();
    }
}

/// Waits until it is known that the exchange has an order.
async fn known(tracked: &Tracked) {
    loop {
        let changed = tracked.changed.notified();
        let order = tracked.order.lock().await;
        if !order.is_in_doubt && order.status != OrdStatus::PendingNew {
            return;
        }
        drop(order);
        changed.await;
    }
}

fn found_lookup(found: VenueOrder) -> Lookup {
    Lookup::Found { order_id: found.order_id, status: found.status, executed_qty: found.executed_qty }
}

/// An order that is known only by its approval.
fn unsent(order: &ApprovedOrder) -> TrackedOrder {
    TrackedOrder::new(order.order().clone())
}
