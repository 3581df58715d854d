//! The specification of the atomic admission before a send (design §6 step 2). `gate.lua` does the same in one
//! call on Redis; a differential test drives both with the same histories. Change both or neither.
//!
//! Everything is read first; something is written only when all say yes. A rate slot is taken at the grant and is
//! freed one window after the *answer* came, or, while no answer came, `recv_window + window` after the grant, so
//! that the budget holds where the exchange counts, whatever the network does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::WIRE_VERSION;
use crate::ids::{ClOrdId, StrategyId, Symbol};
use crate::reason::GateRefusal;
use crate::time::Timestamp;

/// How long after the request's window an order may still appear at the exchange, ms (design §6, "in doubt").
pub const FENCE_MARGIN_MS: i64 = 10_000;

/// One rate budget as a request sees it: at most `limit` units in use in any `window_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its name, the last part of the key `cdb:rate:<name>`.
    pub name: String,
    /// Units this class of request may bring the use up to; less than the whole where a share is reserved.
    pub limit: u32,
    /// Length of the window, ms.
    pub window_ms: i64,
    /// Units this request takes.
    pub weight: u32,
}

/// What asks for admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The caller's fencing token.
    pub token: String,
    /// This attempt; asked again with the same nonce, the gate gives the same grant.
    pub nonce: String,
    /// Every budget it takes from.
    pub budgets: Vec<Budget>,
    /// How long the exchange may accept the request after its timestamp, ms.
    pub recv_window_ms: i64,
    /// A new order; `None` for a cancel or a query, which take lease and budget only.
    pub order: Option<OrderRequest>,
}

/// The part of a request that only a new order has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRequest {
    /// The order.
    pub cl_ord_id: ClOrdId,
    /// For `emergency_stop:symbol:<S>`.
    pub symbol: Symbol,
    /// For `emergency_stop:strategy:<S>`.
    pub strategy: StrategyId,
    /// From the verdict; the permit must carry the same.
    pub epoch: String,
    /// From the verdict; the permit must carry the same.
    pub limits_hash: String,
    /// Not to be granted at or after this instant.
    pub expires_at: Timestamp,
    /// From the verdict: an open breaker does not refuse it.
    pub is_exit: bool,
    /// Exchange clock minus Redis's clock, ms.
    pub exchange_offset_ms: i64,
}

/// `cdb:permit`: the short-lived positive right to trade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Identity of the data set.
    pub epoch: String,
    /// The Redis process it was issued in; a restarted one invalidates it.
    pub run_id: String,
    /// The limits in force.
    pub limits_hash: String,
    /// Wire version.
    pub wire: i64,
    /// When it was issued.
    pub issued_at: Timestamp,
}

/// `cdb:claim:<cl_ord_id>`: this ClOrdID was granted, to this attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who was granted it.
    pub token: String,
    /// Which attempt.
    pub nonce: String,
    /// Redis's clock at the grant.
    pub granted_at: Timestamp,
    /// The request's `timestamp`, on the exchange's clock.
    pub timestamp: Timestamp,
    /// The request's `recvWindow`, ms.
    pub recv_window: i64,
    /// After this instant of the exchange's clock the order can no longer come to exist.
    pub final_after: Timestamp,
}

/// The breaker as the gate sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerView {
    /// The key is missing: counts as open.
    Unknown,
    /// Trading.
    Closed,
    /// Exits only.
    Open,
    /// One probe at a time.
    HalfOpen,
}

/// The gate's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Go on; for a new order with its claim.
    Granted(Option<Claim>),
    /// Ask again after this many ms, through the whole gate.
    Wait(i64),
    /// Not to be sent.
    Refused(GateRefusal),
    /// The caller does not hold the lease: it neither acknowledges nor publishes.
    NotLeader,
}

/// What the gate reads and writes.
#[derive(Debug, Clone)]
pub struct Gate {
    /// This Redis process.
    pub run_id: String,
    /// `emergency_stop` exists.
    pub is_stopped: bool,
    /// `emergency_stop:symbol:<S>` exists.
    pub stopped_symbols: Vec<Symbol>,
    /// `emergency_stop:strategy:<S>` exists.
    pub stopped_strategies: Vec<StrategyId>,
    /// `cdb:permit`
    pub permit: Option<Permit>,
    /// `cdb:breaker`
    pub breaker: BreakerView,
    /// `cdb:breaker:probe`
    pub probe: Option<ClOrdId>,
    /// The token in `cdb:lease:execution`.
    pub lease: Option<String>,
    /// `cdb:ban`: nothing is sent before this instant.
    pub banned_until: Option<Timestamp>,
    /// `cdb:claim:*`
    pub claims: BTreeMap<ClOrdId, Claim>,
    /// `cdb:rate:*`: per budget, per slot, when it becomes free.
    pub slots: BTreeMap<String, BTreeMap<String, Timestamp>>,
}

