//! Prices, quantities and amounts as decimals that cannot be mixed up (design §2: no float touches money).
//!
//! Every value enters through [`parse_decimal`], which bounds it to 12 digits before and 18 after the point.
//! Products of two bounded values fit the 96-bit decimal; every operation saturates and so fails a limit
//! rather than passing one.

use std::fmt;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most digits before the decimal point that a value may have.
pub const INTEGER_DIGITS_MAX: usize = 12;
/// Most digits after the decimal point that a value may have (the exchange sends up to 18 in balances).
pub const FRACTION_DIGITS_MAX: usize = 18;

/// Why a text is not a usable decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecimalFault {
    /// Not digits with at most one point, e.g. `NaN`, `1e5`, an empty text.
    #[error("is not a plain decimal number")]
    NotPlain,
    /// More digits than any real price, quantity or amount has.
    #[error("has too many digits (at most 12 before and 18 after the point)")]
    TooLong,
    /// Below zero where that has no meaning.
    #[error("must not be negative")]
    Negative,
    /// Zero where a positive value is needed.
    #[error("must be greater than zero")]
    Zero,
}

/// Reads plain decimal text: an optional minus, digits, an optional point with digits. No exponent, no sign `+`.
///
/// # Errors
/// [`DecimalFault::NotPlain`] or [`DecimalFault::TooLong`].
pub fn parse_decimal(text: &str) -> Result<Decimal, DecimalFault> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(DecimalFault::NotPlain),
        None => (digits, ""),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(DecimalFault::NotPlain);
    }
    let significant = whole.trim_start_matches('0').len();
    if significant > INTEGER_DIGITS_MAX || whole.len() > 28 {
        return Err(DecimalFault::TooLong);
    }
    let fraction_kept = fraction.trim_end_matches('0').len();
    if fraction_kept > FRACTION_DIGITS_MAX || fraction.len() > 28 || significant.saturating_add(fraction_kept) > 28 {
        return Err(DecimalFault::TooLong);
    }
    let value = Decimal::from_str_exact(text).or_else(|_| {
        let shorter = text.trim_end_matches('0');
        Decimal::from_str_exact(shorter.trim_end_matches('.'))
    });
    value.map_err(|_| DecimalFault::TooLong)
}

/// Reads a decimal that must be above zero.
fn parse_positive(text: &str) -> Result<Decimal, DecimalFault> {
    let value = parse_decimal(text)?;
    if value.is_zero() {
        Err(DecimalFault::Zero)
    } else if value.is_sign_negative() {
        Err(DecimalFault::Negative)
    } else {
        Ok(value)
    }
}

