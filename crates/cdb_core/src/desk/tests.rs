//! Histories of one desk: orders, reports, prices, stops and restarts in sequence, written out and by seed.
//!
//! [`Floor`] drives the desk and keeps books of its own, so that every approval of every history is measured against
//! every limit by figures that the desk did not compute.

use rust_decimal::Decimal;

use super::*;
use crate::breaker::{Cause, Input, State};
use crate::ids::{Asset, OrderId, TradeId};
use crate::limits::{AllowedStrategies, Setting, limits_hash};
use crate::money::Qty;
use crate::order::{MarketSize, OrdType, Side};
use crate::report::{AccountSnapshot, AssetBalance, Fill, Finding, FindingKind, Mode, Source};
use crate::second_opinion::{Opinion, SecondOpinion};
use crate::test_values::{asset, decimal, qty, rules_of, symbol, usd};

mod results; // the day's result against a slow recomputation

/// 2023-11-14T22:13:20Z.
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600_000;

fn id(text: &str) -> ClOrdId {
    ClOrdId::parse(text).expect("an id")
}

fn price(value: Decimal) -> Price {
    Price::from_decimal(value).expect("a price above zero")
}

/// An order as a test wishes it.
#[derive(Debug, Clone)]
struct Wish {
    id: String,
    strategy: String,
    symbol: String,
    side: Side,
    /// The fields that say type, price and size.
    size: String,
    is_reduce_only: bool,
}

/// LIMIT 0.001 BTC at 60000.00.
fn buy(cl_ord_id: &str) -> Wish {
    let wish = Wish {
        id: cl_ord_id.to_owned(),
        strategy: "trend".to_owned(),
        symbol: "BTCUSDT".to_owned(),
        side: Side::Buy,
        size: String::new(),
        is_reduce_only: false,
    };
    wish.limit("60000.00", "0.001")
}

/// LIMIT 0.001 BTC at 60000.00.
fn sell(cl_ord_id: &str) -> Wish {
    Wish { side: Side::Sell, ..buy(cl_ord_id) }
}

