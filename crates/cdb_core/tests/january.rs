//! A month of recorded prices with a position held: the loss limits open the breaker at the minutes that a plain
//! computation over the same prices gives, and at no other.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test fails by unwrapping")]

use std::collections::BTreeMap;

use cdb_core::breaker::{Breaker, Cause, State};
use cdb_core::desk::Desk;
use cdb_core::limits::Limits;
use cdb_core::market::Quote;
use cdb_core::money::Price;
use cdb_core::report::Execution;
use cdb_core::symbol_rules::SymbolRules;
use cdb_core::time::{Timestamp, UtcDay};
use rust_decimal::Decimal;

const CANDLES: &str = include_str!("data/candles-1m-BTCUSD-2022-01.csv");
const MINUTE_MS: i64 = 60_000;

/// Every price with its instant: the open of a candle at its beginning, its close a minute later.
fn prices() -> Vec<(Timestamp, Decimal)> {
    let mut prices: Vec<(Timestamp, Decimal)> = Vec::new();
    for line in CANDLES.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let begin: i64 = fields[0].parse().unwrap();
        let at = |ms: i64, text: &str| (Timestamp::from_millis(ms), text.parse().unwrap());
        // The close of the minute before stands at the same instant; the open comes after it.
        prices.push(at(begin, fields[1]));
        prices.push(at(begin + MINUTE_MS, fields[4]));
    }
    prices
}

/// A desk that holds one bitcoin and nothing else.
fn desk(settings: &[(&str, &str)], at: Timestamp) -> Desk {
    let settings: BTreeMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (limits, _) = Limits::from_variables(&settings).unwrap();
    let mut desk = Desk::new(limits, "hash".to_owned(), "epoch".to_owned(), Breaker::default());
    let rules = r#"{"symbol":"BTCUSDT","base":"BTC","quote":"USDT","qty_decimals":6,"price_decimals":2,"qty_min":"0",
        "notional_min":"1","market_notional_min":"1","notional_max":null,"market_notional_max":null,"is_tradable":true,
        "has_market_orders":true,"sides":"Both","taker_fee":"0.0005"}"#;
    desk.on_rules(serde_json::from_str::<SymbolRules>(rules).unwrap());
    let account = format!(
        r#"{{"type":"account_snapshot","v":1,"balances":[{{"asset":"BTC","free":"1","locked":"0"}}],"can_trade":true,
        "can_withdraw":false,"clock_offset_ms":0,"exchange_time":{ms},"ts":{ms},"mode":"paper"}}"#,
        ms = at.millis()
    );
    desk.on_execution(&Execution::parse(account.as_bytes()).unwrap(), at);
    desk
}

fn see(desk: &mut Desk, at: Timestamp, price: Decimal) -> Option<State> {
    let price = Price::from_decimal(price).unwrap();
    let symbol = cdb_core::ids::Symbol::parse("BTCUSDT").unwrap();
    desk.on_quote(Quote { symbol, bid: price, ask: price, last: price, exchange_time: at, ts: at });
    desk.watch_losses(at)
}

#[test]
fn the_daily_loss_opens_the_breaker_on_the_six_days_that_lost_five_percent_at_their_minutes() {
    let limit = Decimal::new(5, 2);
    let prices = prices();
    // By hand: the first price of each day, and the first instant at which a twentieth of it is gone.
    let mut expected: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut opens: BTreeMap<UtcDay, Decimal> = BTreeMap::new();
    for (at, price) in &prices {
        let open = *opens.entry(at.day()).or_insert(*price);
        if (open - price) / open >= limit {
            expected.entry(at.day().to_string()).or_insert(*at);
        }
    }
    let days: Vec<&str> = expected.keys().map(String::as_str).collect();
    assert_eq!(days, ["2022-01-05", "2022-01-07", "2022-01-10", "2022-01-21", "2022-01-22", "2022-01-24"]);

    let mut desk = desk(&[("MAX_DAILY_LOSS_PCT", "0.05"), ("MAX_DRAWDOWN_PCT", "1")], prices[0].0);
    let mut opened: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut day = prices[0].0.day();
    for (at, price) in &prices {
        if at.day() != day {
            // An operator looks at it before the next day.
            desk.reset_breaker(at.plus_ms(-1));
            day = at.day();
        }
        if let Some(State::Open { cause, retry_at, .. }) = see(&mut desk, *at, *price) {
            assert_eq!((cause, retry_at), (Cause::DailyLoss, None), "{at:?}");
            assert_eq!(opened.insert(at.day().to_string(), *at), None, "opened twice on one day");
        }
    }
    assert_eq!(opened, expected);
}

#[test]
fn the_drawdown_opens_the_breaker_once_at_the_minute_at_which_a_tenth_of_the_peak_is_gone() {
    let prices = prices();
    let mut peak = Decimal::ZERO;
    let mut expected = None;
    for (at, price) in &prices {
        peak = peak.max(*price);
        if expected.is_none() && (peak - price) / peak >= Decimal::new(10, 2) {
            expected = Some(*at);
        }
    }
    let mut desk = desk(&[("MAX_DAILY_LOSS_PCT", "1"), ("MAX_DRAWDOWN_PCT", "0.10")], prices[0].0);
    let mut opened = Vec::new();
    for (at, price) in &prices {
        if let Some(State::Open { cause, .. }) = see(&mut desk, *at, *price) {
            opened.push((cause, *at));
        }
    }
    assert_eq!(opened, [(Cause::Drawdown, expected.unwrap())]);
}
