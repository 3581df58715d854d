//! Many orders while everything goes wrong at random: in the end the client's belief and the stand-in's record are the
//! same for every order. `CDB_ORDERS` and `CDB_SEED` make it longer and different.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cdb_tests::cell::{Cell, WIDE, is_final};
use cdb_tests::chaos::Random;
use cdb_tests::orders::{cancel, cancel_all, market_buy, resting_buy};
use rust_decimal::Decimal;
use serde_json::{Value, json};

/// Orders of a run when nothing else is asked for.
const ORDERS: usize = 200;
/// Orders that may be unanswered or rest at one time.
const AHEAD: usize = 40;
/// Of these the resting ones, which end only by being cancelled.
const RESTING: usize = 20;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn faults() -> Value {
    let rule = |endpoint: &str, per_mille: u32, fault: Value| json!({"endpoint": endpoint, "per_mille": per_mille, "fault": fault});
    let refused = json!({"code": 30004, "msg": "Insufficient position"}).to_string();
    json!([
        rule("POST order", 10, json!({"kind": "lost_reply"})),
        rule("POST order", 15, json!({"kind": "execute_then_status", "status": 503})),
        rule("POST order", 10, json!({"kind": "execute_then_status", "status": 504})),
        rule("POST order", 10, json!({"kind": "broken_reply"})),
        // Those that never arrive are rare: each takes its whole fence to prove.
        rule("POST order", 1, json!({"kind": "reset"})),
        rule("POST order", 1, json!({"kind": "refuse", "status": 503})),
        rule("POST order", 10, json!({"kind": "refuse", "status": 400, "body": refused})),
        rule("POST order", 1, json!({"kind": "delay_before", "delay_ms": 3_000})),
        rule("POST order", 10, json!({"kind": "delay_after", "delay_ms": 1_500})),
        rule("POST order", 10, json!({"kind": "reply_with", "body": "<html>"})),
        rule("GET order", 50, json!({"kind": "refuse", "status": 503})),
        rule("GET order", 20, json!({"kind": "reset"})),
        rule("GET myTrades", 50, json!({"kind": "refuse", "status": 500})),
        rule("GET openOrders", 50, json!({"kind": "broken_reply"})),
        rule("DELETE order", 100, json!({"kind": "execute_then_status", "status": 503})),
        rule("GET account", 50, json!({"kind": "refuse", "status": 502})),
    ])
}

