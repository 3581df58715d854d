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
    /// Recent trades, newest first.
    pub prints: VecDeque<Print>,
    /// Minute bars, oldest first.
    pub bars: VecDeque<Bar>,
    bid_side: Depth,
    ask_side: Depth,
}

/// A trade of the market.
#[derive(Debug, Clone, Copy)]
pub struct Print {
    /// Price.
    pub price: Decimal,
    /// Base quantity.
    pub qty: Decimal,
    /// The taker's side.
    pub taker: Side,
    /// Epoch ms.
    pub time: i64,
}

/// One minute of trades.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// Epoch ms of its beginning.
    pub start: i64,
    /// First price.
    pub open: Decimal,
    /// Highest price.
    pub high: Decimal,
    /// Lowest price.
    pub low: Decimal,
    /// Last price.
    pub close: Decimal,
    /// Base quantity.
    pub volume: Decimal,
    /// Quote amount.
    pub amount: Decimal,
}

impl Bar {
    /// Takes in a later bar of the same time.
    fn add(&mut self, later: &Self) {
        self.high = self.high.max(later.high);
        self.low = self.low.min(later.low);
        self.close = later.close;
        self.volume += later.volume;
        self.amount += later.amount;
    }
}

/// Trades and bars kept.
const KEPT: usize = 1_000;
/// Milliseconds of a bar.
pub const BAR_MS: i64 = 60_000;
const DAY_MS: i64 = 1_440 * BAR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;

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
    pub fn on_print(&mut self, print: Print, tick: Decimal) {
        let Print { price, qty, taker, .. } = print;
        self.last = Some(price);
        self.keep(print);
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

    fn keep(&mut self, print: Print) {
        self.prints.push_front(print);
        self.prints.truncate(KEPT);
        let amount = print.price * print.qty;
        let bar = Bar {
            start: print.time - print.time.rem_euclid(BAR_MS),
            open: print.price,
            high: print.price,
            low: print.price,
            close: print.price,
            volume: print.qty,
            amount,
        };
        match self.bars.back_mut() {
            Some(last) if last.start == bar.start => last.add(&bar),
            Some(_) | None => self.bars.push_back(bar),
        }
        if self.bars.len() > KEPT {
            self.bars.pop_front();
        }
    }

    /// Bars of this many ms, a multiple of a minute, out of the minutes kept.
    #[must_use]
    pub fn bars_of(&self, length: i64) -> Vec<Bar> {
        let mut longer: Vec<Bar> = Vec::new();
        for bar in &self.bars {
            // Weeks begin on a Monday; the epoch was a Thursday.
            let shift = if length == WEEK_MS { 4 * DAY_MS } else { 0 };
            let bar = Bar { start: bar.start - (bar.start - shift).rem_euclid(length), ..*bar };
            match longer.last_mut() {
                Some(last) if last.start == bar.start => last.add(&bar),
                Some(_) | None => longer.push(bar),
            }
        }
        longer
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
