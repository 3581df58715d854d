//! What the records of all chains say together: each send has an approval and an earlier record, each order ends once
//! or is open, nothing was granted while a stop was in force, and fills add up to what an order is said to have filled.
//!
//! Records are taken chain by chain, in any order of the chains; what one chain alone cannot tell is judged at the end.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Fault, FaultKind, Record};
use crate::money::Qty;
use crate::report::OrdStatus;
use crate::time::Timestamp;
use crate::verdict::digest;

/// A verdict and what it says.
pub const VERDICT: &str = "VERDICT";
/// The record that stands before every send.
pub const SUBMITTED: &str = "ORDER_SUBMITTED";
/// A stop was seen set.
pub const STOP_SET: &str = "STOP_SET";
/// A stop was seen to be gone, or is not looked at any more.
pub const STOP_CLEARED: &str = "STOP_CLEARED";
/// Stands for the key of a stop that binds the process alone that recorded it.
const LOCAL: &str = "local stop";
/// How the names of stops begin that cover a part.
const STOP_SYMBOL: &str = "emergency_stop:symbol:";
const STOP_STRATEGY: &str = "emergency_stop:strategy:";

/// How far apart the clocks of services and Redis may be before a grant next to the edge of a stop is called wrong, ms.
pub const CLOCK_SLACK_MS: i64 = 250;

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct At {
    chain: usize,
    file: String,
    line: usize,
    seq: u64,
}

#[derive(Debug)]
struct Submission {
    at: At,
    symbol: String,
    strategy: String,
    granted_at: Timestamp,
    /// Which verdict approved it; `None` in records of builds that did not say.
    approval: Option<String>,
}

#[derive(Debug, Default)]
struct Order {
    submission: Option<Submission>,
    /// The first report, in each chain, by which the exchange has it.
    known: Vec<At>,
    /// Its end: the state, and where it is first on record.
    end: Option<(OrdStatus, At)>,
    /// Chains that speak of it.
    chains: BTreeSet<usize>,
    /// Quantity of each fill, by trade id.
    fills: BTreeMap<String, Qty>,
    /// The largest CumQty on record, and where.
    filled: Option<(Qty, At)>,
}

/// A time in which a stop was in force.
#[derive(Debug)]
struct Stop {
    chain: usize,
    key: String,
    from: Timestamp,
    until: Timestamp,
}

/// What the records say, gathered.
#[derive(Debug, Default)]
pub struct Story {
    chains: Vec<String>,
    orders: BTreeMap<String, Order>,
    approved: BTreeSet<String>,
    /// Stops in force, by chain and key, since when.
    open_stops: BTreeMap<(usize, String), Timestamp>,
    stops: Vec<Stop>,
    faults: Vec<(usize, Fault)>,
}

/// One fault and the chain it is in.
pub type ChainFault = (String, Fault);

#[derive(Deserialize)]
struct OrderPart {
    cl_ord_id: String,
    #[serde(default)]
    symbol: String,
    #[serde(default)]
    strategy: String,
}

#[derive(Deserialize)]
struct ClaimPart {
    granted_at: Timestamp,
}

#[derive(Deserialize)]
struct ApprovalPart {
    verdict: String,
}

#[derive(Deserialize)]
struct SubmissionPart {
    claim: ClaimPart,
    #[serde(default)]
    approval: Option<ApprovalPart>,
}

#[derive(Deserialize)]
struct ReportPart<'a> {
    #[serde(borrow)]
    cl_ord_id: Cow<'a, str>,
    #[serde(borrow, default)]
    order_id: Option<Cow<'a, str>>,
    ord_status: OrdStatus,
    cum_qty: Qty,
    #[serde(default)]
    last_qty: Option<Qty>,
    #[serde(borrow, default)]
    trade_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct VerdictPart<'a> {
    #[serde(borrow)]
    verdict: Cow<'a, str>,
}

