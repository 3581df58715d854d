//! Names of things: orders, trades, strategies, symbols, stream entries. Parsed at the edge, then trusted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest ClOrdID and strategy name (exchange API §8.3: 32 of `A-Za-z0-9_-` is what is known to work).
pub const NAME_LEN_MAX: usize = 32;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:expr, $charset:expr, $what:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// What a valid text looks like, for error messages.
            pub const SHAPE: &'static str = $what;

            /// Parses the text; `None` when it does not have [`Self::SHAPE`].
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let allowed: fn(u8) -> bool = $charset;
                let fits = !text.is_empty() && text.len() <= $max && text.bytes().all(allowed);
                fits.then(|| Self(text.into()))
            }
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text).ok_or_else(|| format!("is not {}", Self::SHAPE))
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }
    };
}

text_id! {
    /// The sender's own order id (FIX tag 11, ClOrdID), unique for 35 days.
    ClOrdId, NAME_LEN_MAX, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_',
    "1 to 32 characters of A-Z a-z 0-9 - _"
}
text_id! {
    /// The exchange's order id (FIX tag 37): opaque text, never a number (exchange API §8.1).
    OrderId, 64, |b| b.is_ascii_graphic(), "1 to 64 printable characters"
}
text_id! {
    /// The exchange's trade id (FIX tag 1003).
    TradeId, 64, |b| b.is_ascii_graphic(), "1 to 64 printable characters"
}
text_id! {
    /// Who sent an order.
    StrategyId, NAME_LEN_MAX, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.',
    "1 to 32 characters of A-Z a-z 0-9 - _ ."
}
text_id! {
    /// A trading pair in the exchange's spelling: upper case, no separator.
    Symbol, 24, |b| b.is_ascii_uppercase() || b.is_ascii_digit(),
    "1 to 24 characters of A-Z 0-9 (upper case, no separator, like BTCUSDT)"
}
text_id! {
    /// An asset, e.g. `USDT`.
    Asset, 24, |b| b.is_ascii_graphic(), "1 to 24 printable characters"
}
text_id! {
    /// A Redis stream entry id, e.g. `1700000000000-0`.
    EntryId, 42, |b| b.is_ascii_digit() || b == b'-', "a stream entry id like 1700000000000-0"
}

impl EntryId {
    /// Where it stands in its stream: Redis orders entries by two numbers, not by their text.
    #[must_use]
    pub fn position(&self) -> (u64, u64) {
        let (ms, number) = self.0.split_once('-').unwrap_or((&self.0, "0"));
        (ms.parse().unwrap_or_default(), number.parse().unwrap_or_default())
    }

    /// Whether it stands after another entry of the same stream.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        self.position() > other.position()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_exact() {
        assert!(Symbol::parse("BTCUSDT").is_some());
        for bad in ["", "btcusdt", "BTC/USDT", "BTC-USDT", " BTCUSDT", "BTCUSDT\n"] {
            assert!(Symbol::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn entries_stand_in_the_order_of_their_numbers() {
        let entry = |text: &str| EntryId::parse(text).unwrap();
        assert!(entry("1700000000000-10").is_after(&entry("1700000000000-9")));
        assert!(entry("1700000000001-0").is_after(&entry("1700000000000-9")));
        assert!(entry("10-0").is_after(&entry("9-0")) && entry("1-0").is_after(&entry("0")));
        assert!(!entry("9-9").is_after(&entry("9-9")));
    }

    #[test]
    fn client_ids_stay_within_what_the_exchange_takes() {
        assert!(ClOrdId::parse(&"a".repeat(32)).is_some());
        assert!(ClOrdId::parse(&"a".repeat(33)).is_none());
        assert!(ClOrdId::parse("a b").is_none());
    }
}