impl Wish {
    fn of_strategy(mut self, name: &str) -> Self {
        self.strategy = name.to_owned();
        self
    }
    fn on(mut self, name: &str) -> Self {
        self.symbol = name.to_owned();
        self
    }
    fn limit(self, price: &str, qty: &str) -> Self {
        self.limit_with(price, qty, "GTC")
    }
    fn limit_with(mut self, price: &str, qty: &str, tif: &str) -> Self {
        self.size = format!(r#""ord_type":"LIMIT","tif":"{tif}","qty":"{qty}","price":"{price}""#);
        self
    }
    fn market(mut self, qty: &str) -> Self {
        self.size = format!(r#""ord_type":"MARKET","qty":"{qty}""#);
        self
    }
    fn market_for(mut self, amount: &str) -> Self {
        self.size = format!(r#""ord_type":"MARKET","quote_qty":"{amount}""#);
        self
    }
    fn reduce_only(mut self) -> Self {
        self.is_reduce_only = true;
        self
    }

    fn json(&self, ts: Timestamp) -> String {
        let Self { id, strategy, symbol, side, size, .. } = self;
        let reduce_only = if self.is_reduce_only { r#","reduce_only":true"# } else { "" };
        format!(
            r#"{{"v":1,"type":"new","cl_ord_id":"{id}","strategy":"{strategy}","symbol":"{symbol}","side":"{}",{size}{reduce_only},"ts":{}}}"#,
            side.as_str(),
            ts.millis()
        )
    }
}

/// What came of an entry, without its figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Approved,
    Refused(Reason),
    Replay,
    DeadLetter,
}

fn answer(decided: &Decided) -> Answer {
    match decided {
        Decided::Verdict { verdict, .. } => verdict.reason.map_or(Answer::Approved, Answer::Refused),
        Decided::Replay { .. } => Answer::Replay,
        Decided::DeadLetter(_) => Answer::DeadLetter,
    }
}

#[track_caller]
fn verdict_of(decided: Decided) -> Verdict {
    match decided {
        Decided::Verdict { verdict, .. } => *verdict,
        Decided::Replay { .. } | Decided::DeadLetter(_) => panic!("must be a verdict: {decided:?}"),
    }
}

/// An approved order in the floor's own books.
#[derive(Debug, Clone)]
struct Sent {
    bytes: String,
    order: NewOrder,
    /// Limit price, or what a market order was valued at per unit.
    worst_price: Decimal,
    filled: Decimal,
    spent: Decimal,
    is_open: bool,
    is_at_exchange: bool,
}

impl Sent {
    fn leaves(&self) -> Decimal {
        self.order.order_qty().map_or(Decimal::ZERO, |qty| qty.decimal() - self.filled)
    }
    /// What an open buy may still cost.
    fn worst_cost(&self) -> Decimal {
        match (self.order.side, self.order.quote_qty()) {
            (Side::Sell, _) => Decimal::ZERO,
            (Side::Buy, Some(amount)) => amount.decimal() - self.spent,
            (Side::Buy, None) => self.worst_price * self.leaves(),
        }
    }
}

/// One approval in the floor's own books.
#[derive(Debug, Clone)]
struct Approval {
    at: Timestamp,
    strategy: StrategyId,
    side: Side,
    notional: Decimal,
    content: String,
    shape: String,
}

/// What the streams hold, from which a desk is rebuilt.
#[derive(Debug, Clone, Default)]
struct Journal {
    verdicts: Vec<String>,
    seen: Vec<(ClOrdId, Seen)>,
    executions: Vec<(Execution, Timestamp)>,
}

/// A desk, the exchange it trades with, and what both published.
struct Floor {
    desk: Desk,
    now: Timestamp,
    entries: u64,
    reports: u64,
    journal: Journal,
    sent: BTreeMap<String, Sent>,
    approvals: Vec<Approval>,
    held: BTreeMap<Asset, Decimal>,
    quotes: BTreeMap<Symbol, Quote>,
    answers: BTreeMap<Answer, u64>,
    /// The order approved last.
    latest: Option<Wish>,
    settings: Vec<Setting>,
    terms: u64,
    /// Looks at every verdict when somebody wishes it.
    second: Option<SecondOpinion>,
}

/// A floor before trading begins.
#[derive(Clone, Default)]
struct Setup {
    environment: BTreeMap<String, String>,
    holdings: BTreeMap<Asset, Decimal>,
    start: Option<Timestamp>,
}

/// 10000 USDT and nothing else, BTC at 60000.00 and ETH at 2000.00 on both sides of the book, the limits' defaults.
fn floor() -> Setup {
    Setup::default().holding("USDT", "10000")
}

impl Setup {
    fn limit(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }
    /// Counts per day, per second and of open orders so wide that they never bind.
    fn unhurried(self) -> Self {
        self.limit("MAX_DAILY_ORDERS", "1000000")
            .limit("MAX_DAILY_NOTIONAL_USD", "100000000")
            .limit("MAX_ORDERS_PER_SECOND", "1000000")
            .limit("MAX_STRATEGY_ORDERS_PER_SECOND", "1000000")
            .limit("MAX_NOTIONAL_PER_MINUTE_USD", "100000000")
            .limit("MAX_REPEATED_ORDERS", "1000000")
            .limit("MAX_OPEN_ORDERS", "500")
            .limit("DUPLICATE_WINDOW_MS", "0")
    }
    /// No number of failures opens the breaker.
    fn forgiving(self) -> Self {
        self.limit("MAX_CONSECUTIVE_FAILURES", "1000").limit("MAX_FAILURES_PER_HOUR", "10000")
    }
    fn holding(mut self, name: &str, amount: &str) -> Self {
        self.holdings.insert(asset(name), decimal(amount));
        self
    }
    fn starting_at(mut self, at: Timestamp) -> Self {
        self.start = Some(at);
        self
    }
    fn open(self) -> Floor {
        let (limits, settings) = Limits::from_variables(&self.environment).expect("limits without contradiction");
        let mut floor = Floor {
            desk: Desk::new(limits, limits_hash(&settings), "epoch-1".to_owned(), Breaker::default()),
            settings,
            terms: 0,
            second: None,
            now: self.start.unwrap_or(START),
            entries: 0,
            reports: 0,
            journal: Journal::default(),
            sent: BTreeMap::new(),
            approvals: Vec::new(),
            held: self.holdings,
            quotes: BTreeMap::new(),
            answers: BTreeMap::new(),
            latest: None,
        };
        floor.desk.on_rules(rules_of("BTC"));
        floor.desk.on_rules(rules_of("ETH"));
        floor.quote("BTCUSDT", decimal("60000.00"), decimal("60000.00"));
        floor.quote("ETHUSDT", decimal("2000.00"), decimal("2000.00"));
        floor.snapshot();
        floor
    }
}

/// Orders and time.
impl Floor {
    fn quote(&mut self, name: &str, bid: Decimal, ask: Decimal) {
        let (bid, ask, ts) = (price(bid), price(ask), self.now);
        let quote = Quote { symbol: symbol(name), bid, ask, last: bid, exchange_time: ts, ts };
        self.quotes.insert(quote.symbol.clone(), quote.clone());
        self.desk.on_quote(quote);
    }

    /// Time passes; prices, balances and the breaker's clock keep up with it.
    fn wait(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
        self.desk.on_breaker(Input::Tick, self.now);
        for quote in self.quotes.values_mut() {
            quote.ts = self.now;
            self.desk.on_quote(quote.clone());
        }
        self.snapshot();
    }

    fn wait_until(&mut self, at: Timestamp) {
        self.wait(at.since_ms(self.now));
    }

    fn decide_bytes(&mut self, bytes: &[u8]) -> Decided {
        self.entries += 1;
        let entry = EntryId::parse(&format!("{}-{}", self.now.millis(), self.entries)).expect("an entry id");
        let decided = self.desk.decide(&entry, bytes, self.now);
        *self.answers.entry(answer(&decided)).or_default() += 1;
        if let Decided::Verdict { verdict, seen } = &decided {
            assert_eq!(verdict.entry, entry);
            self.journal.verdicts.push(verdict.to_json());
            if let Some(second) = &mut self.second {
                let reviewed = second.on_verdict(verdict.to_json().as_bytes(), Some(bytes)).expect("a verdict");
                assert_eq!(reviewed.map(|reviewed| reviewed.opinion), Some(Opinion::Same), "{}", verdict.to_json());
            }
            self.journal.seen.extend(seen.map(|seen| (verdict.cl_ord_id.clone(), seen)));
        }
        decided
    }

    fn decide(&mut self, wish: &Wish) -> Decided {
        let bytes = wish.json(self.now);
        let decided = self.decide_bytes(bytes.as_bytes());
        if answer(&decided) == Answer::Approved {
            self.book_approval(wish, bytes);
        }
        decided
    }

    /// A decision that a stop takes back before it is published.
    fn decide_and_take_back(&mut self, wish: &Wish) {
        let entry = EntryId::parse("1-1").expect("an entry id");
        if let Decided::Verdict { verdict, .. } = self.desk.decide(&entry, wish.json(self.now).as_bytes(), self.now) {
            self.desk.withdraw(&verdict);
        }
    }

    /// The same bytes once more.
    fn resend(&mut self, cl_ord_id: &str) -> Decided {
        let bytes = self.sent[cl_ord_id].bytes.clone();
        self.decide_bytes(bytes.as_bytes())
    }

    #[track_caller]
    fn approve(&mut self, wish: &Wish) -> Verdict {
        let verdict = verdict_of(self.decide(wish));
        assert!(verdict.is_approved(), "{wish:?}: {:?} {}", verdict.reason, verdict.detail);
        verdict
    }

    #[track_caller]
    fn refuse(&mut self, wish: &Wish, reason: Reason) -> Verdict {
        let verdict = verdict_of(self.decide(wish));
        assert_eq!(verdict.reason, Some(reason), "{wish:?}: {}", verdict.detail);
        verdict
    }

    fn stop(&mut self, stops: Stops) {
        self.desk.on_stops(stops);
    }

    fn free_quote(&self) -> Notional {
        self.desk.portfolio().free_quote(&asset("USDT"))
    }
    fn free_base(&self, base: &str) -> Qty {
        self.desk.portfolio().free_base(&rules_of(base))
    }
    fn held(&self, name: &str) -> Qty {
        self.desk.portfolio().held(&asset(name))
    }
    /// Held and still to come, in USDT.
    fn position(&self, base: &str) -> Notional {
        self.desk.portfolio().position_notional(&rules_of(base)).expect("a price")
    }
    fn is_open(&self, cl_ord_id: &str) -> bool {
        self.desk.portfolio().orders().contains_key(&id(cl_ord_id))
    }
}

/// What the exchange and cdb_execution report.
impl Floor {
    fn execute(&mut self, execution: Execution) -> Option<State> {
        self.journal.executions.push((execution.clone(), self.now));
        let entry = self.last_execution().expect("the one just told");
        self.desk.on_learnt(&entry);
        if let Some(second) = &mut self.second {
            second.on_execution(entry, execution.clone());
        }
        self.desk.on_execution(&execution, self.now)
    }

    fn report(&mut self, cl_ord_id: &str, exec_type: ExecType, ord_status: OrdStatus) -> ExecutionReport {
        self.reports += 1;
        let sent = &self.sent[cl_ord_id];
        let order = &sent.order;
        ExecutionReport {
            v: 1,
            cl_ord_id: order.cl_ord_id.clone(),
            order_id: OrderId::parse(&format!("X-{cl_ord_id}")),
            exec_id: format!("r:{}", self.reports),
            exec_type,
            ord_status,
            in_doubt: false,
            strategy: order.strategy.clone(),
            symbol: order.symbol.clone(),
            side: order.side,
            ord_type: order.ord_type.as_str().to_owned(),
            tif: None,
            order_qty: order.order_qty(),
            quote_qty: order.quote_qty(),
            price: order.price(),
            cum_qty: Qty::from_decimal(sent.filled),
            leaves_qty: None,
            avg_px: None,
            fill: None,
            reason: None,
            text: None,
            cancel_cl_ord_id: None,
            source: Source::Rest,
            mode: Mode::Paper,
            transact_time: self.now,
            ts: self.now,
        }
    }

    fn publish(&mut self, report: ExecutionReport) -> Option<State> {
        let sent = self.sent.get_mut(report.cl_ord_id.as_str()).expect("an approved order");
        sent.is_open = !report.ord_status.is_final();
        sent.is_at_exchange |= report.ord_status != OrdStatus::PendingNew;
        self.execute(Execution::ExecutionReport(Box::new(report)))
    }

    fn acknowledged(&mut self, cl_ord_id: &str) -> Option<State> {
        let report = self.report(cl_ord_id, ExecType::New, OrdStatus::New);
        self.publish(report)
    }

    fn ended(&mut self, cl_ord_id: &str, exec_type: ExecType, ord_status: OrdStatus) -> Option<State> {
        let report = self.report(cl_ord_id, exec_type, ord_status);
        self.publish(report)
    }

    fn canceled(&mut self, cl_ord_id: &str) -> Option<State> {
        self.ended(cl_ord_id, ExecType::Canceled, OrdStatus::Canceled)
    }

    fn rejected(&mut self, cl_ord_id: &str, reason: &str) -> Option<State> {
        let report = self.report(cl_ord_id, ExecType::Rejected, OrdStatus::Rejected);
        self.publish(ExecutionReport { reason: Some(reason.to_owned()), ..report })
    }

    fn in_doubt(&mut self, cl_ord_id: &str) -> Option<State> {
        let report = self.report(cl_ord_id, ExecType::OrderStatus, OrdStatus::PendingNew);
        self.publish(ExecutionReport { in_doubt: true, ..report })
    }

    /// Doubt ends: the exchange has it.
    fn found(&mut self, cl_ord_id: &str) -> Option<State> {
        let report = self.report(cl_ord_id, ExecType::OrderStatus, OrdStatus::New);
        self.publish(report)
    }

    /// A fill in quote asset fees of 0.05 %; the last one when the order's whole quantity is filled by it.
    fn filled(&mut self, cl_ord_id: &str, quantity: Decimal, at: Decimal) -> Option<State> {
        let fee = (quantity * at * decimal("0.0005")).round_dp(8);
        self.filled_with_fee(cl_ord_id, quantity, at, fee, "USDT")
    }

    fn filled_free(&mut self, cl_ord_id: &str, quantity: &str, at: &str) -> Option<State> {
        self.filled_with_fee(cl_ord_id, decimal(quantity), decimal(at), Decimal::ZERO, "USDT")
    }

    fn filled_with_fee(
        &mut self,
        cl_ord_id: &str,
        quantity: Decimal,
        at: Decimal,
        fee: Decimal,
        fee_asset: &str,
    ) -> Option<State> {
        let sent = self.sent.get_mut(cl_ord_id).expect("an approved order");
        sent.filled += quantity;
        sent.spent += quantity * at;
        let is_whole = match sent.order.ord_type {
            OrdType::Market { size: MarketSize::Quote(amount) } => sent.spent >= amount.decimal(),
            OrdType::Limit { .. } | OrdType::Market { size: MarketSize::Qty(_) } => sent.leaves().is_zero(),
        };
        let side = sent.order.side;
        let base = asset(sent.order.symbol.as_str().trim_end_matches("USDT"));
        let sign = if side == Side::Buy { Decimal::ONE } else { -Decimal::ONE };
        *self.held.entry(base).or_default() += sign * quantity;
        *self.held.entry(asset("USDT")).or_default() -= sign * quantity * at;
        *self.held.entry(asset(fee_asset)).or_default() -= fee;
        let status = if is_whole { OrdStatus::Filled } else { OrdStatus::PartiallyFilled };
        let report = self.report(cl_ord_id, ExecType::Trade, status);
        let fill = Fill {
            last_qty: Qty::from_decimal(quantity),
            last_px: price(at),
            trade_id: TradeId::parse(&format!("T-{}", self.reports)).expect("a trade id"),
            commission: Qty::from_decimal(fee),
            commission_asset: asset(fee_asset),
            is_maker: false,
        };
        self.publish(ExecutionReport { fill: Some(fill), ..report })
    }

    fn snapshot(&mut self) {
        let snapshot = self.account();
        self.execute(Execution::AccountSnapshot(snapshot));
    }

    /// Somebody else's orders hold this much of the account.
    fn snapshot_with_foreign_locks(&mut self, usdt: &str, btc: &str) {
        let mut account = self.account();
        for balance in &mut account.balances {
            let foreign = if balance.asset.as_str() == "BTC" { qty(btc) } else { qty(usdt) };
            (balance.free, balance.locked) = (balance.free - foreign, balance.locked + foreign);
        }
        self.execute(Execution::AccountSnapshot(account));
    }

    fn found_by_reconciliation(&mut self, kind: FindingKind, ts: Timestamp) -> Option<State> {
        self.execute(Execution::Finding(Finding {
            v: 1,
            kind,
            symbol: None,
            order_id: None,
            trade_id: None,
            ours: None,
            theirs: None,
            text: "found".to_owned(),
            ts,
        }))
    }

    fn account(&self) -> AccountSnapshot {
        let locked = |name: &Asset| -> Decimal {
            let resting = self.sent.values().filter(|sent| sent.is_open && sent.is_at_exchange);
            let held_by = |sent: &Sent| match sent.order.ord_type {
                OrdType::Market { .. } => Decimal::ZERO,
                OrdType::Limit { .. } if sent.order.side == Side::Buy && name.as_str() == "USDT" => sent.worst_cost(),
                OrdType::Limit { .. } => {
                    let is_base = sent.order.symbol.as_str() == format!("{name}USDT");
                    if sent.order.side == Side::Sell && is_base { sent.leaves() } else { Decimal::ZERO }
                }
            };
            resting.map(held_by).sum()
        };
        let balance = |(name, total): (&Asset, &Decimal)| {
            let locked = locked(name);
            AssetBalance {
                asset: name.clone(),
                free: Qty::from_decimal(*total - locked),
                locked: Qty::from_decimal(locked),
            }
        };
        AccountSnapshot {
            v: 1,
            balances: self.held.iter().map(balance).collect(),
            can_trade: true,
            can_withdraw: false,
            clock_offset_ms: 0,
            exchange_time: self.now,
            ts: self.now,
            mode: Mode::Paper,
        }
    }
}

/// The floor's own books, and every limit measured by them.
impl Floor {
    fn mark(&self, name: &Symbol) -> Decimal {
        let quote = &self.quotes[name];
        (quote.bid.decimal() + quote.ask.decimal()) / Decimal::TWO
    }

    fn book_approval(&mut self, wish: &Wish, bytes: String) {
        let Ok(Command::New(order)) = Command::parse(bytes.as_bytes()) else { panic!("an approved order") };
        let quote = &self.quotes[&order.symbol];
        let worst_market =
            quote.aggressive(order.side).decimal() * (Decimal::ONE + self.desk.limits().market_slippage_pct);
        let worst_price = order.price().map_or(worst_market, Price::decimal);
        let notional = match order.order_qty() {
            Some(qty) => worst_price * qty.decimal(),
            None => order.quote_qty().expect("a size").decimal(),
        };
        let approval = Approval {
            at: self.now,
            strategy: order.strategy.clone(),
            side: order.side,
            notional,
            shape: format!(
                "{} {} {} {} {:?} {:?}",
                wish.strategy,
                wish.symbol,
                wish.side.as_str(),
                order.ord_type.as_str(),
                order.order_qty().map(|qty| qty.decimal().normalize()),
                order.quote_qty().map(|amount| amount.decimal().normalize())
            ),
            content: format!("{} {} {} {}", wish.strategy, wish.symbol, wish.side.as_str(), wish.size),
        };
        let sent = Sent {
            bytes,
            order,
            worst_price,
            filled: Decimal::ZERO,
            spent: Decimal::ZERO,
            is_open: true,
            is_at_exchange: false,
        };
        self.sent.insert(wish.id.clone(), sent);
        self.approvals.push(approval);
        self.latest = Some(wish.clone());
        self.assert_within_every_limit(&wish.id);
    }

    fn with_fee(&self, amount: Decimal) -> Decimal {
        amount * (Decimal::ONE + rules_of("BTC").taker_fee)
    }

    /// Measures the latest approval, whose order is open already, against every limit.
    fn assert_within_every_limit(&self, cl_ord_id: &str) {
        let limits = self.desk.limits();
        let order = &self.sent[cl_ord_id].order;
        let latest = self.approvals.last().expect("an approval");
        let open = || self.sent.values().filter(|sent| sent.is_open);
        let held_value = |base: &Asset| self.mark(&symbol(&format!("{base}USDT"))) * self.held[base];
        let coins = || self.held.keys().filter(|name| matches!(name.as_str(), "BTC" | "ETH"));
        if order.side == Side::Buy {
            let equity = self.held[&asset("USDT")] + coins().map(held_value).sum::<Decimal>();
            let base = asset(order.symbol.as_str().trim_end_matches("USDT"));
            let held_here = if self.held.contains_key(&base) { held_value(&base) } else { Decimal::ZERO };
            let in_symbol = open().filter(|sent| sent.order.symbol == order.symbol);
            let position = held_here + in_symbol.map(Sent::worst_cost).sum::<Decimal>();
            assert!(position <= limits.max_position_size_usd.decimal(), "position {position}");
            assert!(position <= limits.max_position_pct * equity, "position {position} of {equity}");
            let open_buys: Decimal = open().map(Sent::worst_cost).sum();
            let exposure = coins().map(held_value).sum::<Decimal>() + open_buys;
            assert!(exposure <= limits.max_total_exposure * equity, "exposure {exposure} of {equity}");
            let payable = self.with_fee(open_buys);
            assert!(payable <= self.held[&asset("USDT")], "open buys {payable} are not paid for");
            assert!(latest.notional <= limits.max_order_size_usd.decimal(), "an order of {}", latest.notional);
        } else {
            let base = asset(order.symbol.as_str().trim_end_matches("USDT"));
            let same = open().filter(|sent| sent.order.side == Side::Sell && sent.order.symbol == order.symbol);
            let selling: Decimal = same.map(Sent::leaves).sum();
            let held = self.held.get(&base).copied().unwrap_or_default();
            assert!(selling <= held, "open sells {selling} of {held} {base}");
        }
        let buys = self.approvals.iter().filter(|approval| approval.side == Side::Buy);
        let today: Vec<&Approval> = buys.filter(|approval| approval.at.day() == self.now.day()).collect();
        if order.side == Side::Buy {
            assert!(u64::try_from(today.len()).unwrap() <= limits.max_daily_orders, "{} orders today", today.len());
            let amount: Decimal = today.iter().map(|approval| approval.notional).sum();
            assert!(amount <= limits.max_daily_notional_usd.decimal(), "{amount} approved today");
            let open_orders = u64::try_from(open().count()).unwrap();
            assert!(open_orders <= limits.max_open_orders, "{open_orders} open orders");
        }
        let last_second: Vec<&Approval> =
            self.approvals.iter().filter(|approval| self.now.since_ms(approval.at) < SECOND).collect();
        let of_strategy = last_second.iter().filter(|approval| approval.strategy == order.strategy).count();
        assert!(u64::try_from(last_second.len()).unwrap() <= limits.max_orders_per_second);
        assert!(u64::try_from(of_strategy).unwrap() <= limits.max_strategy_orders_per_second);
        if order.side == Side::Buy {
            let buys = self.approvals.iter().filter(|approval| approval.side == Side::Buy);
            let last_minute = buys.clone().filter(|approval| self.now.since_ms(approval.at) < 60 * SECOND);
            let amount: Decimal = last_minute.map(|approval| approval.notional).sum();
            assert!(amount <= limits.max_notional_per_minute_usd.decimal(), "{amount} approved in a minute");
            let window_ms = limits.repeat_window_sec * SECOND;
            let same = buys.filter(|approval| approval.shape == latest.shape);
            let repeats = same.filter(|approval| self.now.since_ms(approval.at) < window_ms).count();
            assert!(u64::try_from(repeats).unwrap() <= limits.max_repeated_orders, "{repeats} of one shape");
        }
        let twins = self.approvals.iter().rev().skip(1).filter(|other| other.content == latest.content);
        for twin in twins {
            assert!(self.now.since_ms(twin.at) >= limits.duplicate_window_ms, "the same order {twin:?}");
        }
    }

    fn assert_books_agree(&self) {
        for (name, total) in &self.held {
            assert_eq!(self.desk.portfolio().held(name).decimal(), *total, "{name}");
        }
        let open: BTreeSet<&str> =
            self.sent.iter().filter(|(_, sent)| sent.is_open).map(|(name, _)| name.as_str()).collect();
        let reserved: BTreeSet<&str> = self.desk.portfolio().orders().keys().map(ClOrdId::as_str).collect();
        assert_eq!(open, reserved);
        let open_buys: Decimal = self.sent.values().filter(|sent| sent.is_open).map(Sent::worst_cost).sum();
        assert_eq!(self.free_quote().decimal(), self.held[&asset("USDT")] - self.with_fee(open_buys));
    }
}

/// A new desk from what the streams hold: settings, rules, prices, known ids, verdicts, then reports.
fn rebuilt(floor: &Floor, limits: Limits, breaker: Breaker) -> Desk {
    let mut desk = Desk::new(limits, limits_hash(&floor.settings), "epoch-1".to_owned(), breaker);
    desk.on_rules(rules_of("BTC"));
    desk.on_rules(rules_of("ETH"));
    for quote in floor.quotes.values() {
        desk.on_quote(quote.clone());
    }
    desk.on_stops(floor.desk.stops().clone());
    for (cl_ord_id, seen) in &floor.journal.seen {
        desk.on_seen(cl_ord_id.clone(), *seen);
    }
    for json in &floor.journal.verdicts {
        desk.recall(json.as_bytes()).expect("a readable verdict");
    }
    for (execution, at) in &floor.journal.executions {
        desk.on_execution(execution, *at);
    }
    desk
}

impl Floor {
    /// The process ends and another takes over from the streams, the kept result and the persisted breaker.
    fn restart(&mut self) {
        let kept = self.desk.result().clone();
        self.desk = rebuilt(self, self.desk.limits().clone(), self.persisted_breaker());
        self.desk.restore_result(kept);
        if self.second.is_some() {
            self.begin_term();
        }
    }

    /// From here on somebody looks at every verdict.
    fn watched(mut self) -> Self {
        self.second = Some(self.onlooker());
        self.begin_term();
        self
    }

    /// Somebody who has read what was executed and no verdict yet.
    fn onlooker(&self) -> SecondOpinion {
        let mut second = SecondOpinion::default();
        for (index, (execution, _)) in self.journal.executions.iter().enumerate() {
            second.on_execution(EntryId::parse(&format!("1-{index}")).expect("an entry id"), execution.clone());
        }
        second
    }

    fn begin_term(&mut self) {
        self.terms += 1;
        self.desk.record_inputs(Recorder::new(&self.terms.to_string(), &self.settings, self.last_execution()));
    }

    fn last_execution(&self) -> Option<EntryId> {
        let last = self.journal.executions.len().checked_sub(1)?;
        EntryId::parse(&format!("1-{last}"))
    }

    fn persisted_breaker(&self) -> Breaker {
        {
            let breaker = self.desk.breaker();
            Breaker::restored(
                breaker.state(),
                breaker.counts_from(),
                breaker.closed_at(),
                self.desk.breaker().relapses(),
            )
        }
    }
}

#[test]
fn an_approval_reserves_its_worst_amount_and_its_fee_at_once() {
    let mut floor = floor().open();
    let verdict = floor.approve(&buy("a-1").limit("60000.00", "0.005"));
    assert_eq!(verdict.notional, Some(usd("300")));
    assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("9699.85"), usd("300")));
    floor.approve(&buy("a-2").market("0.005"));
    assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("9396.6985"), usd("603")));
    floor.wait(SECOND);
    floor.approve(&buy("a-3").market_for("100"));
    assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("9296.6485"), usd("703")));
    assert_eq!(floor.desk.day(floor.now), DayCount { day: floor.now.day(), orders: 3, notional: usd("703") });
}

