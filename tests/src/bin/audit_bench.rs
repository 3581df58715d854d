//! How fast the audit trail is, against the disk it stands on, in one run: appends that wait for the disk beside the disk's
//! own rate of group commits, and `cdb audit verify` of a million records.
//!
//! `just audit-bench [DIR]`; DIR is on the disk to measure.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cdb_core::audit::{Chain, file_name};
use cdb_core::time::Timestamp;
use cdb_core::verdict::digest;
use cdb_io::audit_log::{self, Entry};
use cdb_tests::cell::programs;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Who waits at one time.
const WAITING: [usize; 3] = [16, 64, 256];
/// Length of one measurement.
const SPELL: Duration = Duration::from_millis(1_500);
/// Measurements of each kind, one after the other in turn; the middle one counts.
const TURNS: usize = 5;
/// Orders of the trail to verify; each has five records.
const ORDERS: u64 = 200_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("cdb-audit-bench").tempdir_in(&parent)?;
    println!("on {}", parent.display());
    println!("{:>8} {:>22} {:>18} {:>8}", "WAITING", "DISK, RECORDS/S", "APPENDS/S", "SHARE");
    for waiting in WAITING {
        let (mut disk, mut ours) = (Vec::new(), Vec::new());
        for turn in 0..TURNS {
            disk.push(disk_rate(&dir.path().join(format!("raw-{waiting}-{turn}")), waiting)?);
            ours.push(append_rate(&dir.path().join(format!("log-{waiting}-{turn}")), waiting).await?);
        }
        let (disk, ours) = (middle(disk), middle(ours));
        println!("{waiting:>8} {disk:>22.0} {ours:>18.0} {:>7.0}%", 100.0 * ours / disk);
    }
    verify(&dir.path().join("million"))
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn submitted(id: &str, verdict: &str) -> (Value, Value) {
    let order = json!({
        "v": 1, "type": "new", "cl_ord_id": id, "strategy": "bench", "symbol": "BTCUSDT", "side": "BUY",
        "ord_type": "LIMIT", "tif": "GTC", "qty": "0.002", "price": "60000.00", "ts": 1_767_614_400_000_i64,
    });
    let claim = json!({
        "token": "e:1", "nonce": "0198f0000000700080000000000000", "granted_at": 1_767_614_400_000_i64,
        "timestamp": 1_767_614_400_000_i64, "recv_window": 2_000, "final_after": 1_767_614_412_000_i64,
    });
    (order, json!({"claim": claim, "verdict_entry": "1767614400000-0", "approval": {"verdict": verdict}}))
}

fn entry(task: usize, number: u32) -> Entry {
    let (order, result) = submitted(&format!("{task}-{number}"), &digest(b""));
    Entry { event_type: "ORDER_SUBMITTED", actor: None, order: Some(order), result: Some(result) }
}

/// Records a second when this many are written and synced together, again and again: what the disk can do.
fn disk_rate(path: &Path, waiting: usize) -> anyhow::Result<f64> {
    let (order, result) = submitted("disk-0000", &digest(b""));
    let line = Chain::genesis("cdb_execution", "bench")
        .append("ORDER_SUBMITTED", None, Some(&order), Some(&result), Timestamp::from_millis(1_767_614_400_000))
        .0;
    let bytes = line.repeat(waiting);
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let (begun, mut commits) = (Instant::now(), 0_u32);
    while begun.elapsed() < SPELL {
        file.write_all(bytes.as_bytes())?;
        file.sync_data()?;
        commits += 1;
    }
    let records = f64::from(commits) * f64::from(u32::try_from(waiting)?);
    let rate = records / begun.elapsed().as_secs_f64();
    drop(file);
    fs::remove_file(path)?;
    Ok(rate)
}

