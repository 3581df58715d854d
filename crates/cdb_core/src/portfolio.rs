//! Balances, positions, open orders, exposure: what the account could become if every open buy filled (design §1).
//!
//! An approval reserves at once; a reservation ends with the order's final report. An order in doubt keeps all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use rust_decimal::Decimal;

use crate::ids::{Asset, ClOrdId, StrategyId, Symbol};
use crate::market::Quote;
use crate::money::{Notional, Price, Qty};
use crate::order::{NewOrder, OrdType, Side};
use crate::pnl::Opening;
use crate::report::{AccountSnapshot, ExecutionReport, OrdStatus};
use crate::symbol_rules::{SymbolRules, USD_ASSETS};
use crate::time::Timestamp;

mod totals; // what an order is held against, summed once after a change

use totals::{OrderTotals, Worth};

/// What an open order still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    /// What is traded.
    pub symbol: Symbol,
    /// Buy or sell.
    pub side: Side,
    /// Who sent it.
    pub strategy: StrategyId,
    /// Its limit price; `None` for MARKET.
    pub price: Option<Price>,
    /// What a buy was valued at for each unit of base; `None` for a sell.
    pub worst_price: Option<Price>,
    /// Base quantity that may still fill (for an order sized in quote: what the reservation would buy).
    pub leaves_qty: Qty,
    /// Quote amount held by a buy, at the worst price it was approved for; zero for a sell.
    pub reserved: Notional,
    /// Whether the exchange is known to hold it.
    pub is_acknowledged: bool,
    /// When it was approved.
    pub approved_at: Timestamp,
}

/// One asset of the account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Holding {
    /// Free and locked together.
    total: Qty,
    /// Locked at the exchange by something other than our own open orders.
    foreign_locked: Qty,
}

/// The account as risk sees it.
#[derive(Debug, Clone, Default)]
pub struct Portfolio {
    holdings: BTreeMap<Asset, Holding>,
    balances_as_of: Option<Timestamp>,
    can_trade: bool,
    orders: BTreeMap<ClOrdId, OpenOrder>,
    quotes: BTreeMap<Symbol, Quote>,
    rules: BTreeMap<Symbol, SymbolRules>,
    /// Of `orders`; summed when first asked for after one of them has changed.
    order_totals: OnceLock<OrderTotals>,
    /// Of `holdings`, in each asset that a symbol is paid in; the same after a change of theirs or of a price.
    worth: OnceLock<BTreeMap<Asset, Result<Worth, Asset>>>,
}

impl Portfolio {
    /// The rules of a symbol.
    #[must_use]
    pub fn rules(&self, symbol: &Symbol) -> Option<&SymbolRules> {
        self.rules.get(symbol)
    }
    /// The latest prices of a symbol.
    #[must_use]
    pub fn quote(&self, symbol: &Symbol) -> Option<&Quote> {
        self.quotes.get(symbol)
    }
    /// The latest prices of every symbol.
    pub fn quotes(&self) -> impl Iterator<Item = &Quote> {
        self.quotes.values()
    }
    /// The rules of every symbol.
    pub fn all_rules(&self) -> impl Iterator<Item = &SymbolRules> {
        self.rules.values()
    }
    /// Orders open, reserved or in doubt.
    #[must_use]
    pub const fn orders(&self) -> &BTreeMap<ClOrdId, OpenOrder> {
        &self.orders
    }
    /// When the balances were read, `None` before the first time.
    #[must_use]
    pub const fn balances_as_of(&self) -> Option<Timestamp> {
        self.balances_as_of
    }
    /// Whether the exchange says that the account may trade.
    #[must_use]
    pub const fn can_trade(&self) -> bool {
        self.can_trade
    }

    /// Takes a symbol's rules. Whether anything changed.
    pub fn on_rules(&mut self, rules: SymbolRules) -> bool {
        if self.rules.get(&rules.symbol) == Some(&rules) {
            return false;
        }
        self.rules.insert(rules.symbol.clone(), rules);
        self.order_totals.take();
        self.worth.take();
        true
    }

    /// Takes prices; an older message than the one held is dropped. Whether anything changed.
    pub fn on_quote(&mut self, quote: Quote) -> bool {
        match self.quotes.get(&quote.symbol) {
            Some(held) if held.ts > quote.ts || *held == quote => false,
            Some(_) | None => {
                self.quotes.insert(quote.symbol.clone(), quote);
                self.worth.take();
                true
            }
        }
    }

    /// Takes the account's balances, which include every fill reported so far and no other.
    pub fn on_account(&mut self, snapshot: &AccountSnapshot) {
        self.holdings.clear();
        for balance in &snapshot.balances {
            let ours = self.own_locked(&balance.asset);
            let foreign_locked = balance.locked - ours;
            self.holdings
                .insert(balance.asset.clone(), Holding { total: balance.free + balance.locked, foreign_locked });
        }
        self.worth.take();
        self.balances_as_of = Some(snapshot.ts);
        self.can_trade = snapshot.can_trade;
    }

