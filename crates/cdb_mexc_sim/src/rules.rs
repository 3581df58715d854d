//! The symbols and what they allow, in the exchange's own field names.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// One symbol as `GET /exchangeInfo` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SymbolInfo {
    /// `BTCUSDT`
    pub symbol: String,
    /// `1` online, `2` paused, `3` offline
    pub status: String,
    /// What is traded.
    pub base_asset: String,
    /// Quantity step = 10^-n.
    pub base_asset_precision: u32,
    /// What it is paid in.
    pub quote_asset: String,
    /// Price step = 10^-n.
    pub quote_precision: u32,
    /// The same again.
    pub quote_asset_precision: u32,
    /// Decimals of fees in base.
    pub base_commission_precision: u32,
    /// Decimals of fees in quote.
    pub quote_commission_precision: u32,
    /// Documented types; IOC and FOK are never listed.
    pub order_types: Vec<String>,
    /// API trading allowed.
    pub is_spot_trading_allowed: bool,
    /// Margin.
    pub is_margin_trading_allowed: bool,
    /// Minimum amount in quote, LIMIT.
    pub quote_amount_precision: Decimal,
    /// Minimum base quantity.
    pub base_size_precision: Decimal,
    /// Must contain SPOT.
    pub permissions: Vec<String>,
    /// May hold PERCENT_PRICE_BY_SIDE.
    pub filters: Vec<Filter>,
    /// Maximum amount, LIMIT.
    pub max_quote_amount: Decimal,
    /// Maker fee.
    pub maker_commission: Decimal,
    /// Taker fee.
    pub taker_commission: Decimal,
    /// Minimum amount, MARKET.
    pub quote_amount_precision_market: Decimal,
    /// Maximum amount, MARKET.
    pub max_quote_amount_market: Decimal,
    /// Name for people.
    pub full_name: String,
    /// 1 both, 2 buy only, 3 sell only, 4 closed.
    pub trade_side_type: u8,
}

/// A price filter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// `PERCENT_PRICE_BY_SIDE`
    pub filter_type: String,
    /// Buys need price <= last x this.
    pub bid_multiplier_up: Option<Decimal>,
    /// Sells need price >= last x this.
    pub ask_multiplier_down: Option<Decimal>,
}

/// The symbols listed when nothing else is asked for.
#[must_use]
pub fn listed() -> Vec<SymbolInfo> {
    let file = include_str!("../data/exchange-info.json");
    serde_json::from_str(file).expect("the shipped symbol file is valid; a test reads it")
}

impl SymbolInfo {
    /// Price step.
    #[must_use]
    pub fn tick(&self) -> Decimal {
        Decimal::new(1, self.quote_precision)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_shipped_symbols_are_readable() {
        assert!(super::listed().iter().any(|info| info.symbol == "BTCUSDT"));
    }
}
