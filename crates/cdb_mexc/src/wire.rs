//! The exchange's JSON, read leniently: unknown fields are ignored, numbers come as text or number, an id may be
//! null, empty or absent. Decimals keep their text and never pass through a float.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use cdb_core::ids::{Asset, OrderId, Symbol, TradeId};
use cdb_core::lifecycle::VenueStatus;
use cdb_core::money::{DecimalFault, FRACTION_DIGITS_MAX, Notional, Price, Qty, parse_decimal, plain};
use cdb_core::symbol_rules::{Sides, SymbolRules};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::{Trouble, meaning};
use crate::client::unreadable;
use crate::stream::ListenKey;

/// A scalar as text, whether it came as a string or as a number; null and absent are the empty text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        Ok(Self(match serde_json::from_str::<String>(text) {
            Ok(string) => string,
            Err(_) if text == "null" => String::new(),
            Err(_) => text.to_owned(),
        }))
    }
}

impl Scalar {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn whole(&self) -> Option<i64> {
        self.0.parse().ok()
    }
}

/// A reply whose needed field cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field '{field}' of the exchange's reply {problem}")]
pub struct WireFault {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

pub(crate) fn fault(field: &'static str, problem: impl Into<String>) -> WireFault {
    WireFault { field, problem: problem.into() }
}

fn decimal<T>(
    field: &'static str,
    text: &Scalar,
    parse: impl Fn(&str) -> Result<T, DecimalFault>,
) -> Result<T, WireFault> {
    parse(&text.0).map_err(|problem| fault(field, problem.to_string()))
}

/// [`FRACTION_DIGITS_MAX`] as the decimal library wants it.
const FRACTION_DIGITS: u32 = 18;
const _: () = assert!(FRACTION_DIGITS as usize == FRACTION_DIGITS_MAX);

/// An amount that the exchange may give with more decimals than are kept here: a fee with 19 was recorded.
pub(crate) fn rounded(field: &'static str, text: &str, to: RoundingStrategy) -> Result<Qty, WireFault> {
    Qty::parse_or_zero(text).or_else(|problem| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let amount = Decimal::from_str(text).ok().filter(|_| is_plain);
        let amount = amount.map(|amount| amount.round_dp_with_strategy(FRACTION_DIGITS, to));
        let amount = amount.and_then(|amount| Qty::parse_or_zero(&plain(amount)).ok());
        amount.ok_or_else(|| fault(field, problem.to_string()))
    })
}

/// A fee, rounded up.
pub(crate) fn fee(field: &'static str, text: &str) -> Result<Qty, WireFault> {
    rounded(field, if text.is_empty() { "0" } else { text }, RoundingStrategy::AwayFromZero)
}

/// A balance, rounded down.
pub(crate) fn holding(field: &'static str, text: &str) -> Result<Qty, WireFault> {
    rounded(field, if text.is_empty() { "0" } else { text }, RoundingStrategy::ToZero)
}

/// Any object that may be an error: `code` as number or string.
#[derive(Debug, Deserialize)]
pub struct Envelope {
    /// 0 and 200 mean success where it is present.
    #[serde(default)]
    pub code: Option<Scalar>,
    /// For a person; may be in any language.
    #[serde(default)]
    pub msg: Option<String>,
}

/// `GET /time`
#[derive(Debug, Deserialize)]
pub struct ServerTime {
    /// Epoch ms.
    #[serde(rename = "serverTime")]
    pub server_time: i64,
}

/// The reply to a create: an acknowledgement; only the id is needed.
#[derive(Debug, Deserialize)]
pub struct Created {
    /// The exchange's id.
    #[serde(rename = "orderId", default)]
    order_id: Scalar,
}

impl Created {
    /// The id.
    #[must_use]
    pub fn order_id(&self) -> Option<OrderId> {
        OrderId::parse(&self.order_id.0)
    }
}

/// One element of the reply to a batch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchElement {
    #[serde(default)]
    order_id: Scalar,
    #[serde(default)]
    new_client_order_id: Scalar,
    code: Option<Scalar>,
    #[serde(default)]
    msg: Scalar,
}

impl BatchElement {
    /// Our id, where the exchange repeats it.
    #[must_use]
    pub fn cl_ord_id(&self) -> Option<&str> {
        (!self.new_client_order_id.is_empty()).then_some(self.new_client_order_id.0.as_str())
    }

