//! I8: no secret appears in a log, error, metric, stream, table, record or answer. A cell with marker secrets logs all
//! it can while it trades and while everything fails; then every byte that it left is looked through.
//! Field cases FL-SE-11, FL-SE-13, FL-SE-15.

use std::fs;
use std::path::Path;
use std::process::Command;

use cdb_core::secret::Secret;
use cdb_mexc::client::{Client, Stamp};
use cdb_mexc::signing::Credentials;
use cdb_tests::canary::Canary;
use cdb_tests::cell::{Cell, WIDE};
use cdb_tests::orders::{market_buy, resting_buy};
use serde_json::{Value, json};

/// Every secret file of a cell; the marker's name is in it.
const SECRETS: [&str; 12] = [
    "mexc_api_key",
    "mexc_api_secret",
    "verdict_key",
    "stop_token",
    "checkpoint_key",
    "console_token",
    "postgres_password",
    "redis_operator",
    "redis_strategy",
    "redis_cdb_risk",
    "redis_cdb_execution",
    "redis_cdb_monitor",
];

/// Not random, so that a hit can be found again; long enough for no chance.
fn marker(name: &str) -> String {
    // An audit key is 32 bytes as hex.
    if name == "checkpoint_key" { "c0ffee5ec2e7".repeat(6)[..64].to_owned() } else { format!("CANARY.{name}/s3cr+t=&") }
}

fn plant(cell: &Path) {
    for name in SECRETS {
        // A header carries no such characters by chance; a real key has letters and digits only.
        let text = if name == "mexc_api_key" { "mxCANARYapikey0000000001".to_owned() } else { marker(name) };
        fs::write(cell.join("secrets").join(name), text).unwrap();
    }
}

fn watching(cell: &Cell) -> Canary {
    let mut canary = Canary::default();
    for name in SECRETS {
        let text = fs::read_to_string(cell.file().with_file_name("secrets").join(name)).unwrap();
        canary.watch(name, &text);
    }
    canary
}

async fn ends(cell: &Cell, id: &str, state: &str) {
    cell.put(&market_buy(id, "0.001").to_string()).await;
    cell.until("it has ended", async || cell.state_of(id).await.as_deref() == Some(state)).await;
}

/// A trade, a resting order, a cancel, a refusal, and what an operator does.
async fn a_days_work(cell: &Cell) {
    ends(cell, "filled-1", "Filled").await;
    cell.put(&resting_buy("resting-1", "0.001").to_string()).await;
    cell.until("it rests", async || cell.state_of("resting-1").await.as_deref() == Some("New")).await;
    let _output = cell.cdb(&["order", "cancel", "resting-1"]);
    cell.until("it is gone", async || cell.state_of("resting-1").await.as_deref() == Some("Canceled")).await;
    cell.put(&market_buy("too-large-1", "1000000").to_string()).await;
    cell.put("{\"v\":1,\"type\":\"new\",").await;
    cell.until("it is refused", async || cell.cdb(&["orders"]).stdout.windows(11).any(|part| part == b"too-large-1"))
        .await;
}

