//! The calls. Placing does not fail, it answers ([`VenueAnswer`]); everything else gives its data or a [`Trouble`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cdb_core::ids::{ClOrdId, OrderId, Symbol};
use cdb_core::money::{Price, plain};
use cdb_core::order::{MarketSize, NewOrder, OrdType, TimeInForce};
use cdb_core::reason::VenueRefusal;
use cdb_core::sending::{CONNECT_MS_MAX, Submission, VenueAnswer};
use cdb_core::symbol_rules::SymbolRules;
use memchr::memmem;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use crate::answer::{Meaning, Reply, Trouble, silence};
use crate::http;
use crate::signing::{Credentials, Query};
use crate::stream::ListenKey;
use crate::wire::{
    self, Created, Depth, Fees, MarketTrade, OrderList, ServerTime, VenueAccount, VenueOrder, VenueTrade, WireFault,
    fault,
};

/// Longest wait for an answer; longer than any `recvWindow` of ours would be of no use.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest body that is read; all symbols' rules are about 2 MB.
const BODY_BYTES_MAX: usize = 8 << 20;

/// Fills that one call gives at most (exchange API §9).
pub const TRADES_MAX: usize = 100;

/// A client of one account.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// For new orders: a connection that takes long would carry the order beyond its send deadline.
    orders: reqwest::Client,
    base: String,
    /// The same for every clone. A request takes the pair once and keeps it until it is answered, so that key and
    /// signature are always of one pair.
    credentials: Arc<RwLock<Arc<Credentials>>>,
}

/// A pair that signs no further request.
pub struct Retired(Arc<Credentials>);

impl Retired {
    /// Whether every request that it signed has been answered or given up.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// When a signed request says it was made, and for how long it holds.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Exchange's clock, epoch ms.
    pub timestamp_ms: i64,
    /// `recvWindow`, ms.
    pub recv_window_ms: i64,
}