    /// What our acknowledged open orders lock of an asset at the exchange.
    fn own_locked(&self, asset: &Asset) -> Qty {
        let mut locked = Qty::ZERO;
        for order in self.orders.values().filter(|order| order.is_acknowledged) {
            let Some(rules) = self.rules.get(&order.symbol) else { continue };
            if order.side == Side::Buy && &rules.quote == asset {
                locked = locked + Qty::from_decimal(order.reserved.decimal());
            } else if order.side == Side::Sell && &rules.base == asset {
                locked = locked + order.leaves_qty;
            }
        }
        locked
    }

    /// Reserves an approved order: `notional` is its value at the worst price.
    pub fn reserve(&mut self, order: &NewOrder, notional: Notional, now: Timestamp) {
        let leaves_qty = order.order_qty().or_else(|| {
            let quote = self.quotes.get(&order.symbol)?;
            notional.qty_at(quote.bid)
        });
        let (reserved, worst_price) = match order.side {
            Side::Buy => (notional, order.price().or_else(|| notional.per(order.order_qty()?))),
            Side::Sell => (Notional::ZERO, None),
        };
        let open = OpenOrder {
            symbol: order.symbol.clone(),
            side: order.side,
            strategy: order.strategy.clone(),
            price: order.price(),
            worst_price,
            leaves_qty: leaves_qty.unwrap_or(Qty::ZERO),
            reserved,
            is_acknowledged: false,
            approved_at: now,
        };
        self.orders.insert(order.cl_ord_id.clone(), open);
        self.order_totals.take();
    }

    /// Takes back a reservation whose approval was never published.
    pub fn release(&mut self, cl_ord_id: &ClOrdId) {
        self.orders.remove(cl_ord_id);
        self.order_totals.take();
    }

    fn order_totals(&self) -> &OrderTotals {
        self.order_totals.get_or_init(|| OrderTotals::of(&self.orders, &self.rules))
    }

    fn worth(&self) -> &BTreeMap<Asset, Result<Worth, Asset>> {
        self.worth.get_or_init(|| {
            let quotes: BTreeSet<&Asset> = self.rules.values().map(|rules| &rules.quote).collect();
            let worth = |quote: &Asset| (quote.clone(), Worth::of(&self.holdings, &self.quotes, quote));
            quotes.into_iter().map(worth).collect()
        })
    }

    /// Moves balances and reservations by one report. The caller has removed repeated reports.
    pub fn on_report(&mut self, report: &ExecutionReport) {
        if let Some(fill) = &report.fill {
            let cost = fill.last_px.times(fill.last_qty);
            if let Some(rules) = self.rules.get(&report.symbol) {
                let (base, quote) = (rules.base.clone(), rules.quote.clone());
                let cost = Qty::from_decimal(cost.decimal());
                match report.side {
                    Side::Buy => {
                        self.credit(&base, fill.last_qty);
                        self.debit(&quote, cost);
                    }
                    Side::Sell => {
                        self.debit(&base, fill.last_qty);
                        self.credit(&quote, cost);
                    }
                }
            }
            self.debit(&fill.commission_asset, fill.commission);
            if let Some(open) = self.orders.get_mut(&report.cl_ord_id) {
                let left = open.leaves_qty - fill.last_qty;
                open.reserved = match (report.quote_qty, open.worst_price) {
                    (Some(_), _) => (open.reserved - cost).at_least_zero(),
                    (None, Some(worst_price)) => worst_price.times(left).min(open.reserved),
                    (None, None) => Notional::ZERO,
                };
                open.leaves_qty = left;
            }
        }
        if !report.ord_status.is_final() && !self.orders.contains_key(&report.cl_ord_id) {
            self.adopt(report);
        }
        if report.ord_status.is_final() {
            self.orders.remove(&report.cl_ord_id);
        } else if report.ord_status != OrdStatus::PendingNew
            && let Some(open) = self.orders.get_mut(&report.cl_ord_id)
        {
            open.is_acknowledged = true;
        }
        self.order_totals.take();
        if report.fill.is_some() {
            self.worth.take();
        }
    }

    /// An order that lives and that no verdict here knows (its verdict was lost with Redis): what is left of it counts.
    fn adopt(&mut self, report: &ExecutionReport) {
        let quote = self.quotes.get(&report.symbol);
        let worst_price = report.price.or_else(|| quote.map(|quote| quote.aggressive(report.side)));
        let leaves_qty = report.leaves_qty.or_else(|| report.quote_qty?.qty_at(worst_price?)).unwrap_or(Qty::ZERO);
        let value = worst_price.map_or(Notional::ZERO, |price| price.times(leaves_qty));
        let (reserved, worst_price) = match report.side {
            Side::Buy => (value, worst_price),
            Side::Sell => (Notional::ZERO, None),
        };
        let open = OpenOrder {
            symbol: report.symbol.clone(),
            side: report.side,
            strategy: report.strategy.clone(),
            price: report.price,
            worst_price,
            leaves_qty,
            reserved,
            is_acknowledged: false,
            approved_at: report.ts,
        };
        self.orders.insert(report.cl_ord_id.clone(), open);
    }

