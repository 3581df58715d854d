//! Rules against samples: the guide's eight at their figures and just below, properties of the state machine.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;
use crate::alert::Level;
use crate::alert::page;
use crate::alert::rules_file;

/// A desk that is watched, second by second.
struct Desk {
    evaluator: Evaluator,
    /// Series as they stand, by target.
    pages: BTreeMap<&'static str, BTreeMap<String, Decimal>>,
    now: Timestamp,
}

impl Desk {
    fn new(own: &str) -> Self {
        let evaluator = Evaluator::new(rules_file::read(own).unwrap(), &BTreeSet::new());
        Self { evaluator, pages: BTreeMap::new(), now: Timestamp::from_millis(1_700_000_000_000) }
    }

    fn set(&mut self, series: &str, value: &str) -> &mut Self {
        let target = ["cdb_risk", "cdb_execution", "cdb_monitor"].into_iter().find(|name| series.starts_with(name));
        self.pages.entry(target.unwrap()).or_default().insert(series.to_owned(), value.parse().unwrap());
        self
    }

    /// Reads all pages and looks, once.
    fn look(&mut self) -> Vec<Change> {
        for (target, page) in &self.pages {
            let page: Vec<_> = page.iter().map(|(text, value)| (page::series(text).unwrap(), *value)).collect();
            self.evaluator.read(target, &page, self.now);
        }
        self.evaluator.evaluate(self.now)
    }

    /// Looks each second for so long; the alerts that were raised (`+`) and resolved (`-`).
    fn run(&mut self, seconds: i64) -> Vec<String> {
        let mut moved = Vec::new();
        for _ in 0..seconds {
            self.now = self.now.plus_ms(1_000);
            let word = |change: &Change| match change.moved {
                Moved::Raised(_) => format!("+{}", change.alert),
                Moved::Resolved(_) => format!("-{}", change.alert),
            };
            moved.extend(self.look().iter().map(word));
        }
        moved
    }
}

/// Switches on what is shipped switched off, of the guide's eight.
const KEY_AGE: &str = "[api_key_rotation_overdue]\nenabled = true\n";

/// Sets series, and looks for this long.
fn after(start: &[(&str, &str)], then: &[(&str, &str)], seconds: i64) -> Vec<String> {
    let mut desk = Desk::new(KEY_AGE);
    for (series, value) in start {
        desk.set(series, value);
    }
    assert_eq!(desk.run(1), Vec::<String>::new(), "the beginning is quiet");
    for (series, value) in then {
        desk.set(series, value);
    }
    desk.run(seconds)
}

