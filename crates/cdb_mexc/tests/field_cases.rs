//! Failures that users of other clients met in the field, each with the behaviour that is right: FL-MX, FL-OD and FL-US
//! are the names under which they are collected.
#![expect(clippy::unwrap_used, reason = "a test fails by unwrapping")]

use cdb_core::lifecycle::VenueStatus;
use cdb_core::reason::VenueRefusal;
use cdb_core::secret::Secret;
use cdb_core::symbol_rules::SymbolRules;
use cdb_mexc::answer::{Meaning, Reply};
use cdb_mexc::push::{Push, read_frame};
use cdb_mexc::signing::{Credentials, Query};
use cdb_mexc::wire::{self, Created, read_object};
use cdb_mexc_proto::push_data_v3_api_wrapper::Body;
use cdb_mexc_proto::{PrivateDealsV3Api, PrivateOrdersV3Api, PushDataV3ApiWrapper};
use prost::Message as _;

/// Made up for these tests; it opens nothing.
fn credentials() -> Credentials {
    let secret = |text: &str| Secret::parse(text.as_bytes()).ok().unwrap();
    Credentials::new(secret("made-up-key"), &secret("tests-only-secret-A1b2C3d4"))
}

fn frame(body: Option<Body>) -> Vec<u8> {
    PushDataV3ApiWrapper { symbol: Some("A".into()), body, ..PushDataV3ApiWrapper::default() }.encode_to_vec()
}

fn order_frame(status: i32, executed: &str) -> Vec<u8> {
    let cumulative_quantity = executed.to_owned();
    let order = PrivateOrdersV3Api { id: "o1".into(), status, cumulative_quantity, ..PrivateOrdersV3Api::default() };
    frame(Some(Body::PrivateOrders(order)))
}

#[test]
fn fl_mx_01_what_is_signed_is_what_is_sent_brackets_blanks_commas_and_all() {
    for (id, digest) in [
        ("cdb-i-0001", "f2852fd29cfa5fb1080a7d9f9a37524fc8cd3fa558903d3ff8afa9c360a1b036"),
        ("a(b) c,d/e", "6f3a0cbee43e6201afa33c6f8f1def5e66852a92db2551a9da419b90ac3a9f19"),
    ] {
        let query = Query::default().with("symbol", "BTCUSDT").with("side", "BUY").with("type", "LIMIT");
        let query = query.with("quantity", "0.001").with("price", "60000").with("newClientOrderId", id);
        let sent = query.signed(&credentials(), 1_764_000_000_000, 5_000);
        assert!(sent.ends_with(&format!("&timestamp=1764000000000&signature={digest}")), "{sent}");
    }
}

#[test]
fn fl_mx_02_a_separator_stands_before_the_timestamp_after_one_parameter_and_after_none() {
    let one = Query::default().with("symbol", "BTCUSDT").signed(&credentials(), 1_764_000_000_000, 5_000);
    let digest = "d29e9f0aafce5dd1c489810632b7616247d3a8d598f41b90f7fe375a3b9ec5c2";
    assert_eq!(one, format!("symbol=BTCUSDT&recvWindow=5000&timestamp=1764000000000&signature={digest}"));
    let none = Query::default().signed(&credentials(), 1_764_000_000_000, 5_000);
    assert!(none.starts_with("recvWindow=5000&timestamp=1764000000000&signature="), "{none}");
    let digest = credentials().sign("timestamp=1764000000000", "");
    assert_eq!(digest, "3bd82c7617368b6a037e9b607ba8eaa0d25da093d710bf9ab9fead900f785924");
}

