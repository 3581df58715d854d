//! Every call with its weight (exchange API §4.2) and the rate budgets that it takes from (design §6).

use cdb_core::gate::Budget;

/// The calls that cdb makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// `GET /time`
    Time,
    /// `GET /exchangeInfo`
    ExchangeInfo,
    /// `GET /ticker/bookTicker`
    BookTicker,
    /// `GET /ticker/price`
    Price,
    /// `POST /order`
    NewOrder,
    /// `POST /order/test`
    TestOrder,
    /// `DELETE /order`
    CancelOrder,
    /// `DELETE /openOrders`
    CancelOpenOrders,
    /// `GET /order`
    QueryOrder,
    /// `GET /openOrders`
    OpenOrders,
    /// `GET /allOrders`
    AllOrders,
    /// `GET /myTrades`
    MyTrades,
    /// `GET /account`
    Account,
    /// `POST /batchOrders`
    BatchOrders,
    /// `GET /ping`
    Ping,
    /// `GET /defaultSymbols`
    DefaultSymbols,
    /// `GET /selfSymbols`
    SelfSymbols,
    /// `GET /depth`
    Depth,
    /// `GET /trades`
    Trades,
    /// `GET /tradeFee`
    TradeFee,
    /// `/userDataStream`
    ListenKey,
    /// A WebSocket connection.
    Stream,
}

/// Who asks, which decides how much of a budget it may use up: emergency cancels are never starved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Cancels.
    Cancel,
    /// Questions about orders.
    Query,
    /// New orders.
    New,
    /// Prices, balances, rules.
    Poll,
}

/// The budgets as configured. Defaults are the tightest of what the exchange documents, what its support says and
/// what the owner's guide asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// New orders and cancels together in any second.
    pub orders_per_second: u32,
    /// New orders and cancels together in any 10 seconds.
    pub orders_per_10_seconds: u32,
    /// New orders alone in any second.
    pub new_orders_per_second: u32,
    /// All REST calls in any second.
    pub rest_per_second: u32,
    /// Weight per endpoint in any 10 seconds.
    pub endpoint_weight_per_10_seconds: u32,
    /// Readings of the account, and likewise batches, in any second.
    pub account_per_second: u32,
    /// Stream connections opened in any 10 seconds.
    pub streams_per_10_seconds: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            orders_per_second: 10,
            orders_per_10_seconds: 90,
            new_orders_per_second: 8,
            rest_per_second: 15,
            endpoint_weight_per_10_seconds: 240,
            account_per_second: 2,
            streams_per_10_seconds: 8,
        }
    }
}

