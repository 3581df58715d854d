//! One round of trouble: a cell of its own under load, one fault in the middle, and at the end every promise checked
//! against what the stand-in, the audit trail, the streams and the ledger say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cdb_core::sending::SEND_DEADLINE_MS;
use cdb_core::time::Timestamp;
use cdb_io::audit_files;
use rust_decimal::Decimal;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cell::{Cell, WIDE};
use crate::orders::{cancel_all, market_buy, resting_buy};
use crate::second::Second;

/// Orders of a round.
const ORDERS: usize = 24;
/// Longest wait for every approved order to end.
const SETTLE: Duration = Duration::from_secs(120);
/// Longer than a lease lives.
const PAST_LEASE: Duration = Duration::from_millis(4_000);

/// What goes wrong in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of one part.
    Kill(&'static str),
    /// `kill -9` of risk, execution and monitor at once.
    KillAll,
    /// The executor is paused past its lease while a second one waits for it, and comes back later.
    Overlap,
    /// A part is paused for a while.
    Pause(&'static str),
    /// Redis comes back with the data of a moment before.
    Rollback,
    /// The audit file cannot grow any more.
    AuditFull,
    /// An emergency stop in the middle, and its end.
    Stop,
    /// The exchange's clock is set ahead, within bounds.
    Clock,
    /// The exchange answers in every bad way.
    BadAnswers,
    /// The streams lose, repeat, reorder and break messages, and are cut.
    BadStreams,
}

impl Fault {
    /// Every kind, in the order of the rounds.
    pub const ALL: &'static [Self] = &[
        Self::Rollback,
        Self::Overlap,
        Self::KillAll,
        Self::AuditFull,
        Self::Stop,
        Self::BadAnswers,
        Self::Pause("redis"),
        Self::BadStreams,
        Self::Pause("postgres"),
        Self::Clock,
        Self::Kill("redis"),
        Self::Kill("cdb_execution"),
        Self::Kill("exchange"),
        Self::Kill("cdb_risk"),
        Self::Kill("cdb_monitor"),
        Self::Pause("exchange"),
    ];

    /// For the table.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Kill(part) => format!("kill -9 {part}"),
            Self::KillAll => "kill -9 all three services".to_owned(),
            Self::Overlap => "executor paused past its lease".to_owned(),
            Self::Pause(part) => format!("{part} paused"),
            Self::Rollback => "Redis rolled back".to_owned(),
            Self::AuditFull => "audit file cannot grow".to_owned(),
            Self::Stop => "emergency stop".to_owned(),
            Self::Clock => "exchange's clock steps".to_owned(),
            Self::BadAnswers => "bad answers of the exchange".to_owned(),
            Self::BadStreams => "bad streams".to_owned(),
        }
    }
}

/// How a round went.
#[derive(Debug)]
pub struct Round {
    /// What went wrong.
    pub fault: Fault,
    /// Orders put on the stream.
    pub orders: usize,
    /// Orders that the exchange has.
    pub at_exchange: usize,
    /// How long it took.
    pub took: Duration,
    /// Broken promises; empty is well.
    pub violations: Vec<String>,
}

/// A small generator of numbers that follow a seed.
pub struct Random(u64);

