use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn gate() -> Gate {
    Gate {
        run_id: "run-1".into(),
        is_stopped: false,
        stopped_symbols: Vec::new(),
        stopped_strategies: Vec::new(),
        permit: Some(Permit {
            epoch: "e1".into(),
            run_id: "run-1".into(),
            limits_hash: "h1".into(),
            wire: WIRE_VERSION,
            issued_at: NOW,
        }),
        breaker: BreakerView::Closed,
        probe: None,
        lease: Some("e1:1".into()),
        banned_until: None,
        claims: BTreeMap::new(),
        slots: BTreeMap::new(),
    }
}

fn budget(limit: u32) -> Budget {
    Budget { name: "orders_1s".into(), limit, window_ms: 1_000, weight: 1 }
}

fn request(id: &str) -> Request {
    Request {
        token: "e1:1".into(),
        nonce: format!("n-{id}"),
        budgets: vec![budget(2)],
        recv_window_ms: 2_000,
        order: Some(OrderRequest {
            cl_ord_id: ClOrdId::parse(id).unwrap(),
            symbol: Symbol::parse("BTCUSDT").unwrap(),
            strategy: StrategyId::parse("s").unwrap(),
            epoch: "e1".into(),
            limits_hash: "h1".into(),
            expires_at: NOW.plus_ms(5_000),
            is_exit: false,
            exchange_offset_ms: 7,
        }),
    }
}

fn is_granted(answer: &Answer) -> bool {
    matches!(answer, Answer::Granted(_))
}

#[test]
fn a_grant_fixes_timestamp_and_fence() {
    let Answer::Granted(Some(claim)) = gate().admit(&request("a"), NOW) else { panic!("granted") };
    assert_eq!(claim.timestamp, NOW.plus_ms(7));
    assert_eq!(claim.final_after, NOW.plus_ms(7 + 2_000 + FENCE_MARGIN_MS));
}

#[test]
fn the_same_nonce_gets_the_same_grant_and_another_one_none() {
    let mut gate = gate();
    let first = gate.admit(&request("a"), NOW);
    assert_eq!(gate.admit(&request("a"), NOW.plus_ms(100)), first);
    let other = Request { nonce: "n-other".into(), ..request("a") };
    assert_eq!(gate.admit(&other, NOW), Answer::Refused(GateRefusal::AlreadyClaimed));
}

#[test]
fn each_missing_yes_refuses_and_writes_nothing() {
    type Break = fn(&mut Gate);
    let cases: [(Break, Answer); 10] = [
        (|gate| gate.is_stopped = true, Answer::Refused(GateRefusal::EmergencyStop)),
        (
            |gate| gate.stopped_symbols = vec![Symbol::parse("BTCUSDT").unwrap()],
            Answer::Refused(GateRefusal::EmergencyStop),
        ),
        (
            |gate| gate.stopped_strategies = vec![StrategyId::parse("s").unwrap()],
            Answer::Refused(GateRefusal::EmergencyStop),
        ),
        (|gate| gate.permit = None, Answer::Refused(GateRefusal::PermitMissing)),
        (|gate| gate.run_id = "run-2".into(), Answer::Refused(GateRefusal::PermitMissing)),
        (|gate| gate.breaker = BreakerView::Open, Answer::Refused(GateRefusal::CircuitOpen)),
        (|gate| gate.breaker = BreakerView::Unknown, Answer::Refused(GateRefusal::CircuitOpen)),
        (|gate| gate.lease = None, Answer::NotLeader),
        (|gate| gate.lease = Some("e1:2".into()), Answer::NotLeader),
        (|gate| gate.banned_until = Some(NOW.plus_ms(60)), Answer::Wait(60)),
    ];
    for (break_it, expected) in cases {
        let mut gate = gate();
        break_it(&mut gate);
        assert_eq!(gate.admit(&request("a"), NOW), expected);
        assert!(gate.claims.is_empty() && gate.slots.is_empty());
    }
    let mut gate = gate();
    assert_eq!(gate.admit(&request("a"), NOW.plus_ms(5_000)), Answer::Refused(GateRefusal::Expired));
}

#[test]
fn a_slot_is_free_one_window_after_the_answer_and_later_when_none_came() {
    let mut gate = gate();
    assert!(is_granted(&gate.admit(&request("a"), NOW)));
    assert!(is_granted(&gate.admit(&request("b"), NOW)));
    assert_eq!(gate.admit(&request("c"), NOW), Answer::Wait(3_000));
    gate.answered("n-a", &[budget(2)], NOW.plus_ms(40));
    assert_eq!(gate.admit(&request("c"), NOW.plus_ms(40)), Answer::Wait(1_000));
    assert!(is_granted(&gate.admit(&request("c"), NOW.plus_ms(1_040))));
    assert_eq!(gate.admit(&request("d"), NOW.plus_ms(1_040)), Answer::Wait(1_960));
}

#[test]
fn half_open_admits_one_probe_at_a_time_and_exits() {
    let mut gate = gate();
    gate.breaker = BreakerView::HalfOpen;
    let wide = |id: &str| Request { budgets: vec![budget(1_000)], ..request(id) };
    let granted = (0..100).filter(|n| is_granted(&gate.admit(&wide(&format!("p{n}")), NOW))).count();
    assert_eq!(granted, 1);
    let mut exit = wide("exit");
    exit.order.as_mut().unwrap().is_exit = true;
    assert!(is_granted(&gate.admit(&exit, NOW)));
    gate.settled(&ClOrdId::parse("p0").unwrap());
    assert!(is_granted(&gate.admit(&wide("next"), NOW)));
}

#[test]
fn cancels_and_queries_need_lease_and_budget_only() {
    let mut gate = gate();
    gate.is_stopped = true;
    gate.permit = None;
    gate.breaker = BreakerView::Open;
    let cancel = Request { order: None, ..request("cancel") };
    assert_eq!(gate.admit(&cancel, NOW), Answer::Granted(None));
}
