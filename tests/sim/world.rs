//! What the executors act on: Redis, the audit trails, the network and the exchange, under one clock.

use std::collections::{BTreeMap, BTreeSet};

use cdb_core::gate::{BreakerView, Budget, Claim, Gate, Permit};
use cdb_core::ids::{ClOrdId, OrderId};
use cdb_core::lifecycle::VenueStatus;
use cdb_core::money::Qty;
use cdb_core::secret::Secret;
use cdb_core::sending::{Lookup, SEND_DEADLINE_MS, VenueAnswer};
use cdb_core::time::Timestamp;
use cdb_core::verdict::{ApprovedOrder, VerdictKey, Verified, verify};
use cdb_mexc_sim::exchange::{Exchange, Wanted};
use cdb_mexc_sim::order::{Kind, Side, Status};
use cdb_mexc_sim::rules;

/// Where the clock begins.
const START: i64 = 1_700_000_000_000;
/// How long the exchange accepts a request, ms.
pub const RECV_WINDOW_MS: i64 = 2_000;
/// After a restart of Redis nothing is granted for the longest window and a request's life, ms.
const HOLD_MS: i64 = 1_000 + RECV_WINDOW_MS;
/// New orders in any second, at the gate and as the exchange counts.
pub const LIMIT: u32 = 3;
const WINDOW_MS: i64 = 1_000;

/// The budget of a new order.
pub fn budgets() -> Vec<Budget> {
    vec![Budget { name: "new_orders_1s".into(), limit: LIMIT, window_ms: WINDOW_MS, weight: 1 }]
}

/// What the audit trail of one executor holds of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Before the send.
    Submitted(Claim),
    /// How it ended: its status, what was executed, the exchange's id.
    Ended(End),
}

/// The end of an order as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Whether the exchange never had it.
    pub is_rejected: bool,
    /// Executed.
    pub executed: Qty,
}

/// A request on its way to the exchange.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// Of which executor and which of its lives.
    pub from: (usize, u32),
    /// The order.
    pub id: ClOrdId,
    /// With these times.
    pub claim: Claim,
    /// When it arrives.
    pub arrives_at: i64,
    /// When its answer arrives; `None` = never.
    pub answer_at: Option<i64>,
}

/// Redis, as far as sending needs it. A rollback brings an older one back.
#[derive(Debug, Clone)]
pub struct Redis {
    /// The gate's keys.
    pub gate: Gate,
    /// `cdb:claims:open`
    pub open: BTreeSet<ClOrdId>,
    /// Verdicts that were acknowledged.
    pub acknowledged: BTreeSet<ClOrdId>,
    /// Final reports on the stream.
    pub published: BTreeMap<ClOrdId, End>,
    /// Counts leases.
    pub fence: u32,
    /// Until when the lease lasts.
    pub lease_until: i64,
}

/// Everything.
pub struct World {
    /// The clock, epoch ms; every process's monotonic clock as well.
    pub now: i64,
    /// Exchange's clock minus ours; known to the executors.
    pub skew: i64,
    /// Redis.
    pub redis: Redis,
    /// Whether Redis answers.
    pub hold_until: i64,
    /// One audit trail for each executor: what is written, and how much of it a crash leaves.
    pub trails: Vec<(Vec<(ClOrdId, Record)>, usize)>,
    /// Approved orders, in order.
    pub approved: Vec<ApprovedOrder>,
    /// Requests under way.
    pub network: Vec<InFlight>,
    /// Answers under way: to whom, of what, when.
    pub answers: Vec<((usize, u32), ClOrdId, VenueAnswer, i64)>,
    /// The exchange.
    pub exchange: Exchange,
    /// For this long an order is not visible to queries.
    pub visibility_ms: i64,
    /// When a stop was last set, if it is set.
    pub stopped_at: Option<i64>,
    arrivals: Vec<i64>,
    /// The first promise that was broken.
    pub broken: Option<String>,
    /// The last steps.
    pub trace: Vec<String>,
}

impl World {
    pub fn new(orders: usize, executors: usize, skew: i64, visibility_ms: i64) -> Self {
        let mut exchange = Exchange::new(rules::listed());
        exchange.account.add("USDT", rust_decimal::Decimal::from(100_000_000));
        let price = |text: &str| text.parse().unwrap();
        exchange.on_script("BTCUSDT", price("60000"), price("60000.10"), price("60000"), 0).unwrap();
        let run_id = "run-0".to_owned();
        let gate = Gate {
            permit: Some(permit(&run_id)),
            run_id,
            is_stopped: false,
            stopped_symbols: Vec::new(),
            stopped_strategies: Vec::new(),
            breaker: BreakerView::Closed,
            probe: None,
            lease: None,
            banned_until: None,
            claims: BTreeMap::new(),
            slots: BTreeMap::new(),
        };
        let redis = Redis {
            gate,
            open: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            published: BTreeMap::new(),
            fence: 0,
            lease_until: 0,
        };
        Self {
            now: START,
            skew,
            redis,
            hold_until: 0,
            trails: vec![(Vec::new(), 0); executors],
            approved: (0..orders).map(approval).collect(),
            network: Vec::new(),
            answers: Vec::new(),
            exchange,
            visibility_ms,
            stopped_at: None,
            arrivals: Vec::new(),
            broken: None,
            trace: Vec::new(),
        }
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.trace.push(format!("{:>7} {}", self.now - START, text.into()));
    }

