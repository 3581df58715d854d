//! What the streams say (exchange API §11): binary protobuf frames are data, text frames are about the connection.
//! Unknown fields are ignored, unknown kinds of frame skipped; a frame that cannot be understood is one lost message,
//! never the end of the stream.

use cdb_core::ids::{Asset, OrderId, Symbol, TradeId};
use cdb_core::lifecycle::VenueStatus;
use cdb_core::money::{Price, Qty};
use cdb_mexc_proto::push_data_v3_api_wrapper::Body;
use cdb_mexc_proto::{PrivateAccountV3Api, PrivateDealsV3Api, PrivateOrdersV3Api, PushDataV3ApiWrapper};
use prost::Message as _;
use serde::Deserialize;

use crate::wire::{Scalar, VenueOrder, VenueTrade, WireFault, fault, fee, holding, read_object};

/// Orders of the account.
pub const ORDERS: &str = "spot@private.orders.v3.api.pb";
/// Fills of the account.
pub const DEALS: &str = "spot@private.deals.v3.api.pb";
/// Balances of the account.
pub const ACCOUNT: &str = "spot@private.account.v3.api.pb";

/// Best bid and ask of a symbol.
#[must_use]
pub fn book_channel(symbol: &Symbol) -> String {
    format!("spot@public.aggre.bookTicker.v3.api.pb@100ms@{symbol}")
}

/// Trades of a symbol.
#[must_use]
pub fn deals_channel(symbol: &Symbol) -> String {
    format!("spot@public.aggre.deals.v3.api.pb@100ms@{symbol}")
}

/// One data frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// An order of the account changed.
    Order(VenueOrder),
    /// A fill of the account.
    Deal(VenueDeal),
    /// A balance of the account changed.
    Balance(VenueBalance),
    /// Best bid and ask.
    Book {
        /// Of this symbol.
        symbol: Symbol,
        /// Best buying price.
        bid: Price,
        /// Best selling price.
        ask: Price,
        /// When it was sent, by the exchange's clock, epoch ms.
        sent_at: Option<i64>,
    },
    /// The newest trade.
    Last {
        /// Of this symbol.
        symbol: Symbol,
        /// Its price.
        price: Price,
    },
    /// A kind of frame that is of no use here.
    Other,
}

/// A fill as the stream tells it. Its trade id is not known to be that of `myTrades` (exchange API §17).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VenueDeal {
    /// Its symbol.
    pub symbol: Symbol,
    /// Our id of the order, if it has one.
    pub cl_ord_id: Option<String>,
    /// The fill.
    pub trade: VenueTrade,
}

/// A balance after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VenueBalance {
    /// Of this asset.
    pub asset: Asset,
    /// Not held by open orders.
    pub free: Qty,
    /// Held by open orders.
    pub locked: Qty,
    /// Why it changed, in the exchange's words (an open list).
    pub cause: String,
}

/// Reads one data frame.
///
/// # Errors
/// It is no protobuf of the schema, or a needed field is missing or strange.
pub fn read_frame(bytes: &[u8]) -> Result<Push, WireFault> {
    let frame = PushDataV3ApiWrapper::decode(bytes).map_err(|error| fault("(frame)", error.to_string()))?;
    let symbol = || {
        let text = frame.symbol.as_deref().unwrap_or_default();
        Symbol::parse(text).ok_or_else(|| fault("symbol", "is missing"))
    };
    match &frame.body {
        Some(Body::PrivateOrders(body)) => order(body, symbol()?).map(Push::Order),
        Some(Body::PrivateDeals(body)) => deal(body, symbol()?).map(Push::Deal),
        Some(Body::PrivateAccount(body)) => balance(body).map(Push::Balance),
        Some(Body::PublicAggreBookTicker(body)) => {
            let (bid, ask) = (price("bidPrice", &body.bid_price)?, price("askPrice", &body.ask_price)?);
            Ok(Push::Book { symbol: symbol()?, bid, ask, sent_at: frame.send_time.or(frame.create_time) })
        }
        Some(Body::PublicAggreDeals(body)) => match body.deals.iter().max_by_key(|deal| deal.time) {
            Some(newest) => Ok(Push::Last { symbol: symbol()?, price: price("price", &newest.price)? }),
            None => Ok(Push::Other),
        },
        Some(_) | None => Ok(Push::Other),
    }
}

