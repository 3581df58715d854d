//! What an operator does from the page. A stop is the monitor's own right; everything that could let orders flow again, or
//! put something on `cdb:orders`, goes through the operator's Redis user, whose password this process has only where it is
//! configured, and which is opened with an [`Operator`] in hand alone.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cdb_core::event::{Event, EventType};
use cdb_core::ids::{ClOrdId, StrategyId, Symbol};
use cdb_io::bus::Bus;
use cdb_io::operator::{BreakerMove, Hand, OperatorFault, Scope};
use cdb_io::{clock, events};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Console;
use super::answer::Refused;
use super::guard::Operator;

/// Longest reason.
const REASON_CHARS_MAX: usize = 300;
/// Longest wait for an action.
const ACTION_MAX: Duration = Duration::from_secs(8);
/// How this program is called in records.
const SERVICE: &str = "cdb_monitor";

type Answer = Result<Json<Value>, Refused>;

/// Body of a stop or a resume.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopWish {
    reason: String,
    symbol: Option<String>,
    strategy: Option<String>,
}

/// Body of a cancel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelWish {
    cl_ord_id: String,
}

/// Body of a cancel of everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelAllWish {
    symbol: Option<String>,
}

/// Body of a breaker's move.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerWish {
    command: Move,
    reason: String,
}

/// See [`BreakerMove`].
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Move {
    Trip,
    Reset,
}

/// Body of an acknowledgement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckWish {
    alert: String,
}

/// `POST /api/stop`
pub async fn stop(State(console): State<Arc<Console>>, operator: Operator, Json(wish): Json<StopWish>) -> Answer {
    let (scope, reason) = (scope_of(&wish)?, reason_of(&wish.reason)?);
    let hand = Hand::new(&console.bus, SERVICE, operator.actor());
    match within(hand.stop(&scope, reason)).await {
        Ok(()) => Ok(Json(json!({"done": "stopped: no order is granted from here on"}))),
        Err(error) => {
            let text = format!(
                "{error}. If the desk is not stopped, stop cdb_execution without Redis: its stop file, SIGUSR1 or POST /stop"
            );
            Err(Refused::failed(&text))
        }
    }
}

/// `POST /api/resume`
pub async fn resume(State(console): State<Arc<Console>>, operator: Operator, Json(wish): Json<StopWish>) -> Answer {
    let (scope, reason) = (scope_of(&wish)?, reason_of(&wish.reason)?);
    let bus = operator_bus(&console, &operator).await?;
    let hand = Hand::new(&bus, SERVICE, operator.actor());
    within(hand.resume(&scope, reason)).await.map_err(|error| Refused::failed(&error))?;
    Ok(Json(json!({"done": "resumed: orders are looked at again"})))
}

/// `POST /api/cancel`
pub async fn cancel(State(console): State<Arc<Console>>, operator: Operator, Json(wish): Json<CancelWish>) -> Answer {
    let order = ClOrdId::parse(&wish.cl_ord_id).ok_or_else(|| bad("that is no ClOrdID"))?;
    let bus = operator_bus(&console, &operator).await?;
    let hand = Hand::new(&bus, SERVICE, operator.actor());
    let own = within(hand.cancel(&order)).await.map_err(|error| Refused::failed(&error))?;
    Ok(Json(json!({"done": format!("cancel of {order} asked for"), "cl_ord_id": own})))
}

/// `POST /api/cancel-all`
pub async fn cancel_all(
    State(console): State<Arc<Console>>,
    operator: Operator,
    Json(wish): Json<CancelAllWish>,
) -> Answer {
    let parse = |text: &String| Symbol::parse(text).ok_or_else(|| bad("that is no symbol"));
    let symbol = wish.symbol.as_ref().map(parse).transpose()?;
    let bus = operator_bus(&console, &operator).await?;
    let hand = Hand::new(&bus, SERVICE, operator.actor());
    let own = within(hand.cancel_all(symbol.as_ref())).await.map_err(|error| Refused::failed(&error))?;
    Ok(Json(json!({"done": "cancel of all open orders asked for", "cl_ord_id": own})))
}