impl Client {
    /// A client for `base`, e.g. `https://api.mexc.com`.
    ///
    /// # Errors
    /// The key has characters that no header can carry.
    pub fn new(base: &str, credentials: Credentials) -> Result<Self, &'static str> {
        let credentials = usable(credentials)?;
        let client = |connect_timeout| {
            let builder = http::builder()?.timeout(ANSWER_TIMEOUT).connect_timeout(connect_timeout);
            builder.build().map_err(|_| "the HTTP client cannot be built")
        };
        let order_connect = Duration::from_millis(u64::try_from(CONNECT_MS_MAX).unwrap_or_default());
        let (http, orders) = (client(CONNECT_TIMEOUT)?, client(order_connect)?);
        Ok(Self { http, orders, base: base.trim_end_matches('/').to_owned(), credentials })
    }

    /// The same client with another pair, which this one does not use: to prove it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(&self, credentials: Credentials) -> Result<Self, &'static str> {
        Ok(Self { credentials: usable(credentials)?, ..self.clone() })
    }

    /// From here on every clone signs with the pair of `proven`; what was signed before keeps its signature.
    #[must_use]
    pub fn take_over(&self, proven: &Self) -> Retired {
        let next = proven.credentials();
        Retired(std::mem::replace(&mut *self.credentials.write().unwrap_or_else(PoisonError::into_inner), next))
    }

    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &str,
        signed_by: Option<&Credentials>,
    ) -> Result<Vec<u8>, Trouble> {
        let separator = if query.is_empty() { "" } else { "?" };
        let url = format!("{}/api/v3/{path}{separator}{query}", self.base);
        // Any other call may take its time to connect.
        let http = if method == Method::POST && path != "userDataStream" { &self.orders } else { &self.http };
        let mut request = http.request(method, url).header(CONTENT_TYPE, "application/json");
        if let Some(credentials) = signed_by {
            let mut key = HeaderValue::from_str(credentials.api_key().expose())
                .expect("the key was checked when the client was made");
            key.set_sensitive(true);
            request = request.header("X-MEXC-APIKEY", key);
        }
        let mut response = request.send().await.map_err(silence)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after_s = retry_after.and_then(|text| text.trim().parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(silence)? {
            if body.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
                let text = format!("HTTP {status} with a body of over {BODY_BYTES_MAX} bytes");
                return Err(Trouble { meaning: Meaning::Unknown, status: Some(status), text });
            }
            body.extend_from_slice(&chunk);
        }
        // An answer may repeat what it was asked: nothing that opens the account goes on from here.
        let signature = query.rsplit_once("signature=").map_or("", |(_, signature)| signature);
        let present = self.credentials();
        let signed_with = signed_by.map_or("", |credentials| credentials.api_key().expose());
        for secret in [present.api_key().expose(), signed_with, signature] {
            body = without(body, secret);
        }
        Reply { status, retry_after_s, body }.success()
    }

    async fn public(&self, path: &str, query: Query) -> Result<Vec<u8>, Trouble> {
        self.call(Method::GET, path, query.as_str(), None).await
    }

    async fn signed(&self, method: Method, path: &str, query: Query, stamp: Stamp) -> Result<Vec<u8>, Trouble> {
        let credentials = self.credentials();
        let query = query.signed(&credentials, stamp.timestamp_ms, stamp.recv_window_ms);
        self.call(method, path, &query, Some(&credentials)).await
    }

    /// Whether the exchange answers at all.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn ping(&self) -> Result<(), Trouble> {
        self.public("ping", Query::default()).await.map(|_| ())
    }

    /// The exchange's clock, epoch ms.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn time(&self) -> Result<i64, Trouble> {
        let body = self.public("time", Query::default()).await?;
        wire::read_object::<ServerTime>(&body).map(|time| time.server_time).map_err(unreadable)
    }

    /// Rules of all symbols.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn exchange_info(&self) -> Result<Vec<SymbolRules>, Trouble> {
        let body = self.public("exchangeInfo", Query::default()).await?;
        wire::exchange_info(&body).map_err(unreadable)
    }

    /// Symbols that are open to API trading at all.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn default_symbols(&self) -> Result<BTreeSet<Symbol>, Trouble> {
        let body = self.public("defaultSymbols", Query::default()).await?;
        wire::symbols(&body).map_err(unreadable)
    }

    /// Symbols that this key may trade.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn self_symbols(&self, stamp: Stamp) -> Result<BTreeSet<Symbol>, Trouble> {
        let body = self.signed(Method::GET, "selfSymbols", Query::default(), stamp).await?;
        wire::symbols(&body).map_err(unreadable)
    }

    /// The book's best levels, at most `limit` a side.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn depth(&self, symbol: &Symbol, limit: u32) -> Result<Depth, Trouble> {
        let query = Query::default().with("symbol", symbol.as_str()).with("limit", &limit.to_string());
        let body = self.public("depth", query).await?;
        wire::depth(&body).map_err(unreadable)
    }

    /// The market's latest trades, at most `limit`.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn market_trades(&self, symbol: &Symbol, limit: u32) -> Result<Vec<MarketTrade>, Trouble> {
        let query = Query::default().with("symbol", symbol.as_str()).with("limit", &limit.to_string());
        let body = self.public("trades", query).await?;
        wire::market_trades(&body).map_err(unreadable)
    }

    /// Best bid and ask of all symbols.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn book_tickers(&self) -> Result<BTreeMap<Symbol, (Price, Price)>, Trouble> {
        let body = self.public("ticker/bookTicker", Query::default()).await?;
        wire::book_tickers(&body).map_err(unreadable)
    }

    /// Last prices of all symbols.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn last_prices(&self) -> Result<BTreeMap<Symbol, Price>, Trouble> {
        let body = self.public("ticker/price", Query::default()).await?;
        wire::last_prices(&body).map_err(unreadable)
    }

    /// Sends a new order, once. Consumes the right to do so.
    pub async fn place(&self, submission: Submission) -> (VenueAnswer, Option<Trouble>) {
        let claim = submission.claim();
        let stamp = Stamp { timestamp_ms: claim.timestamp.millis(), recv_window_ms: claim.recv_window };
        let query = new_order_query(submission.order());
        let answer = self.signed(Method::POST, "order", query, stamp).await;
        match answer.and_then(|body| created(&body)) {
            Ok(order_id) => (VenueAnswer::Accepted { order_id }, None),
            Err(trouble) => (place_answer(&trouble), Some(trouble)),
        }
    }

    /// Sends new orders of one symbol in one request, once. Consumes the right to do so; the answers stand in the order
    /// of the submissions. Together they live no longer than the one whose window closes first.
    pub async fn place_batch(&self, submissions: Vec<Submission>) -> (Vec<VenueAnswer>, Option<Trouble>) {
        let opens_at = |one: &Submission| one.claim().timestamp.millis();
        let timestamp_ms = submissions.iter().map(opens_at).min().unwrap_or_default();
        let closes_at = submissions.iter().map(|one| opens_at(one).saturating_add(one.claim().recv_window)).min();
        let recv_window_ms = closes_at.unwrap_or_default().saturating_sub(timestamp_ms).max(0);
        let orders: Vec<serde_json::Map<String, serde_json::Value>> = submissions
            .iter()
            .map(|one| {
                order_fields(one.order()).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
            })
            .collect();
        let json = serde_json::to_string(&orders).expect("text fields always serialise");
        let query = Query::default().with("batchOrders", &json);
        let answer = self.signed(Method::POST, "batchOrders", query, Stamp { timestamp_ms, recv_window_ms }).await;
        match answer {
            Ok(body) => (batch_answers(&body, &submissions), None),
            Err(trouble) => (vec![place_answer(&trouble); submissions.len()], Some(trouble)),
        }
    }

    /// Lets the exchange check an order's fields without placing it.
    ///
    /// # Errors
    /// See [`Trouble`]; a refusal is what an order of this kind would get.
    pub async fn test_order(&self, order: &NewOrder, stamp: Stamp) -> Result<(), Trouble> {
        self.signed(Method::POST, "order/test", new_order_query(order), stamp).await.map(|_| ())
    }

    /// Asks the exchange to cancel an order. Success means "accepted"; how the order ended must be queried.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn cancel(&self, symbol: &Symbol, cl_ord_id: &ClOrdId, stamp: Stamp) -> Result<(), Trouble> {
        let query = Query::default().with("symbol", symbol.as_str()).with("origClientOrderId", cl_ord_id.as_str());
        self.signed(Method::DELETE, "order", query, stamp).await.map(|_| ())
    }

    /// Asks the exchange to cancel every open order of a symbol. How each ended must be queried.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn cancel_open_orders(&self, symbol: &Symbol, stamp: Stamp) -> Result<(), Trouble> {
        let query = Query::default().with("symbol", symbol.as_str());
        self.signed(Method::DELETE, "openOrders", query, stamp).await.map(|_| ())
    }

    /// Looks an order up by our id.
    ///
    /// # Errors
    /// See [`Trouble`]; [`Meaning::NotFound`] is not proof that it does not exist.
    pub async fn query(&self, symbol: &Symbol, cl_ord_id: &ClOrdId, stamp: Stamp) -> Result<VenueOrder, Trouble> {
        let query = Query::default().with("symbol", symbol.as_str()).with("origClientOrderId", cl_ord_id.as_str());
        let body = self.signed(Method::GET, "order", query, stamp).await?;
        wire::order(&body).map_err(unreadable)
    }

    /// Looks an order up by the exchange's id.
    ///
    /// # Errors
    /// See [`Trouble`]; [`Meaning::NotFound`] is not proof that it does not exist.
    pub async fn query_by_order_id(
        &self,
        symbol: &Symbol,
        order_id: &OrderId,
        stamp: Stamp,
    ) -> Result<VenueOrder, Trouble> {
        let query = Query::default().with("symbol", symbol.as_str()).with("orderId", order_id.as_str());
        let body = self.signed(Method::GET, "order", query, stamp).await?;
        wire::order(&body).map_err(unreadable)
    }

    /// Open orders of a symbol.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn open_orders(&self, symbol: &Symbol, stamp: Stamp) -> Result<OrderList, Trouble> {
        let query = Query::default().with("symbol", symbol.as_str());
        let body = self.signed(Method::GET, "openOrders", query, stamp).await?;
        wire::orders(&body).map_err(unreadable)
    }

    /// Orders of a symbol, of the last 24 hours.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn all_orders(&self, symbol: &Symbol, stamp: Stamp) -> Result<OrderList, Trouble> {
        let query = Query::default().with("symbol", symbol.as_str()).with("limit", "1000");
        let body = self.signed(Method::GET, "allOrders", query, stamp).await?;
        wire::orders(&body).map_err(unreadable)
    }

    /// Fills of a symbol, newest first, at most [`TRADES_MAX`]; of one order, and up to a time (epoch ms), where given.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn trades(
        &self,
        symbol: &Symbol,
        order_id: Option<&OrderId>,
        until_ms: Option<i64>,
        stamp: Stamp,
    ) -> Result<Vec<VenueTrade>, Trouble> {
        let mut query = Query::default().with("symbol", symbol.as_str());
        if let Some(order_id) = order_id {
            query = query.with("orderId", order_id.as_str());
        }
        if let Some(until_ms) = until_ms {
            query = query.with("endTime", &until_ms.to_string());
        }
        let body = self.signed(Method::GET, "myTrades", query, stamp).await?;
        wire::trades(&body).map_err(unreadable)
    }

    /// The account's own fee rates.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn trade_fee(&self, symbol: &Symbol, stamp: Stamp) -> Result<Fees, Trouble> {
        let query = Query::default().with("symbol", symbol.as_str());
        let body = self.signed(Method::GET, "tradeFee", query, stamp).await?;
        wire::trade_fee(&body).map_err(unreadable)
    }

    /// Makes a listen key, which lives for 60 minutes.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn create_listen_key(&self, stamp: Stamp) -> Result<ListenKey, Trouble> {
        let body = self.signed(Method::POST, "userDataStream", Query::default(), stamp).await?;
        wire::listen_key(&body).map_err(unreadable)
    }

    /// Listen keys of the account that live.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn listen_keys(&self, stamp: Stamp) -> Result<Vec<ListenKey>, Trouble> {
        let body = self.signed(Method::GET, "userDataStream", Query::default(), stamp).await?;
        wire::listen_keys(&body).map_err(unreadable)
    }

    /// Lets a listen key live for another 60 minutes.
    ///
    /// # Errors
    /// See [`Trouble`]; [`Meaning::NoListenKey`] = it is gone.
    pub async fn extend_listen_key(&self, key: &ListenKey, stamp: Stamp) -> Result<(), Trouble> {
        let query = Query::default().with("listenKey", key.expose());
        self.signed(Method::PUT, "userDataStream", query, stamp).await.map(|_| ())
    }

    /// Ends a listen key and the streams that it opened.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn delete_listen_key(&self, key: &ListenKey, stamp: Stamp) -> Result<(), Trouble> {
        let query = Query::default().with("listenKey", key.expose());
        self.signed(Method::DELETE, "userDataStream", query, stamp).await.map(|_| ())
    }

    /// The account.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn account(&self, stamp: Stamp) -> Result<VenueAccount, Trouble> {
        let body = self.signed(Method::GET, "account", Query::default(), stamp).await?;
        wire::account(&body).map_err(unreadable)
    }
}

