//! `gate.lua` on a real Redis against its specification, with the same random histories.
//!
//! Redis's own clock cannot be set, so the histories run in real time and the specification is given the time that
//! the script saw; answers that name a wait are compared with a small tolerance for the milliseconds between.

use cdb_core::gate::{Answer, BreakerView, Budget, Claim, FENCE_MARGIN_MS, Gate, OrderRequest, Permit, Request};
use cdb_core::ids::{ClOrdId, StrategyId, Symbol};
use cdb_core::reason::GateRefusal;
use cdb_core::time::Timestamp;
use cdb_io::clock;
use cdb_io::scripts::{Script, Scripts, words};
use cdb_tests::redis_server::RedisServer;
use redis::aio::ConnectionManager;
use serde_json::json;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.next(n) == 0
    }
}

async fn run(redis: &mut ConnectionManager, command: &[&str]) {
    let mut one = redis::cmd(command[0]);
    one.arg(&command[1..]);
    let _: redis::Value = one.query_async(redis).await.unwrap();
}

/// A key's value; `None` = no such key.
async fn put(redis: &mut ConnectionManager, key: &str, value: Option<&str>) {
    match value {
        Some(value) => run(redis, &["SET", key, value]).await,
        None => run(redis, &["DEL", key]).await,
    }
}

async fn redis_now(redis: &mut ConnectionManager) -> Timestamp {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await.unwrap();
    Timestamp::from_millis(seconds * 1_000 + micros / 1_000)
}

fn fresh_gate(run_id: &str) -> Gate {
    Gate {
        run_id: run_id.to_owned(),
        is_stopped: false,
        stopped_symbols: Vec::new(),
        stopped_strategies: Vec::new(),
        permit: None,
        breaker: BreakerView::Unknown,
        probe: None,
        lease: None,
        banned_until: None,
        claims: std::collections::BTreeMap::new(),
        slots: std::collections::BTreeMap::new(),
    }
}

/// Changes one thing that the gate reads, on both sides.
async fn change(random: &mut Random, gate: &mut Gate, redis: &mut ConnectionManager) {
    match random.next(7) {
        0 => {
            gate.is_stopped = random.one_in(4);
            put(redis, "emergency_stop", gate.is_stopped.then_some("")).await;
        }
        1 => {
            let symbol = Symbol::parse("BTCUSDT").unwrap();
            let is_stopped = random.one_in(4);
            gate.stopped_symbols = if is_stopped { vec![symbol] } else { Vec::new() };
            put(redis, "emergency_stop:symbol:BTCUSDT", is_stopped.then_some("x")).await;
        }
        2 => {
            let is_there = !random.one_in(4);
            let epoch = if random.one_in(5) { "e2" } else { "e1" };
            let run_id = if random.one_in(6) { "another" } else { gate.run_id.as_str() };
            let hash = if random.one_in(6) { "h2" } else { "h1" };
            let permit = Permit {
                epoch: epoch.into(),
                run_id: run_id.into(),
                limits_hash: hash.into(),
                wire: 1,
                issued_at: Timestamp::default(),
            };
            let json = serde_json::to_string(&permit).unwrap();
            gate.permit = is_there.then_some(permit);
            put(redis, "cdb:permit", is_there.then_some(json.as_str())).await;
        }
        3 => {
            let (view, word) = [
                (BreakerView::Closed, "closed"),
                (BreakerView::Closed, "closed"),
                (BreakerView::Open, "open"),
                (BreakerView::HalfOpen, "half_open"),
                (BreakerView::Unknown, "?"),
            ][usize::try_from(random.next(5)).unwrap()];
            gate.breaker = view;
            run(redis, &["HSET", "cdb:breaker", "state", word]).await;
        }
        4 => {
            gate.lease = (!random.one_in(6)).then(|| format!("e1:{}", if random.one_in(5) { 2 } else { 1 }));
            match &gate.lease {
                Some(token) => {
                    let lease = json!({"holder": "x", "token": token}).to_string();
                    run(redis, &["SET", "cdb:lease:execution", &lease]).await;
                }
                None => run(redis, &["DEL", "cdb:lease:execution"]).await,
            }
        }
        5 => {
            gate.probe = None;
            run(redis, &["DEL", "cdb:breaker:probe"]).await;
        }
        _ => {
            let until = random.one_in(5).then(|| clock::now().plus_ms(30));
            gate.banned_until = until;
            match until {
                Some(until) => run(redis, &["SET", "cdb:ban", &until.millis().to_string()]).await,
                None => run(redis, &["DEL", "cdb:ban"]).await,
            }
        }
    }
}

fn random_request(random: &mut Random, now: Timestamp) -> Request {
    let order = random.next(12);
    let budget = |name: &str, limit, window_ms, weight| Budget { name: name.into(), limit, window_ms, weight };
    let weight = u32::try_from(random.next(3)).unwrap() + 1;
    Request {
        token: "e1:1".into(),
        nonce: format!("n{order}-{}", random.next(2)),
        budgets: vec![budget("a", 6, 40, 1), budget("b", 9, 120, weight)],
        recv_window_ms: 30,
        order: (!random.one_in(4)).then(|| OrderRequest {
            cl_ord_id: ClOrdId::parse(&format!("o{order}")).unwrap(),
            symbol: Symbol::parse(if random.one_in(2) { "BTCUSDT" } else { "ETHUSDT" }).unwrap(),
            strategy: StrategyId::parse("s").unwrap(),
            epoch: "e1".into(),
            limits_hash: "h1".into(),
            // Far from now on either side, so that a millisecond between the two does not decide.
            expires_at: now.plus_ms(if random.one_in(8) { -500 } else { 60_000 }),
            is_exit: random.one_in(5),
            exchange_offset_ms: 17,
        }),
    }
}

