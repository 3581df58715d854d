//! The day's result and the fall from the peak (design §4):
//!
//! P&L today = sum over assets of start-of-day holding x (mark - start-of-day mark)
//!           + sum over fills of signed quantity x (mark - fill price) - fees.
//!
//! Deposits and withdrawals do not move it: only holdings of the day's start and the day's own fills are marked.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ids::Asset;
use crate::money::{Notional, Price, Qty};
use crate::order::Side;
use crate::time::{Timestamp, UtcDay};

/// What was held at the start of the day, at which price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Quantity.
    pub qty: Qty,
    /// Mark at the start of the day.
    pub mark: Price,
}

/// The result of one UTC day so far, and the peak since the books began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayResult {
    /// The day.
    pub day: UtcDay,
    /// Equity at its start; zero before the first balances.
    pub start_equity: Notional,
    /// Holdings at its start.
    pub opening: BTreeMap<Asset, Opening>,
    /// Base quantity bought less sold today, per asset.
    pub net_qty: BTreeMap<Asset, Decimal>,
    /// Quote received less paid today.
    pub net_quote: Notional,
    /// Fees of today in quote.
    pub fees: Notional,
    /// Highest cumulative result since the books began, transfers left out; the drawdown is measured from it.
    pub peak: Notional,
    /// Cumulative result of all days before this one.
    pub earlier: Notional,
    /// First equity of the books plus transfers never enters the drawdown: it is a share of this.
    pub base_equity: Notional,
}

/// The two figures that open the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Result of the day so far.
    pub today: Notional,
    /// Loss of the day as a share of the day's first equity; zero for a gain.
    pub daily_loss: Decimal,
    /// Fall from the peak as a share of the equity at the peak.
    pub drawdown: Decimal,
}

/// How near a loss has come to its limit: an operator is warned at 60 % and at 80 % of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Nearness {
    /// Below 60 %.
    #[default]
    Far,
    /// From 60 % on.
    Sixty,
    /// From 80 % on.
    Eighty,
    /// The limit itself, which opens the breaker.
    Reached,
}

impl Nearness {
    /// Of a loss to its limit, both as shares.
    #[must_use]
    pub fn of(loss: Decimal, limit: Decimal) -> Self {
        let part = |tenths: i64| limit.saturating_mul(Decimal::new(tenths, 1));
        if loss >= limit {
            Self::Reached
        } else if loss >= part(8) {
            Self::Eighty
        } else if loss >= part(6) {
            Self::Sixty
        } else {
            Self::Far
        }
    }
}

impl DayResult {
    /// Begins the books, or a new day: `opening` is what is held, `equity` what it is worth.
    #[must_use]
    pub fn begin(self, day: UtcDay, opening: BTreeMap<Asset, Opening>, equity: Notional, result: Notional) -> Self {
        let is_first = self.base_equity.is_zero();
        Self {
            day,
            start_equity: equity,
            opening,
            net_qty: BTreeMap::new(),
            net_quote: Notional::ZERO,
            fees: Notional::ZERO,
            peak: self.peak,
            earlier: if is_first { Notional::ZERO } else { self.earlier + result },
            base_equity: if is_first { equity } else { self.base_equity },
        }
    }

    /// Begins to measure anew from here: what was lost before was looked at by an operator.
    #[must_use]
    pub fn rebased(self, opening: BTreeMap<Asset, Opening>, equity: Notional) -> Self {
        Self { base_equity: Notional::ZERO, peak: Notional::ZERO, ..self.clone() }.begin(
            self.day,
            opening,
            equity,
            Notional::ZERO,
        )
    }

