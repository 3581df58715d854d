//! Counts, throttles, duplicates by content, self-trade.

use super::{Context, Figure, Outcome};
use crate::money::Notional;
use crate::order::{OrdType, TimeInForce};
use crate::reason::Reason;
use crate::window::PaceCount;

/// Fewer than `MAX_OPEN_ORDERS` orders are open. An exit that cannot rest is always let through.
pub fn open_orders(context: &Context<'_>) -> Outcome {
    let can_rest = matches!(context.order.ord_type, OrdType::Limit { tif: TimeInForce::Gtc { .. }, .. });
    if context.is_exit() && !can_rest {
        return Outcome::not_applicable();
    }
    let open = u64::try_from(context.portfolio.orders().len()).unwrap_or(u64::MAX);
    one_more(Reason::TooManyOpenOrders, open, context.limits.max_open_orders, "open orders")
}

/// Fewer than `MAX_DAILY_ORDERS` orders were approved this UTC day.
pub fn daily_orders(context: &Context<'_>) -> Outcome {
    if context.is_exit() {
        return Outcome::not_applicable();
    }
    one_more(Reason::DailyOrderLimit, context.day.orders, context.limits.max_daily_orders, "orders this UTC day")
}

/// This UTC day's approved notional and this order together are at most `MAX_DAILY_NOTIONAL_USD`.
pub fn daily_notional(context: &Context<'_>) -> Outcome {
    if context.is_exit() {
        return Outcome::not_applicable();
    }
    let limit = context.limits.max_daily_notional_usd;
    together(context, Reason::DailyNotionalLimit, context.day.notional, limit, "this UTC day's notional")
}

/// The last minute's approved notional and this order together are at most `MAX_NOTIONAL_PER_MINUTE_USD`.
pub fn minute_notional(context: &Context<'_>) -> Outcome {
    if context.is_exit() {
        return Outcome::not_applicable();
    }
    let limit = context.limits.max_notional_per_minute_usd;
    together(context, Reason::NotionalThrottled, context.pace.minute_notional, limit, "the last minute's notional")
}

/// A strategy that runs in a circle: fewer than `MAX_REPEATED_ORDERS` of the same symbol, side, type and size, at
/// whatever price, were approved within `REPEAT_WINDOW_SEC`.
pub fn not_repeated(context: &Context<'_>) -> Outcome {
    if context.is_exit() {
        return Outcome::not_applicable();
    }
    let what = "orders of this strategy for the same symbol, side, type and size within the window";
    one_more(Reason::RepeatedOrder, context.pace.repeats, context.limits.max_repeated_orders, what)
}

/// Within `MAX_ORDERS_PER_SECOND` and `MAX_STRATEGY_ORDERS_PER_SECOND`.
pub fn throttle(context: &Context<'_>) -> Outcome {
    let PaceCount { all, of_strategy, .. } = context.pace;
    let whole = one_more(Reason::Throttled, all, context.limits.max_orders_per_second, "orders in the last second");
    if whole.refusal.is_some() {
        return whole;
    }
    let what = "orders of this strategy in the last second";
    one_more(Reason::Throttled, of_strategy, context.limits.max_strategy_orders_per_second, what)
}

/// The same content was not approved within `DUPLICATE_WINDOW_MS`.
pub fn not_a_twin(context: &Context<'_>) -> Outcome {
    let window_ms = context.limits.duplicate_window_ms;
    let limit = Figure::Millis(window_ms);
    match context.twin_age_ms {
        Some(age_ms) if age_ms < window_ms => {
            let text = format!("the same order was approved {age_ms} ms ago; wait {window_ms} ms if it is meant twice");
            Outcome::refuse(Reason::DuplicateOrder, Figure::Millis(age_ms), limit, text)
        }
        Some(age_ms) => Outcome::pass(Figure::Millis(age_ms), limit),
        None => Outcome::pass(Figure::Nothing, limit),
    }
}

/// No own open order on the other side would trade with it.
pub fn no_self_trade(context: &Context<'_>) -> Outcome {
    match context.portfolio.crossing_order(context.order, context.limits.market_slippage_pct) {
        None => Outcome::pass(Figure::Word("none"), Figure::Word("none")),
        Some(own) => {
            let text = format!("would trade with the own open order {own}");
            Outcome::refuse(Reason::SelfTrade, Figure::Name(own.to_string()), Figure::Word("none"), text)
        }
    }
}

/// Passes while what was approved before and this order are at most `limit`.
fn together(context: &Context<'_>, reason: Reason, before: Notional, limit: Notional, what: &str) -> Outcome {
    match context.notional() {
        Some(notional) => Outcome::at_most(reason, (before + notional).decimal(), limit.decimal(), what),
        None => Outcome::refuse(reason, Figure::Nothing, limit.into(), "the order cannot be valued"),
    }
}

/// Passes while `count + 1 <= limit`.
fn one_more(reason: Reason, count: u64, limit: u64, what: &str) -> Outcome {
    let (value, limit_figure) = (Figure::Count(count.saturating_add(1)), Figure::Count(limit));
    if count < limit {
        Outcome::pass(value, limit_figure)
    } else {
        Outcome::refuse(reason, value, limit_figure, format!("{count} {what}, at most {limit}"))
    }
}
