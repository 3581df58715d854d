use super::*;
use crate::rules;

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn exchange() -> Exchange {
    let mut exchange = Exchange::new(rules::listed());
    exchange.account.add("USDT", dec("10000"));
    exchange.account.add("BTC", dec("1"));
    exchange.on_script("BTCUSDT", dec("100.00"), dec("100.10"), dec("100"), 0).unwrap();
    exchange
}

fn wanted(side: Side, kind: Kind, qty: &str, price: Option<&str>) -> Wanted {
    Wanted {
        symbol: "BTCUSDT".into(),
        side,
        kind,
        qty: Some(dec(qty)),
        quote_qty: None,
        price: price.map(dec),
        client_id: None,
        is_foreign: false,
    }
}

/// Money is neither made nor lost but by fees; nothing is locked once no order is open.
fn assert_books_balance(exchange: &Exchange) {
    let (mut usdt, mut btc) = (dec("10000"), dec("1"));
    for trade in &exchange.trades {
        let cost = trade.price * trade.qty;
        let (base, quote) = if trade.side == Side::Buy { (trade.qty, -cost) } else { (-trade.qty, cost) };
        btc += base;
        usdt += quote;
        match trade.fee_asset.as_str() {
            "USDT" => usdt -= trade.fee,
            _ => btc -= trade.fee,
        }
    }
    let total = |balance: crate::account::Balance| balance.free + balance.locked;
    assert_eq!((total(exchange.account.of("USDT")), total(exchange.account.of("BTC"))), (usdt, btc));
    if exchange.orders.values().all(|order| !order.status.is_open()) {
        assert!(exchange.account.0.values().all(|balance| balance.locked.is_zero()), "{:?}", exchange.account);
    }
}

#[test]
fn a_marketable_limit_fills_at_the_books_price_and_gets_the_difference_back() {
    let mut exchange = exchange();
    let id = exchange.place(wanted(Side::Buy, Kind::Limit, "1", Some("101.00")), 1).unwrap();
    assert_eq!(exchange.orders[&id].status, Status::Filled);
    assert_eq!(exchange.trades[0].price, dec("100.10"));
    assert_books_balance(&exchange);
}

#[test]
fn a_resting_limit_is_filled_by_prints_up_to_their_quantity() {
    let mut exchange = exchange();
    let id = exchange.place(wanted(Side::Buy, Kind::Limit, "1", Some("99.00")), 1).unwrap();
    exchange.on_print("BTCUSDT", dec("99.50"), dec("5"), Side::Sell, 2);
    assert_eq!(exchange.orders[&id].status, Status::New);
    exchange.on_print("BTCUSDT", dec("99.00"), dec("0.4"), Side::Sell, 3);
    assert_eq!((exchange.orders[&id].status, exchange.orders[&id].executed), (Status::PartiallyFilled, dec("0.4")));
    exchange.cancel(&id, 4).unwrap();
    assert_eq!(exchange.orders[&id].status, Status::PartiallyCanceled);
    assert_books_balance(&exchange);
}

#[test]
fn immediate_or_cancel_takes_what_is_there_and_fill_or_kill_all_or_nothing() {
    let mut exchange = exchange();
    exchange.on_print("BTCUSDT", dec("100.10"), dec("0.3"), Side::Buy, 1);
    let killed = exchange.place(wanted(Side::Buy, Kind::FillOrKill, "1", Some("100.10")), 1).unwrap();
    assert_eq!(exchange.orders[&killed].status, Status::Canceled);
    let partial = exchange.place(wanted(Side::Buy, Kind::ImmediateOrCancel, "1", Some("100.10")), 1).unwrap();
    assert_eq!(
        (exchange.orders[&partial].status, exchange.orders[&partial].executed),
        (Status::PartiallyCanceled, dec("0.3"))
    );
    assert_books_balance(&exchange);
}

