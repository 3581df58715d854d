//! Stop, resume, status, orders, positions.

use std::collections::BTreeMap;

use cdb_core::event::EventType;
use cdb_core::gate::Permit;
use cdb_core::ids::{StrategyId, Symbol};
use cdb_core::time::Timestamp;
use cdb_io::bus::{Bus, keys};
use cdb_io::operator::{BreakerMove, Hand, OperatorFault, Scope};
use redis::AsyncCommands as _;
use serde_json::{Value, json};

use crate::arguments::{At, BreakerOptions, OrdersOptions, ResumeOptions, StopOptions, StopScope};
use crate::cell::Cell;
use crate::connect;
use crate::outcome::{FAILURE, Outcome, PROBLEMS, Result, UNREACHABLE, USAGE, WithCode as _, end};
use crate::output::{self, cell};

/// How this program is called in records.
const SERVICE: &str = "cdb";

/// What a stop covers.
fn scope_of(scope: &StopScope) -> Result<Scope> {
    let bad = |what: &str, text: &str, shape: &str| end(USAGE, format!("{text:?} is no {what}: must be {shape}"));
    match (&scope.symbol, &scope.strategy) {
        (Some(text), _) => Symbol::parse(text).map(Scope::Symbol).ok_or_else(|| bad("symbol", text, Symbol::SHAPE)),
        (None, Some(text)) => {
            StrategyId::parse(text).map(Scope::Strategy).ok_or_else(|| bad("strategy", text, StrategyId::SHAPE))
        }
        (None, None) => Ok(Scope::All),
    }
}

/// An action's fault with its exit code.
fn fault(fault: OperatorFault) -> Outcome {
    let code = match fault {
        OperatorFault::Redis(_) | OperatorFault::NotRecorded(_) | OperatorFault::NotCarriedOut => UNREACHABLE,
        OperatorFault::StopNotThere => FAILURE,
    };
    end(code, fault)
}

/// The cell, and its Redis as the operator.
pub async fn operator(at: &At) -> Result<(Cell, Bus)> {
    let cell = Cell::read(&at.cell)?;
    let bus = connect::redis(&cell, "operator").await?;
    Ok((cell, bus))
}

/// Puts on record what an operator does.
pub async fn record(bus: &Bus, at: &At, event_type: EventType, reason: &str, detail: Value) -> Result {
    Hand::new(bus, SERVICE, &at.actor).record(event_type, reason, detail).await.code(UNREACHABLE)
}

/// `cdb stop`
pub async fn stop(at: &At, options: StopOptions) -> Result {
    let (_, bus) = operator(at).await?;
    set_stop(&bus, at, &options).await?;
    if at.json {
        output::json(&json!({"stopped": true, "reason": options.reason}));
    } else {
        println!("stopped: no order is granted from here on ({})", options.reason);
    }
    Ok(())
}

/// Sets a stop and reads it back.
pub async fn set_stop(bus: &Bus, at: &At, options: &StopOptions) -> Result {
    let scope = scope_of(&options.scope)?;
    Hand::new(bus, SERVICE, &at.actor).stop(&scope, &options.reason).await.map_err(fault)
}

/// `cdb resume`
pub async fn resume(at: &At, options: ResumeOptions) -> Result {
    let (_, bus) = operator(at).await?;
    clear_stop(&bus, at, &options).await?;
    if at.json {
        output::json(&json!({"resumed": true, "reason": options.reason}));
    } else {
        println!("resumed: orders are looked at again ({})", options.reason);
    }
    Ok(())
}

/// Ends a stop, and accepts the present data set where risk had lost its state.
pub async fn clear_stop(bus: &Bus, at: &At, options: &ResumeOptions) -> Result {
    let scope = scope_of(&options.scope)?;
    Hand::new(bus, SERVICE, &at.actor).resume(&scope, &options.reason).await.map_err(fault)
}

/// `cdb status`
pub async fn status(at: &At) -> Result {
    let (cell, bus) = operator(at).await?;
    let mut redis = bus.commands();
    let stop: Option<String> = redis.get(keys::STOP).await.code(UNREACHABLE)?;
    let permit: Option<String> = redis.get(keys::PERMIT).await.code(UNREACHABLE)?;
    let permit = permit.and_then(|json| serde_json::from_str::<Permit>(&json).ok());
    let breaker: BTreeMap<String, String> = redis.hgetall(keys::BREAKER).await.code(UNREACHABLE)?;
    let in_doubt: usize = redis.scard(keys::OPEN_CLAIMS).await.code(UNREACHABLE)?;
    let breaker_state = breaker.get("state").map_or("unknown", String::as_str);
    let mut services = Vec::new();
    for (name, service) in &cell.services {
        services.push((name, readiness(&service.url).await?));
    }
    let is_ready = services.iter().all(|(_, problem)| problem.is_none());
    let may_trade = stop.is_none() && permit.is_some() && breaker_state == "closed" && is_ready;
    if at.json {
        let services: BTreeMap<_, _> = services.iter().map(|(name, problem)| (name, problem)).collect();
        output::json(&json!({
            "mode": cell.mode, "may_trade": may_trade, "stop": stop, "permit": permit, "breaker": breaker,
            "orders_not_final": in_doubt, "services": services,
        }));
    } else {
        let yes_no = |is_good: bool, good: &str, bad: &str| {
            if is_good { output::green(good) } else { output::red(bad) }
        };
        println!("mode            {}", output::bold(&cell.mode));
        println!("trading         {}", yes_no(may_trade, "yes", "no"));
        let stopped = stop.as_ref().map(|reason| format!("STOPPED: {reason}")).unwrap_or_default();
        println!("emergency stop  {}", yes_no(stop.is_none(), "none", &stopped));
        println!(
            "permit          {}",
            yes_no(permit.is_some(), "valid", "none: is cdb_risk running, and its state known?")
        );
        let cause = breaker.get("cause").map(String::as_str).unwrap_or_default();
        println!(
            "breaker         {}",
            yes_no(breaker_state == "closed", "closed", &format!("{breaker_state} {cause}"))
        );
        println!("orders open     {in_doubt}");
        for (name, problem) in &services {
            let problem = problem.as_ref();
            println!("{name:<15} {}", yes_no(problem.is_none(), "ready", problem.map_or("", String::as_str)));
        }
    }
    if may_trade { Ok(()) } else { Err(end(PROBLEMS, "")) }
}

