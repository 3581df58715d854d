use super::*;
use crate::audit::Chain;
use crate::secret::Secret;
use crate::verdict::{VerdictKey, Verified, verify};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn approved() -> Box<ApprovedOrder> {
    let json = r#"{"v":1,"cl_ord_id":"a-1","decision":"approved","command":{"v":1,"type":"new","cl_ord_id":"a-1","strategy":"s","symbol":"BTCUSDT","side":"BUY","ord_type":"LIMIT","tif":"GTC","qty":"0.003","price":"60000.00","ts":1700000000000},"limits_hash":"h","epoch":"e","ts":1700000000000,"expires_at":1700000005000}"#;
    let key = VerdictKey::new(&Secret::parse(b"a-made-up-test-key").ok().unwrap());
    match verify(json.as_bytes(), &key.sign(json.as_bytes()), &key) {
        Ok(Verified::Approved(order)) => order,
        other => panic!("{other:?}"),
    }
}

fn claim() -> Claim {
    Claim {
        token: "e:1".into(),
        nonce: "n".into(),
        granted_at: NOW,
        timestamp: NOW,
        recv_window: 2_000,
        final_after: NOW.plus_ms(12_000),
    }
}

fn durable() -> Durable {
    let mut chain = Chain::genesis("cdb_execution", "test");
    let (_, pending) = chain.append("ORDER_SUBMITTED", None, None, None, NOW);
    pending.synced()
}

fn granted(sending: &mut Sending) {
    let input = Input::Gate { answer: Answer::Granted(Some(claim())), asked_at_ms: 1_000 };
    assert!(matches!(sending.on(input), Action::WriteAudit));
}

fn in_flight() -> Sending {
    let mut sending = Sending::Waiting(approved());
    granted(&mut sending);
    assert!(matches!(sending.on(Input::AuditDurable { proof: durable(), now_ms: 1_001 }), Action::Submit(_)));
    sending
}

/// "Not found", so long after the request's timestamp on the exchange's clock and after the doubt began here.
fn absent_at(exchange_ms: i64, monotonic_ms: i64) -> Input {
    Input::Looked { lookup: Lookup::Absent { exchange_time: NOW.plus_ms(exchange_ms) }, now_ms: monotonic_ms }
}

fn absent(after_ms: i64) -> Input {
    absent_at(after_ms, after_ms)
}

#[test]
fn one_approval_makes_one_submission() {
    let mut sending = in_flight();
    assert!(matches!(sending.on(Input::AuditDurable { proof: durable(), now_ms: 1_002 }), Action::Nothing));
    let again = Input::Gate { answer: Answer::Granted(Some(claim())), asked_at_ms: 1_003 };
    assert!(matches!(sending.on(again), Action::Nothing));
}

#[test]
fn nothing_is_submitted_before_the_audit_record_is_durable() {
    let mut sending = Sending::Waiting(approved());
    assert!(matches!(sending.on(Input::AuditDurable { proof: durable(), now_ms: 0 }), Action::Nothing));
    granted(&mut sending);
    assert!(matches!(sending, Sending::Granted { .. }));
}

#[test]
fn past_the_send_deadline_it_is_not_sent_but_settled_like_a_doubt() {
    for (elapsed, is_sent) in [(SEND_BY_MS, true), (SEND_BY_MS + 1, false)] {
        let mut sending = Sending::Waiting(approved());
        granted(&mut sending);
        let action = sending.on(Input::AuditDurable { proof: durable(), now_ms: 1_000 + elapsed });
        assert_eq!(matches!(action, Action::Submit(_)), is_sent, "{elapsed}");
        assert_eq!(matches!(action, Action::LearnThenQueryIn(Observation::Doubt { .. }, _)), !is_sent);
    }
}

#[test]
fn a_wait_goes_back_through_the_whole_gate() {
    let mut sending = Sending::Waiting(approved());
    let wait = Input::Gate { answer: Answer::Wait(40), asked_at_ms: 0 };
    assert!(matches!(sending.on(wait), Action::AskAgainIn(40)));
    let stopped = Input::Gate { answer: Answer::Refused(GateRefusal::EmergencyStop), asked_at_ms: 40 };
    assert!(matches!(sending.on(stopped), Action::Learn(Observation::Refused { .. })));
}

#[test]
fn a_process_that_does_not_lead_neither_acknowledges_nor_publishes() {
    let mut sending = Sending::Waiting(approved());
    assert!(matches!(sending.on(Input::Gate { answer: Answer::NotLeader, asked_at_ms: 0 }), Action::StandDown));
}

#[test]
fn an_unknown_outcome_is_queried_never_sent_again() {
    let mut sending = in_flight();
    let action = sending.on(Input::Venue { answer: VenueAnswer::InDoubt { text: "timeout".into() }, now_ms: 1_002 });
    assert!(matches!(action, Action::LearnThenQueryIn(Observation::Doubt { .. }, QUERY_PAUSE_MS_MIN)));
    assert!(matches!(sending.on(absent(100)), Action::QueryIn(_)));
    let order_id = OrderId::parse("C02__1").unwrap();
    let found = Lookup::Found { order_id, status: VenueStatus::Filled, executed_qty: Qty::parse("0.003").unwrap() };
    assert!(matches!(
        sending.on(Input::Looked { lookup: found, now_ms: 1_500 }),
        Action::Learn(Observation::Found { .. })
    ));
}

#[test]
fn absent_is_final_only_after_three_queries_beyond_the_fence() {
    let mut sending = Sending::recovered(claim(), 0);
    for _ in 0..50 {
        assert!(matches!(sending.on(absent(12_000)), Action::QueryIn(_)), "at the fence nothing is final");
    }
    assert!(matches!(sending.on(absent(12_001)), Action::QueryIn(_)));
    assert!(matches!(sending.on(Input::Looked { lookup: Lookup::Unanswered, now_ms: 12_100 }), Action::QueryIn(_)));
    assert!(matches!(sending.on(absent(12_300)), Action::QueryIn(_)));
    let Action::Learn(Observation::Refused { reason, .. }) = sending.on(absent(12_600)) else { panic!("final") };
    assert_eq!(reason, "not_accepted");
}

#[test]
fn a_wall_clock_that_is_set_forward_passes_no_fence() {
    let mut sending = Sending::recovered(claim(), 0);
    for _ in 0..20 {
        assert!(matches!(sending.on(absent_at(3_600_000, 12_000)), Action::QueryIn(_)));
    }
    for _ in 0..2 {
        assert!(matches!(sending.on(absent_at(3_600_000, 12_001)), Action::QueryIn(_)));
    }
    assert!(matches!(sending.on(absent_at(3_600_000, 12_002)), Action::Learn(_)));
}

#[test]
fn a_claim_of_an_earlier_process_is_never_submitted() {
    let mut sending = Sending::recovered(claim(), 0);
    assert!(matches!(sending.on(Input::AuditDurable { proof: durable(), now_ms: 0 }), Action::Nothing));
    assert!(matches!(sending, Sending::InDoubt { .. }));
}