    /// The exchange's id, or why there is none.
    ///
    /// # Errors
    /// By its code, like the answer to a single order with HTTP 400.
    pub fn outcome(self) -> Result<OrderId, Trouble> {
        let code = self.code.as_ref().and_then(Scalar::whole);
        match (OrderId::parse(&self.order_id.0), self.code) {
            (Some(order_id), None) => Ok(order_id),
            (None, Some(_)) => {
                let text = format!("code {}: {}", code.unwrap_or_default(), self.msg.0.trim());
                Err(Trouble { meaning: meaning(400, None, code), status: Some(200), text })
            }
            (_, _) => Err(unreadable(fault("orderId", "and code are both there or both missing"))),
        }
    }
}

/// Reads the reply to a batch.
///
/// # Errors
/// Not a JSON list of objects.
pub fn batch(bytes: &[u8]) -> Result<Vec<BatchElement>, WireFault> {
    read(bytes)
}

/// An order as `GET /order`, `/openOrders`, `/allOrders` show it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireOrder {
    #[serde(default)]
    symbol: Scalar,
    #[serde(default)]
    order_id: Scalar,
    #[serde(default)]
    client_order_id: Scalar,
    #[serde(default)]
    executed_qty: Scalar,
    #[serde(default)]
    status: Scalar,
    #[serde(default)]
    time: Scalar,
}

/// An order at the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VenueOrder {
    /// Its symbol.
    pub symbol: Symbol,
    /// Its id there.
    pub order_id: OrderId,
    /// Our id, if it has one.
    pub cl_ord_id: Option<String>,
    /// Base quantity executed.
    pub executed_qty: Qty,
    /// Its state.
    pub status: VenueStatus,
    /// When it was made, epoch ms.
    pub created_at: i64,
}

impl TryFrom<WireOrder> for VenueOrder {
    type Error = WireFault;

    fn try_from(wire: WireOrder) -> Result<Self, WireFault> {
        let status = match wire.status.0.as_str() {
            "NEW" => VenueStatus::New,
            "PARTIALLY_FILLED" => VenueStatus::PartiallyFilled,
            "FILLED" => VenueStatus::Filled,
            "CANCELED" => VenueStatus::Canceled,
            // Terminal, and with fills (exchange API §5).
            "PARTIALLY_CANCELED" => VenueStatus::PartiallyCanceled,
            _ => return Err(fault("status", "is not a state known here")),
        };
        Ok(Self {
            symbol: Symbol::parse(&wire.symbol.0).ok_or_else(|| fault("symbol", "is missing"))?,
            order_id: OrderId::parse(&wire.order_id.0).ok_or_else(|| fault("orderId", "is missing"))?,
            cl_ord_id: (!wire.client_order_id.is_empty()).then_some(wire.client_order_id.0),
            executed_qty: decimal("executedQty", &wire.executed_qty, Qty::parse_or_zero)?,
            status,
            created_at: wire.time.whole().unwrap_or_default(),
        })
    }
}

/// Reads one order.
///
/// # Errors
/// Not JSON, or a needed field is missing.
pub fn order(bytes: &[u8]) -> Result<VenueOrder, WireFault> {
    read_object::<WireOrder>(bytes)?.try_into()
}

/// A list of orders, with whether some entries could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderList {
    /// Those that could.
    pub orders: Vec<VenueOrder>,
    /// Whether the list may hold more than these: absence from it then proves nothing.
    pub is_partial: bool,
}

/// Reads a list of orders. One strange entry, perhaps somebody else's, does not hide the others.
///
/// # Errors
/// Not a JSON list.
pub fn orders(bytes: &[u8]) -> Result<OrderList, WireFault> {
    let entries = read::<Vec<WireOrder>>(bytes)?;
    let count = entries.len();
    let orders: Vec<VenueOrder> = entries.into_iter().filter_map(|entry| entry.try_into().ok()).collect();
    Ok(OrderList { is_partial: orders.len() < count, orders })
}

/// One fill as `GET /myTrades` shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTrade {
    id: Scalar,
    order_id: Scalar,
    price: Scalar,
    qty: Scalar,
    #[serde(default)]
    commission: Scalar,
    #[serde(default)]
    commission_asset: Scalar,
    #[serde(default)]
    time: Scalar,
    #[serde(default)]
    is_buyer: bool,
    #[serde(default)]
    is_maker: bool,
}

