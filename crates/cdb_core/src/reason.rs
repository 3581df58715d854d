//! Every reason for which an order is refused, by risk, by the gate, or by the exchange. A refusal is a value.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($(#[$enum_doc:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)+ }) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)+
        }

        impl $name {
            /// Every variant, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable code used on the wire, in metrics and in the documentation.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.code())
            }
        }
    };
}

reasons! {
    /// Why cdb_risk refuses (design §4), in the order of the checks.
    Reason {
        /// A field is missing, unknown, or of the wrong shape.
        Malformed = "malformed",
        /// The ClOrdID was used before for other content.
        DuplicateClOrdId = "duplicate_cl_ord_id",
        /// Older than `MAX_ORDER_AGE_MS`, from the future, or past its own `expires_at`.
        StaleOrder = "stale_order",
        /// A stop covers the order: all, its symbol, or its strategy.
        EmergencyStop = "emergency_stop",
        /// Risk does not know its own history or the account; `cdb resume` ends it.
        StateLost = "state_lost",
        /// The circuit breaker is open, or half open with its probe in flight.
        CircuitOpen = "circuit_open",
        /// Not in `ALLOWED_STRATEGIES`.
        StrategyNotAllowed = "strategy_not_allowed",
        /// Not in `ALLOWED_SYMBOLS`.
        SymbolNotAllowed = "symbol_not_allowed",
        /// The exchange does not take this order on this symbol at present.
        SymbolNotTradable = "symbol_not_tradable",
        /// The price is not a multiple of the symbol's price step.
        InvalidPriceIncrement = "invalid_price_increment",
        /// The quantity is not a multiple of the symbol's quantity step.
        InvalidQtyIncrement = "invalid_qty_increment",
        /// No price is known for the symbol or for a held asset.
        NoReferencePrice = "no_reference_price",
        /// The price is older than `MAX_PRICE_AGE_MS`.
        StaleReferencePrice = "stale_reference_price",
        /// The book is crossed or wider than `MAX_SPREAD_PCT`.
        BadReferencePrice = "bad_reference_price",
        /// Further from the market than `MAX_PRICE_DEVIATION_PCT`.
        PriceOutsideCollar = "price_outside_collar",
        /// Below `MIN_ORDER_SIZE_USD` or the exchange's minimum.
        OrderTooSmall = "order_too_small",
        /// Above `MAX_ORDER_SIZE_USD` or the exchange's maximum.
        OrderTooLarge = "order_too_large",
        /// The resulting position would pass `MAX_POSITION_SIZE_USD`.
        PositionTooLarge = "position_too_large",
        /// The resulting position would pass `MAX_POSITION_PCT` of equity.
        PositionPctExceeded = "position_pct_exceeded",
        /// All positions and open buys together would pass `MAX_TOTAL_EXPOSURE` of equity.
        ExposureExceeded = "exposure_exceeded",
        /// Not enough free balance.
        InsufficientBalance = "insufficient_balance",
        /// `MAX_OPEN_ORDERS` reached.
        TooManyOpenOrders = "too_many_open_orders",
        /// `MAX_DAILY_ORDERS` reached.
        DailyOrderLimit = "daily_order_limit",
        /// `MAX_DAILY_NOTIONAL_USD` would be passed.
        DailyNotionalLimit = "daily_notional_limit",
        /// Faster than `MAX_ORDERS_PER_SECOND` or `MAX_STRATEGY_ORDERS_PER_SECOND`.
        Throttled = "throttled",
        /// `MAX_NOTIONAL_PER_MINUTE_USD` would be passed.
        NotionalThrottled = "notional_throttled",
        /// `MAX_REPEATED_ORDERS` of the same strategy, symbol, side, type and size within `REPEAT_WINDOW_SEC`.
        RepeatedOrder = "repeated_order",
        /// The same content as another order within `DUPLICATE_WINDOW_MS`.
        DuplicateOrder = "duplicate_order",
        /// Would trade with an own open order.
        SelfTrade = "self_trade",
    }
}

reasons! {
    /// Why an approved order was not sent (protocol, `source: gate`).
    GateRefusal {
        /// A stop covers the order.
        EmergencyStop = "emergency_stop",
        /// No permit, or one of another epoch, data set, wire version or set of limits.
        PermitMissing = "permit_missing",
        /// The breaker does not admit it.
        CircuitOpen = "circuit_open",
        /// The verdict or the order expired before its turn.
        Expired = "expired",
        /// The ClOrdID was granted before, to this or another process.
        AlreadyClaimed = "already_claimed",
        /// More orders wait for a rate slot than the queue may hold.
        RateQueueFull = "rate_queue_full",
        /// Granted, but not sent within the send deadline.
        SendDeadline = "send_deadline",
        /// Cancelled by its sender while it waited.
        CanceledBeforeSend = "canceled_before_send",
    }
}

reasons! {
    /// Why the exchange refused, reduced to what the sender may do about it (exchange API §12).
    VenueRefusal {
        /// Not enough balance at the exchange.
        InsufficientBalance = "venue_insufficient_balance",
        /// Price, quantity or amount outside the exchange's rules.
        OrderRules = "venue_order_rules",
        /// The symbol does not trade, or not through the API, or not for this key.
        SymbolNotTradable = "venue_symbol_not_tradable",
        /// This order type or side is not possible at present.
        NotPossibleNow = "venue_not_possible_now",
        /// Too many open orders at the exchange.
        TooManyOpenOrders = "venue_too_many_open_orders",
        /// Key, signature, address or permission refused.
        Auth = "venue_auth",
        /// The request's time was outside the window.
        Clock = "venue_clock",
        /// The account or its user is restricted.
        Account = "venue_account",
        /// Too many requests, or banned; nothing is sent until the given time.
        RateLimited = "venue_rate_limited",
        /// The exchange is paused.
        Maintenance = "venue_maintenance",
        /// The order does not exist after its fence passed.
        NotAccepted = "not_accepted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_exactly_these_checks_in_this_order() {
        let page = include_str!("../../../docs/limits.md");
        let (table, _) = page.split_once("## Settings").unwrap();
        let code = |line: &'static str| line.strip_prefix("| `")?.split('`').next();
        let documented: Vec<&str> = table.lines().filter_map(code).collect();
        let in_code: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(documented, in_code);
    }

    #[test]
    fn codes_are_unique_and_equal_the_wire_text() {
        let mut codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
