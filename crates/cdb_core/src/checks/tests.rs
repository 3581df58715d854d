//! Every row of the table at its limit, one step below it and one step above it; exits; the field cases of area RK
//! that a single decision answers.

use std::collections::BTreeMap;

use super::*;
use crate::breaker::{Cause, State};
use crate::command::Command;
use crate::ids::{Asset, StrategyId, Symbol};
use crate::limits::Setting;
use crate::money::{Price, Qty};
use crate::order::TimeInForce;
use crate::report::{AccountSnapshot, AssetBalance, Mode};
use crate::symbol_rules::Sides;
use crate::test_values::{asset, qty, rules_in, rules_of, symbol, usd};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn price(text: &str) -> Price {
    Price::parse(text).expect("a price")
}

/// The market, the account and the operator's wishes at the moment when an order is judged.
#[derive(Clone)]
struct Scene {
    environment: BTreeMap<String, String>,
    rules: BTreeMap<Symbol, SymbolRules>,
    quotes: BTreeMap<Symbol, Quote>,
    balances: BTreeMap<Asset, (Qty, Qty)>,
    balances_age_ms: Option<i64>,
    can_trade: bool,
    open: Vec<Wish>,
    is_id_taken: bool,
    stop: Option<Stop>,
    state_lost: Option<String>,
    breaker: State,
    probe: Option<ClOrdId>,
    day: DayCount,
    pace: PaceCount,
    twin_age_ms: Option<i64>,
}

/// 10000 USDT and nothing else, BTC at 60000.00 / 60000.10, ETH at 2000.00 / 2000.10, the limits' defaults.
fn desk() -> Scene {
    let scene = Scene {
        environment: BTreeMap::new(),
        rules: BTreeMap::new(),
        quotes: BTreeMap::new(),
        balances: BTreeMap::new(),
        balances_age_ms: Some(0),
        can_trade: true,
        open: Vec::new(),
        is_id_taken: false,
        stop: None,
        state_lost: None,
        breaker: State::Closed,
        probe: None,
        day: DayCount::default(),
        pace: PaceCount::default(),
        twin_age_ms: None,
    };
    scene
        .rules(rules_of("BTC"))
        .rules(rules_of("ETH"))
        .holding("USDT", "10000")
        .quote("BTCUSDT", "60000.00", "60000.10")
        .quote("ETHUSDT", "2000.00", "2000.10")
}

/// A desk with BTC at 50000.00 on both sides of the book: a LIMIT at that price is worth 0.05 per step of quantity, a
/// MARKET order, with the slippage allowance of 1 %, 0.0505.
fn desk_at_50000() -> Scene {
    desk().quote("BTCUSDT", "50000.00", "50000.00")
}

impl Scene {
    fn limit(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }
    /// Position, exposure and order limits so wide that another limit is what binds.
    fn wide(self) -> Self {
        self.limit("MAX_ORDER_SIZE_USD", "10000")
            .limit("MAX_NOTIONAL_PER_MINUTE_USD", "10000")
            .limit("MAX_POSITION_SIZE_USD", "10000")
            .limit("MAX_POSITION_PCT", "1")
            .limit("MAX_TOTAL_EXPOSURE", "1")
    }
    fn rules(mut self, rules: SymbolRules) -> Self {
        self.rules.insert(rules.symbol.clone(), rules);
        self
    }
    fn btc_rules(mut self, change: impl Fn(&mut SymbolRules)) -> Self {
        change(self.rules.get_mut(&symbol("BTCUSDT")).expect("rules of BTCUSDT"));
        self
    }
    fn without_rules(mut self, name: &str) -> Self {
        self.rules.remove(&symbol(name));
        self
    }
    fn quote(self, name: &str, bid: &str, ask: &str) -> Self {
        self.quote_aged(name, bid, ask, 0)
    }
    fn quote_aged(mut self, name: &str, bid: &str, ask: &str, age_ms: i64) -> Self {
        let ts = NOW.plus_ms(-age_ms);
        let (bid, ask) = (price(bid), price(ask));
        self.quotes.insert(symbol(name), Quote { symbol: symbol(name), bid, ask, last: bid, exchange_time: ts, ts });
        self
    }
    fn without_quote(mut self, name: &str) -> Self {
        self.quotes.remove(&symbol(name));
        self
    }
    fn holding(mut self, name: &str, amount: &str) -> Self {
        self.balances.insert(asset(name), (qty(amount), Qty::ZERO));
        self
    }
    /// Held by something that is not an open order of ours.
    fn locked(mut self, name: &str, amount: &str) -> Self {
        let free = self.balances.get(&asset(name)).map_or(Qty::ZERO, |(free, _)| *free);
        self.balances.insert(asset(name), (free, qty(amount)));
        self
    }
    fn balances_aged(mut self, age_ms: i64) -> Self {
        self.balances_age_ms = Some(age_ms);
        self
    }
    fn open(mut self, wish: Wish) -> Self {
        let id = format!("open-{}", self.open.len());
        self.open.push(wish.id(&id));
        self
    }
    fn stopped(mut self, scope: &str) -> Self {
        self.stop = Some(Stop { scope: scope.to_owned(), reason: "a drill".to_owned() });
        self
    }
    fn breaker(mut self, state: State) -> Self {
        self.breaker = state;
        self
    }
    fn approved_today(mut self, orders: u64, notional: &str) -> Self {
        self.day = DayCount { day: NOW.day(), orders, notional: usd(notional) };
        self
    }
    fn pace(mut self, all: u64, of_strategy: u64) -> Self {
        self.pace = PaceCount { all, of_strategy, ..self.pace };
        self
    }
    fn approved_this_minute(mut self, notional: &str) -> Self {
        self.pace.minute_notional = usd(notional);
        self
    }
    fn repeated(mut self, repeats: u64) -> Self {
        self.pace.repeats = repeats;
        self
    }
    fn twin_aged(mut self, age_ms: i64) -> Self {
        self.twin_age_ms = Some(age_ms);
        self
    }

    fn limits(&self) -> Limits {
        Limits::from_variables(&self.environment).expect("limits without contradiction").0
    }

    fn portfolio(&self) -> Portfolio {
        let mut portfolio = Portfolio::default();
        for rules in self.rules.values() {
            portfolio.on_rules(rules.clone());
        }
        for quote in self.quotes.values() {
            portfolio.on_quote(quote.clone());
        }
        if let Some(age_ms) = self.balances_age_ms {
            let balance = |(asset, (free, locked)): (&Asset, &(Qty, Qty))| AssetBalance {
                asset: asset.clone(),
                free: *free,
                locked: *locked,
            };
            let ts = NOW.plus_ms(-age_ms);
            portfolio.on_account(&AccountSnapshot {
                v: 1,
                balances: self.balances.iter().map(balance).collect(),
                can_trade: self.can_trade,
                can_withdraw: false,
                clock_offset_ms: 0,
                exchange_time: ts,
                ts,
                mode: Mode::Paper,
            });
        }
        for wish in &self.open {
            let order = wish.order();
            let notional = self.with_context(&order, &portfolio, |context| context.notional().expect("a price"));
            portfolio.reserve(&order, notional, NOW);
        }
        portfolio
    }

    fn with_context<T>(&self, order: &NewOrder, portfolio: &Portfolio, look: impl Fn(&Context<'_>) -> T) -> T {
        look(&Context {
            order,
            limits: &self.limits(),
            is_id_taken: self.is_id_taken,
            stop: self.stop.as_ref(),
            state_lost: self.state_lost.as_deref(),
            breaker: self.breaker,
            probe: self.probe.as_ref(),
            rules: portfolio.rules(&order.symbol),
            quote: portfolio.quote(&order.symbol),
            portfolio,
            day: self.day,
            pace: self.pace,
            twin_age_ms: self.twin_age_ms,
            now: NOW,
        })
    }

    fn judge(&self, wish: &Wish) -> Evaluation {
        self.with_context(&wish.order(), &self.portfolio(), evaluate)
    }
}

/// An order as a test wishes it.
#[derive(Debug, Clone)]
struct Wish {
    id: String,
    strategy: String,
    symbol: String,
    side: Side,
    kind: Kind,
    tif: TimeInForce,
    is_reduce_only: bool,
    age_ms: i64,
    expires_in_ms: Option<i64>,
}

#[derive(Debug, Clone)]
enum Kind {
    Limit { price: String, qty: String },
    MarketQty(String),
    MarketQuote(String),
}

/// LIMIT 0.001 BTC at 60000.00.
fn buy() -> Wish {
    Wish {
        id: "a-1".to_owned(),
        strategy: "trend".to_owned(),
        symbol: "BTCUSDT".to_owned(),
        side: Side::Buy,
        kind: Kind::Limit { price: "60000.00".to_owned(), qty: "0.001".to_owned() },
        tif: TimeInForce::Gtc { post_only: false },
        is_reduce_only: false,
        age_ms: 0,
        expires_in_ms: None,
    }
}

/// LIMIT 0.001 BTC at 60000.00.
fn sell() -> Wish {
    Wish { side: Side::Sell, ..buy() }
}

impl Wish {
    fn id(mut self, id: &str) -> Self {
        self.id = id.to_owned();
        self
    }
    fn of_strategy(mut self, name: &str) -> Self {
        self.strategy = name.to_owned();
        self
    }
    fn on(mut self, name: &str) -> Self {
        self.symbol = name.to_owned();
        self
    }
    fn limit(mut self, price: &str, qty: &str) -> Self {
        self.kind = Kind::Limit { price: price.to_owned(), qty: qty.to_owned() };
        self
    }
    fn market(mut self, qty: &str) -> Self {
        self.kind = Kind::MarketQty(qty.to_owned());
        self
    }
    fn market_for(mut self, amount: &str) -> Self {
        self.kind = Kind::MarketQuote(amount.to_owned());
        self
    }
    fn ioc(mut self) -> Self {
        self.tif = TimeInForce::Ioc;
        self
    }
    fn reduce_only(mut self) -> Self {
        self.is_reduce_only = true;
        self
    }
    fn aged(mut self, age_ms: i64) -> Self {
        self.age_ms = age_ms;
        self
    }
    fn expires_in(mut self, ms: i64) -> Self {
        self.expires_in_ms = Some(ms);
        self
    }

