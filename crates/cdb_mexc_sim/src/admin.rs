//! The interface for tests and scripts, on a port of its own. Documented in `docs/stand-in.md`.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::auth::Pair;
use crate::exchange::{Exchange, Uncertain, Wanted};
use crate::faults::FaultRule;
use crate::order::{Kind, Side};
use crate::state::{Shared, Switches};

/// The admin routes.
pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/requests", get(requests))
        .route("/requests/forget", post(forget_requests))
        .route("/orders", get(orders))
        .route("/trades", get(trades))
        .route("/account", get(account))
        .route("/budget", get(budget))
        .route("/faults", get(faults).post(set_faults))
        .route("/switches", get(switches).post(set_switches))
        .route("/uncertain", post(set_uncertain))
        .route("/price", post(set_price))
        .route("/print", post(print))
        .route("/foreign-order", post(foreign_order))
        .route("/transfer", post(transfer))
        .route("/keys", get(keys).post(set_keys))
        .route("/keys/add", post(add_keys))
        .route("/keys/revoke", post(revoke_keys))
        .route("/streams", get(streams))
        .route("/streams/cut", post(cut_streams))
        .route("/listen-keys/lapse", post(lapse_listen_keys))
        .route("/reset", post(reset))
        .with_state(shared)
}

#[derive(Deserialize)]
struct RequestFilter {
    endpoint: Option<String>,
}

/// Every request seen, oldest first; `?endpoint=POST%20order` only those.
async fn requests(State(shared): State<Arc<Shared>>, Query(filter): Query<RequestFilter>) -> Json<Value> {
    let inner = shared.lock();
    let wanted = inner.seen.iter().filter(|seen| filter.endpoint.as_ref().is_none_or(|one| *one == seen.endpoint));
    Json(json!(wanted.collect::<Vec<_>>()))
}

/// Forgets the requests seen so far; budgets and books stay.
async fn forget_requests(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.lock().forget_seen();
    Json(json!({"ok": true}))
}

async fn orders(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.lock().exchange.orders.values().collect::<Vec<_>>()))
}

async fn trades(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.lock().exchange.trades))
}

async fn account(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.lock().exchange.account))
}

async fn budget(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let windows = shared.lock().budget.report();
    let breaches: u64 = windows.iter().map(|window| window.breaches).sum();
    Json(json!({"breaches": breaches, "windows": windows}))
}

async fn faults(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.lock().faults.rules()))
}

/// Replaces all fault rules.
async fn set_faults(State(shared): State<Arc<Shared>>, Json(rules): Json<Vec<FaultRule>>) -> Json<Value> {
    shared.lock().faults.set(rules);
    Json(json!({"ok": true}))
}

async fn switches(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.lock().switches))
}

/// Replaces all switches; those not named return to their defaults.
async fn set_switches(State(shared): State<Arc<Shared>>, Json(switches): Json<Switches>) -> Json<Value> {
    shared.lock().switches = switches;
    Json(json!({"ok": true}))
}

async fn set_uncertain(State(shared): State<Arc<Shared>>, Json(uncertain): Json<Uncertain>) -> Json<Value> {
    shared.lock().exchange.uncertain = uncertain;
    Json(json!({"ok": true}))
}

#[derive(Deserialize)]
struct Price {
    symbol: String,
    bid: Decimal,
    ask: Decimal,
    last: Option<Decimal>,
}

/// Sets a price with deep liquidity; resting orders that it crosses fill.
async fn set_price(State(shared): State<Arc<Shared>>, Json(price): Json<Price>) -> Response {
    let mut inner = shared.lock();
    let now = inner.exchange_ms();
    let last = price.last.unwrap_or(price.bid);
    match inner.exchange.on_script(&price.symbol, price.bid, price.ask, last, now) {
        Ok(()) => kept(&mut inner, &json!({"ok": true})),
        Err(refusal) => (StatusCode::BAD_REQUEST, Json(json!({"error": refusal.msg}))).into_response(),
    }
}

#[derive(Deserialize)]
struct NewPrint {
    symbol: String,
    price: Decimal,
    qty: Decimal,
    taker: Side,
}

/// A trade of the market, as if it were replayed: fills resting orders that it reaches, up to its quantity.
async fn print(State(shared): State<Arc<Shared>>, Json(print): Json<NewPrint>) -> Response {
    let mut inner = shared.lock();
    let now = inner.exchange_ms();
    let NewPrint { symbol, price, qty, taker } = print;
    inner.exchange.on_print(&symbol, price, qty, taker, now);
    kept(&mut inner, &json!({"ok": true}))
}

#[derive(Deserialize)]
struct Foreign {
    symbol: String,
    side: Side,
    qty: Decimal,
    price: Option<Decimal>,
    client_id: Option<String>,
}