#[test]
fn rules_read_ten_minutes_ago_hold_and_a_millisecond_later_the_symbol_cannot_be_traded() {
    let mut floor = floor().open();
    floor.desk.on_rules_as_of(floor.now.plus_ms(-RULES_AGE_MS_MAX));
    floor.approve(&buy("a-1").limit("60000.00", "0.001"));
    floor.wait(1);
    floor.refuse(&buy("a-2").limit("60000.00", "0.002"), Reason::SymbolNotTradable);
    assert!(floor.desk.missing_inputs(floor.now).iter().any(|missing| missing.contains("rules")));
    floor.desk.on_rules_as_of(floor.now);
    floor.approve(&buy("a-3").limit("60000.00", "0.003"));
}

#[test]
fn an_approved_sell_holds_its_quantity_and_no_quote() {
    let mut floor = floor().holding("BTC", "0.01").open();
    let verdict = floor.approve(&sell("s-1").limit("61000.00", "0.004"));
    assert!(verdict.is_exit);
    assert_eq!(floor.free_base("BTC"), qty("0.006"));
    assert_eq!(floor.free_quote(), usd("10000"));
    assert_eq!(floor.position("BTC"), usd("600"), "an open sell frees nothing before it fills");
    assert_eq!(floor.desk.day(floor.now).orders, 0);
}

#[test]
fn a_refusal_reserves_and_counts_nothing() {
    let mut floor = floor().open();
    floor.refuse(&buy("a-1").limit("60000.00", "0.009"), Reason::OrderTooLarge);
    assert!(floor.desk.portfolio().orders().is_empty());
    assert_eq!(floor.desk.day(floor.now), DayCount { day: floor.now.day(), ..DayCount::default() });
    for n in 0..10 {
        floor.refuse(&buy(&format!("b-{n}")).limit("60000.00", "0.009"), Reason::OrderTooLarge);
    }
    floor.approve(&buy("a-2"));
}

#[test]
fn every_final_report_releases_what_was_reserved() {
    for (exec_type, ord_status) in [
        (ExecType::Canceled, OrdStatus::Canceled),
        (ExecType::Rejected, OrdStatus::Rejected),
        (ExecType::Expired, OrdStatus::Expired),
        (ExecType::OrderStatus, OrdStatus::Canceled),
        (ExecType::OrderStatus, OrdStatus::Filled),
    ] {
        let mut floor = floor().holding("BTC", "0.01").open();
        floor.approve(&buy("a-1").limit("59000.00", "0.005"));
        floor.approve(&sell("s-1").limit("61000.00", "0.01"));
        floor.acknowledged("a-1");
        floor.acknowledged("s-1");
        floor.ended("a-1", exec_type, ord_status);
        floor.ended("s-1", exec_type, ord_status);
        assert_eq!((floor.free_quote(), floor.free_base("BTC")), (usd("10000"), qty("0.01")), "{ord_status:?}");
        floor.assert_books_agree();
    }
}

#[test]
fn no_report_of_an_order_that_may_still_trade_releases_anything() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1").limit("60000.00", "0.005"));
    for (exec_type, ord_status) in [
        (ExecType::PendingNew, OrdStatus::PendingNew),
        (ExecType::New, OrdStatus::New),
        (ExecType::OrderStatus, OrdStatus::New),
        (ExecType::PendingCancel, OrdStatus::PendingCancel),
        (ExecType::OrderStatus, OrdStatus::PartiallyFilled),
    ] {
        floor.ended("a-1", exec_type, ord_status);
        assert_eq!(floor.free_quote(), usd("9699.85"), "{ord_status:?}");
    }
}

#[test]
fn each_partial_fill_moves_reservation_into_position_and_their_sum_stays() {
    let mut floor = floor().limit("MAX_POSITION_SIZE_USD", "500").open();
    floor.approve(&buy("a-1").limit("60000.00", "0.008"));
    floor.acknowledged("a-1");
    let fills = [("0.004", "0.004"), ("0.002", "0.006"), ("0.001", "0.007"), ("0.001", "0.008")];
    for (n, (filled, held)) in fills.into_iter().enumerate() {
        assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9519.76")));
        floor.wait(2 * SECOND);
        floor.refuse(&buy(&format!("more-{n}")).market_for("20.01"), Reason::PositionTooLarge);
        floor.filled("a-1", decimal(filled), decimal("60000.00"));
        assert_eq!(floor.held("BTC"), qty(held));
        floor.assert_books_agree();
    }
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9519.76")));
    assert!(!floor.is_open("a-1"));
    floor.wait(2 * SECOND);
    floor.approve(&buy("a-2").market_for("20"));
}

#[test]
fn a_market_order_sized_in_quote_gives_up_what_its_fills_cost() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1").market_for("480"));
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9519.76")));
    floor.filled_free("a-1", "0.004", "60000.00");
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9519.88")));
    floor.filled_free("a-1", "0.002", "60000.00");
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9519.94")));
    floor.filled_free("a-1", "0.002", "60000.00");
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9520")));
    assert!(!floor.is_open("a-1"));
}

#[test]
fn a_fill_at_a_better_price_gives_back_the_difference() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1").market("0.005"));
    assert_eq!(floor.free_quote(), usd("9696.8485"));
    floor.filled_free("a-1", "0.005", "60000.00");
    assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("9700"), usd("300")));
}

#[test]
fn every_open_buy_keeps_its_taker_fee_so_that_all_that_was_approved_can_be_paid() {
    let with = |usdt: &str| {
        floor()
            .holding("USDT", usdt)
            .limit("MAX_ORDER_SIZE_USD", "10000")
            .limit("MAX_NOTIONAL_PER_MINUTE_USD", "10000")
            .limit("MAX_POSITION_SIZE_USD", "10000")
            .limit("MAX_POSITION_PCT", "1")
            .limit("MAX_TOTAL_EXPOSURE", "1")
            .open()
    };
    let mut floor = with("1000");
    floor.approve(&buy("a-1").market_for("400"));
    let refused = floor.refuse(&buy("a-2").market_for("599.7"), Reason::InsufficientBalance);
    let check = refused.checks.iter().find(|check| check.is_refused).expect("the refusal");
    assert_eq!(check.value, Figure::Decimal(decimal("599.99985")));
    assert_eq!(check.limit, Figure::Decimal(decimal("599.8")));

    let mut floor = with("1000.5");
    floor.approve(&buy("a-1").on("ETHUSDT").market_for("400"));
    floor.refuse(&buy("a-2").on("ETHUSDT").market_for("600.01"), Reason::InsufficientBalance);
    floor.approve(&buy("a-3").on("ETHUSDT").market_for("600"));
    assert_eq!(floor.free_quote(), usd("0"));
    floor.filled("a-1", decimal("0.2"), decimal("2000.00"));
    assert_eq!((floor.held("USDT"), floor.free_quote()), (qty("600.3"), usd("0")));
    floor.filled("a-3", decimal("0.3"), decimal("2000.00"));
    assert_eq!((floor.held("USDT"), floor.free_quote()), (qty("0"), usd("0")));
}

#[test]
fn what_a_partly_filled_buy_may_still_cost_is_reserved_exactly_and_a_limit_met_exactly_passes() {
    // A third is filled: 60 held and 120 open leave 320 of 500; a market order's rest is worth 121.2 and leaves 318.8.
    let cases = [
        (buy("a-1").limit("60000.00", "0.003"), "180", "9819.94", "320", "320.01"),
        (buy("a-1").market("0.003"), "181.2", "9818.7394", "318.8", "318.81"),
    ];
    for (wish, position, free, at, above) in cases {
        let mut floor = floor().limit("MAX_POSITION_SIZE_USD", "500").open();
        floor.approve(&wish);
        floor.filled_free("a-1", "0.001", "60000.00");
        assert_eq!((floor.position("BTC"), floor.free_quote()), (usd(position), usd(free)), "{wish:?}");
        floor.refuse(&buy("a-2").market_for(above), Reason::PositionTooLarge);
        floor.approve(&buy("a-3").market_for(at));
        assert_eq!(floor.position("BTC"), usd("500"));
        floor.assert_books_agree();
    }
}

#[test]
fn a_partly_filled_and_then_cancelled_buy_leaves_only_what_was_filled() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1").limit("60000.00", "0.008"));
    floor.acknowledged("a-1");
    floor.filled_free("a-1", "0.003", "60000.00");
    floor.canceled("a-1");
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("180"), usd("9820")));
    floor.assert_books_agree();
}

/// FL-OD-06: after a partial exit only the rest can be sold, whatever replaces it.
#[test]
fn a_partly_filled_sell_can_never_sell_its_filled_part_again() {
    let mut floor = floor().holding("BTC", "0.01").open();
    floor.approve(&sell("s-1").limit("60000.00", "0.008"));
    floor.acknowledged("s-1");
    floor.filled_free("s-1", "0.005", "60000.00");
    assert_eq!((floor.held("BTC"), floor.free_base("BTC")), (qty("0.005"), qty("0.002")));
    floor.snapshot();
    assert_eq!(floor.free_base("BTC"), qty("0.002"));
    floor.refuse(&sell("s-2").limit("60000.00", "0.002001"), Reason::InsufficientBalance);
    floor.approve(&sell("s-3").limit("60000.00", "0.002"));
    floor.wait(SECOND);
    floor.refuse(&sell("s-4").limit("60000.00", "0.001"), Reason::InsufficientBalance);
}

#[test]
fn a_fee_is_taken_from_the_asset_that_the_exchange_names() {
    let mut floor = floor().holding("MX", "0").open();
    floor.approve(&buy("a-1").limit("60000.00", "0.005"));
    floor.filled_with_fee("a-1", decimal("0.002"), decimal("60000.00"), decimal("0.000001"), "BTC");
    assert_eq!(floor.held("BTC"), qty("0.001999"));
    floor.filled_with_fee("a-1", decimal("0.003"), decimal("60000.00"), decimal("0.09"), "USDT");
    assert_eq!((floor.held("BTC"), floor.held("USDT")), (qty("0.004999"), qty("9699.91")));
}

#[test]
fn an_order_in_doubt_keeps_its_full_exposure_until_it_is_proven_absent() {
    let mut floor = floor().limit("MAX_POSITION_SIZE_USD", "500").open();
    floor.approve(&buy("a-1").limit("60000.00", "0.008"));
    floor.in_doubt("a-1");
    for _ in 0..3 {
        floor.wait(30 * SECOND);
        assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9519.76")));
    }
    floor.refuse(&buy("a-2").market_for("20.01"), Reason::PositionTooLarge);
    floor.rejected("a-1", "not_accepted");
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("0"), usd("10000")));
    floor.approve(&buy("a-3").market_for("480"));
}

#[test]
fn an_order_in_doubt_after_a_partial_fill_keeps_the_rest_and_still_fills() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1").limit("60000.00", "0.008"));
    floor.acknowledged("a-1");
    floor.filled_free("a-1", "0.002", "60000.00");
    floor.in_doubt("a-1");
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9519.82")));
    floor.found("a-1");
    assert_eq!((floor.position("BTC"), floor.free_quote()), (usd("480"), usd("9519.82")));
    floor.filled_free("a-1", "0.006", "60000.00");
    assert_eq!((floor.held("BTC"), floor.free_quote()), (qty("0.008"), usd("9520")));
    floor.assert_books_agree();
}