    pub fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            let what = what();
            self.note(format!("BROKEN {what}"));
            self.broken = Some(what);
        }
    }

    pub const fn exchange_time(&self) -> Timestamp {
        Timestamp::from_millis(self.now + self.skew)
    }

    /// Redis comes back as another process, perhaps with older data. Whoever was bound to the old one is not leading.
    pub fn restart_redis(&mut self, older: Option<Redis>) {
        let run_id = format!("run-{}", self.now);
        if let Some(older) = older {
            self.redis = older;
        }
        self.redis.gate.run_id = run_id;
        self.redis.gate.permit = None;
        // What an operator stopped stays stopped: cdb_risk sets it again before the next permit.
        self.redis.gate.is_stopped = self.stopped_at.is_some();
        self.hold_until = self.now + HOLD_MS;
    }

    /// cdb_risk gives its permit again.
    pub fn permit(&mut self) {
        self.redis.gate.permit = Some(permit(&self.redis.gate.run_id));
    }

    /// A request leaves. Everything that must hold at that moment is checked here.
    pub fn send(&mut self, flight: InFlight) {
        let (id, late_ms) = (flight.id.clone(), self.now - flight.claim.granted_at.millis());
        self.must(late_ms <= SEND_DEADLINE_MS, || format!("I2: {id} left {late_ms} ms after its grant"));
        let (trail, synced) = &self.trails[flight.from.0];
        let is_recorded =
            trail[..*synced].iter().any(|(of, record)| *of == id && matches!(record, Record::Submitted(_)));
        self.must(is_recorded, || format!("I6: {id} left before its record was durable"));
        self.network.push(flight);
    }

    /// Whatever is due arrives.
    pub fn deliver(&mut self) {
        let (due, rest): (Vec<InFlight>, Vec<InFlight>) =
            std::mem::take(&mut self.network).into_iter().partition(|flight| flight.arrives_at <= self.now);
        self.network = rest;
        for flight in due {
            self.arrive(flight);
        }
    }

    fn arrive(&mut self, flight: InFlight) {
        let at = self.exchange_time();
        let is_in_time = flight.claim.timestamp < at.plus_ms(1_000)
            && at.since_ms(flight.claim.timestamp) <= flight.claim.recv_window;
        let answer = if is_in_time {
            self.count_arrival();
            let wanted = Wanted {
                symbol: "BTCUSDT".into(),
                side: Side::Buy,
                kind: Kind::Market,
                qty: Some("0.001".parse().unwrap()),
                quote_qty: None,
                price: None,
                client_id: Some(flight.id.to_string()),
                is_foreign: false,
            };
            let order_id = self.exchange.place(wanted, self.exchange_time().millis()).unwrap();
            let of_id = |order: &&cdb_mexc_sim::order::Order| order.client_id.as_deref() == Some(flight.id.as_str());
            let count = self.exchange.orders.values().filter(of_id).count();
            self.must(count == 1, || format!("I3: {} is at the exchange {count} times", flight.id));
            self.note(format!("exchange accepts {}", flight.id));
            VenueAnswer::Accepted { order_id: OrderId::parse(&order_id).unwrap() }
        } else {
            self.note(format!("exchange refuses {}: outside its window", flight.id));
            VenueAnswer::Refused { reason: cdb_core::reason::VenueRefusal::Clock, text: String::new() }
        };
        if let Some(answer_at) = flight.answer_at {
            self.answers.push((flight.from, flight.id, answer, answer_at.max(self.now)));
        }
    }

    fn count_arrival(&mut self) {
        self.arrivals.push(self.now);
        let now = self.now;
        let in_window = self.arrivals.iter().rev().take_while(|at| now - **at < WINDOW_MS).count();
        self.must(in_window <= LIMIT as usize, || format!("I5: {in_window} orders arrived within a second"));
    }

    /// What a query by our id finds.
    pub fn look_up(&self, id: &ClOrdId) -> Lookup {
        let exchange_time = self.exchange_time();
        let found = self.exchange.by_client_id("BTCUSDT", id.as_str());
        let visible = found.filter(|order| exchange_time.millis() - order.created_at >= self.visibility_ms);
        match visible {
            Some(order) => Lookup::Found {
                order_id: OrderId::parse(&order.id).unwrap(),
                status: if order.status == Status::Filled { VenueStatus::Filled } else { VenueStatus::New },
                executed_qty: Qty::parse_or_zero(&order.executed.normalize().to_string()).unwrap(),
            },
            None => Lookup::Absent { exchange_time },
        }
    }

    /// Every record that survived of every executor.
    pub fn durable_records(&self) -> Vec<(ClOrdId, Record)> {
        self.trails.iter().flat_map(|(trail, synced)| trail[..*synced].to_vec()).collect()
    }
}

fn permit(run_id: &str) -> Permit {
    Permit {
        epoch: "e".into(),
        run_id: run_id.to_owned(),
        limits_hash: "h".into(),
        wire: cdb_core::command::WIRE_VERSION,
        issued_at: Timestamp::from_millis(START),
    }
}

/// When an order is approved: one after the other.
pub fn approved_at(n: usize) -> i64 {
    START + 900 * i64::try_from(n).unwrap()
}

/// An approval as only verification makes it.
fn approval(n: usize) -> ApprovedOrder {
    let json = format!(
        r#"{{"v":1,"cl_ord_id":"o-{n}","decision":"approved","command":{{"v":1,"type":"new","cl_ord_id":"o-{n}","strategy":"s","symbol":"BTCUSDT","side":"BUY","ord_type":"MARKET","qty":"0.001","ts":{START}}},"limits_hash":"h","epoch":"e","ts":{START},"expires_at":{}}}"#,
        // Some expire while they wait.
        approved_at(n) + if n % 5 == 4 { 3_000 } else { 600_000 }
    );
    let key = VerdictKey::new(&Secret::parse(b"a-made-up-test-key").ok().unwrap());
    match verify(json.as_bytes(), &key.sign(json.as_bytes()), &key) {
        Ok(Verified::Approved(order)) => *order,
        _ => panic!("the approval is genuine"),
    }
}
