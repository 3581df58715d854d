//! The orders that were claimed, and what is recorded and published of them. Every change goes the same way: applied
//! to the order, recorded in the audit trail, published. A change that was recorded and not published is published
//! by the next term.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cdb_core::audit::story::SUBMITTED;
use cdb_core::ids::{Asset, ClOrdId, EntryId, OrderId, Symbol};
use cdb_core::lifecycle::{Observation, Seen, TrackedOrder};
use cdb_core::order::Side;
use cdb_core::report::{ExecType, Execution, ExecutionReport, Fill, Finding, Mode, OrdStatus, Source};
use cdb_core::time::Timestamp;
use cdb_core::verdict::ApprovedOrder;
use cdb_io::audit_log::{AuditLog, Entry};
use cdb_io::clock;
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::gatekeeper::{Gatekeeper, Settlement};
use crate::observe::Observer;

/// An order with what its tasks need.
pub struct Tracked {
    /// Its id, which never changes.
    pub id: ClOrdId,
    /// Its symbol, which never changes.
    pub symbol: Symbol,
    /// Its side, which never changes.
    pub side: Side,
    /// The order; locked while one change is applied, recorded and published.
    pub order: AsyncMutex<TrackedOrder>,
    /// Told after each change.
    pub changed: Notify,
    /// Whether the user stream has told of it.
    pub is_heard_of: AtomicBool,
    /// Since when the exchange says that it is not there, although it was.
    pub missing_since: Mutex<Option<Instant>>,
    /// Whether that was reported.
    pub is_reported_missing: AtomicBool,
}

/// The book of one term.
#[derive(Clone)]
pub struct Book {
    orders: Arc<Mutex<BTreeMap<ClOrdId, Arc<Tracked>>>>,
    ended: Arc<Mutex<Ended>>,
    by_order_id: Arc<Mutex<BTreeMap<OrderId, ClOrdId>>>,
    submitted: Arc<Mutex<BTreeSet<ClOrdId>>>,
    since_account: Arc<Mutex<SinceAccount>>,
    audit: AuditLog,
    gatekeeper: Gatekeeper,
    mode: Mode,
    observer: Observer,
    /// Told after every change of any order.
    pub activity: Arc<tokio::sync::watch::Sender<u64>>,
}

/// Orders that ended, kept for what may still come in about them.
#[derive(Default)]
struct Ended {
    orders: BTreeMap<ClOrdId, Arc<Tracked>>,
    oldest_first: VecDeque<(Instant, ClOrdId)>,
}

impl Ended {
    /// The oldest, when it is too old or there are too many.
    fn pop_forgotten(&mut self) -> Option<Arc<Tracked>> {
        let (ended_at, _) = self.oldest_first.front()?;
        if self.oldest_first.len() <= ENDED_MAX && ended_at.elapsed() <= ENDED_KEPT {
            return None;
        }
        let (_, id) = self.oldest_first.pop_front()?;
        self.orders.remove(&id)
    }
}

/// What happened since the account was last published.
#[derive(Default)]
struct SinceAccount {
    fills: Vec<(Symbol, Side, Fill)>,
    /// By asset, in the exchange's words.
    transfers: BTreeMap<Asset, String>,
}

/// How long an ended order is kept.
const ENDED_KEPT: Duration = Duration::from_secs(600);
/// Ended orders kept at most.
const ENDED_MAX: usize = 10_000;

/// What goes out together with a change.
#[derive(Debug, Default, Clone, Copy)]
pub struct Along<'a> {
    /// The verdict entry that is done.
    pub verdict_entry: Option<&'a EntryId>,
    /// Slots that the exchange's answer frees: nonce and budgets.
    pub slots: Option<(&'a str, &'a [cdb_core::gate::Budget])>,
}

impl Book {
    /// An empty book.
    pub fn new(audit: AuditLog, gatekeeper: Gatekeeper, mode: Mode, observer: Observer) -> Self {
        Self {
            orders: Arc::default(),
            ended: Arc::default(),
            by_order_id: Arc::default(),
            submitted: Arc::default(),
            since_account: Arc::default(),
            audit,
            gatekeeper,
            mode,
            observer,
            activity: Arc::new(tokio::sync::watch::Sender::new(0)),
        }
    }

    /// The gate.
    pub const fn gatekeeper(&self) -> &Gatekeeper {
        &self.gatekeeper
    }

    /// Paper, validate or live.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<ClOrdId, Arc<Tracked>>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an order in. One that is in the book already stays what it is.
    pub fn track(&self, order: TrackedOrder) -> Arc<Tracked> {
        let (id, symbol, side) = (order.order.cl_ord_id.clone(), order.order.symbol.clone(), order.order.side);
        if let Some(order_id) = &order.order_id {
            self.index(order_id.clone(), id.clone());
        }
        let tracked = || Tracked {
            id: id.clone(),
            symbol,
            side,
            order: AsyncMutex::new(order),
            changed: Notify::new(),
            is_heard_of: AtomicBool::new(false),
            missing_since: Mutex::new(None),
            is_reported_missing: AtomicBool::new(false),
        };
        Arc::clone(self.orders().entry(id.clone()).or_insert_with(|| Arc::new(tracked())))
    }

