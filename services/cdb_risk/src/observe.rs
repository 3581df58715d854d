//! One log line and one metric for each thing that happens. Every label value is there at 0 from the start.

use std::collections::BTreeMap;

use cdb_core::breaker;
use cdb_core::desk::{Decided, Desk, Stops};
use cdb_core::event::{Event, EventType};
use cdb_core::pnl::Figures;
use cdb_core::reason::Reason;
use cdb_core::time::Timestamp;
use cdb_io::bus::Entry;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use rust_decimal::Decimal;
use serde_json::json;

use crate::config::Config;
use crate::data_set::DataSet;

/// Limits that fill up over time.
const USED: [&str; 5] =
    ["MAX_OPEN_ORDERS", "MAX_DAILY_ORDERS", "MAX_DAILY_NOTIONAL_USD", "MAX_DAILY_LOSS_PCT", "MAX_DRAWDOWN_PCT"];

/// Metrics and logs of this service.
pub struct Observer {
    registry: Registry,
    approved: IntCounter,
    rejected: BTreeMap<Reason, IntCounter>,
    dead_letters: IntCounter,
    replays: IntCounter,
    redis_errors: IntCounter,
    breaker: IntGaugeVec,
    stops: IntGauge,
    open_orders: IntGauge,
    daily_orders: IntGauge,
    state_lost: IntGauge,
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
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> anyhow::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> anyhow::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let rejected =
            IntCounterVec::new(Opts::new("cdb_risk_rejected_total", "Orders refused, by reason"), &["reason"])?;
        registry.register(Box::new(rejected.clone()))?;
        let breaker =
            IntGaugeVec::new(Opts::new("cdb_risk_breaker_state", "1 for the breaker's position"), &["state"])?;
        registry.register(Box::new(breaker.clone()))?;
        let limits = GaugeVec::new(Opts::new("cdb_risk_limit", "The limits in force that are numbers"), &["limit"])?;
        registry.register(Box::new(limits.clone()))?;
        for setting in &config.settings {
            if let Ok(value) = setting.value.parse() {
                limits.with_label_values(&[setting.name]).set(value);
            }
        }
        let used = IntGaugeVec::new(
            Opts::new("cdb_risk_limit_used_ppm", "How much of a limit is used, millionths; the rest is headroom"),
            &["limit"],
        )?;
        registry.register(Box::new(used.clone()))?;
        for limit in USED {
            used.with_label_values(&[limit]).set(0);
        }
        let build = IntGaugeVec::new(Opts::new("cdb_risk_build_info", "Always 1"), &["build", "mode", "limits_hash"])?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[cdb_io::config::BUILD, config.service.mode.as_str(), &config.limits_hash]).set(1);
        for state in ["unknown", "closed", "open", "half_open"] {
            breaker.with_label_values(&[state]).set(i64::from(state == "unknown"));
        }
        let by_reason = Reason::ALL.iter().map(|reason| (*reason, rejected.with_label_values(&[reason.code()])));
        Ok(Self {
            approved: counter("cdb_risk_approved_total", "Commands approved")?,
            rejected: by_reason.collect(),
            dead_letters: counter("cdb_risk_dead_letters_total", "Entries without a readable ClOrdID")?,
            replays: counter("cdb_risk_replays_total", "Repeated orders that got their verdict again")?,
            redis_errors: counter("cdb_risk_redis_errors_total", "Terms ended by Redis")?,
            stops: gauge("cdb_risk_stops", "Stops in force")?,
            open_orders: gauge("cdb_risk_open_orders", "Orders open, reserved or in doubt")?,
            daily_orders: gauge("cdb_risk_daily_orders", "Approvals of this UTC day, exits not counted")?,
            daily_loss: gauge("cdb_risk_daily_loss_ppm", "Loss of the UTC day, millionths of its first equity")?,
            drawdown: gauge("cdb_risk_drawdown_ppm", "Fall from the peak, millionths of the equity there")?,
            state_lost: gauge("cdb_risk_state_lost", "1 when nothing is approved for want of history")?,
            breaker,
            used,
            registry,
        })
    }

    /// For the endpoint.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// A term was ended by Redis.
    pub fn redis_error(&self) {
        self.redis_errors.inc();
    }

    /// This instance decides.
    pub fn leading(&self, token: &str, data_set: &DataSet) {
        tracing::info!(token, epoch = data_set.epoch, lost = data_set.lost, "this instance decides");
    }

    /// An entry was answered.
    pub fn decided(&self, decided: &Decided, entry: &Entry) {
        match decided {
            Decided::Verdict { verdict, .. } => match verdict.reason {
                None => {
                    self.approved.inc();
                    tracing::debug!(cl_ord_id = %verdict.cl_ord_id, detail = verdict.detail, "approved");
                }
                Some(reason) => {
                    self.rejected[&reason].inc();
                    let detail = &verdict.detail;
                    tracing::info!(cl_ord_id = %verdict.cl_ord_id, reason = reason.code(), detail, "refused");
                }
            },
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

    /// The breaker moved; the event to publish.
    pub fn breaker(&self, state: breaker::State, now: Timestamp) -> Event {
        let (event_type, reason, detail) = match state {
            breaker::State::Closed => (EventType::BreakerClosed, "trading again".to_owned(), json!({})),
            breaker::State::Open { cause, retry_at, .. } => {
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
        let count = usize::from(stops.all.is_some()) + stops.symbols.len() + stops.strategies.len();
        self.stops.set(i64::try_from(count).unwrap_or(i64::MAX));
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
        let values = [
            share(whole(open), whole(limits.max_open_orders)),
            share(whole(day.orders), whole(limits.max_daily_orders)),
            share(day.notional.decimal(), limits.max_daily_notional_usd.decimal()),
            share(loss(|figures| figures.daily_loss), limits.max_daily_loss_pct),
            share(loss(|figures| figures.drawdown), limits.max_drawdown_pct),
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
        for state in ["unknown", "closed", "open", "half_open"] {
            self.breaker.with_label_values(&[state]).set(i64::from(state == position));
        }
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
