//! Values that several tests speak of: names, amounts, and the rules of a symbol that binds nobody by accident.

use rust_decimal::Decimal;

use crate::ids::{Asset, Symbol};
use crate::money::{Notional, Qty, parse_decimal};
use crate::symbol_rules::{Sides, SymbolRules};

pub(crate) fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).expect("a symbol")
}

pub(crate) fn asset(text: &str) -> Asset {
    Asset::parse(text).expect("an asset")
}

pub(crate) fn decimal(text: &str) -> Decimal {
    parse_decimal(text).expect("a decimal")
}

pub(crate) fn qty(text: &str) -> Qty {
    Qty::parse_or_zero(text).expect("a quantity")
}

pub(crate) fn usd(text: &str) -> Notional {
    Notional::from_decimal(decimal(text))
}

pub(crate) fn rules_of(base: &str) -> SymbolRules {
    rules_in(base, "USDT")
}

pub(crate) fn rules_in(base: &str, quote: &str) -> SymbolRules {
    SymbolRules {
        symbol: symbol(&format!("{base}{quote}")),
        base: asset(base),
        quote: asset(quote),
        qty_decimals: 6,
        price_decimals: 2,
        qty_min: qty("0.000001"),
        notional_min: usd("1"),
        market_notional_min: usd("1"),
        notional_max: Some(usd("2000000")),
        market_notional_max: Some(usd("2000000")),
        is_tradable: true,
        has_market_orders: true,
        sides: Sides::Both,
        taker_fee: decimal("0.0005"),
    }
}