impl Random {
    /// Follows this seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// What a round must remember of its fault.
#[derive(Default)]
struct Aftermath {
    second: Option<Second>,
    /// When the stop had been set, and when it was lifted, epoch µs.
    stopped: Option<(i64, i64)>,
    /// A copy of Redis's files from before.
    copy: Option<tempfile::TempDir>,
}

/// Plays one round. Every second one under the real rate budgets, which the stand-in enforces and counts.
pub async fn round(fault: Fault, seed: u64) -> Round {
    let begun = Instant::now();
    let mut random = Random::seeded(seed);
    let is_limited = seed.is_multiple_of(2);
    let cell = start(is_limited).await;
    let mut aftermath = Aftermath::default();
    if fault == Fault::Overlap {
        aftermath.second = Some(Second::start(&cell));
    }
    let at = usize::try_from(4 + random.below(14)).unwrap_or(4);
    let mut put = 0;
    for n in 0..ORDERS {
        let id = format!("c{seed}-{n}");
        let order = match random.below(4) {
            0 => resting_buy(&id, "0.001"),
            1 => {
                let mut exit = market_buy(&id, "0.001");
                exit["side"] = "SELL".into();
                exit
            }
            _ => market_buy(&id, "0.002"),
        };
        put += usize::from(cell.try_put(&order.to_string()).await);
        if n + 2 == at && fault == Fault::Rollback {
            aftermath.copy = Some(copy_of_redis(&cell).await);
        }
        if n == at {
            strike(&cell, fault, &mut random, &mut aftermath).await;
        }
        // About as fast as the budgets allow, with bursts.
        tokio::time::sleep(Duration::from_millis(random.below(if is_limited { 260 } else { 40 }))).await;
    }
    let mut violations = settle(&cell, seed, aftermath.second.is_some()).await;
    violations.extend(broken_promises(&cell, is_limited).await);
    if let Some((stopped_at, lifted_at)) = aftermath.stopped {
        let is_late = |at_us: &i64| (stopped_at + SEND_DEADLINE_MS * 1_000..lifted_at).contains(at_us);
        let times = cell.posts().await.into_iter().filter_map(|post| post["at_us"].as_i64());
        violations.extend(times.filter(is_late).map(|at_us| format!("I2: an order left at {at_us} while stopped")));
    }
    let at_exchange = cell.admin("/orders").await.as_array().map_or(0, Vec::len);
    if !violations.is_empty() {
        violations.push(cell.logs());
    }
    Round { fault, orders: put, at_exchange, took: begun.elapsed(), violations }
}

async fn start(is_limited: bool) -> Cell {
    let balances = ["--balance", "USDT=1000000", "--balance", "BTC=1"];
    if is_limited {
        // The budgets' own defaults: whatever WIDE says of them is left out.
        let settings: String =
            WIDE.lines().filter(|line| !line.starts_with("RATE_")).fold(String::new(), |all, line| all + line + "\n");
        Cell::start_with(&settings, &balances).await
    } else {
        Cell::start_with(WIDE, &[&["--unlimited-exchange"], &balances[..]].concat()).await
    }
}

async fn strike(cell: &Cell, fault: Fault, random: &mut Random, aftermath: &mut Aftermath) {
    let while_millis = Duration::from_millis(500 + random.below(2_500));
    match fault {
        Fault::Kill(part) => cell.kill(part),
        Fault::KillAll => {
            for part in ["cdb_risk", "cdb_execution", "cdb_monitor"] {
                cell.kill(part);
            }
        }
        Fault::Overlap => {
            cell.signal("cdb_execution", Signal::STOP);
            tokio::time::sleep(PAST_LEASE).await;
            cell.signal("cdb_execution", Signal::CONT);
        }
        Fault::Pause(part) => {
            let pause =
                |signal| if part == "postgres" { cell.signal_family(part, signal) } else { cell.signal(part, signal) };
            pause(Signal::STOP);
            tokio::time::sleep(while_millis).await;
            pause(Signal::CONT);
        }
        Fault::Rollback => {
            if let Some(copy) = &aftermath.copy {
                roll_back(cell, copy.path());
            }
        }
        Fault::AuditFull => {
            let pid = cell.description()["services"]["cdb_execution"]["pid"].to_string();
            // A little more than there is: the next records do not fit.
            let size = newest_audit_file(cell) + random.below(2_000);
            let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={size}")]).status();
            assert!(limited.is_ok_and(|status| status.success()), "prlimit");
        }
        Fault::Stop => {
            let set = redis::cmd("SET").arg("emergency_stop").arg("drill").to_owned();
            let () = set.query_async(&mut cell.operator().commands()).await.expect("SET");
            let stopped_at = now_us();
            tokio::time::sleep(while_millis).await;
            let lifted_at = now_us();
            let resumed = cell.cdb(&["resume", "--reason", "end of the drill"]);
            assert!(resumed.status.success(), "{resumed:?}");
            aftermath.stopped = Some((stopped_at, lifted_at));
        }
        Fault::Clock => {
            cell.tell("/switches", &json!({"clock_skew_ms": 300 + random.below(600)})).await;
        }
        Fault::BadAnswers => {
            let rule = |fault: Value| json!({"per_mille": 150, "count": 6, "fault": fault});
            let faults = json!([
                rule(json!({"kind": "lost_reply"})),
                rule(json!({"kind": "execute_then_status", "status": 503})),
                rule(json!({"kind": "broken_reply"})),
                rule(json!({"kind": "reset"})),
                rule(json!({"kind": "refuse", "status": 504})),
                rule(json!({"kind": "delay_after", "delay_ms": 1_200})),
                rule(json!({"kind": "delay_before", "delay_ms": 1_200})),
            ]);
            cell.tell("/faults", &faults).await;
        }
        Fault::BadStreams => {
            let switches = json!({"stream_drop_per_mille": 200, "stream_duplicate_per_mille": 200,
                "stream_reorder_per_mille": 200, "stream_broken_per_mille": 100});
            cell.tell("/switches", &switches).await;
            cell.tell("/streams/cut", &json!({})).await;
        }
    }
}

/// Redis's files as they are now.
async fn copy_of_redis(cell: &Cell) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    let from = cell.file().with_file_name("redis");
    let copied = Command::new("cp").arg("-a").arg(from.join("appendonlydir")).arg(copy.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "copying Redis's files");
    copy
}