#[derive(Deserialize)]
struct DecisionPart<'a> {
    #[serde(borrow)]
    decision: Cow<'a, str>,
}

/// A stop as cdb_risk (with key and times) and cdb_execution (without) record it.
#[derive(Deserialize)]
struct StopPart {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    still_set_at: Option<Timestamp>,
}

impl Story {
    /// From here on the records are of this chain.
    pub fn begin_chain(&mut self, name: &str) {
        self.chains.push(name.to_owned());
    }

    /// Takes the next record of the chain.
    pub fn take(&mut self, file: &str, line: usize, record: &Record<'_>) {
        let chain = self.chains.len().saturating_sub(1);
        let at = || At { chain, file: file.to_owned(), line, seq: record.seq };
        let result = record.result.map_or("null", |raw| raw.get());
        match record.event_type.as_str() {
            SUBMITTED => self.on_submitted(at(), record, result),
            VERDICT => self.on_verdict(result),
            STOP_SET | STOP_CLEARED => self.on_stop(chain, record, result),
            // The writer of this chain begins anew: what it knew of stops ended at the last it said of them.
            "SERVICE_STARTED" => self.open_stops.retain(|(of, _), _| *of != chain),
            "LEASE_ACQUIRED" => self.open_stops.retain(|(of, key), _| *of != chain || key == LOCAL),
            event_type if event_type.starts_with("ORDER_") => {
                if let Ok(report) = serde_json::from_str(result) {
                    self.on_report(at(), report);
                }
            }
            _ => {}
        }
    }

    fn on_submitted(&mut self, at: At, record: &Record<'_>, result: &str) {
        let order = record.order.map(|raw| serde_json::from_str::<OrderPart>(raw.get()));
        let (Some(Ok(order)), Ok(part)) = (order, serde_json::from_str::<SubmissionPart>(result)) else {
            self.fault(&at, FaultKind::NoApproval, "the submission cannot be read".to_owned());
            return;
        };
        let known = self.orders.entry(order.cl_ord_id.clone()).or_default();
        known.chains.insert(at.chain);
        if known.submission.is_some() {
            self.fault(&at, FaultKind::SubmittedTwice, format!("{} was submitted before", order.cl_ord_id));
            return;
        }
        known.submission = Some(Submission {
            at,
            symbol: order.symbol,
            strategy: order.strategy,
            granted_at: part.claim.granted_at,
            approval: part.approval.map(|approval| approval.verdict),
        });
    }

    fn on_verdict(&mut self, result: &str) {
        let Ok(VerdictPart { verdict }) = serde_json::from_str::<VerdictPart<'_>>(result) else { return };
        let decision = serde_json::from_str::<DecisionPart<'_>>(&verdict);
        if decision.is_ok_and(|part| part.decision == "approved") {
            self.approved.insert(digest(verdict.as_bytes()));
        }
    }

    fn on_stop(&mut self, chain: usize, record: &Record<'_>, result: &str) {
        let Ok(part) = serde_json::from_str::<StopPart>(result) else { return };
        let Some(now) = Timestamp::parse_rfc3339(&record.timestamp) else { return };
        let key = (chain, part.key.unwrap_or_else(|| LOCAL.to_owned()));
        if record.event_type == STOP_SET {
            self.open_stops.entry(key).or_insert(now);
        } else if let Some(from) = self.open_stops.remove(&key) {
            // Where nobody says when it was last seen, it was in force no longer than it was looked at.
            let until = part.still_set_at.unwrap_or(from);
            self.stops.push(Stop { chain, key: key.1, from, until });
        }
    }

