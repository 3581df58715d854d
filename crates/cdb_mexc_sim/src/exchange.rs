//! Matching: orders against the replayed or scripted market, in price-time order, with fees and locks.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::error::{Refusal, refuse, unknown_symbol};
use crate::event::{Cause, Event};
use crate::market::{Market, Print};
use crate::order::{Kind, Order, Side, Status, Trade};
use crate::rules::SymbolInfo;

/// How far a market order may go from the best price (exchange API §5).
const MARKET_CAP: Decimal = Decimal::from_parts(5, 0, 0, false, 2);
/// Open orders an account may have.
const OPEN_ORDERS_MAX: usize = 500;

/// A new order as asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Symbol.
    pub symbol: String,
    /// Side.
    pub side: Side,
    /// Type.
    pub kind: Kind,
    /// Base quantity.
    pub qty: Option<Decimal>,
    /// Quote amount, MARKET only.
    pub quote_qty: Option<Decimal>,
    /// Price, not for MARKET.
    pub price: Option<Decimal>,
    /// Client id.
    pub client_id: Option<String>,
    /// Placed by somebody else on the account.
    pub is_foreign: bool,
}

/// Behaviours that the exchange does not document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uncertain {
    /// A second order with a used client id is refused; otherwise it becomes a second order.
    pub refuse_duplicate_client_id: bool,
    /// A LIMIT_MAKER that would cross is refused; otherwise it is accepted and canceled.
    pub refuse_crossing_maker: bool,
    /// `quote`, `received` or `MX`.
    pub fee_in: String,
    /// Trade ids of the stream are those of `myTrades`; otherwise they are others.
    pub stream_ids_are_rest_ids: bool,
    /// A MARKET order sized by quantity is called FILLED after this share of it, per cent.
    pub market_filled_pct: u32,
}

impl Default for Uncertain {
    fn default() -> Self {
        Self {
            refuse_duplicate_client_id: false,
            refuse_crossing_maker: false,
            fee_in: "quote".to_owned(),
            stream_ids_are_rest_ids: false,
            market_filled_pct: 100,
        }
    }
}

/// What changed in the books: one line of the file that keeps them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Change {
    account: Account,
    orders: Vec<Order>,
    trades: Vec<Trade>,
    sequence: u64,
}

/// The exchange's books.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Balances.
    pub account: Account,
    /// All orders, by id; ids sort by age.
    pub orders: BTreeMap<String, Order>,
    /// All fills, in order.
    pub trades: Vec<Trade>,
    /// Undocumented behaviour.
    pub uncertain: Uncertain,
    /// Symbols.
    pub symbols: BTreeMap<String, SymbolInfo>,
    /// Markets.
    pub markets: BTreeMap<String, Market>,
    /// What happened since the streams were last told.
    pub events: Vec<Event>,
    sequence: u64,
}

impl Exchange {
    /// An exchange with these symbols.
    #[must_use]
    pub fn new(symbols: Vec<SymbolInfo>) -> Self {
        let mut exchange = Self::default();
        exchange.list(symbols);
        exchange
    }

    /// The books as one change from nothing.
    #[must_use]
    pub fn whole(&self) -> Change {
        let orders = self.orders.values().cloned().collect();
        Change { account: self.account.clone(), orders, trades: self.trades.clone(), sequence: self.sequence }
    }

    /// What changed since the streams were last told, and all trades beyond the first `trades`.
    #[must_use]
    pub fn change(&self, trades: usize) -> Change {
        let changed: std::collections::BTreeSet<&String> = self.events.iter().filter_map(Event::order_id).collect();
        let orders = changed.into_iter().filter_map(|id| self.orders.get(id).cloned()).collect();
        let trades = self.trades.get(trades..).unwrap_or_default().to_vec();
        Change { account: self.account.clone(), orders, trades, sequence: self.sequence }
    }

    /// Takes a change in that was kept.
    pub fn apply(&mut self, change: Change) {
        self.account = change.account;
        self.orders.extend(change.orders.into_iter().map(|order| (order.id.clone(), order)));
        self.trades.extend(change.trades);
        self.sequence = change.sequence;
    }

    /// Lists symbols.
    pub fn list(&mut self, symbols: Vec<SymbolInfo>) {
        self.symbols = symbols.into_iter().map(|info| (info.symbol.clone(), info)).collect();
    }