/// Redis starts again with an older log. `cdb up` is held back meanwhile, so that it does not start it too early.
fn roll_back(cell: &Cell, copy: &Path) {
    cell.signal_up(Signal::STOP);
    cell.kill("redis");
    let dir = cell.file().with_file_name("redis").join("appendonlydir");
    let gone = Instant::now();
    // The killed process may still hold its files for a moment.
    while fs::remove_dir_all(&dir).is_err() && gone.elapsed() < Duration::from_secs(5) {}
    let copied = Command::new("cp").arg("-a").arg(copy.join("appendonlydir")).arg(&dir).status();
    assert!(copied.is_ok_and(|status| status.success()), "bringing Redis's old files back");
    cell.signal_up(Signal::CONT);
}

fn newest_audit_file(cell: &Cell) -> u64 {
    let files = audit_files::files(&cell.audit_dir().join("cdb_execution")).expect("the audit trail");
    files.last().and_then(|(_, path)| fs::metadata(path).ok()).map_or(0, |meta| meta.len())
}

/// Waits until every approved order has ended; what rests is cancelled. Of two executors one stands by, which the cell's
/// status takes for trouble.
async fn settle(cell: &Cell, seed: u64, has_second: bool) -> Vec<String> {
    let begun = Instant::now();
    // The stand-in may have been killed a moment ago.
    while !cell.exchange_answers().await {
        if begun.elapsed() > SETTLE {
            return vec![format!("the stand-in does not answer after {SETTLE:?}")];
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cell.tell("/faults", &json!([])).await;
    let mut round = 0;
    loop {
        let is_connected = cell.is_connected().await;
        if is_connected && (has_second || cell.status().await["may_trade"] == true) {
            let open = cell.unfinished().await;
            let at_exchange = cell.admin("/orders").await;
            let is_open = |order: &&Value| order["status"] == "NEW" || order["status"] == "PARTIALLY_FILLED";
            let resting = at_exchange.as_array().map_or(0, |orders| orders.iter().filter(is_open).count());
            if open.is_empty() && resting == 0 {
                return Vec::new();
            }
            if begun.elapsed() > SETTLE {
                return vec![format!("not ended after {SETTLE:?}: {open:?}, and {resting} open at the exchange")];
            }
            cell.try_put(&cancel_all(&format!("a{seed}-{round}")).to_string()).await;
            round += 1;
        } else if begun.elapsed() > SETTLE {
            let status = if is_connected { cell.status().await } else { json!("Redis does not answer") };
            return vec![format!("does not trade again after {SETTLE:?}: {status}")];
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Every promise that a cell at rest must have kept, checked; what was broken. Of a stand-in that enforces the rate
/// budgets also that none was ever exceeded.
pub async fn broken_promises(cell: &Cell, is_limited: bool) -> Vec<String> {
    let mut violations = Vec::new();
    let posts = cell.posts().await;
    let submitted = submissions(cell, &mut violations);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for post in &posts {
        let (id, at_us) = (text(&post["client_id"]), post["at_us"].as_i64().unwrap_or_default());
        *times.entry(id.clone()).or_default() += 1;
        match submitted.get(&id) {
            None => violations.push(format!("I6: {id} was sent without an audit record")),
            Some(recorded_ms) if *recorded_ms > at_us / 1_000 => {
                violations.push(format!("I6: {id} was recorded {} ms after it was sent", recorded_ms - at_us / 1_000));
            }
            Some(_) => {}
        }
    }
    violations.extend(
        times.iter().filter(|(_, times)| **times > 1).map(|(id, times)| format!("I3: {id} was sent {times} times")),
    );
    violations.extend(compare_orders(cell).await);
    if is_limited {
        let budget = cell.admin("/budget").await;
        if budget["breaches"] != 0 {
            violations.push(format!("I5: budget broken: {budget}"));
        }
    }
    let verified = cell.cdb(&["audit", "verify"]);
    if !verified.status.success() {
        violations.push(format!("I7: audit: {}", String::from_utf8_lossy(&verified.stdout)));
    }
    let compared = cell.cdb(&["reconcile"]);
    if !compared.status.success() {
        let (out, err) = (String::from_utf8_lossy(&compared.stdout), String::from_utf8_lossy(&compared.stderr));
        violations.push(format!("I4: exchange, audit and ledger: {out}{err}"));
    }
    violations
}

/// When each order was recorded as submitted, epoch ms, by whichever executor.
fn submissions(cell: &Cell, violations: &mut Vec<String>) -> BTreeMap<String, i64> {
    let mut submitted = BTreeMap::new();
    for item in fs::read_dir(cell.audit_dir()).expect("the audit trail").filter_map(Result::ok) {
        if !item.path().is_dir() {
            continue;
        }
        let verified = audit_files::verify_dir(&item.path(), |record| {
            if record.event_type == "ORDER_SUBMITTED"
                && let Some(order) = record.order.and_then(|order| serde_json::from_str::<Value>(order.get()).ok())
            {
                let at = Timestamp::parse_rfc3339(&record.timestamp).map_or(i64::MAX, Timestamp::millis);
                if submitted.insert(text(&order["cl_ord_id"]), at).is_some() {
                    violations.push(format!("I3: {} was submitted twice", order["cl_ord_id"]));
                }
            }
        });
        if let Err(error) = verified {
            violations.push(format!("I7: {error:#}"));
        }
    }
    submitted
}

/// The exchange's record and the last reports, order by order, to the last digit.
async fn compare_orders(cell: &Cell) -> Vec<String> {
    let mut violations = Vec::new();
    let decimal =
        |value: &Value| value.as_str().and_then(|text| text.parse::<Decimal>().ok()).unwrap_or_default().normalize();
    let reports = cell.reports().await;
    let mut seen = BTreeSet::new();
    let trades = cell.admin("/trades").await;
    for order in cell.admin("/orders").await.as_array().into_iter().flatten() {
        let id = text(&order["client_id"]);
        if !seen.insert(id.clone()) {
            violations.push(format!("I3: {id} is at the exchange twice"));
        }
        let Some(reports) = reports.get(&id) else {
            violations.push(format!("I4: {id} is at the exchange and in no report"));
            continue;
        };
        let last = reports.last().cloned().unwrap_or_default();
        let ended = if order["status"] == "FILLED" { "Filled" } else { "Canceled" };
        if last["ord_status"] != ended || decimal(&last["cum_qty"]) != decimal(&order["executed"]) {
            violations.push(format!(
                "I4: {id} is {} with {} there, and {} with {} here",
                order["status"], order["executed"], last["ord_status"], last["cum_qty"]
            ));
        }
        let theirs: Vec<Decimal> = trades
            .as_array()
            .into_iter()
            .flatten()
            .filter(|trade| trade["client_id"] == order["client_id"])
            .map(|trade| decimal(&trade["fee"]))
            .collect();
        let ours: Vec<Decimal> = reports
            .iter()
            .filter(|report| report["exec_type"] == "Trade")
            .map(|report| decimal(&report["commission"]))
            .collect();
        if (ours.len(), ours.iter().sum::<Decimal>()) != (theirs.len(), theirs.iter().sum::<Decimal>()) {
            violations.push(format!("I4: {id} has {} fills there and {} here", theirs.len(), ours.len()));
        }
    }
    for (id, reports) in &reports {
        let is_filled = reports.iter().any(|report| report["exec_type"] == "Trade");
        if is_filled && !seen.contains(id) {
            violations.push(format!("I4: {id} has fills here and is not at the exchange"));
        }
    }
    violations
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The rounds as a table, one line for each kind of fault, and whether nothing was broken.
#[must_use]
pub fn table(rounds: &[Round]) -> (String, bool) {
    let mut lines = vec![format!(
        "{:<32} {:>6} {:>7} {:>12} {:>8} {:>10}",
        "FAULT", "ROUNDS", "ORDERS", "AT EXCHANGE", "SECONDS", "VIOLATIONS"
    )];
    let mut kinds: BTreeMap<Fault, (usize, usize, usize, u64, usize)> = BTreeMap::new();
    for round in rounds {
        let kind = kinds.entry(round.fault).or_default();
        kind.0 += 1;
        kind.1 += round.orders;
        kind.2 += round.at_exchange;
        kind.3 += round.took.as_secs();
        kind.4 += usize::from(!round.violations.is_empty());
    }
    for (fault, (count, orders, there, seconds, broken)) in &kinds {
        lines.push(format!("{:<32} {count:>6} {orders:>7} {there:>12} {seconds:>8} {broken:>10}", fault.name()));
    }
    let sum = |of: fn(&Round) -> usize| rounds.iter().map(of).sum::<usize>();
    let broken = rounds.iter().filter(|round| !round.violations.is_empty()).count();
    let (orders, there) = (sum(|round| round.orders), sum(|round| round.at_exchange));
    let seconds: u64 = rounds.iter().map(|round| round.took.as_secs()).sum();
    lines.push(format!("{:<32} {:>6} {orders:>7} {there:>12} {seconds:>8} {broken:>10}", "all", rounds.len()));
    (lines.join("\n"), broken == 0)
}
