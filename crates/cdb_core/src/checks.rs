//! The ordered table of checks (design §4). Each check is a small pure function; the first that fails names the
//! verdict. A new check is a new row here, a new [`Reason`], a line in `docs/limits.md` and a test.

pub mod admission; // identity, age, stops, lost state, breaker
pub mod symbol; // allow-lists, tradability, increments
pub mod price; // the reference price and the collar
pub mod size; // order size and resulting position
pub mod exposure; // all positions together, balance
pub mod pace; // counts, throttles, duplicates, self-trade

use std::fmt;

use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use crate::breaker;
use crate::ids::ClOrdId;
use crate::limits::Limits;
use crate::market::Quote;
use crate::money::Notional;
use crate::order::{MarketSize, NewOrder, OrdType, Side};
use crate::portfolio::Portfolio;
use crate::reason::Reason;
use crate::symbol_rules::SymbolRules;
use crate::time::Timestamp;
use crate::window::{DayCount, PaceCount};

/// One figure of a check: what was found, or what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Figure {
    /// Nothing to show.
    Nothing,
    /// Decimal amount, quantity, price or share.
    Decimal(Decimal),
    /// A count.
    Count(u64),
    /// Milliseconds.
    Millis(i64),
    /// A fixed word.
    Word(&'static str),
    /// A name from outside, already checked for shape.
    Name(String),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("-"),
            Self::Decimal(value) => write!(f, "{}", value.round_dp(8).normalize()),
            Self::Count(count) => write!(f, "{count}"),
            Self::Millis(ms) => write!(f, "{ms}"),
            Self::Word(word) => f.write_str(word),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<Notional> for Figure {
    fn from(amount: Notional) -> Self {
        Self::Decimal(amount.decimal())
    }
}

/// One check that was made, passed or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// The check, by the (first) reason it can give.
    pub check: Reason,
    /// What was found.
    pub value: Figure,
    /// What is allowed.
    pub limit: Figure,
    /// Whether it does not hold; not on the wire when it does.
    #[serde(rename = "refused", skip_serializing_if = "std::ops::Not::not")]
    pub is_refused: bool,
}

/// What a check function answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was found.
    pub value: Figure,
    /// What is allowed.
    pub limit: Figure,
    /// The refusal with its text for a person.
    pub refusal: Option<(Reason, String)>,
}

impl Outcome {
    /// The check holds.
    #[must_use]
    pub const fn pass(value: Figure, limit: Figure) -> Self {
        Self { value, limit, refusal: None }
    }
    /// The check does not hold.
    #[must_use]
    pub fn refuse(reason: Reason, value: Figure, limit: Figure, text: impl Into<String>) -> Self {
        Self { value, limit, refusal: Some((reason, text.into())) }
    }
    /// Nothing to check for this order.
    #[must_use]
    pub const fn not_applicable() -> Self {
        Self::pass(Figure::Nothing, Figure::Nothing)
    }
    /// Passes while `value <= limit`.
    #[must_use]
    pub fn at_most(reason: Reason, value: Decimal, limit: Decimal, what: impl fmt::Display) -> Self {
        let (value_figure, limit_figure) = (Figure::Decimal(value), Figure::Decimal(limit));
        if value <= limit {
            Self::pass(value_figure, limit_figure)
        } else {
            let text = format!("{what} {value_figure} is above {limit_figure}");
            Self::refuse(reason, value_figure, limit_figure, text)
        }
    }
}

/// Which stop covers an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// `all`, `symbol BTCUSDT` or `strategy x`.
    pub scope: String,
    /// What the operator wrote.
    pub reason: String,
}

/// Everything that a verdict on one order depends on.
#[derive(Debug)]
pub struct Context<'a> {
    /// The order.
    pub order: &'a NewOrder,
    /// The owner's limits.
    pub limits: &'a Limits,
    /// Whether its ClOrdID was used before for other content.
    pub is_id_taken: bool,
    /// A stop that covers it.
    pub stop: Option<&'a Stop>,
    /// Why risk's own state cannot be trusted.
    pub state_lost: Option<&'a str>,
    /// The breaker's position.
    pub breaker: breaker::State,
    /// The probe in flight while half open.
    pub probe: Option<&'a ClOrdId>,
    /// The symbol's rules.
    pub rules: Option<&'a SymbolRules>,
    /// The symbol's prices.
    pub quote: Option<&'a Quote>,
    /// The account.
    pub portfolio: &'a Portfolio,
    /// Approvals of this UTC day.
    pub day: DayCount,
    /// Approvals of the moments before.
    pub pace: PaceCount,
    /// How long ago the same content was approved, ms.
    pub twin_age_ms: Option<i64>,
    /// Now.
    pub now: Timestamp,
}

