//! Starting a cell, asking its parts, killing them.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cdb_io::bus::Bus;
use cdb_io::config::RedisConfig;
use cdb_io::secret_file;
use redis::aio::ConnectionManager;
use redis::streams::StreamRangeReply;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for a cell to be ready.
const START: Duration = Duration::from_secs(90);
/// Longest wait for a condition.
pub const WAIT: Duration = Duration::from_secs(60);

/// A running cell; ends when it is dropped.
pub struct Cell {
    dir: TempDir,
    child: Child,
    http: reqwest::Client,
    operator: Bus,
    first_run_id: String,
}

/// Limits wide enough that only what a test is about binds.
pub const WIDE: &str = "\
MAX_POSITION_SIZE_USD=100000000
MAX_POSITION_PCT=0.95
MAX_TOTAL_EXPOSURE=0.97
MAX_ORDER_SIZE_USD=100000
MAX_DAILY_ORDERS=1000000
MAX_DAILY_NOTIONAL_USD=1000000000
MAX_NOTIONAL_PER_MINUTE_USD=1000000000
MAX_REPEATED_ORDERS=1000000
MAX_OPEN_ORDERS=500
MAX_ORDERS_PER_SECOND=100000
MAX_STRATEGY_ORDERS_PER_SECOND=100000
DUPLICATE_WINDOW_MS=0
MAX_CONSECUTIVE_FAILURES=1000
MAX_FAILURES_PER_HOUR=10000
RATE_ORDERS_PER_SECOND=1000
RATE_ORDERS_PER_10_SECONDS=10000
RATE_NEW_ORDERS_PER_SECOND=1000
RATE_REST_PER_SECOND=3000
RATE_WEIGHT_PER_10_SECONDS=100000
";

/// The directory of the programs under test.
#[must_use]
pub fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("this program's path");
    let dir = own.parent().expect("target/<profile> or its deps");
    if dir.ends_with("deps") { dir.parent().expect("target/<profile>").to_owned() } else { dir.to_owned() }
}

/// Port ranges that this process has taken, held until it ends.
static TAKEN: Mutex<Vec<fs::File>> = Mutex::new(Vec::new());
/// Ports in a range.
const RANGE: u16 = 16;

/// The first of `count` neighbouring ports that nobody uses and no other test takes.
///
/// # Panics
/// There are none.
#[must_use]
pub fn free_ports(count: u16) -> u16 {
    assert!(count <= RANGE, "a range has {RANGE} ports");
    for range in 0..700_u16 {
        let lock = std::env::temp_dir().join(format!("cdb-test-ports-{range}.lock"));
        let file = fs::File::create(lock).expect("a lock file");
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let base = 20_000 + range * RANGE;
        if (base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            return base;
        }
    }
    panic!("no {count} free ports in a row");
}

