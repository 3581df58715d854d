//! How observations move an order (FIX order state changes). Late, repeated and reordered observations are normal
//! input: CumQty never falls, a fill is never ignored and booked once, a final state stays final.

use crate::command::WIRE_VERSION;
use crate::fills::Fills;
use crate::ids::{ClOrdId, OrderId};
use crate::money::{Notional, Qty};
use crate::order::{NewOrder, OrdType};
use crate::report::{ExecType, ExecutionReport, Fill, Mode, OrdStatus, Source};
use crate::time::Timestamp;

/// The exchange's word for an order's state (exchange API §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VenueStatus {
    /// Open, nothing filled.
    New,
    /// Open, part filled.
    PartiallyFilled,
    /// Done. What was executed is in the executed quantity, never assumed from the status.
    Filled,
    /// Ended with nothing filled.
    Canceled,
    /// Ended with something filled.
    PartiallyCanceled,
}

/// Something learnt about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The exchange acknowledged it.
    Accepted {
        /// Its id there.
        order_id: OrderId,
    },
    /// It was refused, by the gate or by the exchange: nothing was or will be executed.
    Refused {
        /// Code.
        reason: String,
        /// For a person.
        text: String,
    },
    /// It is not known whether it exists.
    Doubt {
        /// Why.
        text: String,
    },
    /// The exchange was asked and has it.
    Found {
        /// Its id there.
        order_id: OrderId,
        /// Its state.
        status: VenueStatus,
        /// Base quantity executed so far.
        executed_qty: Qty,
    },
    /// A fill.
    Traded {
        /// The exchange's id of the order, which its first fill may bring.
        order_id: OrderId,
        /// The fill.
        fill: Fill,
    },
    /// The exchange refused to cancel it.
    CancelRefused {
        /// The cancel command.
        cancel: ClOrdId,
        /// For a person.
        text: String,
    },
    /// A cancel command was carried out; the order's end is observed by itself.
    CancelAccepted {
        /// The cancel command.
        cancel: ClOrdId,
    },
}

/// An order that was claimed, with everything learnt about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedOrder {
    /// The order.
    pub order: NewOrder,
    /// The exchange's id, once known.
    pub order_id: Option<OrderId>,
    /// FIX state.
    pub status: OrdStatus,
    /// Whether it is unknown if it exists.
    pub is_in_doubt: bool,
    /// Base quantity filled.
    pub cum_qty: Qty,
    /// Quote amount filled.
    pub cum_quote: Notional,
    /// How the exchange says it ended, while fills are still missing here.
    pub ended: Option<Ended>,
    /// The cancel that was last asked for.
    pub cancel: Option<ClOrdId>,
    fills: Fills,
    reports: u64,
}

/// An end that waits for its fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The final state.
    pub status: OrdStatus,
    /// Base quantity executed in all.
    pub executed_qty: Qty,
}

/// Where and when an observation was made.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// By what.
    pub source: Source,
    /// In which mode.
    pub mode: Mode,
    /// When it happened.
    pub transact_time: Timestamp,
    /// Now.
    pub now: Timestamp,
}

impl TrackedOrder {
    /// An order just claimed.
    #[must_use]
    pub const fn new(order: NewOrder) -> Self {
        Self {
            order,
            order_id: None,
            status: OrdStatus::PendingNew,
            is_in_doubt: false,
            cum_qty: Qty::ZERO,
            cum_quote: Notional::ZERO,
            ended: None,
            cancel: None,
            fills: Fills::none(),
            reports: 0,
        }
    }

