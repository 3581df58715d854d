//! The risk service's whole state: one order in, one decision out.
//!
//! Everything here is rebuilt after a restart from the verdicts and reports on the streams ([`Desk::recall`],
//! [`Desk::on_execution`]), so that no restart frees a limit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::breaker::{self, Breaker};
use crate::checks::{self, CheckResult, Context, Evaluation, Figure, Stop};
use crate::command::{Command, Malformed};
use crate::fields::FieldFault;
use crate::ids::{ClOrdId, EntryId, StrategyId, Symbol};
use crate::inputs::{Inputs, Recorder};
use crate::limits::Limits;
use crate::market::Quote;
use crate::money::{Notional, Price};
use crate::order::NewOrder;
use crate::pnl::{DayResult, Figures};
use crate::portfolio::Portfolio;
use crate::reason::{GateRefusal, Reason, VenueRefusal};
use crate::report::{ExecType, Execution, ExecutionReport, OrdStatus};
use crate::symbol_rules::{SymbolRules, USD_ASSETS};
use crate::time::{Timestamp, UtcDay};
use crate::verdict::Verdict;
use crate::window::{DayCount, Pace};

/// How long a ClOrdID stays taken, days.
pub const CL_ORD_ID_DAYS: i64 = 35;

/// The stops in force, as last read from Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stops {
    /// `emergency_stop`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<String>,
    /// `emergency_stop:symbol:<S>`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub symbols: BTreeMap<Symbol, String>,
    /// `emergency_stop:strategy:<S>`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub strategies: BTreeMap<StrategyId, String>,
}

impl Stops {
    /// The widest stop that covers an order.
    #[must_use]
    pub fn covering(&self, order: &NewOrder) -> Option<Stop> {
        let stop = |scope: String, reason: &String| Stop { scope, reason: reason.clone() };
        if let Some(reason) = &self.all {
            return Some(stop("all".to_owned(), reason));
        }
        if let Some(reason) = self.symbols.get(&order.symbol) {
            return Some(stop(format!("symbol {}", order.symbol), reason));
        }
        self.strategies.get(&order.strategy).map(|reason| stop(format!("strategy {}", order.strategy), reason))
    }
}

/// A ClOrdID that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Fingerprint of the content it was used for.
    pub fingerprint: u64,
    /// The day in whose bucket it is kept.
    pub day: UtcDay,
}

/// What became of one entry of `cdb:orders`.
#[derive(Debug, Clone)]
pub enum Decided {
    /// A new verdict, to be published; an approval has reserved already.
    Verdict {
        /// The verdict.
        verdict: Box<Verdict>,
        /// How the ClOrdID is remembered; `None` when it was remembered before.
        seen: Option<Seen>,
    },
    /// Same ClOrdID, same content: the original verdict is published again.
    Replay {
        /// The id.
        cl_ord_id: ClOrdId,
        /// The bucket that knows its verdict.
        day: UtcDay,
    },
    /// Bytes without a readable ClOrdID.
    DeadLetter(FieldFault),
}

/// What the checks say of one order.
struct Judgement {
    evaluation: Evaluation,
    ref_price: Option<Price>,
    notional: Option<Notional>,
    is_exit: bool,
}

/// Whether a report speaks for or against the health of the exchange connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    Bad,
    Silent,
}

/// Rules of the exchange are read every minute; older ones are not traded on, ms.
pub const RULES_AGE_MS_MAX: i64 = 600_000;

/// The state of the deciding risk instance.
#[derive(Debug)]
pub struct Desk {
    limits: Limits,
    limits_hash: String,
    epoch: String,
    portfolio: Portfolio,
    breaker: Breaker,
    probe: Option<ClOrdId>,
    day: DayCount,
    pace: Pace,
    seen: BTreeMap<ClOrdId, Seen>,
    twins: VecDeque<(Timestamp, u64)>,
    booked: BTreeSet<String>,
    stops: Stops,
    state_lost: Option<String>,
    result: DayResult,
    figures: Option<Figures>,
    /// When the exchange's rules were last read; `None` = they do not age (a desk that is only replayed).
    rules_as_of: Option<Timestamp>,
    /// Records what each decision is made from; `None` = nobody asks.
    recorder: Option<Recorder>,
}