fn usable(credentials: Credentials) -> Result<Arc<RwLock<Arc<Credentials>>>, &'static str> {
    HeaderValue::from_str(credentials.api_key().expose())
        .map_err(|_| "the API key has characters that no header can carry")?;
    Ok(Arc::new(RwLock::new(Arc::new(credentials))))
}

/// The bytes with every occurrence of a text replaced.
fn without(body: Vec<u8>, secret: &str) -> Vec<u8> {
    let finder = memmem::Finder::new(secret);
    if secret.is_empty() || finder.find(&body).is_none() {
        return body;
    }
    let mut hidden = Vec::with_capacity(body.len());
    let mut rest = body.as_slice();
    while let Some(at) = finder.find(rest) {
        hidden.extend_from_slice(&rest[..at]);
        hidden.extend_from_slice(b"(hidden)");
        rest = &rest[at + secret.len()..];
    }
    hidden.extend_from_slice(rest);
    hidden
}

pub(crate) fn unreadable(fault: WireFault) -> Trouble {
    Trouble { meaning: Meaning::Unknown, status: None, text: fault.to_string() }
}

fn created(body: &[u8]) -> Result<OrderId, Trouble> {
    let created = wire::read_object::<Created>(body).map_err(unreadable)?;
    created.order_id().ok_or_else(|| unreadable(fault("orderId", "is missing")))
}