/// Requirement 52: each of the guide's eight fires at its figure and at its level, stays silent just below, and resolves.
#[test]
fn the_guides_eight_fire_at_their_figures_and_not_below() {
    const LATENCY: &str = "cdb_execution_exchange_latency_seconds_bucket";
    let bucket = |le: &str| format!("{LATENCY}{{endpoint=\"POST order\",le=\"{le}\"}}");
    let (at_1, at_2, beyond) = (bucket("1"), bucket("2"), bucket("+Inf"));
    let latency = [(at_1.as_str(), "0"), (&at_2, "0"), (&beyond, "0")];
    type Row<'a> = (&'a str, Level, Vec<(&'a str, &'a str)>, Vec<(&'a str, &'a str)>, Vec<(&'a str, &'a str)>);
    let (rejected, approved) = ("cdb_risk_rejected_total{reason=\"x\"}", "cdb_risk_approved_total");
    let (sends, failures) = ("cdb_execution_sends_total", "cdb_execution_failures_total");
    let loss = "cdb_risk_daily_loss_ppm";
    let (redis, redis_too) = ("cdb_monitor_redis_errors_total", "cdb_execution_redis_errors_total");
    let postgres = "cdb_monitor_postgres_errors_total";
    let (forged, log_ins) = (
        "cdb_execution_security_total{kind=\"bad_signature\"}",
        "cdb_execution_security_total{kind=\"exchange_auth\"}",
    );
    let denied = "cdb_monitor_acl_denied_total";
    let age = "cdb_monitor_key_age_seconds";
    let rows: [Row; 8] = [
        (
            "order_rejection_rate",
            Level::Warning,
            vec![(rejected, "0"), (approved, "0")],
            vec![(rejected, "199"), (approved, "801")],
            vec![(rejected, "200"), (approved, "800")],
        ),
        (
            "execution_failure_rate",
            Level::Critical,
            vec![(sends, "0"), (failures, "0")],
            vec![(sends, "1000"), (failures, "99")],
            vec![(sends, "1000"), (failures, "100")],
        ),
        ("daily_loss_pct", Level::Critical, vec![(loss, "0")], vec![(loss, "49999")], vec![(loss, "50000")]),
        (
            "api_latency_ms/POST order",
            Level::Warning,
            latency.to_vec(),
            vec![(&at_1, "951"), (&at_2, "1000"), (&beyond, "1000")],
            vec![(&at_1, "950"), (&at_2, "1000"), (&beyond, "1000")],
        ),
        (
            "redis_connection_errors",
            Level::Critical,
            vec![(redis, "0"), (redis_too, "0")],
            vec![(redis, "1"), (redis_too, "1")],
            vec![(redis, "2"), (redis_too, "1")],
        ),
        (
            "postgres_connection_errors",
            Level::Critical,
            vec![(postgres, "0")],
            vec![(postgres, "2")],
            vec![(postgres, "3")],
        ),
        (
            "unauthorized_access_attempts",
            Level::Critical,
            vec![(forged, "0"), (log_ins, "0"), (denied, "0")],
            vec![(forged, "2"), (log_ins, "1"), (denied, "1")],
            vec![(forged, "2"), (log_ins, "2"), (denied, "1")],
        ),
        ("api_key_rotation_overdue", Level::Warning, vec![(age, "1")], vec![(age, "7775999")], vec![(age, "7776000")]),
    ];
    let shipped = rules_file::read(KEY_AGE).unwrap();
    for (alert, level, start, below, at) in rows {
        let rule = shipped.iter().find(|rule| Some(rule.name.as_str()) == alert.split('/').next()).unwrap();
        assert_eq!(rule.level, level, "{alert}");
        assert_eq!(after(&start, &below, 5), Vec::<String>::new(), "{alert} just below");
        // 20 minutes after everything is as it was at first, or the window has passed.
        let mut desk = Desk::new(KEY_AGE);
        for (series, value) in &start {
            desk.set(series, value);
        }
        desk.run(1);
        for (series, value) in &at {
            desk.set(series, value);
        }
        assert_eq!(desk.run(5), vec![format!("+{alert}")], "{alert} at its figure");
        if matches!(rule.measure, Measure::Value { .. }) {
            for (series, value) in &start {
                desk.set(series, value);
            }
        }
        assert_eq!(desk.run(1_200), vec![format!("-{alert}")], "{alert} ends");
    }
}

#[test]
fn the_days_loss_warns_at_60_and_80_percent_of_its_limit() {
    let used = "cdb_risk_limit_used_ppm{limit=\"MAX_DAILY_LOSS_PCT\"}";
    assert_eq!(after(&[(used, "0")], &[(used, "599999")], 3), Vec::<String>::new());
    assert_eq!(after(&[(used, "0")], &[(used, "600000")], 3), ["+daily_loss_pct_60"]);
    assert_eq!(after(&[(used, "0")], &[(used, "800000")], 3), ["+daily_loss_pct_60", "+daily_loss_pct_80"]);
}

/// FL-AL-05: first failure after a restart never alerts.
#[test]
fn the_first_count_after_a_restart_is_an_increase() {
    let forged = "cdb_execution_findings_total{kind=\"foreign_order\"}";
    let raised = ["+foreign_order"];
    assert_eq!(after(&[(forged, "0")], &[(forged, "1")], 2), raised, "0 0 1");
    assert_eq!(after(&[("cdb_execution_sends_total", "0")], &[(forged, "1")], 2), raised, "born with 1");
    let mut desk = Desk::new("");
    desk.set(forged, "57").run(1);
    assert_eq!(desk.set(forged, "0").run(1), Vec::<String>::new());
    assert_eq!(desk.set(forged, "1").run(1), raised, "57 0 1");
    let mut desk = Desk::new("");
    desk.evaluator.missing("cdb_execution");
    assert_eq!(desk.set(forged, "1").run(1), raised, "the service was away when this watch began");
    let mut desk = Desk::new("");
    assert_eq!(desk.set(forged, "500").run(5), Vec::<String>::new(), "counted long before this watch began");
}

