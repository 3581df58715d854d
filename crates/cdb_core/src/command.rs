//! What strategies and operators may put on `cdb:orders` (design §3 "An order command").

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use sha2::{Digest, Sha256};

use crate::fields::{FieldFault, Fields};
use crate::ids::{ClOrdId, StrategyId, Symbol};
use crate::money::{Notional, Price, Qty};
use crate::order::{MarketSize, NewOrder, OrdType, Side, TimeInForce};
use crate::time::Timestamp;

/// The wire version of every message.
pub const WIRE_VERSION: i64 = 1;

/// One command, every field checked for shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Place an order.
    New(NewOrder),
    /// Cancel one order.
    Cancel {
        /// This command's own id.
        cl_ord_id: ClOrdId,
        /// The order to cancel.
        orig_cl_ord_id: ClOrdId,
    },
    /// Cancel every open order, of one symbol or of all.
    CancelAll {
        /// This command's own id.
        cl_ord_id: ClOrdId,
        /// Only this symbol.
        symbol: Option<Symbol>,
    },
}

/// Bytes that are not a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The id, when that much was readable: then the sender gets a verdict, otherwise the entry is a dead letter.
    pub cl_ord_id: Option<ClOrdId>,
    /// What is wrong.
    pub fault: FieldFault,
}

impl Command {
    /// Reads a command from the bytes of an entry's `json` field.
    ///
    /// # Errors
    /// The first fault found, with its field's name.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::read(bytes).map_err(|fault| Malformed { cl_ord_id: None, fault })?;
        let cl_ord_id = fields
            .text("cl_ord_id", ClOrdId::SHAPE, ClOrdId::parse)
            .map_err(|fault| Malformed { cl_ord_id: None, fault })?;
        Self::parse_fields(fields, cl_ord_id.clone()).map_err(|fault| Malformed { cl_ord_id: Some(cl_ord_id), fault })
    }

    fn parse_fields(mut fields: Fields<'_>, cl_ord_id: ClOrdId) -> Result<Self, FieldFault> {
        let version = fields.whole("v")?;
        if version != WIRE_VERSION {
            return Err(FieldFault::new("v", format!("is not {WIRE_VERSION}, the only version known here")));
        }
        let kind = fields.text("type", "new, cancel or cancel_all", |text| Some(text.to_owned()))?;
        let command = match kind.as_str() {
            "new" => Self::New(parse_new(&mut fields, cl_ord_id)?),
            "cancel" => {
                let orig_cl_ord_id = fields.text("orig_cl_ord_id", ClOrdId::SHAPE, ClOrdId::parse)?;
                Self::Cancel { cl_ord_id, orig_cl_ord_id }
            }
            "cancel_all" => {
                let symbol = fields.text_if_present("symbol", Symbol::SHAPE, Symbol::parse)?;
                Self::CancelAll { cl_ord_id, symbol }
            }
            _ => return Err(FieldFault::new("type", "is not new, cancel or cancel_all")),
        };
        fields.finish()?;
        Ok(command)
    }

    /// The command's own id.
    #[must_use]
    pub const fn cl_ord_id(&self) -> &ClOrdId {
        match self {
            Self::New(order) => &order.cl_ord_id,
            Self::Cancel { cl_ord_id, .. } | Self::CancelAll { cl_ord_id, .. } => cl_ord_id,
        }
    }

    /// The first 8 bytes of the SHA-256 over the canonical JSON: equal exactly for equal content.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let json = serde_json::to_vec(self).expect("a command always serialises");
        let digest = Sha256::digest(&json);
        digest.iter().take(8).fold(0, |number, byte| (number << 8_u32) | u64::from(*byte))
    }
}

fn parse_new(fields: &mut Fields<'_>, cl_ord_id: ClOrdId) -> Result<NewOrder, FieldFault> {
    let strategy = fields.text("strategy", StrategyId::SHAPE, StrategyId::parse)?;
    let symbol = fields.text("symbol", Symbol::SHAPE, Symbol::parse)?;
    let side = fields.text("side", "BUY or SELL", Side::parse)?;
    let kind = fields.text("ord_type", "LIMIT or MARKET", |text| Some(text.to_owned()))?;
    let ord_type = match kind.as_str() {
        "LIMIT" => parse_limit(fields)?,
        "MARKET" => parse_market(fields, side)?,
        _ => return Err(FieldFault::new("ord_type", "is not LIMIT or MARKET")),
    };
    let is_reduce_only = fields.flag("reduce_only")?;
    if is_reduce_only && side == Side::Buy {
        return Err(FieldFault::new("reduce_only", "has a meaning for SELL only: on spot, a buy reduces nothing"));
    }
    let ts = fields.whole("ts").map(Timestamp::from_millis)?;
    let has_expiry = fields.has("expires_at");
    let expires_at = if has_expiry { Some(fields.whole("expires_at").map(Timestamp::from_millis)?) } else { None };
    Ok(NewOrder { cl_ord_id, strategy, symbol, side, ord_type, is_reduce_only, ts, expires_at })
}