#[test]
fn fl_mx_07_a_symbol_is_tradable_only_when_it_is_online_and_open_to_the_api() {
    let row = |name: &str, rest: &str| {
        format!(
            r#"{{"symbol":"{name}USDT","baseAsset":"{name}","quoteAsset":"USDT","baseAssetPrecision":2,
            "quoteAssetPrecision":2,"quoteAmountPrecision":"1","permissions":["SPOT"],{rest}}}"#
        )
    };
    let rows = [
        row("AAA", r#""status":"1","isSpotTradingAllowed":true,"orderTypes":["LIMIT","MARKET","LIMIT_MAKER"]"#),
        row("BBB", r#""status":"ENABLED","isSpotTradingAllowed":false,"orderTypes":["LIMIT"]"#),
        row("CCC", r#""status":1,"isSpotTradingAllowed":true,"orderTypes":["LIMIT"]"#),
        row("DDD", r#""status":"2","isSpotTradingAllowed":true,"orderTypes":["LIMIT"]"#),
        row("EEE", r#""status":"1","orderTypes":["LIMIT","MARKET"]"#),
    ];
    let rules = wire::exchange_info(format!(r#"{{"symbols":[{}]}}"#, rows.join(",")).as_bytes()).unwrap();
    let names = |is_wanted: fn(&SymbolRules) -> bool| -> Vec<&str> {
        rules.iter().filter(|rules| is_wanted(rules)).map(|rules| rules.symbol.as_str()).collect()
    };
    assert_eq!(names(|rules| rules.is_tradable), ["AAAUSDT", "CCCUSDT"]);
    assert_eq!(names(|rules| rules.is_tradable && rules.has_market_orders), ["AAAUSDT"]);
}

#[test]
fn fl_mx_09_every_code_for_market_orders_switched_off_is_a_refusal() {
    for code in [30018, 30019, 30051] {
        let body = format!(r#"{{"code":{code},"msg":"x"}}"#).into_bytes();
        let trouble = Reply { status: 400, retry_after_s: None, body }.success().unwrap_err();
        assert_eq!(trouble.meaning, Meaning::Refused(VenueRefusal::NotPossibleNow), "{code}");
    }
}

#[test]
fn fl_mx_10_an_order_id_is_text_and_a_number_is_kept_digit_for_digit() {
    for (json, stored) in [
        (r#""C02__505979017439002624115""#, "C02__505979017439002624115"),
        (r#""06a480e69e604477bfb48dddd5f0b750""#, "06a480e69e604477bfb48dddd5f0b750"),
        ("4", "4"),
        ("9007199254740993", "9007199254740993"),
    ] {
        let created = read_object::<Created>(format!(r#"{{"orderId":{json}}}"#).as_bytes()).unwrap().order_id();
        assert_eq!(created.unwrap().as_str(), stored);
    }
}

#[test]
fn fl_od_10_every_state_is_live_or_ended_and_an_unknown_one_is_neither() {
    let by_rest = |status: &str| {
        let json = format!(r#"{{"symbol":"A","orderId":"1","executedQty":"0","status":"{status}"}}"#);
        wire::order(json.as_bytes()).map(|order| order.status)
    };
    let by_stream = |status: i32| {
        read_frame(&order_frame(status, "0")).map(|push| match push {
            Push::Order(order) => order.status,
            other => panic!("{other:?}"),
        })
    };
    for (text, number, status) in [
        ("NEW", 1, VenueStatus::New),
        ("FILLED", 2, VenueStatus::Filled),
        ("PARTIALLY_FILLED", 3, VenueStatus::PartiallyFilled),
        ("CANCELED", 4, VenueStatus::Canceled),
        ("PARTIALLY_CANCELED", 5, VenueStatus::PartiallyCanceled),
    ] {
        assert_eq!((by_rest(text), by_stream(number)), (Ok(status), Ok(status)));
    }
    assert!(by_rest("EXPIRED_BY_ROBOT").is_err() && by_stream(9).is_err());
}

#[test]
fn fl_od_21_a_page_instead_of_json_leaves_the_order_in_doubt_and_the_page_out_of_the_log() {
    let page = format!("<html>{}</html>", "secret markup ".repeat(3_000));
    for status in [504, 520, 525] {
        let trouble = Reply { status, retry_after_s: None, body: page.clone().into_bytes() }.success().unwrap_err();
        assert_eq!(trouble.meaning, Meaning::Unknown, "{status}");
        assert!(trouble.text.len() < 200 && !trouble.text.contains("markup"), "{}", trouble.text);
    }
    // With status 200 it is found out when the order's id is looked for in it.
    let body = Reply { status: 200, retry_after_s: None, body: page.into_bytes() }.success().unwrap();
    let fault = read_object::<Created>(&body).unwrap_err().to_string();
    assert!(!fault.contains("markup"), "{fault}");
}

#[test]
fn fl_us_09_a_strange_message_is_one_lost_message_and_the_next_fill_is_read() {
    let strange = [order_frame(7, "0"), order_frame(3, "many"), vec![0x0A, 0x05, 0x41]];
    assert!(strange.iter().all(|message| read_frame(message).is_err()));
    assert_eq!(read_frame(&frame(None)), Ok(Push::Other), "an unknown kind of message");
    let deal = PrivateDealsV3Api {
        price: "1".into(),
        quantity: "0.001".into(),
        trade_type: 1,
        trade_id: "t-9".into(),
        order_id: "o3".into(),
        ..PrivateDealsV3Api::default()
    };
    match read_frame(&frame(Some(Body::PrivateDeals(deal)))) {
        Ok(Push::Deal(deal)) => assert_eq!(deal.trade.qty.to_string(), "0.001"),
        other => panic!("{other:?}"),
    }
}
