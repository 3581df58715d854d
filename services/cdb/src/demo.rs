//! The sample orders: each is sent, followed, shown, and compared with what the sample file says must become of it.

use std::path::Path;
use std::time::Duration;

use cdb_core::report::OrdStatus;
use cdb_io::bus::Bus;
use cdb_io::operator::fresh_id;
use cdb_io::{audit_files, clock};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::arguments::{At, ResumeOptions, StopOptions, StopScope};
use crate::cell::Cell;
use crate::connect;
use crate::desk;
use crate::orders::{Seen, follow, follow_cancel, put, stamped};
use crate::outcome::{FAILURE, Result, UNREACHABLE, USAGE, WithCode as _, end};
use crate::output;
use crate::watch::{Watch, standing_figures, standing_word};

/// Longest wait for the ledger to have everything.
const LEDGER_WAIT: Duration = Duration::from_secs(15);
/// Pause between two orders: strategies are throttled to two a second.
const PACE: Duration = Duration::from_millis(520);

/// One line of the sample file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    /// What it shows.
    note: String,
    /// A command; `{run}` in an id becomes unique to this run, a missing `ts` the present time.
    #[serde(default)]
    order: Option<Map<String, Value>>,
    /// Any bytes instead of a command.
    #[serde(default)]
    raw: Option<String>,
    /// `stop` or `resume` instead of a command.
    #[serde(default)]
    desk: Option<String>,
    /// An order sent before, whose end is waited for.
    #[serde(default)]
    look: Option<String>,
    /// What must become of it.
    #[serde(default)]
    expect: Expect,
    /// Follows the one before at once.
    #[serde(default)]
    at_once: bool,
    /// The bytes of the one before, once more.
    #[serde(default)]
    repeat: bool,
}

/// What must become of a sample.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// `approved`, a reason of refusal, or `dead_letter`.
    verdict: Option<String>,
    /// The order's state in the end.
    status: Option<OrdStatus>,
}

/// Runs the samples and prints table and summary.
pub async fn run(at: &At, path: &Path) -> Result {
    let text = std::fs::read_to_string(path).map_err(|error| end(USAGE, format!("{}: {error}", path.display())))?;
    let cell = Cell::read(&at.cell)?;
    let bus = connect::redis(&cell, "operator").await?;
    let mut watch = Watch::begin(&bus).await?;
    let run = fresh_id()[..10].to_owned();
    println!();
    println!("{}", output::bold(" #  order                                   verdict                  outcome"));
    let mut wrong = Vec::new();
    let mut count = 0_usize;
    let mut last_text = String::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line = line.replace("{run}", &run);
        let sample: Sample = serde_json::from_str(&line)
            .map_err(|error| end(USAGE, format!("{} line {}: {error}", path.display(), index + 1)))?;
        count += 1;
        if !sample.at_once {
            tokio::time::sleep(PACE).await;
        }
        let difference = one(at, &bus, &mut watch, count, &sample, &mut last_text).await?;
        wrong.extend(difference.map(|difference| format!("sample {count} ({}): {difference}", sample.note)));
    }
    summary(&cell, count, &wrong).await?;
    if wrong.is_empty() { Ok(()) } else { Err(end(FAILURE, wrong.join("\n"))) }
}

/// Sends one sample; how it differs from what must become of it.
async fn one(
    at: &At,
    bus: &Bus,
    watch: &mut Watch,
    number: usize,
    sample: &Sample,
    last_text: &mut String,
) -> Result<Option<String>> {
    if let Some(what) = &sample.desk {
        let (reason, scope) = (sample.note.clone(), StopScope::default());
        match what.as_str() {
            "stop" => desk::set_stop(bus, at, &StopOptions { reason, scope }).await?,
            "resume" => desk::clear_stop(bus, at, &ResumeOptions { reason, scope }).await?,
            other => return Err(end(USAGE, format!("sample {number}: desk {other} is neither stop nor resume"))),
        }
        println!("{number:>2}  {}", output::yellow(&format!("-- {what}: {} --", sample.note)));
        return Ok(None);
    }
    if let Some(id) = &sample.look {
        watch.until(Duration::from_secs(10), |watch| watch.story(id).is_over()).await?;
        let seen = Seen { story: watch.story(id), dead: None };
        show(number, &format!("(look at {id})"), "", &standing_word(&seen.story), &sample.note);
        return Ok(difference(&sample.expect, "", &seen));
    }
    let (text, order) = match (&sample.order, &sample.raw) {
        (Some(order), _) => (stamped(order, clock::now()), order.clone()),
        (None, Some(raw)) => (raw.clone(), serde_json::from_str(raw).unwrap_or_default()),
        (None, None) if sample.repeat => (last_text.clone(), serde_json::from_str(last_text).unwrap_or_default()),
        (None, None) => return Err(end(USAGE, format!("sample {number} has neither order, raw, repeat nor desk"))),
    };
    last_text.clone_from(&text);
    let field = |name: &str| order.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = field("cl_ord_id");
    let verdicts_before = watch.story(&id).verdicts;
    let entry = put(bus, &text).await?;
    let is_cancel = field("type") == "cancel";
    let seen = if is_cancel {
        follow_cancel(watch, &entry, &id, &field("orig_cl_ord_id")).await?
    } else {
        let is_answered =
            |watch: &Watch| watch.story(&id).verdicts > verdicts_before || watch.dead_letter(&entry, &id).is_some();
        watch.until(Duration::from_secs(10), is_answered).await?;
        follow(watch, &entry, &id, field("tif") == "GTC").await?
    };
    let verdict = verdict_word(watch, &id, &seen);
    let detail = seen.dead.clone().or_else(|| watch.story(&id).verdict.map(|verdict| verdict.detail));
    // A refusal of a second order under a used id says nothing about the first one's state.
    let is_told = is_cancel || !seen.story.is_refused();
    let outcome = if is_told { standing_word(&seen.story) } else { String::new() };
    let figures = if is_told { standing_figures(&seen.story) } else { String::new() };
    let told = [sample.note.clone(), detail.unwrap_or_default(), figures].into_iter().filter(|text| !text.is_empty());
    let told = told.collect::<Vec<_>>().join(": ");
    show(number, &describe(&order, &text), &verdict, &outcome, &told);
    Ok(difference(&sample.expect, &verdict, &seen))
}

