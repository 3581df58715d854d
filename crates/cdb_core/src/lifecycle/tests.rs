use super::*;
use crate::command::Command;
use crate::ids::{Asset, TradeId};
use crate::money::Price;

const ORDER: &str = r#"{"v":1,"type":"new","cl_ord_id":"a-1","strategy":"s","symbol":"BTCUSDT","side":"BUY","ord_type":"LIMIT","tif":"GTC","qty":"0.003","price":"60000.00","ts":1700000000000}"#;

fn tracked() -> TrackedOrder {
    let Ok(Command::New(order)) = Command::parse(ORDER.as_bytes()) else { panic!("order") };
    TrackedOrder::new(order)
}

fn seen() -> Seen {
    let now = Timestamp::from_millis(1_700_000_000_100);
    Seen { source: Source::Rest, mode: Mode::Paper, transact_time: now, now }
}

fn accepted() -> Observation {
    Observation::Accepted { order_id: OrderId::parse("C02__1").unwrap() }
}

fn fill(id: &str, qty: &str) -> Observation {
    let fill = Fill {
        last_qty: Qty::parse(qty).unwrap(),
        last_px: Price::parse("60000").unwrap(),
        trade_id: TradeId::parse(id).unwrap(),
        commission: Qty::ZERO,
        commission_asset: Asset::parse("USDT").unwrap(),
        is_maker: false,
    };
    Observation::Traded { order_id: OrderId::parse("C02__1").unwrap(), fill }
}

fn found(status: VenueStatus, executed: &str) -> Observation {
    let executed_qty = Qty::parse_or_zero(executed).unwrap();
    Observation::Found { order_id: OrderId::parse("C02__1").unwrap(), status, executed_qty }
}

/// Applies a history; the states reported, in order, with CumQty.
fn history(order: &mut TrackedOrder, observations: Vec<Observation>) -> Vec<(ExecType, OrdStatus, String)> {
    observations
        .into_iter()
        .filter_map(|observation| order.apply(observation, seen()))
        .map(|report| (report.exec_type, report.ord_status, report.cum_qty.to_string()))
        .collect()
}

fn doubt() -> Observation {
    Observation::Doubt { text: "no answer".into() }
}

#[test]
fn accepted_then_filled_in_two() {
    let mut order = tracked();
    let reports = history(&mut order, vec![accepted(), fill("1", "0.001"), fill("2", "0.002")]);
    assert_eq!(
        reports,
        [
            (ExecType::New, OrdStatus::New, "0".into()),
            (ExecType::Trade, OrdStatus::PartiallyFilled, "0.001".into()),
            (ExecType::Trade, OrdStatus::Filled, "0.003".into()),
        ]
    );
    assert!(order.is_settled());
}

#[test]
fn a_repeated_trade_is_booked_once() {
    let mut order = tracked();
    let reports = history(&mut order, vec![accepted(), fill("1", "0.001"), fill("1", "0.001"), accepted()]);
    assert_eq!(reports.len(), 2);
    assert_eq!(order.cum_qty.to_string(), "0.001");
}

#[test]
fn a_fill_before_the_acknowledgement_is_booked() {
    let mut order = tracked();
    let first = order.apply(fill("1", "0.002"), seen()).unwrap();
    assert_eq!(first.order_id, OrderId::parse("C02__1"), "a fill says which order it is of");
    let mut order = tracked();
    let reports = history(&mut order, vec![fill("1", "0.003"), accepted()]);
    assert_eq!(reports, [(ExecType::Trade, OrdStatus::Filled, "0.003".into())]);
}

#[test]
fn a_fill_after_the_cancel_grows_cum_qty_and_leaves_it_canceled() {
    let mut order = tracked();
    let reports = history(&mut order, vec![accepted(), found(VenueStatus::Canceled, "0"), fill("1", "0.001")]);
    assert_eq!(reports[1], (ExecType::Canceled, OrdStatus::Canceled, "0".into()));
    assert_eq!(reports[2], (ExecType::Trade, OrdStatus::Canceled, "0.001".into()));
}

/// FL-MX-17: the answer to a create has no status and no executed quantity, and none is assumed.
#[test]
fn fl_mx_17_an_acknowledgement_is_an_open_order_with_nothing_filled() {
    let mut order = tracked();
    let reports = history(&mut order, vec![accepted()]);
    assert_eq!(reports, [(ExecType::New, OrdStatus::New, "0".into())]);
    assert!(!order.is_settled());
}