    fn credit(&mut self, asset: &Asset, qty: Qty) {
        let holding = self.holdings.entry(asset.clone()).or_default();
        holding.total = holding.total + qty;
    }

    fn debit(&mut self, asset: &Asset, qty: Qty) {
        let holding = self.holdings.entry(asset.clone()).or_default();
        holding.total = holding.total - qty;
    }

    /// Free and locked together.
    #[must_use]
    pub fn held(&self, asset: &Asset) -> Qty {
        self.holdings.get(asset).map_or(Qty::ZERO, |holding| holding.total)
    }

    /// What a new buy may spend: the holding less every reservation with its fee and every foreign lock.
    #[must_use]
    pub fn free_quote(&self, quote: &Asset) -> Notional {
        let holding = self.holdings.get(quote).copied().unwrap_or_default();
        Notional::of_quote(holding.total - holding.foreign_locked) - self.order_totals().costs_in(quote)
    }

    /// What a new sell may sell: the holding less every open sell and every foreign lock.
    #[must_use]
    pub fn free_base(&self, rules: &SymbolRules) -> Qty {
        let holding = self.holdings.get(&rules.base).copied().unwrap_or_default();
        holding.total - holding.foreign_locked - self.order_totals().sells_of(rules)
    }

    /// Value of the held position in a symbol's base plus every open buy of that base, as if filled. `None` without a price.
    #[must_use]
    pub fn position_notional(&self, rules: &SymbolRules) -> Option<Notional> {
        let mark = self.quotes.get(&rules.symbol)?.mark();
        Some(mark.times(self.held(&rules.base)) + self.order_totals().buys_of(&rules.base))
    }

    /// Sum of all positions and open buys, and the account's equity, both in `quote`.
    ///
    /// # Errors
    /// The asset that has a holding and no price: what it is worth is not known, so nothing new may be risked.
    pub fn exposure_and_equity(&self, quote: &Asset) -> Result<(Notional, Notional), Asset> {
        let sums = |worth: &Worth| (self.order_totals().reserved + worth.positions, worth.equity);
        match self.worth().get(quote) {
            Some(Ok(worth)) => Ok(sums(worth)),
            Some(Err(asset)) => Err(asset.clone()),
            None => Worth::of(&self.holdings, &self.quotes, quote).map(|worth| sums(&worth)),
        }
    }

    /// The position whose price is the oldest, of those worth more than 1, and when that price was received.
    #[must_use]
    pub fn oldest_mark(&self, quote: &Asset) -> Option<(&Asset, Timestamp)> {
        let worth = self.worth().get(quote)?.as_ref().ok()?;
        worth.oldest.as_ref().map(|(asset, ts)| (asset, *ts))
    }

    /// The mark of an asset in any of the USD assets.
    #[must_use]
    pub fn usd_mark(&self, asset: &Asset) -> Option<Price> {
        USD_ASSETS.iter().find_map(|usd| totals::quote_of(&self.quotes, asset, &Asset::parse(usd)?)).map(Quote::mark)
    }

    /// What is held besides USD, marked, and the equity in USD. `None` before the balances are known, or when a
    /// holding has no price.
    #[must_use]
    pub fn opening(&self) -> Option<(BTreeMap<Asset, Opening>, Notional)> {
        self.balances_as_of?;
        let mut opening = BTreeMap::new();
        let mut equity = Notional::ZERO;
        for (asset, holding) in self.holdings.iter().filter(|(_, holding)| !holding.total.is_zero()) {
            if USD_ASSETS.contains(&asset.as_str()) {
                equity = equity + Notional::of_quote(holding.total);
                continue;
            }
            let mark = self.usd_mark(asset)?;
            equity = equity + mark.times(holding.total);
            opening.insert(asset.clone(), Opening { qty: holding.total, mark });
        }
        Some((opening, equity))
    }

    /// An own open order on the other side that `order` would trade with. A market order reaches from the best price
    /// as far as `slippage`, a share of it.
    #[must_use]
    pub fn crossing_order(&self, order: &NewOrder, slippage: Decimal) -> Option<&ClOrdId> {
        let reach = match (order.ord_type, order.side) {
            (OrdType::Limit { price, .. }, _) => Some(price),
            (OrdType::Market { .. }, Side::Buy) => {
                self.quotes.get(&order.symbol).map(|quote| quote.ask.shifted(slippage))
            }
            (OrdType::Market { .. }, Side::Sell) => {
                let down = Decimal::ZERO.saturating_sub(slippage);
                self.quotes.get(&order.symbol).map(|quote| quote.bid.shifted(down))
            }
        };
        // A market order does not rest, so nothing can trade with it.
        let crosses = |resting: &OpenOrder| match (reach, resting.price) {
            (Some(reach), Some(resting)) => match order.side {
                Side::Buy => reach >= resting,
                Side::Sell => reach <= resting,
            },
            (None, _) | (_, None) => false,
        };
        self.orders
            .iter()
            .find(|(_, open)| open.symbol == order.symbol && open.side == order.side.opposite() && crosses(open))
            .map(|(id, _)| id)
    }
}
