//! The desk as it stands, once a second for all pages that look. What cannot be read is said to be unknown, and every
//! part carries the time it is from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cdb_io::bus::{Bus, keys};
use cdb_io::clock;
use cdb_io::supervise::Shutdown;
use serde_json::{Value, json};

use super::Console;
use crate::books::Books;
use crate::ledger::Ledger;

/// How often pages are told.
const EVERY: Duration = Duration::from_secs(1);
/// Longest wait for Redis or the ledger.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Services with a heartbeat.
const SERVICES: [&str; 3] = ["cdb_risk", "cdb_execution", "cdb_monitor"];
/// Stops of strategies and symbols that are looked for at most.
const STOPS_MAX: i64 = 200;

/// What the services' own keys say.
struct OnBus {
    stops: Vec<(String, String)>,
    permit: Option<Value>,
    permit_ttl_ms: i64,
    breaker: BTreeMap<String, String>,
    leases: Vec<Value>,
    heartbeats: Vec<Value>,
    usage: Option<Value>,
    ban: Option<String>,
    prices: BTreeMap<String, String>,
    not_final: u64,
}

/// Tells all pages how the desk stands, until the end is asked for.
///
/// # Errors
/// Never: what fails is shown as unknown.
pub async fn run(console: Arc<Console>, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let mut books = Books::default();
    let mut beat = tokio::time::interval(EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            _ = beat.tick() => {}
        }
        if console.feed.is_watched() {
            let desk = desk(&console, &mut books).await;
            console.feed.send("desk", &desk);
        }
    }
}

/// The whole desk as JSON.
async fn desk(console: &Console, books: &mut Books) -> Value {
    let on_bus = answered("Redis", on_bus(&console.bus, &console.ledger)).await;
    let in_ledger = answered("the ledger", in_ledger(console, books)).await;
    let now = clock::now();
    let mut desk = json!({"at": now, "mode": console.mode});
    match &in_ledger {
        Ok(ledger) => desk["ledger"] = ledger.clone(),
        Err(problem) => desk["ledger_problem"] = json!(problem),
    }
    match on_bus {
        Ok(on_bus) => {
            let (state, why) = standing(&on_bus);
            desk["trading"] = json!({"state": state, "why": why});
            desk["positions"] = json!(books.marked(&on_bus.prices));
            desk["stops"] = stops(&on_bus, in_ledger.ok().as_ref());
            desk["permit"] = json!({"permit": on_bus.permit, "ttl_ms": on_bus.permit_ttl_ms});
            desk["breaker"] = json!(on_bus.breaker);
            desk["leases"] = json!(on_bus.leases);
            desk["heartbeats"] = json!(on_bus.heartbeats);
            desk["usage"] = json!(on_bus.usage);
            desk["ban_until"] = json!(on_bus.ban);
            desk["orders_not_final"] = json!(on_bus.not_final);
        }
        Err(problem) => desk["trading"] = json!({"state": "unknown", "why": problem}),
    }
    desk
}

async fn answered<T>(what: &str, question: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_MAX, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{what}: {error:#}")),
        Err(_) => Err(format!("{what} does not answer")),
    }
}

/// The one word for the banner, with what it rests on. A stop comes first, as it does at the gate.
fn standing(desk: &OnBus) -> (&'static str, String) {
    let text = |name: &str| desk.breaker.get(name).map(String::as_str).unwrap_or_default();
    let lost = desk.usage.as_ref().and_then(|usage| usage["state_lost"].as_str());
    if let Some((_, reason)) = desk.stops.iter().find(|(key, _)| key == keys::STOP) {
        ("stopped", reason.clone())
    } else if let Some(lost) = lost {
        ("no_permit", format!("state lost: {lost}"))
    } else if desk.permit.is_none() {
        ("no_permit", "cdb_risk issues no permit".to_owned())
    } else {
        match text("state") {
            "closed" => ("trading", String::new()),
            "open" => ("breaker_open", text("cause").to_owned()),
            "half_open" => ("breaker_half_open", text("cause").to_owned()),
            _ => ("unknown", "the breaker's state cannot be read".to_owned()),
        }
    }
}

/// The stops in force, with who set them and when, where that is on record.
fn stops(desk: &OnBus, ledger: Option<&Value>) -> Value {
    let recorded = |key: &str| {
        let all = ledger.and_then(|ledger| ledger["stop_records"].as_array());
        all.into_iter().flatten().find(|record| record["key"] == key).cloned().unwrap_or(Value::Null)
    };
    let one = |(key, reason): &(String, String)| json!({"key": key, "reason": reason, "record": recorded(key)});
    desk.stops.iter().map(one).collect()
}

