//! What an order is held against, summed once after the account has changed, so that each check only looks it up.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{Holding, OpenOrder};
use crate::ids::{Asset, ClOrdId, Symbol};
use crate::market::Quote;
use crate::money::{Notional, Qty};
use crate::order::Side;
use crate::symbol_rules::{SymbolRules, USD_ASSETS};
use crate::time::Timestamp;

/// A position worth no more than this, in what it is marked in, may have an old price.
const DUST: Decimal = Decimal::ONE;

/// Open orders, summed.
#[derive(Debug, Clone, Default)]
pub(super) struct OrderTotals {
    /// What all open buys reserve.
    pub(super) reserved: Notional,
    buys: BTreeMap<Asset, Notional>,
    sells: BTreeMap<Asset, Qty>,
    /// With the fee, by what they are paid in.
    costs: BTreeMap<Asset, Notional>,
    /// Buys whose base is not known: they count in every position.
    nameless_buys: Notional,
    nameless_sells: BTreeMap<Symbol, Qty>,
}

impl OrderTotals {
    pub(super) fn of(orders: &BTreeMap<ClOrdId, OpenOrder>, rules: &BTreeMap<Symbol, SymbolRules>) -> Self {
        let mut totals = Self::default();
        for order in orders.values() {
            totals.reserved = totals.reserved + order.reserved;
            match (rules.get(&order.symbol), order.side) {
                (Some(rules), Side::Buy) => {
                    add(&mut totals.buys, &rules.base, order.reserved);
                    add(&mut totals.costs, &rules.quote, order.reserved + order.reserved.share(rules.taker_fee));
                }
                (Some(rules), Side::Sell) => add(&mut totals.sells, &rules.base, order.leaves_qty),
                (None, Side::Buy) => totals.nameless_buys = totals.nameless_buys + order.reserved,
                (None, Side::Sell) => add(&mut totals.nameless_sells, &order.symbol, order.leaves_qty),
            }
        }
        totals
    }

    /// What all open buys of an asset reserve, those of an unknown one included.
    pub(super) fn buys_of(&self, base: &Asset) -> Notional {
        self.buys.get(base).copied().unwrap_or_default() + self.nameless_buys
    }

    /// What all open buys that are paid in an asset cost with their fees.
    pub(super) fn costs_in(&self, quote: &Asset) -> Notional {
        self.costs.get(quote).copied().unwrap_or_default()
    }

    /// What all open sells of a symbol's base still sell.
    pub(super) fn sells_of(&self, rules: &SymbolRules) -> Qty {
        let of = |qty: Option<&Qty>| qty.copied().unwrap_or(Qty::ZERO);
        of(self.sells.get(&rules.base)) + of(self.nameless_sells.get(&rules.symbol))
    }
}

#[expect(clippy::arithmetic_side_effects, reason = "amounts and quantities saturate")]
fn add<K: Clone + Ord, V: Copy + std::ops::Add<Output = V>>(sums: &mut BTreeMap<K, V>, key: &K, value: V) {
    match sums.get_mut(key) {
        Some(sum) => *sum = *sum + value,
        None => drop(sums.insert(key.clone(), value)),
    }
}

/// What is held, marked in one asset.
#[derive(Debug, Clone)]
pub(super) struct Worth {
    /// All positions: what is neither this asset nor a dollar.
    pub(super) positions: Notional,
    /// Positions and money.
    pub(super) equity: Notional,
    /// The position whose price is the oldest, dust left out.
    pub(super) oldest: Option<(Asset, Timestamp)>,
}

impl Worth {
    /// # Errors
    /// The asset that has no price.
    pub(super) fn of(
        holdings: &BTreeMap<Asset, Holding>,
        quotes: &BTreeMap<Symbol, Quote>,
        quote: &Asset,
    ) -> Result<Self, Asset> {
        let mut worth = Self { positions: Notional::ZERO, equity: Notional::ZERO, oldest: None };
        for (asset, holding) in holdings.iter().filter(|(_, holding)| !holding.total.is_zero()) {
            if asset == quote || USD_ASSETS.contains(&asset.as_str()) {
                worth.equity = worth.equity + Notional::of_quote(holding.total);
                continue;
            }
            let marked = quote_of(quotes, asset, quote).ok_or_else(|| asset.clone())?;
            let value = marked.mark().times(holding.total);
            let is_dust = value <= Notional::from_decimal(DUST);
            if !is_dust && worth.oldest.as_ref().is_none_or(|(_, ts)| marked.ts < *ts) {
                worth.oldest = Some((asset.clone(), marked.ts));
            }
            worth.positions = worth.positions + value;
            worth.equity = worth.equity + value;
        }
        Ok(worth)
    }
}

/// The prices of an asset in another.
pub(super) fn quote_of<'a>(quotes: &'a BTreeMap<Symbol, Quote>, asset: &Asset, quote: &Asset) -> Option<&'a Quote> {
    let symbol = Symbol::parse(&format!("{asset}{quote}"))?;
    quotes.get(&symbol)
}
