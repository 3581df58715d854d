//! Positions out of all fills of this mode, marked at the latest prices. Computed anew only when the ledger has moved.

use std::collections::BTreeMap;

use cdb_core::market::Quote;
use cdb_core::money::{Price, Qty};
use cdb_core::order::Side;
use cdb_core::position::Position;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::ledger::Ledger;

/// Positions with fees by asset.
#[derive(Default)]
pub struct Books {
    as_of: Option<String>,
    positions: BTreeMap<String, (Position, BTreeMap<String, Decimal>)>,
}

impl Books {
    /// Reads the fills, when there may be new ones.
    ///
    /// # Errors
    /// The database failed.
    pub async fn refresh(&mut self, ledger: &Ledger, mode: &str) -> Result<(), sqlx::Error> {
        let cursor = ledger.cursor(cdb_io::bus::keys::EXECUTIONS).await?;
        if self.as_of.as_ref() == Some(&cursor) {
            return Ok(());
        }
        let fills = sqlx::query!(
            "SELECT symbol, side, qty, price, commission, commission_asset FROM fills WHERE mode = $1
             ORDER BY symbol, traded_at, split_part(entry, '-', 1)::bigint, split_part(entry, '-', 2)::bigint",
            mode
        )
        .fetch_all(&ledger.pool)
        .await?;
        self.positions.clear();
        for fill in fills {
            let (position, fees) = self.positions.entry(fill.symbol).or_default();
            let side = if fill.side == "BUY" { Side::Buy } else { Side::Sell };
            let Some(price) = Price::from_decimal(fill.price) else { continue };
            position.apply(side, Qty::from_decimal(fill.qty), price);
            let fee = fees.entry(fill.commission_asset).or_default();
            *fee = fee.saturating_add(fill.commission);
        }
        self.as_of = Some(cursor);
        Ok(())
    }

    /// The positions at these prices, the JSON of `cdb:price` by symbol.
    pub fn marked(&self, prices: &BTreeMap<String, String>) -> Vec<Value> {
        let one = |(symbol, (position, fees)): (&String, &(Position, BTreeMap<String, Decimal>))| {
            let quote = prices.get(symbol).and_then(|json| serde_json::from_str::<Quote>(json).ok());
            let mark = quote.as_ref().map(Quote::mark);
            json!({
                "symbol": symbol, "qty": position.qty(), "avg_px": position.avg_px(), "mark": mark,
                "realised": position.realised(), "unrealised": mark.map(|mark| position.unrealised(mark)),
                "fees": fees, "marked_at": quote.map(|quote| quote.ts),
            })
        };
        self.positions.iter().map(one).collect()
    }
}
