//! Identity, age, stops, lost state, breaker: whether the order may be looked at at all.

use super::{Context, Figure, Outcome};
use crate::breaker;
use crate::money::Notional;
use crate::reason::Reason;

/// How far in the future an order's own time may lie (the exchange allows 1 s, API §3).
const FUTURE_MS_MAX: i64 = 1_000;
/// Oldest usable balances, ms: six refreshes of the account.
const BALANCES_AGE_MS_MAX: i64 = 60_000;

/// The ClOrdID was not used for other content.
pub fn id_is_new(context: &Context<'_>) -> Outcome {
    if context.is_id_taken {
        let id = Figure::Name(context.order.cl_ord_id.to_string());
        return Outcome::refuse(
            Reason::DuplicateClOrdId,
            id,
            Figure::Word("unused"),
            "this cl_ord_id was used within the last 35 days for other content; give every order its own",
        );
    }
    Outcome::pass(Figure::Word("unused"), Figure::Word("unused"))
}

/// `ts` is at most `MAX_ORDER_AGE_MS` old, not from the future, and `expires_at` has not come.
pub fn age(context: &Context<'_>) -> Outcome {
    let age_ms = context.now.since_ms(context.order.ts);
    let limit_ms = context.limits.max_order_age_ms;
    let (value, limit) = (Figure::Millis(age_ms), Figure::Millis(limit_ms));
    if age_ms > limit_ms {
        let text = format!("made {age_ms} ms ago, more than {limit_ms} ms");
        return Outcome::refuse(Reason::StaleOrder, value, limit, text);
    }
    if age_ms < FUTURE_MS_MAX.saturating_neg() {
        let text = format!("its ts lies {} ms in the future; check the sender's clock", age_ms.saturating_neg());
        return Outcome::refuse(Reason::StaleOrder, value, limit, text);
    }
    if context.order.expires_at.is_some_and(|expires_at| context.now >= expires_at) {
        return Outcome::refuse(Reason::StaleOrder, value, limit, "its own expires_at has passed");
    }
    Outcome::pass(value, limit)
}

/// No stop covers the order.
pub fn no_stop(context: &Context<'_>) -> Outcome {
    match context.stop {
        None => Outcome::pass(Figure::Word("none"), Figure::Word("none")),
        Some(stop) => {
            let text = format!("stopped ({}): {}", stop.scope, stop.reason);
            Outcome::refuse(Reason::EmergencyStop, Figure::Name(stop.scope.clone()), Figure::Word("none"), text)
        }
    }
}

/// Risk knows its own history and recent balances.
pub fn state_known(context: &Context<'_>) -> Outcome {
    let lost = |text: &str| Outcome::refuse(Reason::StateLost, Figure::Word("lost"), Figure::Word("known"), text);
    if let Some(why) = context.state_lost {
        return lost(why);
    }
    let Some(as_of) = context.portfolio.balances_as_of() else {
        return lost("the account's balances are not known yet; is cdb_execution running and the exchange reachable?");
    };
    let age_ms = context.now.since_ms(as_of);
    if age_ms > BALANCES_AGE_MS_MAX {
        return lost(&format!("the account's balances are {age_ms} ms old, more than {BALANCES_AGE_MS_MAX} ms"));
    }
    if !context.portfolio.can_trade() {
        return lost("the exchange says that this account may not trade");
    }
    Outcome::pass(Figure::Word("known"), Figure::Word("known"))
}

/// The breaker is closed, or half open with room for this one small probe, or the order is an exit.
pub fn breaker_admits(context: &Context<'_>) -> Outcome {
    let closed = Figure::Word("closed");
    if context.is_exit() {
        return Outcome::not_applicable();
    }
    match context.breaker {
        breaker::State::Closed => Outcome::pass(closed.clone(), closed),
        breaker::State::Open { cause, retry_at, .. } => {
            let until = retry_at.map_or("until `cdb breaker reset`".to_owned(), |at| format!("until {at:?}"));
            let text = format!("the circuit breaker is open ({cause}) {until}; exits are still admitted");
            Outcome::refuse(Reason::CircuitOpen, Figure::Word("open"), closed, text)
        }
        breaker::State::HalfOpen { cause, .. } => half_open(context, cause),
    }
}

fn half_open(context: &Context<'_>, cause: breaker::Cause) -> Outcome {
    let (value, limit) = (Figure::Word("half_open"), Figure::Word("one small probe"));
    if let Some(probe) = context.probe {
        let text = format!("the circuit breaker is half open ({cause}) and the probe {probe} is in flight");
        return Outcome::refuse(Reason::CircuitOpen, value, limit, text);
    }
    let floor = context.rules.map_or(Notional::ZERO, |rules| rules.notional_min.max(rules.market_notional_min));
    let largest = floor.max(context.limits.min_order_size_usd);
    let largest = largest + largest;
    match context.notional() {
        Some(notional) if notional <= largest => Outcome::pass(value, limit),
        Some(notional) => {
            let text = format!("half open ({cause}): a probe may be worth {largest} at most, this is {notional}");
            Outcome::refuse(Reason::CircuitOpen, Figure::from(notional), Figure::from(largest), text)
        }
        None => Outcome::refuse(Reason::CircuitOpen, value, limit, "half open, and the order cannot be valued"),
    }
}