#[tokio::test]
async fn after_random_faults_the_reports_say_of_every_order_what_the_exchange_says() {
    let (count, seed) = (number("CDB_ORDERS", ORDERS), number("CDB_SEED", 7));
    let options = ["--unlimited-exchange", "--balance", "USDT=100000000", "--balance", "BTC=100"];
    let cell = Cell::start_with(WIDE, &options).await;
    cell.tell("/faults", &faults()).await;
    let switches = json!({"visibility_delay_ms": 200, "stream_drop_per_mille": 50, "stream_duplicate_per_mille": 50,
        "stream_reorder_per_mille": 50, "stream_broken_per_mille": 20});
    cell.tell("/switches", &switches).await;
    let mut random = Random::seeded(u64::try_from(seed).unwrap());
    let begun = Instant::now();
    let (mut open, mut resting) = (BTreeSet::new(), Vec::new());
    let (mut reports_read, mut verdicts_read) = ("0-0".to_owned(), "0-0".to_owned());
    for n in 0..count {
        let id = format!("r{seed}-{n}");
        let order = match random.below(10) {
            0..5 => market_buy(&id, "0.002"),
            5..8 => {
                let mut exit = market_buy(&id, "0.002");
                exit["side"] = "SELL".into();
                exit
            }
            _ => {
                resting.push(id.clone());
                resting_buy(&id, "0.002")
            }
        };
        cell.put(&order.to_string()).await;
        open.insert(id);
        if resting.len() > RESTING || (!resting.is_empty() && random.below(4) == 0) {
            let at = usize::try_from(random.below(u64::try_from(resting.len()).unwrap())).unwrap();
            cell.put(&cancel(&format!("c{seed}-{n}"), &resting.swap_remove(at)).to_string()).await;
        }
        if random.below(200) == 0 {
            cell.tell("/streams/cut", &json!({})).await;
        }
        let waiting_since = Instant::now();
        while open.len() > AHEAD {
            assert!(waiting_since.elapsed() < Duration::from_secs(120), "nothing ends: {open:?}\n{}", cell.logs());
            let mut messages = cell.stream_after("cdb:executions", &mut reports_read).await;
            messages.extend(cell.stream_after("cdb:verdicts", &mut verdicts_read).await);
            let lost = messages.iter().find(|message| message["reason"] == "state_lost");
            assert!(lost.is_none(), "{lost:?}\n{}", cell.logs());
            for message in messages.iter().filter(|message| is_final(message)) {
                open.remove(message["cl_ord_id"].as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // What still rests is cancelled, so that every order ends.
    cell.tell("/faults", &json!([])).await;
    let mut round = 0;
    loop {
        let open = cell.unfinished().await;
        if open.is_empty() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(3_600), "still open: {open:?}\n{}", cell.logs());
        cell.put(&cancel_all(&format!("all{seed}-{round}")).to_string()).await;
        round += 1;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (orders, fills) = assert_the_same(&cell).await;
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for verdict in cell.stream("cdb:verdicts").await.iter().filter(|verdict| verdict["command"]["type"] == "new") {
        *reasons.entry(verdict["reason"].as_str().unwrap_or("approved").to_owned()).or_default() += 1;
    }
    eprintln!("{count} orders {reasons:?}, {orders} at the exchange, {fills} fills, {:?}", begun.elapsed());
    assert!(orders * 10 > count * 8, "too few orders reached the exchange: {orders}, {reasons:?}");
}

/// Compares order by order and fill by fill; how many of each there were.
async fn assert_the_same(cell: &Cell) -> (usize, usize) {
    let decimal = |value: &Value| value.as_str().unwrap().parse::<Decimal>().unwrap().normalize();
    let reports = cell.reports().await;
    let mut at_exchange: BTreeMap<String, Value> = BTreeMap::new();
    for order in cell.admin("/orders").await.as_array().unwrap() {
        let id = order["client_id"].as_str().unwrap().to_owned();
        assert!(at_exchange.insert(id.clone(), order.clone()).is_none(), "{id} is there twice");
    }
    let mut fees: BTreeMap<String, (usize, Decimal)> = BTreeMap::new();
    for trade in cell.admin("/trades").await.as_array().unwrap() {
        let (fills, fee) = fees.entry(trade["client_id"].as_str().unwrap().to_owned()).or_default();
        *fills += 1;
        *fee += decimal(&trade["fee"]);
    }
    for (id, reports) in &reports {
        let last = reports.last().unwrap();
        let trades: Vec<&Value> = reports.iter().filter(|report| report["exec_type"] == "Trade").collect();
        let Some(order) = at_exchange.get(id) else {
            assert_eq!((last["ord_status"].as_str(), trades.len()), (Some("Rejected"), 0), "{id} is not there");
            continue;
        };
        let state = match order["status"].as_str().unwrap() {
            "FILLED" => "Filled",
            "CANCELED" | "PARTIALLY_CANCELED" => "Canceled",
            other => panic!("{id} is {other}"),
        };
        assert_eq!(last["ord_status"], state, "{id}");
        assert_eq!(last["order_id"], order["id"], "{id}");
        assert_eq!(decimal(&last["cum_qty"]), decimal(&order["executed"]), "{id}");
        let (fills, fee) = fees.get(id).copied().unwrap_or_default();
        let booked_fee: Decimal = trades.iter().map(|trade| decimal(&trade["commission"])).sum();
        assert_eq!((trades.len(), booked_fee), (fills, fee), "{id}");
    }
    let unknown: Vec<&String> = at_exchange.keys().filter(|id| !reports.contains_key(*id)).collect();
    assert!(unknown.is_empty(), "at the exchange and in no report: {unknown:?}");
    (at_exchange.len(), fees.values().map(|(fills, _)| fills).sum())
}