    fn order(&self) -> NewOrder {
        let ord_type = match &self.kind {
            Kind::Limit { price: at, qty: of } => OrdType::Limit { price: price(at), qty: qty(of), tif: self.tif },
            Kind::MarketQty(of) => OrdType::Market { size: MarketSize::Qty(qty(of)) },
            Kind::MarketQuote(amount) => OrdType::Market { size: MarketSize::Quote(usd(amount)) },
        };
        NewOrder {
            cl_ord_id: ClOrdId::parse(&self.id).expect("an id"),
            strategy: StrategyId::parse(&self.strategy).expect("a strategy"),
            symbol: symbol(&self.symbol),
            side: self.side,
            ord_type,
            is_reduce_only: self.is_reduce_only,
            ts: NOW.plus_ms(-self.age_ms),
            expires_at: self.expires_in_ms.map(|ms| NOW.plus_ms(ms)),
        }
    }
}

/// LIMIT and MARKET of both sides; each passes every check where 0.01 BTC is held.
fn four_kinds() -> [Wish; 4] {
    [buy(), buy().market("0.001"), sell(), sell().market("0.001")]
}

fn row_of(reason: Reason) -> usize {
    TABLE.iter().position(|row| row.reasons.contains(&reason)).expect("the reason has a row")
}

#[test]
fn a_figure_is_shown_to_eight_decimals_without_needless_zeros() {
    let shown = |text: &str| Figure::Decimal(text.parse().expect("a decimal")).to_string();
    for (value, text) in [
        ("60000.00", "60000"),
        ("0.12345678", "0.12345678"),
        ("0.123456780", "0.12345678"),
        ("0.123456789", "0.12345679"),
        ("0.000000001", "0"),
        ("100", "100"),
    ] {
        assert_eq!(shown(value), text);
    }
    let others =
        [Figure::Nothing, Figure::Count(7), Figure::Millis(-5), Figure::Word("none"), Figure::Name("X".into())];
    assert_eq!(others.map(|figure| figure.to_string()), ["-", "7", "-5", "none", "X"]);
}

#[test]
fn every_refusal_is_listed_and_the_first_names_the_verdict() {
    let scene = desk().limit("ALLOWED_SYMBOLS", "ETHUSDT").holding("USDT", "100");
    let evaluation = scene.judge(&buy().limit("90000.00", "0.1"));
    assert_eq!(evaluation.refusal.map(|(reason, _)| reason), Some(Reason::SymbolNotAllowed));
    let refused: Vec<Reason> =
        evaluation.checks.iter().filter(|check| check.is_refused).map(|check| check.check).collect();
    let expected = [
        Reason::SymbolNotAllowed,
        Reason::PriceOutsideCollar,
        Reason::OrderTooLarge,
        Reason::PositionTooLarge,
        Reason::PositionPctExceeded,
        Reason::ExposureExceeded,
        Reason::InsufficientBalance,
        Reason::NotionalThrottled,
    ];
    assert_eq!(refused, expected);
    let json = serde_json::to_string(&evaluation.checks).expect("JSON");
    assert_eq!(json.matches(r#""refused":true"#).count(), expected.len(), "{json}");
}

/// No refusal, and every row of the table was asked, in order.
#[track_caller]
fn assert_approved(scene: &Scene, wish: &Wish) {
    let evaluation = scene.judge(wish);
    assert_eq!(evaluation.refusal, None, "{wish:?}");
    let asked: Vec<Reason> = evaluation.checks.iter().map(|check| check.check).collect();
    let rows: Vec<Reason> = TABLE.iter().map(|row| row.reasons[0]).collect();
    assert_eq!(asked, rows, "{wish:?}");
}

/// The row that can give `reason` passed, whatever another row says.
#[track_caller]
fn assert_check_passed(scene: &Scene, wish: &Wish, reason: Reason) {
    let evaluation = scene.judge(wish);
    let check = &evaluation.checks[row_of(reason)];
    assert!(!check.is_refused, "{wish:?}: {:?}", evaluation.refusal);
    assert_eq!(check.check, TABLE[row_of(reason)].reasons[0], "{wish:?}");
}

/// Refused for exactly this reason, by its own row, every row before which passed.
#[track_caller]
fn assert_refused(scene: &Scene, wish: &Wish, reason: Reason) {
    let evaluation = scene.judge(wish);
    let (given, text) = evaluation.refusal.unwrap_or_else(|| panic!("must be refused: {wish:?}"));
    assert_eq!(given, reason, "{wish:?}: {text}");
    assert!(!text.is_empty(), "{wish:?}");
    assert_eq!(evaluation.checks.len(), TABLE.len(), "{wish:?}");
    let first = evaluation.checks.iter().position(|check| check.is_refused);
    assert_eq!(first, Some(row_of(reason)), "{wish:?}");
    assert_eq!(evaluation.checks[row_of(reason)].check, reason, "{wish:?}");
}

/// One step below and exactly at the limit pass; one step above is refused.
#[track_caller]
fn assert_at_most(reason: Reason, scene: &Scene, [below, at, above]: [Wish; 3]) {
    assert_check_passed(scene, &below, reason);
    assert_check_passed(scene, &at, reason);
    assert_refused(scene, &above, reason);
}

/// One step below the limit is refused; exactly at it and one step above pass.
#[track_caller]
fn assert_at_least(reason: Reason, scene: &Scene, [below, at, above]: [Wish; 3]) {
    assert_refused(scene, &below, reason);
    assert_check_passed(scene, &at, reason);
    assert_check_passed(scene, &above, reason);
}

/// The same order in three quantities.
fn sized(make: impl Fn(&str) -> Wish, quantities: [&str; 3]) -> [Wish; 3] {
    quantities.map(make)
}

fn open_state(cause: Cause) -> State {
    let retry_at = (!cause.latches()).then(|| NOW.plus_ms(300_000));
    State::Open { cause, opened_at: NOW.plus_ms(-1), retry_at }
}

fn half_open_state() -> State {
    State::HalfOpen { cause: Cause::ConsecutiveFailures, since: NOW.plus_ms(-1) }
}

#[test]
fn every_reason_but_malformed_has_exactly_one_row_and_the_rows_stand_in_the_order_of_the_reasons() {
    let in_table: Vec<Reason> = TABLE.iter().flat_map(|row| row.reasons.iter().copied()).collect();
    let expected: Vec<Reason> = Reason::ALL.iter().copied().filter(|reason| *reason != Reason::Malformed).collect();
    assert_eq!(in_table, expected);
    assert_eq!(Reason::ALL[0], Reason::Malformed);
}

#[test]
fn an_ordinary_order_of_each_kind_passes_every_check_in_order() {
    for wish in four_kinds() {
        assert_approved(&desk().holding("BTC", "0.01"), &wish);
    }
    assert_approved(&desk(), &buy().market_for("100"));
    assert_approved(&desk(), &buy().on("ETHUSDT").limit("2000.00", "0.1"));
}

#[test]
fn value_and_limit_are_reported_on_a_pass_and_on_a_refusal() {
    let figures = |scene: &Scene, wish: &Wish, reason: Reason| {
        let check = scene.judge(wish).checks[row_of(reason)].clone();
        (check.value.to_string(), check.limit.to_string())
    };
    let at = |amount: &str| buy().market_for(amount);
    let texts = |value: &str, limit: &str| (value.to_owned(), limit.to_owned());
    assert_eq!(figures(&desk(), &at("500"), Reason::OrderTooLarge), texts("500", "500"));
    assert_eq!(figures(&desk(), &at("500.01"), Reason::OrderTooLarge), texts("500.01", "500"));
    assert_eq!(figures(&desk(), &at("9.99"), Reason::OrderTooSmall), texts("9.99", "10"));
    assert_eq!(figures(&desk(), &at("500"), Reason::PositionPctExceeded), texts("0.05", "0.1"));
    assert_eq!(figures(&desk(), &at("500"), Reason::InsufficientBalance), texts("500.25", "10000"));
    assert_eq!(figures(&desk().approved_today(49, "0"), &at("50"), Reason::DailyOrderLimit), texts("50", "50"));
    assert_eq!(figures(&desk().approved_today(50, "0"), &at("50"), Reason::DailyOrderLimit), texts("51", "50"));
    assert_eq!(figures(&desk(), &at("50").aged(7), Reason::StaleOrder), texts("7", "10000"));
}

#[test]
fn a_used_id_is_refused_for_every_kind_of_order() {
    let used = Scene { is_id_taken: true, ..desk().holding("BTC", "0.01") };
    for wish in four_kinds() {
        assert_check_passed(&desk(), &wish, Reason::DuplicateClOrdId);
        assert_refused(&used, &wish, Reason::DuplicateClOrdId);
    }
}

#[test]
fn an_order_may_be_as_old_as_its_limit_and_a_second_ahead_of_our_clock() {
    let scene = desk().holding("BTC", "0.01");
    for wish in four_kinds() {
        for fresh in [9_999, 10_000, 0, -999, -1_000] {
            assert_approved(&scene, &wish.clone().aged(fresh));
        }
        for stale in [10_001, 86_400_000, -1_001, -86_400_000] {
            assert_refused(&scene, &wish.clone().aged(stale), Reason::StaleOrder);
        }
    }
}

#[test]
fn an_order_ends_at_its_own_expiry_exactly() {
    let scene = desk().holding("BTC", "0.01");
    for wish in four_kinds() {
        assert_approved(&scene, &wish.clone().expires_in(1));
        assert_refused(&scene, &wish.clone().expires_in(0), Reason::StaleOrder);
        assert_refused(&scene, &wish.clone().expires_in(-1), Reason::StaleOrder);
    }
}

#[test]
fn a_stop_refuses_every_kind_of_order_and_says_which_stop_it_is() {
    for scope in ["all", "symbol BTCUSDT", "strategy trend"] {
        let scene = desk().holding("BTC", "0.01").stopped(scope);
        for wish in four_kinds() {
            assert_refused(&scene, &wish, Reason::EmergencyStop);
            let (_, text) = scene.judge(&wish).refusal.expect("refused");
            assert!(text.contains(scope) && text.contains("a drill"), "{text}");
        }
    }
}

#[test]
fn lost_state_refuses_every_kind_of_order() {
    let scene = Scene { state_lost: Some("epoch changed".to_owned()), ..desk().holding("BTC", "0.01") };
    for wish in four_kinds() {
        assert_refused(&scene, &wish, Reason::StateLost);
    }
}

#[test]
fn balances_must_be_known_at_most_a_minute_old_and_of_an_account_that_may_trade() {
    let known = desk().holding("BTC", "0.01");
    let unknown = Scene { balances_age_ms: None, ..known.clone() };
    let barred = Scene { can_trade: false, ..known.clone() };
    for wish in four_kinds() {
        assert_approved(&known.clone().balances_aged(59_999), &wish);
        assert_approved(&known.clone().balances_aged(60_000), &wish);
        assert_refused(&known.clone().balances_aged(60_001), &wish, Reason::StateLost);
        assert_refused(&unknown, &wish, Reason::StateLost);
        assert_refused(&barred, &wish, Reason::StateLost);
    }
}

#[test]
fn an_open_breaker_refuses_whatever_is_not_an_exit_for_every_cause() {
    for cause in Cause::ALL {
        let scene = desk().breaker(open_state(*cause));
        for wish in four_kinds() {
            assert_refused(&scene, &wish, Reason::CircuitOpen);
        }
        assert_refused(&scene, &buy().market_for("20"), Reason::CircuitOpen);
    }
}

#[test]
fn a_half_open_breaker_admits_a_probe_of_twice_the_smallest_order_and_nothing_larger() {
    let scene = desk_at_50000().limit("MIN_ORDER_SIZE_USD", "10.1").breaker(half_open_state());
    // Twice 10.1 is 20.2: 0.0004 at 50500 for MARKET.
    let market_steps = ["0.000399", "0.0004", "0.000401"];
    assert_at_most(Reason::CircuitOpen, &scene, sized(|qty| buy().market(qty), market_steps));
    assert_at_most(Reason::CircuitOpen, &scene, sized(|qty| sell().market(qty), market_steps));
    assert_at_most(Reason::CircuitOpen, &scene, ["20.19", "20.2", "20.21"].map(|amount| buy().market_for(amount)));
    assert_approved(&scene, &buy().market("0.0004"));

    let scene = desk_at_50000().breaker(half_open_state());
    let limit_steps = ["0.000399", "0.0004", "0.000401"];
    assert_at_most(Reason::CircuitOpen, &scene, sized(|qty| buy().limit("50000.00", qty), limit_steps));
    assert_at_most(Reason::CircuitOpen, &scene, sized(|qty| sell().limit("50000.00", qty), limit_steps));
    assert_approved(&scene, &buy().limit("50000.00", "0.0004"));
}

#[test]
fn the_probe_may_be_twice_the_exchanges_minimum_where_that_is_the_greater() {
    let scene = desk().breaker(half_open_state()).btc_rules(|rules| rules.notional_min = usd("15"));
    assert_at_most(Reason::CircuitOpen, &scene, ["29.99", "30", "30.01"].map(|amount| buy().market_for(amount)));
    let scene = desk().breaker(half_open_state()).btc_rules(|rules| rules.market_notional_min = usd("15"));
    assert_at_most(Reason::CircuitOpen, &scene, ["29.99", "30", "30.01"].map(|amount| buy().market_for(amount)));
}

#[test]
fn a_half_open_breaker_with_its_probe_in_flight_admits_exits_alone() {
    let in_flight = Scene { probe: ClOrdId::parse("probe-1"), ..desk().breaker(half_open_state()) };
    assert_refused(&in_flight, &buy().market_for("10"), Reason::CircuitOpen);
    assert_refused(&in_flight, &sell(), Reason::CircuitOpen);
    assert_approved(&in_flight.clone().holding("BTC", "0.01"), &sell());
    assert_approved(&in_flight.holding("BTC", "0.01"), &sell().market("0.01"));
}

#[test]
fn only_strategies_on_the_list_may_trade_and_a_star_allows_any() {
    let listed = desk().holding("BTC", "0.01").limit("ALLOWED_STRATEGIES", "trend, grid.v2");
    for wish in four_kinds() {
        assert_approved(&listed, &wish);
        assert_approved(&listed, &wish.clone().of_strategy("grid.v2"));
        assert_approved(&desk().holding("BTC", "0.01"), &wish.clone().of_strategy("anyone"));
        for other in ["Trend", "trend2", "tren", "grid"] {
            assert_refused(&listed, &wish.clone().of_strategy(other), Reason::StrategyNotAllowed);
        }
        assert_refused(&desk().limit("ALLOWED_STRATEGIES", ""), &wish, Reason::StrategyNotAllowed);
    }
}

#[test]
fn only_symbols_on_the_list_may_be_traded() {
    let listed = desk().holding("BTC", "0.01").limit("ALLOWED_SYMBOLS", "BTCUSDT");
    for wish in four_kinds() {
        assert_approved(&listed, &wish);
        assert_refused(&listed, &wish.clone().on("ETHUSDT"), Reason::SymbolNotAllowed);
        assert_refused(&listed, &wish.clone().on("BTCUSD"), Reason::SymbolNotAllowed);
        assert_refused(&desk().limit("ALLOWED_SYMBOLS", ""), &wish, Reason::SymbolNotAllowed);
    }
}

#[test]
fn a_symbol_without_rules_or_closed_to_the_api_is_not_tradable() {
    let held = desk().holding("BTC", "0.01");
    for wish in four_kinds() {
        assert_check_passed(&held, &wish, Reason::SymbolNotTradable);
        assert_refused(&held.clone().without_rules("BTCUSDT"), &wish, Reason::SymbolNotTradable);
        assert_refused(&held.clone().btc_rules(|rules| rules.is_tradable = false), &wish, Reason::SymbolNotTradable);
    }
}

#[test]
fn a_symbol_is_tradable_only_when_it_is_paid_in_a_dollar_in_which_the_limits_are_written() {
    let paid_in = |quote: &str| {
        let name = format!("BTC{quote}");
        let scene = desk().limit("ALLOWED_SYMBOLS", &name).rules(rules_in("BTC", quote));
        scene.quote(&name, "60000.00", "60000.10").holding("USDT", "0").holding(quote, "10000").holding("BTC", "0.01")
    };
    for wish in four_kinds() {
        for dollar in ["USDT", "USDC", "USD1"] {
            assert_approved(&paid_in(dollar), &wish.clone().on(&format!("BTC{dollar}")));
        }
        for other in ["EUR", "USD", "USDE", "TUSD", "ETH", "USDTX"] {
            let name = format!("BTC{other}");
            assert_refused(&paid_in(other), &wish.clone().on(&name), Reason::SymbolNotTradable);
            let (_, text) = paid_in(other).judge(&wish.clone().on(&name)).refusal.expect("refused");
            assert!(text.contains(&format!("paid in {other},")), "{text}");
        }
    }
}

#[test]
fn a_symbol_takes_only_the_sides_that_the_exchange_opened() {
    let held = desk().holding("BTC", "0.01");
    let with = |sides: Sides| held.clone().btc_rules(|rules| rules.sides = sides);
    for (sides, takes_buys, takes_sells) in [
        (Sides::Both, true, true),
        (Sides::BuyOnly, true, false),
        (Sides::SellOnly, false, true),
        (Sides::Neither, false, false),
    ] {
        for wish in four_kinds() {
            let is_taken = if wish.side == Side::Buy { takes_buys } else { takes_sells };
            if is_taken {
                assert_approved(&with(sides), &wish);
            } else {
                assert_refused(&with(sides), &wish, Reason::SymbolNotTradable);
            }
        }
    }
}

#[test]
fn a_symbol_without_market_orders_takes_limit_orders_only() {
    let scene = desk().holding("BTC", "0.01").btc_rules(|rules| rules.has_market_orders = false);
    for limit in [buy(), sell(), buy().ioc()] {
        assert_approved(&scene, &limit);
    }
    for market in [buy().market("0.001"), sell().market("0.001"), buy().market_for("100")] {
        assert_refused(&scene, &market, Reason::SymbolNotTradable);
    }
}

#[test]
fn a_price_has_at_most_the_decimals_of_the_price_step() {
    let scene = desk().holding("BTC", "0.01");
    for make in [buy, sell] {
        for good in ["60000.01", "60000.1", "60000", "60000.010000"] {
            assert_check_passed(&scene, &make().limit(good, "0.001"), Reason::InvalidPriceIncrement);
        }
        for bad in ["60000.001", "59999.999", "60000.0100001"] {
            assert_refused(&scene, &make().limit(bad, "0.001"), Reason::InvalidPriceIncrement);
        }
        let whole = scene.clone().btc_rules(|rules| rules.price_decimals = 0);
        assert_check_passed(&whole, &make().limit("60001", "0.001"), Reason::InvalidPriceIncrement);
        assert_refused(&whole, &make().limit("60000.1", "0.001"), Reason::InvalidPriceIncrement);
        assert_check_passed(&whole, &make().market("0.001"), Reason::InvalidPriceIncrement);
    }
}

#[test]
fn a_quantity_has_at_most_the_decimals_of_the_quantity_step() {
    let scene = desk().holding("BTC", "0.01");
    let makes: [fn(&str) -> Wish; 4] = [
        |qty| buy().limit("60000.00", qty),
        |qty| sell().limit("60000.00", qty),
        |qty| buy().market(qty),
        |qty| sell().market(qty),
    ];
    for make in makes {
        for good in ["0.001", "0.001001", "0.0010010"] {
            assert_check_passed(&scene, &make(good), Reason::InvalidQtyIncrement);
        }
        for bad in ["0.0010001", "0.0010000001"] {
            assert_refused(&scene, &make(bad), Reason::InvalidQtyIncrement);
        }
    }
    assert_check_passed(&scene, &buy().market_for("100.01"), Reason::InvalidQtyIncrement);
    assert_check_passed(&scene, &buy().market_for("100.010"), Reason::InvalidQtyIncrement);
    assert_refused(&scene, &buy().market_for("100.001"), Reason::InvalidQtyIncrement);
}

#[test]
fn an_order_without_any_price_of_its_symbol_is_refused() {
    let scene = desk().holding("ETH", "0.1").without_quote("BTCUSDT");
    for wish in four_kinds() {
        assert_refused(&scene, &wish, Reason::NoReferencePrice);
    }
    assert_refused(&scene, &buy().market_for("100"), Reason::NoReferencePrice);
    assert_approved(&scene, &buy().on("ETHUSDT").limit("2000.00", "0.1"));
}

#[test]
fn a_price_may_be_as_old_as_its_limit_in_either_direction_of_the_clock() {
    let aged = |age_ms: i64| desk().holding("BTC", "0.01").quote_aged("BTCUSDT", "60000.00", "60000.10", age_ms);
    for wish in four_kinds() {
        for fresh in [4_999, 5_000, -4_999, -5_000] {
            assert_approved(&aged(fresh), &wish);
        }
        for stale in [5_001, -5_001] {
            assert_refused(&aged(stale), &wish, Reason::StaleReferencePrice);
        }
    }
}

#[test]
fn a_crossed_or_too_wide_book_is_no_reference() {
    let book = |bid: &str, ask: &str| desk().holding("BTC", "0.01").quote("BTCUSDT", bid, ask);
    for wish in four_kinds() {
        for good in
            [("60000.00", "60000.00"), ("60000.00", "60000.01"), ("58500.01", "61500.00"), ("58500.00", "61500.00")]
        {
            assert_check_passed(&book(good.0, good.1), &wish, Reason::BadReferencePrice);
        }
        // 3000 of 60000 is exactly MAX_SPREAD_PCT.
        for bad in [("58499.99", "61500.00"), ("58500.00", "61500.01"), ("60000.01", "60000.00"), ("1.00", "119999.00")]
        {
            assert_refused(&book(bad.0, bad.1), &wish, Reason::BadReferencePrice);
        }
    }
}

#[test]
fn a_book_with_a_price_of_zero_is_no_reference() {
    for zero_bid in [true, false] {
        let mut scene = desk().holding("BTC", "0.01");
        let quote = scene.quotes.get_mut(&symbol("BTCUSDT")).expect("a quote");
        if zero_bid {
            quote.bid = Price::default();
        } else {
            quote.ask = Price::default();
        }
        for wish in four_kinds() {
            assert_refused(&scene, &wish, Reason::BadReferencePrice);
        }
    }
}

/// FL-MX-16: far above the market or far below it, for either side.
#[test]
fn a_limit_price_stays_within_the_collar_around_the_side_it_would_take() {
    // A buy is measured against the ask 60000.00, a sell against the bid 58000.00: 5 % are 3000.00 and 2900.00.
    let scene = desk().holding("BTC", "0.01").quote("BTCUSDT", "58000.00", "60000.00");
    let at = |make: fn() -> Wish| move |price: &str| make().limit(price, "0.001");
    assert_at_most(Reason::PriceOutsideCollar, &scene, ["62999.99", "63000.00", "63000.01"].map(at(buy)));
    assert_at_least(Reason::PriceOutsideCollar, &scene, ["56999.99", "57000.00", "57000.01"].map(at(buy)));
    assert_at_most(Reason::PriceOutsideCollar, &scene, ["60899.99", "60900.00", "60900.01"].map(at(sell)));
    assert_at_least(Reason::PriceOutsideCollar, &scene, ["55099.99", "55100.00", "55100.01"].map(at(sell)));
    for market in [buy().market("0.001"), sell().market("0.001"), buy().market_for("100")] {
        assert_check_passed(&scene, &market, Reason::PriceOutsideCollar);
    }
}

#[test]
fn a_new_risk_is_at_least_the_owners_smallest_order() {
    let scene = desk_at_50000();
    let steps = ["0.000199", "0.0002", "0.000201"];
    assert_at_least(Reason::OrderTooSmall, &scene, sized(|qty| buy().limit("50000.00", qty), steps));
    assert_at_least(Reason::OrderTooSmall, &scene, sized(|qty| sell().limit("50000.00", qty), steps));
    // A market order counts without its slippage allowance here: it may turn out to be worth that little.
    assert_at_least(Reason::OrderTooSmall, &scene, sized(|qty| buy().market(qty), steps));
    assert_at_least(Reason::OrderTooSmall, &scene, sized(|qty| sell().market(qty), steps));
    assert_at_least(Reason::OrderTooSmall, &scene, ["9.99", "10", "10.01"].map(|amount| buy().market_for(amount)));
    assert_approved(&scene, &buy().limit("50000.00", "0.0002"));
}

#[test]
fn an_exit_is_at_least_the_exchanges_smallest_order_and_the_owners_does_not_bind_it() {
    let scene = desk_at_50000().holding("BTC", "0.01");
    let steps = ["0.000019", "0.00002", "0.000021"];
    assert_at_least(Reason::OrderTooSmall, &scene, sized(|qty| sell().limit("50000.00", qty), steps));
    assert_at_least(Reason::OrderTooSmall, &scene, sized(|qty| sell().market(qty), steps));
    assert_approved(&scene, &sell().limit("50000.00", "0.00002"));
}

#[test]
fn the_exchanges_minimum_binds_by_order_type_where_it_is_the_greater() {
    let limit_20 = desk_at_50000().holding("BTC", "0.01").btc_rules(|rules| rules.notional_min = usd("20"));
    let market_20 = desk_at_50000().holding("BTC", "0.01").btc_rules(|rules| rules.market_notional_min = usd("20"));
    let steps = ["0.000399", "0.0004", "0.000401"];
    for make in [buy, sell] {
        assert_at_least(Reason::OrderTooSmall, &limit_20, sized(|qty| make().limit("50000.00", qty), steps));
        assert_at_least(Reason::OrderTooSmall, &market_20, sized(|qty| make().market(qty), steps));
        assert_check_passed(&limit_20, &make().market("0.000399"), Reason::OrderTooSmall);
        assert_check_passed(&market_20, &make().limit("50000.00", "0.000399"), Reason::OrderTooSmall);
    }
}

#[test]
fn the_exchanges_smallest_quantity_binds_whatever_the_order_is_worth() {
    let scene = desk_at_50000().holding("BTC", "0.01").btc_rules(|rules| rules.qty_min = qty("0.001"));
    let steps = ["0.000999", "0.001", "0.001001"];
    for make in [buy, sell] {
        assert_at_least(Reason::OrderTooSmall, &scene, sized(|qty| make().limit("50000.00", qty), steps));
        assert_at_least(Reason::OrderTooSmall, &scene, sized(|qty| make().market(qty), steps));
    }
}

#[test]
fn a_new_risk_is_at_most_the_owners_largest_order() {
    let steps = ["0.009999", "0.01", "0.010001"];
    let scene = desk_at_50000();
    assert_at_most(Reason::OrderTooLarge, &scene, sized(|qty| buy().limit("50000.00", qty), steps));
    assert_at_most(Reason::OrderTooLarge, &scene, sized(|qty| sell().limit("50000.00", qty), steps));
    assert_at_most(Reason::OrderTooLarge, &scene, ["499.99", "500", "500.01"].map(|amount| buy().market_for(amount)));
    // 0.01 at 50000.00 with 1 % for slippage.
    let scene = desk_at_50000().limit("MAX_ORDER_SIZE_USD", "505");
    assert_at_most(Reason::OrderTooLarge, &scene, sized(|qty| buy().market(qty), steps));
    assert_at_most(Reason::OrderTooLarge, &scene, sized(|qty| sell().market(qty), steps));
    assert_approved(&scene, &buy().market("0.01"));
}

#[test]
fn the_exchanges_maximum_binds_exits_too_by_order_type() {
    let held = desk_at_50000().holding("BTC", "1");
    let limit_300 = held.clone().btc_rules(|rules| rules.notional_max = Some(usd("300")));
    let market_303 = held.clone().btc_rules(|rules| rules.market_notional_max = Some(usd("303")));
    let steps = ["0.005999", "0.006", "0.006001"];
    for make in [buy, sell] {
        assert_at_most(Reason::OrderTooLarge, &limit_300, sized(|qty| make().limit("50000.00", qty), steps));
        assert_at_most(Reason::OrderTooLarge, &market_303, sized(|qty| make().market(qty), steps));
        assert_check_passed(&limit_300, &make().market("0.006001"), Reason::OrderTooLarge);
        assert_check_passed(&market_303, &make().limit("50000.00", "0.006001"), Reason::OrderTooLarge);
    }
    let unstated = held.btc_rules(|rules| (rules.notional_max, rules.market_notional_max) = (None, None));
    assert_approved(&unstated, &sell().limit("50000.00", "1"));
    assert_approved(&unstated, &sell().market("1"));
}

#[test]
fn held_and_open_and_this_buy_together_are_at_most_the_largest_position() {
    // 500 held and 250 open leave 250.
    let scene = desk_at_50000().holding("BTC", "0.01").open(buy().limit("50000.00", "0.005"));
    let steps = ["0.004999", "0.005", "0.005001"];
    assert_at_most(Reason::PositionTooLarge, &scene, sized(|qty| buy().limit("50000.00", qty), steps));
    assert_at_most(
        Reason::PositionTooLarge,
        &scene,
        ["249.99", "250", "250.01"].map(|amount| buy().market_for(amount)),
    );
    let for_market = scene.clone().limit("MAX_POSITION_SIZE_USD", "1002.5");
    assert_at_most(Reason::PositionTooLarge, &for_market, sized(|qty| buy().market(qty), steps));
    assert_approved(&scene, &buy().limit("50000.00", "0.005"));

    let open_market = desk_at_50000().open(buy().market("0.01")).open(buy().market_for("245"));
    assert_at_most(Reason::PositionTooLarge, &open_market, sized(|qty| buy().limit("50000.00", qty), steps));
}

#[test]
fn open_sells_free_nothing_and_positions_in_other_symbols_do_not_count_for_this_one() {
    let with_open_sell = desk_at_50000().holding("BTC", "0.015").open(sell().limit("51000.00", "0.015"));
    assert_refused(&with_open_sell, &buy().limit("50000.00", "0.005001"), Reason::PositionTooLarge);
    let with_ether = desk_at_50000().holding("ETH", "0.4").open(buy().on("ETHUSDT").limit("2000.00", "0.1"));
    assert_approved(&with_ether, &buy().limit("50000.00", "0.01"));
}

#[test]
fn the_resulting_position_is_at_most_its_share_of_equity() {
    // Equity 10000: 500 held and 250 to come are 7.5 % of it.
    let scene = desk_at_50000().holding("USDT", "9500").holding("BTC", "0.01").limit("MAX_POSITION_PCT", "0.075");
    let steps = ["0.004999", "0.005", "0.005001"];
    assert_at_most(Reason::PositionPctExceeded, &scene, sized(|qty| buy().limit("50000.00", qty), steps));
    assert_at_most(Reason::PositionPctExceeded, &scene, ["249.99", "250", "250.01"].map(|of| buy().market_for(of)));
    let for_market = scene.clone().limit("MAX_POSITION_PCT", "0.07525");
    assert_at_most(Reason::PositionPctExceeded, &for_market, sized(|qty| buy().market(qty), steps));
    assert_approved(&scene, &buy().limit("50000.00", "0.005"));
    let with_open_buy = scene.open(buy().limit("50000.00", "0.001"));
    assert_refused(&with_open_buy, &buy().limit("50000.00", "0.004001"), Reason::PositionPctExceeded);
}

#[test]
fn an_account_without_equity_cannot_buy() {
    assert_refused(&desk().holding("USDT", "0"), &buy().market_for("10"), Reason::PositionPctExceeded);
}

#[test]
fn a_buy_beside_an_asset_without_a_price_is_refused_by_its_name_and_a_sell_is_not() {
    let held = desk().holding("BTC", "0.01");
    let unpriced = [held.clone().holding("XYZ", "1"), held.clone().locked("XYZ", "0.00000001")];
    let buys = [buy(), buy().market("0.001"), buy().market_for("100"), buy().on("ETHUSDT").limit("2000.00", "0.1")];
    let sells = [sell(), sell().ioc(), sell().market("0.01"), sell().market("0.01").reduce_only()];
    for scene in &unpriced {
        for wish in &buys {
            assert_refused(scene, wish, Reason::NoReferencePrice);
            let evaluation = scene.judge(wish);
            let check = evaluation.checks.iter().find(|check| check.is_refused).expect("the refusal");
            assert_eq!(check.value, Figure::Name("XYZ".to_owned()), "{wish:?}");
            let (_, text) = evaluation.refusal.expect("refused");
            assert!(text.contains("XYZ"), "{text}");
        }
        for wish in &sells {
            assert_approved(scene, wish);
        }
        assert_check_passed(scene, &sell().limit("60000.00", "0.010001"), Reason::NoReferencePrice);
    }
    let priced = held.clone().holding("XYZ", "1").quote("XYZUSDT", "0.10", "0.10");
    for scene in [priced, held.holding("XYZ", "0")] {
        for wish in &buys {
            assert_approved(&scene, wish);
        }
    }
}

#[test]
fn every_dollar_counts_as_money_and_none_as_a_position() {
    let scene = desk().holding("USDC", "500").holding("USD1", "250");
    let sums = scene.portfolio().exposure_and_equity(&asset("USDT"));
    assert_eq!(sums, Ok((usd("0"), usd("10750"))));
    assert_eq!(scene.portfolio().exposure_and_equity(&asset("EUR")), sums, "in what no symbol is paid in, too");
    let with_btc = scene.holding("BTC", "0.1").portfolio();
    assert_eq!(with_btc.exposure_and_equity(&asset("USDT")), Ok((usd("6000.005"), usd("16750.005"))));
    assert_eq!(with_btc.exposure_and_equity(&asset("EUR")), Err(asset("BTC")));
}

#[test]
fn a_held_asset_other_than_the_orders_own_is_marked_by_a_price_of_the_last_minute_unless_it_is_dust() {
    let scene = |amount: &str, age_ms: i64| {
        let mut scene = desk().holding("XYZ", amount).quote("XYZUSDT", "0.10", "0.10");
        scene.quotes.get_mut(&symbol("XYZUSDT")).expect("the price").ts = NOW.plus_ms(-age_ms);
        scene
    };
    for wish in [buy(), buy().market("0.001"), buy().market_for("100")] {
        assert_approved(&scene("20", 60_000), &wish);
        assert_refused(&scene("20", 60_001), &wish, Reason::StaleReferencePrice);
        let (_, text) = scene("20", 60_001).judge(&wish).refusal.expect("refused");
        assert!(text.contains("XYZ"), "{text}");
        // Ten of them are worth 1.
        assert_refused(&scene("10.000001", 60_001), &wish, Reason::StaleReferencePrice);
        assert_approved(&scene("10", 86_400_000), &wish);
    }
    let held = scene("20", 86_400_000).holding("BTC", "0.01");
    assert_approved(&held, &sell().market("0.01"));
}

#[test]
fn all_positions_and_open_buys_and_this_buy_are_at_most_the_share_of_equity_that_may_be_exposed() {
    // Equity 10000: 2000 in ETH, 400 in BTC, an open buy of 100 in ETH, so that 500 remain of 30 %.
    let scene = desk_at_50000()
        .quote("ETHUSDT", "2000.00", "2000.00")
        .holding("USDT", "7600")
        .holding("ETH", "1")
        .holding("BTC", "0.008")
        .open(buy().on("ETHUSDT").limit("2000.00", "0.05"))
        .limit("MAX_ORDER_SIZE_USD", "600")
        .limit("MAX_POSITION_PCT", "0.30");
    let steps = ["0.009999", "0.01", "0.010001"];
    assert_at_most(Reason::ExposureExceeded, &scene, sized(|qty| buy().limit("50000.00", qty), steps));
    assert_at_most(Reason::ExposureExceeded, &scene, ["499.99", "500", "500.01"].map(|of| buy().market_for(of)));
    let for_market = scene.clone().limit("MAX_TOTAL_EXPOSURE", "0.3005");
    assert_at_most(Reason::ExposureExceeded, &for_market, sized(|qty| buy().market(qty), steps));
    assert_approved(&scene, &buy().limit("50000.00", "0.01"));
}

#[test]
fn a_buy_needs_its_amount_and_the_fee_in_free_quote() {
    let steps = ["0.009999", "0.01", "0.010001"];
    let with = |usdt: &str| desk_at_50000().wide().holding("USDT", usdt);
    let limits = || sized(|qty| buy().limit("50000.00", qty), steps);
    assert_at_most(Reason::InsufficientBalance, &with("500.25"), limits());
    assert_at_most(Reason::InsufficientBalance, &with("505.2525"), sized(|qty| buy().market(qty), steps));
    assert_at_most(
        Reason::InsufficientBalance,
        &with("500.25"),
        ["499.99", "500", "500.01"].map(|amount| buy().market_for(amount)),
    );
    assert_approved(&with("500.25"), &buy().limit("50000.00", "0.01"));
    let open_buy = with("1000.5").open(buy().limit("50000.00", "0.01"));
    assert_at_most(Reason::InsufficientBalance, &open_buy, limits());
    let other_symbol = with("1000.5").open(buy().on("ETHUSDT").limit("2000.00", "0.25"));
    assert_at_most(Reason::InsufficientBalance, &other_symbol, limits());
    assert_at_most(Reason::InsufficientBalance, &with("500.25").locked("USDT", "700"), limits());
}

#[test]
fn a_sell_needs_its_quantity_in_free_base_and_no_quote() {
    let steps = ["0.009999", "0.01", "0.010001"];
    let scenes = [
        desk_at_50000().holding("USDT", "0").holding("BTC", "0.01"),
        desk_at_50000().holding("BTC", "0.015").open(sell().limit("51000.00", "0.005")),
        desk_at_50000().holding("BTC", "0.015").open(sell().market("0.005")),
        desk_at_50000().holding("BTC", "0.01").locked("BTC", "0.02"),
    ]
    .map(Scene::wide);
    for scene in &scenes {
        assert_at_most(Reason::InsufficientBalance, scene, sized(|qty| sell().limit("50000.00", qty), steps));
        assert_at_most(Reason::InsufficientBalance, scene, sized(|qty| sell().market(qty), steps));
        assert_approved(scene, &sell().limit("50000.00", "0.01"));
    }
}

#[test]
fn what_is_on_sale_for_one_quote_currency_is_not_free_to_be_sold_for_another() {
    let scene = desk_at_50000()
        .wide()
        .limit("ALLOWED_SYMBOLS", "BTCUSDT,BTCUSDC,ETHUSDT")
        .rules(rules_in("BTC", "USDC"))
        .quote("BTCUSDC", "50000.00", "50000.00")
        .holding("BTC", "0.015")
        .holding("ETH", "1");
    let steps = ["0.009999", "0.01", "0.010001"];
    for (other, this) in [("BTCUSDC", "BTCUSDT"), ("BTCUSDT", "BTCUSDC")] {
        for on_sale in [sell().on(other).limit("51000.00", "0.005"), sell().on(other).market("0.005")] {
            let scene = scene.clone().open(on_sale).open(sell().on("ETHUSDT").limit("2100.00", "1"));
            for make in [|qty: &str| sell().limit("50000.00", qty), |qty: &str| sell().market(qty)] {
                assert_at_most(Reason::InsufficientBalance, &scene, sized(|qty| make(qty).on(this), steps));
            }
            let exhausted = scene.breaker(open_state(Cause::DailyLoss));
            assert_approved(&exhausted, &sell().on(this).limit("50000.00", "0.01"));
            assert_refused(&exhausted, &sell().on(this).limit("50000.00", "0.010001"), Reason::CircuitOpen);
        }
    }
}

#[test]
fn one_more_order_may_be_open_while_fewer_than_the_limit_are() {
    let with = |open: usize| {
        let far = |n: usize| buy().limit(&format!("58000.{n:02}"), "0.001");
        (0..open).fold(desk().holding("BTC", "0.01").limit("MAX_OPEN_ORDERS", "3"), |scene, n| scene.open(far(n)))
    };
    for wish in [buy(), buy().market("0.001"), buy().market_for("100"), buy().ioc(), sell()] {
        assert_check_passed(&with(1), &wish, Reason::TooManyOpenOrders);
        assert_check_passed(&with(2), &wish, Reason::TooManyOpenOrders);
        assert_refused(&with(3), &wish, Reason::TooManyOpenOrders);
        assert_refused(&with(4), &wish, Reason::TooManyOpenOrders);
    }
    for exit_that_cannot_rest in [sell().market("0.001"), sell().ioc()] {
        assert_check_passed(&with(4), &exit_that_cannot_rest, Reason::TooManyOpenOrders);
    }
    assert_refused(&desk().limit("MAX_OPEN_ORDERS", "0"), &buy(), Reason::TooManyOpenOrders);
}

#[test]
fn one_more_order_is_approved_while_fewer_than_the_days_limit_were() {
    let after = |orders: u64| desk().holding("BTC", "0.01").approved_today(orders, "0");
    for wish in [buy(), buy().market("0.001"), buy().market_for("100")] {
        assert_approved(&after(48), &wish);
        assert_approved(&after(49), &wish);
        assert_refused(&after(50), &wish, Reason::DailyOrderLimit);
        assert_refused(&after(51), &wish, Reason::DailyOrderLimit);
        assert_refused(&desk().limit("MAX_DAILY_ORDERS", "0"), &wish, Reason::DailyOrderLimit);
    }
    for exit in [sell(), sell().market("0.001")] {
        assert_approved(&after(50), &exit);
    }
}

#[test]
fn the_days_approved_amount_and_this_order_are_at_most_the_days_limit() {
    let scene = desk_at_50000().holding("BTC", "0.01").approved_today(1, "9750");
    let steps = ["0.004999", "0.005", "0.005001"];
    assert_at_most(Reason::DailyNotionalLimit, &scene, sized(|qty| buy().limit("50000.00", qty), steps));
    assert_at_most(Reason::DailyNotionalLimit, &scene, ["249.99", "250", "250.01"].map(|of| buy().market_for(of)));
    let for_market = scene.clone().approved_today(1, "9747.5");
    assert_at_most(Reason::DailyNotionalLimit, &for_market, sized(|qty| buy().market(qty), steps));
    assert_approved(&scene, &buy().limit("50000.00", "0.005"));
    for exit in [sell().limit("50000.00", "0.01"), sell().market("0.01")] {
        assert_approved(&scene, &exit);
    }
}

#[test]
fn one_more_order_in_the_second_passes_below_both_throttles() {
    let scene = desk().holding("BTC", "0.01");
    for wish in four_kinds() {
        for (all, of_strategy) in [(3, 1), (4, 1), (4, 0)] {
            assert_approved(&scene.clone().pace(all, of_strategy), &wish);
        }
        for (all, of_strategy) in [(5, 0), (6, 1), (4, 2), (2, 2), (2, 3)] {
            assert_refused(&scene.clone().pace(all, of_strategy), &wish, Reason::Throttled);
        }
    }
}

#[test]
fn the_minutes_approved_amount_and_this_order_are_at_most_the_limit() {
    let scene = desk_at_50000().holding("BTC", "0.01").approved_this_minute("1750");
    let steps = ["0.004999", "0.005", "0.005001"];
    assert_at_most(Reason::NotionalThrottled, &scene, sized(|qty| buy().limit("50000.00", qty), steps));
    assert_at_most(Reason::NotionalThrottled, &scene, ["249.99", "250", "250.01"].map(|of| buy().market_for(of)));
    let for_market = scene.clone().approved_this_minute("1747.5");
    assert_at_most(Reason::NotionalThrottled, &for_market, sized(|qty| buy().market(qty), steps));
    for exit in [sell().limit("50000.00", "0.01"), sell().market("0.01")] {
        assert_approved(&scene, &exit);
    }
}

#[test]
fn one_more_repeat_passes_below_the_limit_and_an_exit_may_be_repeated() {
    let scene = |repeats: u64| desk().holding("BTC", "0.01").repeated(repeats);
    for wish in [buy(), buy().market("0.001"), buy().market_for("100")] {
        assert_approved(&scene(8), &wish);
        assert_approved(&scene(9), &wish);
        assert_refused(&scene(10), &wish, Reason::RepeatedOrder);
        assert_refused(&scene(11), &wish, Reason::RepeatedOrder);
    }
    for exit in [sell(), sell().market("0.001")] {
        assert_approved(&scene(11), &exit);
    }
}

#[test]
fn the_same_content_again_passes_once_the_window_is_over() {
    let scene = desk().holding("BTC", "0.01");
    for wish in four_kinds() {
        for inside in [0, 1, 1_999] {
            assert_refused(&scene.clone().twin_aged(inside), &wish, Reason::DuplicateOrder);
        }
        for outside in [2_000, 2_001] {
            assert_approved(&scene.clone().twin_aged(outside), &wish);
        }
        assert_approved(&scene.clone().limit("DUPLICATE_WINDOW_MS", "0").twin_aged(0), &wish);
    }
}

#[test]
fn an_order_that_would_reach_an_own_resting_order_is_refused() {
    let own_sell = desk().holding("BTC", "0.01").open(sell().limit("60100.00", "0.001"));
    assert_approved(&own_sell, &buy().limit("60099.99", "0.001"));
    for crossing in [buy().limit("60100.00", "0.001"), buy().limit("60100.01", "0.001"), buy().market("0.001")] {
        assert_refused(&own_sell, &crossing, Reason::SelfTrade);
    }
    assert_refused(&own_sell, &buy().market_for("100"), Reason::SelfTrade);

    let own_buy = desk().holding("BTC", "0.01").open(buy().limit("59900.00", "0.001"));
    assert_approved(&own_buy, &sell().limit("59900.01", "0.001"));
    for crossing in [sell().limit("59900.00", "0.001"), sell().limit("59899.99", "0.001"), sell().market("0.001")] {
        assert_refused(&own_buy, &crossing, Reason::SelfTrade);
    }
}

#[test]
fn a_market_order_reaches_an_own_resting_order_only_within_its_slippage_of_the_best_price() {
    // 1 % above the ask 50100.00 is 50601.00, 1 % below the bid 50000.00 is 49500.00.
    let book = || desk().holding("BTC", "0.01").quote("BTCUSDT", "50000.00", "50100.00");
    let own_sell = |price: &str| book().open(sell().limit(price, "0.001"));
    for taker in [buy().market("0.001"), buy().market_for("100")] {
        for reached in ["50100.00", "50600.99", "50601.00"] {
            assert_refused(&own_sell(reached), &taker, Reason::SelfTrade);
        }
        for beyond in ["50601.01", "55000.00"] {
            assert_approved(&own_sell(beyond), &taker);
        }
        assert_refused(&own_sell("51102.00").limit("MARKET_SLIPPAGE_PCT", "0.02"), &taker, Reason::SelfTrade);
        assert_approved(&own_sell("51102.01").limit("MARKET_SLIPPAGE_PCT", "0.02"), &taker);
    }
    let own_buy = |price: &str| book().open(buy().limit(price, "0.001"));
    let taker = sell().market("0.001");
    for reached in ["50000.00", "49500.01", "49500.00"] {
        assert_refused(&own_buy(reached), &taker, Reason::SelfTrade);
    }
    for beyond in ["49499.99", "45000.00"] {
        assert_approved(&own_buy(beyond), &taker);
    }
    assert_refused(&own_buy("49000.00").limit("MARKET_SLIPPAGE_PCT", "0.02"), &taker, Reason::SelfTrade);
    assert_approved(&own_buy("48999.99").limit("MARKET_SLIPPAGE_PCT", "0.02"), &taker);
}

#[test]
fn own_orders_of_the_same_side_of_another_symbol_or_of_market_type_are_no_self_trade() {
    let held = desk().holding("BTC", "0.01").holding("ETH", "0.1");
    let same_side = held.clone().open(buy().limit("59900.00", "0.001"));
    assert_approved(&same_side, &buy().limit("60000.10", "0.001"));
    let other_symbol = held.clone().open(sell().on("ETHUSDT").limit("2000.10", "0.1"));
    assert_approved(&other_symbol, &buy().market("0.001"));
    let own_market = held.open(sell().market("0.001"));
    assert_approved(&own_market, &buy().limit("60000.10", "0.001"));
}

/// Everything that binds new risk is used up: position, exposure, day count, day amount, breaker latched on a loss.
fn everything_exhausted() -> Scene {
    desk_at_50000()
        .holding("USDT", "0")
        .holding("BTC", "1")
        .approved_today(50, "10000")
        .breaker(open_state(Cause::DailyLoss))
}

#[test]
fn a_sell_of_what_is_held_and_free_passes_with_every_limit_on_new_risk_exhausted() {
    for cause in [Cause::DailyLoss, Cause::Drawdown, Cause::ConsecutiveFailures, Cause::Operator] {
        let scene = everything_exhausted().breaker(open_state(cause));
        for quantity in ["1", "0.999999", "0.5", "0.00002"] {
            assert_approved(&scene, &sell().limit("50000.00", quantity));
            assert_approved(&scene, &sell().limit("50000.00", quantity).ioc());
            assert_approved(&scene, &sell().market(quantity));
            assert_approved(&scene, &sell().market(quantity).reduce_only());
        }
        assert_refused(&scene, &buy().limit("50000.00", "0.0002"), Reason::CircuitOpen);
    }
}

#[test]
fn a_sell_of_one_step_more_than_is_free_is_refused_for_its_balance() {
    let scene = desk_at_50000().wide().holding("USDT", "0").holding("BTC", "0.1");
    for wish in
        [sell().limit("50000.00", "0.100001"), sell().market("0.100001"), sell().market("0.100001").reduce_only()]
    {
        assert_refused(&scene, &wish, Reason::InsufficientBalance);
    }
}

#[test]
fn a_sell_of_more_than_is_free_is_no_exit_and_meets_the_open_breaker_and_the_day_count() {
    let more = sell().limit("50000.00", "1.000001");
    assert_refused(&everything_exhausted(), &more, Reason::CircuitOpen);
    let closed = everything_exhausted().breaker(State::Closed);
    assert_refused(&closed, &more, Reason::OrderTooLarge);
}

#[test]
fn an_exit_is_still_refused_by_the_emergency_stop_and_by_lost_state() {
    let exit = sell().market("0.5").reduce_only();
    for scope in ["all", "symbol BTCUSDT", "strategy trend"] {
        assert_refused(&everything_exhausted().stopped(scope), &exit, Reason::EmergencyStop);
    }
    let lost = Scene { state_lost: Some("epoch changed".to_owned()), ..everything_exhausted() };
    assert_refused(&lost, &exit, Reason::StateLost);
}

/// FL-OD-15: what is left over below the exchange's minimum can never be sold: it is refused each time before anything
/// is sent, counts in equity, and leaves room for new orders.
#[test]
fn a_left_over_below_the_exchanges_minimum_is_refused_and_counts_as_what_it_is() {
    let scene = desk().holding("XYZ", "1.8").quote("XYZUSDT", "0.50", "0.50").rules(rules_of("XYZ"));
    let scene = scene.limit("ALLOWED_SYMBOLS", "BTCUSDT,ETHUSDT,XYZUSDT");
    for wish in [sell().on("XYZUSDT").limit("0.50", "1.8"), sell().on("XYZUSDT").market("1.8").reduce_only()] {
        for _ in 0..10 {
            assert_refused(&scene, &wish, Reason::OrderTooSmall);
        }
    }
    let (exposure, equity) = scene.portfolio().exposure_and_equity(&asset("USDT")).expect("all priced");
    assert_eq!((exposure, equity), (usd("0.9"), usd("10000.9")));
    assert_approved(&scene, &buy());
    let enough = scene.holding("XYZ", "2");
    assert_approved(&enough, &sell().on("XYZUSDT").limit("0.50", "2"));
}

#[test]
fn a_flat_account_cannot_open_anything_through_reduce_only() {
    let half_open = desk_at_50000().breaker(half_open_state());
    for scene in [desk_at_50000(), desk_at_50000().holding("ETH", "1"), half_open] {
        for quantity in ["0.0003", "0.000201"] {
            for wish in [sell().market(quantity), sell().limit("50000.00", quantity), sell().market(quantity).ioc()] {
                assert_refused(&scene, &wish.reduce_only(), Reason::InsufficientBalance);
            }
        }
    }
    let open = desk_at_50000().breaker(open_state(Cause::Operator));
    assert_refused(&open, &sell().market("0.0003").reduce_only(), Reason::CircuitOpen);
}

#[test]
fn what_an_open_sell_holds_cannot_be_sold_a_second_time_as_an_exit() {
    let scene = everything_exhausted().open(sell().limit("51000.00", "1"));
    assert_refused(&scene, &sell().market("0.001"), Reason::CircuitOpen);
    let closed = scene.breaker(State::Closed);
    assert_refused(&closed, &sell().market("0.001"), Reason::InsufficientBalance);
}

fn parse_with_size(quantity: &str, price: &str) -> Result<Command, crate::command::Malformed> {
    let json = format!(
        r#"{{"v":1,"type":"new","cl_ord_id":"n-1","strategy":"trend","symbol":"BTCUSDT","side":"BUY","ord_type":"LIMIT","tif":"GTC","qty":{quantity},"price":{price},"ts":1700000000000}}"#
    );
    Command::parse(json.as_bytes())
}

/// FL-RK-01: what is no finite positive number never becomes an order, so it can neither pass a comparison nor leave
/// anything behind that spoils the next one.
#[test]
fn no_size_or_price_that_is_not_a_positive_number_becomes_an_order() {
    let cases = [
        ("a bare NaN", "NaN", "60000", "json"),
        ("NaN as text", r#""NaN""#, r#""60000""#, "qty"),
        ("beyond every float", "1e999", "1", "qty"),
        ("null", "null", r#""60000""#, "qty"),
        ("an empty text", r#""""#, r#""60000""#, "qty"),
        ("a negative quantity", r#""-0.001""#, r#""60000""#, "qty"),
        ("zero", r#""0""#, r#""60000""#, "qty"),
        ("minus zero", r#""-0""#, r#""60000""#, "qty"),
        ("a truth value", "true", r#""60000""#, "qty"),
        ("a list", r#"["0.001"]"#, r#""60000""#, "qty"),
        ("Infinity as text", r#""Infinity""#, r#""60000""#, "qty"),
        ("a negative price", r#""0.001""#, r#""-60000""#, "price"),
        ("negative times negative", r#""-0.001""#, r#""-60000""#, "price"),
        ("too many digits", r#""99999999999999999999999999999999""#, r#""60000""#, "qty"),
        ("too many digits of price", r#""0.001""#, r#""99999999999999999999""#, "price"),
    ];
    for (name, quantity, price, field) in cases {
        let malformed = parse_with_size(quantity, price).expect_err(name);
        assert_eq!(malformed.fault.field, field, "{name}");
    }
    let Ok(Command::New(order)) = parse_with_size(r#""0.001""#, r#""60000""#) else { panic!("well formed") };
    let scene = desk();
    assert_eq!(scene.with_context(&order, &scene.portfolio(), evaluate).refusal, None);
}

/// FL-RK-02: a market order is worth its quantity at a fresh price with the allowance, never zero; without a price of
/// its own symbol it is refused, and a price field on it is a fault.
#[test]
fn a_market_order_is_valued_at_the_reference_price_and_never_at_nothing() {
    let scene = desk()
        .limit("MAX_ORDER_SIZE_USD", "500")
        .quote_aged("BTCUSDT", "60000.00", "60000.00", 1_000)
        .without_quote("ETHUSDT");
    assert_refused(&scene, &buy().market("10"), Reason::OrderTooLarge);
    assert_refused(&scene, &sell().market("10"), Reason::OrderTooLarge);
    assert_approved(&scene, &buy().market_for("100"));
    assert_refused(&scene, &buy().on("ETHUSDT").market("0.001"), Reason::NoReferencePrice);
    let with_price = br#"{"v":1,"type":"new","cl_ord_id":"m-1","strategy":"trend","symbol":"BTCUSDT","side":"BUY","ord_type":"MARKET","qty":"10","price":"0","ts":1700000000000}"#;
    assert_eq!(Command::parse(with_price).expect_err("a price on MARKET").fault.field, "price");
}

/// FL-RK-08: a sell of 440 coins needs 440 coins and not their worth; a buy needs quote.
#[test]
fn a_sell_is_checked_in_base_and_a_buy_in_quote() {
    let ada = SymbolRules { qty_decimals: 2, price_decimals: 4, qty_min: qty("0.01"), ..rules_of("ADA") };
    let scene = desk()
        .limit("ALLOWED_SYMBOLS", "ADAUSDT")
        .limit("MAX_ORDER_SIZE_USD", "500")
        .rules(ada)
        .quote("ADAUSDT", "0.6109", "0.6110")
        .holding("ADA", "440")
        .holding("USDT", "0");
    assert_approved(&scene, &sell().on("ADAUSDT").limit("0.6109", "440"));
    assert_refused(&scene, &sell().on("ADAUSDT").limit("0.6109", "440.1"), Reason::InsufficientBalance);
    let without_quote_asset = buy().on("ADAUSDT").limit("0.6109", "20");
    assert!(scene.judge(&without_quote_asset).refusal.is_some());
    let outcome = scene.with_context(&without_quote_asset.order(), &scene.portfolio(), exposure::balance);
    assert_eq!(outcome.refusal.map(|(reason, _)| reason), Some(Reason::InsufficientBalance));
    assert_eq!(outcome.limit, Figure::Decimal(Decimal::ZERO));
}

/// FL-RK-10: each limit at its tightest refuses an order that breaks it alone, with its own code; one step looser the
/// order passes.
#[test]
fn every_limit_that_the_table_enforces_refuses_alone_at_its_tightest_and_passes_one_step_looser() {
    let small = |usdt: &str| desk().holding("USDT", usdt).quote("ETHUSDT", "2000.00", "2000.00");
    let even = || desk().quote("BTCUSDT", "60000.00", "60000.00");
    let of = |amount: &str| buy().market_for(amount);
    let cases = [
        ("MAX_ORDER_SIZE_USD", "10.01", "10.02", desk(), of("10.02"), Reason::OrderTooLarge),
        ("MIN_ORDER_SIZE_USD", "10", "9.99", desk(), of("9.99"), Reason::OrderTooSmall),
        (
            "MAX_POSITION_SIZE_USD",
            "24.99",
            "25",
            even().holding("BTC", "0.00025").limit("MAX_ORDER_SIZE_USD", "20"),
            of("10"),
            Reason::PositionTooLarge,
        ),
        ("MAX_POSITION_PCT", "0.01", "0.01001", small("1000"), of("10.01"), Reason::PositionPctExceeded),
        (
            "MAX_TOTAL_EXPOSURE",
            "0.02",
            "0.025",
            small("985").holding("ETH", "0.0075").limit("MAX_POSITION_PCT", "0.02"),
            of("10"),
            Reason::ExposureExceeded,
        ),
        ("ALLOWED_SYMBOLS", "ETHUSDT", "ETHUSDT,BTCUSDT", desk(), of("10"), Reason::SymbolNotAllowed),
        ("ALLOWED_STRATEGIES", "grid", "grid,trend", desk(), of("10"), Reason::StrategyNotAllowed),
        ("MAX_DAILY_ORDERS", "1", "2", desk().approved_today(1, "10"), of("10"), Reason::DailyOrderLimit),
        (
            "MAX_DAILY_NOTIONAL_USD",
            "500",
            "500.01",
            desk().approved_today(1, "490.01"),
            of("10"),
            Reason::DailyNotionalLimit,
        ),
        (
            "MAX_OPEN_ORDERS",
            "1",
            "2",
            desk().open(buy().limit("58000.00", "0.001")),
            of("10"),
            Reason::TooManyOpenOrders,
        ),
        ("MAX_ORDERS_PER_SECOND", "3", "4", desk().pace(3, 1), of("10"), Reason::Throttled),
        ("MAX_STRATEGY_ORDERS_PER_SECOND", "1", "2", desk().pace(1, 1), of("10"), Reason::Throttled),
        (
            "MAX_NOTIONAL_PER_MINUTE_USD",
            "500",
            "500.01",
            desk().approved_this_minute("490.01"),
            of("10"),
            Reason::NotionalThrottled,
        ),
        ("MAX_REPEATED_ORDERS", "3", "4", desk().repeated(3), of("10"), Reason::RepeatedOrder),
        (
            "MAX_PRICE_DEVIATION_PCT",
            "0.01",
            "0.010001",
            even(),
            buy().limit("59399.99", "0.001"),
            Reason::PriceOutsideCollar,
        ),
        (
            "MAX_PRICE_AGE_MS",
            "1000",
            "1001",
            desk().quote_aged("BTCUSDT", "60000.00", "60000.10", 1_001),
            of("10"),
            Reason::StaleReferencePrice,
        ),
        (
            "MAX_SPREAD_PCT",
            "0.01",
            "0.010001",
            desk().quote("BTCUSDT", "59700.00", "60300.01"),
            of("10"),
            Reason::BadReferencePrice,
        ),
        // 0.008 BTC at 60000 are 480, with 5 % for slippage more than 500.
        ("MARKET_SLIPPAGE_PCT", "0.05", "0.01", even(), buy().market("0.008"), Reason::OrderTooLarge),
        ("MAX_ORDER_AGE_MS", "100", "101", desk(), of("10").aged(101), Reason::StaleOrder),
        ("DUPLICATE_WINDOW_MS", "51", "50", desk().twin_aged(50), of("10"), Reason::DuplicateOrder),
    ];
    for (name, tightest, looser, scene, wish, reason) in &cases {
        let evaluation = scene.clone().limit(name, tightest).judge(wish);
        assert_eq!(evaluation.refusal.map(|(given, _)| given), Some(*reason), "{name}={tightest}");
        assert_eq!(scene.clone().limit(name, looser).judge(wish).refusal, None, "{name}={looser}");
    }

    let enforced_elsewhere = [
        "REPEAT_WINDOW_SEC",
        "VERDICT_TTL_MS",
        "MAX_CONSECUTIVE_FAILURES",
        "MAX_FAILURES_PER_HOUR",
        "MAX_DAILY_LOSS_PCT",
        "MAX_DRAWDOWN_PCT",
        "RECOVERY_TIMEOUT_SEC",
        "RECV_WINDOW_MS",
        "CIRCUIT_OPEN_ACTION",
    ];
    let (_, settings): (_, Vec<Setting>) = Limits::from_variables(&BTreeMap::new()).expect("the defaults");
    for setting in settings {
        let is_tested = cases.iter().any(|case| case.0 == setting.name);
        let is_elsewhere = enforced_elsewhere.contains(&setting.name);
        assert!(is_tested != is_elsewhere, "{} needs a case here or a place where it is enforced", setting.name);
    }
    let misspelt = BTreeMap::from([("MAX_POSITON_PCT".to_owned(), "0.1".to_owned())]);
    let faults = Limits::from_variables(&misspelt).expect_err("a misspelt name");
    assert!(faults[0].to_string().contains("MAX_POSITION_PCT"), "{}", faults[0]);
}

/// FL-RK-11: of two orders that each fit alone, the second sees what the first reserved.
#[test]
fn of_two_buys_that_fit_only_one_at_a_time_exactly_one_is_approved_in_either_order() {
    let scene = desk()
        .quote("BTCUSDT", "50000.00", "50000.10")
        .quote("ETHUSDT", "2000.00", "2000.00")
        .limit("MAX_TOTAL_EXPOSURE", "0.30")
        .limit("MAX_POSITION_PCT", "0.30")
        .limit("MAX_POSITION_SIZE_USD", "3000")
        .holding("USDT", "7600")
        .holding("ETH", "1.2")
        .open(buy().limit("50000.00", "0.01"));
    let one = buy().id("e1").of_strategy("one").limit("50000.00", "0.002");
    let two = buy().id("e2").of_strategy("two").market_for("100");
    for (first, second) in [(&one, &two), (&two, &one)] {
        assert_approved(&scene, first);
        assert_approved(&scene, second);
        let after_first = scene.clone().open(first.clone());
        assert_refused(&after_first, second, Reason::ExposureExceeded);
        let exposure = after_first.portfolio().exposure_and_equity(&asset("USDT"));
        assert_eq!(exposure, Ok((usd("3000"), usd("10000"))));
    }
}

/// FL-RK-21: the allow-list is exact; what is spelt differently is malformed or not on it, and blanks and a trailing
/// comma in the setting add no symbol.
#[test]
fn a_symbol_is_allowed_in_its_exact_spelling_only() {
    let scene = desk().limit("ALLOWED_SYMBOLS", "BTCUSDT, ETHUSDT ,");
    assert_eq!(scene.limits().allowed_symbols.len(), 2);
    let parse = |symbol_json: &str| {
        let json = format!(
            r#"{{"v":1,"type":"new","cl_ord_id":"s-1","strategy":"trend","symbol":{symbol_json},"side":"BUY","ord_type":"MARKET","quote_qty":"100","ts":1700000000000}}"#
        );
        Command::parse(json.as_bytes())
    };
    for good in ["BTCUSDT", "ETHUSDT"] {
        let Ok(Command::New(order)) = parse(&format!("\"{good}\"")) else { panic!("{good} is well formed") };
        assert_eq!(scene.with_context(&order, &scene.portfolio(), evaluate).refusal, None, "{good}");
        assert_eq!(order.symbol.as_str(), good);
    }
    let misspelt = [
        "\"btcusdt\"",
        "\" BTCUSDT\"",
        "\"BTCUSDT \"",
        "\"BTCUSDT\\n\"",
        "\"BTC-USDT\"",
        "\"BTC/USDT\"",
        "\"\u{412}TCUSDT\"",
        "\"BTCUSDT\u{200b}\"",
        "\"\"",
        "null",
        "7",
    ];
    for bad in misspelt {
        assert_eq!(parse(bad).expect_err(bad).fault.field, "symbol", "{bad}");
    }
    for other in ["BTCUSDTX", "SOLUSDT", "BTCUSD"] {
        assert_refused(&scene, &buy().on(other).market_for("100"), Reason::SymbolNotAllowed);
    }
}
