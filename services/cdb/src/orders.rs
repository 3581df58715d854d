//! Orders and cancels, from flags or from files of JSON lines; waits for what becomes of them and says so.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use cdb_core::time::Timestamp;
use cdb_io::bus::{Bus, keys};
use cdb_io::clock;
use cdb_io::operator::fresh_id;
use serde_json::{Map, Value, json};

use crate::arguments::{At, CancelAllOptions, CancelOptions, NewOptions};
use crate::cell::Cell;
use crate::connect;
use crate::outcome::{FAILURE, REFUSED, Result, UNREACHABLE, USAGE, WithCode as _, end};
use crate::output;
use crate::watch::{Story, Watch, standing};

/// Longest wait for a verdict.
const VERDICT_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for an approved order's end.
const END_WAIT: Duration = Duration::from_secs(30);
/// How long an open limit order is watched before it is called open.
const OPEN_WAIT: Duration = Duration::from_millis(1_500);

/// Puts one command on the stream; its entry id.
pub async fn put(bus: &Bus, json: &str) -> Result<String> {
    let mut command = redis::cmd("XADD");
    command.arg(keys::ORDERS).arg("*").arg("json").arg(json);
    command.query_async(&mut bus.commands()).await.code(UNREACHABLE)
}

/// What a person wants to know of one command.
pub struct Seen {
    /// Everything learnt of the order.
    pub story: Story,
    /// Why nothing came of it, when it is a dead letter.
    pub dead: Option<String>,
}

/// Waits until an order has ended, rests at the exchange, or is a dead letter.
pub async fn follow(watch: &mut Watch, entry: &str, id: &str, is_resting: bool) -> Result<Seen> {
    let is_answered = |watch: &Watch| {
        watch.stories.get(id).is_some_and(|story| story.verdict.is_some()) || watch.dead_letter(entry, id).is_some()
    };
    if !watch.until(VERDICT_WAIT, is_answered).await? {
        return Err(end(UNREACHABLE, format!("no verdict on {id} within {VERDICT_WAIT:?}; is cdb_risk running?")));
    }
    let is_over = |watch: &Watch| watch.story(id).is_over() || watch.dead_letter(entry, id).is_some();
    if is_resting {
        let is_open = |watch: &Watch| watch.story(id).status().is_some();
        watch.until(END_WAIT, |watch| is_open(watch) || is_over(watch)).await?;
        watch.until(OPEN_WAIT, is_over).await?;
    } else {
        watch.until(END_WAIT, is_over).await?;
    }
    let dead = watch.dead_letter(entry, id).map(|letter| letter.text.clone());
    Ok(Seen { story: watch.story(id), dead })
}

/// Waits for what a cancel did to its order.
pub async fn follow_cancel(watch: &mut Watch, entry: &str, cancel: &str, target: &str) -> Result<Seen> {
    let is_over = |watch: &Watch| {
        let story = watch.story(target);
        let is_refused = story.cancel_outcome(cancel).is_some_and(|report| report.reason.is_some());
        story.is_over() || is_refused || watch.dead_letter(entry, cancel).is_some() || watch.story(cancel).is_refused()
    };
    watch.until(END_WAIT, is_over).await?;
    let dead = watch.dead_letter(entry, cancel).map(|letter| letter.text.clone());
    Ok(Seen { story: watch.story(target), dead })
}

/// One line of input as a command: a missing `ts` becomes the present time.
pub fn stamped(object: &Map<String, Value>, now: Timestamp) -> String {
    let mut object = object.clone();
    if object.get("type").and_then(Value::as_str) == Some("new") && !object.contains_key("ts") {
        object.insert("ts".to_owned(), json!(now));
    }
    Value::Object(object).to_string()
}

/// `cdb order new`
pub async fn new(at: &At, options: NewOptions) -> Result {
    let lines = match &options.file {
        Some(path) => read_lines(path)?,
        None => vec![from_flags(&options)?],
    };
    let cell = Cell::read(&at.cell)?;
    let bus = connect::redis(&cell, "operator").await?;
    let mut watch = Watch::begin(&bus).await?;
    let mut refused = 0_usize;
    let mut rows = Vec::new();
    for line in &lines {
        // What is not even an object is passed on as it is: risk answers it with a dead letter that names the fault.
        let object = serde_json::from_str::<Map<String, Value>>(line).ok();
        let text = object.as_ref().map_or_else(|| line.clone(), |object| stamped(object, clock::now()));
        let field = |name: &str| object.as_ref().and_then(|object| object.get(name)).and_then(Value::as_str);
        let id = field("cl_ord_id").unwrap_or_default().to_owned();
        let is_resting = field("tif") == Some("GTC");
        let entry = put(&bus, &text).await?;
        let seen = match field("type") {
            Some("cancel") => {
                let target = field("orig_cl_ord_id").unwrap_or_default().to_owned();
                follow_cancel(&mut watch, &entry, &id, &target).await?
            }
            Some("cancel_all") => follow(&mut watch, &entry, &id, true).await?,
            _ => follow(&mut watch, &entry, &id, is_resting).await?,
        };
        let is_refused = seen.dead.is_some()
            || seen.story.is_refused()
            || seen.story.status() == Some(cdb_core::report::OrdStatus::Rejected);
        refused += usize::from(is_refused);
        if at.json {
            output::json(&story_json(&id, &seen));
        } else {
            rows.push(story_row(&id, &seen));
        }
    }
    if !at.json {
        output::table(&["cl_ord_id", "verdict", "outcome", "detail"], &rows);
    }
    if refused > 0 {
        return Err(end(REFUSED, format!("{refused} of {} refused", lines.len())));
    }
    Ok(())
}

