//! The exchange's REST interface (exchange API §7-§10).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::auth::{self, Signed};
use crate::budget::Admission;
use crate::error::{Refusal, refuse, unknown_symbol};
use crate::exchange::Wanted;
use crate::faults::Fault;
use crate::market::{BAR_MS, Bar, Market, Print};
use crate::order::{Kind, Order, Side, Trade};
use crate::params::{Params, missing};
use crate::state::{Inner, Seen, Shared, now_us};

/// How long a lost reply keeps its connection open.
const HANG: Duration = Duration::from_secs(60);
/// Orders in one batch.
const BATCH_MAX: usize = 20;

/// One request, taken apart.
struct Call {
    /// Under which it is remembered.
    number: u64,
    method: String,
    path: String,
    query: String,
    body: String,
    api_key: Option<String>,
    content_type: Option<String>,
    params: Params,
}

/// Handles every request to the exchange's port.
pub async fn handle(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // One client library reads this list before it trades on spot (exchange API §16).
    if uri.path() == "/api/v1/contract/detail" {
        return axum::Json(json!({"success": true, "code": 0, "data": []})).into_response();
    }
    let Some(path) = uri.path().strip_prefix("/api/v3/") else {
        return (StatusCode::NOT_FOUND, "no such page").into_response();
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let query = uri.query().unwrap_or_default().to_owned();
    let body = String::from_utf8_lossy(&body).into_owned();
    let params = Params::parse(&query, &body);
    let mut call = Call {
        number: 0,
        method: method.to_string(),
        path: path.to_owned(),
        api_key: text("x-mexc-apikey"),
        content_type: text("content-type"),
        query,
        body,
        params,
    };
    under_way(&shared).await;
    let fault = match arrive(&shared, &mut call) {
        Ok(fault) => fault,
        Err(response) => return *response,
    };
    let response = act(&shared, &call, fault.as_ref()).await;
    under_way(&shared).await;
    if let Some(seen) = shared.lock().seen_mut(call.number) {
        seen.status = Some(response.status().as_u16());
    }
    response
}

/// The network takes its time.
async fn under_way(shared: &Shared) {
    let delay_ms = {
        let mut inner = shared.lock();
        let mean_ms = inner.switches.network_delay_ms;
        if mean_ms == 0 { 0 } else { inner.faults.below(2 * mean_ms + 1) }
    };
    if delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
}

/// Counts and remembers the request, refuses it when over budget, and draws its fault.
fn arrive(shared: &Shared, call: &mut Call) -> Result<Option<Fault>, Box<Response>> {
    let mut inner = shared.lock();
    let at_us = now_us();
    let symbol = call.params.get("symbol").map(str::to_owned);
    let admission = inner.budget.arrive(&call.method, &call.path, weight(call), at_us);
    let fault = inner.faults.hit(&call.method, &call.path, symbol.as_deref());
    let client_id = call.params.get("newClientOrderId").or_else(|| call.params.get("origClientOrderId"));
    call.number = inner.see(Seen {
        at_us,
        endpoint: format!("{} {}", call.method, call.path),
        symbol,
        client_id: client_id.map(str::to_owned),
        order_id: None,
        status: None,
        code: None,
        fault: fault.as_ref().map(|fault| format!("{fault:?}")),
    });
    let (status, retry_after_s) = match admission {
        Admission::Admitted => return Ok(fault),
        Admission::TooMany { retry_after_s } => (429, retry_after_s),
        Admission::Banned { retry_after_s } => (418, retry_after_s),
    };
    if let Some(seen) = inner.seen_mut(call.number) {
        (seen.status, seen.code) = (Some(status), Some(429));
    }
    let refusal = Refusal { http: status, retry_after_s: Some(retry_after_s), ..refuse(429, "Too Many Requests") };
    Err(Box::new(error_response(&inner, &refusal)))
}

/// Executes the request as its fault allows.
async fn act(shared: &Arc<Shared>, call: &Call, fault: Option<&Fault>) -> Response {
    match fault {
        None => execute(shared, call),
        Some(Fault::Refuse { status, retry_after_s, body }) => {
            let default = if *status == 403 {
                html("Access Denied")
            } else {
                json!({"code": status, "msg": "refused"}).to_string()
            };
            plain(*status, *retry_after_s, body.clone().unwrap_or(default))
        }
        Some(Fault::ExecuteThenStatus { status, body }) => {
            execute(shared, call);
            plain(*status, None, body.clone().unwrap_or_else(|| html("Gateway Time-out")))
        }
        Some(Fault::LostReply) => {
            execute(shared, call);
            tokio::time::sleep(HANG).await;
            plain(504, None, html("Gateway Time-out"))
        }
        Some(Fault::BrokenReply) => {
            execute(shared, call);
            broken(b"{\"symbol\":\"BTC")
        }
        Some(Fault::Reset) => broken(b""),
        Some(Fault::DelayBefore { delay_ms }) => {
            tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
            execute(shared, call)
        }
        Some(Fault::DelayAfter { delay_ms }) => {
            let response = execute(shared, call);
            tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
            response
        }
        Some(Fault::ReplyWith { body }) => {
            execute(shared, call);
            plain(200, None, body.clone())
        }
    }
}

fn html(title: &str) -> String {
    format!("<HTML><HEAD><TITLE>{title}</TITLE></HEAD><BODY><H1>{title}</H1></BODY></HTML>")
}

fn plain(status: u16, retry_after_s: Option<u64>, body: String) -> Response {
    let mut response =
        (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response();
    if let Some(value) = retry_after_s.and_then(|seconds| seconds.to_string().parse().ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// A response whose body breaks off.
fn broken(start: &'static [u8]) -> Response {
    let parts = [Ok(Bytes::from_static(start)), Err(std::io::Error::other("broken on purpose"))];
    let mut response = Body::from_stream(futures_util::stream::iter(parts)).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, 4_096.into());
    response
}

fn weight(call: &Call) -> u64 {
    let has_symbol = call.params.get("symbol").is_some();
    match (call.method.as_str(), call.path.as_str()) {
        (_, "exchangeInfo" | "allOrders" | "account" | "myTrades") => 10,
        (_, "tradeFee") => 20,
        (_, "trades") => 5,
        ("GET", "openOrders") => 3,
        ("GET", "order") => 2,
        (_, "ticker/24hr") if !has_symbol => 40,
        (_, "ticker/price") if !has_symbol => 2,
        _ => 1,
    }
}

fn execute(shared: &Arc<Shared>, call: &Call) -> Response {
    let mut inner = shared.lock();
    match route(&mut inner, call) {
        Ok(mut value) => {
            if inner.switches.extra_fields
                && let Value::Object(object) = &mut value
            {
                object.insert("aFieldNobodyDocumented".to_owned(), json!({"nested": [1, null, "x"]}));
            }
            if call.method != "GET"
                && let Err(error) = inner.keep()
            {
                tracing::error!(%error, "the stand-in's books cannot be kept");
            }
            axum::Json(value).into_response()
        }
        Err(refusal) => {
            if let Some(seen) = inner.seen_mut(call.number) {
                seen.code = Some(refusal.code);
            }
            error_response(&inner, &refusal)
        }
    }
}

fn error_response(inner: &Inner, refusal: &Refusal) -> Response {
    let is_code_text = refusal.is_code_text || inner.switches.code_as_string;
    let code = if is_code_text { json!(refusal.code.to_string()) } else { json!(refusal.code) };
    let mut response =
        plain(refusal.http, refusal.retry_after_s, json!({"code": code, "msg": refusal.msg}).to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn route(inner: &mut Inner, call: &Call) -> Result<Value, Refusal> {
    let params = &call.params;
    match (call.method.as_str(), call.path.as_str()) {
        ("GET", "ping") => return Ok(json!({})),
        ("GET", "time") => return Ok(json!({"serverTime": inner.exchange_ms()})),
        ("GET", "exchangeInfo") => return exchange_info(inner, params),
        ("GET", "defaultSymbols") => {
            let symbols: Vec<&String> = inner.exchange.symbols.keys().collect();
            return Ok(wrapped(inner, &json!(symbols)));
        }
        ("GET", "depth") => return depth(inner, params),
        ("GET", "ticker/bookTicker") => return tickers(inner, params, book_ticker),
        ("GET", "ticker/price") => return tickers(inner, params, last_price),
        ("GET", "ticker/24hr") => return tickers(inner, params, day_ticker),
        ("GET", "avgPrice") => {
            let market = market(inner, params)?;
            return Ok(json!({"mins": 5, "price": market.last}));
        }
        ("GET", "trades") => return trades(inner, params),
        ("GET", "aggTrades") => return agg_trades(inner, params),
        ("GET", "klines") => return klines(inner, params),
        ("GET", path) if !SIGNED_GETS.contains(&path) => return Err(not_found()),
        _ => {}
    }
    if call.method != "GET" && call.content_type.as_deref().is_some_and(|kind| !kind.starts_with("application/json")) {
        return Err(refuse(700_013, "Invalid content Type."));
    }
    let signed = Signed { api_key: call.api_key.as_deref(), query: &call.query, body: &call.body };
    let (is_all_revoked, now) = (inner.switches.is_key_revoked, inner.exchange_ms());
    auth::check(&mut inner.keys, is_all_revoked, &signed, params, now)?;
    match (call.method.as_str(), call.path.as_str()) {
        ("POST", "order") => new_order(inner, call),
        ("POST", "order/test") => inner.exchange.check(&wanted(params)?).map(|_| json!({})),
        ("POST", "batchOrders") => batch(inner, params),
        ("DELETE", "order") => cancel(inner, params),
        ("DELETE", "openOrders") => cancel_all(inner, params),
        ("DELETE", "order/all") => {
            cancel_where(inner, |_| true);
            Ok(json!({"code": 200, "msg": "success", "timestamp": inner.exchange_ms()}))
        }
        ("GET", "uid") => Ok(json!({"uid": "10000001"})),
        ("GET", "kyc/status") => Ok(json!({"status": "2"})),
        ("GET", "mxDeduct/enable") => {
            Ok(wrapped(inner, &json!({"mxDeductEnable": inner.exchange.uncertain.fee_in == "MX"})))
        }
        ("GET", "capital/config/getall") => Ok(json!([])),
        ("GET", "order") => one_order(inner, params).map(|order| order_json(inner, &order)),
        ("GET", "openOrders") => orders(inner, params, true),
        ("GET", "allOrders") => orders(inner, params, false),
        ("GET", "account") => Ok(account(inner, call.api_key.as_deref())),
        ("GET", "myTrades") => my_trades(inner, params),
        ("GET", "tradeFee") => {
            let info = inner.exchange.symbols.get(params.needed("symbol")?).ok_or_else(unknown_symbol)?;
            // The one place where the exchange sends money as JSON numbers.
            let number = |value: Decimal| serde_json::from_str::<Value>(&value.to_string()).unwrap_or(Value::Null);
            let fees = json!({"makerCommission": number(info.maker_commission), "takerCommission": number(info.taker_commission)});
            Ok(wrapped(inner, &fees))
        }
        ("POST", "userDataStream") => {
            let (now, life_ms) = (inner.exchange_ms(), inner.switches.listen_key_life_ms);
            Ok(json!({"listenKey": inner.hub.keys.create(now, life_ms)?}))
        }
        ("GET", "userDataStream") => Ok(json!({"listenKey": inner.hub.keys.live(inner.exchange_ms())})),
        ("PUT", "userDataStream") => {
            let (now, life_ms, key) =
                (inner.exchange_ms(), inner.switches.listen_key_life_ms, params.needed("listenKey")?);
            inner.hub.keys.extend(key, now, life_ms)?;
            Ok(json!({"listenKey": key}))
        }
        ("DELETE", "userDataStream") => {
            let key = params.needed("listenKey")?;
            inner.hub.keys.remove(key)?;
            inner.hub.close_where(|listen_key| listen_key == Some(key));
            Ok(json!({"listenKey": key}))
        }
        ("GET", "selfSymbols") => {
            let symbols: Vec<&String> = inner.exchange.symbols.keys().collect();
            Ok(json!({"code": 200, "data": symbols, "msg": null}))
        }
        _ => Err(not_found()),
    }
}

/// Calls that need a signature; any other GET is public or unknown.
const SIGNED_GETS: [&str; 12] = [
    "userDataStream",
    "order",
    "openOrders",
    "allOrders",
    "account",
    "myTrades",
    "tradeFee",
    "selfSymbols",
    "uid",
    "kyc/status",
    "mxDeduct/enable",
    "capital/config/getall",
];

fn not_found() -> Refusal {
    Refusal { http: 404, ..refuse(404, "Not Found") }
}

fn limit(params: &Params, default: usize, max: usize) -> Result<usize, Refusal> {
    Ok(params.whole("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(default).min(max))
}

/// `startTime`, or this default, and `endTime`.
fn span(params: &Params, default_start: i64) -> Result<(i64, i64), Refusal> {
    Ok((params.whole("startTime")?.unwrap_or(default_start), params.whole("endTime")?.unwrap_or(i64::MAX)))
}

fn wrapped(inner: &Inner, data: &Value) -> Value {
    json!({"data": data, "code": inner.switches.success_code, "msg": "success", "timestamp": inner.exchange_ms()})
}

fn exchange_info(inner: &Inner, params: &Params) -> Result<Value, Refusal> {
    let wanted: Option<Vec<&str>> = params
        .get("symbols")
        .map(|list| list.split(',').collect())
        .or_else(|| params.get("symbol").map(|one| vec![one]));
    let symbols: Vec<_> = match wanted {
        None => inner.exchange.symbols.values().collect(),
        Some(names) => names
            .iter()
            .map(|name| inner.exchange.symbols.get(*name).ok_or_else(|| refuse(10007, "bad symbol")))
            .collect::<Result<_, _>>()?,
    };
    Ok(
        json!({"timezone": "CST", "serverTime": inner.exchange_ms(), "rateLimits": [], "exchangeFilters": [], "symbols": symbols}),
    )
}

fn depth(inner: &Inner, params: &Params) -> Result<Value, Refusal> {
    let symbol = params.needed("symbol")?;
    let info = inner.exchange.symbols.get(symbol).ok_or_else(unknown_symbol)?;
    let limit = limit(params, 100, 1_000)?;
    let market = inner.exchange.markets.get(symbol).cloned().unwrap_or_default();
    let side = |side: Side, worst: Decimal| -> Vec<[String; 2]> {
        let levels = market.liquidity(side, worst, info.tick());
        levels.into_iter().take(limit).map(|(price, qty)| [price.to_string(), qty.to_string()]).collect()
    };
    let (bids, asks) = (side(Side::Sell, Decimal::ZERO), side(Side::Buy, Decimal::MAX));
    Ok(json!({"lastUpdateId": inner.exchange_ms(), "bids": bids, "asks": asks, "timestamp": inner.exchange_ms()}))
}

fn tickers(inner: &Inner, params: &Params, one: fn(&Inner, &str) -> Option<Value>) -> Result<Value, Refusal> {
    match params.get("symbol") {
        Some(symbol) => one(inner, symbol).ok_or_else(unknown_symbol),
        None => Ok(inner.exchange.symbols.keys().filter_map(|symbol| one(inner, symbol)).collect()),
    }
}

fn book_ticker(inner: &Inner, symbol: &str) -> Option<Value> {
    let market = inner.exchange.markets.get(symbol)?;
    let (bid_qty, ask_qty) = market.top_sizes();
    Some(
        json!({"symbol": symbol, "bidPrice": market.bid?, "bidQty": bid_qty, "askPrice": market.ask?, "askQty": ask_qty}),
    )
}

fn last_price(inner: &Inner, symbol: &str) -> Option<Value> {
    Some(json!({"symbol": symbol, "price": inner.exchange.markets.get(symbol)?.last?}))
}

fn market<'a>(inner: &'a Inner, params: &Params) -> Result<&'a Market, Refusal> {
    inner.exchange.markets.get(params.needed("symbol")?).ok_or_else(unknown_symbol)
}

/// The day so far, as far as the stand-in has run; the change is a fraction, not a percentage.
fn day_ticker(inner: &Inner, symbol: &str) -> Option<Value> {
    let market = inner.exchange.markets.get(symbol)?;
    let last = market.last?;
    let first = market.bars.front().map_or(last, |bar| bar.open);
    let sum = |part: fn(&Bar) -> Decimal| market.bars.iter().map(part).sum::<Decimal>();
    let (bid_qty, ask_qty) = market.top_sizes();
    let now = inner.exchange_ms();
    Some(json!({
        "symbol": symbol, "priceChange": last - first, "priceChangePercent": ((last - first) / first).round_dp(4),
        "prevClosePrice": first, "lastPrice": last, "bidPrice": market.bid?, "bidQty": bid_qty, "askPrice": market.ask?,
        "askQty": ask_qty, "openPrice": first, "highPrice": market.bars.iter().map(|bar| bar.high).max().unwrap_or(last),
        "lowPrice": market.bars.iter().map(|bar| bar.low).min().unwrap_or(last), "volume": sum(|bar| bar.volume),
        "quoteVolume": sum(|bar| bar.amount), "openTime": now - 86_400_000, "closeTime": now, "count": null,
    }))
}

fn trades(inner: &Inner, params: &Params) -> Result<Value, Refusal> {
    let limit = limit(params, 500, 1_000)?;
    let trade = |print: &Print| {
        let is_buyer_maker = print.taker == Side::Sell;
        json!({
            "id": null, "price": print.price, "qty": print.qty, "quoteQty": print.price * print.qty, "time": print.time,
            "isBuyerMaker": is_buyer_maker, "isBestMatch": true, "tradeType": if is_buyer_maker { "ASK" } else { "BID" },
        })
    };
    Ok(market(inner, params)?.prints.iter().take(limit).map(trade).collect())
}

fn agg_trades(inner: &Inner, params: &Params) -> Result<Value, Refusal> {
    let limit = limit(params, 500, 1_000)?;
    let (start, end) = span(params, 0)?;
    let trade = |print: &Print| {
        json!({"a": null, "f": null, "l": null, "p": print.price, "q": print.qty, "T": print.time,
               "m": print.taker == Side::Sell, "M": true})
    };
    let prints = market(inner, params)?.prints.iter().filter(|print| print.time >= start && print.time <= end);
    Ok(prints.take(limit).map(trade).collect())
}

/// Bars of a minute, or longer ones made of them; months are not offered.
fn klines(inner: &Inner, params: &Params) -> Result<Value, Refusal> {
    let minutes = match params.needed("interval")? {
        "1m" => 1,
        "5m" => 5,
        "15m" => 15,
        "30m" => 30,
        "60m" => 60,
        "4h" => 240,
        "1d" => 1_440,
        "1W" => 10_080,
        _ => return Err(refuse(33333, "parameter error: interval")),
    };
    let limit = limit(params, 500, 1_000)?;
    let (start, end) = span(params, 0)?;
    let length = minutes * BAR_MS;
    let bars = market(inner, params)?.bars_of(length);
    let kept: Vec<&Bar> = bars.iter().filter(|bar| bar.start >= start && bar.start <= end).collect();
    let bar = |bar: &&Bar| {
        json!([bar.start, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.start + length, bar.amount])
    };
    Ok(kept.iter().skip(kept.len().saturating_sub(limit)).map(bar).collect())
}

fn wanted(params: &Params) -> Result<Wanted, Refusal> {
    let side = match params.needed("side")? {
        "BUY" => Side::Buy,
        "SELL" => Side::Sell,
        _ => return Err(refuse(33333, "parameter error: side")),
    };
    let kind = match params.needed("type")? {
        "LIMIT" => Kind::Limit,
        "MARKET" => Kind::Market,
        "LIMIT_MAKER" => Kind::LimitMaker,
        "IMMEDIATE_OR_CANCEL" => Kind::ImmediateOrCancel,
        "FILL_OR_KILL" => Kind::FillOrKill,
        _ => return Err(refuse(33333, "parameter error: type")),
    };
    let (qty, quote_qty, price) =
        (params.decimal("quantity")?, params.decimal("quoteOrderQty")?, params.decimal("price")?);
    match kind {
        Kind::Market if qty.is_none() && quote_qty.is_none() => return Err(missing("quantity")),
        Kind::Market => {}
        _ if qty.is_none() => return Err(missing("quantity")),
        _ if price.is_none() => return Err(missing("price")),
        _ => {}
    }
    let client_id = params.get("newClientOrderId").map(str::to_owned);
    let is_legal = |id: &String| {
        id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if client_id.as_ref().is_some_and(|id| !is_legal(id)) {
        return Err(refuse(700_008, "Illegal characters found in parameter 'newClientOrderId'"));
    }
    // By quantity, or by amount: with both, the quantity counts.
    let quote_qty = if kind == Kind::Market && qty.is_none() { quote_qty } else { None };
    let price = if kind == Kind::Market { None } else { price };
    let symbol = params.needed("symbol")?.to_owned();
    Ok(Wanted { symbol, side, kind, qty, quote_qty, price, client_id, is_foreign: false })
}

fn new_order(inner: &mut Inner, call: &Call) -> Result<Value, Refusal> {
    let now = inner.exchange_ms();
    let id = inner.exchange.place(wanted(&call.params)?, now)?;
    if let Some(seen) = inner.seen_mut(call.number) {
        seen.order_id = Some(id.clone());
    }
    let order = &inner.exchange.orders[&id];
    Ok(json!({
        "symbol": order.symbol, "orderId": order.id, "orderListId": -1, "price": order.price, "origQty": order.qty,
        "type": order.kind, "side": order.side, "stpMode": "", "transactTime": now,
    }))
}

fn batch(inner: &mut Inner, params: &Params) -> Result<Value, Refusal> {
    let text = params.needed("batchOrders")?;
    let list: Vec<serde_json::Map<String, Value>> =
        serde_json::from_str(text).map_err(|_| refuse(700_004, "Mandatory parameter 'batchOrders' is malformed"))?;
    if list.is_empty() || list.len() > BATCH_MAX {
        return Err(refuse(33333, "parameter error: batchOrders"));
    }
    if list.iter().any(|item| item.get("symbol") != list[0].get("symbol")) {
        return Err(refuse(33333, "parameter error: batchOrders must be of one symbol"));
    }
    let now = inner.exchange_ms();
    let mut answers = Vec::new();
    for item in &list {
        let params = Params::from_json(item);
        let client_id = params.get("newClientOrderId").map(str::to_owned);
        let placed = wanted(&params).and_then(|wanted| {
            let symbol = wanted.symbol.clone();
            inner.exchange.place(wanted, now).map(|id| (symbol, id))
        });
        answers.push(match (placed, client_id) {
            (Ok((symbol, id)), None) => json!({"symbol": symbol, "orderId": id, "orderListId": -1}),
            (Ok((symbol, id)), Some(client_id)) => {
                json!({"symbol": symbol, "orderId": id, "newClientOrderId": client_id, "orderListId": -1})
            }
            (Err(refusal), client_id) => {
                json!({"newClientOrderId": client_id, "msg": refusal.msg, "code": refusal.code})
            }
        });
    }
    Ok(Value::Array(answers))
}

/// An order by either id, if queries can see it yet.
fn one_order(inner: &Inner, params: &Params) -> Result<Order, Refusal> {
    let symbol = params.needed("symbol")?;
    let order = match (params.get("orderId"), params.get("origClientOrderId")) {
        (Some(id), _) => inner.exchange.orders.get(id).filter(|order| order.symbol == symbol),
        (None, Some(client_id)) => inner.exchange.by_client_id(symbol, client_id),
        (None, None) => {
            let text = "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null";
            return Err(refuse(700_004, text));
        }
    };
    order.filter(|order| is_visible(inner, order)).cloned().ok_or_else(|| refuse(-2013, "Order does not exist."))
}

fn is_visible(inner: &Inner, order: &Order) -> bool {
    inner.exchange_ms() - order.created_at >= inner.switches.visibility_delay_ms
}

fn cancel(inner: &mut Inner, params: &Params) -> Result<Value, Refusal> {
    let order = one_order(inner, params)?;
    let now = inner.exchange_ms();
    let before = inner.exchange.cancel(&order.id, now)?;
    Ok(canceled_json(inner, &before))
}

fn cancel_all(inner: &mut Inner, params: &Params) -> Result<Value, Refusal> {
    let symbols: Vec<String> = params.needed("symbol")?.split(',').map(str::to_owned).collect();
    let canceled = cancel_where(inner, |order| symbols.contains(&order.symbol));
    Ok(canceled.iter().map(|order| canceled_json(inner, order)).collect())
}

/// Cancels open orders; each as it was before.
fn cancel_where(inner: &mut Inner, is_meant: impl Fn(&Order) -> bool) -> Vec<Order> {
    let is_open = |order: &&Order| order.status.is_open() && is_meant(order);
    let open: Vec<String> = inner.exchange.orders.values().filter(is_open).map(|order| order.id.clone()).collect();
    let now = inner.exchange_ms();
    open.iter().filter_map(|id| inner.exchange.cancel(id, now).ok()).collect()
}

/// The reply to a cancel shows the order as it was before.
fn canceled_json(inner: &Inner, order: &Order) -> Value {
    let mut value = json!({
        "symbol": order.symbol, "orderId": order.id, "price": order.price, "origQty": order.qty, "type": order.kind,
        "side": order.side, "executedQty": order.executed, "cummulativeQuoteQty": order.executed_quote,
    });
    if !inner.switches.cancel_status.is_empty() {
        value["status"] = json!(inner.switches.cancel_status);
    }
    value
}

fn order_json(inner: &Inner, order: &Order) -> Value {
    let mut value = json!({
        "symbol": order.symbol, "orderId": order.id, "orderListId": -1, "price": order.price, "origQty": order.qty,
        "executedQty": order.executed, "cummulativeQuoteQty": order.executed_quote, "status": order.status,
        "timeInForce": null, "type": order.kind, "side": order.side, "stopPrice": null, "icebergQty": null,
        "time": order.created_at, "updateTime": order.updated_at, "isWorking": true,
        "origQuoteOrderQty": order.quote_qty,
    });
    client_id_into(inner, &mut value, order.client_id.as_ref());
    value
}

fn client_id_into(inner: &Inner, value: &mut Value, client_id: Option<&String>) {
    match (client_id, inner.switches.missing_client_id.as_str()) {
        (Some(id), _) => value["clientOrderId"] = json!(id),
        (None, "empty") => value["clientOrderId"] = json!(""),
        (None, "absent") => {}
        (None, _) => value["clientOrderId"] = Value::Null,
    }
}

fn orders(inner: &Inner, params: &Params, only_open: bool) -> Result<Value, Refusal> {
    let symbol = if only_open { params.get("symbol") } else { Some(params.needed("symbol")?) };
    let limit = limit(params, 500, 1_000)?;
    let (start, end) = span(params, inner.exchange_ms() - 86_400_000)?;
    let wanted = |order: &&Order| {
        symbol.is_none_or(|symbol| symbol.split(',').any(|one| one == order.symbol))
            && (!only_open || order.status.is_open())
            && (only_open || (order.created_at >= start && order.created_at <= end))
            && is_visible(inner, order)
    };
    Ok(inner.exchange.orders.values().rev().filter(wanted).take(limit).map(|order| order_json(inner, order)).collect())
}

fn account(inner: &Inner, api_key: Option<&str>) -> Value {
    let can_withdraw = inner.switches.can_withdraw || inner.keys.named(api_key).is_some_and(|pair| pair.can_withdraw);
    let balances: Vec<Value> = inner
        .exchange
        .account
        .0
        .iter()
        .map(|(asset, balance)| json!({"asset": asset, "free": balance.free, "locked": balance.locked, "available": balance.free}))
        .collect();
    json!({
        "makerCommission": null, "takerCommission": null, "buyerCommission": null, "sellerCommission": null,
        "canTrade": true, "canWithdraw": can_withdraw, "canDeposit": true, "updateTime": null,
        "accountType": "SPOT", "balances": balances, "permissions": ["SPOT"],
    })
}

fn my_trades(inner: &Inner, params: &Params) -> Result<Value, Refusal> {
    let symbol = params.needed("symbol")?;
    let order_id = params.get("orderId");
    let limit = limit(params, 100, 100)?;
    let (start, end) = span(params, 0)?;
    let wanted = |trade: &&Trade| {
        trade.symbol == symbol
            && order_id.is_none_or(|id| id == trade.order_id)
            && trade.time >= start
            && trade.time <= end
    };
    let value = |trade: &Trade| {
        let mut value = json!({
            "symbol": trade.symbol, "id": trade.id, "orderId": trade.order_id, "orderListId": -1, "price": trade.price,
            "qty": trade.qty, "quoteQty": trade.price * trade.qty, "commission": trade.fee,
            "commissionAsset": trade.fee_asset, "time": trade.time / 1_000 * 1_000, "isBuyer": trade.side == Side::Buy,
            "isMaker": trade.is_maker, "isBestMatch": true, "isSelfTrade": false,
        });
        client_id_into(inner, &mut value, trade.client_id.as_ref());
        value
    };
    Ok(inner.exchange.trades.iter().rev().filter(wanted).take(limit).map(value).collect())
}