/// Every kind of answer that an exchange can give, with the key itself in the texts.
async fn every_failure_of_the_exchange(cell: &Cell) {
    let key = fs::read_to_string(cell.file().with_file_name("secrets/mexc_api_key")).unwrap();
    let echo = |code: i64| json!({"code": code, "msg": format!("no such key: {key}")}).to_string();
    let html = format!("<html>GET /api/v3/order?api_key={key}</html>");
    let faults = [
        json!({"kind": "refuse", "status": 400, "body": echo(10072)}),
        json!({"kind": "refuse", "status": 400, "body": echo(700_002)}),
        json!({"kind": "refuse", "status": 401, "body": echo(700_006)}),
        json!({"kind": "refuse", "status": 400, "body": echo(30_005)}),
        json!({"kind": "refuse", "status": 520, "body": html}),
        json!({"kind": "refuse", "status": 403, "body": html}),
        json!({"kind": "refuse", "status": 429, "retry_after_s": 1, "body": echo(429)}),
        json!({"kind": "execute_then_status", "status": 504, "body": html}),
        json!({"kind": "broken_reply"}),
        json!({"kind": "reset"}),
        json!({"kind": "reply_with", "body": "{not json"}),
        json!({"kind": "reply_with", "body": "[]"}),
        json!({"kind": "reply_with", "body": echo(987_654)}),
        json!({"kind": "delay_before", "delay_ms": 6_000}),
    ];
    for (n, fault) in faults.iter().enumerate() {
        let id = format!("failure-{n}");
        cell.tell("/faults", &json!([{"endpoint": "POST order", "count": 1, "fault": fault}])).await;
        cell.until("it may trade", async || cell.status().await["may_trade"] == true).await;
        cell.put(&market_buy(&id, "0.001").to_string()).await;
        cell.until("the exchange was asked", async || {
            cell.posts().await.iter().any(|post| post["client_id"] == json!(id))
        })
        .await;
    }
    // The same for every other call for a while, and for the streams.
    let everywhere: Vec<Value> = faults.iter().map(|fault| json!({"per_mille": 150, "fault": fault})).collect();
    cell.tell("/faults", &json!(everywhere)).await;
    cell.tell("/streams/cut", &json!({})).await;
    cell.until("calls failed", async || {
        let seen = cell.admin("/requests").await;
        seen.as_array().unwrap().iter().filter(|request| !request["fault"].is_null()).count() > 40
    })
    .await;
    cell.tell("/faults", &json!([])).await;
    cell.tell("/listen-keys/lapse", &json!({})).await;
    cell.tell("/switches", &json!({"is_key_revoked": true})).await;
    cell.until("the key is refused", async || {
        cell.stream("cdb:events").await.iter().any(|event| event["detail"]["kind"] == "exchange_auth")
    })
    .await;
    let of_key = async |kind: &str| {
        let events = cell.stream("cdb:events").await;
        let is_of_key = |event: &&Value| event["type"] == kind && event["detail"]["id"] == "exchange_key_refused";
        events.iter().filter(is_of_key).count()
    };
    cell.until("somebody is told", async || of_key("alert_raised").await > of_key("alert_resolved").await).await;
    cell.tell("/switches", &json!({})).await;
    cell.until("the key is taken again", async || {
        let status = cell.cdb(&["--json", "keys", "status"]);
        serde_json::from_slice::<Value>(&status.stdout).is_ok_and(|status| status["secrets"][0]["refused"].is_null())
    })
    .await;
    assert!(cell.cdb(&["breaker", "reset", "--reason", "the key is valid again"]).status.success());
}

/// Redis, PostgreSQL, exchange and services end without a word; verdicts are forged; the wrong token is used.
async fn every_failure_at_home(cell: &Cell) {
    let exchange = cell.description()["exchange"]["pid"].clone();
    cell.kill("exchange");
    cell.until("another stand-in", async || {
        cell.description()["exchange"]["pid"] != exchange && cell.exchange_answers().await
    })
    .await;
    for part in ["redis", "cdb_risk", "cdb_execution", "cdb_monitor", "postgres"] {
        cell.kill(part);
        cell.until("it may trade", async || cell.is_connected().await && cell.status().await["may_trade"] == true)
            .await;
    }
    let mut forged = redis::cmd("XADD");
    forged.arg(&["cdb:verdicts", "*", "json", "{}", "sig", "00"]);
    let risk = cell.as_user("cdb_risk").await;
    let _entry: String = forged.query_async(&mut risk.commands()).await.unwrap();
    cell.until("it is buried", async || cell.length_of("cdb:dead").await > 1).await;
    let url = cell.description()["services"]["cdb_execution"]["url"].as_str().unwrap().to_owned() + "/stop";
    let client = cdb_mexc::http::builder().unwrap().build().unwrap();
    let token = fs::read_to_string(cell.file().with_file_name("secrets/stop_token")).unwrap();
    let wrong = client.post(&url).bearer_auth(format!("{token}x")).body("drill").send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 401);
    let right = client.post(&url).bearer_auth(&token).body("drill").send().await.unwrap();
    assert_eq!(right.status().as_u16(), 200);
    cell.until("it is stopped", async || cell.http("cdb_execution", "/readyz").await.contains("drill")).await;
}

/// What every address and every command answers, and what the kernel shows of the services.
async fn every_answer(cell: &Cell, canary: &mut Canary) {
    for (service, paths) in [
        ("cdb_risk", &["/metrics", "/healthz", "/readyz", "/nothing"][..]),
        ("cdb_execution", &["/metrics", "/healthz", "/readyz", "/stop"]),
        ("cdb_monitor", &["/metrics", "/healthz", "/readyz", "/", "/console.js", "/api/desk", "/api/orders"]),
        ("cdb_monitor", &["/api/positions", "/api/totals", "/api/refusals"]),
    ] {
        for path in paths {
            canary.look(&format!("{service}{path}"), cell.http(service, path).await.as_bytes());
        }
        let pid = cell.description()["services"][service]["pid"].as_u64().unwrap();
        for file in ["environ", "cmdline", "status"] {
            canary.look(&format!("{service} {file}"), &fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
        }
    }
    for command in [
        &["status"][..],
        &["orders"],
        &["positions"],
        &["breaker", "status"],
        &["reconcile"],
        &["audit", "verify"],
        &["stop", "drill"],
        &["resume", "--reason", "drill"],
        &["--help"],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = cell.cdb(&[json, command].concat());
            canary.look(&format!("cdb {command:?}"), &[output.stdout, output.stderr].concat());
        }
    }
}