impl Context<'_> {
    /// The order's value at the worst price: limit price, or aggressive reference price plus slippage allowance.
    #[must_use]
    pub fn notional(&self) -> Option<Notional> {
        let order = self.order;
        match order.ord_type {
            OrdType::Limit { price, qty, .. } => Some(price.times(qty)),
            OrdType::Market { size: MarketSize::Quote(amount) } => Some(amount),
            OrdType::Market { size: MarketSize::Qty(qty) } => {
                let price = self.quote?.aggressive(order.side).shifted(self.limits.market_slippage_pct);
                Some(price.times(qty))
            }
        }
    }

    /// The order's value at the reference price without allowance: the smallest it may turn out to be worth.
    #[must_use]
    pub fn least_notional(&self) -> Option<Notional> {
        match self.order.ord_type {
            OrdType::Market { size: MarketSize::Qty(qty) } => Some(self.quote?.aggressive(self.order.side).times(qty)),
            OrdType::Limit { .. } | OrdType::Market { size: MarketSize::Quote(_) } => self.notional(),
        }
    }

    /// Whether the order only reduces a held position and never asks for more than is free.
    #[must_use]
    pub fn is_exit(&self) -> bool {
        match (self.order.side, self.order.order_qty(), self.rules) {
            (Side::Sell, Some(qty), Some(rules)) => qty <= self.portfolio.free_base(rules),
            (Side::Sell | Side::Buy, _, _) => false,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// The reasons it can give; the first names the check.
    pub reasons: &'static [Reason],
    /// The check.
    pub check: fn(&Context<'_>) -> Outcome,
}

const fn row(reasons: &'static [Reason], check: fn(&Context<'_>) -> Outcome) -> Row {
    Row { reasons, check }
}

/// Every check after parsing, in the order of design §4.
pub const TABLE: &[Row] = &[
    row(&[Reason::DuplicateClOrdId], admission::id_is_new),
    row(&[Reason::StaleOrder], admission::age),
    row(&[Reason::EmergencyStop], admission::no_stop),
    row(&[Reason::StateLost], admission::state_known),
    row(&[Reason::CircuitOpen], admission::breaker_admits),
    row(&[Reason::StrategyNotAllowed], symbol::strategy_allowed),
    row(&[Reason::SymbolNotAllowed], symbol::symbol_allowed),
    row(&[Reason::SymbolNotTradable], symbol::tradable),
    row(&[Reason::InvalidPriceIncrement], symbol::price_increment),
    row(&[Reason::InvalidQtyIncrement], symbol::qty_increment),
    row(&[Reason::NoReferencePrice, Reason::StaleReferencePrice, Reason::BadReferencePrice], price::reference),
    row(&[Reason::PriceOutsideCollar], price::collar),
    row(&[Reason::OrderTooSmall], size::not_too_small),
    row(&[Reason::OrderTooLarge], size::not_too_large),
    row(&[Reason::PositionTooLarge], size::position),
    row(&[Reason::PositionPctExceeded], size::position_pct),
    row(&[Reason::ExposureExceeded], exposure::total),
    row(&[Reason::InsufficientBalance], exposure::balance),
    row(&[Reason::TooManyOpenOrders], pace::open_orders),
    row(&[Reason::DailyOrderLimit], pace::daily_orders),
    row(&[Reason::DailyNotionalLimit], pace::daily_notional),
    row(&[Reason::Throttled], pace::throttle),
    row(&[Reason::NotionalThrottled], pace::minute_notional),
    row(&[Reason::RepeatedOrder], pace::not_repeated),
    row(&[Reason::DuplicateOrder], pace::not_a_twin),
    row(&[Reason::SelfTrade], pace::no_self_trade),
];

/// What the table says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Every check of the table, in its order.
    pub checks: Vec<CheckResult>,
    /// The first refusal with its text for a person.
    pub refusal: Option<(Reason, String)>,
}

/// Walks the whole table: the first refusal names the verdict, and the others are listed with it.
#[must_use]
pub fn evaluate(context: &Context<'_>) -> Evaluation {
    let mut checks = Vec::with_capacity(TABLE.len());
    let mut refusal = None;
    for row in TABLE {
        let outcome = (row.check)(context);
        let check = outcome.refusal.as_ref().map_or(row.reasons[0], |(reason, _)| *reason);
        let is_refused = outcome.refusal.is_some();
        checks.push(CheckResult { check, value: outcome.value, limit: outcome.limit, is_refused });
        refusal = refusal.or(outcome.refusal);
    }
    Evaluation { checks, refusal }
}

#[cfg(test)]
mod tests;