    /// Whether a new day has begun, or the books have not.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.day() > self.day
    }

    /// Books one fill of today.
    pub fn on_fill(&mut self, base: &Asset, side: Side, qty: Qty, price: Price) {
        let cost = price.times(qty);
        let net = self.net_qty.entry(base.clone()).or_default();
        match side {
            Side::Buy => {
                *net = net.saturating_add(qty.decimal());
                self.net_quote = self.net_quote - cost;
            }
            Side::Sell => {
                *net = net.saturating_sub(qty.decimal());
                self.net_quote = self.net_quote + cost;
            }
        }
    }

    /// Books one fee, in quote.
    pub fn on_fee(&mut self, fee: Notional) {
        self.fees = self.fees + fee;
    }

    /// Result of the day at these marks; `None` when an asset that matters has none.
    #[must_use]
    pub fn today(&self, mark_of: impl Fn(&Asset) -> Option<Price>) -> Option<Notional> {
        let mut result = self.net_quote - self.fees;
        for (asset, opening) in &self.opening {
            let mark = mark_of(asset)?;
            result = result + mark.times(opening.qty) - opening.mark.times(opening.qty);
        }
        for (asset, net) in self.net_qty.iter().filter(|(_, net)| !net.is_zero()) {
            let mark = mark_of(asset)?;
            result = result + Notional::from_decimal(mark.decimal().saturating_mul(*net));
        }
        Some(result)
    }

    /// Moves the peak and gives the figures; `None` when they cannot be known.
    pub fn figures(&mut self, mark_of: impl Fn(&Asset) -> Option<Price>) -> Option<Figures> {
        let today = self.today(mark_of)?;
        let cumulative = self.earlier + today;
        self.peak = self.peak.max(cumulative);
        let loss = (Notional::ZERO - today).at_least_zero();
        let fall = (self.peak - cumulative).at_least_zero();
        Some(Figures {
            today,
            daily_loss: loss.share_of(self.start_equity)?,
            drawdown: fall.share_of(self.base_equity + self.peak)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }
    fn price(text: &str) -> Price {
        Price::parse(text).unwrap()
    }
    fn qty(text: &str) -> Qty {
        Qty::parse(text).unwrap()
    }
    fn btc() -> Asset {
        Asset::parse("BTC").unwrap()
    }

    fn holding_one_btc_at_100() -> DayResult {
        let opening = BTreeMap::from([(btc(), Opening { qty: qty("1"), mark: price("100") })]);
        let day = UtcDay::from_number(20_000);
        DayResult::default().begin(day, opening, Notional::parse("1000").unwrap(), Notional::ZERO)
    }

    #[test]
    fn a_holding_from_the_day_before_counts_from_the_days_first_mark() {
        let mut result = holding_one_btc_at_100();
        let figures = result.figures(|_| Some(price("50"))).unwrap();
        assert_eq!((figures.today.decimal(), figures.daily_loss), (dec("-50"), dec("0.05")));
    }

    #[test]
    fn fills_and_fees_of_today_count_against_the_mark() {
        let mut result = holding_one_btc_at_100();
        result.on_fill(&btc(), Side::Buy, qty("2"), price("110"));
        result.on_fill(&btc(), Side::Sell, qty("1"), price("120"));
        result.on_fee(Notional::parse("1").unwrap());
        // 1 x (115-100) + 2 x (115-110) - 1 x (115-120) - 1
        assert_eq!(result.today(|_| Some(price("115"))).unwrap().decimal(), dec("29"));
    }

    #[test]
    fn the_drawdown_is_measured_from_the_highest_result_and_runs_on_over_midnight() {
        let mut result = holding_one_btc_at_100();
        result.figures(|_| Some(price("300")));
        let figures = result.figures(|_| Some(price("180"))).unwrap();
        assert_eq!(figures.drawdown, dec("0.1"), "120 of 1200");
        let today = figures.today;
        let opening = BTreeMap::from([(btc(), Opening { qty: qty("1"), mark: price("180") })]);
        let mut next = result.begin(UtcDay::from_number(20_001), opening, Notional::parse("1080").unwrap(), today);
        let figures = next.figures(|_| Some(price("180"))).unwrap();
        assert_eq!((figures.daily_loss, figures.drawdown), (dec("0"), dec("0.1")));
    }

    #[test]
    fn after_an_operators_reset_losses_are_measured_anew() {
        let mut result = holding_one_btc_at_100();
        result.figures(|_| Some(price("300")));
        let opening = BTreeMap::from([(btc(), Opening { qty: qty("1"), mark: price("50") })]);
        let mut rebased = result.rebased(opening, Notional::parse("950").unwrap());
        let figures = rebased.figures(|_| Some(price("50"))).unwrap();
        assert_eq!((figures.daily_loss, figures.drawdown), (dec("0"), dec("0")));
    }

    #[test]
    fn warnings_come_at_sixty_and_at_eighty_percent_of_a_limit_exactly() {
        for (loss, expected) in [
            ("0", Nearness::Far),
            ("0.02999", Nearness::Far),
            ("0.03", Nearness::Sixty),
            ("0.03999", Nearness::Sixty),
            ("0.04", Nearness::Eighty),
            ("0.04999", Nearness::Eighty),
            ("0.05", Nearness::Reached),
        ] {
            assert_eq!(Nearness::of(dec(loss), dec("0.05")), expected, "{loss}");
        }
    }

    #[test]
    fn without_a_mark_nothing_is_known() {
        let mut result = holding_one_btc_at_100();
        assert_eq!(result.figures(|_| None), None);
    }
}
