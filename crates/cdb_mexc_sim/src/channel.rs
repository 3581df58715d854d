//! What can be subscribed to, and the frames of each (exchange API §11).

use cdb_mexc_proto::push_data_v3_api_wrapper::Body;
use cdb_mexc_proto::{
    PrivateAccountV3Api, PrivateDealsV3Api, PrivateOrdersV3Api, PublicAggreBookTickerV3Api, PublicAggreDealsV3Api,
    PublicAggreDealsV3ApiItem, PublicBookTickerBatchV3Api, PublicBookTickerV3Api, PublicLimitDepthV3ApiItem,
    PublicLimitDepthsV3Api, PublicSpotKlineV3Api, PushDataV3ApiWrapper,
};
use rust_decimal::Decimal;

use crate::event::Event;
use crate::exchange::Exchange;
use crate::market::{BAR_MS, Print};
use crate::order::{Kind, Order, Side, Status, Trade};

/// Decimals of an average price.
const PRICE_DECIMALS: u32 = 18;

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel {
    /// As the client wrote it, and as every frame repeats it.
    pub name: String,
    topic: Topic,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Orders,
    Deals,
    Account,
    AggreDeals { symbol: String },
    AggreBookTicker { symbol: String },
    BookTickerBatch { symbol: String },
    LimitDepth { symbol: String, levels: usize },
    Kline { symbol: String, interval: String, length: i64 },
}

impl Channel {
    /// A channel that is offered; `None` for any other, also for a symbol in lower case or not listed.
    #[must_use]
    pub fn parse(name: &str, is_listed: impl Fn(&str) -> bool) -> Option<Self> {
        let parts: Vec<&str> = name.split('@').collect();
        let topic = match parts[..] {
            ["spot", "private.orders.v3.api.pb"] => Topic::Orders,
            ["spot", "private.deals.v3.api.pb"] => Topic::Deals,
            ["spot", "private.account.v3.api.pb"] => Topic::Account,
            ["spot", "public.aggre.deals.v3.api.pb", "10ms" | "100ms", symbol] => {
                Topic::AggreDeals { symbol: symbol.to_owned() }
            }
            ["spot", "public.aggre.bookTicker.v3.api.pb", "10ms" | "100ms", symbol] => {
                Topic::AggreBookTicker { symbol: symbol.to_owned() }
            }
            ["spot", "public.bookTicker.batch.v3.api.pb", symbol] => {
                Topic::BookTickerBatch { symbol: symbol.to_owned() }
            }
            ["spot", "public.limit.depth.v3.api.pb", symbol, levels @ ("5" | "10" | "20")] => {
                Topic::LimitDepth { symbol: symbol.to_owned(), levels: levels.parse().ok()? }
            }
            ["spot", "public.kline.v3.api.pb", symbol, interval] => {
                let minutes = match interval {
                    "Min1" => 1,
                    "Min5" => 5,
                    "Min15" => 15,
                    "Min30" => 30,
                    "Min60" => 60,
                    "Hour4" => 240,
                    "Day1" => 1_440,
                    "Week1" => 10_080,
                    _ => return None,
                };
                Topic::Kline { symbol: symbol.to_owned(), interval: interval.to_owned(), length: minutes * BAR_MS }
            }
            _ => return None,
        };
        let channel = Self { name: name.to_owned(), topic };
        channel.symbol().is_none_or(is_listed).then_some(channel)
    }