/// What trouble means for an order that was sent once.
fn place_answer(trouble: &Trouble) -> VenueAnswer {
    let text = trouble.text.clone();
    match trouble.meaning {
        Meaning::Refused(reason) => VenueAnswer::Refused { reason, text },
        Meaning::Banned { .. } => VenueAnswer::Refused { reason: VenueRefusal::RateLimited, text },
        // By all accounts not executed, but not guaranteed in writing: confirmed by query.
        Meaning::RateLimited { .. } | Meaning::Unknown | Meaning::NotFound | Meaning::NoListenKey => {
            VenueAnswer::InDoubt { text }
        }
    }
}

/// The answers to a batch: each element is its own (exchange API §8.2). What cannot be told apart is in doubt.
fn batch_answers(body: &[u8], submissions: &[Submission]) -> Vec<VenueAnswer> {
    let doubt = |text: &str| VenueAnswer::InDoubt { text: text.to_owned() };
    let elements = match wire::batch(body) {
        Ok(elements) if elements.len() == submissions.len() => elements,
        Ok(_) => return vec![doubt("the batch's answer has another number of orders"); submissions.len()],
        Err(fault) => return vec![doubt(&fault.to_string()); submissions.len()],
    };
    let answer = |(element, submission): (wire::BatchElement, &Submission)| {
        let is_another = element.cl_ord_id().is_some_and(|id| id != submission.order().cl_ord_id.as_str());
        if is_another {
            return doubt("the batch's answer names another order");
        }
        match element.outcome() {
            Ok(order_id) => VenueAnswer::Accepted { order_id },
            Err(trouble) => place_answer(&trouble),
        }
    };
    elements.into_iter().zip(submissions).map(answer).collect()
}