#[test]
fn too_small_a_sample_is_no_share() {
    let (rejected, approved) = ("cdb_risk_rejected_total", "cdb_risk_approved_total");
    let start = [(rejected, "0"), (approved, "0")];
    assert_eq!(after(&start, &[(rejected, "9")], 5), Vec::<String>::new(), "nine of nine");
    assert_eq!(after(&start, &[(rejected, "10")], 5), ["+order_rejection_rate"], "ten of ten");
}

#[test]
fn what_is_not_known_neither_raises_nor_resolves() {
    let (stopped, unknown) = ("cdb_monitor_stop_state{state=\"stopped\"}", "cdb_monitor_stop_state{state=\"unknown\"}");
    let mut desk = Desk::new("");
    desk.set(stopped, "0").set(unknown, "1");
    assert_eq!(desk.run(3), Vec::<String>::new());
    assert_eq!(desk.set(stopped, "1").set(unknown, "0").run(3), ["+stop_active"]);
    assert_eq!(desk.set(stopped, "0").set(unknown, "1").run(3), Vec::<String>::new(), "Redis went away: still stopped");
    desk.pages.clear();
    assert_eq!(desk.run(60), Vec::<String>::new(), "nothing is measured any more");
    assert_eq!(desk.set(stopped, "0").set(unknown, "0").run(3), ["-stop_active"]);
}

#[test]
fn each_service_has_its_own_alert_and_a_pending_one_is_forgotten() {
    let beat = |service: &str| format!("cdb_monitor_heartbeat_present{{service=\"{service}\"}}");
    let (risk, execution) = (beat("cdb_risk"), beat("cdb_execution"));
    let mut desk = Desk::new("");
    desk.set(&risk, "1").set(&execution, "1").run(1);
    assert_eq!(desk.set(&risk, "0").run(9), Vec::<String>::new());
    assert_eq!(desk.set(&risk, "1").run(1), Vec::<String>::new());
    assert_eq!(desk.set(&risk, "0").run(10), Vec::<String>::new());
    assert_eq!(desk.run(1), ["+service_silent/cdb_risk"]);
    assert_eq!(desk.set(&execution, "0").run(20), ["+service_silent/cdb_execution"]);
    assert_eq!(desk.set(&risk, "1").run(1), ["-service_silent/cdb_risk"]);
}

#[test]
fn an_alert_that_fired_before_a_restart_is_resolved_and_not_raised_again() {
    let stopped = "cdb_monitor_stop_state{state=\"stopped\"}";
    let firing = BTreeSet::from(["stop_active".to_owned(), "no_such_rule".to_owned()]);
    let mut desk = Desk::new("");
    desk.evaluator = Evaluator::new(rules_file::read("").unwrap(), &firing);
    assert_eq!(desk.set(stopped, "1").run(3), Vec::<String>::new());
    assert_eq!(desk.set(stopped, "0").run(3), ["-stop_active"]);
}

#[test]
fn the_owners_file_changes_adds_and_switches_off() {
    let own = "[daily_loss_pct]\nat_least = 0.03\nclear = 0.03\n[stop_active]\nenabled = false\n\
               [many_open]\nlevel = \"info\"\ntitle = \"many open orders\"\nvalue = \"cdb_execution_open_orders\"\nat_least = 3\n";
    let mut desk = Desk::new(own);
    desk.set("cdb_risk_daily_loss_ppm", "0").run(1);
    desk.set("cdb_risk_daily_loss_ppm", "30000").set("cdb_monitor_stop_state{state=\"stopped\"}", "1");
    desk.set("cdb_execution_open_orders", "3");
    assert_eq!(desk.run(2), ["+daily_loss_pct", "+many_open"]);
}

