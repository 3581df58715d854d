//! What an order is, in FIX words.

use serde::{Deserialize, Serialize};

use crate::ids::{ClOrdId, StrategyId, Symbol};
use crate::money::{Notional, Price, Qty};
use crate::time::Timestamp;

/// FIX tag 54.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Side {
    /// Gives quote, takes base.
    Buy,
    /// Gives base, takes quote.
    Sell,
}

impl Side {
    /// The wire text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "BUY",
            Self::Sell => "SELL",
        }
    }
    /// Parses the wire text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "BUY" => Some(Self::Buy),
            "SELL" => Some(Self::Sell),
            _ => None,
        }
    }
    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
}

/// FIX tag 59. Post-only exists inside GTC alone, because elsewhere it has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeInForce {
    /// Rests until filled or cancelled.
    Gtc {
        /// Refused or cancelled rather than taking liquidity.
        post_only: bool,
    },
    /// Fills what it can at once, the rest is cancelled.
    Ioc,
    /// All at once or nothing.
    Fok,
}

impl TimeInForce {
    /// The wire text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gtc { .. } => "GTC",
            Self::Ioc => "IOC",
            Self::Fok => "FOK",
        }
    }
}

/// How large a market order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarketSize {
    /// This much of the base asset.
    Qty(Qty),
    /// As much as this amount of the quote asset buys; BUY only.
    Quote(Notional),
}

/// FIX tag 40 with the fields that exist only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrdType {
    /// At `price` or better.
    Limit {
        /// Worst acceptable price.
        price: Price,
        /// Base quantity.
        qty: Qty,
        /// How long it lives.
        tif: TimeInForce,
    },
    /// At whatever the book gives.
    Market {
        /// How much.
        size: MarketSize,
    },
}

impl OrdType {
    /// The wire text.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "LIMIT",
            Self::Market { .. } => "MARKET",
        }
    }
}

/// One new order as its sender wished it, every field checked for shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// The sender's id for it.
    pub cl_ord_id: ClOrdId,
    /// Who sent it.
    pub strategy: StrategyId,
    /// What to trade.
    pub symbol: Symbol,
    /// Buy or sell.
    pub side: Side,
    /// Price, size and lifetime.
    pub ord_type: OrdType,
    /// Must not do more than reduce a held position.
    pub is_reduce_only: bool,
    /// When the sender made it.
    pub ts: Timestamp,
    /// Not to be sent at or after this instant.
    pub expires_at: Option<Timestamp>,
}

impl NewOrder {
    /// The base quantity, where it is known before the fill.
    #[must_use]
    pub const fn order_qty(&self) -> Option<Qty> {
        match self.ord_type {
            OrdType::Limit { qty, .. } | OrdType::Market { size: MarketSize::Qty(qty) } => Some(qty),
            OrdType::Market { size: MarketSize::Quote(_) } => None,
        }
    }
    /// The quote amount of a market order sized by it.
    #[must_use]
    pub const fn quote_qty(&self) -> Option<Notional> {
        match self.ord_type {
            OrdType::Market { size: MarketSize::Quote(amount) } => Some(amount),
            OrdType::Limit { .. } | OrdType::Market { size: MarketSize::Qty(_) } => None,
        }
    }
    /// The limit price.
    #[must_use]
    pub const fn price(&self) -> Option<Price> {
        match self.ord_type {
            OrdType::Limit { price, .. } => Some(price),
            OrdType::Market { .. } => None,
        }
    }
}
