//! `cdb replay`: every decision of a day, made again from what was recorded of it.

use std::collections::BTreeMap;

use cdb_core::second_opinion::Opinion;
use cdb_core::time::UtcDay;
use cdb_io::review::Review;
use serde_json::json;

use crate::arguments::{At, ReplayOptions};
use crate::desk::operator;
use crate::outcome::{Result, UNREACHABLE, VERIFICATION, WithCode as _, end};
use crate::output;

/// Lists that are longer are cut; the counts are whole.
const LISTED_MAX: usize = 50;

/// Decides again and compares.
pub async fn run(at: &At, options: ReplayOptions) -> Result {
    let (_, bus) = operator(at).await?;
    let mut review = Review::of(&bus);
    let mut counts: BTreeMap<&str, u64> = Opinion::WORDS.iter().map(|word| (*word, 0)).collect();
    let mut rows = Vec::new();
    while let Some(page) = review.next().await.code(UNREACHABLE)? {
        for (entry, reviewed) in page {
            let (day, time, order, opinion) = match reviewed {
                Ok(reviewed) => {
                    (reviewed.ts.day(), reviewed.ts.to_rfc3339(), reviewed.cl_ord_id.to_string(), reviewed.opinion)
                }
                Err(problem) => {
                    let (ms, _) = entry.position();
                    let ts = cdb_core::time::Timestamp::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
                    (ts.day(), ts.to_rfc3339(), "-".to_owned(), Opinion::Differs(format!("not readable: {problem}")))
                }
            };
            if options.day.is_some_and(|wanted| wanted != day) {
                continue;
            }
            *counts.entry(opinion.word()).or_default() += 1;
            if opinion != Opinion::Same {
                rows.push(vec![time, order, opinion.word().to_owned(), opinion.to_string()]);
            }
        }
    }
    show(at, options.day, &counts, &rows)
}

fn show(at: &At, day: Option<UtcDay>, counts: &BTreeMap<&str, u64>, rows: &[Vec<String>]) -> Result {
    let of = |word: &str| counts.get(word).copied().unwrap_or_default();
    let findings = of("differs") + of("other_figures");
    if at.json {
        let listed: Vec<_> = rows
            .iter()
            .map(|row| json!({"ts": row[0], "cl_ord_id": row[1], "opinion": row[2], "text": row[3]}))
            .collect();
        output::json(&json!({"day": day.map(|day| day.to_string()), "counts": counts, "not_the_same": listed}));
    } else {
        if !rows.is_empty() {
            output::table(&["TIME", "ORDER", "OPINION", "WHY"], &rows[..rows.len().min(LISTED_MAX)]);
        }
        if rows.len() > LISTED_MAX {
            println!("... and {} more; --json lists all", rows.len() - LISTED_MAX);
        }
        let total: u64 = counts.values().sum();
        let text = format!("{total} decisions made again: {} the same, {findings} not", of("same"));
        println!("{}", if findings == 0 { output::green(&text) } else { output::red(&text) });
        if of("cannot_tell") > 0 {
            println!("{} cannot be made again for want of records", of("cannot_tell"));
        }
    }
    let message = if at.json { String::new() } else { "risk decided otherwise than its own rules say".to_owned() };
    if findings == 0 { Ok(()) } else { Err(end(VERIFICATION, message)) }
}
