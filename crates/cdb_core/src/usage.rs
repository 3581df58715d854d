//! How much of each limit that fills up is in use, for those who watch the desk (design §4). Nothing is decided by it:
//! the checks hold each order against the limits themselves.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::desk::Desk;
use crate::ids::{Asset, Symbol};
use crate::money::Notional;
use crate::time::Timestamp;

/// One limit and what is used of it, both in the limit's own unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The limit's setting.
    pub limit: String,
    /// The symbol, for a limit per symbol.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub symbol: Option<Symbol>,
    /// What is used; absent while it cannot be known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used: Option<Decimal>,
    /// The limit.
    pub max: Decimal,
}

/// The desk in figures, published in `cdb:usage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Each limit that fills up.
    pub limits: Vec<Used>,
    /// Equity in USD; absent while a holding has no price.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub equity: Option<Notional>,
    /// Equity at the start of the UTC day.
    pub start_equity: Notional,
    /// Result of the UTC day; absent while it cannot be known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub today: Option<Notional>,
    /// Why nothing is approved for want of history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state_lost: Option<String>,
    /// When this was so.
    pub ts: Timestamp,
}

impl Usage {
    /// Of a desk.
    #[must_use]
    pub fn of(desk: &Desk, now: Timestamp) -> Self {
        let equity = desk.portfolio().opening().map(|(_, equity)| equity);
        Self {
            limits: of_account(desk, now).chain(of_symbols(desk)).collect(),
            equity,
            start_equity: desk.result().start_equity,
            today: desk.figures().map(|figures| figures.today),
            state_lost: desk.state_lost().map(str::to_owned),
            ts: now,
        }
    }
}

fn of_account(desk: &Desk, now: Timestamp) -> impl Iterator<Item = Used> {
    let (limits, day, figures) = (desk.limits(), desk.day(now), desk.figures());
    let (in_a_row, in_an_hour) = desk.breaker().failures(now);
    let usdt = Asset::parse("USDT");
    let exposure = usdt.and_then(|quote| desk.portfolio().exposure_and_equity(&quote).ok());
    let exposure = exposure.and_then(|(exposure, equity)| exposure.share_of(equity));
    let open = u64::try_from(desk.portfolio().orders().len()).unwrap_or(u64::MAX);
    let whole = |count: u64| Decimal::from(count);
    [
        ("MAX_TOTAL_EXPOSURE", exposure, limits.max_total_exposure),
        ("MAX_OPEN_ORDERS", Some(whole(open)), whole(limits.max_open_orders)),
        ("MAX_DAILY_ORDERS", Some(whole(day.orders)), whole(limits.max_daily_orders)),
        ("MAX_DAILY_NOTIONAL_USD", Some(day.notional.decimal()), limits.max_daily_notional_usd.decimal()),
        ("MAX_DAILY_LOSS_PCT", figures.map(|figures| figures.daily_loss), limits.max_daily_loss_pct),
        ("MAX_DRAWDOWN_PCT", figures.map(|figures| figures.drawdown), limits.max_drawdown_pct),
        ("MAX_CONSECUTIVE_FAILURES", Some(whole(in_a_row)), whole(limits.max_consecutive_failures)),
        ("MAX_FAILURES_PER_HOUR", Some(whole(in_an_hour)), whole(limits.max_failures_per_hour)),
    ]
    .into_iter()
    .map(|(limit, used, max)| Used { limit: limit.to_owned(), symbol: None, used, max })
}

fn of_symbols(desk: &Desk) -> impl Iterator<Item = Used> {
    let limits = desk.limits();
    limits.allowed_symbols.iter().flat_map(move |symbol| {
        let rules = desk.portfolio().rules(symbol);
        let position = rules.and_then(|rules| desk.portfolio().position_notional(rules));
        let equity = rules.and_then(|rules| desk.portfolio().exposure_and_equity(&rules.quote).ok());
        let share = position.zip(equity).and_then(|(position, (_, equity))| position.share_of(equity));
        [
            ("MAX_POSITION_SIZE_USD", position.map(Notional::decimal), limits.max_position_size_usd.decimal()),
            ("MAX_POSITION_PCT", share, limits.max_position_pct),
        ]
        .map(|(limit, used, max)| Used { limit: limit.to_owned(), symbol: Some(symbol.clone()), used, max })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::breaker::{Breaker, Input};
    use crate::limits::Limits;

    fn used<'a>(usage: &'a Usage, limit: &str) -> &'a Used {
        usage.limits.iter().find(|used| used.limit == limit).unwrap()
    }

    #[test]
    fn what_cannot_be_known_is_absent_and_never_zero() {
        let (limits, _) = Limits::from_variables(&BTreeMap::new()).unwrap();
        let desk = Desk::new(limits, "h".to_owned(), "e".to_owned(), Breaker::default());
        let usage = Usage::of(&desk, Timestamp::from_millis(1));
        assert_eq!(usage.equity, None);
        for limit in ["MAX_TOTAL_EXPOSURE", "MAX_POSITION_SIZE_USD", "MAX_DAILY_LOSS_PCT", "MAX_DRAWDOWN_PCT"] {
            assert_eq!(used(&usage, limit).used, None, "{limit}");
        }
        assert_eq!(used(&usage, "MAX_DAILY_ORDERS").used, Some(Decimal::ZERO));
        let text = serde_json::to_string(&usage).unwrap();
        assert_eq!(serde_json::from_str::<Usage>(&text).unwrap(), usage);
    }

    #[test]
    fn failures_fill_their_limits_up() {
        let (limits, _) = Limits::from_variables(&BTreeMap::new()).unwrap();
        let mut desk = Desk::new(limits, "h".to_owned(), "e".to_owned(), Breaker::default());
        let at = Timestamp::from_millis(10);
        let _still_closed = desk.on_breaker(Input::Failure { begun_at: at }, at);
        let usage = Usage::of(&desk, at);
        assert_eq!(used(&usage, "MAX_CONSECUTIVE_FAILURES").used, Some(Decimal::ONE));
        assert_eq!(used(&usage, "MAX_FAILURES_PER_HOUR").used, Some(Decimal::ONE));
    }
}
