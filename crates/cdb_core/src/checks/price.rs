//! The reference price and the collar around it.

use super::{Context, Figure, Outcome};
use crate::order::{OrdType, Side};
use crate::reason::Reason;

/// A held asset other than the order's own is marked by a price at most this old, ms.
const MARK_AGE_MS_MAX: i64 = 60_000;

/// A price is known, recent, not crossed, and its spread is not absurd; for a buy, every held asset has a price too,
/// and one that is not dust a recent one.
pub fn reference(context: &Context<'_>) -> Outcome {
    let limit_ms = context.limits.max_price_age_ms;
    let symbol = &context.order.symbol;
    if let (Side::Buy, Some(rules)) = (context.order.side, context.rules)
        && let Err(asset) = context.portfolio.exposure_and_equity(&rules.quote)
    {
        let text = format!("the account holds {asset}, which has no price, so what is at risk is not known");
        return Outcome::refuse(
            Reason::NoReferencePrice,
            Figure::Name(asset.to_string()),
            Figure::Word("priced"),
            text,
        );
    }
    if let (Side::Buy, Some(rules)) = (context.order.side, context.rules)
        && let Some((asset, ts)) = context.portfolio.oldest_mark(&rules.quote)
        && context.now.since_ms(ts) > MARK_AGE_MS_MAX
    {
        let age_ms = context.now.since_ms(ts);
        let text = format!("the account holds {asset}, whose price is {age_ms} ms old: what is at risk is not known");
        let (value, limit) = (Figure::Millis(age_ms), Figure::Millis(MARK_AGE_MS_MAX));
        return Outcome::refuse(Reason::StaleReferencePrice, value, limit, text);
    }
    let Some(quote) = context.quote else {
        let text = format!("no price is known for {symbol}");
        return Outcome::refuse(Reason::NoReferencePrice, Figure::Nothing, Figure::Millis(limit_ms), text);
    };
    let age_ms = context.now.since_ms(quote.ts);
    let (value, limit) = (Figure::Millis(age_ms), Figure::Millis(limit_ms));
    if age_ms > limit_ms || age_ms < limit_ms.saturating_neg() {
        let text = format!("the price of {symbol} is {age_ms} ms old, more than {limit_ms} ms");
        return Outcome::refuse(Reason::StaleReferencePrice, value, limit, text);
    }
    let max_spread = context.limits.max_spread_pct;
    match quote.spread() {
        None => {
            let text = format!("bid {} is above ask {}", quote.bid, quote.ask);
            Outcome::refuse(Reason::BadReferencePrice, value, limit, text)
        }
        Some(spread) if spread > max_spread => {
            let text =
                format!("bid {} and ask {} are further apart than MAX_SPREAD_PCT {max_spread}", quote.bid, quote.ask);
            Outcome::refuse(Reason::BadReferencePrice, Figure::Decimal(spread), Figure::Decimal(max_spread), text)
        }
        Some(_) => Outcome::pass(value, limit),
    }
}

/// A limit price is at most `MAX_PRICE_DEVIATION_PCT` away from the side of the book that the order would take.
pub fn collar(context: &Context<'_>) -> Outcome {
    let OrdType::Limit { price, .. } = context.order.ord_type else { return Outcome::not_applicable() };
    let reference = context.quote.map(|quote| quote.aggressive(context.order.side));
    let deviation = reference.and_then(|reference| price.deviation_from(reference));
    match (deviation, reference) {
        (Some(deviation), Some(reference)) => {
            let what = format!("price {price} against the market's {reference}: a deviation of");
            Outcome::at_most(Reason::PriceOutsideCollar, deviation, context.limits.max_price_deviation_pct, &what)
        }
        (None, _) | (_, None) => Outcome::refuse(
            Reason::PriceOutsideCollar,
            Figure::Nothing,
            Figure::Decimal(context.limits.max_price_deviation_pct),
            "there is no price to compare with",
        ),
    }
}
