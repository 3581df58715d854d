//! A position out of its fills: quantity, average cost, realised and unrealised result, fees apart.

use crate::money::{Notional, Price, Qty};
use crate::order::Side;

/// The position in one symbol. Average-cost: a sale realises its price less the average cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    qty: Qty,
    cost: Notional,
    realised: Notional,
}

impl Position {
    /// Books one fill. More sold than was bought here (a holding from before the ledger) realises nothing for the
    /// part whose cost is not known.
    pub fn apply(&mut self, side: Side, qty: Qty, price: Price) {
        match side {
            Side::Buy => {
                self.qty = self.qty + qty;
                self.cost = self.cost + price.times(qty);
            }
            Side::Sell => {
                let known = qty.min(self.qty);
                let left = self.qty - known;
                let cost_left = match self.avg_px() {
                    Some(avg_px) if !left.is_zero() => avg_px.times(left),
                    Some(_) | None => Notional::ZERO,
                };
                let cost_sold = self.cost - cost_left;
                self.realised = self.realised + price.times(known) - cost_sold;
                self.qty = left;
                self.cost = cost_left;
            }
        }
    }

    /// Base quantity held.
    #[must_use]
    pub const fn qty(&self) -> Qty {
        self.qty
    }

    /// Average cost of what is held; `None` when nothing is.
    #[must_use]
    pub fn avg_px(&self) -> Option<Price> {
        self.cost.per(self.qty)
    }

    /// Result of what was sold.
    #[must_use]
    pub const fn realised(&self) -> Notional {
        self.realised
    }

    /// Result if what is held were sold at `mark`.
    #[must_use]
    pub fn unrealised(&self, mark: Price) -> Notional {
        mark.times(self.qty) - self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> Price {
        Price::parse(text).unwrap()
    }
    fn qty(text: &str) -> Qty {
        Qty::parse(text).unwrap()
    }

    #[test]
    fn buying_twice_and_selling_half_realises_against_the_average() {
        let mut position = Position::default();
        position.apply(Side::Buy, qty("1"), price("100"));
        position.apply(Side::Buy, qty("1"), price("110"));
        position.apply(Side::Sell, qty("1"), price("120"));
        assert_eq!(position.realised().to_string(), "15");
        assert_eq!(position.avg_px(), Some(price("105")));
        assert_eq!(position.unrealised(price("100")).to_string(), "-5");
    }

    #[test]
    fn selling_everything_leaves_no_cost_and_more_than_held_realises_only_what_is_known() {
        let mut position = Position::default();
        position.apply(Side::Buy, qty("1"), price("100"));
        position.apply(Side::Sell, qty("3"), price("90"));
        assert_eq!(position.realised().to_string(), "-10");
        assert!(position.qty().is_zero() && position.avg_px().is_none());
        assert!(position.unrealised(price("1")).is_zero());
    }
}