impl Desk {
    /// A desk without history.
    #[must_use]
    pub fn new(limits: Limits, limits_hash: String, epoch: String, breaker: Breaker) -> Self {
        Self {
            limits_hash,
            epoch,
            portfolio: Portfolio::default(),
            breaker,
            probe: None,
            day: DayCount::default(),
            pace: Pace::new(limits.repeat_window_sec.saturating_mul(1_000)),
            seen: BTreeMap::new(),
            twins: VecDeque::new(),
            booked: BTreeSet::new(),
            stops: Stops::default(),
            state_lost: None,
            result: DayResult::default(),
            figures: None,
            rules_as_of: None,
            recorder: None,
            limits,
        }
    }

    /// The account.
    #[must_use]
    pub const fn portfolio(&self) -> &Portfolio {
        &self.portfolio
    }
    /// The breaker.
    #[must_use]
    pub const fn breaker(&self) -> &Breaker {
        &self.breaker
    }
    /// The owner's limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }
    /// Why the state cannot be trusted.
    #[must_use]
    pub fn state_lost(&self) -> Option<&str> {
        self.state_lost.as_deref()
    }
    /// Approvals of the current UTC day.
    #[must_use]
    pub fn day(&self, now: Timestamp) -> DayCount {
        self.day.on(now)
    }
    /// The stops last seen.
    #[must_use]
    pub const fn stops(&self) -> &Stops {
        &self.stops
    }

    /// Refuses every order from here on, with this reason.
    pub fn lose_state(&mut self, why: impl Into<String>) {
        self.state_lost.get_or_insert(why.into());
    }
    /// Takes the stops as read from Redis.
    pub fn on_stops(&mut self, stops: Stops) {
        self.stops = stops;
    }
    /// Says when the rules were read from the exchange; older than [`RULES_AGE_MS_MAX`] they count as unknown.
    pub const fn on_rules_as_of(&mut self, as_of: Timestamp) {
        self.rules_as_of = Some(as_of);
    }

    fn rules(&self, symbol: &Symbol, now: Timestamp) -> Option<&SymbolRules> {
        let is_aged = self.rules_as_of.is_some_and(|as_of| now.since_ms(as_of) > RULES_AGE_MS_MAX);
        self.portfolio.rules(symbol).filter(|_| !is_aged)
    }

    /// Takes a symbol's rules.
    pub fn on_rules(&mut self, rules: SymbolRules) {
        let symbol = rules.symbol.clone();
        if self.portfolio.on_rules(rules)
            && let Some(recorder) = &mut self.recorder
        {
            recorder.rules_changed(symbol);
        }
    }
    /// Takes prices.
    pub fn on_quote(&mut self, quote: Quote) {
        let symbol = quote.symbol.clone();
        if self.portfolio.on_quote(quote)
            && let Some(recorder) = &mut self.recorder
        {
            recorder.quote_changed(symbol);
        }
    }
    /// From here on every verdict carries what it was decided from.
    pub fn record_inputs(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }
    /// Says up to which entry of `cdb:executions` the desk knows what happened.
    pub fn on_learnt(&mut self, entry: &EntryId) {
        if let Some(recorder) = &mut self.recorder {
            recorder.learnt(entry);
        }
    }

    fn inputs(&mut self) -> Option<Box<Inputs>> {
        let recorder = self.recorder.as_mut()?;
        let mut inputs = recorder.take(&self.portfolio);
        inputs.rules_as_of = self.rules_as_of;
        inputs.stops = self.stops.clone();
        inputs.state_lost.clone_from(&self.state_lost);
        inputs.breaker = self.breaker.state();
        inputs.probe.clone_from(&self.probe);
        Some(Box::new(inputs))
    }

    /// Takes over what another desk decided from, so that this one decides from the same.
    pub(crate) fn assume(&mut self, inputs: &Inputs) {
        for rules in &inputs.rules {
            self.portfolio.on_rules(rules.clone());
        }
        for quote in &inputs.quotes {
            self.portfolio.on_quote(quote.clone());
        }
        self.rules_as_of = inputs.rules_as_of;
        self.stops = inputs.stops.clone();
        self.state_lost.clone_from(&inputs.state_lost);
        self.breaker = Breaker::restored(inputs.breaker, Timestamp::default(), Timestamp::default(), 0);
        self.probe.clone_from(&inputs.probe);
    }
    /// Goes on under other limits.
    pub(crate) fn assume_limits(&mut self, limits: Limits) {
        self.pace.set_repeat_window(limits.repeat_window_sec.saturating_mul(1_000));
        self.limits = limits;
    }
    /// Remembers a ClOrdID read back from its bucket.
    pub fn on_seen(&mut self, cl_ord_id: ClOrdId, seen: Seen) {
        self.seen.insert(cl_ord_id, seen);
    }
    /// Moves the breaker; the new state when it changed.
    pub fn on_breaker(&mut self, input: breaker::Input, now: Timestamp) -> Option<breaker::State> {
        let change = self.breaker.on(input, &self.limits, now);
        if !matches!(self.breaker.state(), breaker::State::HalfOpen { .. }) {
            self.probe = None;
        }
        change
    }