#[test]
fn every_fault_of_a_rule_file_is_named_at_once() {
    let own = "daily = 3\n[daily_loss_pct]\nat_least = \"much\"\nclear = 0.9\nsound = \"loud\"\n\
               [Bad-Name]\nlevel = \"red\"\n[x]\nlevel = \"info\"\ntitle = \"\"\nvalue = \"a b\"\nincrease = \"c\"\nbelow = 1\nfor = \"3 days\"\n\
               [api_latency_ms]\nquantile = 2\nmin_sample = 0\n[redis_connection_errors]\nwindow = \"2d\"\nby = \"x\"\nexplain = [\"gossip\"]\n";
    let faults = rules_file::read(own).unwrap_err();
    let expected = [
        "daily: must be a table",
        "daily_loss_pct.at_least: must be a number",
        "daily_loss_pct.sound: is no setting",
        "Bad-Name: a name has",
        "Bad-Name.level: must be info",
        "x.title: must be one line",
        "x.increase: exactly one",
        "x.for: must be a duration",
        "api_latency_ms.quantile: must lie",
        "api_latency_ms.min_sample: must be at least 1",
        "redis_connection_errors.window: must be a duration",
        "redis_connection_errors.by: goes with",
        "redis_connection_errors.explain: names no type",
    ];
    for fault in expected {
        assert!(faults.iter().any(|found| found.starts_with(fault)), "{fault} is missing in {faults:#?}");
    }
}

/// A gauge with room between its figures, that must be bad for 5 s and good for 4.
const STEADY: &str = "[steady]\nlevel = \"info\"\ntitle = \"t\"\nvalue = \"cdb_risk_g\"\nat_least = 10\nclear = 5\nfor = \"5s\"\nclear_for = \"4s\"\n";

proptest! {
    /// It fires exactly when it has been bad at every look for the duration, and ends exactly when it has been good for
    /// its own; between the figures nothing moves.
    #[test]
    fn it_fires_iff_the_condition_held_and_does_not_flap(values in prop::collection::vec(0_i64..15, 1..120)) {
        let mut desk = Desk::new(STEADY);
        let (mut bad, mut good, mut is_firing) = (0, 0, false);
        for value in values {
            let moved = desk.set("cdb_risk_g", &value.to_string()).run(1);
            bad = if value >= 10 { bad + 1 } else { 0 };
            good = if value < 5 { good + 1 } else { 0 };
            // The first look is at 0 s: held for 5 s is the sixth look.
            let expected = match is_firing {
                false if bad >= 6 => { is_firing = true; vec!["+steady"] }
                true if good >= 5 => { is_firing = false; bad = 0; vec!["-steady"] }
                _ => vec![],
            };
            if is_firing && !expected.is_empty() { good = 0; }
            prop_assert_eq!(moved, expected);
        }
    }

    /// While the value stays between the two figures, an alert stays as it is.
    #[test]
    fn nothing_moves_between_the_figures(is_firing: bool, values in prop::collection::vec(5_i64..10, 1..60)) {
        let mut desk = Desk::new(STEADY);
        if is_firing {
            prop_assert_eq!(desk.set("cdb_risk_g", "10").run(6), ["+steady"]);
        }
        for value in values {
            prop_assert_eq!(desk.set("cdb_risk_g", &value.to_string()).run(1), Vec::<String>::new());
        }
    }

    /// A window grows by what was counted in it, whatever restarts: never more, and at most one step's worth less.
    #[test]
    fn growth_is_what_was_counted(steps in prop::collection::vec((0_u64..4, prop::bool::weighted(0.1)), 1..200)) {
        let selector = Selector { metric: "a_total".to_owned(), labels: BTreeMap::new() };
        let (series, mut watch) = (page::series("a_total").unwrap(), Watch::default());
        let (mut value, mut counted, mut now) = (0_u64, 0_u64, Timestamp::from_millis(0));
        watch.read("t", &[(series.clone(), Decimal::ZERO)], |_| Some(100_000), now);
        for (grew, restarts) in steps {
            // A restart that is not seen as one (it counts to more than before) cannot be told from none.
            let is_seen = restarts && grew < value;
            value = if is_seen { grew } else { value + grew };
            counted += grew;
            now = now.plus_ms(10);
            watch.read("t", &[(series.clone(), value.into())], |_| Some(100_000), now);
        }
        prop_assert_eq!(watch.increase(std::slice::from_ref(&selector), 100_000, now), Some(counted.into()));
        prop_assert_eq!(watch.increase(&[selector], 100_000, now.plus_ms(100_000)), Some(Decimal::ZERO));
    }
}
