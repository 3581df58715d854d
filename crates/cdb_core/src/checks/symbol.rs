//! Allow-lists, tradability, increments: what may be traded, in which steps.

use super::{Context, Figure, Outcome};
use crate::order::{MarketSize, OrdType};
use crate::reason::Reason;
use crate::symbol_rules::{USD_ASSETS, is_on_step};

/// The strategy is in `ALLOWED_STRATEGIES`.
pub fn strategy_allowed(context: &Context<'_>) -> Outcome {
    let strategy = &context.order.strategy;
    let (value, limit) = (Figure::Name(strategy.to_string()), Figure::Word("ALLOWED_STRATEGIES"));
    if context.limits.allowed_strategies.allow(strategy) {
        Outcome::pass(value, limit)
    } else {
        Outcome::refuse(Reason::StrategyNotAllowed, value, limit, format!("{strategy} is not in ALLOWED_STRATEGIES"))
    }
}

/// The symbol is in `ALLOWED_SYMBOLS`.
pub fn symbol_allowed(context: &Context<'_>) -> Outcome {
    let symbol = &context.order.symbol;
    let (value, limit) = (Figure::Name(symbol.to_string()), Figure::Word("ALLOWED_SYMBOLS"));
    if context.limits.allowed_symbols.contains(symbol) {
        Outcome::pass(value, limit)
    } else {
        Outcome::refuse(Reason::SymbolNotAllowed, value, limit, format!("{symbol} is not in ALLOWED_SYMBOLS"))
    }
}

/// The exchange takes this kind of order on this symbol at present, through the API.
pub fn tradable(context: &Context<'_>) -> Outcome {
    let (symbol, side) = (&context.order.symbol, context.order.side);
    let refuse = |text: String| {
        Outcome::refuse(Reason::SymbolNotTradable, Figure::Word("not tradable"), Figure::Word("tradable"), text)
    };
    let Some(rules) = context.rules else {
        return refuse(format!("the exchange's rules for {symbol} are not known"));
    };
    if !USD_ASSETS.contains(&rules.quote.as_str()) {
        let text =
            format!("{symbol} is paid in {}, and every limit is in USD ({})", rules.quote, USD_ASSETS.join(", "));
        return refuse(text);
    }
    if !rules.is_tradable {
        return refuse(format!("{symbol} is not open for trading through the API"));
    }
    if !rules.sides.allow(side) {
        return refuse(format!("{symbol} is closed for {}", side.as_str()));
    }
    if matches!(context.order.ord_type, OrdType::Market { .. }) && !rules.has_market_orders {
        return refuse(format!("{symbol} takes no MARKET orders; use LIMIT"));
    }
    Outcome::pass(Figure::Word("tradable"), Figure::Word("tradable"))
}

/// The price is a multiple of the symbol's price step.
pub fn price_increment(context: &Context<'_>) -> Outcome {
    let (Some(price), Some(rules)) = (context.order.price(), context.rules) else { return Outcome::not_applicable() };
    on_step(Reason::InvalidPriceIncrement, price.decimal(), rules.price_decimals, "price")
}

/// The quantity is a multiple of the symbol's quantity step (a quote amount, of its price step).
pub fn qty_increment(context: &Context<'_>) -> Outcome {
    let Some(rules) = context.rules else { return Outcome::not_applicable() };
    match context.order.ord_type {
        OrdType::Limit { qty, .. } | OrdType::Market { size: MarketSize::Qty(qty) } => {
            on_step(Reason::InvalidQtyIncrement, qty.decimal(), rules.qty_decimals, "qty")
        }
        OrdType::Market { size: MarketSize::Quote(amount) } => {
            on_step(Reason::InvalidQtyIncrement, amount.decimal(), rules.price_decimals, "quote_qty")
        }
    }
}

fn on_step(reason: Reason, value: rust_decimal::Decimal, decimals: u32, what: &str) -> Outcome {
    let (figure, limit) = (Figure::Decimal(value), Figure::Count(u64::from(decimals)));
    if is_on_step(value, decimals) {
        Outcome::pass(figure, limit)
    } else {
        let text = format!("{what} {value} has more than the {decimals} decimals that the exchange takes");
        Outcome::refuse(reason, figure, limit, text)
    }
}