/// `approved`, the reason of the refusal, or `dead_letter`.
fn verdict_word(watch: &Watch, id: &str, seen: &Seen) -> String {
    if seen.dead.is_some() {
        return "dead_letter".to_owned();
    }
    match watch.story(id).verdict {
        Some(verdict) => verdict.reason.unwrap_or(verdict.decision),
        None => "-".to_owned(),
    }
}

fn difference(expect: &Expect, verdict: &str, seen: &Seen) -> Option<String> {
    let status = seen.story.status();
    if expect.verdict.as_deref().is_some_and(|wanted| wanted != verdict) {
        let detail = seen.story.verdict.as_ref().map(|verdict| verdict.detail.clone()).unwrap_or_default();
        return Some(format!("verdict {verdict}, expected {}: {detail}", expect.verdict.as_deref().unwrap_or("-")));
    }
    if expect.status.is_some() && status != expect.status {
        return Some(format!("ended as {status:?}, expected {:?}", expect.status));
    }
    None
}

/// `BUY 0.002 BTCUSDT MARKET`
fn describe(order: &Map<String, Value>, text: &str) -> String {
    let word = |name: &str| match order.get(name) {
        Some(Value::String(word)) => word.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let description = match word("type").as_str() {
        "cancel" => format!("cancel {}", word("orig_cl_ord_id")),
        "cancel_all" => format!("cancel all {}", word("symbol")),
        "new" => {
            let quote_qty = order.get("quote_qty").map(|_| format!("for {}", word("quote_qty")));
            let size = quote_qty.unwrap_or_else(|| word("qty"));
            let price = if word("price").is_empty() { String::new() } else { format!(" {}", word("price")) };
            let tif = if word("tif").is_empty() || word("tif") == "GTC" {
                String::new()
            } else {
                format!(" {}", word("tif"))
            };
            format!("{} {size} {} {}{price}{tif}", word("side"), word("symbol"), word("ord_type"))
        }
        _ => text.to_owned(),
    };
    description.chars().filter(|c| !c.is_control()).take(38).collect()
}

fn show(number: usize, order: &str, verdict: &str, outcome: &str, explanation: &str) {
    let padded = format!("{verdict:<23}");
    let painted = if verdict == "approved" { output::green(&padded) } else { output::red(&padded) };
    println!("{number:>2}  {order:<38}  {painted}  {}", if outcome.is_empty() { "-" } else { outcome });
    for line in wrapped(explanation, 74) {
        println!("    {}", output::dim(&line));
    }
}

/// Lines of at most `width` characters, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

async fn summary(cell: &Cell, count: usize, wrong: &[String]) -> Result {
    let orders = ledger_caught_up(cell).await?;
    let decided = |decision: &str| orders.iter().filter(|order| order["decision"] == decision).count();
    let filled = orders.iter().filter(|order| order["ord_status"] == "Filled").count();
    println!();
    println!("{}", output::bold("Summary"));
    println!(
        "  {count} samples: {} orders approved, {} refused, {filled} filled",
        decided("approved"),
        decided("rejected")
    );
    let refusals = connect::view(cell, "/api/refusals").await?;
    let refusals: Vec<String> = refusals
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| format!("{} {}", output::cell(&row["reason"]), output::cell(&row["count"])))
        .collect();
    for (index, line) in wrapped(&refusals.join(", "), 66).iter().enumerate() {
        println!("  {} {line}", if index == 0 { "refused by" } else { "          " });
    }
    println!();
    desk::show_positions(&connect::view(cell, "/api/positions").await?);
    println!();
    let verifier = audit_files::verify_dir(&cell.audit_dir.join("cdb_execution"), |_| {}).code(FAILURE)?;
    let verdict = if verifier.faults().is_empty() { output::green("clean") } else { output::red("NOT CLEAN") };
    println!("  audit trail: {verdict}, {} records (check it again with `cdb audit verify`)", verifier.records());
    let outcome = if wrong.is_empty() {
        output::green("every sample ended as the file says it must")
    } else {
        output::red(&format!("{} sample(s) ended otherwise", wrong.len()))
    };
    println!("  {outcome}");
    Ok(())
}

/// The ledger's orders once their number no longer changes and none is still on its way.
async fn ledger_caught_up(cell: &Cell) -> Result<Vec<Value>> {
    let deadline = tokio::time::Instant::now() + LEDGER_WAIT;
    let mut before = usize::MAX;
    loop {
        let view = connect::view(cell, "/api/orders?limit=10000").await?;
        let orders = view.as_array().cloned().unwrap_or_default();
        let is_settled = orders.iter().all(|order| order["decision"] != "approved" || !order["ord_status"].is_null());
        if is_settled && orders.len() == before {
            return Ok(orders);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(end(UNREACHABLE, "the ledger did not catch up; is cdb_monitor running?"));
        }
        before = orders.len();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
