//! What happened at the exchange, as the streams are told of it (exchange API §11).

use rust_decimal::Decimal;

use crate::account::Balance;
use crate::market::Print;
use crate::order::{Order, Trade};

/// Why a balance changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An order was placed.
    EntrustPlace,
    /// An order filled.
    Entrust,
    /// An order ended and gives back what it held.
    EntrustCancel,
    /// A filled order gives back what it did not need.
    EntrustUnfrozen,
    /// A fee.
    TradeFee,
    /// A deposit.
    Deposit,
    /// A withdrawal.
    Withdraw,
}

impl Cause {
    /// The wire text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EntrustPlace => "ENTRUST_PLACE",
            Self::Entrust => "ENTRUST",
            Self::EntrustCancel => "ENTRUST_CANCEL",
            Self::EntrustUnfrozen => "ENTRUST_UNFROZEN",
            Self::TradeFee => "TRADE_FEE",
            Self::Deposit => "DEPOSIT",
            Self::Withdraw => "WITHDRAW",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// An order is new, or changed.
    Order {
        /// After the change.
        order: Order,
        /// Quantity of the fill that changed it, and whether it made liquidity.
        last_fill: Option<(Decimal, bool)>,
    },
    /// A fill.
    Deal(Trade),
    /// A balance changed.
    Balance {
        /// Of this asset.
        asset: String,
        /// From this.
        before: Balance,
        /// To this.
        after: Balance,
        /// Why.
        cause: Cause,
        /// Epoch ms.
        time: i64,
    },
    /// A trade of the market.
    Print {
        /// Symbol.
        symbol: String,
        /// The trade.
        print: Print,
    },
    /// Best prices may have changed.
    Book {
        /// Symbol.
        symbol: String,
    },
}

impl Event {
    /// The order that is new or changed.
    #[must_use]
    pub const fn order_id(&self) -> Option<&String> {
        match self {
            Self::Order { order, .. } => Some(&order.id),
            Self::Deal(_) | Self::Balance { .. } | Self::Print { .. } | Self::Book { .. } => None,
        }
    }

    /// Whether only a user stream is told.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        matches!(self, Self::Order { .. } | Self::Deal(_) | Self::Balance { .. })
    }
}
