//! Every query of every panel, and of every rule, asked at a real Prometheus that scrapes a running cell and at its
//! ledger as the role that Grafana has: each gives data or is marked as empty while nothing happened, and none names a
//! metric that no service exports.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cdb_tests::cell::Cell;
use cdb_tests::metrics::samples;
use cdb_tests::orders::{market_buy, resting_buy};
use cdb_tests::prometheus_server::{Prometheus, missing};
use cdb_tests::sql::Role;
use serde_json::{Value, json};

/// How the generator marks a panel that may have nothing to show.
const EMPTY: &str = "Empty while nothing of the kind has happened.";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn dashboards() -> Vec<(String, Value)> {
    let files = fs::read_dir(root().join("deploy/grafana/dashboards")).unwrap().map(|file| file.unwrap().path());
    let mut all: Vec<_> = files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .map(|(name, json)| (name, serde_json::from_slice(&json).unwrap()))
        .collect();
    all.sort_by(|one: &(String, Value), other| one.0.cmp(&other.0));
    all
}

/// Names of our metrics in an expression.
fn metrics_in(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| ["cdb_risk_", "cdb_execution_", "cdb_monitor_"].iter().any(|it| word.starts_with(it))).collect()
}

/// The expressions of a rule file: what follows `expr:` on its line, or indented below it.
fn expressions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((indent, rest)) = line.split_once("expr:") else { continue };
        if !indent.trim().trim_start_matches('-').trim().is_empty() {
            continue;
        }
        let rest = rest.trim();
        let mut expression = if rest.starts_with(['|', '>']) { String::new() } else { rest.to_owned() };
        let depth = |line: &str| line.len() - line.trim_start().len();
        while let Some(next) = lines.next_if(|next| !next.trim().is_empty() && depth(next) > indent.len()) {
            expression = format!("{expression} {}", next.trim());
        }
        let expression = expression.trim();
        let is_quoted = expression.len() > 1 && expression.starts_with(['\'', '"']);
        let bare = if is_quoted { &expression[1..expression.len() - 1] } else { expression };
        let (two, one) = if expression.starts_with('\'') { ("''", "'") } else { ("\\\"", "\"") };
        found.push(if is_quoted { bare.replace(two, one) } else { bare.to_owned() });
    }
    found
}

#[test]
fn expressions_are_found_on_their_line_and_below() {
    let text = "rules:\n  - alert: A\n    expr: up == 0\n    for: 1m\n  - alert: B\n    expr: |-\n      sum(x)\n        > 1\n    for: 1m\n  - expr: 'a{b=\"c\"}'\n    text: the expr: of x\n";
    assert_eq!(expressions(text), ["up == 0", "sum(x) > 1", "a{b=\"c\"}"]);
}

#[test]
fn what_is_committed_is_what_the_generator_writes_and_every_panel_has_its_source() {
    let checked = Command::new(root().join("scripts/grafana-dashboards")).arg("--check").output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    // FL-AL-09: a dashboard whose data source is not provisioned.
    let sources = fs::read_to_string(root().join("deploy/grafana/provisioning/datasources/cdb.yml")).unwrap();
    let titles: Vec<_> = dashboards().iter().map(|(_, one)| one["title"].as_str().unwrap().to_owned()).collect();
    let mut wanted = ["Execution and exchange", "Risk limits", "Security and keys", "System", "Trading"];
    wanted.sort_unstable();
    let mut titles = titles;
    titles.sort();
    assert_eq!(titles, wanted);
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{file}: its uid is taken");
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let uid = target["datasource"]["uid"].as_str().unwrap();
                assert!(sources.contains(&format!("uid: {uid}\n")), "{file}: {} asks {uid}", panel["title"]);
            }
        }
    }
}

