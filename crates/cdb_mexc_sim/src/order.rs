//! Orders and trades.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Buy or sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Side {
    /// Takes base.
    Buy,
    /// Gives base.
    Sell,
}

/// The exchange's order types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// Rests.
    Limit,
    /// At any price within 5 %.
    Market,
    /// Only as maker.
    LimitMaker,
    /// What can be had at once.
    ImmediateOrCancel,
    /// All at once or nothing.
    FillOrKill,
}

/// The exchange's order states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Open.
    New,
    /// Open, part filled.
    PartiallyFilled,
    /// Done.
    Filled,
    /// Ended without a fill.
    Canceled,
    /// Ended after a fill.
    PartiallyCanceled,
}

impl Status {
    /// Whether it can still trade.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::New | Self::PartiallyFilled)
    }
}

/// One order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Opaque.
    pub id: String,
    /// The client's, if it gave one.
    pub client_id: Option<String>,
    /// `BTCUSDT`
    pub symbol: String,
    /// Buy or sell.
    pub side: Side,
    /// Type.
    pub kind: Kind,
    /// Limit price, or the cap of a market order.
    pub price: Decimal,
    /// Base quantity; for a market order sized in quote, what the amount buys at the cap.
    pub qty: Decimal,
    /// Quote amount.
    pub quote_qty: Decimal,
    /// Filled base quantity.
    pub executed: Decimal,
    /// Filled quote amount.
    pub executed_quote: Decimal,
    /// What it still holds of quote (buy) or base (sell).
    pub locked: Decimal,
    /// State.
    pub status: Status,
    /// Epoch ms.
    pub created_at: i64,
    /// Epoch ms; `None` before the first change.
    pub updated_at: Option<i64>,
    /// Whether somebody else placed it on the account.
    pub is_foreign: bool,
}

/// One fill.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trade {
    /// 32 hex digits.
    pub id: String,
    /// Of which order.
    pub order_id: String,
    /// Its client id.
    pub client_id: Option<String>,
    /// Symbol.
    pub symbol: String,
    /// Whether the account bought.
    pub side: Side,
    /// Price.
    pub price: Decimal,
    /// Base quantity.
    pub qty: Decimal,
    /// Fee.
    pub fee: Decimal,
    /// Taken in.
    pub fee_asset: String,
    /// Whether the account made liquidity.
    pub is_maker: bool,
    /// Epoch ms.
    pub time: i64,
}