    /// Changes balances and tells the streams which changed, and why.
    fn book<T>(&mut self, cause: Cause, now: i64, change: impl FnOnce(&mut Account) -> T) -> T {
        let before = self.account.clone();
        let result = change(&mut self.account);
        for (asset, after) in &self.account.0 {
            let before = before.of(asset);
            if before != *after {
                self.events.push(Event::Balance { asset: asset.clone(), before, after: *after, cause, time: now });
            }
        }
        result
    }

    /// A deposit (above zero) or a withdrawal.
    pub fn transfer(&mut self, asset: &str, amount: Decimal, now: i64) {
        let cause = if amount < Decimal::ZERO { Cause::Withdraw } else { Cause::Deposit };
        self.book(cause, now, |account| account.add(asset, amount));
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// An order by client id; the newest, when there are several.
    #[must_use]
    pub fn by_client_id(&self, symbol: &str, client_id: &str) -> Option<&Order> {
        let is_it = |order: &&Order| order.symbol == symbol && order.client_id.as_deref() == Some(client_id);
        self.orders.values().rev().find(is_it)
    }

    /// Checks a new order as the exchange would; its symbol.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, wanted: &Wanted) -> Result<&SymbolInfo, Refusal> {
        let info = self.symbols.get(&wanted.symbol).ok_or_else(unknown_symbol)?;
        if info.status != "1" {
            return Err(refuse(30016, "trading disabled"));
        }
        if !info.is_spot_trading_allowed {
            return Err(refuse(10007, "symbol not support api"));
        }
        let is_side_open = matches!((info.trade_side_type, wanted.side), (1, _) | (2, Side::Buy) | (3, Side::Sell));
        if !is_side_open {
            return Err(refuse(30001, "current transaction direction is not allowed to place an order"));
        }
        if wanted.kind == Kind::Market && !info.order_types.iter().any(|kind| kind == "MARKET") {
            return Err(refuse(30019, "api market order is disabled"));
        }
        check_scales(info, wanted)?;
        let (amount_min, amount_max) = match wanted.kind {
            Kind::Market => (info.quote_amount_precision_market, info.max_quote_amount_market),
            Kind::Limit | Kind::LimitMaker | Kind::ImmediateOrCancel | Kind::FillOrKill => {
                (info.quote_amount_precision, info.max_quote_amount)
            }
        };
        let market = self.markets.get(&wanted.symbol);
        let amount = match (wanted.price, wanted.quote_qty, wanted.qty) {
            (Some(price), _, Some(qty)) if wanted.kind != Kind::Market => price * qty,
            (_, Some(amount), None) => amount,
            (_, _, Some(qty)) => {
                let best = market.and_then(|market| if wanted.side == Side::Buy { market.ask } else { market.bid });
                qty * best.ok_or_else(|| refuse(30010, "no valid trade price"))?
            }
            (_, _, None) => return Err(refuse(700_004, "Mandatory parameter 'quantity' was not sent")),
        };
        if amount < amount_min {
            let text = format!("The minimum transaction volume cannot be less than:{amount_min}{}", info.quote_asset);
            return Err(refuse(30002, text));
        }
        if wanted.qty.is_some_and(|qty| qty < info.base_size_precision) {
            return Err(refuse(30002, "The minimum transaction volume cannot be less than the minimum quantity"));
        }
        if amount > amount_max {
            return Err(refuse(30003, format!("The maximum transaction volume cannot be greater than:{amount_max}")));
        }
        if let (Some(price), Some(last)) = (wanted.price, market.and_then(|market| market.last)) {
            check_band(info, wanted.side, price, last)?;
        }
        Ok(info)
    }