async fn ask_lua(redis: &mut ConnectionManager, scripts: &Scripts, request: &Request) -> Vec<String> {
    let budgets: Vec<_> = request
        .budgets
        .iter()
        .map(|b| json!({"name": b.name, "limit": b.limit, "window_ms": b.window_ms, "weight": b.weight}))
        .collect();
    let mut question = json!({
        "token": request.token, "nonce": request.nonce, "recv_window_ms": request.recv_window_ms, "boot_id": "b",
        "boot_ms": clock::boot_ms(), "is_confirmed": false, "hold_ms": 150, "budgets": budgets,
    });
    if let Some(order) = &request.order {
        question["order"] = json!({
            "cl_ord_id": order.cl_ord_id, "symbol": order.symbol, "strategy": order.strategy, "epoch": order.epoch,
            "limits_hash": order.limits_hash, "expires_at": order.expires_at, "is_exit": order.is_exit,
            "exchange_offset_ms": order.exchange_offset_ms, "fence_margin_ms": FENCE_MARGIN_MS, "wire": 1,
        });
    }
    words(&scripts.run(redis, Script::Gate, &[&question.to_string()]).await.unwrap())
}

/// The specification's answer in the script's words; a claim is compared field by field by the caller.
fn in_words(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::NotLeader => vec!["not_leader".into()],
        Answer::Granted(None) => vec!["granted".into()],
        Answer::Granted(Some(claim)) => vec!["granted".into(), serde_json::to_string(claim).unwrap()],
        Answer::Wait(ms) => vec!["wait".into(), ms.to_string()],
        Answer::Refused(refusal) => vec!["refused".into(), refusal.code().into()],
    }
}

/// Whether two answers agree, but for the milliseconds that passed between the two questions.
fn agree(spec: &[String], lua: &[String]) -> bool {
    match (spec, lua) {
        ([a, spec], [b, lua]) if a == "wait" && b == "wait" => {
            let (spec, lua): (i64, i64) = (spec.parse().unwrap(), lua.parse().unwrap());
            (spec - lua).abs() <= 5
        }
        ([a, spec], [b, lua]) if a == "granted" && b == "granted" => {
            let (spec, lua): (Claim, Claim) = (serde_json::from_str(spec).unwrap(), serde_json::from_str(lua).unwrap());
            let shift = lua.granted_at.since_ms(spec.granted_at);
            shift.abs() <= 5
                && spec.token == lua.token
                && spec.nonce == lua.nonce
                && spec.recv_window == lua.recv_window
                && spec.timestamp.plus_ms(shift) == lua.timestamp
                && spec.final_after.plus_ms(shift) == lua.final_after
        }
        _ => spec == lua,
    }
}

#[tokio::test]
async fn the_script_answers_as_its_specification_for_random_histories() {
    let server = RedisServer::start().await;
    let mut redis = server.bus().await.commands();
    let scripts = Scripts::bind(&mut redis).await.unwrap();
    let mut answers = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..40 {
        run(&mut redis, &["FLUSHALL"]).await;
        let mut random = Random(seed);
        let mut gate = fresh_gate(scripts.run_id());
        for step in 0..150 {
            if random.one_in(3) {
                change(&mut random, &mut gate, &mut redis).await;
                continue;
            }
            let before = redis_now(&mut redis).await;
            let request = random_request(&mut random, before);
            let lua = ask_lua(&mut redis, &scripts, &request).await;
            let now = redis_now(&mut redis).await;
            // Close to the end of a wait the two may see either side of it; the script's side is taken for both.
            let original = gate.clone();
            let spec = in_words(&gate.admit(&request, before));
            if !agree(&spec, &lua) {
                gate = original;
                let later = in_words(&gate.admit(&request, now));
                assert!(agree(&later, &lua), "seed {seed} step {step}: {request:?}\nspec {spec:?}\nlua  {lua:?}");
            }
            if let [word, claim] = &lua[..]
                && word == "granted"
                && let Some(order) = &request.order
            {
                gate.claims.insert(order.cl_ord_id.clone(), serde_json::from_str(claim).unwrap());
            }
            *answers
                .entry(lua.iter().take(1).chain(lua.get(1).filter(|_| lua[0] == "refused")).cloned().collect())
                .or_default() += 1;
        }
    }
    for needed in ["granted", "wait", "not_leader"] {
        assert!(answers.contains_key(needed), "the histories never led to {needed}: {answers:?}");
    }
    for refusal in [
        GateRefusal::EmergencyStop,
        GateRefusal::PermitMissing,
        GateRefusal::CircuitOpen,
        GateRefusal::Expired,
        GateRefusal::AlreadyClaimed,
    ] {
        assert!(answers.contains_key(&format!("refused{refusal}")), "never refused with {refusal}: {answers:?}");
    }
}
