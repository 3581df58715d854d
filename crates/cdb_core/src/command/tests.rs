use super::*;

const GOOD: &str = r#"{"v":1,"type":"new","cl_ord_id":"a-1","strategy":"s","symbol":"BTCUSDT","side":"BUY","ord_type":"LIMIT","tif":"GTC","qty":"0.002","price":"60000.00","ts":1700000000000}"#;

fn fault_field(json: &str) -> String {
    Command::parse(json.as_bytes()).expect_err(json).fault.field
}

#[test]
fn the_golden_order_reads_and_writes_the_same_bytes() {
    let command = Command::parse(GOOD.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&command).unwrap(), GOOD);
}

#[test]
fn cancels_read_and_write_the_same_bytes() {
    for json in [
        r#"{"v":1,"type":"cancel","cl_ord_id":"c-1","orig_cl_ord_id":"a-1"}"#,
        r#"{"v":1,"type":"cancel_all","cl_ord_id":"c-2"}"#,
        r#"{"v":1,"type":"cancel_all","cl_ord_id":"c-2","symbol":"ETHUSDT"}"#,
    ] {
        assert_eq!(serde_json::to_string(&Command::parse(json.as_bytes()).unwrap()).unwrap(), json);
    }
}

#[test]
fn a_number_is_taken_digit_by_digit() {
    let json = GOOD.replace(r#""0.002""#, "0.002000000000000001");
    let Ok(Command::New(order)) = Command::parse(json.as_bytes()) else { panic!("must read") };
    assert_eq!(order.order_qty().unwrap().to_string(), "0.002000000000000001");
}

#[test]
fn every_fault_names_its_field() {
    let cases = [
        (GOOD.replace("\"v\":1,", ""), "v"),
        (GOOD.replace("\"v\":1", "\"v\":2"), "v"),
        (GOOD.replace("\"side\":\"BUY\"", "\"side\":\"buy\""), "side"),
        (GOOD.replace("\"0.002\"", "\"NaN\""), "qty"),
        (GOOD.replace("\"0.002\"", "\"-0.002\""), "qty"),
        (GOOD.replace("\"0.002\"", "\"1e3\""), "qty"),
        (GOOD.replace("\"0.002\"", "null"), "qty"),
        (GOOD.replace("\"0.002\"", "[1]"), "qty"),
        (GOOD.replace("60000.00", &"9".repeat(40)), "price"),
        (GOOD.replace("BTCUSDT", "BTC/USDT"), "symbol"),
        (GOOD.replace("\"strategy\":\"s\"", "\"strategy\":\"<b>\""), "strategy"),
        (GOOD.replace("1700000000000", "\"soon\""), "ts"),
        (GOOD.replace("1700000000000", "1.7e12"), "ts"),
        (GOOD.replace("\"v\":1", "\"v\":1,\"leverage\":3"), "leverage"),
        (GOOD.replace("\"GTC\"", "\"IOC\",\"post_only\":true"), "post_only"),
        (GOOD.replace("\"v\":1", "\"v\":1,\"reduce_only\":true"), "reduce_only"),
        (GOOD.replace("LIMIT", "MARKET"), "price"),
    ];
    for (json, field) in cases {
        assert_eq!(fault_field(&json), field, "{json}");
    }
}

#[test]
fn unreadable_bytes_have_no_id_and_readable_ones_keep_theirs() {
    for bytes in [&b"not json"[..], b"[]", b"\"x\"", b"{", b"{}", b"\xff\xfe", b""] {
        assert!(Command::parse(bytes).expect_err("malformed").cl_ord_id.is_none());
    }
    let twice = GOOD.replace("\"v\":1", "\"v\":1,\"v\":1");
    assert_eq!(fault_field(&twice), "json");
    let bad_qty = GOOD.replace("\"0.002\"", "\"x\"");
    assert_eq!(Command::parse(bad_qty.as_bytes()).expect_err("malformed").cl_ord_id, ClOrdId::parse("a-1"));
}

#[test]
fn the_fingerprint_depends_on_content_alone() {
    let one = Command::parse(GOOD.as_bytes()).unwrap();
    let reordered = r#"{"ts":1700000000000,"price":"60000.00","qty":"0.002","tif":"GTC","ord_type":"LIMIT","side":"BUY","symbol":"BTCUSDT","strategy":"s","cl_ord_id":"a-1","type":"new","v":1}"#;
    assert_eq!(one.fingerprint(), Command::parse(reordered.as_bytes()).unwrap().fingerprint());
    let other = Command::parse(GOOD.replace("0.002", "0.003").as_bytes()).unwrap();
    assert_ne!(one.fingerprint(), other.fingerprint());
}
