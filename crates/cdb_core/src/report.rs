//! What happened to an order, to the account, or between the two (protocol `cdb:executions`).

use serde::{Deserialize, Serialize};

use crate::ids::{Asset, ClOrdId, OrderId, StrategyId, Symbol, TradeId};
use crate::money::{Notional, Price, Qty};
use crate::order::Side;
use crate::time::Timestamp;

/// FIX tag 150.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecType {
    /// Handed to the sender, not yet answered.
    PendingNew,
    /// The exchange has it.
    New,
    /// A fill.
    Trade,
    /// A cancel is under way.
    PendingCancel,
    /// Cancelled, by us or by the exchange, with whatever was filled before.
    Canceled,
    /// Refused; nothing was or will be executed.
    Rejected,
    /// Ended by its own time in force.
    Expired,
    /// The state was looked up: doubt begins, doubt ends, a cancel was refused.
    OrderStatus,
}

/// FIX tag 39.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OrdStatus {
    /// Handed to the sender, not yet answered.
    PendingNew,
    /// At the exchange, nothing filled.
    New,
    /// At the exchange, part filled.
    PartiallyFilled,
    /// All filled.
    Filled,
    /// A cancel is under way.
    PendingCancel,
    /// Cancelled, with whatever was filled before.
    Canceled,
    /// Refused.
    Rejected,
    /// Ended by its own time in force.
    Expired,
}

impl OrdStatus {
    /// Whether the order can still trade.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Filled | Self::Canceled | Self::Rejected | Self::Expired => true,
            Self::PendingNew | Self::New | Self::PartiallyFilled | Self::PendingCancel => false,
        }
    }

    /// The wire text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingNew => "PendingNew",
            Self::New => "New",
            Self::PartiallyFilled => "PartiallyFilled",
            Self::Filled => "Filled",
            Self::PendingCancel => "PendingCancel",
            Self::Canceled => "Canceled",
            Self::Rejected => "Rejected",
            Self::Expired => "Expired",
        }
    }
}

/// Where a report's knowledge comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Decided at the gate, before anything was sent.
    Gate,
    /// The answer to a request, or a query.
    Rest,
    /// The user stream.
    Stream,
    /// A comparison with the exchange.
    Reconcile,
    /// Settled after a restart.
    Recovery,
}

/// Paper, validate or live; results of different modes never mix (design §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Against the stand-in.
    Paper,
    /// Against the exchange's own test-order endpoint.
    Validate,
    /// Real money.
    Live,
}

impl Mode {
    /// The wire text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Validate => "validate",
            Self::Live => "live",
        }
    }

    /// Parses the wire text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "paper" => Some(Self::Paper),
            "validate" => Some(Self::Validate),
            "live" => Some(Self::Live),
            _ => None,
        }
    }
}

/// One fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Base quantity of this fill.
    pub last_qty: Qty,
    /// Its price.
    pub last_px: Price,
    /// The exchange's id for it.
    pub trade_id: TradeId,
    /// Fee, in `commission_asset`; never assumed to be base or quote (exchange API §9).
    pub commission: Qty,
    /// What the fee was taken in.
    pub commission_asset: Asset,
    /// Whether the order made liquidity.
    pub is_maker: bool,
}

/// One change of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionReport {
    /// Wire version.
    pub v: i64,
    /// The order.
    pub cl_ord_id: ClOrdId,
    /// The exchange's id, absent before it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub order_id: Option<OrderId>,
    /// Unique per report.
    pub exec_id: String,
    /// What happened.
    pub exec_type: ExecType,
    /// The order's state after it.
    pub ord_status: OrdStatus,
    /// Whether it is unknown if the order exists at the exchange.
    pub in_doubt: bool,
    /// Who sent the order.
    pub strategy: StrategyId,
    /// What is traded.
    pub symbol: Symbol,
    /// Buy or sell.
    pub side: Side,
    /// `LIMIT` or `MARKET`.
    pub ord_type: String,
    /// `GTC`, `IOC`, `FOK`; absent for MARKET.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tif: Option<String>,
    /// Base quantity ordered, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub order_qty: Option<Qty>,
    /// Quote amount of a market order sized by it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quote_qty: Option<Notional>,
    /// Limit price.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub price: Option<Price>,
    /// Base quantity filled so far.
    pub cum_qty: Qty,
    /// Base quantity that may still fill; absent for an open market order sized in quote.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaves_qty: Option<Qty>,
    /// Average price of what is filled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub avg_px: Option<Price>,
    /// The fill, with `Trade` only.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub fill: Option<Fill>,
    /// Code when Rejected, Expired, in doubt, or a cancel was refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// For a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// The cancel command whose outcome this is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cancel_cl_ord_id: Option<ClOrdId>,
    /// Where this is known from.
    pub source: Source,
    /// Paper, validate or live.
    pub mode: Mode,
    /// When it happened, by the exchange where it says so.
    pub transact_time: Timestamp,
    /// When the report was made.
    pub ts: Timestamp,
}

/// One asset of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetBalance {
    /// The asset.
    pub asset: Asset,
    /// Not held by open orders.
    pub free: Qty,
    /// Held by open orders.
    pub locked: Qty,
}

