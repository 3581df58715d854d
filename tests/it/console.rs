//! The console from outside a browser: nobody acts without token, session and the page's own token; the monitor itself
//! may stop and not start; a browser that does not read is cut off; every answer says what a browser may not do.

use cdb_tests::cell::Cell;
use cdb_tests::console::Desk;
use cdb_tests::orders::{market_buy, resting_buy};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn events_of(cell: &Cell, command: &str) -> Vec<Value> {
    let events = cell.stream("cdb:events").await;
    events.into_iter().filter(|event| event["detail"]["command"] == command).collect()
}

#[tokio::test]
async fn a_logged_in_operator_stops_resumes_cancels_and_moves_the_breaker_and_each_act_has_its_actor() {
    let cell = Cell::start().await;
    let desk = Desk::log_in(&cell, "anna").await;
    cell.put(&resting_buy("rest-1", "0.01").to_string()).await;
    cell.put(&resting_buy("rest-2", "0.01").to_string()).await;
    cell.until("they rest", async || {
        cell.state_of("rest-1").await.as_deref() == Some("New")
            && cell.state_of("rest-2").await.as_deref() == Some("New")
    })
    .await;

    assert_eq!(desk.act("cancel", &json!({"cl_ord_id": "rest-1"})).await.0, StatusCode::OK);
    cell.until("it is cancelled", async || cell.state_of("rest-1").await.as_deref() == Some("Canceled")).await;
    assert_eq!(desk.act("cancel-all", &json!({})).await.0, StatusCode::OK);
    cell.until("so is the other", async || cell.state_of("rest-2").await.as_deref() == Some("Canceled")).await;

    assert_eq!(desk.act("stop", &json!({"reason": "drill"})).await.0, StatusCode::OK);
    assert_eq!(cell.value_of("emergency_stop").await.as_deref(), Some("drill"));
    cell.put(&market_buy("during-1", "0.001").to_string()).await;
    cell.until("it is refused", async || {
        let verdicts = cell.stream("cdb:verdicts").await;
        verdicts.iter().any(|verdict| verdict["cl_ord_id"] == "during-1" && verdict["reason"] == "emergency_stop")
    })
    .await;
    assert_eq!(desk.act("resume", &json!({"reason": "drill over"})).await.0, StatusCode::OK);
    assert_eq!(cell.value_of("emergency_stop").await, None);

    assert_eq!(desk.act("breaker", &json!({"command": "trip", "reason": "news"})).await.0, StatusCode::OK);
    assert_eq!(cell.status().await["breaker"]["cause"], "operator");
    assert_eq!(desk.act("breaker", &json!({"command": "reset", "reason": "read it"})).await.0, StatusCode::OK);
    cell.until("it trades again", async || cell.status().await["may_trade"] == true).await;
    cell.put(&market_buy("after-1", "0.001").to_string()).await;
    cell.until("an order is filled", async || cell.state_of("after-1").await.as_deref() == Some("Filled")).await;

    for command in ["log_in", "cancel", "cancel_all", "stop", "resume", "breaker trip", "breaker reset"] {
        let events = events_of(&cell, command).await;
        assert_eq!(events.len(), 1, "{command}");
        assert_eq!((&events[0]["actor"], &events[0]["service"]), (&json!("anna"), &json!("cdb_monitor")), "{command}");
    }
}

#[tokio::test]
async fn an_alert_is_acknowledged_by_name() {
    let cell = Cell::start().await;
    let desk = Desk::log_in(&cell, "anna").await;
    let raised = json!({"v": 1, "type": "alert_raised", "service": "cdb_risk", "actor": "service", "reason": "a drill",
        "detail": {"rule": "drill", "level": "warning"}, "ts": cdb_io::clock::now()});
    let mut xadd = redis::cmd("XADD");
    xadd.arg("cdb:events").arg("*").arg("json").arg(raised.to_string());
    let _entry: String = xadd.query_async(&mut cell.operator().commands()).await.unwrap();
    cell.until("the page has it", async || {
        let alerts = desk.state().await["ledger"]["alerts"].clone();
        alerts.as_array().is_some_and(|alerts| alerts.iter().any(|alert| alert["alert"] == "drill"))
    })
    .await;
    assert_eq!(desk.act("alerts/ack", &json!({"alert": "drill"})).await.0, StatusCode::OK);
    cell.until("it is acknowledged", async || {
        let alerts = desk.state().await["ledger"]["alerts"].clone();
        alerts.as_array().is_some_and(|alerts| alerts.iter().any(|alert| alert["acknowledged_by"] == "anna"))
    })
    .await;
}

