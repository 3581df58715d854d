//! What the CLI asks for: read-only, from the ledger, marked at the latest prices.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use cdb_core::report::Mode;
use cdb_io::bus::{Bus, keys};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::json;

use crate::books::Books;
use crate::ledger::{Ledger, Rebuilds};

/// Orders shown when nothing else is asked for.
const LIMIT: i64 = 50;
/// Orders shown at most.
const LIMIT_MAX: i64 = 10_000;

#[derive(Clone)]
struct Served {
    ledger: Ledger,
    bus: Bus,
    mode: &'static str,
    rebuilds: Rebuilds,
}

/// The routes.
pub fn routes(ledger: Ledger, bus: Bus, mode: Mode, rebuilds: Rebuilds) -> Router {
    Router::new()
        .route("/api/desk", get(desk))
        .route("/api/orders", get(orders))
        .route("/api/positions", get(positions))
        .route("/api/totals", get(totals))
        .route("/api/refusals", get(refusals))
        .route("/api/secrets", get(secrets))
        .route("/api/rebuilds/{id}", get(rebuild))
        .with_state(Served { ledger, bus, mode: mode.as_str(), rebuilds })
}

/// Stop, permit and breaker as they stand.
async fn desk(State(served): State<Served>) -> Result<Response, Failure> {
    let mut pipeline = redis::pipe();
    pipeline.get(keys::STOP).get(keys::PERMIT).hgetall(keys::BREAKER);
    type Desk = (Option<String>, Option<String>, BTreeMap<String, String>);
    let (stop, permit, breaker): Desk = pipeline.query_async(&mut served.bus.commands()).await?;
    let state = breaker.get("state").map_or("unknown", String::as_str);
    Ok(Json(json!({
        "mode": served.mode, "stop": stop, "has_permit": permit.is_some(), "breaker": state,
        "cause": breaker.get("cause"), "may_trade": stop.is_none() && permit.is_some() && state == "closed",
    }))
    .into_response())
}

#[derive(Deserialize)]
struct Wanted {
    limit: Option<i64>,
}

/// Anything that failed, as 500 with its text.
struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        tracing::error!(error = format!("{:#}", self.0), "a view failed");
        (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": format!("{:#}", self.0)}))).into_response()
    }
}

/// The newest orders first.
async fn orders(State(served): State<Served>, Query(wanted): Query<Wanted>) -> Result<Response, Failure> {
    let limit = wanted.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let rows = sqlx::query!(
        "SELECT cl_ord_id, strategy, symbol, side, ord_type, decision, reason, detail, decided_at, ord_status,
                in_doubt, cum_qty, avg_px, end_reason, end_note, order_id
         FROM orders ORDER BY decided_at DESC, cl_ord_id LIMIT $1",
        limit
    )
    .fetch_all(&served.ledger.pool)
    .await?;
    let orders: Vec<_> = rows
        .into_iter()
        .map(|row| {
            json!({
                "cl_ord_id": row.cl_ord_id, "strategy": row.strategy, "symbol": row.symbol, "side": row.side,
                "ord_type": row.ord_type, "decision": row.decision, "reason": row.end_reason.or(row.reason),
                "detail": row.end_note.or(row.detail), "decided_at": row.decided_at.map(|at| at.timestamp_millis()),
                "ord_status": row.ord_status, "in_doubt": row.in_doubt, "cum_qty": row.cum_qty, "avg_px": row.avg_px,
                "order_id": row.order_id,
            })
        })
        .collect();
    Ok(Json(orders).into_response())
}

/// Refusals by reason, of risk, of the gate and of the exchange.
async fn refusals(State(served): State<Served>) -> Result<Response, Failure> {
    let rows = sqlx::query!(
        r#"SELECT reason AS "reason!", count(*) AS "count!" FROM (
               SELECT reason FROM verdicts WHERE decision = 'rejected'
               UNION ALL SELECT reason FROM reports WHERE ord_status = 'Rejected'
           ) refused WHERE reason IS NOT NULL GROUP BY reason ORDER BY count(*) DESC, reason"#
    )
    .fetch_all(&served.ledger.pool)
    .await?;
    Ok(Json(rows.into_iter().map(|row| json!({"reason": row.reason, "count": row.count})).collect::<Vec<_>>())
        .into_response())
}

/// Secrets by name and fingerprint, with their first sight.
async fn secrets(State(served): State<Served>) -> Result<Response, Failure> {
    let rows = sqlx::query!(
        r#"SELECT secret AS "secret!", fingerprint AS "fingerprint!", first_seen AS "first_seen!", rotated_at
           FROM secrets ORDER BY secret, last_seen DESC LIMIT $1"#,
        LIMIT_MAX
    )
    .fetch_all(&served.ledger.pool)
    .await?;
    let secrets: Vec<_> = rows
        .into_iter()
        .map(|row| {
            json!({
                "secret": row.secret, "fingerprint": row.fingerprint, "first_seen": row.first_seen.timestamp_millis(),
                "rotated_at": row.rotated_at.map(|at| at.timestamp_millis()),
            })
        })
        .collect();
    Ok(Json(secrets).into_response())
}

#[derive(Deserialize)]
struct Since {
    since_ms: i64,
}

/// What one symbol's fills add up to.
#[derive(Default, serde::Serialize)]
struct Totals {
    fills: i64,
    bought: Decimal,
    sold: Decimal,
    fees: BTreeMap<String, Decimal>,
}

/// Fills and fees of each symbol since a moment.
async fn totals(State(served): State<Served>, Query(since): Query<Since>) -> Result<Response, Failure> {
    let since = chrono::DateTime::from_timestamp_millis(since.since_ms).unwrap_or_default();
    let rows = sqlx::query!(
        r#"SELECT symbol, side, commission_asset, count(*) AS "fills!", sum(qty) AS "qty!", sum(commission) AS "fee!"
           FROM fills WHERE traded_at >= $1 AND mode = $2 GROUP BY symbol, side, commission_asset"#,
        since,
        served.mode
    )
    .fetch_all(&served.ledger.pool)
    .await?;
    let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
    for row in rows {
        let of_symbol = totals.entry(row.symbol).or_default();
        of_symbol.fills = of_symbol.fills.saturating_add(row.fills);
        let sum = if row.side == "BUY" { &mut of_symbol.bought } else { &mut of_symbol.sold };
        *sum = sum.saturating_add(row.qty);
        let fee = of_symbol.fees.entry(row.commission_asset).or_default();
        *fee = fee.saturating_add(row.fee);
    }
    Ok(Json(totals).into_response())
}

/// Positions out of all fills of this mode, marked at the latest prices.
async fn positions(State(served): State<Served>) -> Result<Response, Failure> {
    let prices: BTreeMap<String, String> =
        redis::cmd("HGETALL").arg(keys::PRICE).query_async(&mut served.bus.commands()).await?;
    let mut books = Books::default();
    books.refresh(&served.ledger, served.mode).await?;
    Ok(Json(books.marked(&prices)).into_response())
}

/// What came of a wish to rebuild the ledger; null before it was seen.
async fn rebuild(State(served): State<Served>, Path(id): Path<String>) -> Response {
    Json(served.rebuilds.state_of(&id)).into_response()
}
