//! What the exchange allows on a symbol (exchange API §6). Its field names mislead; ours say what they mean.

use serde::{Deserialize, Serialize};

use crate::ids::{Asset, Symbol};
use crate::money::{Notional, Qty};
use crate::order::Side;

/// Assets that count as US dollars: worth 1, never at risk. A limit in USD means nothing in any other quote currency.
pub const USD_ASSETS: [&str; 3] = ["USDT", "USDC", "USD1"];

/// The rules of one symbol. A rule that the exchange did not state is `None`, and then does not bind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolRules {
    /// The symbol.
    pub symbol: Symbol,
    /// What is bought and sold.
    pub base: Asset,
    /// What it is paid in.
    pub quote: Asset,
    /// Quantity step = 10^-n (`baseAssetPrecision`).
    pub qty_decimals: u32,
    /// Price step = 10^-n (`quotePrecision`).
    pub price_decimals: u32,
    /// Least base quantity (`baseSizePrecision`).
    pub qty_min: Qty,
    /// Least amount of a LIMIT order in quote units (`quoteAmountPrecision`).
    pub notional_min: Notional,
    /// Least amount of a MARKET order (`quoteAmountPrecisionMarket`).
    pub market_notional_min: Notional,
    /// Greatest amount of a LIMIT order (`maxQuoteAmount`).
    pub notional_max: Option<Notional>,
    /// Greatest amount of a MARKET order (`maxQuoteAmountMarket`).
    pub market_notional_max: Option<Notional>,
    /// Whether the symbol is online, open to the API and has the SPOT permission.
    pub is_tradable: bool,
    /// Whether MARKET is among its order types.
    pub has_market_orders: bool,
    /// Which sides are open (`tradeSideType`).
    pub sides: Sides,
    /// Taker fee as a share (`takerCommission`); zero when not stated.
    pub taker_fee: rust_decimal::Decimal,
}

/// The sides that a symbol is open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sides {
    /// 1
    Both,
    /// 2
    BuyOnly,
    /// 3
    SellOnly,
    /// 4, and anything not known
    Neither,
}

impl Sides {
    /// Whether this side may be traded.
    #[must_use]
    pub const fn allow(self, side: Side) -> bool {
        match self {
            Self::Both => true,
            Self::BuyOnly => matches!(side, Side::Buy),
            Self::SellOnly => matches!(side, Side::Sell),
            Self::Neither => false,
        }
    }
}

/// Whether `value` is a multiple of 10^-`decimals`.
#[must_use]
pub fn is_on_step(value: rust_decimal::Decimal, decimals: u32) -> bool {
    value.normalize().scale() <= decimals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_values::decimal;

    /// FL-OD-12: in binary fractions 0.29 is no multiple of 0.01, and an exit leaves one step behind.
    #[test]
    fn exact_multiples_of_a_step_are_on_it_and_a_part_of_a_step_is_not() {
        for (value, decimals) in
            [("0.29", 2), ("0.57", 2), ("1.1", 1), ("4.35", 2), ("0.000001", 6), ("7", 0), ("1.10", 1)]
        {
            assert!(is_on_step(decimal(value), decimals), "{value}");
        }
        for step in 1..=400_u32 {
            assert!(is_on_step(rust_decimal::Decimal::new(i64::from(step), 2), 2), "{step} hundredths");
        }
        for (value, decimals) in [("0.0000015", 6), ("0.291", 2), ("0.5", 0)] {
            assert!(!is_on_step(decimal(value), decimals), "{value}");
        }
    }
}