impl Gate {
    /// Admits a request, or says why not.
    pub fn admit(&mut self, request: &Request, now: Timestamp) -> Answer {
        if self.lease.as_deref() != Some(request.token.as_str()) {
            return Answer::NotLeader;
        }
        if let Some(order) = &request.order {
            if let Some(claim) = self.claims.get(&order.cl_ord_id) {
                let is_same_attempt = claim.token == request.token && claim.nonce == request.nonce;
                let claim = is_same_attempt.then(|| claim.clone());
                return claim
                    .map_or(Answer::Refused(GateRefusal::AlreadyClaimed), |claim| Answer::Granted(Some(claim)));
            }
            if let Some(refusal) = self.refuses(order, now) {
                return Answer::Refused(refusal);
            }
        }
        let banned_ms = self.banned_until.map_or(0, |until| until.since_ms(now));
        let wait_ms = request.budgets.iter().map(|budget| self.wait_for(budget, now)).fold(banned_ms, i64::max);
        if wait_ms > 0 {
            return Answer::Wait(wait_ms);
        }
        self.take_slots(request, now);
        Answer::Granted(request.order.as_ref().map(|order| self.claim(order, request, now)))
    }

    fn refuses(&self, order: &OrderRequest, now: Timestamp) -> Option<GateRefusal> {
        let is_stopped = self.is_stopped
            || self.stopped_symbols.contains(&order.symbol)
            || self.stopped_strategies.contains(&order.strategy);
        if is_stopped {
            return Some(GateRefusal::EmergencyStop);
        }
        let is_permitted = self.permit.as_ref().is_some_and(|permit| {
            permit.epoch == order.epoch
                && permit.limits_hash == order.limits_hash
                && permit.run_id == self.run_id
                && permit.wire == WIRE_VERSION
        });
        if !is_permitted {
            return Some(GateRefusal::PermitMissing);
        }
        let breaker_admits = order.is_exit
            || match self.breaker {
                BreakerView::Closed => true,
                BreakerView::HalfOpen => self.probe.is_none(),
                BreakerView::Open | BreakerView::Unknown => false,
            };
        if !breaker_admits {
            return Some(GateRefusal::CircuitOpen);
        }
        (now >= order.expires_at).then_some(GateRefusal::Expired)
    }

    /// Milliseconds until the budget has room for the request; 0 when it has.
    fn wait_for(&self, budget: &Budget, now: Timestamp) -> i64 {
        let mut used: Vec<Timestamp> = self
            .slots
            .get(&budget.name)
            .map(|slots| slots.values().copied().filter(|free_at| *free_at > now).collect())
            .unwrap_or_default();
        used.sort_unstable();
        let used_count = u32::try_from(used.len()).unwrap_or(u32::MAX);
        let over = used_count.saturating_add(budget.weight).saturating_sub(budget.limit);
        match over.checked_sub(1) {
            None => 0,
            // Heavier than the whole budget: never; the caller's bound on waiting ends it.
            Some(index) => match used.get(usize::try_from(index).unwrap_or(usize::MAX)) {
                Some(free_at) => free_at.since_ms(now),
                None => budget.window_ms,
            },
        }
    }

    fn take_slots(&mut self, request: &Request, now: Timestamp) {
        for budget in &request.budgets {
            let slots = self.slots.entry(budget.name.clone()).or_default();
            slots.retain(|_, free_at| *free_at > now);
            let free_at = now.plus_ms(request.recv_window_ms).plus_ms(budget.window_ms);
            for unit in 1..=budget.weight {
                slots.insert(format!("{}:{unit}", request.nonce), free_at);
            }
        }
    }

    fn claim(&mut self, order: &OrderRequest, request: &Request, now: Timestamp) -> Claim {
        let timestamp = now.plus_ms(order.exchange_offset_ms);
        let claim = Claim {
            token: request.token.clone(),
            nonce: request.nonce.clone(),
            granted_at: now,
            timestamp,
            recv_window: request.recv_window_ms,
            final_after: timestamp.plus_ms(request.recv_window_ms).plus_ms(FENCE_MARGIN_MS),
        };
        if self.breaker == BreakerView::HalfOpen && !order.is_exit {
            self.probe = Some(order.cl_ord_id.clone());
        }
        self.claims.insert(order.cl_ord_id.clone(), claim.clone());
        claim
    }

    /// The answer to a request came: its slots are free one window from here.
    pub fn answered(&mut self, nonce: &str, budgets: &[Budget], now: Timestamp) {
        for budget in budgets {
            let Some(slots) = self.slots.get_mut(&budget.name) else { continue };
            for unit in 1..=budget.weight {
                if let Some(free_at) = slots.get_mut(&format!("{nonce}:{unit}")) {
                    *free_at = now.plus_ms(budget.window_ms);
                }
            }
        }
    }

    /// The order reached its final state.
    pub fn settled(&mut self, cl_ord_id: &ClOrdId) {
        if self.probe.as_ref() == Some(cl_ord_id) {
            self.probe = None;
        }
    }
}

#[cfg(test)]
mod tests;
