//! Recorded prints as a price path: each file's trades in their own rhythm, over and over.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rust_decimal::Decimal;

use crate::order::Side;
use crate::state::Shared;

/// One recorded trade.
#[derive(Debug, Clone)]
pub struct Print {
    /// Milliseconds since the first one.
    pub after_ms: u64,
    /// Price.
    pub price: Decimal,
    /// Base quantity.
    pub qty: Decimal,
    /// The taker's side.
    pub taker: Side,
}

/// Reads `trades-<SYMBOL>-<date>.csv` with the columns `ts_ms,trade_id,price,qty,side`; its symbol and its prints.
///
/// # Errors
/// The file's name or a line is not of this form; the line is named.
pub fn read(path: &Path) -> anyhow::Result<(String, Vec<Print>)> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(symbol) = name.strip_prefix("trades-").and_then(|rest| rest.split('-').next()) else {
        bail!("{}: the name must be trades-<SYMBOL>-<date>.csv", path.display());
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut prints = Vec::new();
    let mut first = None;
    for (index, line) in text.lines().enumerate().skip(1) {
        let print = parse(line, &mut first).with_context(|| format!("{} line {}", path.display(), index + 1))?;
        prints.push(print);
    }
    if prints.is_empty() {
        bail!("{} has no prints", path.display());
    }
    Ok((symbol.to_owned(), prints))
}

fn parse(line: &str, first: &mut Option<u64>) -> anyhow::Result<Print> {
    let fields: Vec<&str> = line.split(',').collect();
    let [ts_ms, _, price, qty, side] = fields[..] else { bail!("has {} fields, not 5", fields.len()) };
    let ts_ms: u64 = ts_ms.parse().context("ts_ms")?;
    let first = *first.get_or_insert(ts_ms);
    let taker = match side {
        "BUY" => Side::Buy,
        "SELL" => Side::Sell,
        _ => bail!("side is neither BUY nor SELL"),
    };
    let (price, qty) = (price.parse().context("price")?, qty.parse().context("qty")?);
    Ok(Print { after_ms: ts_ms.saturating_sub(first), price, qty, taker })
}

/// Plays the prints in their rhythm, again from the beginning at the end, for as long as the process lives.
pub async fn play(shared: Arc<Shared>, symbol: String, prints: Vec<Print>) {
    loop {
        let start = tokio::time::Instant::now();
        for print in &prints {
            tokio::time::sleep_until(start + Duration::from_millis(print.after_ms)).await;
            let mut inner = shared.lock();
            let now = inner.exchange_ms();
            let trades_before = inner.exchange.trades.len();
            inner.exchange.on_print(&symbol, print.price, print.qty, print.taker, now);
            if inner.exchange.trades.len() > trades_before
                && let Err(error) = inner.keep()
            {
                tracing::error!(%error, "the stand-in's books cannot be kept");
            }
        }
        // A pause keeps a file of one instant from spinning.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