fn parse_limit(fields: &mut Fields<'_>) -> Result<OrdType, FieldFault> {
    let price = fields.decimal("price", Price::parse)?;
    let qty = fields.decimal("qty", Qty::parse)?;
    let tif = fields.text("tif", "GTC, IOC or FOK", |text| match text {
        "GTC" => Some(TimeInForce::Gtc { post_only: false }),
        "IOC" => Some(TimeInForce::Ioc),
        "FOK" => Some(TimeInForce::Fok),
        _ => None,
    })?;
    let post_only = fields.flag("post_only")?;
    let tif = match tif {
        TimeInForce::Gtc { .. } => TimeInForce::Gtc { post_only },
        TimeInForce::Ioc | TimeInForce::Fok if post_only => {
            return Err(FieldFault::new("post_only", "goes with tif GTC only"));
        }
        other @ (TimeInForce::Ioc | TimeInForce::Fok) => other,
    };
    Ok(OrdType::Limit { price, qty, tif })
}

fn parse_market(fields: &mut Fields<'_>, side: Side) -> Result<OrdType, FieldFault> {
    for name in ["price", "tif", "post_only"] {
        if fields.has(name) {
            return Err(FieldFault::new(name, "has no meaning for a MARKET order"));
        }
    }
    let size = match (fields.has("qty"), fields.has("quote_qty")) {
        (true, false) => MarketSize::Qty(fields.decimal("qty", Qty::parse)?),
        (false, true) if side == Side::Buy => MarketSize::Quote(fields.decimal("quote_qty", Notional::parse)?),
        (false, true) => return Err(FieldFault::new("quote_qty", "is for BUY only; size a SELL by qty")),
        (true, true) => return Err(FieldFault::new("quote_qty", "and 'qty' exclude each other")),
        (false, false) => return Err(FieldFault::new("qty", "is missing")),
    };
    Ok(OrdType::Market { size })
}

/// The canonical form: fixed field order, absent fields left out. It parses back to the same command.
impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &WIRE_VERSION)?;
        match self {
            Self::New(order) => {
                map.serialize_entry("type", "new")?;
                serialize_new(&mut map, order)?;
            }
            Self::Cancel { cl_ord_id, orig_cl_ord_id } => {
                map.serialize_entry("type", "cancel")?;
                map.serialize_entry("cl_ord_id", cl_ord_id)?;
                map.serialize_entry("orig_cl_ord_id", orig_cl_ord_id)?;
            }
            Self::CancelAll { cl_ord_id, symbol } => {
                map.serialize_entry("type", "cancel_all")?;
                map.serialize_entry("cl_ord_id", cl_ord_id)?;
                if let Some(symbol) = symbol {
                    map.serialize_entry("symbol", symbol)?;
                }
            }
        }
        map.end()
    }
}

fn serialize_new<M: SerializeMap>(map: &mut M, order: &NewOrder) -> Result<(), M::Error> {
    map.serialize_entry("cl_ord_id", &order.cl_ord_id)?;
    map.serialize_entry("strategy", &order.strategy)?;
    map.serialize_entry("symbol", &order.symbol)?;
    map.serialize_entry("side", &order.side)?;
    map.serialize_entry("ord_type", order.ord_type.as_str())?;
    match order.ord_type {
        OrdType::Limit { price, qty, tif } => {
            map.serialize_entry("tif", tif.as_str())?;
            map.serialize_entry("qty", &qty)?;
            map.serialize_entry("price", &price)?;
            if tif == (TimeInForce::Gtc { post_only: true }) {
                map.serialize_entry("post_only", &true)?;
            }
        }
        OrdType::Market { size: MarketSize::Qty(qty) } => map.serialize_entry("qty", &qty)?,
        OrdType::Market { size: MarketSize::Quote(amount) } => map.serialize_entry("quote_qty", &amount)?,
    }
    if order.is_reduce_only {
        map.serialize_entry("reduce_only", &true)?;
    }
    map.serialize_entry("ts", &order.ts)?;
    if let Some(expires_at) = order.expires_at {
        map.serialize_entry("expires_at", &expires_at)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