    /// Decides one entry of `cdb:orders`. An approval reserves its notional and quantity at once.
    pub fn decide(&mut self, entry: &EntryId, bytes: &[u8], now: Timestamp) -> Decided {
        let (cl_ord_id, fingerprint, parsed) = match Command::parse(bytes) {
            Ok(command) => (command.cl_ord_id().clone(), command.fingerprint(), Ok(command)),
            Err(Malformed { cl_ord_id: None, fault }) => return Decided::DeadLetter(fault),
            Err(Malformed { cl_ord_id: Some(id), fault }) => (id, content_fingerprint(&[bytes]), Err(fault)),
        };
        let known = self.seen.get(&cl_ord_id).copied();
        if let Some(known) = known
            && known.fingerprint == fingerprint
        {
            return Decided::Replay { cl_ord_id, day: known.day };
        }
        let mut verdict = self.blank_verdict(&cl_ord_id, entry, now);
        match parsed {
            Err(fault) => {
                verdict.reason = Some(Reason::Malformed);
                verdict.detail = fault.to_string();
                let (value, limit) = (Figure::Name(fault.field), Figure::Word("well formed"));
                verdict.checks = vec![CheckResult { check: Reason::Malformed, value, limit, is_refused: true }];
            }
            Ok(command) => self.judge(&mut verdict, command, known.is_some(), now),
        }
        let seen = known.is_none().then(|| {
            let seen = Seen { fingerprint, day: now.day() };
            self.seen.insert(cl_ord_id, seen);
            seen
        });
        Decided::Verdict { verdict: Box::new(verdict), seen }
    }

    /// A refusal that no check of the table gives.
    #[must_use]
    pub fn refusal(&mut self, id: &ClOrdId, entry: &EntryId, reason: Reason, detail: &str, now: Timestamp) -> Verdict {
        let mut verdict = self.blank_verdict(id, entry, now);
        verdict.reason = Some(reason);
        verdict.detail = detail.to_owned();
        verdict
    }

    fn blank_verdict(&mut self, cl_ord_id: &ClOrdId, entry: &EntryId, now: Timestamp) -> Verdict {
        Verdict {
            cl_ord_id: cl_ord_id.clone(),
            entry: entry.clone(),
            reason: None,
            detail: String::new(),
            checks: Vec::new(),
            command: None,
            ref_price: None,
            notional: None,
            is_exit: false,
            limits_hash: self.limits_hash.clone(),
            epoch: self.epoch.clone(),
            ts: now,
            expires_at: now.plus_ms(self.limits.verdict_ttl_ms),
            inputs: self.inputs(),
        }
    }

    fn judge(&mut self, verdict: &mut Verdict, command: Command, is_id_taken: bool, now: Timestamp) {
        match &command {
            Command::New(order) => self.judge_order(verdict, order, is_id_taken, now),
            // Cancels reduce risk: nothing refuses them but an id that was used for something else.
            Command::Cancel { .. } | Command::CancelAll { .. } if is_id_taken => {
                verdict.reason = Some(Reason::DuplicateClOrdId);
                verdict.detail = "this cl_ord_id was used before for other content; give every cancel its own".into();
            }
            Command::Cancel { .. } | Command::CancelAll { .. } => {
                verdict.detail = "cancels reduce risk and pass every limit".into();
            }
        }
        verdict.command = Some(command);
    }