    /// Whether nothing more can happen to it that we would have to ask for.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.status.is_final() && self.ended.is_none()
    }

    /// Whether the exchange reported more executed than the fills booked here.
    #[must_use]
    pub fn has_missing_fills(&self) -> bool {
        self.ended.is_some_and(|ended| ended.executed_qty > self.cum_qty)
    }

    /// Moves the order by one observation; the report of it, or `None` when nothing new was learnt.
    pub fn apply(&mut self, observation: Observation, seen: Seen) -> Option<ExecutionReport> {
        match observation {
            Observation::Accepted { order_id } => self.on_known(order_id, seen),
            Observation::Refused { reason, text } => self.on_refused(reason, text, seen),
            Observation::Doubt { text } => self.on_doubt(text, seen),
            Observation::Found { order_id, status, executed_qty } => {
                self.on_found(order_id, status, executed_qty, seen)
            }
            Observation::Traded { order_id, fill } => {
                self.order_id.get_or_insert(order_id);
                self.on_fill(fill, seen)
            }
            Observation::CancelRefused { cancel, text } => {
                let mut report = self.report(ExecType::OrderStatus, seen);
                report.cancel_cl_ord_id = Some(cancel);
                report.reason = Some("cancel_rejected".to_owned());
                report.text = Some(text);
                Some(report)
            }
            Observation::CancelAccepted { cancel } => {
                self.cancel = Some(cancel);
                if self.status.is_final() {
                    return None;
                }
                self.status = OrdStatus::PendingCancel;
                Some(self.report(ExecType::PendingCancel, seen))
            }
        }
    }

    /// The exchange has it under this id.
    fn on_known(&mut self, order_id: OrderId, seen: Seen) -> Option<ExecutionReport> {
        self.order_id.get_or_insert(order_id);
        let was_in_doubt = std::mem::take(&mut self.is_in_doubt);
        if self.status == OrdStatus::PendingNew {
            self.status = OrdStatus::New;
            Some(self.report(ExecType::New, seen))
        } else {
            was_in_doubt.then(|| self.report(ExecType::OrderStatus, seen))
        }
    }

    fn on_refused(&mut self, reason: String, text: String, seen: Seen) -> Option<ExecutionReport> {
        // A refusal that comes after the order was seen alive is about something else.
        if self.status != OrdStatus::PendingNew || !self.fills.is_empty() {
            return None;
        }
        self.is_in_doubt = false;
        self.status = OrdStatus::Rejected;
        let mut report = self.report(ExecType::Rejected, seen);
        report.reason = Some(reason);
        report.text = Some(text);
        Some(report)
    }

    fn on_doubt(&mut self, text: String, seen: Seen) -> Option<ExecutionReport> {
        if self.is_in_doubt || self.status != OrdStatus::PendingNew {
            return None;
        }
        self.is_in_doubt = true;
        let mut report = self.report(ExecType::OrderStatus, seen);
        report.reason = Some("in_doubt".to_owned());
        report.text = Some(text);
        Some(report)
    }

    fn on_found(
        &mut self,
        order_id: OrderId,
        status: VenueStatus,
        executed_qty: Qty,
        seen: Seen,
    ) -> Option<ExecutionReport> {
        let known = self.on_known(order_id, seen);
        let end = match status {
            VenueStatus::New | VenueStatus::PartiallyFilled => None,
            VenueStatus::Filled => Some(OrdStatus::Filled),
            VenueStatus::Canceled | VenueStatus::PartiallyCanceled => Some(OrdStatus::Canceled),
        };
        if let Some(end) = end
            && !self.status.is_final()
        {
            // An older message that says less does not undo what is known.
            let executed_qty = self.ended.map_or(executed_qty, |known| known.executed_qty.max(executed_qty));
            self.ended = Some(Ended { status: end, executed_qty });
        }
        // One report an observation: the end follows with the next look, when this one already has something to say.
        known.or_else(|| self.end_if_complete(seen))
    }

    /// Ends the order when the exchange said that it ended and every fill is booked.
    pub fn end_if_complete(&mut self, seen: Seen) -> Option<ExecutionReport> {
        let ended = self.ended?;
        if ended.executed_qty > self.cum_qty {
            return None;
        }
        self.ended = None;
        if self.status.is_final() {
            return None;
        }
        self.status = ended.status;
        let exec_type = match ended.status {
            OrdStatus::Canceled => ExecType::Canceled,
            // Filled in full is reported by its last fill; this is the exchange calling a shorter fill complete.
            _ => ExecType::OrderStatus,
        };
        let mut report = self.report(exec_type, seen);
        report.cancel_cl_ord_id.clone_from(&self.cancel);
        Some(report)
    }

    fn on_fill(&mut self, fill: Fill, seen: Seen) -> Option<ExecutionReport> {
        let fill = self.fills.take(fill, seen.source)?;
        self.is_in_doubt = false;
        self.cum_qty = self.cum_qty + fill.last_qty;
        self.cum_quote = self.cum_quote + fill.last_px.times(fill.last_qty);
        let is_complete = match (self.order.order_qty(), self.ended) {
            (_, Some(ended)) if ended.status == OrdStatus::Filled => self.cum_qty >= ended.executed_qty,
            (Some(order_qty), _) => self.cum_qty >= order_qty,
            (None, _) => false,
        };
        match (self.status, is_complete) {
            // A fill that comes after the cancel grows CumQty and leaves the order Canceled.
            (OrdStatus::Canceled | OrdStatus::Expired | OrdStatus::Filled, _) => {}
            (_, true) => {
                self.status = OrdStatus::Filled;
                self.ended = None;
            }
            (OrdStatus::PendingCancel, false) => {}
            // Even a refused order that trades did trade.
            (OrdStatus::PendingNew | OrdStatus::New | OrdStatus::PartiallyFilled | OrdStatus::Rejected, false) => {
                self.status = OrdStatus::PartiallyFilled;
            }
        }
        let mut report = self.report(ExecType::Trade, seen);
        report.exec_id = format!("t:{}", fill.trade_id);
        report.fill = Some(fill);
        Some(report)
    }

    fn report(&mut self, exec_type: ExecType, seen: Seen) -> ExecutionReport {
        self.reports = self.reports.saturating_add(1);
        let order = &self.order;
        let tif = match order.ord_type {
            OrdType::Limit { tif, .. } => Some(tif.as_str().to_owned()),
            OrdType::Market { .. } => None,
        };
        let leaves_qty = if self.status.is_final() {
            Some(Qty::ZERO)
        } else {
            order.order_qty().map(|order_qty| order_qty - self.cum_qty)
        };
        ExecutionReport {
            v: WIRE_VERSION,
            cl_ord_id: order.cl_ord_id.clone(),
            order_id: self.order_id.clone(),
            exec_id: format!("{}:{}", order.cl_ord_id, self.reports),
            exec_type,
            ord_status: self.status,
            in_doubt: self.is_in_doubt,
            strategy: order.strategy.clone(),
            symbol: order.symbol.clone(),
            side: order.side,
            ord_type: order.ord_type.as_str().to_owned(),
            tif,
            order_qty: order.order_qty(),
            quote_qty: order.quote_qty(),
            price: order.price(),
            cum_qty: self.cum_qty,
            leaves_qty,
            avg_px: self.cum_quote.per(self.cum_qty),
            fill: None,
            reason: None,
            text: None,
            cancel_cl_ord_id: None,
            source: seen.source,
            mode: seen.mode,
            transact_time: seen.transact_time,
            ts: seen.now,
        }
    }

    /// Continues from a report that was published or audited before a restart.
    pub fn restore(&mut self, report: &ExecutionReport) {
        self.reports = self.reports.saturating_add(1);
        if self.order_id.is_none() {
            self.order_id.clone_from(&report.order_id);
        }
        if let Some(fill) = &report.fill {
            if !self.fills.restore(fill.clone(), report.source) {
                return;
            }
            self.cum_qty = self.cum_qty + fill.last_qty;
            self.cum_quote = self.cum_quote + fill.last_px.times(fill.last_qty);
        }
        if !self.status.is_final() {
            self.status = report.ord_status;
        }
        self.is_in_doubt = report.in_doubt;
    }
}

#[cfg(test)]
mod tests;
