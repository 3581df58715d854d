//! What one decision costs: every check of the table, with 50 open orders and 10 symbols.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by unwrapping")]

use std::collections::BTreeMap;
use std::hint::black_box;

use cdb_core::breaker::{self, Breaker};
use cdb_core::checks::{self, Context};
use cdb_core::command::Command;
use cdb_core::desk::{Decided, Desk};
use cdb_core::ids::{Asset, EntryId, Symbol};
use cdb_core::limits::Limits;
use cdb_core::market::Quote;
use cdb_core::money::{Notional, Price, Qty};
use cdb_core::report::{AccountSnapshot, AssetBalance, Execution, Mode};
use cdb_core::symbol_rules::{Sides, SymbolRules};
use cdb_core::time::Timestamp;
use cdb_core::window::{DayCount, PaceCount};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BASES: [&str; 10] = ["BTC", "ETH", "SOL", "XRP", "ADA", "DOT", "LTC", "BCH", "LINK", "AVAX"];

fn rules(base: &str) -> SymbolRules {
    let amount = |text: &str| Notional::parse(text).unwrap();
    SymbolRules {
        symbol: Symbol::parse(&format!("{base}USDT")).unwrap(),
        base: Asset::parse(base).unwrap(),
        quote: Asset::parse("USDT").unwrap(),
        qty_decimals: 6,
        price_decimals: 2,
        qty_min: Qty::parse("0.000001").unwrap(),
        notional_min: amount("1"),
        market_notional_min: amount("1"),
        notional_max: Some(amount("2000000")),
        market_notional_max: Some(amount("100000")),
        is_tradable: true,
        has_market_orders: true,
        sides: Sides::Both,
        taker_fee: "0.0005".parse().unwrap(),
    }
}

fn order(id: &str, symbol: &str, price: &str) -> String {
    format!(
        r#"{{"v":1,"type":"new","cl_ord_id":"{id}","strategy":"trend","symbol":"{symbol}","side":"BUY","ord_type":"LIMIT","tif":"GTC","qty":"0.02","price":"{price}","ts":{}}}"#,
        NOW.millis()
    )
}

fn desk() -> Desk {
    let symbols = BASES.map(|base| format!("{base}USDT")).join(",");
    let variables = [
        ("ALLOWED_SYMBOLS", symbols.as_str()),
        ("MAX_OPEN_ORDERS", "100"),
        ("MAX_DAILY_ORDERS", "1000000"),
        ("MAX_ORDERS_PER_SECOND", "1000000"),
        ("MAX_STRATEGY_ORDERS_PER_SECOND", "1000000"),
        ("MAX_REPEATED_ORDERS", "1000000"),
        ("MAX_NOTIONAL_PER_MINUTE_USD", "1000000"),
        ("MAX_DAILY_NOTIONAL_USD", "1000000"),
        ("MAX_TOTAL_EXPOSURE", "1"),
        ("DUPLICATE_WINDOW_MS", "0"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (limits, _) = Limits::from_variables(&BTreeMap::from(variables)).unwrap();
    let mut desk = Desk::new(limits, "0123456789abcdef".to_owned(), "epoch".to_owned(), Breaker::default());
    let price = |text: &str| Price::parse(text).unwrap();
    for base in BASES {
        desk.on_rules(rules(base));
        let symbol = Symbol::parse(&format!("{base}USDT")).unwrap();
        let (bid, ask, last) = (price("1000.00"), price("1000.10"), price("1000.00"));
        desk.on_quote(Quote { symbol, bid, ask, last, exchange_time: NOW, ts: NOW });
    }
    let balance = |name: &str, free: &str| AssetBalance {
        asset: Asset::parse(name).unwrap(),
        free: Qty::parse(free).unwrap(),
        locked: Qty::ZERO,
    };
    let mut balances: Vec<AssetBalance> = BASES.iter().map(|base| balance(base, "0.1")).collect();
    balances.push(balance("USDT", "100000"));
    let account = AccountSnapshot {
        v: 1,
        balances,
        can_trade: true,
        can_withdraw: false,
        clock_offset_ms: 0,
        exchange_time: NOW,
        ts: NOW,
        mode: Mode::Paper,
    };
    let _closed = desk.on_execution(&Execution::AccountSnapshot(account), NOW);
    for n in 0..50 {
        let (symbol, price) = (format!("{}USDT", BASES[n % BASES.len()]), format!("{}.00", 960 + n / 10));
        let entry = EntryId::parse(&format!("1-{n}")).unwrap();
        let at = NOW.plus_ms(i64::try_from(n).unwrap());
        let decided = desk.decide(&entry, order(&format!("open-{n}"), &symbol, &price).as_bytes(), at);
        let Decided::Verdict { verdict, .. } = decided else { panic!("{decided:?}") };
        assert!(verdict.is_approved(), "{}", verdict.detail);
    }
    desk
}

fn evaluate(c: &mut Criterion) {
    let mut desk = desk();
    let bytes = order("next", "BTCUSDT", "990.00");
    let Ok(Command::New(order)) = Command::parse(bytes.as_bytes()) else { panic!("an order") };
    let entry = EntryId::parse("2-1").unwrap();
    let now = NOW.plus_ms(100);
    let portfolio = desk.portfolio();
    let symbol = &order.symbol;
    let context = Context {
        order: &order,
        limits: desk.limits(),
        is_id_taken: false,
        stop: None,
        state_lost: None,
        breaker: breaker::State::Closed,
        probe: None,
        rules: portfolio.rules(symbol),
        quote: portfolio.quote(symbol),
        portfolio,
        day: DayCount::default(),
        pace: PaceCount::default(),
        twin_age_ms: None,
        now,
    };
    assert_eq!(checks::evaluate(&context).refusal, None);
    c.bench_function("every check", |b| b.iter(|| checks::evaluate(black_box(&context))));
    c.bench_function("a whole decision and taking it back", |b| {
        b.iter_batched(
            || (),
            |()| {
                let Decided::Verdict { verdict, .. } = desk.decide(&entry, bytes.as_bytes(), now) else { panic!() };
                assert!(verdict.is_approved());
                desk.withdraw(&verdict);
                verdict
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, evaluate);
criterion_main!(benches);