    fn judge_order(&mut self, verdict: &mut Verdict, order: &NewOrder, is_id_taken: bool, now: Timestamp) {
        let content = order_content(order);
        let Judgement { evaluation, ref_price, notional, is_exit } = self.evaluate(order, content, is_id_taken, now);
        verdict.ref_price = ref_price;
        verdict.notional = notional;
        verdict.is_exit = is_exit;
        verdict.checks = evaluation.checks;
        match (evaluation.refusal, notional) {
            (Some((reason, text)), _) => {
                verdict.reason = Some(reason);
                verdict.detail = text;
            }
            (None, Some(notional)) => {
                verdict.detail = format!("worth {}, within every limit", Figure::from(notional));
                self.reserve(order, content, notional, is_exit, now);
            }
            (None, None) => {
                verdict.reason = Some(Reason::NoReferencePrice);
                verdict.detail = "the order cannot be valued".into();
            }
        }
    }

    /// Holds an order against every check, and changes nothing that a later order is held against.
    fn evaluate(&mut self, order: &NewOrder, content: u64, is_id_taken: bool, now: Timestamp) -> Judgement {
        let stop = self.stops.covering(order);
        let pace = self.pace.counts(&order.strategy, order_shape(order), now);
        let twin_age_ms = self.twin_age_ms(content, now);
        let context = Context {
            order,
            limits: &self.limits,
            is_id_taken,
            stop: stop.as_ref(),
            state_lost: self.state_lost.as_deref(),
            breaker: self.breaker.state(),
            probe: self.probe.as_ref(),
            rules: self.rules(&order.symbol, now),
            quote: self.portfolio.quote(&order.symbol),
            portfolio: &self.portfolio,
            day: self.day.on(now),
            pace,
            twin_age_ms,
            now,
        };
        Judgement {
            evaluation: checks::evaluate(&context),
            ref_price: context.quote.map(|quote| quote.aggressive(order.side)),
            notional: context.notional(),
            is_exit: context.is_exit(),
        }
    }

    fn reserve(&mut self, order: &NewOrder, content: u64, notional: Notional, is_exit: bool, at: Timestamp) {
        self.portfolio.reserve(order, notional, at);
        self.pace.record(&order.strategy, at);
        self.twins.push_back((at, content));
        if !is_exit {
            self.day = self.day.plus(notional, at);
            self.pace.record_risk(order_shape(order), notional, at);
            if let breaker::State::HalfOpen { since, .. } = self.breaker.state()
                && at >= since
            {
                self.probe = Some(order.cl_ord_id.clone());
            }
        }
    }

    fn twin_age_ms(&mut self, content: u64, now: Timestamp) -> Option<i64> {
        let window_ms = self.limits.duplicate_window_ms;
        while self.twins.front().is_some_and(|(at, _)| now.since_ms(*at) > window_ms) {
            self.twins.pop_front();
        }
        self.twins.iter().rev().find(|(_, known)| *known == content).map(|(at, _)| now.since_ms(*at).max(0))
    }

    /// Takes back an approval that was not published because a stop had come between, as if it had never been; the
    /// order is decided again.
    pub fn withdraw(&mut self, verdict: &Verdict) {
        if let (true, Some(Command::New(order)), Some(notional)) =
            (verdict.is_approved(), &verdict.command, verdict.notional)
        {
            let twin = (verdict.ts, order_content(order));
            if let Some(index) = self.twins.iter().rposition(|known| *known == twin) {
                self.twins.remove(index);
            }
            self.pace.take_back(&order.strategy, verdict.ts);
            if !verdict.is_exit {
                self.day = self.day.minus(notional, verdict.ts);
                self.pace.take_back_risk(order_shape(order), notional, verdict.ts);
            }
            self.portfolio.release(&verdict.cl_ord_id);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.begin_anew();
        }
        self.seen.remove(&verdict.cl_ord_id);
        if self.probe.as_ref() == Some(&verdict.cl_ord_id) {
            self.probe = None;
        }
    }