/// The whole ledger as text.
fn dump_of_the_ledger(cell: &Cell) -> Vec<u8> {
    let postgres = &cell.description()["postgres"];
    let (host, port) = (postgres["host"].as_str().unwrap(), postgres["port"].to_string());
    let password = fs::read_to_string(postgres["password_file"].as_str().unwrap()).unwrap();
    let mut dump = Command::new("pg_dump");
    let output = dump.args(["-h", host, "-p", &port, "-U", "cdb", "-w", "cdb"]).env("PGPASSWORD", password).output();
    let output = output.expect("pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn no_output_of_any_kind_holds_a_secret_whatever_fails() {
    let settings = format!("{WIDE}RUST_LOG=trace\nRUST_BACKTRACE=full\nDOUBT_MAX_SEC=600\n");
    let options = ["--unlimited-exchange", "--balance", "USDT=1000000"];
    let cell = Cell::start_prepared(&settings, &options, plant).await;
    let mut canary = watching(&cell);
    a_days_work(&cell).await;
    every_failure_of_the_exchange(&cell).await;
    every_failure_at_home(&cell).await;
    every_answer(&cell, &mut canary).await;
    canary.look("the ledger", &dump_of_the_ledger(&cell));

    // Redis's own log of writes has every stream and key; the rest is logs, audit trail, state.
    let dir = cell.file().parent().unwrap().to_owned();
    let secrets = dir.join("secrets");
    let files = canary.look_below(&dir, &|path| path == secrets);
    let home = fs::read_to_string(dir.join("postgres-home")).unwrap();
    let rows = canary.look_below(Path::new(&home), &|_| false);
    canary.look("cdb up", cell.up_log().as_bytes());
    assert_eq!(canary.hits(), [""; 0]);

    // Signatures and listen keys open something as well.
    let logs = cell.whole_logs();
    for part in ["signature=", "listenKey=", "listen_key="] {
        let lines: Vec<&str> = logs.lines().filter(|line| line.contains(part)).take(3).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
    // It was all there to be looked through.
    let levels = ["\"level\":\"TRACE\"", "\"level\":\"DEBUG\"", "\"level\":\"ERROR\""];
    assert!(levels.iter().all(|level| logs.contains(level)), "the services did not log all they can");
    assert!(files > 10 && rows > 100 && canary.looked_at() > 1_000_000, "{files} {rows} {}", canary.looked_at());
}

#[test]
fn a_marker_is_found_in_every_form() {
    let text = "CANARY.tests-only/s3cr+t=&";
    let encoded = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let forms = [
        text.to_owned(),
        text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        encoded(text),
        encoded(&format!("k:{text}:v")),
        encoded(&format!("{{{text}")),
        "CANARY.tests-only%2Fs3cr%2Bt%3D%26".to_owned(),
        format!("{:?}", text.as_bytes()),
    ];
    for form in &forms {
        let mut canary = Canary::default();
        canary.watch("it", text);
        canary.look("here", format!("before {form} after").as_bytes());
        assert!(!canary.hits().is_empty(), "{form}");
    }
}

/// Answers a connection with bytes that are neither TLS nor HTTP.
async fn nonsense() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _gone = tokio::io::AsyncWriteExt::write_all(&mut stream, b"nonsense\r\n\r\n").await;
        }
    });
    address.to_string()
}

#[tokio::test]
async fn errors_of_connections_name_neither_the_key_nor_the_signed_address_fl_se_11() {
    let secret = |text: &str| Secret::parse(text.as_bytes()).ok().unwrap();
    let pair = || Credentials::new(secret("mxTESTONLY0000000001"), &secret("tests-only-secret-A1b2C3d4"));
    let (plain, closed) = (nonsense().await, "127.0.0.1:1");
    for base in [format!("http://{closed}"), format!("https://{plain}"), format!("http://{plain}")] {
        let client = Client::new(&base, pair()).unwrap();
        let trouble = client.account(Stamp { timestamp_ms: 1, recv_window_ms: 1 }).await.unwrap_err();
        let text = format!("{trouble:?}");
        for part in ["mxTESTONLY", "tests-only", "signature", "api/v3", "127.0.0.1"] {
            assert!(!text.contains(part), "{base}: {text}");
        }
    }
}
