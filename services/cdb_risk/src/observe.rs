//! One log line and one metric for each thing that happens. Every label value is there at 0 from the start.

use std::collections::BTreeMap;

use cdb_core::breaker;
use cdb_core::desk::{Decided, Desk, Stops};
use cdb_core::event::{Event, EventType};
use cdb_core::pnl::Figures;
use cdb_core::reason::Reason;
use cdb_core::time::Timestamp;
use cdb_core::verdict::Verdict;
use cdb_io::bus::Entry;
use cdb_io::meters::{Meters, Position, UNKNOWN};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use rust_decimal::Decimal;
use serde_json::json;

use crate::config::Config;
use crate::data_set::DataSet;

/// Limits that fill up over time.
const USED: [&str; 7] = [
    "MAX_OPEN_ORDERS",
    "MAX_DAILY_ORDERS",
    "MAX_DAILY_NOTIONAL_USD",
    "MAX_DAILY_LOSS_PCT",
    "MAX_DRAWDOWN_PCT",
    "MAX_POSITION_SIZE_USD",
    "MAX_TOTAL_EXPOSURE",
];
/// Positions of the breaker.
const BREAKER: &[&str] = &[UNKNOWN, "closed", "open", "half_open"];
/// Whether a stop is in force.
const STOP: &[&str] = &[UNKNOWN, "clear", "stopped"];

/// Metrics and logs of this service.
pub struct Observer {
    registry: Registry,
    approved: IntCounter,
    rejected: BTreeMap<Reason, IntCounter>,
    checks: IntCounterVec,
    dead_letters: IntCounter,
    replays: IntCounter,
    redis_errors: IntCounter,
    breaker: Position,
    breaker_opened: IntCounterVec,
    stop: Position,
    stop_changes: IntCounterVec,
    stops: IntGauge,
    leads: IntGauge,
    open_orders: IntGauge,
    daily_orders: IntGauge,
    state_lost: IntGauge,
    missing_inputs: IntGauge,
    price_age: IntGauge,
    daily_loss: IntGauge,
    drawdown: IntGauge,
    used: IntGaugeVec,
}