/// A fill at the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VenueTrade {
    /// Its id.
    pub trade_id: TradeId,
    /// Of which order.
    pub order_id: OrderId,
    /// At what price.
    pub price: Price,
    /// How much of the base asset.
    pub qty: Qty,
    /// The fee.
    pub commission: Qty,
    /// In what it was taken; neither base nor quote is to be assumed.
    pub commission_asset: Asset,
    /// Epoch ms, in records of whole seconds.
    pub time: i64,
    /// Whether we bought.
    pub is_buyer: bool,
    /// Whether we made liquidity.
    pub is_maker: bool,
}

/// Reads a list of fills.
///
/// # Errors
/// Not JSON, or a needed field is missing.
pub fn trades(bytes: &[u8]) -> Result<Vec<VenueTrade>, WireFault> {
    let trade = |wire: WireTrade| {
        let asset = if wire.commission_asset.is_empty() { "unknown" } else { &wire.commission_asset.0 };
        Ok(VenueTrade {
            trade_id: TradeId::parse(&wire.id.0).ok_or_else(|| fault("id", "is missing"))?,
            order_id: OrderId::parse(&wire.order_id.0).ok_or_else(|| fault("orderId", "is missing"))?,
            price: decimal("price", &wire.price, Price::parse)?,
            qty: decimal("qty", &wire.qty, Qty::parse)?,
            commission: fee("commission", &wire.commission.0)?,
            commission_asset: Asset::parse(asset).ok_or_else(|| fault("commissionAsset", "is no asset name"))?,
            time: wire.time.whole().unwrap_or_default(),
            is_buyer: wire.is_buyer,
            is_maker: wire.is_maker,
        })
    };
    read::<Vec<WireTrade>>(bytes)?.into_iter().map(trade).collect()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAccount {
    #[serde(default)]
    can_trade: bool,
    #[serde(default)]
    can_withdraw: bool,
    balances: Vec<WireBalance>,
}

#[derive(Debug, Deserialize)]
struct WireBalance {
    asset: Scalar,
    free: Scalar,
    locked: Scalar,
}

/// The account at the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VenueAccount {
    /// Whether it may trade.
    pub can_trade: bool,
    /// Whether it may withdraw.
    pub can_withdraw: bool,
    /// Asset, free, locked.
    pub balances: Vec<(Asset, Qty, Qty)>,
}