fn price(field: &'static str, text: &str) -> Result<Price, WireFault> {
    Price::parse(text).map_err(|problem| fault(field, problem.to_string()))
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn order(body: &PrivateOrdersV3Api, symbol: Symbol) -> Result<VenueOrder, WireFault> {
    let status = match body.status {
        1 => VenueStatus::New,
        2 => VenueStatus::Filled,
        3 => VenueStatus::PartiallyFilled,
        4 => VenueStatus::Canceled,
        5 => VenueStatus::PartiallyCanceled,
        _ => return Err(fault("status", "is not a state known here")),
    };
    Ok(VenueOrder {
        symbol,
        order_id: OrderId::parse(&body.id).ok_or_else(|| fault("id", "is missing"))?,
        cl_ord_id: given(&body.client_id),
        executed_qty: holding("cumulativeQuantity", &body.cumulative_quantity)?,
        status,
        created_at: body.create_time,
    })
}

fn deal(body: &PrivateDealsV3Api, symbol: Symbol) -> Result<VenueDeal, WireFault> {
    let trade = VenueTrade {
        trade_id: TradeId::parse(&body.trade_id).ok_or_else(|| fault("tradeId", "is missing"))?,
        order_id: OrderId::parse(&body.order_id).ok_or_else(|| fault("orderId", "is missing"))?,
        price: price("price", &body.price)?,
        qty: Qty::parse(&body.quantity).map_err(|problem| fault("quantity", problem.to_string()))?,
        commission: fee("feeAmount", &body.fee_amount)?,
        commission_asset: fee_asset(&body.fee_currency)?,
        time: body.time,
        is_buyer: match body.trade_type {
            1 => true,
            2 => false,
            _ => return Err(fault("tradeType", "is neither 1 nor 2")),
        },
        is_maker: body.is_maker,
    };
    Ok(VenueDeal { symbol, cl_ord_id: given(&body.client_order_id), trade })
}

fn fee_asset(text: &str) -> Result<Asset, WireFault> {
    let asset = Asset::parse(if text.is_empty() { "unknown" } else { text });
    asset.ok_or_else(|| fault("feeCurrency", "is no asset name"))
}

fn balance(body: &PrivateAccountV3Api) -> Result<VenueBalance, WireFault> {
    Ok(VenueBalance {
        asset: Asset::parse(&body.vcoin_name).ok_or_else(|| fault("vcoinName", "is missing"))?,
        free: holding("balanceAmount", &body.balance_amount)?,
        locked: holding("frozenAmount", &body.frozen_amount)?,
        cause: body.r#type.clone(),
    })
}

/// One text frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The answer to a ping.
    Pong,
    /// The exchange repeats these channel names: they are subscribed to.
    Acknowledged(Vec<String>),
    /// Anything else, which is a failure whatever its code (exchange API §11.1).
    Failed(String),
    /// The listen key opens nothing.
    NoListenKey,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    msg: Scalar,
}

/// Longest part of the exchange's text that is passed on.
const TEXT_MAX: usize = 200;

