//! Bid, ask, last, and the liquidity behind them: a ladder whose level sizes are those of recent recorded trades.

use std::collections::VecDeque;

use rust_decimal::Decimal;

use crate::order::Side;

/// How many recent sizes make the ladder.
const SIZES: usize = 16;
/// Levels looked at; beyond them there is no liquidity.
const LEVELS: u32 = 1_000;
/// Distance between two levels as a share of the price.
const LEVEL_SHARE: Decimal = Decimal::from_parts(1, 0, 0, false, 4);
/// Level size when no trade was recorded.
const SCRIPTED_SIZE: Decimal = Decimal::ONE_THOUSAND;

/// The market of one symbol.
#[derive(Debug, Clone, Default)]
pub struct Market {
    /// Best buying price; `None` before the first price.
    pub bid: Option<Decimal>,
    /// Best selling price.
    pub ask: Option<Decimal>,
    /// Last traded price.
    pub last: Option<Decimal>,
    bid_side: Depth,
    ask_side: Depth,
}

#[derive(Debug, Clone, Default)]
struct Depth {
    sizes: VecDeque<Decimal>,
    taken: Decimal,
}

impl Depth {
    fn record(&mut self, size: Decimal) {
        self.sizes.push_front(size);
        self.sizes.truncate(SIZES);
        self.taken = Decimal::ZERO;
    }

    fn size(&self, level: usize) -> Decimal {
        if self.sizes.is_empty() { SCRIPTED_SIZE } else { self.sizes[level % self.sizes.len()] }
    }
}

impl Market {
    /// A recorded trade: the taker's side says which side of the book it shows.
    pub fn on_print(&mut self, price: Decimal, qty: Decimal, taker: Side, tick: Decimal) {
        self.last = Some(price);
        match taker {
            Side::Buy => {
                self.ask = Some(price);
                self.ask_side.record(qty);
                self.bid = Some(self.bid.map_or(price - tick, |bid| bid.min(price - tick)));
            }
            Side::Sell => {
                self.bid = Some(price);
                self.bid_side.record(qty);
                self.ask = Some(self.ask.map_or(price + tick, |ask| ask.max(price + tick)));
            }
        }
    }

    /// A scripted price with deep liquidity.
    pub fn on_script(&mut self, bid: Decimal, ask: Decimal, last: Decimal) {
        (self.bid, self.ask, self.last) = (Some(bid), Some(ask), Some(last));
        self.bid_side = Depth::default();
        self.ask_side = Depth::default();
    }

    /// Quantity at the best price of each side: bid, ask.
    #[must_use]
    pub fn top_sizes(&self) -> (Decimal, Decimal) {
        (self.bid_side.size(0), self.ask_side.size(0))
    }

    /// What a taker of `side` can have at `worst` or better: price and quantity per level, best first.
    #[must_use]
    pub fn liquidity(&self, side: Side, worst: Decimal, tick: Decimal) -> Vec<(Decimal, Decimal)> {
        let (best, depth) = match side {
            Side::Buy => (self.ask, &self.ask_side),
            Side::Sell => (self.bid, &self.bid_side),
        };
        let Some(best) = best else { return Vec::new() };
        let step = (best * LEVEL_SHARE).round_dp(tick.scale()).max(tick);
        let mut taken = depth.taken;
        let mut levels = Vec::new();
        for level in 0..LEVELS {
            let distance = step * Decimal::from(level);
            let price = match side {
                Side::Buy => best + distance,
                Side::Sell => best - distance,
            };
            let is_within = match side {
                Side::Buy => price <= worst,
                Side::Sell => price >= worst && price > Decimal::ZERO,
            };
            if !is_within {
                break;
            }
            let whole = depth.size(usize::try_from(level).unwrap_or_default());
            let used = taken.min(whole);
            taken -= used;
            if whole > used {
                levels.push((price, whole - used));
            }
        }
        levels
    }

    /// Removes what a taker took until the next trade shows fresh liquidity.
    pub fn take(&mut self, side: Side, qty: Decimal) {
        match side {
            Side::Buy => self.ask_side.taken += qty,
            Side::Sell => self.bid_side.taken += qty,
        }
    }
}