    /// Places an order and matches it; its id.
    ///
    /// # Errors
    /// The refusal; nothing has changed then.
    pub fn place(&mut self, wanted: Wanted, now: i64) -> Result<String, Refusal> {
        let info = self.check(&wanted)?.clone();
        if self.orders.values().filter(|order| order.status.is_open()).count() >= OPEN_ORDERS_MAX {
            return Err(refuse(30069, "too many open orders"));
        }
        if let Some(client_id) = &wanted.client_id
            && self.uncertain.refuse_duplicate_client_id
            && self.orders.values().any(|order| order.client_id.as_ref() == Some(client_id))
        {
            return Err(refuse(730_002, "duplicate newClientOrderId"));
        }
        let market = self.markets.get(&wanted.symbol).cloned().unwrap_or_default();
        let best = if wanted.side == Side::Buy { market.ask } else { market.bid };
        let price = match (wanted.kind, best) {
            (Kind::Market, Some(best)) => {
                let cap = if wanted.side == Side::Buy { Decimal::ONE + MARKET_CAP } else { Decimal::ONE - MARKET_CAP };
                (best * cap).round_dp(info.quote_precision)
            }
            (Kind::Market, None) => return Err(refuse(30010, "no valid trade price")),
            (_, _) => wanted.price.ok_or_else(|| refuse(700_004, "Mandatory parameter 'price' was not sent"))?,
        };
        let does_cross = best.is_some_and(|best| match wanted.side {
            Side::Buy => best <= price,
            Side::Sell => best >= price,
        });
        if wanted.kind == Kind::LimitMaker && does_cross && self.uncertain.refuse_crossing_maker {
            return Err(refuse(30041, "current order type can not place order"));
        }
        let qty = wanted
            .qty
            .or_else(|| wanted.quote_qty.map(|amount| (amount / price).trunc_with_scale(info.base_asset_precision)));
        let qty = qty.ok_or_else(|| refuse(700_004, "Mandatory parameter 'quantity' was not sent"))?;
        let (asset, needed) = match wanted.side {
            Side::Buy => (&info.quote_asset, wanted.quote_qty.unwrap_or(price * qty)),
            Side::Sell => (&info.base_asset, qty),
        };
        if !self.book(Cause::EntrustPlace, now, |account| account.lock(asset, needed)) {
            let (code, text) =
                if wanted.side == Side::Buy { (30004, "Insufficient position") } else { (30005, "Oversold") };
            return Err(refuse(code, text));
        }
        let id = format!("C02__{:018}", self.next());
        let order = Order {
            id: id.clone(),
            client_id: wanted.client_id,
            symbol: wanted.symbol,
            side: wanted.side,
            kind: wanted.kind,
            price,
            qty,
            quote_qty: wanted.quote_qty.unwrap_or(price * qty),
            executed: Decimal::ZERO,
            executed_quote: Decimal::ZERO,
            locked: needed,
            status: Status::New,
            created_at: now,
            updated_at: None,
            is_foreign: wanted.is_foreign,
        };
        self.events.push(Event::Order { order: order.clone(), last_fill: None });
        self.orders.insert(id.clone(), order);
        self.match_new(&id, &info, does_cross, wanted.quote_qty.is_some(), now);
        Ok(id)
    }

    fn match_new(&mut self, id: &str, info: &SymbolInfo, does_cross: bool, is_sized_in_quote: bool, now: i64) {
        let order = self.orders[id].clone();
        if order.kind == Kind::LimitMaker {
            if does_cross {
                self.end(id, now);
            }
            return;
        }
        let wanted = match order.kind {
            Kind::Market => {
                let share = Decimal::new(i64::from(self.uncertain.market_filled_pct), 2);
                (order.qty * share).trunc_with_scale(info.base_asset_precision)
            }
            Kind::Limit | Kind::LimitMaker | Kind::ImmediateOrCancel | Kind::FillOrKill => order.qty,
        };
        let market = self.markets.get(&order.symbol).cloned().unwrap_or_default();
        let levels = market.liquidity(order.side, order.price, info.tick());
        if order.kind == Kind::FillOrKill && levels.iter().map(|(_, qty)| *qty).sum::<Decimal>() < order.qty {
            self.end(id, now);
            return;
        }
        for (price, available) in levels {
            let order = &self.orders[id];
            let left = if is_sized_in_quote {
                ((order.quote_qty - order.executed_quote) / price).trunc_with_scale(info.base_asset_precision)
            } else {
                wanted - order.executed
            };
            let qty = left.min(available.trunc_with_scale(info.base_asset_precision));
            if left.is_zero() {
                break;
            }
            if qty.is_zero() {
                continue;
            }
            let side = order.side;
            let symbol = order.symbol.clone();
            self.fill(id, info, price, qty, false, now);
            if let Some(market) = self.markets.get_mut(&symbol) {
                market.take(side, qty);
            }
        }
        let order = &self.orders[id];
        let is_complete = if is_sized_in_quote {
            let left =
                ((order.quote_qty - order.executed_quote) / order.price).trunc_with_scale(info.base_asset_precision);
            left.is_zero() && !order.executed.is_zero()
        } else {
            order.executed == wanted
        };
        if is_complete {
            self.finish(id, Status::Filled, now);
        } else if matches!(order.kind, Kind::Market | Kind::ImmediateOrCancel | Kind::FillOrKill) {
            self.end(id, now);
        }
    }