    /// Restores what one of our own published verdicts had reserved and counted.
    ///
    /// # Errors
    /// The verdict cannot be read: then history is incomplete and the caller must lose state.
    pub fn recall(&mut self, json: &[u8]) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Published<'a> {
            decision: String,
            #[serde(borrow)]
            command: Option<&'a RawValue>,
            notional: Option<Notional>,
            #[serde(default)]
            is_exit: bool,
            ts: Timestamp,
        }
        let published: Published<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let (true, Some(raw)) = (published.decision == "approved", published.command) else { return Ok(()) };
        let command = Command::parse(raw.get().as_bytes()).map_err(|bad| bad.fault.to_string())?;
        if let Command::New(order) = command {
            let notional = published.notional.ok_or("an approved order without its notional")?;
            self.reserve(&order, order_content(&order), notional, published.is_exit, published.ts);
        }
        Ok(())
    }

    /// The day's result, to be kept.
    #[must_use]
    pub const fn result(&self) -> &DayResult {
        &self.result
    }
    /// The figures that the loss limits are held against; `None` while they cannot be known.
    #[must_use]
    pub const fn figures(&self) -> Option<Figures> {
        self.figures
    }
    /// Goes on with a result that was kept.
    pub fn restore_result(&mut self, result: DayResult) {
        self.result = result;
    }

    /// Begins a new day when it has come, and opens the breaker when a loss limit is reached.
    pub fn watch_losses(&mut self, now: Timestamp) -> Option<breaker::State> {
        let mut result = std::mem::take(&mut self.result);
        if result.is_over(now)
            && let Some((opening, equity)) = self.portfolio.opening()
        {
            let yesterday = result.today(|asset| self.portfolio.usd_mark(asset)).unwrap_or(Notional::ZERO);
            result = result.begin(now.day(), opening, equity, yesterday);
        }
        self.figures = result.figures(|asset| self.portfolio.usd_mark(asset));
        self.result = result;
        let figures = self.figures?;
        if figures.daily_loss >= self.limits.max_daily_loss_pct {
            self.on_breaker(breaker::Input::Trip(breaker::Cause::DailyLoss), now)
        } else if figures.drawdown >= self.limits.max_drawdown_pct {
            self.on_breaker(breaker::Input::Trip(breaker::Cause::Drawdown), now)
        } else {
            None
        }
    }

    /// An operator closes the breaker: losses are measured anew from here, or the same loss would open it again.
    pub fn reset_breaker(&mut self, now: Timestamp) -> Option<breaker::State> {
        if let Some((opening, equity)) = self.portfolio.opening() {
            self.result = std::mem::take(&mut self.result).rebased(opening, equity);
        }
        self.on_breaker(breaker::Input::Reset, now)
    }

    /// Takes what cdb_execution published; the breaker's new state when that changed it.
    pub fn on_execution(&mut self, execution: &Execution, now: Timestamp) -> Option<breaker::State> {
        if let Execution::ExecutionReport(report) = execution
            && !self.booked.contains(&booking(report))
        {
            self.count_in_result(report);
        }
        self.recall_execution(execution, now)
    }

    fn count_in_result(&mut self, report: &ExecutionReport) {
        let (Some(fill), Some(rules)) = (&report.fill, self.portfolio.rules(&report.symbol)) else { return };
        let base = rules.base.clone();
        self.result.on_fill(&base, report.side, fill.last_qty, fill.last_px);
        let fee = if fill.commission_asset == base {
            fill.last_px.times(fill.commission)
        } else if USD_ASSETS.contains(&fill.commission_asset.as_str()) {
            Notional::of_quote(fill.commission)
        } else {
            let mark = self.portfolio.usd_mark(&fill.commission_asset);
            mark.map_or(Notional::ZERO, |mark| mark.times(fill.commission))
        };
        self.result.on_fee(fee);
    }

    /// As [`Self::on_execution`], for what the kept result already contains.
    pub fn recall_execution(&mut self, execution: &Execution, now: Timestamp) -> Option<breaker::State> {
        match execution {
            Execution::AccountSnapshot(snapshot) => {
                self.portfolio.on_account(snapshot);
                None
            }
            Execution::ExecutionReport(report) => self.on_report(report, now),
            // What was found before the breaker last closed was dealt with then.
            Execution::Finding(finding) if finding.ts < self.breaker.closed_at() => None,
            Execution::Finding(finding) => {
                use crate::report::FindingKind;
                let cause = match finding.kind {
                    FindingKind::ForeignOrder | FindingKind::ForeignTrade => breaker::Cause::ForeignOrder,
                    FindingKind::BalanceBreak | FindingKind::OrderMissing => breaker::Cause::ReconciliationBreak,
                    FindingKind::MissedFill | FindingKind::Transfer => return None,
                };
                self.on_breaker(breaker::Input::Trip(cause), now)
            }
        }
    }

    fn on_report(&mut self, report: &ExecutionReport, now: Timestamp) -> Option<breaker::State> {
        if !self.booked.insert(booking(report)) {
            return None;
        }
        let begun_at = self.portfolio.orders().get(&report.cl_ord_id).map(|open| open.approved_at);
        self.portfolio.on_report(report);
        if report.ord_status.is_final() && self.probe.as_ref() == Some(&report.cl_ord_id) {
            self.probe = None;
        }
        let begun_at = begun_at?;
        match health(report) {
            Health::Good => self.on_breaker(breaker::Input::Success { begun_at }, now),
            Health::Bad => self.on_breaker(breaker::Input::Failure { begun_at }, now),
            Health::Silent => None,
        }
    }

    /// What is missing before any order could be approved, for a person.
    #[must_use]
    pub fn missing_inputs(&self, now: Timestamp) -> Vec<String> {
        let mut missing = Vec::new();
        if let Some(why) = &self.state_lost {
            missing.push(why.clone());
        }
        if self.portfolio.balances_as_of().is_none() {
            missing.push("the account's balances".to_owned());
        }
        for symbol in &self.limits.allowed_symbols {
            if self.rules(symbol, now).is_none() {
                missing.push(format!("recent rules of the exchange for {symbol}"));
            }
            let age_ms = self.portfolio.quote(symbol).map(|quote| now.since_ms(quote.ts));
            if age_ms.is_none_or(|age_ms| age_ms > self.limits.max_price_age_ms) {
                missing.push(format!("a recent price of {symbol}"));
            }
        }
        missing
    }

    /// Forgets what no limit looks at any more.
    pub fn prune(&mut self, now: Timestamp) {
        let oldest = UtcDay::from_number(now.day().number().saturating_sub(CL_ORD_ID_DAYS));
        self.seen.retain(|_, seen| seen.day >= oldest);
        self.pace.prune(now);
    }
}

