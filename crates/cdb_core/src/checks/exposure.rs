//! All positions together, and the balance that pays for the order.

use rust_decimal::Decimal;

use super::{Context, Figure, Outcome};
use crate::order::Side;
use crate::reason::Reason;

/// All positions, open buys and this buy together are at most `MAX_TOTAL_EXPOSURE` of equity.
pub fn total(context: &Context<'_>) -> Outcome {
    let limit = context.limits.max_total_exposure;
    if context.order.side == Side::Sell {
        return Outcome::not_applicable();
    }
    let refuse =
        |text: String| Outcome::refuse(Reason::ExposureExceeded, Figure::Nothing, Figure::Decimal(limit), text);
    let (Some(rules), Some(notional)) = (context.rules, context.notional()) else {
        return refuse("the order cannot be valued without a price".to_owned());
    };
    match context.portfolio.exposure_and_equity(&rules.quote) {
        Err(asset) => refuse(format!("the account holds {asset}, which has no price, so its exposure is not known")),
        Ok((exposure, equity)) => match (exposure + notional).share_of(equity) {
            Some(share) => {
                Outcome::at_most(Reason::ExposureExceeded, share, limit, "total exposure as a share of equity")
            }
            None => refuse("the account has no equity".to_owned()),
        },
    }
}

/// The free balance covers the order and its fee: quote for a buy, base for a sell.
pub fn balance(context: &Context<'_>) -> Outcome {
    let (Some(rules), Some(notional)) = (context.rules, context.notional()) else {
        let text = "the order cannot be valued without a price";
        return Outcome::refuse(Reason::InsufficientBalance, Figure::Nothing, Figure::Nothing, text);
    };
    match context.order.side {
        Side::Buy => {
            let needed = notional.share(Decimal::ONE.saturating_add(rules.taker_fee));
            let free = context.portfolio.free_quote(&rules.quote);
            let what = format_args!("needs (fee included) {}", rules.quote);
            Outcome::at_most(Reason::InsufficientBalance, needed.decimal(), free.decimal(), what)
        }
        Side::Sell => {
            let qty = context.order.order_qty().map_or(Decimal::MAX, |qty| qty.decimal());
            let free = context.portfolio.free_base(rules);
            let what = format_args!("sells {}", rules.base);
            Outcome::at_most(Reason::InsufficientBalance, qty, free.decimal(), what)
        }
    }
}