#[test]
fn a_sell_in_doubt_keeps_its_quantity() {
    let mut floor = floor().holding("BTC", "0.01").open();
    floor.approve(&sell("s-1").market("0.01"));
    floor.in_doubt("s-1");
    floor.wait(10 * SECOND);
    assert_eq!(floor.free_base("BTC"), Qty::ZERO);
    floor.refuse(&sell("s-2").market("0.001"), Reason::InsufficientBalance);
    floor.rejected("s-1", "not_accepted");
    floor.approve(&sell("s-3").market("0.01"));
}

#[test]
fn the_same_id_with_the_same_content_is_a_replay_that_changes_nothing() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1"));
    let (day, decided_on) = (floor.desk.day(floor.now), floor.now.day());
    let reordered = format!(
        r#"{{"ts":{},"price":"60000.00","qty":"0.001","tif":"GTC","ord_type":"LIMIT","side":"BUY","symbol":"BTCUSDT","strategy":"trend","cl_ord_id":"a-1","type":"new","v":1}}"#,
        floor.now.millis()
    );
    floor.wait(30 * SECOND);
    for _ in 0..3 {
        let Decided::Replay { cl_ord_id, day } = floor.resend("a-1") else { panic!("must be a replay") };
        assert_eq!((cl_ord_id, day), (id("a-1"), decided_on));
        assert_eq!(answer(&floor.decide_bytes(reordered.as_bytes())), Answer::Replay);
    }
    assert_eq!(floor.desk.day(floor.now), day);
    assert_eq!(floor.desk.portfolio().orders().len(), 1);
    floor.acknowledged("a-1");
    floor.canceled("a-1");
    assert_eq!(answer(&floor.resend("a-1")), Answer::Replay);
    assert!(floor.desk.portfolio().orders().is_empty(), "a replay of a finished order reserves nothing");
}

#[test]
fn a_refused_order_and_a_malformed_one_are_replayed_as_well() {
    let mut floor = floor().open();
    let refused = buy("a-1").limit("60000.00", "0.009").json(floor.now);
    let malformed = buy("a-2").json(floor.now).replace("\"BUY\"", "\"buy\"");
    for (bytes, reason) in [(refused, Reason::OrderTooLarge), (malformed, Reason::Malformed)] {
        assert_eq!(answer(&floor.decide_bytes(bytes.as_bytes())), Answer::Refused(reason));
        floor.wait(SECOND);
        assert_eq!(answer(&floor.decide_bytes(bytes.as_bytes())), Answer::Replay);
    }
}

/// FL-OD-20: an id that comes again after a restart, for something else, is never a second order.
#[test]
fn the_same_id_with_any_other_content_is_a_duplicate_and_the_first_content_stays_known() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1"));
    let at = floor.now;
    let others = [
        buy("a-1").limit("60000.00", "0.002"),
        buy("a-1").limit("59999.99", "0.001"),
        buy("a-1").limit_with("60000.00", "0.001", "IOC"),
        buy("a-1").of_strategy("grid"),
        buy("a-1").on("ETHUSDT"),
        buy("a-1").market("0.001"),
        buy("a-1").market_for("60"),
        sell("a-1"),
        sell("a-1").reduce_only(),
    ];
    for other in &others {
        let decided = floor.decide_bytes(other.json(at).as_bytes());
        let Decided::Verdict { verdict, seen } = decided else { panic!("must be a verdict") };
        assert_eq!(verdict.reason, Some(Reason::DuplicateClOrdId), "{other:?}");
        assert_eq!(seen, None, "{other:?}");
    }
    let later = buy("a-1").json(at.plus_ms(1));
    assert_eq!(answer(&floor.decide_bytes(later.as_bytes())), Answer::Refused(Reason::DuplicateClOrdId));
    assert_eq!(floor.desk.portfolio().orders().len(), 1);
    assert_eq!(answer(&floor.resend("a-1")), Answer::Replay);
}

#[test]
fn a_cancel_needs_an_id_of_its_own() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1"));
    let cancel = r#"{"v":1,"type":"cancel","cl_ord_id":"a-1","orig_cl_ord_id":"a-1"}"#;
    let decided = floor.decide_bytes(cancel.as_bytes());
    assert_eq!(answer(&decided), Answer::Refused(Reason::DuplicateClOrdId));
    let cancel = cancel.replacen("a-1", "c-1", 1);
    assert_eq!(answer(&floor.decide_bytes(cancel.as_bytes())), Answer::Approved);
    assert_eq!(answer(&floor.decide_bytes(cancel.as_bytes())), Answer::Replay);
    assert!(floor.is_open("a-1"), "only the report of its end releases an order");
}