/// Reads the account.
///
/// # Errors
/// Not JSON, or a needed field is missing.
pub fn account(bytes: &[u8]) -> Result<VenueAccount, WireFault> {
    let wire: WireAccount = read_object(bytes)?;
    let balance = |wire: WireBalance| {
        Ok((
            Asset::parse(&wire.asset.0).ok_or_else(|| fault("asset", "is missing"))?,
            rounded("free", &wire.free.0, RoundingStrategy::ToZero)?,
            rounded("locked", &wire.locked.0, RoundingStrategy::ToZero)?,
        ))
    };
    let balances = wire.balances.into_iter().map(balance).collect::<Result<_, WireFault>>()?;
    Ok(VenueAccount { can_trade: wire.can_trade, can_withdraw: wire.can_withdraw, balances })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTicker {
    symbol: Scalar,
    #[serde(default)]
    bid_price: Scalar,
    #[serde(default)]
    ask_price: Scalar,
    #[serde(default)]
    price: Scalar,
}

/// `{"a":1}` and `[{"a":1}]` alike.
fn tickers(bytes: &[u8]) -> Result<Vec<WireTicker>, WireFault> {
    if starts_with(bytes, b'[') { read(bytes) } else { read_object::<WireTicker>(bytes).map(|one| vec![one]) }
}

/// Reads best bid and ask per symbol; symbols without both are left out.
///
/// # Errors
/// Not JSON.
pub fn book_tickers(bytes: &[u8]) -> Result<BTreeMap<Symbol, (Price, Price)>, WireFault> {
    let ticker = |wire: WireTicker| {
        let (bid, ask) = (Price::parse(&wire.bid_price.0).ok()?, Price::parse(&wire.ask_price.0).ok()?);
        Some((Symbol::parse(&wire.symbol.0)?, (bid, ask)))
    };
    Ok(tickers(bytes)?.into_iter().filter_map(ticker).collect())
}

/// Reads the last price per symbol.
///
/// # Errors
/// Not JSON.
pub fn last_prices(bytes: &[u8]) -> Result<BTreeMap<Symbol, Price>, WireFault> {
    let ticker = |wire: WireTicker| Some((Symbol::parse(&wire.symbol.0)?, Price::parse(&wire.price.0).ok()?));
    Ok(tickers(bytes)?.into_iter().filter_map(ticker).collect())
}

/// What wrapped successes carry.
#[derive(Debug, Deserialize)]
struct Wrapped<T> {
    data: T,
}

/// Reads `defaultSymbols` and `selfSymbols`.
///
/// # Errors
/// Not JSON of this shape.
pub fn symbols(bytes: &[u8]) -> Result<BTreeSet<Symbol>, WireFault> {
    let names = read_object::<Wrapped<Vec<String>>>(bytes)?.data;
    Ok(names.iter().filter_map(|name| Symbol::parse(name)).collect())
}

/// The account's own fee rates, as shares of the amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// For making liquidity.
    pub maker: Decimal,
    /// For taking it.
    pub taker: Decimal,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireFees {
    maker_commission: Scalar,
    taker_commission: Scalar,
}

/// Reads `tradeFee`, the one reply with money as JSON numbers; their text is taken digit by digit.
///
/// # Errors
/// Not JSON of this shape.
pub fn trade_fee(bytes: &[u8]) -> Result<Fees, WireFault> {
    let fees = read_object::<Wrapped<WireFees>>(bytes)?.data;
    Ok(Fees {
        maker: decimal("makerCommission", &fees.maker_commission, parse_decimal)?,
        taker: decimal("takerCommission", &fees.taker_commission, parse_decimal)?,
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireListenKey {
    listen_key: Scalar,
}

/// Reads a new listen key.
///
/// # Errors
/// Not JSON of this shape. The key itself is in no error.
pub fn listen_key(bytes: &[u8]) -> Result<ListenKey, WireFault> {
    let wire = serde_json::from_slice::<WireListenKey>(bytes).map_err(|_| fault("listenKey", "is missing"))?;
    ListenKey::parse(&wire.listen_key.0).ok_or_else(|| fault("listenKey", "is empty"))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireListenKeys {
    listen_key: Vec<String>,
}

/// Reads the list of listen keys.
///
/// # Errors
/// Not JSON of this shape. The keys themselves are in no error.
pub fn listen_keys(bytes: &[u8]) -> Result<Vec<ListenKey>, WireFault> {
    let wire = serde_json::from_slice::<WireListenKeys>(bytes).map_err(|_| fault("listenKey", "is no list"))?;
    Ok(wire.listen_key.iter().filter_map(|key| ListenKey::parse(key)).collect())
}

/// Price levels, best first.
pub type Levels = Vec<(Price, Qty)>;

/// The book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// Of buyers.
    pub bids: Levels,
    /// Of sellers.
    pub asks: Levels,
}

#[derive(Debug, Deserialize)]
struct WireDepth {
    bids: Vec<(Scalar, Scalar)>,
    asks: Vec<(Scalar, Scalar)>,
}

/// Reads `depth`.
///
/// # Errors
/// Not JSON of this shape.
pub fn depth(bytes: &[u8]) -> Result<Depth, WireFault> {
    let levels = |wire: Vec<(Scalar, Scalar)>| -> Result<Levels, WireFault> {
        let level = |(price, qty): (Scalar, Scalar)| {
            Ok((decimal("price", &price, Price::parse)?, decimal("quantity", &qty, Qty::parse_or_zero)?))
        };
        wire.into_iter().map(level).collect()
    };
    let wire: WireDepth = read_object(bytes)?;
    Ok(Depth { bids: levels(wire.bids)?, asks: levels(wire.asks)? })
}

#[derive(Debug, Deserialize)]
struct WireMarketTrade {
    price: Scalar,
    qty: Scalar,
    time: i64,
}

/// A trade of the market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketTrade {
    /// Price.
    pub price: Price,
    /// Base quantity.
    pub qty: Qty,
    /// Epoch ms.
    pub time: i64,
}

/// Reads `trades`.
///
/// # Errors
/// Not JSON of this shape.
pub fn market_trades(bytes: &[u8]) -> Result<Vec<MarketTrade>, WireFault> {
    let trade = |wire: WireMarketTrade| {
        let (price, qty) = (decimal("price", &wire.price, Price::parse)?, decimal("qty", &wire.qty, Qty::parse)?);
        Ok(MarketTrade { price, qty, time: wire.time })
    };
    read::<Vec<WireMarketTrade>>(bytes)?.into_iter().map(trade).collect()
}

#[derive(Debug, Deserialize)]
struct WireExchangeInfo {
    symbols: Vec<WireSymbol>,
}

/// Every field but the first ones has been absent at some time (exchange API §6).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSymbol {
    symbol: Scalar,
    #[serde(default)]
    status: Scalar,
    base_asset: Scalar,
    quote_asset: Scalar,
    base_asset_precision: Option<u32>,
    quote_precision: Option<u32>,
    quote_asset_precision: Option<u32>,
    #[serde(default)]
    base_size_precision: Scalar,
    #[serde(default)]
    quote_amount_precision: Scalar,
    #[serde(default)]
    quote_amount_precision_market: Scalar,
    #[serde(default)]
    max_quote_amount: Scalar,
    #[serde(default)]
    max_quote_amount_market: Scalar,
    #[serde(default)]
    taker_commission: Scalar,
    #[serde(default)]
    is_spot_trading_allowed: bool,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default)]
    order_types: Vec<String>,
    trade_side_type: Option<Scalar>,
}

