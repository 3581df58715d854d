//! Whether two readings of the account are explained by what was booked between them. What is not, to the last digit, is
//! a transfer that the exchange told of, or a break between its books and ours (design §6).

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use crate::ids::Asset;
use crate::order::Side;
use crate::report::{AssetBalance, Fill};

/// Differences up to this are rounding: fees are kept with 18 decimals and may come with more.
const TOLERANCE: Decimal = Decimal::from_parts(1, 0, 0, false, 8);

/// What booked fills did to the account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flows(BTreeMap<Asset, Decimal>);

impl Flows {
    /// Adds a fill of `base` against `quote`.
    pub fn add(&mut self, base: &Asset, quote: &Asset, side: Side, fill: &Fill) {
        let (qty, cost) = (fill.last_qty.decimal(), fill.last_px.times(fill.last_qty).decimal());
        let less = |amount: Decimal| Decimal::ZERO.saturating_sub(amount);
        let (in_base, in_quote) = match side {
            Side::Buy => (qty, less(cost)),
            Side::Sell => (less(qty), cost),
        };
        let fee = (&fill.commission_asset, less(fill.commission.decimal()));
        for (asset, amount) in [(base, in_base), (quote, in_quote), fee] {
            let sum = self.0.entry(asset.clone()).or_default();
            *sum = sum.saturating_add(amount);
        }
    }

    fn of(&self, asset: &Asset) -> Decimal {
        self.0.get(asset).copied().unwrap_or_default()
    }
}

/// A change of a balance that no fill explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// Of this asset.
    pub asset: Asset,
    /// Free and locked together, before.
    pub before: Decimal,
    /// What it should be by the fills.
    pub expected: Decimal,
    /// What it is.
    pub actual: Decimal,
}

/// Compares two readings, both made at moments when every fill was booked.
#[must_use]
pub fn unexplained(before: &[AssetBalance], after: &[AssetBalance], flows: &Flows) -> Vec<Unexplained> {
    let total = |balances: &[AssetBalance]| -> BTreeMap<Asset, Decimal> {
        let one = |balance: &AssetBalance| {
            (balance.asset.clone(), balance.free.decimal().saturating_add(balance.locked.decimal()))
        };
        balances.iter().map(one).collect()
    };
    let (before, after) = (total(before), total(after));
    let assets: std::collections::BTreeSet<&Asset> = before.keys().chain(after.keys()).chain(flows.0.keys()).collect();
    let compare = |asset: &Asset| {
        let was = before.get(asset).copied().unwrap_or_default();
        let expected = was.saturating_add(flows.of(asset));
        let actual = after.get(asset).copied().unwrap_or_default();
        let is_off = actual.saturating_sub(expected).abs() > TOLERANCE;
        is_off.then(|| Unexplained { asset: asset.clone(), before: was, expected, actual })
    };
    assets.into_iter().filter_map(compare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TradeId;
    use crate::money::{Price, Qty};
    use crate::test_values::asset;

    fn balances(list: &[(&str, &str, &str)]) -> Vec<AssetBalance> {
        let qty = |text: &str| Qty::parse_or_zero(text).unwrap();
        list.iter()
            .map(|(name, free, locked)| AssetBalance { asset: asset(name), free: qty(free), locked: qty(locked) })
            .collect()
    }

    fn flows() -> Flows {
        let fill = Fill {
            last_qty: Qty::parse("0.5").unwrap(),
            last_px: Price::parse("100").unwrap(),
            trade_id: TradeId::parse("1").unwrap(),
            commission: Qty::parse("0.05").unwrap(),
            commission_asset: asset("MX"),
            is_maker: false,
        };
        let mut flows = Flows::default();
        flows.add(&asset("BTC"), &asset("USDT"), Side::Buy, &fill);
        flows.add(&asset("BTC"), &asset("USDT"), Side::Buy, &fill);
        flows.add(&asset("BTC"), &asset("USDT"), Side::Sell, &fill);
        flows
    }

    #[test]
    fn fills_fees_and_locks_explain_every_balance_to_the_last_digit() {
        let before = balances(&[("USDT", "1000", "0"), ("BTC", "1", "0"), ("MX", "5", "0")]);
        let after = balances(&[("USDT", "940", "10"), ("BTC", "0.5", "1"), ("MX", "4.85", "0")]);
        assert_eq!(unexplained(&before, &after, &flows()), []);
    }

    #[test]
    fn one_step_more_or_less_is_found_also_of_an_asset_that_came_or_went() {
        let before = balances(&[("USDT", "1000", "0"), ("DOGE", "7", "0")]);
        let after = balances(&[("USDT", "1000.00000002", "0"), ("SHIB", "3", "0")]);
        let found = unexplained(&before, &after, &Flows::default());
        let names: Vec<&str> = found.iter().map(|one| one.asset.as_str()).collect();
        assert_eq!(names, ["DOGE", "SHIB", "USDT"]);
        let after = balances(&[("USDT", "1000.00000001", "0"), ("DOGE", "7", "0")]);
        assert_eq!(unexplained(&before, &after, &Flows::default()), [], "rounding");
    }
}