#[test]
fn an_unreadable_field_gives_a_verdict_that_names_it() {
    let mut floor = floor().open();
    let good = buy("a-1").json(floor.now);
    let cases = [
        ("qty", good.replace("\"0.001\"", "\"NaN\"")),
        ("qty", good.replace("\"0.001\"", "\"-0.001\"")),
        ("price", good.replace("\"60000.00\"", "null")),
        ("side", good.replace("\"BUY\"", "\"HOLD\"")),
        ("symbol", good.replace("BTCUSDT", "btcusdt")),
        ("leverage", good.replace("\"v\":1", "\"v\":1,\"leverage\":10")),
        ("v", good.replace("\"v\":1", "\"v\":2")),
        ("type", good.replace("\"new\"", "\"amend\"")),
        ("reduce_only", buy("a-1").reduce_only().json(floor.now)),
        ("orig_cl_ord_id", r#"{"v":1,"type":"cancel","cl_ord_id":"a-1"}"#.to_owned()),
    ];
    for (n, (field, json)) in cases.iter().enumerate() {
        let cl_ord_id = format!("m-{n}");
        let verdict = verdict_of(floor.decide_bytes(json.replace("a-1", &cl_ord_id).as_bytes()));
        assert_eq!((verdict.reason, verdict.cl_ord_id.as_str()), (Some(Reason::Malformed), cl_ord_id.as_str()));
        assert!(verdict.detail.contains(&format!("'{field}'")), "{}", verdict.detail);
        assert_eq!(verdict.checks[0].value, Figure::Name((*field).to_owned()));
        assert!(verdict.command.is_none());
    }
    assert!(floor.desk.portfolio().orders().is_empty());
    assert_eq!(floor.desk.day(floor.now).orders, 0);
}

#[test]
fn bytes_without_a_readable_id_are_a_dead_letter() {
    let mut floor = floor().open();
    let good = buy("a-1").json(floor.now);
    for bytes in [
        String::new(),
        "not json".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        good.replace("\"cl_ord_id\":\"a-1\",", ""),
        good.replace("\"a-1\"", "\"a 1\""),
        good.replace("\"a-1\"", "7"),
        good.replace("\"a-1\"", &format!("\"{}\"", "a".repeat(33))),
        good.replace("\"v\":1", "\"v\":1,\"v\":1"),
        format!("{good}{}", " ".repeat(4_096)),
    ] {
        assert_eq!(answer(&floor.decide_bytes(bytes.as_bytes())), Answer::DeadLetter, "{bytes}");
    }
    assert_eq!(answer(&floor.decide_bytes(b"\xff\xfe")), Answer::DeadLetter);
    floor.approve(&buy("a-1"));
}

#[test]
fn a_cancel_is_approved_whatever_refuses_orders() {
    let stops = Stops { all: Some("drill".to_owned()), ..Stops::default() };
    type Condition = fn(&mut Floor);
    let conditions: [(&str, Condition); 6] = [
        ("nothing", |_| {}),
        ("an open breaker", |floor| {
            floor.desk.on_breaker(Input::Trip(Cause::DailyLoss), START);
        }),
        ("a half open breaker", |floor| {
            floor.desk.on_breaker(Input::Trip(Cause::ClockOffset), START);
            floor.wait(HOUR);
        }),
        ("lost state", |floor| floor.desk.lose_state("epoch changed")),
        ("balances of last week", |floor| floor.now = floor.now.plus_ms(7 * UtcDay::MS)),
        ("no rights to trade", |floor| {
            let barred = AccountSnapshot { can_trade: false, ..floor.account() };
            floor.execute(Execution::AccountSnapshot(barred));
        }),
    ];
    for (name, condition) in conditions {
        let mut floor = floor().limit("MAX_DAILY_ORDERS", "0").limit("MAX_OPEN_ORDERS", "0").open();
        condition(&mut floor);
        floor.stop(stops.clone());
        assert_ne!(answer(&floor.decide(&buy("a-1"))), Answer::Approved);
        for n in 0..100 {
            let one = format!(r#"{{"v":1,"type":"cancel","cl_ord_id":"c-{n}","orig_cl_ord_id":"a-1"}}"#);
            assert_eq!(answer(&floor.decide_bytes(one.as_bytes())), Answer::Approved, "{name}");
        }
        let all = r#"{"v":1,"type":"cancel_all","cl_ord_id":"c-all","symbol":"BTCUSDT"}"#;
        assert_eq!(answer(&floor.decide_bytes(all.as_bytes())), Answer::Approved, "{name}");
        assert!(floor.desk.portfolio().orders().is_empty());
        assert_eq!(floor.desk.day(floor.now).orders, 0, "a cancel is no order of the day");
    }
}

#[test]
fn cancels_take_no_slot_of_the_throttle() {
    let mut floor = floor().open();
    for n in 0..20 {
        let cancel = format!(r#"{{"v":1,"type":"cancel","cl_ord_id":"c-{n}","orig_cl_ord_id":"a-1"}}"#);
        assert_eq!(answer(&floor.decide_bytes(cancel.as_bytes())), Answer::Approved);
    }
    floor.approve(&buy("a-1"));
}

#[test]
fn a_stop_covers_all_or_its_symbol_or_its_strategy_until_it_is_cleared() {
    let mut floor = floor().holding("BTC", "0.01").open();
    let why = || "drill".to_owned();
    let all = Stops { all: Some(String::new()), ..Stops::default() };
    let one_symbol = Stops { symbols: BTreeMap::from([(symbol("BTCUSDT"), why())]), ..Stops::default() };
    let trend = StrategyId::parse("trend").expect("a strategy");
    let one_strategy = Stops { strategies: BTreeMap::from([(trend, why())]), ..Stops::default() };
    let other_symbol = |name: &str| buy(name).on("ETHUSDT").limit("2000.00", "0.01");

    floor.stop(all);
    floor.refuse(&buy("a-1"), Reason::EmergencyStop);
    floor.refuse(&sell("a-2"), Reason::EmergencyStop);
    floor.refuse(&other_symbol("a-3").of_strategy("grid"), Reason::EmergencyStop);
    floor.stop(one_symbol);
    floor.refuse(&buy("a-4").of_strategy("grid"), Reason::EmergencyStop);
    floor.approve(&other_symbol("a-5"));
    floor.stop(one_strategy);
    floor.refuse(&buy("a-6"), Reason::EmergencyStop);
    floor.approve(&buy("a-7").of_strategy("grid"));
    floor.stop(Stops::default());
    floor.approve(&buy("a-8"));
}

#[test]
fn lost_state_refuses_everything_that_follows_and_keeps_its_first_reason() {
    let mut floor = floor().holding("BTC", "0.01").open();
    floor.approve(&buy("a-1"));
    floor.desk.lose_state("the epoch is gone");
    floor.desk.lose_state("something later");
    assert_eq!(floor.desk.state_lost(), Some("the epoch is gone"));
    floor.refuse(&buy("a-2").market_for("50"), Reason::StateLost);
    let verdict = floor.refuse(&sell("a-3").market("0.001"), Reason::StateLost);
    assert!(verdict.detail.contains("the epoch is gone"), "{}", verdict.detail);
}

/// FL-RK-20: the day of a count is the UTC day, to the millisecond.
#[test]
fn the_day_count_begins_again_at_midnight_utc_and_not_before() {
    let midnight = UtcDay::from_number(20_520).start();
    assert_eq!(midnight.to_rfc3339(), "2026-03-08T00:00:00.000Z");
    let mut floor = floor().limit("MAX_DAILY_ORDERS", "2").starting_at(midnight.plus_ms(-2 * SECOND)).open();
    let offsets = [-2 * SECOND, -SECOND, -1, 0, 7 * HOUR];
    let answers: Vec<Answer> = (offsets.iter().enumerate())
        .map(|(n, offset)| {
            floor.wait_until(midnight.plus_ms(*offset));
            answer(&floor.decide(&buy(&format!("a-{n}")).market_for(&format!("5{n}"))))
        })
        .collect();
    let full = Answer::Refused(Reason::DailyOrderLimit);
    assert_eq!(answers, [Answer::Approved, Answer::Approved, full, Answer::Approved, Answer::Approved]);
    floor.wait(SECOND);
    floor.refuse(&buy("a-9").market_for("60"), Reason::DailyOrderLimit);
}

#[test]
fn the_days_amount_begins_again_at_midnight_utc_and_exits_add_nothing_to_it() {
    let midnight = START.day().start().plus_ms(UtcDay::MS);
    let setup = floor().holding("BTC", "0.01").limit("MAX_DAILY_NOTIONAL_USD", "500");
    let mut floor = setup.starting_at(midnight.plus_ms(-10 * SECOND)).open();
    floor.approve(&buy("a-1").market_for("300"));
    floor.filled_free("a-1", "0.005", "60000.00");
    floor.approve(&sell("s-1").market("0.01"));
    floor.wait(SECOND);
    floor.refuse(&buy("a-2").on("ETHUSDT").market_for("200.01"), Reason::DailyNotionalLimit);
    floor.approve(&buy("a-3").on("ETHUSDT").market_for("200"));
    floor.wait_until(midnight);
    floor.approve(&buy("a-4").on("ETHUSDT").market_for("200.01"));
}

/// FL-RK-25: what counts is what was approved, whatever became of it, and a restart forgets none of it.
#[test]
fn the_days_orders_survive_refusals_doubt_and_a_restart() {
    let mut floor = floor().limit("MAX_DAILY_ORDERS", "50").open();
    for n in 0..50 {
        let name = format!("a-{n}");
        floor.wait(SECOND);
        floor.approve(&buy(&name).market_for(&format!("10.{n:02}")));
        match n {
            0..12 => drop(floor.rejected(&name, "venue_insufficient_balance")),
            12 | 24 | 36 => drop(floor.in_doubt(&name)),
            _ => {
                floor.acknowledged(&name);
                floor.canceled(&name);
            }
        }
    }
    floor.restart();
    floor.wait(SECOND);
    floor.refuse(&buy("late-1").market_for("50"), Reason::DailyOrderLimit);
    floor.wait_until(floor.now.day().start().plus_ms(UtcDay::MS));
    for n in 0..100 {
        let name = format!("b-{n}");
        if answer(&floor.decide(&buy(&name).market_for(&format!("10.{n:02}")))) == Answer::Approved {
            floor.canceled(&name);
        }
        floor.wait(SECOND);
    }
    let today = floor.approvals.iter().filter(|approval| approval.at.day() == floor.now.day()).count();
    assert_eq!(today, 50);
}

#[test]
fn a_slot_of_the_throttle_is_free_again_exactly_one_second_later() {
    let setup = floor().unhurried().limit("MAX_ORDERS_PER_SECOND", "3").limit("MAX_STRATEGY_ORDERS_PER_SECOND", "2");
    let mut floor = setup.open();
    floor.approve(&buy("a-1").market_for("11"));
    floor.wait(400);
    floor.approve(&buy("a-2").market_for("12"));
    floor.refuse(&buy("a-3").market_for("13"), Reason::Throttled);
    floor.approve(&buy("b-1").of_strategy("grid").market_for("11"));
    floor.refuse(&buy("b-2").of_strategy("grid").market_for("12"), Reason::Throttled);
    floor.wait(599);
    floor.refuse(&buy("a-4").market_for("13"), Reason::Throttled);
    floor.wait(1);
    floor.approve(&buy("a-5").market_for("13"));
    floor.refuse(&buy("b-3").of_strategy("grid").market_for("12"), Reason::Throttled);
    floor.wait(400);
    floor.approve(&buy("a-6").market_for("14"));
    floor.approve(&buy("b-4").of_strategy("grid").market_for("12"));
}

#[test]
fn the_minutes_amount_frees_each_order_exactly_sixty_seconds_later_and_exits_add_nothing() {
    let setup = floor().holding("BTC", "0.01").unhurried().limit("MAX_NOTIONAL_PER_MINUTE_USD", "500");
    let setup = setup.limit("MAX_POSITION_SIZE_USD", "5000").limit("MAX_POSITION_PCT", "1");
    let mut floor = setup.limit("MAX_TOTAL_EXPOSURE", "1").open();
    floor.approve(&sell("exit-1").market("0.001"));
    floor.approve(&buy("a-1").market_for("300"));
    floor.wait(30_000);
    floor.approve(&buy("a-2").market_for("200"));
    floor.refuse(&buy("a-3").of_strategy("grid").market_for("10"), Reason::NotionalThrottled);
    floor.approve(&sell("exit-2").market("0.001"));
    floor.wait(29_999);
    floor.refuse(&buy("a-4").market_for("300"), Reason::NotionalThrottled);
    floor.wait(1);
    floor.refuse(&buy("a-5").market_for("300.01"), Reason::NotionalThrottled);
    floor.approve(&buy("a-6").market_for("300"));
    floor.restart();
    floor.refuse(&buy("a-7").market_for("10"), Reason::NotionalThrottled);
}

#[test]
fn a_strategy_that_repeats_itself_is_held_until_the_window_is_over_at_whatever_price_and_exits_are_not() {
    let setup = floor().holding("BTC", "0.1").unhurried().limit("MAX_POSITION_SIZE_USD", "10000");
    let setup = setup.limit("MAX_POSITION_PCT", "1").limit("MAX_TOTAL_EXPOSURE", "1").limit("REPEAT_WINDOW_SEC", "10");
    let mut floor = setup.limit("MAX_REPEATED_ORDERS", "2").open();
    floor.approve(&buy("a-1").limit("59000.00", "0.001"));
    floor.wait(5_000);
    floor.approve(&buy("a-2").limit("59000.01", "0.001"));
    floor.refuse(&buy("a-3").limit("59000.02", "0.0010"), Reason::RepeatedOrder);
    floor.approve(&buy("a-4").limit("59000.02", "0.002"));
    floor.approve(&buy("b-1").of_strategy("grid").limit("59000.02", "0.001"));
    for n in 0..5 {
        floor.approve(&sell(&format!("exit-{n}")).limit("61000.00", "0.001"));
    }
    floor.restart();
    floor.wait(4_999);
    floor.refuse(&buy("a-5").limit("59000.03", "0.001"), Reason::RepeatedOrder);
    floor.wait(1);
    floor.approve(&buy("a-6").limit("59000.04", "0.001"));
    floor.refuse(&buy("a-7").limit("59000.05", "0.001"), Reason::RepeatedOrder);
}

#[test]
fn the_same_content_under_another_id_waits_until_the_window_is_over() {
    let mut floor = floor().open();
    floor.refuse(&buy("a-0").limit("60000.00", "0.009"), Reason::OrderTooLarge);
    floor.approve(&buy("a-1").limit("60000.00", "0.002"));
    floor.refuse(&buy("a-2").limit("60000.000", "0.0020"), Reason::DuplicateOrder);
    floor.approve(&buy("a-3").of_strategy("grid").limit("60000.00", "0.002"));
    floor.wait(1_999);
    floor.refuse(&buy("a-4").limit("60000.00", "0.002"), Reason::DuplicateOrder);
    floor.approve(&buy("a-5").of_strategy("grid").limit("60000.00", "0.003"));
    floor.wait(1);
    floor.approve(&buy("a-6").limit("60000.00", "0.002"));
    floor.refuse(&buy("a-7").limit("60000.00", "0.002"), Reason::DuplicateOrder);
}

#[test]
fn an_own_resting_order_on_the_other_side_is_not_traded_with_until_it_is_gone() {
    let mut floor = floor().holding("BTC", "0.01").open();
    floor.approve(&sell("s-1").limit("60100.00", "0.001"));
    floor.acknowledged("s-1");
    floor.refuse(&buy("a-1").limit("60100.00", "0.001"), Reason::SelfTrade);
    floor.refuse(&buy("a-2").market_for("50"), Reason::SelfTrade);
    floor.approve(&buy("a-3").limit("60099.99", "0.001"));
    floor.wait(SECOND);
    floor.in_doubt("s-1");
    floor.refuse(&buy("a-4").market_for("50"), Reason::SelfTrade);
    floor.canceled("s-1");
    floor.approve(&buy("a-5").market_for("50"));
}

/// Half open at the moment when the first probe may be sent.
fn half_open_floor(setup: Setup) -> Floor {
    let mut floor = setup.open();
    let opened = floor.desk.on_breaker(Input::Trip(Cause::ClockOffset), floor.now);
    assert!(matches!(opened, Some(State::Open { .. })));
    floor.wait(300 * SECOND);
    assert!(matches!(floor.desk.breaker().state(), State::HalfOpen { .. }));
    floor
}

/// FL-RK-13: the end of the pause lets one small order through and not everybody.
#[test]
fn half_open_admits_exactly_one_of_a_hundred_orders_and_its_success_closes() {
    let mut floor = half_open_floor(floor().unhurried());
    for n in 0..100 {
        floor.decide(&buy(&format!("a-{n}")).of_strategy(&format!("s-{}", n % 10)).market_for("15"));
    }
    assert_eq!(floor.answers[&Answer::Approved], 1);
    assert_eq!(floor.answers[&Answer::Refused(Reason::CircuitOpen)], 99);
    floor.wait(5 * SECOND);
    floor.refuse(&buy("b-1").market_for("15"), Reason::CircuitOpen);
    assert_eq!(floor.acknowledged("a-0"), Some(State::Closed));
    for n in 0..5 {
        floor.approve(&buy(&format!("c-{n}")).of_strategy(&format!("s-{n}")).market_for("100"));
    }
}

#[test]
fn a_failed_probe_opens_again_for_twice_as_long_and_then_one_more_probe_is_admitted() {
    let mut floor = half_open_floor(floor().unhurried());
    floor.approve(&buy("probe-1").market_for("15"));
    let failed_at = floor.now;
    let reopened = floor.in_doubt("probe-1");
    let Some(State::Open { retry_at, .. }) = reopened else { panic!("must open again") };
    assert_eq!(retry_at, Some(failed_at.plus_ms(600 * SECOND)));
    floor.wait(600 * SECOND - 1);
    floor.refuse(&buy("a-1").market_for("15"), Reason::CircuitOpen);
    floor.wait(1);
    floor.approve(&buy("probe-2").market_for("15"));
    floor.refuse(&buy("a-2").market_for("15"), Reason::CircuitOpen);
    assert_eq!(floor.rejected("probe-1", "not_accepted"), None);
    floor.refuse(&buy("a-3").market_for("15"), Reason::CircuitOpen);
    assert_eq!(floor.acknowledged("probe-2"), Some(State::Closed));
}

#[test]
fn a_probe_that_was_never_sent_makes_room_for_the_next_and_proves_nothing() {
    let mut floor = half_open_floor(floor().unhurried());
    floor.approve(&buy("probe-1").market_for("15"));
    assert_eq!(floor.rejected("probe-1", "expired"), None);
    assert!(matches!(floor.desk.breaker().state(), State::HalfOpen { .. }));
    floor.approve(&buy("probe-2").market_for("15"));
    floor.refuse(&buy("a-1").market_for("15"), Reason::CircuitOpen);
}

#[test]
fn an_order_approved_before_the_trip_neither_closes_nor_reopens_a_half_open_breaker() {
    let mut floor = floor().unhurried().open();
    floor.approve(&buy("old-1").market_for("50"));
    floor.approve(&buy("old-2").market_for("50"));
    floor.desk.on_breaker(Input::Trip(Cause::ClockOffset), floor.now);
    floor.wait(300 * SECOND);
    assert_eq!(floor.acknowledged("old-1"), None);
    assert_eq!(floor.in_doubt("old-2"), None);
    assert!(matches!(floor.desk.breaker().state(), State::HalfOpen { .. }));
}

#[test]
fn exits_pass_an_open_and_a_half_open_breaker_and_take_no_probe() {
    let mut floor = floor().unhurried().holding("BTC", "0.01").open();
    floor.desk.on_breaker(Input::Trip(Cause::ClockOffset), floor.now);
    floor.refuse(&buy("a-1"), Reason::CircuitOpen);
    floor.approve(&sell("s-1").market("0.004"));
    floor.wait(300 * SECOND);
    floor.approve(&sell("s-2").market("0.004"));
    floor.approve(&buy("probe-1").market_for("15"));
    floor.refuse(&buy("a-2").market_for("15"), Reason::CircuitOpen);
    floor.approve(&sell("s-3").market("0.002"));
    floor.refuse(&sell("s-4").market("0.001"), Reason::CircuitOpen);
}

#[test]
fn failures_of_the_connection_open_the_breaker_and_refusals_of_business_do_not() {
    for reason in ["venue_auth", "venue_rate_limited", "venue_clock"] {
        let mut floor = floor().unhurried().open();
        for n in 0..3 {
            assert!(matches!(floor.desk.breaker().state(), State::Closed), "{reason}");
            floor.approve(&buy(&format!("a-{n}")));
            floor.rejected(&format!("a-{n}"), reason);
        }
        assert!(matches!(floor.desk.breaker().state(), State::Open { .. }), "{reason}");
        floor.refuse(&buy("b-1"), Reason::CircuitOpen);
    }
    let business = ["venue_insufficient_balance", "venue_order_rules", "venue_too_many_open_orders", "emergency_stop"];
    for reason in business.iter().chain(&["expired", "rate_queue_full", "send_deadline", "permit_missing"]) {
        let mut floor = floor().unhurried().open();
        for n in 0..20 {
            floor.approve(&buy(&format!("a-{n}")));
            floor.rejected(&format!("a-{n}"), reason);
        }
        floor.approve(&buy("b-1"));
    }
}

#[test]
fn a_paused_exchange_and_a_restricted_account_speak_neither_for_nor_against_the_connection() {
    for reason in ["venue_maintenance", "venue_account"] {
        let mut floor = half_open_floor(floor().unhurried());
        floor.approve(&buy("probe-1").market_for("15"));
        assert_eq!(floor.rejected("probe-1", reason), None);
        assert!(matches!(floor.desk.breaker().state(), State::HalfOpen { .. }), "{reason} closes nothing");
        floor.approve(&buy("probe-2").market_for("15"));
        assert_eq!(floor.acknowledged("probe-2"), Some(State::Closed));

        for n in 0..20 {
            floor.approve(&buy(&format!("a-{n}")));
            floor.rejected(&format!("a-{n}"), reason);
        }
        assert_eq!(floor.desk.breaker().state(), State::Closed, "{reason} is no failure");
        for name in ["b-1", "b-2", "b-3"] {
            let earlier = format!("{name}-earlier");
            floor.approve(&buy(&earlier));
            floor.rejected(&earlier, reason);
            floor.approve(&buy(name));
            floor.rejected(name, "venue_rate_limited");
        }
        let state = floor.desk.breaker().state();
        assert!(matches!(state, State::Open { cause: Cause::ConsecutiveFailures, .. }), "{reason} is no success");
    }
}

#[test]
fn the_proof_that_an_order_in_doubt_was_never_accepted_is_no_second_failure() {
    let mut floor = floor().unhurried().open();
    for name in ["a-1", "a-2"] {
        floor.approve(&buy(name));
        floor.in_doubt(name);
        floor.rejected(name, "not_accepted");
    }
    assert_eq!(floor.desk.breaker().state(), State::Closed);
    floor.approve(&buy("a-3"));
    floor.in_doubt("a-3");
    assert!(matches!(floor.desk.breaker().state(), State::Open { cause: Cause::ConsecutiveFailures, .. }));
}

#[test]
fn a_finding_that_says_somebody_else_trades_opens_the_breaker_until_an_operator_resets_it() {
    let kinds = [
        (FindingKind::ForeignOrder, Some(Cause::ForeignOrder)),
        (FindingKind::ForeignTrade, Some(Cause::ForeignOrder)),
        (FindingKind::BalanceBreak, Some(Cause::ReconciliationBreak)),
        (FindingKind::OrderMissing, Some(Cause::ReconciliationBreak)),
        (FindingKind::MissedFill, None),
        (FindingKind::Transfer, None),
    ];
    for (kind, expected) in kinds {
        let mut floor = floor().open();
        floor.found_by_reconciliation(kind, floor.now);
        floor.wait(24 * HOUR);
        match (expected, floor.desk.breaker().state()) {
            (Some(expected), State::Open { cause, retry_at: None, .. }) => assert_eq!(cause, expected),
            (None, State::Closed) => drop(floor.approve(&buy("a-1"))),
            (_, state) => panic!("{kind:?}: {state:?}"),
        }
        floor.desk.on_breaker(Input::Reset, floor.now);
        floor.approve(&buy("a-2").market_for("50"));
    }
}

/// A report of an order whose verdict this desk does not know: Redis lost it.
fn unknown(wish: &Wish, leaves: Option<&str>) -> ExecutionReport {
    let mut elsewhere = floor().holding("BTC", "0.005").open();
    elsewhere.approve(wish);
    let report = elsewhere.report(&wish.id, ExecType::New, OrdStatus::New);
    ExecutionReport { leaves_qty: leaves.map(qty), exec_id: format!("u:{}", wish.id), ..report }
}

impl Floor {
    fn told(&mut self, report: ExecutionReport) {
        self.execute(Execution::ExecutionReport(Box::new(report)));
    }
}

#[test]
fn an_order_that_lives_and_that_no_verdict_knows_counts_with_what_is_left_of_it_until_it_ends() {
    let mut floor = floor().holding("BTC", "0.01").open();
    floor.told(unknown(&buy("lost-1").limit("60000.00", "0.002"), Some("0.0015")));
    assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("9909.955"), usd("690")), "90 and its fee");
    floor.told(unknown(&buy("lost-2").market_for("60"), None));
    assert_eq!(floor.position("BTC"), usd("750"));
    floor.told(unknown(&sell("lost-3").limit("60100.00", "0.004"), Some("0.004")));
    assert_eq!((floor.free_base("BTC"), floor.position("BTC")), (qty("0.006"), usd("750")));
    // The exchange holds it: what it locks is ours and not a stranger's.
    floor.held.insert(asset("USDT"), decimal("10000"));
    let end = |report: ExecutionReport| {
        let (exec_type, ord_status) = (ExecType::Canceled, OrdStatus::Canceled);
        ExecutionReport { exec_type, ord_status, exec_id: "u:end".to_owned(), ..report }
    };
    floor.told(end(unknown(&buy("lost-1").limit("60000.00", "0.002"), Some("0.0015"))));
    floor.told(end(unknown(&buy("lost-2").market_for("60"), None)));
    floor.told(end(unknown(&sell("lost-3").limit("60100.00", "0.004"), Some("0.004"))));
    assert_eq!((floor.free_quote(), floor.free_base("BTC")), (usd("10000"), qty("0.01")));
    assert!(floor.desk.portfolio().orders().is_empty());
    // An end of an order that was never known adopts nothing.
    floor.told(end(unknown(&buy("lost-4").limit("60000.00", "0.002"), None)));
    assert!(floor.desk.portfolio().orders().is_empty());
}

#[test]
fn a_repeated_report_is_booked_once() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1").limit("60000.00", "0.005"));
    floor.acknowledged("a-1");
    floor.filled_free("a-1", "0.002", "60000.00");
    let (fill, _) = floor.journal.executions.last().cloned().expect("a fill");
    for _ in 0..5 {
        assert_eq!(floor.desk.on_execution(&fill, floor.now), None);
        assert_eq!(floor.held("BTC"), qty("0.002"));
        assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("9699.91"), usd("300")));
    }
    floor.canceled("a-1");
    floor.desk.on_execution(&fill, floor.now);
    assert_eq!((floor.held("BTC"), floor.held("USDT")), (qty("0.002"), qty("9880")));
    floor.assert_books_agree();
}