/// Records a second that are durable, when this many tasks append one after the other.
async fn append_rate(dir: &Path, waiting: usize) -> anyhow::Result<f64> {
    let (log, ended) = audit_log::open(dir, "cdb_execution", "bench")?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..waiting {
        let log = log.clone();
        tasks.spawn(async move {
            let mut count = 0_u32;
            let mut next = entry(task, count);
            while begun.elapsed() < SPELL {
                count += 1;
                // What is to be recorded next is made while the disk works, as orders come in while others wait.
                let (durable, prepared) = tokio::join!(log.record(next), async { entry(task, count) });
                durable?.spend();
                next = prepared;
            }
            Ok::<u32, audit_log::AuditEnded>(count)
        });
    }
    let mut records = 0.0;
    while let Some(count) = tasks.join_next().await {
        records += f64::from(count??);
    }
    let rate = records / begun.elapsed().as_secs_f64();
    drop(log);
    ended.wait().await?;
    fs::remove_dir_all(dir)?;
    Ok(rate)
}

/// Writes a million records in two chains and has `cdb audit verify` read them.
fn verify(dir: &Path) -> anyhow::Result<()> {
    let start = Timestamp::from_millis(1_767_614_400_000);
    let open = |chain: &str| -> anyhow::Result<BufWriter<fs::File>> {
        fs::create_dir_all(dir.join(chain))?;
        Ok(BufWriter::new(fs::File::create(dir.join(chain).join(file_name(start.day())))?))
    };
    let (mut risk, mut execution) = (open("cdb_risk")?, open("cdb_execution")?);
    let mut of_risk = Chain::genesis("cdb_risk", "bench");
    let mut of_execution = Chain::genesis("cdb_execution", "bench");
    for number in 0..ORDERS {
        let id = format!("b-{number}");
        let verdict =
            json!({"v": 1, "cl_ord_id": id, "decision": "approved", "detail": "within every limit"}).to_string();
        let result = json!({"decision": "approved", "verdict": verdict});
        risk.write_all(of_risk.append("VERDICT", None, None, Some(&result), start).0.as_bytes())?;
        let (order, result) = submitted(&id, &digest(verdict.as_bytes()));
        let mut lines = of_execution.append("ORDER_SUBMITTED", None, Some(&order), Some(&result), start).0;
        let mut report = json!({
            "v": 1, "cl_ord_id": id, "order_id": format!("C02__{number}"), "exec_id": format!("{id}:1"), "exec_type": "New",
            "ord_status": "New", "in_doubt": false, "strategy": "bench", "symbol": "BTCUSDT", "side": "BUY",
            "ord_type": "LIMIT", "tif": "GTC", "order_qty": "0.002", "price": "60000.00", "cum_qty": "0",
            "leaves_qty": "0.002", "source": "rest", "mode": "paper", "transact_time": 1, "ts": 1,
        });
        lines.push_str(&of_execution.append("ORDER_ACKNOWLEDGED", None, None, Some(&report), start).0);
        for (trade, status, cum_qty) in [(1, "PartiallyFilled", "0.001"), (2, "Filled", "0.002")] {
            report["exec_type"] = "Trade".into();
            report["ord_status"] = status.into();
            report["cum_qty"] = cum_qty.into();
            report["last_qty"] = "0.001".into();
            report["trade_id"] = format!("{number}-{trade}").into();
            lines.push_str(&of_execution.append("ORDER_FILLED", None, None, Some(&report), start).0);
        }
        execution.write_all(lines.as_bytes())?;
    }
    risk.flush()?;
    execution.flush()?;
    let bytes: u64 = ["cdb_risk", "cdb_execution"]
        .iter()
        .map(|chain| fs::metadata(dir.join(chain).join(file_name(start.day()))).map(|file| file.len()))
        .sum::<std::io::Result<u64>>()?;
    let program = programs().join("cdb");
    let begun = Instant::now();
    let output = Command::new(&program).args(["audit", "verify"]).arg(dir).output();
    let output = output.with_context(|| format!("running {}", program.display()))?;
    let took = begun.elapsed();
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("cdb audit verify: {} records, {} MB, in {:.1} s", ORDERS * 5, bytes / 1_000_000, took.as_secs_f64());
    Ok(())
}