#[tokio::test]
async fn every_panel_has_data_on_a_running_cell_and_no_rule_names_what_is_not_exported() {
    if let Some(why) = missing() {
        println!("SKIPPED: there is no Prometheus here and it cannot be installed: {why}");
        return;
    }
    let cell = Cell::start().await;
    let prometheus = Prometheus::of(&cell).await;
    for n in 0..4 {
        cell.put(&market_buy(&format!("panel-{n}"), "0.002").to_string()).await;
    }
    cell.put(&resting_buy("panel-rests", "0.01").to_string()).await;
    let mut refused = market_buy("panel-refused", "0.002");
    refused["symbol"] = json!("DOGEUSDT");
    cell.put(&refused.to_string()).await;
    cell.until("it rests", async || cell.state_of("panel-rests").await.as_deref() == Some("New")).await;
    cell.until("the equity was sampled", async || cell.sql(Role::Reader, "SELECT count(*) FROM equity") != "0").await;
    cell.until_ledger_is_level().await;
    let mut exported = BTreeSet::new();
    for service in ["cdb_risk", "cdb_execution", "cdb_monitor"] {
        exported.extend(samples(&cell.http(service, "/metrics").await).into_iter().map(|sample| sample.name));
    }
    // A rate needs two samples that tell of it.
    let rate = "sum(rate(cdb_execution_sends_total[1m])) > 0";
    cell.until("Prometheus has seen it", async || prometheus.ask(rate).await.is_ok_and(|series| !series.is_empty()))
        .await;

    let (mut faults, mut empty, mut asked) = (Vec::new(), Vec::new(), 0);
    for (file, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            let place = format!("{file}, {}", panel["title"].as_str().unwrap());
            let may_be_empty = panel["description"].as_str().is_some_and(|text| text.contains(EMPTY));
            for target in panel["targets"].as_array().unwrap() {
                asked += 1;
                let rows = match (target["expr"].as_str(), target["rawSql"].as_str()) {
                    (Some(expression), None) => {
                        let unknown: Vec<_> =
                            metrics_in(expression).into_iter().filter(|name| !exported.contains(*name)).collect();
                        if !unknown.is_empty() {
                            faults.push(format!("{place}: {unknown:?} is not exported"));
                        }
                        let expression = expression.replace("$__rate_interval", "1m").replace("$__range", "5m");
                        prometheus.ask(&expression).await.map(|series| series.len())
                    }
                    (None, Some(query)) => rows_of(&cell, query),
                    _ => Err("neither PromQL nor SQL".to_owned()),
                };
                match rows {
                    Err(problem) => faults.push(format!("{place}: {problem}")),
                    Ok(0) if may_be_empty => empty.push(place.clone()),
                    Ok(0) => faults.push(format!("{place}: no data from {target}")),
                    Ok(_) => {}
                }
            }
        }
    }
    for file in fs::read_dir(root().join("deploy/prometheus")).unwrap().map(|file| file.unwrap().path()) {
        let text = if file.is_file() { fs::read_to_string(&file).unwrap() } else { continue };
        for expression in expressions(&text) {
            asked += 1;
            let unknown: Vec<_> =
                metrics_in(&expression).into_iter().filter(|name| !exported.contains(*name)).collect();
            if !unknown.is_empty() {
                faults.push(format!("{}: {unknown:?} is not exported", file.display()));
            }
            // A rule is empty while all is well.
            if let Err(problem) = prometheus.ask(&expression).await {
                faults.push(format!("{}: {expression}: {problem}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    println!("{asked} queries; nothing to show yet: {empty:#?}");
    assert!(asked > 90, "{asked} queries were found");
}

/// Rows of a panel's query, asked as Grafana's role.
fn rows_of(cell: &Cell, query: &str) -> Result<usize, String> {
    let mut sql = query.to_owned();
    while let Some(at) = sql.find("$__timeFilter(") {
        let end = at + sql[at..].find(')').ok_or("no end of $__timeFilter")?;
        let column = sql[at + "$__timeFilter(".len()..end].to_owned();
        sql.replace_range(at..=end, &format!("{column} BETWEEN now() - interval '6 hours' AND now()"));
    }
    let output = cell.psql(Role::Reader, &format!("SELECT count(*) FROM ({sql}) panel"));
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|error| format!("{error}"))
}
