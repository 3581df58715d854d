//! `cdb keys status`: what the running services say of their secrets, and how old the ledger knows them to be.

use std::collections::BTreeMap;

use cdb_core::key_change::{AGE_ADVISED_DAYS, AGE_OVERDUE_DAYS};
use cdb_io::clock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::all_reported;
use crate::arguments::At;
use crate::connect;
use crate::desk::operator;
use crate::outcome::Result;
use crate::output;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Of all secrets the one with an age limit.
const EXCHANGE_KEY: &str = "MEXC_API_KEY";

/// One line of the ledger's list.
#[derive(Deserialize)]
struct Seen {
    secret: String,
    fingerprint: String,
    first_seen: i64,
}

/// One secret as a service uses it.
struct InUse {
    secret: String,
    service: String,
    fingerprint: String,
    report: Value,
    first_seen: Option<i64>,
}

impl InUse {
    fn age_days(&self, now_ms: i64) -> Option<i64> {
        self.first_seen.map(|first| now_ms.saturating_sub(first) / DAY_MS)
    }

    fn days_left(&self, now_ms: i64) -> Option<i64> {
        let has_limit = self.secret == EXCHANGE_KEY;
        self.age_days(now_ms).filter(|_| has_limit).map(|age| AGE_OVERDUE_DAYS.saturating_sub(age))
    }

    /// What an operator should know first.
    fn remark(&self, now_ms: i64) -> String {
        if let Some(refused) = self.report["refused"].as_str() {
            return output::red(&format!("REFUSED: {refused}"));
        }
        match self.days_left(now_ms) {
            Some(left) if left <= 0 => output::red(&format!("OVERDUE since {} days: rotate", -left)),
            Some(left) if left <= AGE_OVERDUE_DAYS - AGE_ADVISED_DAYS => {
                output::yellow(&format!("{left} days left to {AGE_OVERDUE_DAYS}: better rotated"))
            }
            Some(left) => format!("{left} days left to {AGE_OVERDUE_DAYS}"),
            None => String::new(),
        }
    }
}

/// Prints what is in use.
pub async fn run(at: &At) -> Result {
    let (cell, bus) = operator(at).await?;
    // Without the ledger the ages are unknown, and all else is as true.
    let ledger = connect::view(&cell, "/api/secrets").await;
    if let Err(problem) = &ledger {
        eprintln!("cdb: the ledger does not tell the ages: {}", problem.message);
    }
    let seen: Vec<Seen> = ledger.ok().and_then(|rows| serde_json::from_value(rows).ok()).unwrap_or_default();
    let first_seen: BTreeMap<(&str, &str), i64> =
        seen.iter().map(|row| ((row.secret.as_str(), row.fingerprint.as_str()), row.first_seen)).collect();
    let mut in_use = Vec::new();
    for service in cell.services.keys() {
        for (secret, report) in all_reported(&bus, service).await? {
            let fingerprint = report["fingerprint"].as_str().unwrap_or("unknown").to_owned();
            let first_seen = first_seen.get(&(secret.as_str(), fingerprint.as_str())).copied();
            in_use.push(InUse { secret, service: service.clone(), fingerprint, report, first_seen });
        }
    }
    in_use.sort_by_key(|one| (one.secret != EXCHANGE_KEY, one.secret.clone(), one.service.clone()));
    let now_ms = clock::now().millis();
    if at.json {
        let rows: Vec<Value> = in_use.iter().map(|one| as_json(one, now_ms)).collect();
        output::json(&json!({"secrets": rows}));
        return Ok(());
    }
    match in_use.iter().find(|one| one.secret == EXCHANGE_KEY) {
        Some(key) => about_exchange_key(key, now_ms),
        None => println!("{}", output::red("no cdb_execution says which exchange key it uses")),
    }
    println!();
    let rows: Vec<Vec<String>> = in_use
        .iter()
        .map(|one| {
            let age = one.age_days(now_ms).map_or_else(|| "unknown".to_owned(), |days| format!("{days} d"));
            vec![one.secret.clone(), one.service.clone(), one.fingerprint.clone(), age]
        })
        .collect();
    output::table(&["SECRET", "USED BY", "FINGERPRINT", "AGE"], &rows);
    Ok(())
}

fn as_json(one: &InUse, now_ms: i64) -> Value {
    let mut row = one.report.clone();
    row["secret"] = json!(one.secret);
    row["service"] = json!(one.service);
    row["first_seen"] = json!(one.first_seen);
    row["age_days"] = json!(one.age_days(now_ms));
    row["days_left"] = json!(one.days_left(now_ms));
    row
}

fn about_exchange_key(key: &InUse, now_ms: i64) {
    let report = &key.report;
    let ago = |name: &str| match report[name].as_i64() {
        Some(at) => span(now_ms.saturating_sub(at)) + " ago",
        None => "never".to_owned(),
    };
    let right = |name: &str| match report[name].as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let age = key.first_seen.map_or_else(|| "unknown".to_owned(), |first| span(now_ms.saturating_sub(first)));
    let generation = output::cell(&report["generation"]);
    println!("{}  {} (key no. {generation} of this run)", output::bold("exchange key "), key.fingerprint);
    println!("  {:<12} {age}  {}", "age", key.remark(now_ms));
    println!("  {:<12} {}", "last used", ago("last_used_at"));
    println!("  {:<12} {}", "proven", ago("proven_at"));
    println!("  {:<12} trade {}, withdraw {}", "rights", right("can_trade"), right("can_withdraw"));
    if let Some(fingerprint) = report["rejected"]["fingerprint"].as_str() {
        let reason = output::cell(&report["rejected"]["reason"]);
        println!("  {:<12} {}", "not taken", output::yellow(&short(&format!("{fingerprint}: {reason}"))));
    }
    if let Some(fault) = report["files_fault"].as_str() {
        println!("  {:<12} {}", "files", output::red(&short(fault)));
    }
}

/// At most what fits beside the names in 80 columns.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A duration in its largest unit.
fn span(ms: i64) -> String {
    let s = ms.max(0) / 1_000;
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(age_days: i64, now_ms: i64) -> InUse {
        InUse {
            secret: EXCHANGE_KEY.to_owned(),
            service: "cdb_execution".to_owned(),
            fingerprint: "0badcafe".to_owned(),
            report: Value::Null,
            first_seen: Some(now_ms - age_days * DAY_MS),
        }
    }

    #[test]
    fn days_are_counted_down_to_ninety_and_beyond() {
        let now_ms = 1_800_000_000_000;
        for (age, left, word) in
            [(0, 90, "left"), (29, 61, "left"), (30, 60, "better"), (90, 0, "OVERDUE"), (91, -1, "OVERDUE")]
        {
            let key = key(age, now_ms);
            assert_eq!(key.days_left(now_ms), Some(left));
            assert!(key.remark(now_ms).contains(word), "{age}: {}", key.remark(now_ms));
        }
        let other = InUse { secret: "VERDICT_KEY".to_owned(), ..key(400, now_ms) };
        assert_eq!(other.days_left(now_ms), None);
    }

    #[test]
    fn durations_are_told_in_their_largest_unit() {
        let of = |s: i64| span(s * 1_000);
        assert_eq!([of(5), of(300), of(7_200), of(172_800)], ["5 s", "5 min", "2 h", "2 days"]);
    }
}