async fn on_bus(bus: &Bus, ledger: &Ledger) -> anyhow::Result<OnBus> {
    let mut redis = bus.commands();
    let mut pipeline = redis::pipe();
    pipeline.get(keys::PERMIT).pttl(keys::PERMIT).hgetall(keys::BREAKER).get(keys::USAGE).get(keys::BAN);
    pipeline.hgetall(keys::PRICE).cmd("SMEMBERS").arg(keys::OPEN_CLAIMS);
    type Single = (
        Option<String>,
        i64,
        BTreeMap<String, String>,
        Option<String>,
        Option<String>,
        BTreeMap<String, String>,
        Vec<String>,
    );
    let (permit, permit_ttl_ms, breaker, usage, ban, prices, open): Single = pipeline.query_async(&mut redis).await?;
    let mut pipeline = redis::pipe();
    for role in ["risk", "execution"] {
        pipeline.get(format!("cdb:lease:{role}")).pttl(format!("cdb:lease:{role}"));
    }
    let leases: Vec<redis::Value> = pipeline.query_async(&mut redis).await?;
    let leases = ["risk", "execution"].iter().zip(leases.chunks(2)).map(|(role, answer)| {
        let (lease, ttl_ms) = (json_of(text(&answer[0])), number(&answer[1]));
        json!({"role": role, "lease": lease, "ttl_ms": ttl_ms})
    });
    let leases = leases.collect();
    let beats: Vec<Option<String>> = redis::cmd("MGET")
        .arg(SERVICES.map(|service| format!("{}{service}", keys::HEARTBEAT)).as_slice())
        .query_async(&mut redis)
        .await?;
    let heartbeats =
        SERVICES.iter().zip(beats).map(|(service, beat)| json!({"service": service, "beat": json_of(beat)})).collect();
    let stops = stops_in_force(&mut redis, prices.keys(), ledger).await?;
    let not_final = u64::try_from(open.len()).unwrap_or(u64::MAX);
    let (permit, usage) = (json_of(permit), json_of(usage));
    Ok(OnBus { stops, permit, permit_ttl_ms, breaker, leases, heartbeats, usage, ban, prices, not_final })
}

/// The stop keys that are set: of everything, of each symbol with a price, of each strategy that the ledger knows.
async fn stops_in_force(
    redis: &mut redis::aio::ConnectionManager,
    symbols: impl Iterator<Item = &String>,
    ledger: &Ledger,
) -> anyhow::Result<Vec<(String, String)>> {
    // Without the ledger the stops of single strategies cannot be shown; the page says that it is away.
    let strategies = ledger.strategies(STOPS_MAX).await.unwrap_or_default();
    let mut names = vec![keys::STOP.to_owned()];
    names.extend(symbols.map(|symbol| format!("{}{symbol}", keys::STOP_SYMBOL)));
    names.extend(strategies.iter().map(|strategy| format!("{}{strategy}", keys::STOP_STRATEGY)));
    let values: Vec<Option<Vec<u8>>> = redis::cmd("MGET").arg(&names).query_async(redis).await?;
    let set = names.into_iter().zip(values).filter_map(|(key, value)| {
        let reason = String::from_utf8_lossy(&value?).into_owned();
        Some((key, reason))
    });
    Ok(set.collect())
}

fn text(value: &redis::Value) -> Option<String> {
    redis::from_redis_value_ref(value).ok().flatten()
}

fn number(value: &redis::Value) -> i64 {
    redis::from_redis_value_ref(value).unwrap_or(-2)
}

fn json_of(text: Option<String>) -> Option<Value> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}

async fn in_ledger(console: &Console, books: &mut Books) -> anyhow::Result<Value> {
    let ledger = &console.ledger;
    books.refresh(ledger, console.mode).await?;
    Ok(json!({
        "alerts": ledger.open_alerts().await?,
        "keys": ledger.keys().await?,
        "checkpoint": ledger.last_event("checkpoint").await?,
        "audit_trouble": ledger.last_event("audit_trouble").await?,
        "stop_records": ledger.stop_records().await?,
        "open_orders": ledger.open_orders().await?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(state: &str) -> OnBus {
        OnBus {
            stops: Vec::new(),
            permit: Some(json!({})),
            permit_ttl_ms: 1,
            breaker: BTreeMap::from([
                ("state".to_owned(), state.to_owned()),
                ("cause".to_owned(), "drawdown".to_owned()),
            ]),
            leases: Vec::new(),
            heartbeats: Vec::new(),
            usage: None,
            ban: None,
            prices: BTreeMap::new(),
            not_final: 0,
        }
    }

    #[test]
    fn the_banner_says_trading_only_when_everything_allows_it() {
        assert_eq!(standing(&desk("closed")).0, "trading");
        assert_eq!(standing(&desk("open")), ("breaker_open", "drawdown".to_owned()));
        assert_eq!(standing(&desk("half_open")).0, "breaker_half_open");
        assert_eq!(standing(&desk("")).0, "unknown");
        let without = OnBus { permit: None, ..desk("closed") };
        assert_eq!(standing(&without).0, "no_permit");
        let lost = OnBus { usage: Some(json!({"state_lost": "Redis was exchanged"})), ..desk("closed") };
        assert_eq!(standing(&lost).0, "no_permit");
        let stops = vec![(keys::STOP.to_owned(), String::new())];
        let stopped = OnBus { stops, permit: None, ..desk("open") };
        assert_eq!(standing(&stopped), ("stopped", String::new()));
        let one_symbol = vec![(format!("{}BTCUSDT", keys::STOP_SYMBOL), "delisting".to_owned())];
        assert_eq!(standing(&OnBus { stops: one_symbol, ..desk("closed") }).0, "trading");
    }
}
