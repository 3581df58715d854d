//! The exchange's JSON, read leniently: unknown fields are ignored, numbers come as text or number, an id may be
//! null, empty or absent. Decimals keep their text and never pass through a float.

use std::collections::BTreeMap;

use cdb_core::ids::{Asset, OrderId, Symbol, TradeId};
use cdb_core::lifecycle::VenueStatus;
use cdb_core::money::{DecimalFault, Notional, Price, Qty, parse_decimal};
use cdb_core::symbol_rules::{Sides, SymbolRules};
use serde::Deserialize;
use serde_json::value::RawValue;

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

fn fault(field: &'static str, problem: impl Into<String>) -> WireFault {
    WireFault { field, problem: problem.into() }
}

fn decimal<T>(
    field: &'static str,
    text: &Scalar,
    parse: impl Fn(&str) -> Result<T, DecimalFault>,
) -> Result<T, WireFault> {
    parse(&text.0).map_err(|problem| fault(field, problem.to_string()))
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
        let commission = if wire.commission.is_empty() { Scalar("0".to_owned()) } else { wire.commission };
        let asset = if wire.commission_asset.is_empty() { "unknown" } else { &wire.commission_asset.0 };
        Ok(VenueTrade {
            trade_id: TradeId::parse(&wire.id.0).ok_or_else(|| fault("id", "is missing"))?,
            order_id: OrderId::parse(&wire.order_id.0).ok_or_else(|| fault("orderId", "is missing"))?,
            price: decimal("price", &wire.price, Price::parse)?,
            qty: decimal("qty", &wire.qty, Qty::parse)?,
            commission: decimal("commission", &commission, Qty::parse_or_zero)?,
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
            decimal("free", &wire.free, Qty::parse_or_zero)?,
            decimal("locked", &wire.locked, Qty::parse_or_zero)?,
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