    /// An order by its ClOrdID.
    pub fn find(&self, id: &ClOrdId) -> Option<Arc<Tracked>> {
        self.orders().get(id).cloned()
    }

    fn index(&self, order_id: OrderId, id: ClOrdId) {
        self.by_order_id.lock().unwrap_or_else(PoisonError::into_inner).entry(order_id).or_insert(id);
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An order by its ClOrdID, also one that ended not long ago.
    pub fn find_even_ended(&self, id: &ClOrdId) -> Option<Arc<Tracked>> {
        self.find(id).or_else(|| self.ended().orders.get(id).cloned())
    }

    /// An order by the exchange's id, also one that ended not long ago.
    pub fn find_by_order_id(&self, order_id: &OrderId) -> Option<Arc<Tracked>> {
        let id = self.by_order_id.lock().unwrap_or_else(PoisonError::into_inner).get(order_id).cloned()?;
        self.find_even_ended(&id)
    }

    /// All orders that are not settled, or that were settled a moment ago.
    pub fn all(&self) -> Vec<Arc<Tracked>> {
        self.orders().values().cloned().collect()
    }

    /// ClOrdIDs of wanted orders that have not ended; one that is being changed counts as open.
    pub fn open_ids(&self, is_wanted: impl Fn(&Tracked) -> bool) -> Vec<ClOrdId> {
        let is_open = |tracked: &&Arc<Tracked>| tracked.order.try_lock().map_or(true, |order| !order.status.is_final());
        let orders = self.orders();
        orders.values().filter(|tracked| is_wanted(tracked)).filter(is_open).map(|tracked| tracked.id.clone()).collect()
    }

    /// Symbols of all orders in the book.
    pub fn symbols(&self) -> Vec<Symbol> {
        self.orders().values().map(|tracked| tracked.symbol.clone()).collect()
    }

    /// Takes in an order that ended under an earlier term, for what may still come in about it.
    pub fn remember_ended(&self, order: TrackedOrder) {
        let id = order.order.cl_ord_id.clone();
        let tracked = self.track(order);
        self.orders().remove(&id);
        let mut ended = self.ended();
        ended.orders.insert(id.clone(), tracked);
        ended.oldest_first.push_back((Instant::now(), id));
    }

    /// Puts settled orders aside, and forgets those that were put aside long ago; their ids stay known as submitted.
    pub async fn put_settled_aside(&self) {
        for tracked in self.all() {
            let order = tracked.order.lock().await;
            if order.is_settled() {
                let mut ended = self.ended();
                ended.orders.insert(tracked.id.clone(), Arc::clone(&tracked));
                ended.oldest_first.push_back((Instant::now(), tracked.id.clone()));
                self.orders().remove(&tracked.id);
            }
        }
        loop {
            let forgotten = self.ended().pop_forgotten();
            let Some(tracked) = forgotten else { return };
            if let Some(order_id) = &tracked.order.lock().await.order_id {
                self.by_order_id.lock().unwrap_or_else(PoisonError::into_inner).remove(order_id);
            }
        }
    }

    /// Remembers that an id was submitted: whatever Redis says, it is never sent again.
    pub fn mark_submitted(&self, id: ClOrdId) {
        self.submitted.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Whether an id was submitted.
    pub fn was_submitted(&self, id: &ClOrdId) -> bool {
        self.submitted.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Applies what was learnt, records it, publishes it; the report, when it was news.
    ///
    /// # Errors
    /// The audit trail or Redis failed: the term is over.
    pub async fn learn(
        &self,
        tracked: &Tracked,
        observation: Observation,
        source: Source,
        happened_at: Timestamp,
        along: Along<'_>,
    ) -> anyhow::Result<Option<ExecutionReport>> {
        let mut order = tracked.order.lock().await;
        let seen = Seen { source, mode: self.mode, transact_time: happened_at, now: clock::now() };
        let report = order.apply(observation, seen);
        self.put_out(&order, report, along, tracked).await
    }

    /// Ends an order whose last fills have come.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub async fn end_if_complete(&self, tracked: &Tracked, source: Source) -> anyhow::Result<()> {
        let mut order = tracked.order.lock().await;
        let now = clock::now();
        let seen = Seen { source, mode: self.mode, transact_time: now, now };
        let report = order.end_if_complete(seen);
        self.put_out(&order, report, Along::default(), tracked).await.map(|_| ())
    }

    async fn put_out(
        &self,
        order: &TrackedOrder,
        report: Option<ExecutionReport>,
        along: Along<'_>,
        tracked: &Tracked,
    ) -> anyhow::Result<Option<ExecutionReport>> {
        let mut messages = Vec::new();
        if let Some(report) = &report {
            let result = serde_json::to_value(report)?;
            let entry = Entry { event_type: event_type(report), actor: None, order: None, result: Some(result) };
            self.record(entry).await?;
            messages.push(Execution::ExecutionReport(Box::new(report.clone())).to_json());
            self.observer.reported(report);
        }
        if let Some(order_id) = &order.order_id {
            self.index(order_id.clone(), tracked.id.clone());
        }
        if let Some(fill) = report.as_ref().and_then(|report| report.fill.clone()) {
            self.since_account().fills.push((tracked.symbol.clone(), tracked.side, fill));
        }
        let is_final = order.is_settled().then_some(&tracked.id);
        let is_known = !order.is_in_doubt && order.status != OrdStatus::PendingNew;
        let answered = is_known.then_some(&tracked.id);
        let Along { verdict_entry, slots } = along;
        if !messages.is_empty() || verdict_entry.is_some() || slots.is_some() {
            self.gatekeeper.settle(Settlement { slots, messages, answered, is_final, verdict_entry }).await?;
            self.activity.send_modify(|count| *count += 1);
        }
        tracked.changed.notify_waiters();
        Ok(report)
    }

    /// Records and publishes a difference between the exchange and the books.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn publish_finding(&self, finding: Finding) -> anyhow::Result<()> {
        let result = Some(serde_json::to_value(&finding)?);
        self.record(Entry { event_type: "FINDING", actor: None, order: None, result }).await?;
        self.observer.found(finding.kind);
        self.gatekeeper.publish(vec![Execution::Finding(finding).to_json()]).await
    }

    fn since_account(&self) -> MutexGuard<'_, SinceAccount> {
        self.since_account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account was published: what comes from here on explains the next reading.
    pub fn begin_account(&self) {
        *self.since_account() = SinceAccount::default();
    }

    /// Fills since the account was last published.
    pub fn fills_of_account(&self) -> Vec<(Symbol, Side, Fill)> {
        self.since_account().fills.clone()
    }

    /// Fills that an earlier term booked after the account was last published.
    pub fn recall_fills(&self, fills: Vec<(Symbol, Side, Fill)>) {
        self.since_account().fills.extend(fills);
    }

    /// The exchange told of a deposit, a withdrawal or the like.
    pub fn note_transfer(&self, asset: Asset, cause: String) {
        self.since_account().transfers.insert(asset, cause);
    }

    /// What the exchange told of an asset since the account was last published.
    pub fn transfer_of(&self, asset: &Asset) -> Option<String> {
        self.since_account().transfers.get(asset).cloned()
    }

    /// Writes ORDER_SUBMITTED and waits until it is durable.
    ///
    /// # Errors
    /// The audit trail failed.
    pub async fn record_submission(
        &self,
        order: Value,
        claim: &cdb_core::gate::Claim,
        verdict_entry: &EntryId,
        approved: &ApprovedOrder,
    ) -> anyhow::Result<cdb_core::audit::Durable> {
        let approval = json!({
            "verdict": approved.digest(), "decided_at": approved.decided_at(), "expires_at": approved.expires_at(),
            "limits_hash": approved.limits_hash(), "is_exit": approved.is_exit(),
        });
        let result = json!({"claim": claim, "verdict_entry": verdict_entry, "approval": approval});
        let entry = Entry { event_type: SUBMITTED, actor: None, order: Some(order), result: Some(result) };
        self.record(entry).await
    }

    async fn record(&self, entry: Entry) -> anyhow::Result<cdb_core::audit::Durable> {
        let begun = Instant::now();
        let durable = self.audit.record(entry).await?;
        self.observer.audit_write.observe(begun.elapsed().as_secs_f64());
        Ok(durable)
    }

    /// Records that wait for the disk.
    pub fn audit_queue(&self) -> usize {
        self.audit.waiting()
    }
}

/// The audit trail's word for a report.
fn event_type(report: &ExecutionReport) -> &'static str {
    let is_not_accepted = report.reason.as_deref() == Some(cdb_core::reason::VenueRefusal::NotAccepted.code());
    match report.exec_type {
        ExecType::PendingNew => "ORDER_PENDING",
        ExecType::New => "ORDER_ACKNOWLEDGED",
        ExecType::Trade if report.ord_status == OrdStatus::Filled => "ORDER_FILLED",
        ExecType::Trade => "ORDER_PARTIALLY_FILLED",
        ExecType::PendingCancel => "ORDER_CANCEL_REQUESTED",
        ExecType::Canceled | ExecType::Expired => "ORDER_CANCELED",
        ExecType::Rejected if is_not_accepted => "ORDER_RESOLVED",
        ExecType::Rejected => "ORDER_REJECTED",
        ExecType::OrderStatus if report.in_doubt => "ORDER_IN_DOUBT",
        ExecType::OrderStatus => "ORDER_RESOLVED",
    }
}