/// Somebody else places an order on the account.
async fn foreign_order(State(shared): State<Arc<Shared>>, Json(foreign): Json<Foreign>) -> Response {
    let mut inner = shared.lock();
    let now = inner.exchange_ms();
    let kind = if foreign.price.is_some() { Kind::Limit } else { Kind::Market };
    let Foreign { symbol, side, qty, price, client_id } = foreign;
    let wanted = Wanted { symbol, side, kind, qty: Some(qty), quote_qty: None, price, client_id, is_foreign: true };
    match inner.exchange.place(wanted, now) {
        Ok(id) => kept(&mut inner, &json!({"order_id": id})),
        Err(refusal) => (StatusCode::BAD_REQUEST, Json(json!({"error": refusal.msg}))).into_response(),
    }
}

#[derive(Deserialize)]
struct Transfer {
    asset: String,
    /// Above zero = deposit.
    amount: Decimal,
}

async fn transfer(State(shared): State<Arc<Shared>>, Json(transfer): Json<Transfer>) -> Response {
    let mut inner = shared.lock();
    let now = inner.exchange_ms();
    inner.exchange.transfer(&transfer.asset, transfer.amount, now);
    kept(&mut inner, &json!({"ok": true}))
}

#[derive(Deserialize)]
struct NewKeys {
    api_key: String,
    api_secret: String,
    #[serde(default)]
    can_withdraw: bool,
}

impl NewKeys {
    fn pair(self) -> Pair {
        Pair::new(self.api_key, self.api_secret, self.can_withdraw)
    }
}

/// Every pair by its fingerprint, and what came of the requests that named it; never a key.
async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let inner = shared.lock();
    let fingerprint = |key: &str| hex::encode(Sha256::digest(key.as_bytes())).chars().take(8).collect::<String>();
    let pair = |pair: &Pair| {
        json!({
            "fingerprint": fingerprint(&pair.api_key), "is_revoked": pair.is_revoked,
            "can_withdraw": pair.can_withdraw, "opened": pair.opened, "refused": pair.refused,
        })
    };
    let pairs: Vec<Value> = inner.keys.pairs.iter().map(pair).collect();
    Json(json!({"pairs": pairs, "mixed": inner.keys.mixed, "unknown": inner.keys.unknown}))
}

/// Replaces every key pair by one.
async fn set_keys(State(shared): State<Arc<Shared>>, Json(keys): Json<NewKeys>) -> Json<Value> {
    shared.lock().keys.pairs = vec![keys.pair()];
    Json(json!({"ok": true}))
}

/// A further key pair opens the account, beside those that do.
async fn add_keys(State(shared): State<Arc<Shared>>, Json(keys): Json<NewKeys>) -> Json<Value> {
    shared.lock().keys.add(keys.pair());
    Json(json!({"ok": true}))
}

#[derive(Deserialize)]
struct Revoked {
    api_key: String,
}

/// A key pair opens nothing from here on.
async fn revoke_keys(State(shared): State<Arc<Shared>>, Json(revoked): Json<Revoked>) -> Response {
    if shared.lock().keys.revoke(&revoked.api_key) {
        Json(json!({"ok": true})).into_response()
    } else {
        (StatusCode::NOT_FOUND, Json(json!({"error": "no pair has this key"}))).into_response()
    }
}

async fn streams(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let inner = shared.lock();
    let listen_keys = inner.hub.keys.live(inner.exchange_ms()).len();
    Json(json!({"connections": inner.hub.report(), "listen_keys": listen_keys}))
}

/// Closes every stream.
async fn cut_streams(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.lock().hub.close_where(|_| true);
    Json(json!({"ok": true}))
}

/// Lets every listen key lapse at once.
async fn lapse_listen_keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.lock().hub.keys.lapse_all();
    Json(json!({"ok": true}))
}

/// Forgets orders, trades, requests, faults and switches; balances are the opening ones again.
async fn reset(State(shared): State<Arc<Shared>>) -> Response {
    let mut inner = shared.lock();
    let mut fresh = Exchange::new(inner.exchange.symbols.values().cloned().collect());
    fresh.markets = std::mem::take(&mut inner.exchange.markets);
    for (asset, amount) in &inner.opening {
        fresh.account.add(asset, *amount);
    }
    inner.exchange = fresh;
    inner.seen.clear();
    inner.faults.set(Vec::new());
    inner.switches = Switches::default();
    inner.budget.reset();
    match inner.keep_whole() {
        Ok(()) => Json(json!({"ok": true})).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": error.to_string()}))).into_response(),
    }
}

fn kept(inner: &mut crate::state::Inner, value: &Value) -> Response {
    match inner.keep() {
        Ok(()) => Json(value).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": error.to_string()}))).into_response(),
    }
}