/// `cdb order cancel`
pub async fn cancel(at: &At, options: CancelOptions) -> Result {
    let cell = Cell::read(&at.cell)?;
    let bus = connect::redis(&cell, "operator").await?;
    let mut watch = Watch::begin(&bus).await?;
    let (id, target) = (fresh_id(), options.orig_cl_ord_id);
    let command = json!({"v": 1, "type": "cancel", "cl_ord_id": id, "orig_cl_ord_id": target});
    let entry = put(&bus, &command.to_string()).await?;
    let seen = follow_cancel(&mut watch, &entry, &id, &target).await?;
    show(at, &target, &seen);
    match (seen.dead, seen.story.cancel_outcome(&id).and_then(|report| report.reason.clone())) {
        (Some(text), _) => Err(end(REFUSED, text)),
        (None, Some(reason)) => Err(end(REFUSED, reason)),
        (None, None) if seen.story.is_over() => Ok(()),
        (None, None) => Err(end(FAILURE, "the order has not ended yet; look again with `cdb orders`")),
    }
}

/// `cdb order cancel-all`
pub async fn cancel_all(at: &At, options: CancelAllOptions) -> Result {
    let cell = Cell::read(&at.cell)?;
    let bus = connect::redis(&cell, "operator").await?;
    let mut watch = Watch::begin(&bus).await?;
    let id = fresh_id();
    let mut command = json!({"v": 1, "type": "cancel_all", "cl_ord_id": id});
    if let Some(symbol) = options.symbol {
        command["symbol"] = json!(symbol);
    }
    let entry = put(&bus, &command.to_string()).await?;
    let is_answered = |watch: &Watch| watch.story(&id).verdict.is_some() || watch.dead_letter(&entry, &id).is_some();
    if !watch.until(VERDICT_WAIT, is_answered).await? {
        return Err(end(UNREACHABLE, "no verdict; is cdb_risk running?"));
    }
    // Every order that the cancel names ends, or says why not.
    watch.until(OPEN_WAIT, |watch| watch.dead_letter(&entry, &id).is_some()).await?;
    let touched: Vec<(&String, &Story)> =
        watch.stories.iter().filter(|(_, story)| story.cancel_outcome(&id).is_some()).collect();
    if at.json {
        let orders: Vec<_> =
            touched.iter().map(|(id, story)| json!({"cl_ord_id": id, "outcome": standing(story)})).collect();
        output::json(&json!({"cancelled": orders}));
    } else if touched.is_empty() {
        println!("no open orders");
    } else {
        let rows: Vec<_> = touched.iter().map(|(id, story)| vec![(*id).clone(), standing(story)]).collect();
        output::table(&["cl_ord_id", "outcome"], &rows);
    }
    Ok(())
}

fn show(at: &At, id: &str, seen: &Seen) {
    if at.json {
        output::json(&story_json(id, seen));
    } else {
        output::table(&["cl_ord_id", "verdict", "outcome", "detail"], &[story_row(id, seen)]);
    }
}

fn story_json(id: &str, seen: &Seen) -> Value {
    let verdict = seen.story.verdict.as_ref();
    json!({
        "cl_ord_id": id,
        "decision": verdict.map(|verdict| &verdict.decision),
        "reason": verdict.and_then(|verdict| verdict.reason.as_ref()),
        "detail": verdict.map(|verdict| &verdict.detail),
        "dead_letter": seen.dead,
        "ord_status": seen.story.status(),
        "reports": seen.story.reports,
    })
}

fn story_row(id: &str, seen: &Seen) -> Vec<String> {
    let verdict = seen.story.verdict.as_ref();
    let decision = match (verdict, &seen.dead) {
        (_, Some(_)) => "unreadable".to_owned(),
        (Some(verdict), None) => verdict.reason.clone().unwrap_or_else(|| verdict.decision.clone()),
        (None, None) => "-".to_owned(),
    };
    let detail = seen.dead.clone().or_else(|| verdict.map(|verdict| verdict.detail.clone())).unwrap_or_default();
    vec![id.to_owned(), decision, standing(&seen.story), detail]
}

fn read_lines(path: &Path) -> Result<Vec<String>> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).code(USAGE)?;
        text
    } else {
        std::fs::read_to_string(path).map_err(|error| end(USAGE, format!("{}: {error}", path.display())))?
    };
    let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() { Err(end(USAGE, format!("{} holds no orders", path.display()))) } else { Ok(lines) }
}

fn from_flags(options: &NewOptions) -> Result<String> {
    let id = options.cl_ord_id.clone().unwrap_or_else(fresh_id);
    let mut order = json!({
        "v": 1, "type": "new", "cl_ord_id": id, "strategy": options.strategy, "symbol": options.symbol,
        "side": options.side, "ord_type": if options.market { "MARKET" } else { "LIMIT" },
    });
    let mut set = |name: &str, value: Option<&String>| {
        if let Some(value) = value {
            order[name] = json!(value);
        }
    };
    set("qty", options.qty.as_ref());
    set("quote_qty", options.quote_qty.as_ref());
    set("price", options.price.as_ref());
    if !options.market {
        if options.price.is_none() {
            return Err(end(USAGE, "a limit order needs --price; or give --market"));
        }
        set("tif", Some(&options.tif));
    }
    if options.post_only {
        order["post_only"] = json!(true);
    }
    if options.reduce_only {
        order["reduce_only"] = json!(true);
    }
    Ok(order.to_string())
}
