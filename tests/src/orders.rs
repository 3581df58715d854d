//! Order texts.

use cdb_io::clock;
use serde_json::{Value, json};

/// A market buy of BTC.
#[must_use]
pub fn market_buy(id: &str, qty: &str) -> Value {
    json!({
        "v": 1, "type": "new", "cl_ord_id": id, "strategy": "test", "symbol": "BTCUSDT", "side": "BUY",
        "ord_type": "MARKET", "qty": qty, "ts": clock::now(),
    })
}

/// A market sell of BTC.
#[must_use]
pub fn market_sell(id: &str, qty: &str) -> Value {
    let mut order = market_buy(id, qty);
    order["side"] = json!("SELL");
    order
}

/// A limit buy of BTC that rests far below the market.
#[must_use]
pub fn resting_buy(id: &str, qty: &str) -> Value {
    json!({
        "v": 1, "type": "new", "cl_ord_id": id, "strategy": "test", "symbol": "BTCUSDT", "side": "BUY",
        "ord_type": "LIMIT", "tif": "GTC", "qty": qty, "price": "38000.00", "ts": clock::now(),
    })
}

/// A cancel.
#[must_use]
pub fn cancel(id: &str, target: &str) -> Value {
    json!({"v": 1, "type": "cancel", "cl_ord_id": id, "orig_cl_ord_id": target})
}

/// A cancel of everything.
#[must_use]
pub fn cancel_all(id: &str) -> Value {
    json!({"v": 1, "type": "cancel_all", "cl_ord_id": id})
}