#[test]
fn market_orders_by_quantity_and_by_amount_walk_the_ladder() {
    let mut exchange = exchange();
    for _ in 0..3 {
        exchange.on_print("BTCUSDT", dec("100.10"), dec("0.3"), Side::Buy, 1);
    }
    let id = exchange.place(wanted(Side::Buy, Kind::Market, "0.7", None), 1).unwrap();
    assert_eq!(exchange.orders[&id].status, Status::Filled);
    assert_eq!(exchange.trades.len(), 3, "three levels of 0.3");
    let by_amount = Wanted { qty: None, quote_qty: Some(dec("50")), ..wanted(Side::Buy, Kind::Market, "1", None) };
    exchange.on_print("BTCUSDT", dec("100.10"), dec("5"), Side::Buy, 2);
    let id = exchange.place(by_amount, 2).unwrap();
    assert_eq!(exchange.orders[&id].status, Status::Filled);
    assert!(exchange.orders[&id].executed_quote <= dec("50"));
    let sold = exchange.place(wanted(Side::Sell, Kind::Market, "0.5", None), 3).unwrap();
    assert_eq!(exchange.orders[&sold].status, Status::Filled);
    assert_books_balance(&exchange);
}

#[test]
fn a_maker_that_would_cross_is_canceled_or_refused() {
    let mut exchange = exchange();
    let id = exchange.place(wanted(Side::Buy, Kind::LimitMaker, "1", Some("101.00")), 1).unwrap();
    assert_eq!(exchange.orders[&id].status, Status::Canceled);
    exchange.uncertain.refuse_crossing_maker = true;
    assert_eq!(exchange.place(wanted(Side::Buy, Kind::LimitMaker, "1", Some("101.00")), 1).unwrap_err().code, 30041);
    assert_books_balance(&exchange);
}

#[test]
fn each_rule_has_its_code() {
    let mut exchange = exchange();
    let mut code = |wanted: Wanted| exchange.place(wanted, 1).expect_err("refused").code;
    let limit = |qty: &str, price: &str| wanted(Side::Buy, Kind::Limit, qty, Some(price));
    assert_eq!(code(Wanted { symbol: "NONE".into(), ..limit("1", "100") }), -1121);
    assert_eq!(code(limit("0.0000001", "100")), 400);
    assert_eq!(code(limit("1", "100.001")), 400);
    assert_eq!(code(limit("0.001", "100")), 30002);
    assert_eq!(code(limit("30000", "100")), 30003);
    assert_eq!(code(limit("1", "501")), 30087);
    assert_eq!(code(limit("101", "100")), 30004);
    assert_eq!(code(wanted(Side::Sell, Kind::Limit, "1.5", Some("100"))), 30005);
    assert_eq!(code(limit("0", "100")), 10102);
}

#[test]
fn a_used_client_id_makes_a_second_order_unless_told_otherwise() {
    let mut exchange = exchange();
    let order = Wanted { client_id: Some("x".into()), ..wanted(Side::Buy, Kind::Limit, "1", Some("50")) };
    exchange.place(order.clone(), 1).unwrap();
    exchange.place(order.clone(), 2).unwrap();
    assert_eq!(exchange.orders.len(), 2);
    exchange.uncertain.refuse_duplicate_client_id = true;
    assert!(exchange.place(order, 3).is_err());
}

#[test]
fn random_histories_never_make_or_lose_money() {
    for seed in 0..50_u64 {
        let mut exchange = exchange();
        let mut state = seed;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for step in 0..200 {
            let side = if random(2) == 0 { Side::Buy } else { Side::Sell };
            let kind = [Kind::Limit, Kind::Market, Kind::ImmediateOrCancel, Kind::FillOrKill, Kind::LimitMaker]
                [usize::try_from(random(5)).unwrap()];
            let qty = Decimal::new(i64::try_from(random(300) + 20).unwrap(), 3);
            let price = Decimal::new(i64::try_from(9_500 + random(1_000)).unwrap(), 2);
            let order = Wanted {
                qty: Some(qty),
                price: (kind != Kind::Market).then_some(price),
                ..wanted(side, kind, "1", None)
            };
            let _refused = exchange.place(order, step);
            exchange.on_print("BTCUSDT", price, qty, side, step);
            if random(4) == 0
                && let Some(id) =
                    exchange.orders.values().find(|order| order.status.is_open()).map(|order| order.id.clone())
            {
                exchange.cancel(&id, step).unwrap();
            }
            assert_books_balance(&exchange);
            assert!(exchange.account.0.values().all(|balance| balance.locked >= Decimal::ZERO), "seed {seed}");
        }
    }
}
