//! Order size and resulting position. Exits are not bound by upper limits: a limit must not lock anyone in.

use super::{Context, Figure, Outcome};
use crate::money::Notional;
use crate::order::{OrdType, Side};
use crate::reason::Reason;

/// At least the exchange's minima; a new risk also at least `MIN_ORDER_SIZE_USD`.
pub fn not_too_small(context: &Context<'_>) -> Outcome {
    let exchange_min = context.rules.map_or(Notional::ZERO, |rules| match context.order.ord_type {
        OrdType::Limit { .. } => rules.notional_min,
        OrdType::Market { .. } => rules.market_notional_min,
    });
    let own_min = if context.is_exit() { Notional::ZERO } else { context.limits.min_order_size_usd };
    let limit = exchange_min.max(own_min);
    let Some(notional) = context.least_notional() else { return unvalued(Reason::OrderTooSmall, limit) };
    if let (Some(qty), Some(rules)) = (context.order.order_qty(), context.rules)
        && qty < rules.qty_min
    {
        let text = format!("qty {qty} is below the exchange's minimum {}", rules.qty_min);
        let (value, limit) = (Figure::Decimal(qty.decimal()), Figure::Decimal(rules.qty_min.decimal()));
        return Outcome::refuse(Reason::OrderTooSmall, value, limit, text);
    }
    if notional < limit {
        let text = format!("worth {}, less than the minimum {limit}", Figure::from(notional));
        Outcome::refuse(Reason::OrderTooSmall, notional.into(), limit.into(), text)
    } else {
        Outcome::pass(notional.into(), limit.into())
    }
}

/// At most the exchange's maximum; a new risk also at most `MAX_ORDER_SIZE_USD`.
pub fn not_too_large(context: &Context<'_>) -> Outcome {
    let exchange_max = context.rules.and_then(|rules| match context.order.ord_type {
        OrdType::Limit { .. } => rules.notional_max,
        OrdType::Market { .. } => rules.market_notional_max,
    });
    let own_max = (!context.is_exit()).then_some(context.limits.max_order_size_usd);
    let limit = match (exchange_max, own_max) {
        (Some(exchange), Some(own)) => exchange.min(own),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => return Outcome::not_applicable(),
    };
    let Some(notional) = context.notional() else { return unvalued(Reason::OrderTooLarge, limit) };
    Outcome::at_most(Reason::OrderTooLarge, notional.decimal(), limit.decimal(), "worth")
}

/// Held position, open buys and this buy together are at most `MAX_POSITION_SIZE_USD`.
pub fn position(context: &Context<'_>) -> Outcome {
    if context.order.side == Side::Sell {
        return Outcome::not_applicable();
    }
    let limit = context.limits.max_position_size_usd;
    let Some(resulting) = resulting_position(context) else { return unvalued(Reason::PositionTooLarge, limit) };
    Outcome::at_most(Reason::PositionTooLarge, resulting.decimal(), limit.decimal(), "the resulting position")
}

/// The same, as a share of equity, is at most `MAX_POSITION_PCT`.
pub fn position_pct(context: &Context<'_>) -> Outcome {
    if context.order.side == Side::Sell {
        return Outcome::not_applicable();
    }
    let limit = context.limits.max_position_pct;
    let equity = context.rules.and_then(|rules| context.portfolio.exposure_and_equity(&rules.quote).ok());
    let share = resulting_position(context).zip(equity).and_then(|(resulting, (_, equity))| resulting.share_of(equity));
    match share {
        Some(share) => Outcome::at_most(Reason::PositionPctExceeded, share, limit, "the resulting share of equity"),
        None => Outcome::refuse(
            Reason::PositionPctExceeded,
            Figure::Nothing,
            Figure::Decimal(limit),
            "the account's equity is zero, negative, or holds an asset without a price",
        ),
    }
}

fn resulting_position(context: &Context<'_>) -> Option<Notional> {
    let held_and_open = context.portfolio.position_notional(context.rules?)?;
    Some(held_and_open + context.notional()?)
}

fn unvalued(reason: Reason, limit: Notional) -> Outcome {
    Outcome::refuse(reason, Figure::Nothing, limit.into(), "the order cannot be valued without a price")
}