    /// Books one fill of an order.
    fn fill(&mut self, id: &str, info: &SymbolInfo, price: Decimal, qty: Decimal, is_maker: bool, now: i64) {
        let trade_number = self.next();
        let Some(order) = self.orders.get_mut(id) else { return };
        let cost = price * qty;
        order.executed += qty;
        order.executed_quote += cost;
        order.status = Status::PartiallyFilled;
        order.updated_at = Some(now);
        let side = order.side;
        // A limit buy locked at its own price gets the difference back.
        let unlocked = match side {
            Side::Sell => qty,
            Side::Buy if order.kind == Kind::Market => cost.min(order.locked),
            Side::Buy => order.price * qty,
        };
        order.locked -= unlocked;
        let after = order.clone();
        self.book(Cause::Entrust, now, |account| match side {
            Side::Buy => {
                account.spend_locked(&info.quote_asset, unlocked);
                account.add(&info.quote_asset, unlocked - cost);
                account.add(&info.base_asset, qty);
            }
            Side::Sell => {
                account.spend_locked(&info.base_asset, unlocked);
                account.add(&info.quote_asset, cost);
            }
        });
        let rate = if is_maker { info.maker_commission } else { info.taker_commission };
        let (fee, fee_asset) = self.fee(side, info, qty, cost, rate);
        self.book(Cause::TradeFee, now, |account| account.add(&fee_asset, -fee));
        let trade = Trade {
            id: format!("{trade_number:032x}"),
            order_id: after.id.clone(),
            client_id: after.client_id.clone(),
            symbol: after.symbol.clone(),
            side,
            price,
            qty,
            fee,
            fee_asset,
            is_maker,
            time: now,
        };
        self.events.push(Event::Deal(trade.clone()));
        self.events.push(Event::Order { order: after, last_fill: Some((qty, is_maker)) });
        self.trades.push(trade);
    }

    /// The fee is taken in quote, in what was received, or in MX; never from an asset that does not cover it.
    fn fee(&self, side: Side, info: &SymbolInfo, qty: Decimal, cost: Decimal, rate: Decimal) -> (Decimal, String) {
        let in_base = ((qty * rate).round_dp(info.base_commission_precision), info.base_asset.clone());
        let in_quote = ((cost * rate).round_dp(info.quote_commission_precision), info.quote_asset.clone());
        let is_in_base = side == Side::Buy
            && (self.uncertain.fee_in == "received" || self.account.of(&info.quote_asset).free < in_quote.0);
        match self.uncertain.fee_in.as_str() {
            "MX" if self.account.of("MX").free >= in_quote.0 => (in_quote.0, "MX".to_owned()),
            _ if is_in_base => in_base,
            _ => in_quote,
        }
    }

    /// Ends an order that will not trade further.
    fn end(&mut self, id: &str, now: i64) {
        let is_untouched = self.orders.get(id).is_some_and(|order| order.executed.is_zero());
        self.finish(id, if is_untouched { Status::Canceled } else { Status::PartiallyCanceled }, now);
    }

    fn finish(&mut self, id: &str, status: Status, now: i64) {
        let Some(order) = self.orders.get_mut(id) else { return };
        order.status = status;
        order.updated_at = Some(now);
        let locked = std::mem::take(&mut order.locked);
        let ended = order.clone();
        let last = self.events.iter_mut().rev().find_map(|event| match event {
            Event::Order { order, last_fill: Some(_) } if order.id == id => Some(order),
            _ => None,
        });
        match last {
            // The last fill and the end are one change.
            Some(last) if status == Status::Filled => last.clone_from(&ended),
            Some(_) | None => self.events.push(Event::Order { order: ended.clone(), last_fill: None }),
        }
        let Some(info) = self.symbols.get(&ended.symbol) else { return };
        let asset = if ended.side == Side::Buy { info.quote_asset.clone() } else { info.base_asset.clone() };
        let cause = if status == Status::Filled { Cause::EntrustUnfrozen } else { Cause::EntrustCancel };
        self.book(cause, now, |account| account.unlock(&asset, locked));
    }

    /// Cancels an open order; the order as it was before.
    ///
    /// # Errors
    /// It is not open, or does not exist.
    pub fn cancel(&mut self, id: &str, now: i64) -> Result<Order, Refusal> {
        let before = self.orders.get(id).cloned().ok_or_else(|| refuse(-2011, "Unknown order sent."))?;
        if !before.status.is_open() {
            return Err(refuse(-2011, "Unknown order sent."));
        }
        self.end(id, now);
        Ok(before)
    }