#[test]
fn a_repeated_failure_counts_once_and_the_same_report_id_of_another_order_is_another_report() {
    let mut floor = floor().unhurried().open();
    floor.approve(&buy("a-1"));
    floor.in_doubt("a-1");
    let (Execution::ExecutionReport(doubt), _) = floor.journal.executions.last().cloned().expect("a report") else {
        panic!("a report");
    };
    for _ in 0..10 {
        floor.desk.on_execution(&Execution::ExecutionReport(doubt.clone()), floor.now);
    }
    assert_eq!(floor.desk.breaker().state(), State::Closed);
    for name in ["a-2", "a-3"] {
        floor.approve(&buy(name));
        let mut same_exec_id = doubt.clone();
        same_exec_id.cl_ord_id = id(name);
        floor.desk.on_execution(&Execution::ExecutionReport(same_exec_id), floor.now);
    }
    assert!(matches!(floor.desk.breaker().state(), State::Open { cause: Cause::ConsecutiveFailures, .. }));
}

#[test]
fn a_snapshot_after_the_fills_counts_none_of_them_twice_and_shows_foreign_locks() {
    let mut floor = floor().holding("BTC", "0.01").open();
    floor.approve(&buy("a-1").limit("59000.00", "0.004"));
    floor.approve(&sell("s-1").limit("61000.00", "0.004"));
    floor.acknowledged("a-1");
    floor.acknowledged("s-1");
    floor.filled_free("a-1", "0.001", "59000.00");
    let before = (floor.free_quote(), floor.free_base("BTC"));
    assert_eq!(before, (usd("9763.9115"), qty("0.007")));
    floor.snapshot();
    assert_eq!((floor.free_quote(), floor.free_base("BTC")), before);

    floor.snapshot_with_foreign_locks("500", "0.002");
    assert_eq!((floor.free_quote(), floor.free_base("BTC")), (usd("9263.9115"), qty("0.005")));
    floor.refuse(&sell("s-2").limit("61000.00", "0.005001"), Reason::InsufficientBalance);
    floor.wait(SECOND);
    assert_eq!((floor.free_quote(), floor.free_base("BTC")), before);
}

#[test]
fn what_any_report_showed_at_the_exchange_locks_our_own_and_what_is_only_on_its_way_does_not() {
    let sightings = [
        (ExecType::New, OrdStatus::New),
        (ExecType::OrderStatus, OrdStatus::New),
        (ExecType::OrderStatus, OrdStatus::PartiallyFilled),
        (ExecType::PendingCancel, OrdStatus::PendingCancel),
    ];
    let resting = || {
        let mut floor = floor().unhurried().holding("BTC", "0.01").open();
        floor.approve(&buy("a-1").limit("59000.00", "0.004"));
        floor.approve(&sell("s-1").limit("61000.00", "0.004"));
        floor
    };
    for (exec_type, ord_status) in sightings {
        let mut floor = resting();
        for name in ["a-1", "s-1"] {
            floor.in_doubt(name);
            floor.ended(name, exec_type, ord_status);
        }
        floor.snapshot();
        assert_eq!((floor.free_quote(), floor.free_base("BTC")), (usd("9763.882"), qty("0.006")), "{ord_status:?}");
        floor.snapshot_with_foreign_locks("500", "0.002");
        assert_eq!((floor.free_quote(), floor.free_base("BTC")), (usd("9263.882"), qty("0.004")), "{ord_status:?}");
    }

    let mut floor = resting();
    floor.filled_free("a-1", "0.001", "59000.00");
    floor.filled_free("s-1", "0.001", "61000.00");
    floor.snapshot();
    assert_eq!((floor.free_quote(), floor.free_base("BTC")), (usd("9824.9115"), qty("0.007")), "a fill comes first");

    let mut floor = resting();
    for name in ["a-1", "s-1"] {
        floor.ended(name, ExecType::PendingNew, OrdStatus::PendingNew);
        floor.in_doubt(name);
    }
    floor.snapshot_with_foreign_locks("500", "0.002");
    assert_eq!((floor.free_quote(), floor.free_base("BTC")), (usd("9263.882"), qty("0.004")), "only on its way");
}

#[test]
fn an_older_price_never_replaces_a_newer_one() {
    let mut floor = floor().open();
    let newest = floor.quotes[&symbol("BTCUSDT")].clone();
    let older = Quote { bid: price(decimal("1.00")), ask: price(decimal("1.00")), ts: newest.ts.plus_ms(-1), ..newest };
    floor.desk.on_quote(older);
    floor.approve(&buy("a-1"));
}

#[test]
fn a_withdrawn_approval_holds_nothing_and_its_order_is_decided_again_under_the_stop_that_came_between() {
    let mut floor = floor().open();
    let wish = buy("a-1").limit("60000.00", "0.005");
    let verdict = floor.approve(&wish);
    floor.desk.withdraw(&verdict);
    assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("10000"), usd("0")));
    floor.stop(Stops { all: Some("drill".to_owned()), ..Stops::default() });
    let again = verdict_of(floor.resend("a-1"));
    assert_eq!(again.reason, Some(Reason::EmergencyStop));
    assert_eq!(answer(&floor.resend("a-1")), Answer::Replay);
}

#[test]
fn a_withdrawn_order_is_approved_and_reserved_again_at_once_when_the_stop_came_and_went() {
    let mut floor = floor().open();
    floor.approve(&buy("b-1").of_strategy("grid").limit("60000.00", "0.005"));
    let verdict = floor.approve(&buy("a-1").limit("60000.00", "0.005"));
    floor.stop(Stops { all: Some("drill".to_owned()), ..Stops::default() });
    floor.desk.withdraw(&verdict);
    assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("9699.85"), usd("300")));
    floor.stop(Stops::default());
    assert_eq!(answer(&floor.resend("a-1")), Answer::Approved);
    assert_eq!((floor.free_quote(), floor.position("BTC")), (usd("9399.7"), usd("600")));
    floor.assert_books_agree();
    floor.wait(SECOND);
    floor.refuse(&buy("a-2").limit("60000.00", "0.005"), Reason::DuplicateOrder);
    floor.refuse(&buy("b-2").of_strategy("grid").limit("60000.00", "0.005"), Reason::DuplicateOrder);
    floor.filled_free("a-1", "0.005", "60000.00");
    floor.assert_books_agree();
}

#[test]
fn a_withdrawn_probe_makes_room_for_another() {
    let mut floor = half_open_floor(floor().unhurried());
    let verdict = floor.approve(&buy("probe-1").market_for("15"));
    floor.refuse(&buy("a-1").market_for("15"), Reason::CircuitOpen);
    floor.desk.withdraw(&verdict);
    floor.sent.remove("probe-1");
    floor.approve(&buy("probe-2").market_for("15"));
    floor.refuse(&buy("a-2").market_for("15"), Reason::CircuitOpen);
}

#[test]
fn an_id_stays_taken_for_thirty_five_days_and_is_forgotten_after_them() {
    let mut floor = floor().open();
    floor.approve(&buy("a-1"));
    floor.canceled("a-1");
    let last_day = floor.now.day().number() + CL_ORD_ID_DAYS;
    floor.wait_until(UtcDay::from_number(last_day + 1).start().plus_ms(-1));
    floor.desk.prune(floor.now);
    floor.refuse(&buy("a-1").market_for("50"), Reason::DuplicateClOrdId);
    assert_eq!(answer(&floor.resend("a-1")), Answer::Replay);
    floor.wait(1);
    floor.desk.prune(floor.now);
    floor.approve(&buy("a-1").market_for("50"));
}