/// FL-US-03: FILLED, then an older PARTIALLY_FILLED, then an older NEW.
#[test]
fn fl_us_03_a_state_that_runs_backwards_changes_nothing() {
    let mut order = tracked();
    history(&mut order, vec![found(VenueStatus::Filled, "0.003"), fill("1", "0.003")]);
    assert_eq!((order.status, order.is_settled()), (OrdStatus::Filled, true));
    let stale = vec![found(VenueStatus::PartiallyFilled, "0.001"), found(VenueStatus::New, "0")];
    assert_eq!(history(&mut order, stale), []);
    assert_eq!((order.status, order.cum_qty.to_string().as_str()), (OrdStatus::Filled, "0.003"));
    // The same before its fill is known: what an older message says less does not undo the end.
    let mut order = tracked();
    let backwards = vec![found(VenueStatus::Filled, "0.003"), found(VenueStatus::PartiallyFilled, "0.001")];
    history(&mut order, backwards);
    assert!(order.has_missing_fills());
    history(&mut order, vec![fill("1", "0.003")]);
    assert_eq!(order.status, OrdStatus::Filled);
}

/// FL-US-04: deals and order updates both carry the quantity, and each comes twice.
#[test]
fn fl_us_04_a_fill_told_twice_and_in_two_ways_is_one_fill() {
    let mut order = tracked();
    let reports = history(
        &mut order,
        vec![
            fill("t-1", "0.001"),
            found(VenueStatus::PartiallyFilled, "0.001"),
            fill("t-1", "0.001"),
            found(VenueStatus::PartiallyFilled, "0.001"),
            fill("t-2", "0.002"),
            found(VenueStatus::Filled, "0.003"),
        ],
    );
    assert_eq!(reports.iter().filter(|report| report.0 == ExecType::Trade).count(), 2);
    assert_eq!((order.status, order.cum_qty.to_string().as_str()), (OrdStatus::Filled, "0.003"));
}

#[test]
fn an_end_waits_for_the_fills_that_belong_to_it() {
    let mut order = tracked();
    history(&mut order, vec![accepted()]);
    assert_eq!(history(&mut order, vec![found(VenueStatus::PartiallyCanceled, "0.001")]), []);
    assert!(order.has_missing_fills() && !order.is_settled());
    history(&mut order, vec![fill("1", "0.001")]);
    let end = order.end_if_complete(seen()).unwrap();
    assert_eq!((end.exec_type, end.ord_status), (ExecType::Canceled, OrdStatus::Canceled));
    assert!(order.is_settled());
}

#[test]
fn a_shorter_fill_that_the_exchange_calls_filled_is_taken_as_executed_not_as_ordered() {
    let mut order = tracked();
    history(&mut order, vec![accepted(), found(VenueStatus::Filled, "0.002"), fill("1", "0.002")]);
    assert_eq!(order.status, OrdStatus::Filled);
    assert_eq!(order.cum_qty.to_string(), "0.002");
}

#[test]
fn doubt_ends_by_finding_by_a_fill_or_by_proof_of_non_acceptance() {
    let mut order = tracked();
    let reports = history(&mut order, vec![doubt(), doubt(), found(VenueStatus::New, "0")]);
    assert_eq!(
        reports,
        [(ExecType::OrderStatus, OrdStatus::PendingNew, "0".into()), (ExecType::New, OrdStatus::New, "0".into()),]
    );
    let mut order = tracked();
    history(&mut order, vec![doubt(), fill("1", "0.003")]);
    assert!(order.is_settled() && !order.is_in_doubt);
    let mut order = tracked();
    let refused = Observation::Refused { reason: "not_accepted".into(), text: String::new() };
    history(&mut order, vec![doubt(), refused]);
    assert!(order.is_settled() && !order.is_in_doubt);
}

#[test]
fn a_refusal_after_the_order_was_seen_alive_changes_nothing() {
    let mut order = tracked();
    let refused = Observation::Refused { reason: "x".into(), text: String::new() };
    assert_eq!(history(&mut order, vec![accepted(), refused]).len(), 1);
    assert_eq!(order.status, OrdStatus::New);
}

#[test]
fn cum_qty_never_falls_and_a_final_state_stays_final_in_any_order_of_arrival() {
    let observations =
        [accepted(), fill("1", "0.001"), fill("2", "0.002"), found(VenueStatus::Filled, "0.003"), doubt()];
    let mut orders = vec![vec![]];
    for index in 0..observations.len() {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, index);
                    longer
                })
            })
            .collect();
    }
    assert_eq!(orders.len(), 120);
    for permutation in orders {
        let mut order = tracked();
        let mut last = Qty::ZERO;
        let mut was_final = false;
        for index in &permutation {
            order.apply(observations[*index].clone(), seen());
            assert!(order.cum_qty >= last, "{permutation:?}");
            assert!(!was_final || order.status.is_final(), "{permutation:?}");
            last = order.cum_qty;
            was_final = order.status.is_final();
        }
        order.end_if_complete(seen());
        assert_eq!((order.status, order.cum_qty.to_string().as_str()), (OrdStatus::Filled, "0.003"), "{permutation:?}");
    }
}

#[test]
fn a_restored_order_continues_where_it_was() {
    let mut original = tracked();
    let mut restored = tracked();
    for observation in [accepted(), fill("1", "0.001")] {
        restored.restore(&original.apply(observation, seen()).unwrap());
    }
    assert_eq!(original, restored);
    assert_eq!(restored.apply(fill("1", "0.001"), seen()), None);
}