/// `POST /api/breaker`
pub async fn breaker(State(console): State<Arc<Console>>, operator: Operator, Json(wish): Json<BreakerWish>) -> Answer {
    let reason = reason_of(&wish.reason)?;
    let (to, done) = match wish.command {
        Move::Trip => (BreakerMove::Trip, "the breaker is open: only exits pass"),
        Move::Reset => (BreakerMove::Reset, "the breaker is closed; losses are measured anew from here"),
    };
    let bus = operator_bus(&console, &operator).await?;
    let hand = Hand::new(&bus, SERVICE, operator.actor());
    within(hand.move_breaker(to, reason)).await.map_err(|error| Refused::failed(&error))?;
    Ok(Json(json!({"done": done})))
}

/// `POST /api/alerts/ack`
pub async fn acknowledge(State(console): State<Arc<Console>>, operator: Operator, Json(wish): Json<AckWish>) -> Answer {
    let alert = reason_of(&wish.alert)?;
    let hand = Hand::new(&console.bus, SERVICE, operator.actor());
    let detail = json!({"command": "alert_ack", "alert": alert});
    let recorded = hand.record(EventType::OperatorAction, "alert acknowledged", detail);
    let recorded = async { recorded.await.map_err(OperatorFault::from) };
    within(recorded).await.map_err(|error| Refused::failed(&error))?;
    Ok(Json(json!({"done": "acknowledged"})))
}

/// Puts a log-in on record, and whoever tried without the token.
pub async fn record_log_in(bus: &Bus, actor: &str, is_granted: bool) {
    let recorded = if is_granted {
        let hand = Hand::new(bus, SERVICE, actor);
        hand.record(EventType::OperatorAction, "logged in to the console", json!({"command": "log_in"})).await
    } else {
        tracing::error!(actor, "a log-in to the console with a wrong token");
        let detail = json!({"kind": "auth_failed", "at": "console", "claimed": actor});
        let reason = "log-in to the console with a wrong token";
        let mut event = Event::by_service(EventType::Security, SERVICE, reason, detail, clock::now());
        event.actor = "unknown".to_owned();
        events::publish(&mut bus.commands(), &event).await
    };
    if let Err(error) = recorded {
        tracing::error!(%error, actor, is_granted, "a log-in could not be put on record");
    }
}

/// Redis as the operator, for a logged-in one alone.
async fn operator_bus(console: &Console, _proof: &Operator) -> Result<Bus, Refused> {
    let config = console.operator_redis.as_ref().ok_or_else(|| {
        let text = "this console may only stop: it has no operator's password (REDIS_OPERATOR_PASSWORD_FILE)";
        Refused::new(StatusCode::CONFLICT, text)
    })?;
    match tokio::time::timeout(ACTION_MAX, Bus::connect(config)).await {
        Ok(Ok(bus)) => Ok(bus),
        Ok(Err(error)) => Err(Refused::failed(&format!("{error:#}"))),
        Err(_) => Err(Refused::failed(&"Redis does not answer")),
    }
}

async fn within<T>(action: impl Future<Output = Result<T, OperatorFault>>) -> Result<T, String> {
    match tokio::time::timeout(ACTION_MAX, action).await {
        Ok(done) => done.map_err(|fault| fault.to_string()),
        Err(_) => Err(format!("no answer within {} s: whether it is done is not known", ACTION_MAX.as_secs())),
    }
}

fn bad(text: &str) -> Refused {
    Refused::new(StatusCode::UNPROCESSABLE_ENTITY, text)
}

fn scope_of(wish: &StopWish) -> Result<Scope, Refused> {
    match (&wish.symbol, &wish.strategy) {
        (None, None) => Ok(Scope::All),
        (Some(text), None) => Symbol::parse(text).map(Scope::Symbol).ok_or_else(|| bad("that is no symbol")),
        (None, Some(text)) => StrategyId::parse(text).map(Scope::Strategy).ok_or_else(|| bad("that is no strategy")),
        (Some(_), Some(_)) => Err(bad("a stop covers a symbol or a strategy, not both")),
    }
}

/// A reason fit for the record: some text, one line.
fn reason_of(text: &str) -> Result<&str, Refused> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(bad(&format!("a reason of 1 to {REASON_CHARS_MAX} characters in one line is needed")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_some_text() {
        for text in ["", "   ", "one\ntwo", &"x".repeat(301)] {
            assert!(reason_of(text).is_err(), "{text}");
        }
        assert_eq!(reason_of("  <b>drill</b> ").ok(), Some("<b>drill</b>"));
    }
}