/// Under which a report is booked once.
fn booking(report: &ExecutionReport) -> String {
    format!("{}/{}", report.cl_ord_id, report.exec_id)
}

/// What a report says about the exchange connection. Business refusals are not failures (design §5).
fn health(report: &ExecutionReport) -> Health {
    let is = |code: &str| report.reason.as_deref() == Some(code);
    match report.exec_type {
        ExecType::OrderStatus if report.in_doubt => Health::Bad,
        ExecType::Rejected if GateRefusal::ALL.iter().any(|refusal| is(refusal.code())) => Health::Silent,
        ExecType::Rejected
            if is(VenueRefusal::Auth.code())
                || is(VenueRefusal::RateLimited.code())
                || is(VenueRefusal::Clock.code()) =>
        {
            Health::Bad
        }
        // The doubt that preceded it was counted; a pause or a restriction says nothing about the connection.
        ExecType::Rejected
            if is(VenueRefusal::NotAccepted.code())
                || is(VenueRefusal::Maintenance.code())
                || is(VenueRefusal::Account.code()) =>
        {
            Health::Silent
        }
        ExecType::Rejected | ExecType::New | ExecType::Trade => Health::Good,
        ExecType::OrderStatus
        | ExecType::PendingNew
        | ExecType::PendingCancel
        | ExecType::Canceled
        | ExecType::Expired => {
            if report.ord_status == OrdStatus::Filled {
                Health::Good
            } else {
                Health::Silent
            }
        }
    }
}

/// Fingerprint of what an order asks for, without its id and its times.
fn order_content(order: &NewOrder) -> u64 {
    fingerprint_of(order, order.price())
}

/// The same without its price: a loop that follows the market sends one shape at many prices.
fn order_shape(order: &NewOrder) -> u64 {
    fingerprint_of(order, None)
}

fn fingerprint_of(order: &NewOrder, price: Option<Price>) -> u64 {
    let price = price.map(Price::decimal).unwrap_or_default().normalize().to_string();
    let qty = order.order_qty().map(|qty| qty.decimal()).unwrap_or_default().normalize().to_string();
    let amount = order.quote_qty().map(Notional::decimal).unwrap_or_default().normalize().to_string();
    content_fingerprint(&[
        order.strategy.as_str().as_bytes(),
        order.symbol.as_str().as_bytes(),
        order.side.as_str().as_bytes(),
        order.ord_type.as_str().as_bytes(),
        price.as_bytes(),
        qty.as_bytes(),
        amount.as_bytes(),
    ])
}

/// The first 8 bytes of a SHA-256 over length-prefixed parts, so that two parts cannot run together.
pub(crate) fn content_fingerprint(parts: &[&[u8]]) -> u64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(8).fold(0, |number, byte| (number << 8_u32) | u64::from(*byte))
}

#[cfg(test)]
mod tests;
