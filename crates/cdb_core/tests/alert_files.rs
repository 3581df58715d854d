//! What is generated from the alert rules is in the repository as it would be generated, and every rule has its line in the runbook.
#![expect(clippy::unwrap_used, reason = "a test fails by unwrapping")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use cdb_core::alert::{prometheus, rules_file};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// With `CDB_WRITE_GENERATED=1` the file is written instead.
fn must_be_current(path: &str, generated: &str) {
    let file = repository().join(path);
    if std::env::var_os("CDB_WRITE_GENERATED").is_some() {
        std::fs::write(&file, generated).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == generated,
        "{path} is not current: CDB_WRITE_GENERATED=1 cargo test -p cdb_core --test alert_files"
    );
}

#[test]
fn the_rules_for_prometheus_are_current() {
    let rules = rules_file::read("").unwrap();
    must_be_current("deploy/prometheus/alerts.yml", &prometheus::rules(&rules));
    must_be_current("deploy/prometheus/tests/alerts_test.yml", &prometheus::tests(&rules, "../alerts.yml"));
}

#[test]
fn every_rule_has_its_line_in_the_runbook_and_every_line_its_rule() {
    let names: Vec<String> = rules_file::SHIPPED.parse::<toml::Table>().unwrap().keys().cloned().collect();
    let on: BTreeSet<String> = rules_file::read("").unwrap().into_iter().map(|rule| rule.name).collect();
    // With those that are switched off.
    let all: String = names.iter().map(|name| format!("[{name}]\nenabled = true\n")).collect();
    let page = std::fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let section = page.split("\n## Alert rules\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut lines: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    for rule in rules_file::read(&all).unwrap() {
        assert_eq!(rule.runbook, "docs/operations.md#alert-rules", "{}", rule.name);
        let off = if on.contains(&rule.name) { "" } else { ", off" };
        let start = format!("| `{}` | {}{off} | {} | ", rule.name, rule.level, rule.title);
        let at = lines.iter().position(|line| line.starts_with(&start));
        let line = lines.remove(at.unwrap_or_else(|| panic!("no line begins with {start}")));
        assert!(line.len() > start.len() + 10, "{} says nothing to do", rule.name);
    }
    assert_eq!(lines, Vec::<&str>::new(), "lines without a rule");
}