    /// A recorded trade: moves the market and fills resting orders that it reaches, up to its quantity.
    pub fn on_print(&mut self, symbol: &str, price: Decimal, qty: Decimal, taker: Side, now: i64) {
        let Some(info) = self.symbols.get(symbol).cloned() else { return };
        let market = self.markets.entry(symbol.to_owned()).or_default();
        let print = Print { price, qty, taker, time: now };
        market.on_print(print, info.tick());
        self.events.push(Event::Print { symbol: symbol.to_owned(), print });
        self.events.push(Event::Book { symbol: symbol.to_owned() });
        self.fill_resting(&info, price, price, Some(qty), now);
    }

    /// A scripted price: fills every resting order that it crosses, in full.
    ///
    /// # Errors
    /// Unknown symbol, or bid above ask.
    pub fn on_script(
        &mut self,
        symbol: &str,
        bid: Decimal,
        ask: Decimal,
        last: Decimal,
        now: i64,
    ) -> Result<(), Refusal> {
        let info = self.symbols.get(symbol).cloned().ok_or_else(unknown_symbol)?;
        self.markets.entry(symbol.to_owned()).or_default().on_script(bid, ask, last);
        self.events.push(Event::Book { symbol: symbol.to_owned() });
        self.fill_resting(&info, ask, bid, None, now);
        Ok(())
    }

    /// Fills resting buys at or above `ask` and resting sells at or below `bid`, best price first, then oldest.
    fn fill_resting(&mut self, info: &SymbolInfo, ask: Decimal, bid: Decimal, qty: Option<Decimal>, now: i64) {
        let reaches = |order: &&Order| {
            order.symbol == info.symbol
                && order.status.is_open()
                && match order.side {
                    Side::Buy => order.price >= ask,
                    Side::Sell => order.price <= bid,
                }
        };
        let mut reached: Vec<(Side, Decimal, String)> =
            self.orders.values().filter(reaches).map(|order| (order.side, order.price, order.id.clone())).collect();
        reached.sort_by(|one, other| match one.0 {
            Side::Buy => other.1.cmp(&one.1).then(one.2.cmp(&other.2)),
            Side::Sell => one.1.cmp(&other.1).then(one.2.cmp(&other.2)),
        });
        let mut left = qty.map(|qty| qty.trunc_with_scale(info.base_asset_precision));
        for (_, price, id) in reached {
            let open = self.orders[&id].qty - self.orders[&id].executed;
            let fill = left.map_or(open, |left| left.min(open));
            if fill.is_zero() {
                break;
            }
            self.fill(&id, info, price, fill, true, now);
            left = left.map(|left| left - fill);
            if self.orders[&id].executed == self.orders[&id].qty {
                self.finish(&id, Status::Filled, now);
            }
        }
    }
}

fn check_scales(info: &SymbolInfo, wanted: &Wanted) -> Result<(), Refusal> {
    let is_scale_over =
        |value: Option<Decimal>, decimals: u32| value.is_some_and(|value| value.normalize().scale() > decimals);
    let is_not_positive = |value: Option<Decimal>| value.is_some_and(|value| value <= Decimal::ZERO);
    if is_not_positive(wanted.qty) || is_not_positive(wanted.quote_qty) || is_not_positive(wanted.price) {
        return Err(refuse(10102, "the amount cannot be zero or negative"));
    }
    // The leading blank is the exchange's.
    if is_scale_over(wanted.qty, info.base_asset_precision) || is_scale_over(wanted.quote_qty, info.quote_precision) {
        return Err(refuse(400, " amount scale is invalid"));
    }
    if is_scale_over(wanted.price, info.quote_precision) {
        return Err(refuse(400, " price scale is invalid"));
    }
    Ok(())
}

fn check_band(info: &SymbolInfo, side: Side, price: Decimal, last: Decimal) -> Result<(), Refusal> {
    let is_outside = info.filters.iter().any(|filter| match side {
        Side::Buy => filter.bid_multiplier_up.is_some_and(|up| price > last * up),
        Side::Sell => filter.ask_multiplier_down.is_some_and(|down| price < last * down),
    });
    if is_outside { Err(refuse(30087, "Order price exceeds allowed range")) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
