//! Which fills of an order are booked, each once, although two sources tell of them and it is not known whether they
//! number them alike (exchange API §11.3, §17): the list of trades and the user stream.
//!
//! Within one source an id is one trade. Between two sources, a trade told under an unknown id is taken for one that
//! only the other source has told of so far, if price and quantity are the same; so of equal trades as many are booked
//! as the source that knows more of them tells.

use crate::ids::TradeId;
use crate::report::{Fill, Source};

/// Who numbers a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    /// `myTrades`.
    List,
    /// The user stream.
    Stream,
}

impl Numbering {
    const fn other(self) -> Self {
        match self {
            Self::List => Self::Stream,
            Self::Stream => Self::List,
        }
    }
}

impl From<Source> for Numbering {
    fn from(source: Source) -> Self {
        match source {
            Source::Stream => Self::Stream,
            Source::Gate | Source::Rest | Source::Reconcile | Source::Recovery => Self::List,
        }
    }
}

/// One booked trade and under which ids it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Booked {
    fill: Fill,
    list_id: Option<TradeId>,
    stream_id: Option<TradeId>,
}

impl Booked {
    fn new(fill: Fill, numbering: Numbering) -> Self {
        let mut booked = Self { fill, list_id: None, stream_id: None };
        *booked.id_mut(numbering) = Some(booked.fill.trade_id.clone());
        booked
    }
    const fn id_mut(&mut self, numbering: Numbering) -> &mut Option<TradeId> {
        match numbering {
            Numbering::List => &mut self.list_id,
            Numbering::Stream => &mut self.stream_id,
        }
    }
    const fn id(&self, numbering: Numbering) -> Option<&TradeId> {
        match numbering {
            Numbering::List => self.list_id.as_ref(),
            Numbering::Stream => self.stream_id.as_ref(),
        }
    }
    fn is_like(&self, fill: &Fill) -> bool {
        (self.fill.last_px, self.fill.last_qty) == (fill.last_px, fill.last_qty)
    }
}

/// The booked fills of one order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fills(Vec<Booked>);

impl Fills {
    /// No fills.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether nothing is booked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in a fill that was booked before a restart, whatever it is like; whether it was not there yet.
    pub fn restore(&mut self, fill: Fill, source: Source) -> bool {
        let is_new = !self.0.iter().any(|booked| booked.fill.trade_id == fill.trade_id);
        if is_new {
            self.0.push(Booked::new(fill, Numbering::from(source)));
        }
        is_new
    }