    /// Whether it needs a listen key.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        matches!(self.topic, Topic::Orders | Topic::Deals | Topic::Account)
    }

    fn symbol(&self) -> Option<&str> {
        match &self.topic {
            Topic::Orders | Topic::Deals | Topic::Account => None,
            Topic::AggreDeals { symbol }
            | Topic::AggreBookTicker { symbol }
            | Topic::BookTickerBatch { symbol }
            | Topic::LimitDepth { symbol, .. }
            | Topic::Kline { symbol, .. } => Some(symbol),
        }
    }

    /// The frame that tells of an event, if this channel carries it.
    #[must_use]
    pub fn frame(&self, event: &Event, exchange: &Exchange, now: i64) -> Option<PushDataV3ApiWrapper> {
        let (symbol, body) = match (&self.topic, event) {
            (Topic::Orders, Event::Order { order, last_fill }) => {
                (Some(order.symbol.clone()), Body::PrivateOrders(order_body(order, *last_fill)))
            }
            (Topic::Deals, Event::Deal(trade)) => (
                Some(trade.symbol.clone()),
                Body::PrivateDeals(deal_body(trade, exchange.uncertain.stream_ids_are_rest_ids)),
            ),
            (Topic::Account, Event::Balance { asset, before, after, cause, time }) => {
                let body = PrivateAccountV3Api {
                    vcoin_name: asset.clone(),
                    coin_id: format!("{:0>32}", hex::encode(asset)),
                    balance_amount: text(after.free),
                    balance_amount_change: text(after.free - before.free),
                    frozen_amount: text(after.locked),
                    frozen_amount_change: text(after.locked - before.locked),
                    r#type: cause.as_str().to_owned(),
                    time: *time,
                };
                (None, Body::PrivateAccount(body))
            }
            (Topic::AggreDeals { symbol }, Event::Print { symbol: of, print }) if symbol == of => {
                (Some(of.clone()), Body::PublicAggreDeals(deals_body(&self.name, print)))
            }
            (Topic::Kline { symbol, interval, length }, Event::Print { symbol: of, .. }) if symbol == of => {
                (Some(of.clone()), Body::PublicSpotKline(kline_body(exchange, symbol, interval, *length)?))
            }
            (Topic::AggreBookTicker { symbol }, Event::Book { symbol: of }) if symbol == of => {
                let best = book_ticker(exchange, symbol)?;
                let body = PublicAggreBookTickerV3Api {
                    bid_price: best.bid_price,
                    bid_quantity: best.bid_quantity,
                    ask_price: best.ask_price,
                    ask_quantity: best.ask_quantity,
                    version: now.to_string(),
                    last_order_create_time: now,
                };
                (Some(of.clone()), Body::PublicAggreBookTicker(body))
            }
            (Topic::BookTickerBatch { symbol }, Event::Book { symbol: of }) if symbol == of => {
                let items = vec![book_ticker(exchange, symbol)?];
                let body = PublicBookTickerBatchV3Api { items, version: now.to_string(), last_order_create_time: now };
                (Some(of.clone()), Body::PublicBookTickerBatch(body))
            }
            (Topic::LimitDepth { symbol, levels }, Event::Book { symbol: of }) if symbol == of => {
                (Some(of.clone()), Body::PublicLimitDepths(depth_body(exchange, symbol, *levels, now)?))
            }
            _ => return None,
        };
        Some(PushDataV3ApiWrapper {
            channel: self.name.clone(),
            symbol,
            symbol_id: None,
            create_time: Some(now),
            send_time: Some(now),
            body: Some(body),
        })
    }
}

fn text(amount: Decimal) -> String {
    amount.normalize().to_string()
}

const fn trade_type(side: Side) -> i32 {
    match side {
        Side::Buy => 1,
        Side::Sell => 2,
    }
}

fn order_body(order: &Order, last_fill: Option<(Decimal, bool)>) -> PrivateOrdersV3Api {
    let is_market = order.kind == Kind::Market;
    let avg_price = if order.executed.is_zero() { Decimal::ZERO } else { order.executed_quote / order.executed };
    PrivateOrdersV3Api {
        id: order.id.clone(),
        client_id: order.client_id.clone().unwrap_or_default(),
        price: text(order.price),
        quantity: text(order.qty),
        amount: if is_market { "0".to_owned() } else { text(order.quote_qty) },
        avg_price: text(avg_price.round_dp(PRICE_DECIMALS)),
        order_type: match order.kind {
            Kind::Limit => 1,
            Kind::LimitMaker => 2,
            Kind::ImmediateOrCancel => 3,
            Kind::FillOrKill => 4,
            Kind::Market => 5,
        },
        trade_type: trade_type(order.side),
        is_maker: last_fill.is_some_and(|(_, is_maker)| is_maker),
        remain_amount: text((order.quote_qty - order.executed_quote).max(Decimal::ZERO)),
        remain_quantity: text((order.qty - order.executed).max(Decimal::ZERO)),
        last_deal_quantity: last_fill.map(|(qty, _)| text(qty)),
        cumulative_quantity: text(order.executed),
        cumulative_amount: text(order.executed_quote),
        status: match order.status {
            Status::New => 1,
            Status::Filled => 2,
            Status::PartiallyFilled => 3,
            Status::Canceled => 4,
            Status::PartiallyCanceled => 5,
        },
        create_time: order.created_at,
        ..PrivateOrdersV3Api::default()
    }
}