impl WireSymbol {
    /// The rules; `None` when a needed field is missing: then the symbol cannot be traded.
    fn rules(self) -> Option<SymbolRules> {
        let amount = |text: &Scalar| Notional::parse(&text.0).ok();
        let notional_min = amount(&self.quote_amount_precision)?;
        let is_online = matches!(self.status.0.as_str(), "1" | "ENABLED");
        let has_permission = self.permissions.iter().any(|permission| permission == "SPOT");
        let sides = match self.trade_side_type.as_ref().map(|text| text.0.as_str()) {
            None | Some("1") => Sides::Both,
            Some("2") => Sides::BuyOnly,
            Some("3") => Sides::SellOnly,
            Some(_) => Sides::Neither,
        };
        Some(SymbolRules {
            symbol: Symbol::parse(&self.symbol.0)?,
            base: Asset::parse(&self.base_asset.0)?,
            quote: Asset::parse(&self.quote_asset.0)?,
            qty_decimals: self.base_asset_precision?,
            price_decimals: self.quote_asset_precision.or(self.quote_precision)?,
            qty_min: Qty::parse_or_zero(&self.base_size_precision.0).unwrap_or(Qty::ZERO),
            notional_min,
            market_notional_min: amount(&self.quote_amount_precision_market).unwrap_or(notional_min),
            notional_max: amount(&self.max_quote_amount),
            market_notional_max: amount(&self.max_quote_amount_market),
            is_tradable: is_online && self.is_spot_trading_allowed && has_permission,
            has_market_orders: self.order_types.iter().any(|kind| kind == "MARKET"),
            sides,
            taker_fee: parse_decimal(&self.taker_commission.0).unwrap_or_default(),
        })
    }
}

/// Reads symbol rules; symbols whose needed fields are missing are left out.
///
/// # Errors
/// Not JSON.
pub fn exchange_info(bytes: &[u8]) -> Result<Vec<SymbolRules>, WireFault> {
    Ok(read_object::<WireExchangeInfo>(bytes)?.symbols.into_iter().filter_map(WireSymbol::rules).collect())
}

/// Reads a reply that must be a JSON object; serde alone would also take an array for a struct.
///
/// # Errors
/// Not a JSON object of this shape.
pub fn read_object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireFault> {
    if starts_with(bytes, b'{') { read(bytes) } else { Err(fault("(body)", "is not an object")) }
}

fn starts_with(bytes: &[u8], first: u8) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&first)
}

/// Reads any JSON reply.
///
/// # Errors
/// Not JSON of this shape.
fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireFault> {
    serde_json::from_slice(bytes).map_err(|error| fault("(body)", format!("is not readable: {error}")))
}

#[cfg(test)]
mod tests;