/// The parameters of a new order.
fn new_order_query(order: &NewOrder) -> Query {
    order_fields(order).iter().fold(Query::default(), |query, (name, value)| query.with(name, value))
}

/// The fields of a new order; the type carries the time in force (exchange API §5).
fn order_fields(order: &NewOrder) -> Vec<(&'static str, String)> {
    let mut fields = vec![("symbol", order.symbol.to_string()), ("side", order.side.as_str().to_owned())];
    match order.ord_type {
        OrdType::Limit { price, qty, tif } => {
            let kind = match tif {
                TimeInForce::Gtc { post_only: false } => "LIMIT",
                TimeInForce::Gtc { post_only: true } => "LIMIT_MAKER",
                TimeInForce::Ioc => "IMMEDIATE_OR_CANCEL",
                TimeInForce::Fok => "FILL_OR_KILL",
            };
            fields.extend([("type", kind.to_owned()), ("quantity", plain(qty.decimal()))]);
            fields.push(("price", plain(price.decimal())));
        }
        OrdType::Market { size: MarketSize::Qty(qty) } => {
            fields.extend([("type", "MARKET".to_owned()), ("quantity", plain(qty.decimal()))]);
        }
        OrdType::Market { size: MarketSize::Quote(amount) } => {
            fields.extend([("type", "MARKET".to_owned()), ("quoteOrderQty", plain(amount.decimal()))]);
        }
    }
    fields.push(("newClientOrderId", order.cl_ord_id.to_string()));
    fields
}

#[cfg(test)]
mod tests;