    /// Takes in a fill as a source tells of it. The fill to book, or `None` when it is booked already.
    pub fn take(&mut self, fill: Fill, source: Source) -> Option<Fill> {
        let numbering = Numbering::from(source);
        let other = numbering.other();
        if self.0.iter().any(|booked| booked.id(numbering) == Some(&fill.trade_id)) {
            return None;
        }
        let is_same = |booked: &&mut Booked| booked.id(other) == Some(&fill.trade_id);
        let new = if let Some(same) = self.0.iter_mut().find(is_same) {
            // The same id in the other source: both number alike.
            let Some(mistaken) = same.id(numbering).cloned() else {
                *same.id_mut(numbering) = Some(fill.trade_id);
                return None;
            };
            // Two trades of the same price and quantity were taken for one. It stands for the trade under whose id it
            // was published; the other one is booked now.
            if same.fill.trade_id == fill.trade_id {
                *same.id_mut(numbering) = Some(fill.trade_id.clone());
                Booked::new(Fill { trade_id: mistaken, ..fill }, numbering)
            } else {
                *same.id_mut(other) = None;
                let mut new = Booked::new(fill.clone(), numbering);
                *new.id_mut(other) = Some(fill.trade_id);
                new
            }
        } else if let Some(like) =
            self.0.iter_mut().find(|booked| booked.id(numbering).is_none() && booked.is_like(&fill))
        {
            *like.id_mut(numbering) = Some(fill.trade_id);
            return None;
        } else {
            Booked::new(fill, numbering)
        };
        let fill = new.fill.clone();
        self.0.push(new);
        Some(fill)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Asset;
    use crate::money::{Price, Qty};

    fn fill(id: &str, price: u32, qty: u32) -> Fill {
        Fill {
            last_qty: Qty::parse(&qty.to_string()).unwrap(),
            last_px: Price::parse(&price.to_string()).unwrap(),
            trade_id: TradeId::parse(id).unwrap(),
            commission: Qty::ZERO,
            commission_asset: Asset::parse("USDT").unwrap(),
            is_maker: false,
        }
    }

    #[test]
    fn one_trade_told_by_both_sources_is_booked_once_whether_they_number_alike_or_not() {
        for stream_id in ["1", "1X1"] {
            let mut fills = Fills::default();
            assert!(fills.take(fill(stream_id, 100, 5), Source::Stream).is_some());
            assert!(fills.take(fill("1", 100, 5), Source::Rest).is_none());
            assert!(fills.take(fill(stream_id, 100, 5), Source::Stream).is_none());
            assert!(fills.take(fill("2", 100, 5), Source::Rest).is_some(), "a second one like it is another trade");
            assert!(fills.take(fill("3", 101, 5), Source::Rest).is_some());
        }
    }

    #[test]
    fn a_trade_mistaken_for_another_is_put_right_when_both_number_alike() {
        let mut fills = Fills::default();
        // The stream missed trade 1 and told of trade 2, which is just like it.
        assert_eq!(fills.take(fill("2", 100, 5), Source::Stream).unwrap().trade_id.as_str(), "2");
        assert!(fills.take(fill("1", 100, 5), Source::Rest).is_none());
        assert_eq!(fills.take(fill("2", 100, 5), Source::Rest).unwrap().trade_id.as_str(), "1");
    }

    #[test]
    fn equal_trades_booked_before_a_restart_stay_two() {
        let mut fills = Fills::default();
        assert!(fills.restore(fill("1X1", 100, 5), Source::Stream));
        assert!(fills.restore(fill("2", 100, 5), Source::Rest));
        assert!(!fills.restore(fill("2", 100, 5), Source::Rest));
        for id in ["1", "2"] {
            assert!(fills.take(fill(id, 100, 5), Source::Rest).is_none(), "{id}");
        }
        assert!(fills.take(fill("2X1", 100, 5), Source::Stream).is_none());
        assert!(fills.take(fill("3X1", 100, 5), Source::Stream).is_some());
    }

    proptest! {
        /// Any trades, told by a stream that loses, repeats and reorders, and by lists that lag behind, in any mixture:
        /// once a whole list was read, exactly these trades are booked, under distinct ids.
        #[test]
        fn every_trade_is_booked_exactly_once(
            trades in prop::collection::vec((1_u32..3, 1_u32..3), 1..8),
            is_numbered_alike in any::<bool>(),
            told in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..30),
            order in any::<u64>(),
        ) {
            let told_by = |index: usize, source: Source| {
                let (price, qty) = trades[index];
                let id = if source == Source::Stream && !is_numbered_alike { format!("{index}X1") } else { index.to_string() };
                fill(&id, price, qty)
            };
            let mut fills = Fills::default();
            let mut booked = Vec::new();
            for (index, is_stream) in told {
                let source = if is_stream { Source::Stream } else { Source::Rest };
                booked.extend(fills.take(told_by(index.index(trades.len()), source), source));
            }
            // The whole list, in one of its orders.
            let mut all: Vec<usize> = (0..trades.len()).collect();
            all.sort_by_key(|index| (order.rotate_left(u32::try_from(*index).unwrap() * 7) ^ order, *index));
            for index in all {
                booked.extend(fills.take(told_by(index, Source::Rest), Source::Rest));
            }
            // And the rest of what the stream had to tell.
            for index in 0..trades.len() {
                booked.extend(fills.take(told_by(index, Source::Stream), Source::Stream));
            }
            let sorted = |mut list: Vec<(String, String)>| { list.sort(); list };
            let content = |fill: &Fill| (fill.last_px.to_string(), fill.last_qty.to_string());
            let expected = trades.iter().map(|(price, qty)| (price.to_string(), qty.to_string())).collect();
            prop_assert_eq!(sorted(booked.iter().map(content).collect()), sorted(expected));
            let mut ids: Vec<&TradeId> = booked.iter().map(|fill| &fill.trade_id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), booked.len(), "an id was published twice");
        }
    }
}