#[test]
fn an_unreadable_or_incomplete_verdict_is_an_error_when_it_is_recalled() {
    let mut floor = floor().open();
    let approved = floor.approve(&buy("a-1")).to_json();
    let refused = floor.refuse(&buy("a-2").limit("60000.00", "0.009"), Reason::OrderTooLarge).to_json();
    let mut desk = rebuilt(&floor, floor.desk.limits().clone(), Breaker::default());
    for bad in [
        String::new(),
        "{}".to_owned(),
        approved[..approved.len() - 1].to_owned(),
        approved.replace("\"notional\":\"60.00000\"", "\"notional\":\"many\""),
        approved.replace("\"notional\":\"60.00000\",", ""),
        approved.replace("\"BUY\"", "\"buy\""),
        approved.replace("\"qty\":\"0.001\"", "\"qty\":\"x\""),
    ] {
        assert_ne!(bad, approved);
        assert!(desk.recall(bad.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(desk.recall(refused.as_bytes()), Ok(()));
    assert_eq!(desk.portfolio().orders().len(), 1);
}

#[test]
fn a_restart_frees_nothing_of_a_day_with_every_kind_of_order() {
    let mut floor = floor().holding("BTC", "0.005").open();
    floor.approve(&buy("resting").limit("59000.00", "0.002"));
    floor.acknowledged("resting");
    floor.approve(&buy("filled").limit("60000.00", "0.002"));
    floor.filled_free("filled", "0.002", "60000.00");
    floor.wait(SECOND);
    floor.approve(&buy("partly").on("ETHUSDT").limit("2000.00", "0.1"));
    floor.acknowledged("partly");
    floor.filled_free("partly", "0.04", "2000.00");
    floor.approve(&buy("doubtful").on("ETHUSDT").market_for("100"));
    floor.in_doubt("doubtful");
    floor.wait(SECOND);
    floor.approve(&sell("selling").limit("61000.00", "0.003"));
    floor.approve(&buy("waiting").limit("59500.00", "0.001"));
    floor.approve(&buy("unanswered").of_strategy("grid").limit("60000.00", "0.001"));
    let look = |floor: &Floor| {
        let position = (floor.position("BTC"), floor.position("ETH"));
        (floor.free_quote(), floor.free_base("BTC"), floor.free_base("ETH"), position, floor.desk.day(floor.now))
    };
    let before = look(&floor);
    for _ in 0..3 {
        floor.restart();
        assert_eq!(look(&floor), before);
        floor.assert_books_agree();
    }
    floor.refuse(&buy("unanswered").limit("60000.00", "0.002"), Reason::DuplicateClOrdId);
    assert_eq!(answer(&floor.resend("resting")), Answer::Replay);
    floor.refuse(&buy("twin").of_strategy("grid").limit("60000.00", "0.001"), Reason::DuplicateOrder);
    floor.refuse(&buy("third").limit("60000.00", "0.001"), Reason::Throttled);
}

#[test]
fn a_restart_keeps_an_open_breaker_open_and_exits_possible() {
    for cause in [Cause::DailyLoss, Cause::ClockOffset] {
        let mut floor = floor().holding("BTC", "0.01").open();
        floor.desk.on_breaker(Input::Trip(cause), floor.now);
        let state = floor.desk.breaker().state();
        floor.wait(SECOND);
        floor.restart();
        assert_eq!(floor.desk.breaker().state(), state);
        floor.refuse(&buy("a-1"), Reason::CircuitOpen);
        floor.approve(&sell("s-1").market("0.01"));
    }
}

#[test]
fn a_restart_after_the_breaker_recovered_or_was_reset_counts_the_old_failures_no_more() {
    for is_reset in [true, false] {
        let mut floor = floor().unhurried().open();
        for name in ["a-1", "a-2", "a-3"] {
            floor.approve(&buy(name));
            floor.in_doubt(name);
        }
        assert!(matches!(floor.desk.breaker().state(), State::Open { .. }));
        floor.wait(300 * SECOND);
        if is_reset {
            floor.desk.on_breaker(Input::Reset, floor.now);
        } else {
            floor.approve(&buy("probe").market_for("15"));
            floor.acknowledged("probe");
        }
        floor.wait(SECOND);
        floor.restart();
        assert_eq!(floor.desk.breaker().state(), State::Closed);
        floor.approve(&buy("b-1").market_for("100"));
        floor.in_doubt("b-1");
        floor.restart();
        floor.approve(&buy("b-2").market_for("100"));
        floor.in_doubt("b-2");
        assert_eq!(floor.desk.breaker().state(), State::Closed);
        floor.restart();
        floor.approve(&buy("b-3").market_for("100"));
        floor.in_doubt("b-3");
        assert!(matches!(floor.desk.breaker().state(), State::Open { .. }), "three failures since, over two restarts");
    }
}

#[test]
fn a_restart_after_an_operators_reset_is_not_latched_again_by_what_was_found_before_it() {
    for kind in [FindingKind::ForeignOrder, FindingKind::ForeignTrade, FindingKind::BalanceBreak] {
        let mut floor = floor().unhurried().open();
        floor.found_by_reconciliation(kind, floor.now);
        floor.wait(HOUR);
        let reset_at = floor.now;
        assert_eq!(floor.desk.on_breaker(Input::Reset, reset_at), Some(State::Closed));
        for _ in 0..2 {
            floor.wait(SECOND);
            floor.restart();
            assert_eq!(floor.desk.breaker().state(), State::Closed, "{kind:?}");
        }
        floor.approve(&buy("a-1"));
        assert_eq!(floor.found_by_reconciliation(kind, reset_at.plus_ms(-1)), None, "{kind:?}");
        let latched = floor.found_by_reconciliation(kind, reset_at);
        assert!(matches!(latched, Some(State::Open { retry_at: None, .. })), "{kind:?}");
        floor.restart();
        assert_eq!(Some(floor.desk.breaker().state()), latched);
    }
}

#[test]
fn a_restart_while_half_open_takes_no_order_for_the_probe_that_was_approved_before() {
    let mut floor = floor().unhurried().open();
    floor.approve(&buy("old").limit("59000.00", "0.001"));
    floor.acknowledged("old");
    floor.desk.on_breaker(Input::Trip(Cause::ClockOffset), floor.now);
    floor.wait(300 * SECOND);
    floor.restart();
    floor.approve(&buy("probe-1").market_for("15"));
    assert!(matches!(floor.in_doubt("probe-1"), Some(State::Open { .. })));
    floor.wait(600 * SECOND);
    floor.restart();
    assert!(matches!(floor.desk.breaker().state(), State::HalfOpen { .. }));
    floor.approve(&buy("probe-2").market_for("15"));
    floor.restart();
    floor.refuse(&buy("a-1").market_for("15"), Reason::CircuitOpen);
    assert!(floor.is_open("old") && floor.is_open("probe-1"));
    assert_eq!(floor.acknowledged("probe-2"), Some(State::Closed));
}

#[test]
fn a_restart_while_the_probe_is_in_flight_admits_no_second_one() {
    let mut floor = half_open_floor(floor().unhurried());
    floor.approve(&buy("probe-1").market_for("15"));
    floor.wait(SECOND);
    floor.restart();
    floor.refuse(&buy("a-1").market_for("15"), Reason::CircuitOpen);
    assert_eq!(floor.acknowledged("probe-1"), Some(State::Closed));
    floor.approve(&buy("a-2").market_for("100"));
}

/// Steele, Lea and Flood's splitmix64: a history is its seed.
struct SplitMix64(u64);

impl SplitMix64 {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// From 0 to `bound` - 1.
    fn below(&mut self, bound: i64) -> i64 {
        i64::try_from(self.next() >> 1).expect("63 bits").rem_euclid(bound)
    }
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(high - low + 1)
    }
    fn percent(&mut self, chance: i64) -> bool {
        self.below(100) < chance
    }
    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        let bound = i64::try_from(items.len()).expect("a short list");
        items[usize::try_from(self.below(bound)).expect("an index")].clone()
    }
}

/// Names the seed when a test fails anywhere in its history.
struct SeedOnFailure(u64);

impl Drop for SeedOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing history has seed {}", self.0);
        }
    }
}

/// Runs one history per seed; a failure prints the seed, and the history of one seed is always the same.
fn for_each_seed(count: u64, history: impl Fn(&mut SplitMix64)) {
    for seed in 0..count {
        let _named = SeedOnFailure(seed);
        history(&mut SplitMix64(seed));
    }
}

fn random_setup(rng: &mut SplitMix64) -> Setup {
    let order_size = rng.pick(&["100", "300", "500"]);
    let position_size = rng.pick(&["500", "700", "1000"]);
    let (position_pct, exposure) = rng.pick(&[("0.05", "0.08"), ("0.10", "0.15"), ("0.10", "0.30"), ("1", "1")]);
    let setup = floor()
        .limit("MAX_ORDER_SIZE_USD", order_size)
        .limit("MAX_POSITION_SIZE_USD", position_size)
        .limit("MAX_POSITION_PCT", position_pct)
        .limit("MAX_TOTAL_EXPOSURE", exposure)
        .limit("MAX_DAILY_ORDERS", rng.pick(&["4", "15", "50"]))
        .limit("MAX_DAILY_NOTIONAL_USD", rng.pick(&["600", "2500", "10000"]))
        .limit("MAX_NOTIONAL_PER_MINUTE_USD", rng.pick(&["500", "600"]))
        .limit("MAX_REPEATED_ORDERS", rng.pick(&["1", "3", "10"]))
        .limit("REPEAT_WINDOW_SEC", rng.pick(&["1", "10", "60"]))
        .limit("MAX_OPEN_ORDERS", rng.pick(&["2", "5", "20"]))
        .limit("MAX_ORDERS_PER_SECOND", rng.pick(&["2", "5"]))
        .limit("MAX_STRATEGY_ORDERS_PER_SECOND", rng.pick(&["1", "2"]))
        .limit("DUPLICATE_WINDOW_MS", rng.pick(&["0", "2000", "10000"]));
    match rng.below(3) {
        0 => setup,
        1 => setup.holding("USDT", "1500").holding("BTC", "0.004").holding("ETH", "0.1"),
        _ => setup.holding("USDT", "9000").holding("BTC", "0.002"),
    }
}

fn text(value: Decimal) -> String {
    value.normalize().to_string()
}

impl Floor {
    fn random_wish(&self, rng: &mut SplitMix64, name: &str) -> Wish {
        if let Some(latest) = &self.latest
            && rng.percent(8)
        {
            return Wish { id: name.to_owned(), ..latest.clone() };
        }
        let pair = rng.pick(&["BTCUSDT", "BTCUSDT", "ETHUSDT"]);
        let quote = &self.quotes[&symbol(pair)];
        let is_buy = rng.percent(65);
        let wish = if is_buy { buy(name) } else { sell(name) };
        let wish = wish.on(pair).of_strategy(rng.pick(&["trend", "grid", "carry"]));
        let reference = quote.aggressive(wish.side).decimal();
        let at = (reference * Decimal::new(1_000 + rng.between(-30, 30), 3)).round_dp(2);
        let base = asset(pair.trim_end_matches("USDT"));
        let held = self.held.get(&base).copied().unwrap_or_default();
        let amount =
            Decimal::new(rng.pick(&[800, 1_050, 1_500, 2_500, 5_000, 8_000, 12_000, 28_000, 49_000, 52_000]), 2);
        let quantity = if is_buy || held.is_zero() {
            (amount / at).round_dp(6)
        } else {
            (held * Decimal::new(rng.pick(&[10, 30, 50, 100, 101]), 2)).trunc_with_scale(6)
        };
        let quantity = quantity.max(decimal("0.000001"));
        let wish = match rng.below(10) {
            0..5 => wish.limit(&text(at), &text(quantity)),
            5 => wish.limit_with(&text(at), &text(quantity), "IOC"),
            6 if is_buy => wish.market_for(&text(amount)),
            _ => wish.market(&text(quantity)),
        };
        if is_buy || rng.percent(70) { wish } else { wish.reduce_only() }
    }

    fn random_quote(&mut self, rng: &mut SplitMix64) {
        let pair = rng.pick(&["BTCUSDT", "ETHUSDT"]);
        let step = if rng.percent(10) { rng.between(-60, 60) } else { rng.between(-6, 6) };
        let bid = (self.quotes[&symbol(pair)].bid.decimal() * Decimal::new(1_000 + step, 3)).round_dp(2);
        let spread = (bid * Decimal::new(rng.pick(&[0, 1, 5, 20, 200]), 4)).round_dp(2);
        self.quote(pair, bid, bid + spread);
    }

    fn random_report(&mut self, rng: &mut SplitMix64) {
        let open: Vec<String> =
            self.sent.iter().filter(|(_, sent)| sent.is_open).map(|(name, _)| name.clone()).collect();
        if open.is_empty() {
            return;
        }
        let name = rng.pick(&open);
        match rng.below(12) {
            0..2 => drop(self.acknowledged(&name)),
            2..8 => self.random_fill(rng, &name),
            8 => drop(self.canceled(&name)),
            9 => drop(self.in_doubt(&name)),
            10 => drop(self.found(&name)),
            _ if self.sent[&name].filled.is_zero() => {
                let reason = rng.pick(&["venue_insufficient_balance", "not_accepted", "expired", "venue_rate_limited"]);
                self.rejected(&name, reason);
            }
            _ => drop(self.ended(&name, ExecType::Expired, OrdStatus::Expired)),
        }
    }

    /// Fills some or all of an order at its worst price or up to 1 % better.
    fn random_fill(&mut self, rng: &mut SplitMix64, name: &str) {
        let sent = &self.sent[name];
        let better = Decimal::new(rng.pick(&[0, 0, 1, 10]), 3);
        let factor = if sent.order.side == Side::Buy { Decimal::ONE - better } else { Decimal::ONE + better };
        let at = (sent.worst_price * factor).trunc_with_scale(2);
        let left = match sent.order.quote_qty() {
            Some(_) => (sent.worst_cost() / at).trunc_with_scale(6),
            None => sent.leaves(),
        };
        let part = (left * Decimal::new(rng.pick(&[10, 33, 50, 100]), 2)).trunc_with_scale(6);
        if part > Decimal::ZERO {
            self.filled(name, part, at);
        } else {
            self.ended(name, ExecType::OrderStatus, OrdStatus::Filled);
        }
    }