macro_rules! decimal_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Decimal);

        impl $name {
            /// The bare decimal, for display, SQL and figures in a verdict.
            #[must_use]
            pub const fn decimal(self) -> Decimal {
                self.0
            }
            /// Whether the value is exactly zero.
            #[must_use]
            pub fn is_zero(self) -> bool {
                self.0.is_zero()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

decimal_newtype! {
    /// A price in quote units per base unit; above zero when it was parsed.
    Price
}
decimal_newtype! {
    /// A quantity of an asset, zero or more (base quantity of an order, a balance).
    Qty
}
decimal_newtype! {
    /// An amount in the quote currency (price x quantity), of any sign.
    Notional
}

impl Price {
    /// Parses a price above zero.
    ///
    /// # Errors
    /// See [`DecimalFault`].
    pub fn parse(text: &str) -> Result<Self, DecimalFault> {
        parse_positive(text).map(Self)
    }
    /// A price from a computed decimal; `None` unless above zero.
    #[must_use]
    pub fn from_decimal(value: Decimal) -> Option<Self> {
        (value > Decimal::ZERO).then_some(Self(value))
    }
    /// Price x quantity.
    #[must_use]
    pub fn times(self, qty: Qty) -> Notional {
        Notional(self.0.saturating_mul(qty.0))
    }
    /// Raises (share > 0) or lowers (share < 0) the price by a share of itself, 0.01 = 1 %; never below zero.
    #[must_use]
    pub fn shifted(self, share: Decimal) -> Self {
        let factor = Decimal::ONE.saturating_add(share).max(Decimal::ZERO);
        Self(self.0.saturating_mul(factor))
    }
    /// The middle between two prices.
    #[must_use]
    pub fn midpoint(self, other: Self) -> Self {
        let sum = self.0.saturating_add(other.0);
        Self(sum.checked_div(Decimal::TWO).unwrap_or(sum))
    }
    /// |self - reference| / reference; `None` when the reference is zero.
    #[must_use]
    pub fn deviation_from(self, reference: Self) -> Option<Decimal> {
        self.0.saturating_sub(reference.0).abs().checked_div(reference.0)
    }
}

impl Qty {
    /// No quantity.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Parses a quantity above zero, as an order must have.
    ///
    /// # Errors
    /// See [`DecimalFault`].
    pub fn parse(text: &str) -> Result<Self, DecimalFault> {
        parse_positive(text).map(Self)
    }
    /// Parses a quantity of zero or more, as a balance or an executed quantity has.
    ///
    /// # Errors
    /// See [`DecimalFault`].
    pub fn parse_or_zero(text: &str) -> Result<Self, DecimalFault> {
        let value = parse_decimal(text)?;
        if value.is_sign_negative() && !value.is_zero() { Err(DecimalFault::Negative) } else { Ok(Self(value.abs())) }
    }
    /// A quantity from a computed decimal; below zero becomes zero.
    #[must_use]
    pub fn from_decimal(value: Decimal) -> Self {
        Self(value.max(Decimal::ZERO))
    }
}

impl std::ops::Add for Qty {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Subtraction stops at zero: a quantity is never negative.
impl std::ops::Sub for Qty {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(Decimal::ZERO))
    }
}

impl Notional {
    /// No amount.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Parses an amount above zero, as an order or a limit must have.
    ///
    /// # Errors
    /// See [`DecimalFault`].
    pub fn parse(text: &str) -> Result<Self, DecimalFault> {
        parse_positive(text).map(Self)
    }
    /// An amount from a computed decimal of any sign.
    #[must_use]
    pub const fn from_decimal(value: Decimal) -> Self {
        Self(value)
    }
    /// A quantity of the quote asset, seen as an amount.
    #[must_use]
    pub const fn of_quote(qty: Qty) -> Self {
        Self(qty.0)
    }
    /// This share of the amount, 0.1 = 10 %.
    #[must_use]
    pub fn share(self, share: Decimal) -> Self {
        Self(self.0.saturating_mul(share))
    }
    /// self / whole as a share; `None` when `whole` is zero or below.
    #[must_use]
    pub fn share_of(self, whole: Self) -> Option<Decimal> {
        if whole.0 <= Decimal::ZERO { None } else { self.0.checked_div(whole.0) }
    }
    /// How much of the base asset the amount buys at `price`; `None` when the price is zero.
    #[must_use]
    pub fn qty_at(self, price: Price) -> Option<Qty> {
        self.0.checked_div(price.0).map(Qty::from_decimal)
    }
    /// Average price of `qty` that cost this amount; `None` when nothing was traded.
    #[must_use]
    pub fn per(self, qty: Qty) -> Option<Price> {
        self.0.checked_div(qty.0).and_then(Price::from_decimal)
    }
    /// The amount, or zero when it is below.
    #[must_use]
    pub fn at_least_zero(self) -> Self {
        Self(self.0.max(Decimal::ZERO))
    }
}

impl std::ops::Add for Notional {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::Sub for Notional {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Notional {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, |total, item| total + item)
    }
}

/// A share in millionths, for gauges; saturates.
#[must_use]
pub fn millionths(share: Decimal) -> i64 {
    share.saturating_mul(Decimal::from(1_000_000_u32)).trunc().to_i64().unwrap_or(i64::MAX)
}

/// Writes a decimal without an exponent and without needless trailing zeros, as the exchange wants it.
#[must_use]
pub fn plain(value: Decimal) -> String {
    value.normalize().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_bounded_decimals_are_read() {
        for good in ["0", "0.1", "60000.00", "999999999999", "0.000000000000000001", "5.000000000000000000", "-3.5"] {
            assert!(parse_decimal(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "1.", ".5", "+1", "1e5", "NaN", "inf", "0x10", "1_000", " 1", "1 ", "--1", "1.2.3", "٣"] {
            assert_eq!(parse_decimal(bad), Err(DecimalFault::NotPlain), "{bad}");
        }
        let forty_digits = "1".repeat(40);
        assert_eq!(parse_decimal(&forty_digits), Err(DecimalFault::TooLong));
        assert_eq!(parse_decimal("0.0000000000000000001"), Err(DecimalFault::TooLong));
    }

    #[test]
    fn an_order_needs_positive_values() {
        assert_eq!(Price::parse("0"), Err(DecimalFault::Zero));
        assert_eq!(Qty::parse("-0.1"), Err(DecimalFault::Negative));
        assert_eq!(Qty::parse_or_zero("0").unwrap(), Qty::ZERO);
    }

    #[test]
    fn saturating_never_panics_and_never_wraps() {
        let huge = Price::parse("999999999999").unwrap();
        let amount = huge.times(Qty::parse("999999999999").unwrap());
        let total = (0..1_000).map(|_| amount).sum::<Notional>();
        assert!(total >= amount);
    }

    /// FL-OD-11: small prices left as 9.2e-7, and the exchange refused them.
    #[test]
    fn text_for_the_exchange_has_no_exponent_and_keeps_the_value() {
        for (text, wire) in [
            ("0.00000092", "0.00000092"),
            ("0.00000001", "0.00000001"),
            ("123456789.12345678", "123456789.12345678"),
            ("0.10", "0.1"),
            ("41070807", "41070807"),
            ("60000.00", "60000"),
            ("100", "100"),
        ] {
            assert_eq!(plain(parse_decimal(text).unwrap()), wire);
            assert_eq!(plain(Price::parse(text).unwrap().decimal()), wire);
        }
        for exponent in ["9.2e-7", "1E+3"] {
            assert_eq!(parse_decimal(exponent), Err(DecimalFault::NotPlain), "{exponent}");
        }
    }
}