    fn on_report(&mut self, at: At, report: ReportPart<'_>) {
        let order = self.orders.entry(report.cl_ord_id.clone().into_owned()).or_default();
        order.chains.insert(at.chain);
        if report.order_id.is_some() && !order.known.iter().any(|known| known.chain == at.chain) {
            order.known.push(at.clone());
        }
        if let (Some(trade_id), Some(last_qty)) = (report.trade_id, report.last_qty) {
            order.fills.insert(trade_id.into_owned(), last_qty);
        }
        if order.filled.as_ref().is_none_or(|(cum_qty, _)| *cum_qty <= report.cum_qty) {
            order.filled = Some((report.cum_qty, at.clone()));
        }
        let status = report.ord_status;
        match &order.end {
            // Even a refused order that trades did trade.
            Some((OrdStatus::Rejected, _)) | None => {
                if status.is_final() {
                    order.end = Some((status, at));
                }
            }
            Some((end, since)) if *end != status && (status.is_final() || since.chain == at.chain) => {
                let text = format!("{} is {} after it was {}", report.cl_ord_id, status.as_str(), end.as_str());
                self.fault(&at, FaultKind::AfterItsEnd, text);
            }
            Some(_) => {}
        }
    }

    fn fault(&mut self, at: &At, kind: FaultKind, text: String) {
        let fault = Fault { file: at.file.clone(), line: at.line, seq: Some(at.seq), kind, text };
        self.faults.push((at.chain, fault));
    }

    /// Everything that does not fit, by chain and place.
    #[must_use]
    pub fn end(mut self) -> Vec<ChainFault> {
        // A stop that nobody saw end holds: whoever would have seen it end did not run, or still sees it.
        for (id, order) in std::mem::take(&mut self.orders) {
            self.judge(&id, &order);
        }
        let Self { chains, mut faults, .. } = self;
        faults.sort_by_key(|(chain, fault)| (*chain, fault.seq));
        faults.into_iter().filter_map(|(chain, fault)| Some((chains.get(chain)?.clone(), fault))).collect()
    }

    fn judge(&mut self, id: &str, order: &Order) {
        if let Some(Submission { at, approval: Some(approval), .. }) = &order.submission
            && !self.approved.contains(approval)
        {
            self.fault(at, FaultKind::NoApproval, format!("{id} was sent and no verdict on record approves it"));
        }
        for known in &order.known {
            let is_earlier = order
                .submission
                .as_ref()
                .is_some_and(|Submission { at, .. }| at.chain != known.chain || at.seq < known.seq);
            if !is_earlier {
                let text = format!("the exchange has {id}, and no earlier record says that it was submitted");
                self.fault(known, FaultKind::NotSubmitted, text);
            }
        }
        if let Some((cum_qty, at)) = &order.filled {
            let sum = order.fills.values().fold(Qty::ZERO, |sum, qty| sum + *qty);
            // After a change of the sending instance one fill may be on record twice, under two numbers.
            let is_enough = order.chains.len() > 1 && sum > *cum_qty;
            if sum != *cum_qty && !is_enough {
                let text = format!("the fills of {id} add up to {sum}, and {cum_qty} is said to be filled");
                self.fault(at, FaultKind::FillsDisagree, text);
            }
        }
        if let Some(submission) = &order.submission
            && let Some(stop) = self.stops.iter().find(|stop| stop.forbids(submission))
        {
            let key = stop.key.clone();
            self.fault(&submission.at, FaultKind::SentWhileStopped, format!("{id} was granted while {key:?} was set"));
        }
    }
}

impl Stop {
    fn forbids(&self, submission: &Submission) -> bool {
        let is_covered = match self.key.strip_prefix(STOP_SYMBOL) {
            Some(symbol) => symbol == submission.symbol,
            None if self.key == LOCAL => self.chain == submission.at.chain,
            None => self.key.strip_prefix(STOP_STRATEGY).is_none_or(|strategy| strategy == submission.strategy),
        };
        let granted_at = submission.granted_at;
        is_covered
            && granted_at > self.from.plus_ms(CLOCK_SLACK_MS)
            && granted_at < self.until.plus_ms(CLOCK_SLACK_MS.saturating_neg())
    }
}

#[cfg(test)]
mod tests;
