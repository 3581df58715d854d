//! The reference price and how old it is: the latest bid, ask and last trade of a symbol (protocol `cdb:price`).

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ids::Symbol;
use crate::money::Price;
use crate::order::Side;
use crate::time::Timestamp;

/// The latest prices of one symbol as cdb_execution saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// The symbol.
    pub symbol: Symbol,
    /// Best buying price.
    pub bid: Price,
    /// Best selling price.
    pub ask: Price,
    /// Last traded price.
    pub last: Price,
    /// When the exchange made it.
    pub exchange_time: Timestamp,
    /// When cdb_execution received it; its age counts from here.
    pub ts: Timestamp,
}

impl Quote {
    /// The price an order of this side would take: ask for a buy, bid for a sell.
    #[must_use]
    pub const fn aggressive(&self, side: Side) -> Price {
        match side {
            Side::Buy => self.ask,
            Side::Sell => self.bid,
        }
    }
    /// The value used to mark holdings: the middle of bid and ask.
    #[must_use]
    pub fn mark(&self) -> Price {
        self.bid.midpoint(self.ask)
    }
    /// Spread as a share of the middle; `None` when crossed or without a price.
    #[must_use]
    pub fn spread(&self) -> Option<Decimal> {
        if self.bid.is_zero() || self.ask.is_zero() || self.bid > self.ask {
            return None;
        }
        let width = self.ask.decimal().checked_sub(self.bid.decimal())?;
        width.checked_div(self.mark().decimal())
    }
}