    fn random_step(&mut self, rng: &mut SplitMix64, step: usize) {
        match rng.below(20) {
            0..8 => {
                let wish = self.random_wish(rng, &format!("o-{step}"));
                self.decide(&wish);
            }
            8..14 => self.random_report(rng),
            14 => self.random_quote(rng),
            15 => {
                let cancel = format!(r#"{{"v":1,"type":"cancel","cl_ord_id":"c-{step}","orig_cl_ord_id":"o-1"}}"#);
                assert_eq!(answer(&self.decide_bytes(cancel.as_bytes())), Answer::Approved);
            }
            16 => {
                let known: Vec<String> = self.sent.keys().cloned().collect();
                if !known.is_empty() {
                    assert_eq!(answer(&self.resend(&rng.pick(&known))), Answer::Replay);
                }
            }
            17 => {
                let count = i64::try_from(self.journal.executions.len()).expect("a count");
                let index = usize::try_from(rng.below(count)).expect("an index");
                let (execution, _) = &self.journal.executions[index];
                if matches!(execution, Execution::ExecutionReport(_)) {
                    self.execute(execution.clone());
                }
            }
            18 if rng.percent(8) => self.wait(rng.between(1, 14) * HOUR),
            18 if rng.percent(20) => self.restart(),
            18 if rng.percent(20) => {
                let wish = self.random_wish(rng, &format!("w-{step}"));
                self.decide_and_take_back(&wish);
            }
            _ => self.wait(rng.pick(&[1, 50, 200, 500, 999, 1_000, 2_000, 4_000])),
        }
        self.assert_books_agree();
    }
}

#[test]
fn whatever_the_history_every_limit_held_at_the_time_of_every_approval() {
    let totals = std::cell::RefCell::new(BTreeMap::<Answer, u64>::new());
    for_each_seed(200, |rng| {
        let setup = random_setup(rng);
        let mut floor = if rng.percent(50) { setup.forgiving() } else { setup }.open().watched();
        for step in 0..200 {
            floor.random_step(rng, step);
        }
        for (answer, count) in &floor.answers {
            *totals.borrow_mut().entry(*answer).or_default() += count;
        }
    });
    let totals = totals.borrow();
    let count_of = |answer: Answer| totals.get(&answer).copied().unwrap_or_default();
    assert!(count_of(Answer::Approved) > 3_000, "{totals:?}");
    for reason in [
        Reason::CircuitOpen,
        Reason::OrderTooSmall,
        Reason::OrderTooLarge,
        Reason::PositionTooLarge,
        Reason::PositionPctExceeded,
        Reason::ExposureExceeded,
        Reason::InsufficientBalance,
        Reason::TooManyOpenOrders,
        Reason::DailyOrderLimit,
        Reason::DailyNotionalLimit,
        Reason::Throttled,
        Reason::DuplicateOrder,
        Reason::SelfTrade,
    ] {
        assert!(count_of(Answer::Refused(reason)) > 20, "{reason} bound too rarely to be tested: {totals:?}");
    }
}

#[test]
fn whatever_the_history_a_rebuilt_desk_decides_the_next_orders_as_the_original() {
    for_each_seed(150, |rng| {
        let setup = random_setup(rng);
        let mut floor = if rng.percent(50) { setup.forgiving() } else { setup }.open();
        let steps = usize::try_from(rng.between(5, 120)).expect("a count");
        for step in 0..steps {
            floor.random_step(rng, step);
        }
        let mut twin = rebuilt(&floor, floor.desk.limits().clone(), floor.persisted_breaker());
        assert_eq!(twin.breaker().state(), floor.desk.breaker().state());
        assert_eq!(twin.day(floor.now), floor.desk.day(floor.now));
        assert_eq!(twin.portfolio().orders().len(), floor.desk.portfolio().orders().len());
        for name in ["USDT", "BTC", "ETH"] {
            assert_eq!(twin.portfolio().held(&asset(name)), floor.held(name));
        }
        assert_eq!(twin.portfolio().free_quote(&asset("USDT")), floor.free_quote());
        for n in 0..20 {
            let wish = floor.random_wish(rng, &format!("next-{n}"));
            let bytes = wish.json(floor.now);
            let entry = EntryId::parse(&format!("{}-{n}", floor.now.millis())).expect("an entry id");
            let of_twin = answer(&twin.decide(&entry, bytes.as_bytes(), floor.now));
            let of_original = answer(&floor.decide(&wish));
            assert_eq!(of_twin, of_original, "order {n}: {wish:?}");
            floor.now = floor.now.plus_ms(rng.pick(&[0, 10, 300, 1_000]));
            for quote in floor.quotes.values_mut() {
                quote.ts = floor.now;
                twin.on_quote(quote.clone());
                floor.desk.on_quote(quote.clone());
            }
        }
        for cl_ord_id in floor.sent.keys() {
            let bytes = floor.sent[cl_ord_id].bytes.clone();
            let entry = EntryId::parse("1-1").expect("an entry id");
            assert_eq!(answer(&twin.decide(&entry, bytes.as_bytes(), floor.now)), Answer::Replay);
        }
    });
}

/// Makes one limit stricter, and nothing else; says which.
fn tighten(limits: &mut Limits, rng: &mut SplitMix64) -> &'static str {
    let share = Decimal::new(rng.between(1, 99), 2);
    let name = rng.pick(&TIGHTENED);
    match name {
        "position" => limits.max_position_size_usd = limits.max_position_size_usd.share(share),
        "position share" => limits.max_position_pct *= share,
        "exposure" => limits.max_total_exposure *= share,
        "smallest order" => limits.min_order_size_usd = limits.min_order_size_usd + limits.min_order_size_usd,
        "largest order" => limits.max_order_size_usd = limits.max_order_size_usd.share(share),
        "symbols" => drop(limits.allowed_symbols.pop_last()),
        "strategies" => {
            let trend = StrategyId::parse("trend").expect("a strategy");
            limits.allowed_strategies = AllowedStrategies::Only(BTreeSet::from([trend]));
        }
        "daily orders" => limits.max_daily_orders = fewer_than(limits.max_daily_orders, rng),
        "amount per minute" => limits.max_notional_per_minute_usd = limits.max_notional_per_minute_usd.share(share),
        "repeats" => limits.max_repeated_orders = fewer_than(limits.max_repeated_orders, rng),
        "window for repeats" => limits.repeat_window_sec += rng.between(1, 60),
        "daily amount" => limits.max_daily_notional_usd = limits.max_daily_notional_usd.share(share),
        "open orders" => limits.max_open_orders = fewer_than(limits.max_open_orders, rng),
        "orders per second" => limits.max_orders_per_second = fewer_than(limits.max_orders_per_second, rng),
        "orders per second of a strategy" => {
            limits.max_strategy_orders_per_second = fewer_than(limits.max_strategy_orders_per_second, rng);
        }
        "collar" => limits.max_price_deviation_pct *= share,
        "price age" => limits.max_price_age_ms = rng.between(0, limits.max_price_age_ms),
        "spread" => limits.max_spread_pct *= share,
        "order age" => limits.max_order_age_ms = rng.between(0, limits.max_order_age_ms),
        "window for duplicates" => limits.duplicate_window_ms += rng.between(1, 20_000),
        _ => panic!("{name} is no limit"),
    }
    name
}

const TIGHTENED: [&str; 20] = [
    "position",
    "position share",
    "exposure",
    "smallest order",
    "largest order",
    "symbols",
    "strategies",
    "daily orders",
    "daily amount",
    "open orders",
    "orders per second",
    "orders per second of a strategy",
    "collar",
    "price age",
    "spread",
    "order age",
    "window for duplicates",
    "amount per minute",
    "repeats",
    "window for repeats",
];

fn fewer_than(count: u64, rng: &mut SplitMix64) -> u64 {
    let count = i64::try_from(count).expect("a small count");
    u64::try_from(rng.between(0, count - 1)).expect("a count")
}

#[test]
fn after_the_same_history_a_tighter_limit_never_approves_what_a_looser_one_refused() {
    let bound = std::cell::RefCell::new(BTreeMap::<&'static str, u64>::new());
    for_each_seed(100, |rng| {
        let setup = random_setup(rng).forgiving();
        let mut floor = if rng.percent(70) { setup.unhurried() } else { setup }.open();
        let steps = usize::try_from(rng.between(2, 40)).expect("a count");
        for step in 0..steps {
            floor.random_step(rng, step);
        }
        floor.now = floor.now.plus_ms(rng.pick(&[0, 10, 300, 3_000]));
        for n in 0..10 {
            let wish = floor.random_wish(rng, &format!("next-{n}"));
            let bytes = wish.json(floor.now.plus_ms(-rng.between(0, 3_000)));
            let entry = EntryId::parse("1-1").expect("an entry id");
            let decide = |limits: Limits| {
                let mut desk = rebuilt(&floor, limits, Breaker::default());
                answer(&desk.decide(&entry, bytes.as_bytes(), floor.now))
            };
            let of_loose = decide(floor.desk.limits().clone());
            for _ in 0..3 {
                let mut limits = floor.desk.limits().clone();
                let tightened = tighten(&mut limits, rng);
                let of_tight = decide(limits);
                if of_loose != Answer::Approved {
                    assert_ne!(of_tight, Answer::Approved, "tighter {tightened} approves {wish:?}: {of_loose:?}");
                } else if of_tight != Answer::Approved {
                    *bound.borrow_mut().entry(tightened).or_default() += 1;
                }
            }
        }
    });
    assert!(bound.borrow().len() >= 12, "too few limits were seen to bind: {bound:?}");
}

/// Verdicts of a small history under watch, each as it would be published, with its order.
fn watched_verdicts() -> (SecondOpinion, Vec<(String, String)>) {
    let mut floor = floor().limit("REPEAT_WINDOW_SEC", "30").open().watched();
    let mut orders = Vec::new();
    for wish in [buy("a-1"), buy("a-2").limit("60000.00", "0.1"), sell("a-3"), buy("a-4").market_for("50")] {
        orders.push(wish.json(floor.now));
        floor.decide(&wish);
        floor.wait(SECOND);
    }
    let cancel = r#"{"v":1,"type":"cancel","cl_ord_id":"c-1","orig_cl_ord_id":"a-1"}"#;
    orders.push(cancel.to_owned());
    floor.decide_bytes(cancel.as_bytes());
    let second = floor.onlooker();
    (second, floor.journal.verdicts.into_iter().zip(orders).collect())
}

/// What a second look says of each verdict after `change` was made to the text of one.
fn opinions_with(index: usize, change: impl Fn(&str) -> String) -> Vec<Opinion> {
    let (mut second, mut verdicts) = watched_verdicts();
    let changed = change(&verdicts[index].0);
    assert_ne!(changed, verdicts[index].0, "nothing was changed");
    verdicts[index].0 = changed;
    let look = |(json, order): &(String, String)| {
        second.on_verdict(json.as_bytes(), Some(order.as_bytes())).expect("a verdict").expect("not seen before").opinion
    };
    verdicts.iter().map(look).collect()
}

#[test]
fn a_second_look_sees_a_decision_that_the_rules_do_not_give() {
    let replaced = |from: &'static str, to: &'static str| move |json: &str| json.replacen(from, to, 1);
    let approved_anyway = |json: &str| {
        let (head, tail) = json.split_once(r#""decision":"rejected","reason":"order_too_large""#).expect("a refusal");
        format!(r#"{head}"decision":"approved"{tail}"#)
    };
    let cases: Vec<(usize, &str, Vec<Opinion>)> = vec![
        (1, "was approved, is rejected (order_too_large)", opinions_with(1, approved_anyway)),
        (0, "another command", opinions_with(0, replaced(r#""qty":"0.001""#, r#""qty":"0.002""#))),
        (3, "may be acted on for", opinions_with(3, |json| json.replacen(r#""expires_at":1"#, r#""expires_at":2"#, 1))),
        (2, "was rejected (throttled), is rejected", opinions_with(2, replaced("insufficient_balance", "throttled"))),
        (0, "hash", opinions_with(0, replaced(r#""MAX_ORDER_SIZE_USD":"500""#, r#""MAX_ORDER_SIZE_USD":"501""#))),
        (0, "cannot be", opinions_with(0, replaced(r#""MAX_ORDER_SIZE_USD":"500""#, r#""MAX_ORDER_SIZE_USD":"x""#))),
    ];
    for (index, expected, opinions) in cases {
        let Opinion::Differs(text) = &opinions[index] else { panic!("{expected}: {opinions:?}") };
        assert!(text.contains(expected), "{text}");
        assert!(opinions[..index].iter().all(|opinion| *opinion == Opinion::Same), "{opinions:?}");
    }
}

#[test]
fn a_second_look_sees_a_figure_that_is_another() {
    let shown = r#""check":"order_too_large","value":"60""#;
    let opinions = opinions_with(0, |json| json.replacen(shown, r#""check":"order_too_large","value":"6""#, 1));
    let expected = "was order_too_large 6 of 500, is order_too_large 60 of 500";
    assert_eq!(opinions[0], Opinion::OtherFigures(expected.to_owned()));
    assert!(opinions[1..].iter().all(|opinion| *opinion == Opinion::Same), "{opinions:?}");
}

#[test]
fn a_second_look_cannot_tell_after_a_verdict_is_missing_until_all_is_recorded_anew() {
    let mut floor = floor().open().watched();
    let mut orders = Vec::new();
    let wishes = [buy("a-1"), buy("a-2").limit("60000.00", "0.1"), sell("a-3"), buy("a-4").limit("59000.00", "0.002")];
    for (index, wish) in wishes.iter().enumerate() {
        if index == 3 {
            floor.decide_and_take_back(&buy("t-1").limit("58000.00", "0.003"));
        }
        orders.push(wish.json(floor.now));
        floor.decide(wish);
    }
    let mut second = floor.onlooker();
    let look = |second: &mut SecondOpinion, index: usize| {
        let (json, order) = (floor.journal.verdicts[index].as_bytes(), orders[index].as_bytes());
        second.on_verdict(json, Some(order)).expect("a verdict").map(|reviewed| reviewed.opinion)
    };
    assert_eq!(look(&mut second, 0), Some(Opinion::Same));
    assert_eq!(look(&mut second, 0), None, "published again");
    assert!(matches!(look(&mut second, 2), Some(Opinion::CannotTell(_))));
    assert_eq!(look(&mut second, 3), Some(Opinion::Same), "a whole record is understood");
    let doubled = floor.journal.verdicts[0].replacen(r#""qty":"0.001""#, r#""qty":"0.009""#, 1);
    let reviewed = second.on_verdict(doubled.as_bytes(), Some(orders[0].as_bytes())).expect("a verdict");
    assert!(matches!(reviewed.expect("other bytes").opinion, Opinion::Differs(_)), "a second answer to one order");
    assert!(second.on_verdict(b"{}", None).is_err());
}