#[tokio::test]
async fn nobody_acts_without_session_page_token_and_origin() {
    let cell = Cell::start().await;
    let desk = Desk::log_in(&cell, "anna").await;
    let stop = json!({"reason": "not mine"});
    for (what, cookie, csrf, origin, expected) in [
        ("no session", None, Some(desk.csrf()), None, StatusCode::UNAUTHORIZED),
        ("a made-up session", Some("00ff"), Some(desk.csrf()), None, StatusCode::UNAUTHORIZED),
        ("no page token", Some(desk.cookie()), None, None, StatusCode::FORBIDDEN),
        ("a wrong page token", Some(desk.cookie()), Some("00ff"), None, StatusCode::FORBIDDEN),
        ("another origin", Some(desk.cookie()), Some(desk.csrf()), Some("http://evil.example"), StatusCode::FORBIDDEN),
    ] {
        for path in ["stop", "resume", "cancel", "cancel-all", "breaker", "alerts/ack"] {
            let status = desk.raw(path, &stop, cookie, csrf, origin).await;
            assert_eq!(status, expected, "{what}: {path}");
        }
    }
    for path in ["session", "stream", "equity", "orders/x"] {
        assert_eq!(desk.get_without_session(path).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(cell.value_of("emergency_stop").await, None);
    assert_eq!(desk.with_host("evil.example").await, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(desk.act("logout", &json!({})).await.0, StatusCode::OK);
    assert_eq!(desk.act("stop", &stop).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn wrong_tokens_are_security_events_and_the_sixth_attempt_is_not_even_looked_at() {
    let cell = Cell::start().await;
    for _ in 0..5 {
        assert_eq!(Desk::try_log_in(&cell, "mallory", "guess").await, StatusCode::UNAUTHORIZED);
    }
    let token = Desk::token(&cell);
    assert_eq!(Desk::try_log_in(&cell, "mallory", &token).await, StatusCode::TOO_MANY_REQUESTS);
    let events = cell.stream("cdb:events").await;
    let failed: Vec<_> = events.iter().filter(|event| event["detail"]["kind"] == "auth_failed").collect();
    assert_eq!(failed.len(), 5);
    assert!(failed.iter().all(|event| event["type"] == "security" && event["detail"]["claimed"] == "mallory"));
    assert!(!cell.whole_logs().contains(&token), "the token is in no log");
    assert!(!format!("{events:?}").contains("guess"), "what was tried is not on record");
}

#[tokio::test]
async fn every_answer_says_what_a_browser_may_not_do() {
    let cell = Cell::start().await;
    let desk = Desk::log_in(&cell, "anna").await;
    for path in ["", "console.js", "console.css", "api/session", "api/orders/none", "nothing-here"] {
        let headers = desk.headers(path).await;
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
    }
    let page = desk.page().await;
    let tags = page.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or_default());
    for tag in tags {
        let is_inline = tag.contains(" on") && tag.contains("=\"") && tag.split(' ').any(|word| word.starts_with("on"));
        assert!(!is_inline && !tag.contains(" style="), "{tag}");
        assert!(!tag.starts_with("script") || tag.contains("src="), "{tag}");
    }
    let cookie = desk.set_cookie();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
}

#[tokio::test]
async fn bad_bodies_are_refused_and_change_nothing() {
    let cell = Cell::start().await;
    let desk = Desk::log_in(&cell, "anna").await;
    let long = "x".repeat(301);
    for (path, body) in [
        ("stop", json!({"reason": ""})),
        ("stop", json!({"reason": "  "})),
        ("stop", json!({"reason": "two\nlines"})),
        ("stop", json!({"reason": long})),
        ("stop", json!({"reason": "x", "symbol": "btc usdt"})),
        ("stop", json!({"reason": "x", "symbol": "BTCUSDT", "strategy": "s"})),
        ("stop", json!({"reason": "x", "other": 1})),
        ("breaker", json!({"command": "explode", "reason": "x"})),
        ("cancel", json!({"cl_ord_id": "<b>"})),
        ("cancel-all", json!({"symbol": "*"})),
    ] {
        let (status, _) = desk.act(path, &body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}");
    }
    let huge = json!({"reason": "x".repeat(10_000)});
    assert_eq!(desk.act("stop", &huge).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(cell.value_of("emergency_stop").await, None);
    assert_eq!(cell.stream("cdb:orders").await.len(), 0);
}

#[tokio::test]
async fn a_console_without_the_operators_password_stops_and_starts_nothing() {
    let settings = format!("{}REDIS_OPERATOR_USER=nobody\n", cdb_tests::cell::WIDE);
    let cell = Cell::start_with(&settings, &["--unlimited-exchange", "--balance", "USDT=100000"]).await;
    let desk = Desk::log_in(&cell, "anna").await;
    assert_eq!(desk.act("stop", &json!({"reason": "drill"})).await.0, StatusCode::OK);
    assert_eq!(desk.act("resume", &json!({"reason": "drill over"})).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(cell.value_of("emergency_stop").await.as_deref(), Some("drill"));
    // Nor can the service's own user do it by itself.
    let monitor = cell.as_user("cdb_monitor").await;
    for command in
        [vec!["DEL", "emergency_stop"], vec!["SET", "cdb:resumed", "x"], vec!["SET", "cdb:breaker:command", "x"]]
    {
        let mut forbidden = redis::cmd(command[0]);
        forbidden.arg(&command[1..]);
        let answer: redis::RedisResult<redis::Value> = forbidden.query_async(&mut monitor.commands()).await;
        assert_eq!(answer.unwrap_err().code(), Some("NOPERM"), "{command:?}");
    }
}

#[tokio::test]
async fn an_order_is_told_from_verdict_to_fill() {
    let cell = Cell::start().await;
    let desk = Desk::log_in(&cell, "anna").await;
    cell.put(&market_buy("story-1", "0.002").to_string()).await;
    cell.until("its story is whole", async || {
        let story = desk.get("orders/story-1").await;
        let steps = story["steps"].as_array().cloned().unwrap_or_default();
        let has = |kind: &str| steps.iter().any(|step| step["kind"] == kind);
        let ended = steps.iter().any(|step| step["ord_status"] == "Filled");
        has("verdict") && has("report") && has("fill") && ended
    })
    .await;
    let story = desk.get("orders/story-1").await;
    let steps = story["steps"].as_array().unwrap();
    assert!(steps[0]["checks"].as_array().is_some_and(|checks| !checks.is_empty()), "{story}");
    assert!(steps.windows(2).all(|pair| pair[0]["at"].as_i64() <= pair[1]["at"].as_i64()), "in the order of happening");
    cell.until("it trades, and the fill is in the position", async || {
        let state = desk.state().await;
        let positions = state["positions"].as_array().cloned().unwrap_or_default();
        state["trading"]["state"] == "trading"
            && positions.iter().any(|row| row["symbol"] == "BTCUSDT" && row["qty"] == "0.002")
    })
    .await;
    cell.until("the order counts in its limit", async || {
        let limits = desk.state().await["usage"]["limits"].clone();
        let limits = limits.as_array().cloned().unwrap_or_default();
        limits.iter().any(|limit| limit["limit"] == "MAX_DAILY_ORDERS" && limit["used"] == "1")
    })
    .await;
    cell.until("the equity is sampled", async || {
        desk.get("equity").await.as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
}

#[tokio::test]
async fn a_browser_that_never_reads_its_events_is_cut_off_and_others_go_on() {
    let cell = Cell::start().await;
    let desk = Desk::log_in(&cell, "anna").await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut silent = socket.connect(desk.address().parse().unwrap()).await.unwrap();
    let request =
        format!("GET /api/stream HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", desk.address(), desk.cookie_header());
    silent.write_all(request.as_bytes()).await.unwrap();
    // Much to say, and nobody who listens.
    for n in 0..3_000 {
        cell.put(&format!("{{\"n\":{n},\"x\":\"{}\"}}", "y".repeat(300))).await;
    }
    let socket = format!("{:04X}", silent.local_addr().unwrap().port());
    cell.until("its connection is closed from the other side", async || !is_established(&socket)).await;
    let mut rest = Vec::new();
    // What had been sent before can be read, and then it is over.
    let _reset = silent.read_to_end(&mut rest).await;
    assert_eq!(desk.state().await["trading"]["state"], "trading");
}

/// Whether this machine's end with this local port, as hex, has a living connection.
fn is_established(port: &str) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields.get(1).is_some_and(|local| local.ends_with(&format!(":{port}")));
        is_ours && fields.get(3) == Some(&"01")
    })
}