impl Cell {
    /// Starts a cell with wide limits and a stand-in without rate limits.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn start() -> Self {
        Self::start_with(WIDE, &["--unlimited-exchange", "--balance", "USDT=1000000", "--balance", "BTC=1"]).await
    }

    /// Starts a cell with these settings and options of `cdb up`.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn start_with(settings: &str, options: &[&str]) -> Self {
        Self::launch(settings, options, None, |_| ()).await
    }

    /// As [`Self::start_with`]; `prepare` puts files into the cell's directory first.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn start_prepared(settings: &str, options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::launch(settings, options, None, prepare).await
    }

    /// As [`Self::start_with`], with a scripted price of a symbol that no file replays.
    ///
    /// # Panics
    /// It does not become ready.
    pub async fn start_scripted(settings: &str, options: &[&str], symbol: &str, bid: &str, ask: &str) -> Self {
        let price = json!({"symbol": symbol, "bid": bid, "ask": ask, "last": bid});
        Self::launch(settings, options, Some(price), |_| ()).await
    }

    async fn launch(settings: &str, options: &[&str], price: Option<Value>, prepare: impl FnOnce(&Path)) -> Self {
        let ports = free_ports(8);
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("settings.env"), settings).expect("writing settings");
        fs::create_dir_all(dir.path().join("cell/secrets")).expect("the cell's directory");
        prepare(&dir.path().join("cell"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let log = fs::File::create(dir.path().join("up.log")).expect("a log");
        let child = Command::new(programs().join("cdb"))
            .current_dir(root)
            .args(["up", "--ports", &ports.to_string()])
            .arg("--dir")
            .arg(dir.path().join("cell"))
            .arg("--env-file")
            .arg(dir.path().join("settings.env"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("cdb must be built: cargo build --workspace");
        let file = dir.path().join("cell/cell.json");
        let mut starting = Starting { dir: Some(dir), child: Some(child) };
        let deadline = Instant::now() + START;
        while !file.exists() {
            starting.must_go_on(deadline);
            if let Some(price) = &price {
                // Refused until the stand-in listens; then the cell becomes ready.
                let admin = format!("http://127.0.0.1:{}/price", ports + 2);
                let _not_yet = http().post(admin).json(price).send().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (dir, child) = starting.done();
        let description = read_json(&file);
        let operator = connect(&description, "operator").await;
        let first_run_id = cdb_io::bus::run_id(&mut operator.commands()).await.expect("INFO");
        let cell = Self { dir, child, http: http(), operator, first_run_id };
        cell.until("risk approves", async || cell.status().await["may_trade"] == true).await;
        cell
    }

    /// The cell's file.
    #[must_use]
    pub fn description(&self) -> Value {
        read_json(&self.file())
    }

    /// Path of the cell's file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("cell/cell.json")
    }

    /// Directory of the audit trail.
    #[must_use]
    pub fn audit_dir(&self) -> PathBuf {
        self.dir.path().join("cell/audit")
    }

    /// Redis as the operator.
    #[must_use]
    pub const fn operator(&self) -> &Bus {
        &self.operator
    }

    /// Redis as another user.
    pub async fn as_user(&self, user: &str) -> Bus {
        connect(&self.description(), user).await
    }

    /// Redis as a user that may do everything, which a cell does not have: Redis is started again with one.
    ///
    /// # Panics
    /// It does not come back.
    pub async fn as_superuser(&self) -> ConnectionManager {
        let acl = self.file().with_file_name("redis").join("users.acl");
        let mut text = fs::read_to_string(&acl).expect("the cell's ACL");
        text.push_str("user superuser on nopass ~* &* +@all\n");
        self.signal_up(Signal::STOP);
        fs::write(&acl, text).expect("the cell's ACL");
        self.kill("redis");
        self.signal_up(Signal::CONT);
        self.until("Redis is back", async || self.is_connected().await && self.has_restarted().await).await;
        self.until("it may trade", async || self.status().await["may_trade"] == true).await;
        let port = self.description()["redis"]["port"].clone();
        let client = redis::Client::open(format!("redis://superuser:x@127.0.0.1:{port}/")).expect("an address");
        ConnectionManager::new(client).await.expect("the superuser")
    }

    /// What `cdb up` has said.
    ///
    /// # Panics
    /// There is no log.
    #[must_use]
    pub fn up_log(&self) -> String {
        fs::read_to_string(self.dir.path().join("up.log")).expect("the log")
    }

    /// Runs `cdb` against this cell.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn cdb(&self, arguments: &[&str]) -> Output {
        Command::new(programs().join("cdb"))
            .arg("--cell")
            .arg(self.file())
            .args(arguments)
            .output()
            .expect("cdb can be run")
    }

    /// Runs `cdb` against this cell with something to read, beside whatever else the test does.
    ///
    /// # Panics
    /// It cannot be run.
    pub async fn cdb_reading(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(programs().join("cdb"));
        command.arg("--cell").arg(self.file()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let run = move || {
            let mut child = command.spawn().expect("cdb can be run");
            let mut stdin = child.stdin.take().expect("its input");
            // One that ends without reading it is a case as well.
            let _closed = std::io::Write::write_all(&mut stdin, input.as_bytes());
            drop(stdin);
            child.wait_with_output().expect("cdb ends")
        };
        tokio::task::spawn_blocking(run).await.expect("cdb")
    }

    /// `cdb status --json`
    pub async fn status(&self) -> Value {
        let (program, file) = (programs().join("cdb"), self.file());
        let run = move || {
            let output = Command::new(program).arg("--cell").arg(file).args(["--json", "status"]).output();
            let output = output.expect("cdb can be run");
            serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
        };
        tokio::task::spawn_blocking(run).await.expect("cdb status")
    }

    /// Whether Redis answers this test.
    pub async fn is_connected(&self) -> bool {
        let pong: redis::RedisResult<String> = redis::cmd("PING").query_async(&mut self.operator.commands()).await;
        pong.is_ok()
    }

    /// A string key's value.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn value_of(&self, key: &str) -> Option<String> {
        redis::cmd("GET").arg(key).query_async(&mut self.operator.commands()).await.expect("GET")
    }

    /// Whether Redis is another process than when this cell started.
    pub async fn has_restarted(&self) -> bool {
        let run_id = cdb_io::bus::run_id(&mut self.operator.commands()).await;
        run_id.is_ok_and(|run_id| run_id != self.first_run_id)
    }

    /// Puts text on `cdb:orders`; its entry.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn put(&self, json: &str) -> String {
        let mut command = redis::cmd("XADD");
        command.arg("cdb:orders").arg("*").arg("json").arg(json);
        command.query_async(&mut self.operator.commands()).await.expect("XADD")
    }

    /// Puts text on `cdb:orders`, if Redis takes it.
    pub async fn try_put(&self, json: &str) -> bool {
        let mut command = redis::cmd("XADD");
        command.arg("cdb:orders").arg("*").arg("json").arg(json);
        command.query_async::<String>(&mut self.operator.commands()).await.is_ok()
    }

    /// Everything on a stream, as JSON where there is any, otherwise the flat fields.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn stream(&self, name: &str) -> Vec<Value> {
        let mut command = redis::cmd("XRANGE");
        command.arg(name).arg("-").arg("+");
        let reply: StreamRangeReply = command.query_async(&mut self.operator.commands()).await.expect("XRANGE");
        let one = |map: &std::collections::HashMap<String, redis::Value>| {
            let text = |value: &redis::Value| match value {
                redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                other => format!("{other:?}"),
            };
            match map.get("json") {
                Some(json) => serde_json::from_str(&text(json)).unwrap_or(Value::Null),
                None => map.iter().map(|(name, value)| (name.clone(), Value::String(text(value)))).collect(),
            }
        };
        reply.ids.iter().map(|entry| one(&entry.map)).collect()
    }

    /// What came on a stream after `last`, which moves on.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn stream_after(&self, name: &str, last: &mut String) -> Vec<Value> {
        let mut command = redis::cmd("XRANGE");
        command.arg(name).arg(format!("({last}")).arg("+");
        let reply: StreamRangeReply = command.query_async(&mut self.operator.commands()).await.expect("XRANGE");
        if let Some(newest) = reply.ids.last() {
            last.clone_from(&newest.id);
        }
        let json = reply.ids.iter().filter_map(|entry| entry.get::<String>("json"));
        json.map(|json| serde_json::from_str(&json).unwrap_or(Value::Null)).collect()
    }

    /// Entries on a stream.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn length_of(&self, stream: &str) -> usize {
        redis::cmd("XLEN").arg(stream).query_async(&mut self.operator.commands()).await.expect("XLEN")
    }

    /// ClOrdID of the newest message of cdb_execution, when that is a report of an ended order.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn state_of_last(&self) -> Option<String> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg("cdb:executions").arg("+").arg("-").arg("COUNT").arg(2);
        let reply: StreamRangeReply = command.query_async(&mut self.operator.commands()).await.expect("XREVRANGE");
        reply.ids.iter().find_map(|entry| {
            let message: Value = serde_json::from_str(&entry.get::<String>("json")?).ok()?;
            let has_ended = message["ord_status"] == "Filled" || message["ord_status"] == "Rejected";
            has_ended.then(|| message["cl_ord_id"].as_str().map(str::to_owned))?
        })
    }

    /// Execution reports by ClOrdID, in order.
    pub async fn reports(&self) -> BTreeMap<String, Vec<Value>> {
        let mut reports: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for message in self.stream("cdb:executions").await {
            if message["type"] == "execution_report" {
                reports.entry(message["cl_ord_id"].as_str().unwrap_or_default().to_owned()).or_default().push(message);
            }
        }
        reports
    }

    /// The last state of an order.
    pub async fn state_of(&self, id: &str) -> Option<String> {
        let reports = self.reports().await;
        reports.get(id)?.last()?["ord_status"].as_str().map(str::to_owned)
    }

    /// Approved orders without a final report.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn unfinished(&self) -> Vec<String> {
        let reports = self.reports().await;
        let is_approved = |verdict: &Value| verdict["decision"] == "approved" && verdict["command"]["type"] == "new";
        let has_ended = |id: &str| reports.get(id).and_then(|reports| reports.last()).is_some_and(is_final);
        let verdicts = self.stream("cdb:verdicts").await;
        let approved = verdicts.iter().filter(|verdict| is_approved(verdict));
        let ids = approved.filter_map(|verdict| verdict["cl_ord_id"].as_str());
        ids.filter(|id| !has_ended(id)).map(str::to_owned).collect()
    }

    /// Whether the stand-in is there.
    ///
    /// # Panics
    /// The cell has none.
    pub async fn exchange_answers(&self) -> bool {
        let url = format!("{}/budget", self.description()["exchange"]["admin_url"].as_str().expect("a stand-in"));
        self.http.get(url).send().await.is_ok()
    }

    /// Asks the stand-in's admin interface.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn admin(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.description()["exchange"]["admin_url"].as_str().expect("a stand-in"));
        self.http.get(url).send().await.expect("the stand-in answers").json().await.expect("JSON")
    }

    /// Tells the stand-in's admin interface something.
    ///
    /// # Panics
    /// It does not answer with success.
    pub async fn tell(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.description()["exchange"]["admin_url"].as_str().expect("a stand-in"));
        let response = self.http.post(url).json(body).send().await.expect("the stand-in answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.expect("JSON")
    }

    /// Requests for new orders that the stand-in saw.
    pub async fn posts(&self) -> Vec<Value> {
        self.admin("/requests?endpoint=POST%20order").await.as_array().cloned().unwrap_or_default()
    }

    /// Asks a service's HTTP endpoint; its text, empty while it does not answer (it may have been killed).
    ///
    /// # Panics
    /// There is no such service.
    pub async fn http(&self, service: &str, path: &str) -> String {
        let url = self.description()["services"][service]["url"].as_str().expect("a service").to_owned();
        match self.http.get(url + path).send().await {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Kills a part with SIGKILL; `cdb up` starts it again.
    ///
    /// # Panics
    /// The part is not running.
    pub fn kill(&self, part: &str) {
        self.signal(part, Signal::KILL);
    }

    /// Kills `cdb up` itself with SIGKILL.
    ///
    /// # Panics
    /// It is not running.
    pub fn kill_up(&self) {
        self.signal_up(Signal::KILL);
    }

    /// Sends `cdb up` itself a signal.
    ///
    /// # Panics
    /// It is not running.
    pub fn signal_up(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a running cdb up"), signal).expect("a living process");
    }

    /// Sends a part a signal.
    ///
    /// # Panics
    /// The part is not running.
    pub fn signal(&self, part: &str, signal: Signal) {
        let description = self.description();
        let pid = match part {
            "redis" | "postgres" | "exchange" => &description[part]["pid"],
            service => &description["services"][service]["pid"],
        };
        let pid = pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("a running part"), signal).expect("a living process");
    }

    /// Sends a part and its children a signal: PostgreSQL serves each connection by a process of its own.
    ///
    /// # Panics
    /// The part is not running.
    pub fn signal_family(&self, part: &str, signal: Signal) {
        let description = self.description();
        let pid = description[part]["pid"].as_i64().expect("a running part");
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
            // It may end at any time.
            let _gone = kill_process(child, signal);
        }
        self.signal(part, signal);
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// It does not within [`WAIT`].
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        self.until_within(WAIT, what, holds).await;
    }

    /// Waits until a condition holds, for as long as `wait`.
    ///
    /// # Panics
    /// It does not in that time.
    pub async fn until_within(&self, wait: Duration, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + wait;
        while !holds().await {
            assert!(Instant::now() < deadline, "waited {wait:?} until {what}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything that every part has logged.
    ///
    /// # Panics
    /// A log cannot be read.
    #[must_use]
    pub fn whole_logs(&self) -> String {
        let logs = fs::read_dir(self.dir.path().join("cell/logs")).expect("the logs").filter_map(Result::ok);
        logs.map(|log| String::from_utf8_lossy(&fs::read(log.path()).expect("a log")).into_owned()).collect()
    }

    /// The ends of all logs, for a failing test.
    #[must_use]
    pub fn logs(&self) -> String {
        logs_in(self.dir.path())
    }
}

/// Whether a report or verdict is the last word about its order.
#[must_use]
pub fn is_final(message: &Value) -> bool {
    let is_ended =
        message["ord_status"].as_str().is_some_and(|state| ["Filled", "Canceled", "Rejected"].contains(&state));
    is_ended || message["decision"] == "rejected"
}

impl Drop for Cell {
    fn drop(&mut self) {
        end(&mut self.child);
        remove_ledger(self.dir.path());
    }
}

/// A cell that is not ready yet; ends when it is dropped.
struct Starting {
    dir: Option<TempDir>,
    child: Option<Child>,
}

impl Starting {
    fn must_go_on(&mut self, deadline: Instant) {
        let (Some(child), Some(dir)) = (&mut self.child, &self.dir) else { return };
        let ended = child.try_wait().expect("its state");
        assert!(ended.is_none(), "cdb up ended: {ended:?}\n{}", logs_in(dir.path()));
        assert!(Instant::now() < deadline, "the cell is not ready\n{}", logs_in(dir.path()));
    }

    fn done(mut self) -> (TempDir, Child) {
        (self.dir.take().expect("taken once"), self.child.take().expect("taken once"))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let (Some(child), Some(dir)) = (&mut self.child, &self.dir) {
            end(child);
            remove_ledger(dir.path());
        }
    }
}

/// Removes the data of the cluster of the cell in `dir/cell`, which lie outside that directory.
pub fn remove_ledger(dir: &Path) {
    let home = fs::read_to_string(dir.join("cell/postgres-home")).unwrap_or_default();
    if home.starts_with("/tmp/cdb-") {
        // It may be gone already.
        let _gone = fs::remove_dir_all(home);
    }
}

/// Ends `cdb up` in order, so that it ends its own children.
fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _gone = kill_process(pid, Signal::TERM);
        // A test may have put it to sleep.
        let _gone = kill_process(pid, Signal::CONT);
    }
    let _gone = child.wait();
}

fn logs_in(dir: &Path) -> String {
    let mut text = String::new();
    let logs = fs::read_dir(dir.join("cell/logs")).into_iter().flatten().filter_map(Result::ok);
    for path in logs.map(|log| log.path()).chain([dir.join("up.log")]) {
        let log = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        text.push_str(&format!("--- {}\n{tail}\n", path.display()));
    }
    text
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the cell's file")).expect("JSON")
}

async fn connect(description: &Value, user: &str) -> Bus {
    let redis = &description["redis"];
    let file = redis["password_files"][user].as_str().expect("a user of the bus");
    let config = RedisConfig {
        host: "127.0.0.1".to_owned(),
        port: redis["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port"),
        user: user.to_owned(),
        password: Some(secret_file::read(Path::new(file)).unwrap_or_else(|error| panic!("{error}"))),
    };
    Bus::connect(&config).await.expect("the cell's Redis answers")
}

fn http() -> reqwest::Client {
    let builder = cdb_mexc::http::builder().expect("TLS");
    builder.timeout(Duration::from_secs(10)).build().expect("an HTTP client")
}