impl Observer {
    /// Registers everything.
    ///
    /// # Errors
    /// A metric's name is given twice.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let meters = Meters::of("cdb_risk");
        let reasons = || Reason::ALL.iter().map(|reason| reason.code());
        let rejected = meters.counters("rejected_total", "Orders refused, by reason", "reason", reasons())?;
        let limits = meters.settings("limit", "The limits in force that are numbers", "limit")?;
        for setting in &config.settings {
            if let Ok(value) = setting.value.parse() {
                limits.with_label_values(&[setting.name]).set(value);
            }
        }
        meters.build_info(config.service.mode.as_str(), &[("limits_hash", &config.limits_hash)])?;
        let by_reason = Reason::ALL.iter().map(|reason| (*reason, rejected.with_label_values(&[reason.code()])));
        let checks = "Checks made, by outcome; a row of several checks that passed is counted under its first";
        let used = "How much of a limit is used, millionths; the rest is headroom";
        Ok(Self {
            approved: meters.counter("approved_total", "Commands approved")?,
            rejected: by_reason.collect(),
            checks: meters.counters_by_two(
                "checks_total",
                checks,
                ["check", "outcome"],
                reasons(),
                &["passed", "refused"],
            )?,
            dead_letters: meters.counter("dead_letters_total", "Entries without a readable ClOrdID")?,
            replays: meters.counter("replays_total", "Repeated orders that got their verdict again")?,
            redis_errors: meters.counter("redis_errors_total", "Terms ended by Redis")?,
            breaker: meters.position("breaker_state", "1 for the breaker's position", BREAKER)?,
            breaker_opened: meters.counters(
                "breaker_opened_total",
                "Openings of the breaker, by cause",
                "cause",
                breaker::Cause::ALL.iter().map(|cause| cause.code()),
            )?,
            stop: meters.position("stop_state", "1 for whether any stop is in force", STOP)?,
            stop_changes: meters.counters(
                "stop_changes_total",
                "Stops set and cleared",
                "change",
                ["set", "cleared"],
            )?,
            stops: meters.gauge("stops", "Stops in force")?,
            leads: meters.gauge("leads", "1 while this instance decides")?,
            open_orders: meters.gauge("open_orders", "Orders open, reserved or in doubt")?,
            daily_orders: meters.gauge("daily_orders", "Approvals of this UTC day, exits not counted")?,
            daily_loss: meters.gauge("daily_loss_ppm", "Loss of the UTC day, millionths of its first equity")?,
            drawdown: meters.gauge("drawdown_ppm", "Fall from the peak, millionths of the equity there")?,
            state_lost: meters.gauge("state_lost", "1 when nothing is approved for want of history")?,
            missing_inputs: meters
                .gauge("missing_inputs", "Prices, rules, balances without which nothing is approved")?,
            price_age: meters.gauge("price_age_ms", "Age of the oldest price of the allowed symbols")?,
            used: meters.gauges("limit_used_ppm", used, "limit", USED)?,
            registry: meters.registry(),
        })
    }

    /// For the endpoint.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// A term was ended by Redis.
    pub fn redis_error(&self) {
        self.redis_errors.inc();
        self.not_leading();
    }

    /// This instance does not decide: what it knew of breaker and stops is not known any more.
    pub fn not_leading(&self) {
        self.leads.set(0);
        self.breaker.set(UNKNOWN);
        self.stop.set(UNKNOWN);
    }

    /// This instance decides.
    pub fn leading(&self, token: &str, data_set: &DataSet) {
        tracing::info!(token, epoch = data_set.epoch, lost = data_set.lost, "this instance decides");
        self.leads.set(1);
    }

    /// An entry was answered.
    pub fn decided(&self, decided: &Decided, entry: &Entry) {
        match decided {
            Decided::Verdict { verdict, .. } => {
                self.checked(verdict);
                self.answered(verdict);
            }
            Decided::Replay { cl_ord_id, .. } => {
                self.replays.inc();
                tracing::info!(%cl_ord_id, "a repeated order got its verdict again");
            }
            Decided::DeadLetter(fault) => {
                self.dead_letters.inc();
                tracing::warn!(entry = %entry.id, fault = %fault, "an entry went to the dead letters");
            }
        }
    }

    fn checked(&self, verdict: &Verdict) {
        for check in &verdict.checks {
            let outcome = if check.is_refused { "refused" } else { "passed" };
            self.checks.with_label_values(&[check.check.code(), outcome]).inc();
        }
    }

    fn answered(&self, verdict: &Verdict) {
        match verdict.reason {
            None => {
                self.approved.inc();
                tracing::debug!(cl_ord_id = %verdict.cl_ord_id, detail = verdict.detail, "approved");
            }
            Some(reason) => {
                self.rejected[&reason].inc();
                let detail = &verdict.detail;
                tracing::info!(cl_ord_id = %verdict.cl_ord_id, reason = reason.code(), detail, "refused");
            }
        }
    }

    /// The breaker moved; the event to publish.
    pub fn breaker(&self, state: breaker::State, now: Timestamp) -> Event {
        let (event_type, reason, detail) = match state {
            breaker::State::Closed => (EventType::BreakerClosed, "trading again".to_owned(), json!({})),
            breaker::State::Open { cause, retry_at, .. } => {
                self.breaker_opened.with_label_values(&[cause.code()]).inc();
                let detail = json!({"cause": cause.code(), "retry_at": retry_at, "latched": retry_at.is_none()});
                (EventType::BreakerOpened, format!("trading halted: {cause}"), detail)
            }
            breaker::State::HalfOpen { cause, .. } => {
                (EventType::BreakerHalfOpen, "one probe may try".to_owned(), json!({"cause": cause.code()}))
            }
        };
        tracing::warn!(reason, "circuit breaker moved");
        Event::by_service(event_type, "cdb_risk", reason, detail, now)
    }

    /// The stops changed.
    pub fn stops(&self, stops: &Stops) {
        let count = count_of(stops);
        let change = if count < usize::try_from(self.stops.get()).unwrap_or(0) { "cleared" } else { "set" };
        self.stop_changes.with_label_values(&[change]).inc();
        if count > 0 {
            let reason = stops.all.as_deref().unwrap_or("symbol or strategy");
            tracing::warn!(count, reason, "emergency stop in force");
        } else {
            tracing::warn!("no emergency stop any more");
        }
    }

    /// How much of each limit is used that fills up over time.
    fn used(&self, desk: &Desk, now: Timestamp) {
        let (limits, day) = (desk.limits(), desk.day(now));
        let whole = |count: u64| Decimal::from(count);
        let share = |part: Decimal, of: Decimal| part.checked_div(of).unwrap_or(Decimal::ONE);
        let open = u64::try_from(desk.portfolio().orders().len()).unwrap_or(u64::MAX);
        let figures = desk.figures();
        let loss = |of: fn(&Figures) -> Decimal| figures.as_ref().map(of).unwrap_or_default();
        let (position, exposure) = largest(desk);
        let values = [
            share(whole(open), whole(limits.max_open_orders)),
            share(whole(day.orders), whole(limits.max_daily_orders)),
            share(day.notional.decimal(), limits.max_daily_notional_usd.decimal()),
            share(loss(|figures| figures.daily_loss), limits.max_daily_loss_pct),
            share(loss(|figures| figures.drawdown), limits.max_drawdown_pct),
            share(position, limits.max_position_size_usd.decimal()),
            share(exposure, limits.max_total_exposure),
        ];
        for (limit, value) in USED.iter().zip(values) {
            self.used.with_label_values(&[limit]).set(cdb_core::money::millionths(value));
        }
    }

    /// Gauges of the moment.
    pub fn beat(&self, desk: &Desk, now: Timestamp) {
        let position = match desk.breaker().state() {
            breaker::State::Closed => "closed",
            breaker::State::Open { .. } => "open",
            breaker::State::HalfOpen { .. } => "half_open",
        };
        self.breaker.set(position);
        let stops = count_of(desk.stops());
        self.stops.set(i64::try_from(stops).unwrap_or(i64::MAX));
        self.stop.set(if stops == 0 { "clear" } else { "stopped" });
        self.missing_inputs.set(i64::try_from(desk.missing_inputs(now).len()).unwrap_or(i64::MAX));
        let age_ms = |symbol| desk.portfolio().quote(symbol).map(|quote| now.since_ms(quote.ts));
        self.price_age.set(desk.limits().allowed_symbols.iter().filter_map(age_ms).max().unwrap_or_default());
        self.open_orders.set(i64::try_from(desk.portfolio().orders().len()).unwrap_or(i64::MAX));
        self.daily_orders.set(i64::try_from(desk.day(now).orders).unwrap_or(i64::MAX));
        if let Some(figures) = desk.figures() {
            self.daily_loss.set(cdb_core::money::millionths(figures.daily_loss));
            self.drawdown.set(cdb_core::money::millionths(figures.drawdown));
        }
        self.state_lost.set(i64::from(desk.state_lost().is_some()));
        self.used(desk, now);
    }
}

fn count_of(stops: &Stops) -> usize {
    usize::from(stops.all.is_some()) + stops.symbols.len() + stops.strategies.len()
}

/// The largest position, and all exposure as a share of equity; 0 where a price is missing.
fn largest(desk: &Desk) -> (Decimal, Decimal) {
    let portfolio = desk.portfolio();
    let rules: Vec<_> = desk.limits().allowed_symbols.iter().filter_map(|symbol| portfolio.rules(symbol)).collect();
    let positions = rules.iter().filter_map(|rules| portfolio.position_notional(rules));
    let position = positions.map(|notional| notional.decimal()).max().unwrap_or_default();
    let shares = rules.iter().filter_map(|rules| {
        let (exposure, equity) = portfolio.exposure_and_equity(&rules.quote).ok()?;
        exposure.decimal().checked_div(equity.decimal())
    });
    (position, shares.max().unwrap_or_default())
}
