use cdb_core::command::Command;
use cdb_core::money::{Notional, Qty};
use cdb_core::order::Side;

use super::*;

fn order(side: Side, ord_type: OrdType) -> NewOrder {
    let json = r#"{"v":1,"type":"new","cl_ord_id":"cdb-1","strategy":"s","symbol":"BTCUSDT","side":"BUY","ord_type":"LIMIT",
        "tif":"GTC","qty":"1","price":"1","ts":1700000000000}"#;
    let Ok(Command::New(order)) = Command::parse(json.as_bytes()) else { panic!("the order is valid") };
    NewOrder { side, ord_type, ..order }
}

#[test]
fn orders_are_written_as_working_clients_write_them() {
    let qty = Qty::parse("0.5").unwrap();
    let fok = OrdType::Limit { price: Price::parse("2").unwrap(), qty, tif: TimeInForce::Fok };
    let query = new_order_query(&order(Side::Buy, fok));
    let expected = "symbol=BTCUSDT&side=BUY&type=FILL_OR_KILL&quantity=0.5&price=2&newClientOrderId=cdb-1";
    assert_eq!(query.as_str(), expected);
    let by_amount = OrdType::Market { size: MarketSize::Quote(Notional::parse("8").unwrap()) };
    let expected = "symbol=BTCUSDT&side=BUY&type=MARKET&quoteOrderQty=8&newClientOrderId=cdb-1";
    assert_eq!(new_order_query(&order(Side::Buy, by_amount)).as_str(), expected);
}

#[test]
fn small_amounts_leave_without_an_exponent() {
    let (price, qty) = (Price::parse("0.00000092").unwrap(), Qty::parse("100000.00").unwrap());
    let tiny = OrdType::Limit { price, qty, tif: TimeInForce::Gtc { post_only: true } };
    let query = new_order_query(&order(Side::Sell, tiny));
    assert!(query.as_str().contains("type=LIMIT_MAKER&quantity=100000&price=0.00000092"), "{}", query.as_str());
}

#[test]
fn a_clock_a_key_and_a_lapsed_listen_key_never_mean_that_an_order_exists() {
    let trouble = |meaning| Trouble { meaning, status: Some(400), text: String::new() };
    for reason in [VenueRefusal::Clock, VenueRefusal::Auth] {
        let answer = place_answer(&trouble(Meaning::Refused(reason)));
        assert!(matches!(answer, VenueAnswer::Refused { .. }), "{reason:?}");
    }
    for meaning in [Meaning::Unknown, Meaning::NotFound, Meaning::NoListenKey, Meaning::RateLimited { wait_s: 1 }] {
        assert!(matches!(place_answer(&trouble(meaning)), VenueAnswer::InDoubt { .. }), "{meaning:?}");
    }
}

#[test]
fn what_an_answer_repeats_of_the_key_is_hidden() {
    let hidden = |body: &str| String::from_utf8(without(body.as_bytes().to_vec(), "mxTESTONLY")).unwrap();
    assert_eq!(hidden(r#"{"msg":"no"}"#), r#"{"msg":"no"}"#);
    assert_eq!(hidden("mxTESTONLY and mxTESTONLYmxTESTONLY"), "(hidden) and (hidden)(hidden)");
}