/// Why a service is not ready.
async fn readiness(url: &str) -> Result<Option<String>> {
    let answer = connect::http()?.get(format!("{url}/readyz")).send().await;
    Ok(match answer {
        Ok(response) if response.status().is_success() => None,
        Ok(response) => Some(response.text().await.unwrap_or_default().trim().replace('\n', "; ")),
        Err(_) => Some("does not answer".to_owned()),
    })
}

/// `cdb breaker status`
pub async fn breaker(at: &At) -> Result {
    let (_, bus) = operator(at).await?;
    let fields: BTreeMap<String, String> = bus.commands().hgetall(keys::BREAKER).await.code(UNREACHABLE)?;
    if at.json {
        output::json(&json!(fields));
        return Ok(());
    }
    let time = |name: &str| {
        let at = fields.get(name).and_then(|text| text.parse().ok()).map(Timestamp::from_millis);
        at.map_or("-".to_owned(), Timestamp::to_rfc3339)
    };
    let text = |name: &str| fields.get(name).filter(|text| !text.is_empty()).map_or("-", String::as_str);
    println!("state   {}", text("state"));
    println!("cause   {}", text("cause"));
    println!("since   {}", time("opened_at"));
    let retry = if text("latched") == "1" { "only by `cdb breaker reset`".to_owned() } else { time("retry_at") };
    println!("ends    {retry}");
    Ok(())
}

/// `cdb breaker trip` and `cdb breaker reset`
pub async fn move_breaker(at: &At, to: BreakerMove, options: BreakerOptions) -> Result {
    let (_, bus) = operator(at).await?;
    Hand::new(&bus, SERVICE, &at.actor).move_breaker(to, &options.reason).await.map_err(fault)?;
    breaker(at).await
}

/// `cdb orders`
pub async fn orders(at: &At, options: OrdersOptions) -> Result {
    let view = connect::view(&Cell::read(&at.cell)?, &format!("/api/orders?limit={}", options.limit)).await?;
    if at.json {
        output::json(&view);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = view
        .as_array()
        .into_iter()
        .flatten()
        .map(|order| {
            let state = match order["ord_status"].as_str() {
                Some(status) if order["in_doubt"] == json!(true) => format!("{status} (in doubt)"),
                Some(status) => status.to_owned(),
                None => cell(&order["decision"]),
            };
            vec![
                cell(&order["cl_ord_id"]),
                cell(&order["strategy"]),
                cell(&order["symbol"]),
                cell(&order["side"]),
                state,
                cell(&order["cum_qty"]),
                cell(&order["avg_px"]),
                cell(&order["reason"]),
            ]
        })
        .collect();
    output::table(&["cl_ord_id", "strategy", "symbol", "side", "state", "cum_qty", "avg_px", "reason"], &rows);
    Ok(())
}

/// `cdb positions`
pub async fn positions(at: &At) -> Result {
    let view = connect::view(&Cell::read(&at.cell)?, "/api/positions").await?;
    if at.json {
        output::json(&view);
    } else {
        show_positions(&view);
    }
    Ok(())
}

/// Prints positions as a table.
pub fn show_positions(view: &Value) {
    let rows: Vec<Vec<String>> = view
        .as_array()
        .into_iter()
        .flatten()
        .map(|position| {
            let fees = position["fees"].as_object().into_iter().flatten();
            let fees: Vec<String> = fees.map(|(asset, fee)| format!("{} {asset}", rounded(fee))).collect();
            let column = |name: &str| rounded(&position[name]);
            vec![
                cell(&position["symbol"]),
                column("qty"),
                column("avg_px"),
                column("mark"),
                column("realised"),
                column("unrealised"),
                fees.join(", "),
            ]
        })
        .collect();
    output::table(&["symbol", "qty", "avg_px", "mark", "realised", "unrealised", "fees"], &rows);
}

/// A decimal text with at most 6 decimals.
fn rounded(value: &Value) -> String {
    let text = cell(value);
    text.parse::<rust_decimal::Decimal>().map_or(text, |number| number.round_dp(6).normalize().to_string())
}