/// Reads one text frame.
#[must_use]
pub fn read_text(text: &str) -> Control {
    let said = read_object::<Said>(text.as_bytes()).map_or_else(|_| text.to_owned(), |said| said.msg.0);
    if said.eq_ignore_ascii_case("PONG") {
        return Control::Pong;
    }
    if said.to_ascii_lowercase().contains("invalid listen key") {
        return Control::NoListenKey;
    }
    let names: Vec<&str> = said.split(',').map(str::trim).collect();
    if names.iter().all(|name| name.starts_with("spot@") && !name.contains(char::is_whitespace)) {
        return Control::Acknowledged(names.into_iter().map(str::to_owned).collect());
    }
    Control::Failed(said.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: &str = include_str!("../fixtures/user_stream/frames.json");
    const CONTROL: &str = include_str!("../fixtures/user_stream/control.json");

    fn cases(file: &str) -> Vec<serde_json::Value> {
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        file["cases"].as_array().unwrap().clone()
    }

    fn bytes(case: &serde_json::Value) -> Vec<u8> {
        hex::decode(case["frame_hex"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn every_recorded_frame_is_read_as_what_it_is() {
        let cases = cases(FRAMES);
        assert_eq!(cases.len(), 8);
        for case in cases {
            let push = read_frame(&bytes(&case)).unwrap();
            let json = &case["frame_json"];
            let text = |kind: &str, field: &str| json[kind][field].as_str().unwrap_or_default().to_owned();
            match push {
                Push::Order(order) => {
                    assert_eq!(order.order_id.as_str(), text("privateOrders", "id"));
                    assert_eq!(order.cl_ord_id.unwrap_or_default(), text("privateOrders", "clientId"));
                    assert_eq!(order.executed_qty.to_string(), text("privateOrders", "cumulativeQuantity"));
                    let status = match order.status {
                        VenueStatus::New => 1,
                        VenueStatus::Filled => 2,
                        VenueStatus::PartiallyFilled => 3,
                        VenueStatus::Canceled => 4,
                        VenueStatus::PartiallyCanceled => 5,
                    };
                    assert_eq!(json["privateOrders"]["status"], status);
                }
                Push::Deal(deal) => {
                    assert_eq!(deal.trade.trade_id.as_str(), text("privateDeals", "tradeId"));
                    assert_eq!(text("privateDeals", "feeAmount"), "0.0003998377369698171", "19 decimals");
                    assert_eq!(deal.trade.commission.to_string(), "0.000399837736969818", "rounded up");
                    assert_eq!(deal.trade.commission_asset.as_str(), "MX", "the fee is in what the frame says");
                    assert_eq!((deal.cl_ord_id, deal.trade.is_maker), (None, false), "omitted = empty and false");
                }
                Push::Balance(balance) => {
                    assert_eq!(balance.free.to_string(), text("privateAccount", "balanceAmount"));
                    assert_eq!(balance.cause, "CONTRACT_TRANSFER");
                }
                Push::Last { price, .. } => assert_eq!(price.to_string(), "93220.00"),
                Push::Other => assert_eq!(case["id"], "kline-min1"),
                Push::Book { .. } => panic!("no such case"),
            }
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_half_a_frame_is_a_fault() {
        for case in cases(FRAMES) {
            let whole = bytes(&case);
            let mut extended = whole.clone();
            extended.extend_from_slice(&[0xB8, 0x3E, 0x01]);
            assert_eq!(read_frame(&extended), read_frame(&whole), "{}", case["id"]);
            for cut in 1..whole.len() {
                // Cut between two fields it is a frame without those after; anywhere else a fault. Never a panic.
                let _outcome = read_frame(&whole[..cut]);
            }
            assert!(read_frame(&whole[..whole.len() - 1]).is_err(), "{}", case["id"]);
        }
    }

    #[test]
    fn an_unknown_state_names_its_field() {
        let mut frame = PushDataV3ApiWrapper { symbol: Some("BTCUSDT".into()), ..PushDataV3ApiWrapper::default() };
        let body = PrivateOrdersV3Api { id: "1".into(), status: 9, ..PrivateOrdersV3Api::default() };
        frame.body = Some(Body::PrivateOrders(body));
        assert_eq!(read_frame(&frame.encode_to_vec()).unwrap_err().field, "status");
    }

    #[test]
    fn text_frames_succeed_only_by_repeating_the_channel() {
        for case in cases(CONTROL).iter().filter(|case| case["direction"] == "receive") {
            let control = read_text(case["text"].as_str().unwrap());
            match case["id"].as_str().unwrap() {
                "pong" => assert_eq!(control, Control::Pong),
                "ack-deals" => assert!(matches!(control, Control::Acknowledged(names) if names.len() == 1)),
                _ => assert!(matches!(control, Control::Failed(_)), "{case}"),
            }
        }
        let blocked = "{\"id\":0,\"code\":0,\"msg\":\"Not Subscribed successfully! [spot@x].  Reason： Blocked! \"}";
        assert!(matches!(read_text(blocked), Control::Failed(_)));
        assert_eq!(read_text("Invalid listen key"), Control::NoListenKey);
        assert_eq!(
            read_text(r#"{"id":0,"code":0,"msg":"spot@a,spot@b"}"#),
            Control::Acknowledged(vec!["spot@a".into(), "spot@b".into()])
        );
        assert!(matches!(read_text(""), Control::Failed(_)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), text in ".*") {
            let _outcome = read_frame(&bytes);
            let _control = read_text(&text);
        }
    }
}