impl Endpoint {
    /// Every call.
    pub const ALL: &'static [Self] = &[
        Self::Time,
        Self::ExchangeInfo,
        Self::BookTicker,
        Self::Price,
        Self::NewOrder,
        Self::TestOrder,
        Self::CancelOrder,
        Self::CancelOpenOrders,
        Self::QueryOrder,
        Self::OpenOrders,
        Self::AllOrders,
        Self::MyTrades,
        Self::Account,
        Self::BatchOrders,
        Self::Ping,
        Self::DefaultSymbols,
        Self::SelfSymbols,
        Self::Depth,
        Self::Trades,
        Self::TradeFee,
        Self::ListenKey,
        Self::Stream,
    ];

    /// The name in metrics and rate budgets.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::ExchangeInfo => "exchange_info",
            Self::BookTicker => "book_ticker",
            Self::Price => "price",
            Self::NewOrder => "new_order",
            Self::TestOrder => "test_order",
            Self::CancelOrder => "cancel_order",
            Self::CancelOpenOrders => "cancel_open_orders",
            Self::QueryOrder => "query_order",
            Self::OpenOrders => "open_orders",
            Self::AllOrders => "all_orders",
            Self::MyTrades => "my_trades",
            Self::Account => "account",
            Self::BatchOrders => "batch_orders",
            Self::Ping => "ping",
            Self::DefaultSymbols => "default_symbols",
            Self::SelfSymbols => "self_symbols",
            Self::Depth => "depth",
            Self::Trades => "trades",
            Self::TradeFee => "trade_fee",
            Self::ListenKey => "listen_key",
            Self::Stream => "stream",
        }
    }

    /// Whether a request must say when it was made, by the exchange's clock.
    #[must_use]
    pub const fn is_signed(self) -> bool {
        match self {
            Self::Time
            | Self::ExchangeInfo
            | Self::BookTicker
            | Self::Price
            | Self::Ping
            | Self::DefaultSymbols
            | Self::Depth
            | Self::Trades
            | Self::Stream => false,
            Self::NewOrder
            | Self::TestOrder
            | Self::CancelOrder
            | Self::CancelOpenOrders
            | Self::QueryOrder
            | Self::OpenOrders
            | Self::AllOrders
            | Self::MyTrades
            | Self::Account
            | Self::BatchOrders
            | Self::SelfSymbols
            | Self::TradeFee
            | Self::ListenKey => true,
        }
    }

    /// Its weight.
    #[must_use]
    pub const fn weight(self) -> u32 {
        match self {
            Self::Time
            | Self::BookTicker
            | Self::NewOrder
            | Self::TestOrder
            | Self::CancelOrder
            | Self::CancelOpenOrders
            | Self::BatchOrders
            | Self::Ping
            | Self::DefaultSymbols
            | Self::SelfSymbols
            | Self::Depth
            | Self::ListenKey
            | Self::Stream => 1,
            Self::Price | Self::QueryOrder => 2,
            Self::OpenOrders => 3,
            Self::Trades => 5,
            Self::ExchangeInfo | Self::AllOrders | Self::MyTrades | Self::Account => 10,
            Self::TradeFee => 20,
        }
    }

    /// The budgets that a call takes from, with the share that its priority may use up.
    #[must_use]
    pub fn budgets(self, priority: Priority, budgets: &Budgets) -> Vec<Budget> {
        let mut list = Vec::with_capacity(4);
        let mut take = |name: &str, whole: u32, window_ms: i64, weight: u32| {
            list.push(Budget { name: name.to_owned(), limit: share(whole, priority), window_ms, weight });
        };
        take("rest_1s", budgets.rest_per_second, 1_000, 1);
        take(self.name(), budgets.endpoint_weight_per_10_seconds, 10_000, self.weight());
        match self {
            Self::NewOrder | Self::TestOrder => {
                take("orders_1s", budgets.orders_per_second, 1_000, 1);
                take("orders_10s", budgets.orders_per_10_seconds, 10_000, 1);
                whole("new_orders_1s", budgets.new_orders_per_second, 1_000, &mut list);
            }
            Self::BatchOrders => {
                take("orders_1s", budgets.orders_per_second, 1_000, 1);
                take("orders_10s", budgets.orders_per_10_seconds, 10_000, 1);
                whole("batch_1s", budgets.account_per_second, 1_000, &mut list);
            }
            Self::CancelOrder | Self::CancelOpenOrders => {
                take("orders_1s", budgets.orders_per_second, 1_000, 1);
                take("orders_10s", budgets.orders_per_10_seconds, 10_000, 1);
            }
            // The exchange takes so many calls a second here, whoever asks.
            Self::Account => whole("account_1s", budgets.account_per_second, 1_000, &mut list),
            // Far fewer than the 10 connections that the exchange allows, even while the old ones linger.
            Self::Stream => whole("streams_10s", budgets.streams_per_10_seconds, 10_000, &mut list),
            Self::Time
            | Self::ExchangeInfo
            | Self::BookTicker
            | Self::Price
            | Self::QueryOrder
            | Self::OpenOrders
            | Self::AllOrders
            | Self::MyTrades
            | Self::Ping
            | Self::DefaultSymbols
            | Self::SelfSymbols
            | Self::Depth
            | Self::Trades
            | Self::TradeFee
            | Self::ListenKey => {}
        }
        list
    }
}

/// A budget that everybody may use up.
fn whole(name: &str, limit: u32, window_ms: i64, list: &mut Vec<Budget>) {
    list.push(Budget { name: name.to_owned(), limit, window_ms, weight: 1 });
}

/// How far a priority may fill a budget: the rest is kept for those above it. A tenth, at least 1, for cancels; as
/// much again for queries; and polls leave as much again for new orders.
fn share(whole: u32, priority: Priority) -> u32 {
    let step = (whole / 10).max(1);
    let kept = match priority {
        Priority::Cancel => 0,
        Priority::Query => step,
        Priority::New => step.saturating_mul(2),
        Priority::Poll => step.saturating_mul(4),
    };
    whole.saturating_sub(kept).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_order_leaves_room_for_cancels_in_every_budget_they_share() {
        let budgets = Budgets::default();
        let new = Endpoint::NewOrder.budgets(Priority::New, &budgets);
        let cancel = Endpoint::CancelOrder.budgets(Priority::Cancel, &budgets);
        for shared in ["rest_1s", "orders_1s", "orders_10s"] {
            let limit = |list: &[Budget]| list.iter().find(|budget| budget.name == shared).unwrap().limit;
            assert!(limit(&new) < limit(&cancel), "{shared}");
        }
        assert_eq!(new.iter().find(|budget| budget.name == "orders_1s").unwrap().limit, 8);
    }
}