fn deal_body(trade: &Trade, has_rest_id: bool) -> PrivateDealsV3Api {
    let number = trade.id.trim_start_matches('0');
    PrivateDealsV3Api {
        price: text(trade.price),
        quantity: text(trade.qty),
        amount: text(trade.price * trade.qty),
        trade_type: trade_type(trade.side),
        is_maker: trade.is_maker,
        is_self_trade: false,
        trade_id: if has_rest_id { trade.id.clone() } else { format!("{number}X1") },
        client_order_id: trade.client_id.clone().unwrap_or_default(),
        order_id: trade.order_id.clone(),
        fee_amount: text(trade.fee),
        fee_currency: trade.fee_asset.clone(),
        time: trade.time,
    }
}

fn deals_body(name: &str, print: &Print) -> PublicAggreDealsV3Api {
    let deal = PublicAggreDealsV3ApiItem {
        price: text(print.price),
        quantity: text(print.qty),
        trade_type: trade_type(print.taker),
        time: print.time,
        trade_id: String::new(),
    };
    let event_type = name.rsplit_once('@').map_or(name, |(without_symbol, _)| without_symbol);
    PublicAggreDealsV3Api { deals: vec![deal], event_type: event_type.to_owned() }
}

fn kline_body(exchange: &Exchange, symbol: &str, interval: &str, length: i64) -> Option<PublicSpotKlineV3Api> {
    let bar = *exchange.markets.get(symbol)?.bars_of(length).last()?;
    Some(PublicSpotKlineV3Api {
        interval: interval.to_owned(),
        window_start: bar.start / 1_000,
        opening_price: text(bar.open),
        closing_price: text(bar.close),
        highest_price: text(bar.high),
        lowest_price: text(bar.low),
        volume: text(bar.volume),
        amount: text(bar.amount),
        window_end: (bar.start + length) / 1_000,
    })
}

fn book_ticker(exchange: &Exchange, symbol: &str) -> Option<PublicBookTickerV3Api> {
    let market = exchange.markets.get(symbol)?;
    let (bid_qty, ask_qty) = market.top_sizes();
    Some(PublicBookTickerV3Api {
        bid_price: text(market.bid?),
        bid_quantity: text(bid_qty),
        ask_price: text(market.ask?),
        ask_quantity: text(ask_qty),
    })
}

fn depth_body(exchange: &Exchange, symbol: &str, levels: usize, now: i64) -> Option<PublicLimitDepthsV3Api> {
    let (market, info) = (exchange.markets.get(symbol)?, exchange.symbols.get(symbol)?);
    let side = |taker: Side, worst: Decimal| -> Vec<PublicLimitDepthV3ApiItem> {
        let liquidity = market.liquidity(taker, worst, info.tick()).into_iter().take(levels);
        liquidity.map(|(price, qty)| PublicLimitDepthV3ApiItem { price: text(price), quantity: text(qty) }).collect()
    };
    Some(PublicLimitDepthsV3Api {
        asks: side(Side::Buy, Decimal::MAX),
        bids: side(Side::Sell, Decimal::ZERO),
        event_type: "spot@public.limit.depth.v3.api.pb".to_owned(),
        version: now.to_string(),
        last_order_create_time: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_channels_that_are_offered_are_channels() {
        let is_listed = |symbol: &str| symbol == "BTCUSDT";
        for good in [
            "spot@private.orders.v3.api.pb",
            "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT",
            "spot@public.limit.depth.v3.api.pb@BTCUSDT@20",
            "spot@public.kline.v3.api.pb@BTCUSDT@Min1",
        ] {
            assert_eq!(Channel::parse(good, is_listed).unwrap().name, good);
        }
        for bad in [
            "spot@public.deals.v3.api@BTCUSDT",
            "spot@public.aggre.deals.v3.api.pb@100ms@btcusdt",
            "spot@public.aggre.deals.v3.api.pb@1s@BTCUSDT",
            "spot@public.kline.v3.api.pb@BTCUSDT@1m",
            "",
        ] {
            assert_eq!(Channel::parse(bad, is_listed), None, "{bad}");
        }
    }
}
