use super::*;

fn cases(file: &str) -> Vec<serde_json::Value> {
    let file: serde_json::Value = serde_json::from_str(file).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn body(file: &str, id: &str) -> Vec<u8> {
    let case = cases(file).into_iter().find(|case| case["id"] == id).expect(id);
    serde_json::to_vec(&case["body"]).unwrap()
}

const ORDERS: &str = include_str!("../../fixtures/responses/orders.json");
const ACCOUNT: &str = include_str!("../../fixtures/responses/account.json");
const INFO: &str = include_str!("../../fixtures/responses/exchange_info.json");
const MARKET: &str = include_str!("../../fixtures/responses/market_data.json");

#[test]
fn recorded_orders_are_read() {
    let canceled = order(&body(ORDERS, "query-canceled-2022")).unwrap();
    assert_eq!((canceled.status, canceled.cl_ord_id), (VenueStatus::Canceled, None));
    let open = orders(&body(ORDERS, "open-orders-2023")).unwrap().orders;
    assert_eq!(open[0].cl_ord_id, None, "an empty clientOrderId is none");
    assert_eq!(open[0].created_at, 1_695_571_596_791);
    let all = orders(&body(ORDERS, "all-orders-market-sell-2024")).unwrap().orders;
    assert_eq!((all[0].status, all[0].executed_qty.to_string().as_str()), (VenueStatus::Filled, "1220"));
}

#[test]
fn every_recorded_create_reply_gives_its_id() {
    for id in ["create-limit-docs-2026", "create-ioc-sell-2025"] {
        assert!(read_object::<Created>(&body(ORDERS, id)).unwrap().order_id().is_some(), "{id}");
    }
    assert_eq!(read_object::<Created>(b"{}").unwrap().order_id(), None);
    assert_eq!(read_object::<Created>(br#"{"orderId":4}"#).unwrap().order_id(), OrderId::parse("4"));
}

#[test]
fn recorded_fills_and_accounts_are_read() {
    let fills = trades(&body(ACCOUNT, "my-trades-2024")).unwrap();
    assert_eq!(fills[0].trade_id.as_str(), "dd44f79dda764c2e927a190ac5e7a1e5");
    assert!(!fills[0].is_buyer);
    let account = account(&body(ACCOUNT, "account-2026")).unwrap();
    assert!(account.can_trade && account.can_withdraw);
    assert_eq!(account.balances[0].2.to_string(), "33");
}

#[test]
fn recorded_symbol_rules_say_what_they_mean_and_not_what_their_names_say() {
    let rules = exchange_info(&body(INFO, "brock-2025-01")).unwrap();
    assert_eq!(rules.len(), 1);
    let brock = &rules[0];
    assert_eq!((brock.qty_decimals, brock.price_decimals), (2, 5));
    assert!(brock.qty_min.is_zero() && brock.is_tradable && brock.has_market_orders);
    assert_eq!(brock.notional_min, Notional::parse("1").unwrap());
    let old = exchange_info(&body(INFO, "three-entries-2024-01")).unwrap();
    assert!(old.iter().any(|rules| rules.is_tradable), "status was ENABLED then");
}

#[test]
fn prices_are_read_as_one_or_many() {
    assert_eq!(book_tickers(&body(MARKET, "book-ticker")).unwrap().len(), 1);
    assert_eq!(last_prices(&body(MARKET, "price-one")).unwrap().len(), 1);
    let many = br#"[{"symbol":"A","price":"1"},{"symbol":"B","price":2.5},{"symbol":"C","price":null}]"#;
    assert_eq!(last_prices(many).unwrap().len(), 2);
}

#[test]
fn one_strange_entry_does_not_hide_the_others_and_makes_the_list_partial() {
    let list =
        br#"[{"symbol":"A","orderId":"1","executedQty":"0","status":"NEW"},{"symbol":"B","orderId":"2","status":"?"}]"#;
    let list = orders(list).unwrap();
    assert_eq!((list.orders.len(), list.is_partial), (1, true));
}

#[test]
fn what_cannot_be_understood_names_its_field() {
    let json = br#"{"symbol":"BTCUSDT","orderId":"1","executedQty":"0","status":"HALTED"}"#;
    assert_eq!(order(json).unwrap_err().field, "status");
    assert_eq!(order(b"<html>").unwrap_err().field, "(body)");
    assert_eq!(trades(br#"[{"id":"1","orderId":"2","price":"NaN","qty":"1"}]"#).unwrap_err().field, "price");
}

#[test]
fn wrapped_replies_are_read_whatever_their_success_code() {
    let default = symbols(&body(MARKET, "default-symbols-2025")).unwrap();
    assert!(default.contains(&Symbol::parse("CGPTUSDT").unwrap()));
    assert_eq!(symbols(&body(ACCOUNT, "self-symbols")).unwrap().len(), 5);
    let fees = trade_fee(&body(ACCOUNT, "trade-fee")).unwrap();
    assert_eq!((fees.maker.to_string(), fees.taker.to_string()), ("0.003".to_owned(), "0.003".to_owned()));
}

#[test]
fn the_recorded_book_and_trades_are_read() {
    let book = depth(&body(MARKET, "depth-recorded")).unwrap();
    assert_eq!(
        (book.bids[0].0.to_string(), book.asks[0].1.to_string()),
        ("45995.47".to_owned(), "13.457322".to_owned())
    );
    assert_eq!(market_trades(&body(MARKET, "trades-2025")).unwrap()[0].time, 1_737_623_988_881);
}

#[test]
fn a_listen_key_is_read_and_never_shown() {
    let text = body(ACCOUNT, "listen-key-create");
    let key = listen_key(&text).unwrap();
    assert_eq!(key.expose().len(), 64);
    assert_eq!(listen_keys(&body(ACCOUNT, "listen-key-list")).unwrap().len(), 2);
    for bad in ["{}", r#"{"listenKey":"secret with blanks\n\n"}"#, r#"{"listenKey":["pqia-secret"]}"#, "pqia-secret"] {
        let shown = listen_key(bad.as_bytes()).map(|_| ()).unwrap_err().to_string();
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn each_element_of_a_batch_has_its_own_outcome() {
    let accepted = batch(&body(ORDERS, "batch-ok")).unwrap();
    assert_eq!(accepted.len(), 2);
    assert!(accepted.into_iter().all(|element| element.outcome().is_ok()));
    let mixed = br#"[{"symbol":"A","orderId":"1","newClientOrderId":"a"},{"newClientOrderId":"b","msg":"Oversold","code":"30005"},{}]"#;
    let mut mixed = batch(mixed).unwrap();
    let (third, second) = (mixed.pop().unwrap(), mixed.pop().unwrap());
    assert_eq!(second.cl_ord_id(), Some("b"));
    let refused = crate::answer::Meaning::Refused(cdb_core::reason::VenueRefusal::InsufficientBalance);
    assert_eq!(second.outcome().unwrap_err().meaning, refused);
    assert_eq!(third.outcome().unwrap_err().meaning, crate::answer::Meaning::Unknown);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), json in "[\\[\\]{}:,\"0-9a-zA-Z.+-]{0,80}") {
        for bytes in [bytes.as_slice(), json.as_bytes()] {
            let _outcomes = (order(bytes), orders(bytes), trades(bytes), account(bytes), exchange_info(bytes));
            let _outcomes = (book_tickers(bytes), last_prices(bytes), symbols(bytes), trade_fee(bytes), depth(bytes));
            let _outcomes = (market_trades(bytes), batch(bytes), listen_key(bytes).map(|_| ()));
            for status in [200, 400, 403, 429, 500] {
                let reply = crate::answer::Reply { status, retry_after_s: None, body: bytes.to_vec() };
                let _outcome = reply.success();
            }
        }
    }
}