/// The account as the exchange reports it, at a moment when every fill was booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSnapshot {
    /// Wire version.
    pub v: i64,
    /// All assets that are not zero.
    pub balances: Vec<AssetBalance>,
    /// Whether the account may trade.
    pub can_trade: bool,
    /// Whether the key may withdraw.
    pub can_withdraw: bool,
    /// Exchange clock minus ours, ms.
    pub clock_offset_ms: i64,
    /// The exchange's clock.
    pub exchange_time: Timestamp,
    /// Ours.
    pub ts: Timestamp,
    /// Paper, validate or live.
    pub mode: Mode,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A fill that no report had brought.
    MissedFill,
    /// An order that cdb did not send.
    ForeignOrder,
    /// A trade that cdb did not cause.
    ForeignTrade,
    /// A balance that the known fills do not explain.
    BalanceBreak,
    /// An order of ours that the exchange does not have.
    OrderMissing,
    /// A deposit or withdrawal.
    Transfer,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::MissedFill,
        Self::ForeignOrder,
        Self::ForeignTrade,
        Self::BalanceBreak,
        Self::OrderMissing,
        Self::Transfer,
    ];

    /// The wire word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissedFill => "missed_fill",
            Self::ForeignOrder => "foreign_order",
            Self::ForeignTrade => "foreign_trade",
            Self::BalanceBreak => "balance_break",
            Self::OrderMissing => "order_missing",
            Self::Transfer => "transfer",
        }
    }
}

/// A difference between the exchange and our books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Wire version.
    pub v: i64,
    /// What it is about.
    pub kind: FindingKind,
    /// The symbol, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub symbol: Option<Symbol>,
    /// The exchange's order id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub order_id: Option<String>,
    /// The exchange's trade id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trade_id: Option<String>,
    /// What our books say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ours: Option<String>,
    /// What the exchange says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub theirs: Option<String>,
    /// For a person.
    pub text: String,
    /// When it was found.
    pub ts: Timestamp,
}

/// Everything that cdb_execution publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Execution {
    /// One change of an order.
    ExecutionReport(Box<ExecutionReport>),
    /// The account.
    AccountSnapshot(AccountSnapshot),
    /// A difference.
    Finding(Finding),
}

impl Execution {
    /// Reads one message.
    ///
    /// # Errors
    /// What serde says, with the place; also for an unknown wire version.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let message: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let v = match &message {
            Self::ExecutionReport(report) if (report.exec_type == ExecType::Trade) != report.fill.is_some() => {
                return Err("a Trade needs last_qty, last_px, trade_id and commission; no other report has them".into());
            }
            Self::ExecutionReport(report) => report.v,
            Self::AccountSnapshot(snapshot) => snapshot.v,
            Self::Finding(finding) => finding.v,
        };
        if v == crate::command::WIRE_VERSION { Ok(message) } else { Err(format!("wire version {v} is not known")) }
    }

    /// The canonical JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report always serialises")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRADE: &str = r#"{"type":"execution_report","v":1,"cl_ord_id":"a-1","order_id":"C02__1","exec_id":"t:7","exec_type":"Trade","ord_status":"PartiallyFilled","in_doubt":false,"strategy":"s","symbol":"BTCUSDT","side":"BUY","ord_type":"LIMIT","tif":"GTC","order_qty":"0.002","price":"60000.00","cum_qty":"0.001","leaves_qty":"0.001","avg_px":"60000.00","last_qty":"0.001","last_px":"60000.00","trade_id":"7","commission":"0.06","commission_asset":"USDT","is_maker":true,"source":"rest","mode":"paper","transact_time":1700000000000,"ts":1700000000005}"#;
    const ACCOUNT: &str = r#"{"type":"account_snapshot","v":1,"balances":[{"asset":"USDT","free":"10","locked":"0"}],"can_trade":true,"can_withdraw":false,"clock_offset_ms":-3,"exchange_time":1,"ts":2,"mode":"paper"}"#;
    const FINDING: &str = r#"{"type":"finding","v":1,"kind":"foreign_order","symbol":"BTCUSDT","order_id":"C02__9","text":"not ours","ts":3}"#;

    #[test]
    fn golden_messages_read_and_write_the_same_bytes() {
        for json in [TRADE, ACCOUNT, FINDING] {
            assert_eq!(Execution::parse(json.as_bytes()).unwrap().to_json(), json);
        }
    }

    #[test]
    fn a_report_without_a_fill_reads_as_none_and_unknown_fields_are_ignored() {
        let json = TRADE
            .replace("\"Trade\"", "\"OrderStatus\"")
            .replace(r#""last_qty":"0.001","last_px":"60000.00","trade_id":"7","commission":"0.06","commission_asset":"USDT","is_maker":true,"#, "")
            .replace("\"v\":1", "\"v\":1,\"news\":[1]");
        let Execution::ExecutionReport(report) = Execution::parse(json.as_bytes()).unwrap() else { panic!("report") };
        assert_eq!(report.fill, None);
        assert!(Execution::parse(TRADE.replace("\"v\":1", "\"v\":2").as_bytes()).is_err());
        assert!(Execution::parse(TRADE.replace("\"trade_id\":\"7\",", "").as_bytes()).is_err());
    }
}
