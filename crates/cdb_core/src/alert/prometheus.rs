//! The same rules for Prometheus, and unit tests of them for `promtool`, both made from the rules. What differs: Prometheus
//! extrapolates growth, and it does not know that a position is unknown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rust_decimal::Decimal;

use super::rule::{Bad, Measure, Rule, Selector};

/// Said at the top of what is generated.
const HEADER: &str = "# Made from crates/cdb_core/src/alert/rules.toml by `CDB_WRITE_GENERATED=1 cargo test -p cdb_core --test alert_files`.\n\
                      # yamllint disable rule:line-length\n";
/// The step of the tests.
const STEP_MS: i64 = 15_000;
/// Where a test puts the instance, so that two services' series differ.
const INSTANCE: &str = "instance";
/// What an alert of a rule with `by` is about in a test.
const ABOUT: &str = "one";

/// The rules as a rule file.
#[must_use]
pub fn rules(rules: &[Rule]) -> String {
    let mut text = format!("{HEADER}groups:\n  - name: cdb\n    rules:\n");
    for rule in rules {
        let _ = write!(text, "      - alert: {}\n        expr: {}\n", rule.name, quoted(&expression(rule)));
        if rule.for_ms > 0 {
            let _ = writeln!(text, "        for: {}", duration(rule.for_ms));
        }
        if rule.clear_for_ms > 0 {
            let _ = writeln!(text, "        keep_firing_for: {}", duration(rule.clear_for_ms));
        }
        let _ = write!(
            text,
            "        labels: {{severity: {}}}\n        annotations: {{summary: {}, runbook: {}}}\n",
            rule.level,
            quoted(&rule.title),
            quoted(&rule.runbook)
        );
    }
    text
}

/// A text as YAML's double-quoted scalar, which JSON's strings are.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn duration(ms: i64) -> String {
    if ms % 1_000 == 0 { format!("{}s", ms.div_euclid(1_000)) } else { format!("{ms}ms") }
}

/// `name{label="value"}`.
fn series(selector: &Selector, suffix: &str) -> String {
    let labels: Vec<String> =
        selector.labels.iter().map(|(label, value)| format!("{label}={}", quoted(value))).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    format!("{}{suffix}{labels}", selector.metric)
}

/// The condition; while the alert fires, the milder one that keeps it firing.
fn expression(rule: &Rule) -> String {
    let fires = condition(rule, rule.threshold);
    if rule.clear == rule.threshold {
        return fires;
    }
    let on = rule.by.as_deref().unwrap_or_default();
    let firing = format!("ALERTS{{alertname=\"{}\",alertstate=\"firing\"}}", rule.name);
    format!("({fires}) or (({}) and on ({on}) {firing})", condition(rule, rule.clear))
}

fn condition(rule: &Rule, bound: Decimal) -> String {
    let by = rule.by.as_ref().map(|by| format!(" by ({by})")).unwrap_or_default();
    let sign = match rule.bad {
        Bad::AtLeast => ">=",
        Bad::Below => "<",
    };
    let bound = bound.saturating_mul(rule.divide_by).normalize();
    match &rule.measure {
        Measure::Increase { of, window_ms } => format!("{} {sign} {bound}", growth(of, *window_ms, &by)),
        Measure::Ratio { part, whole, window_ms, min_sample } => {
            let (part, whole) = (growth(part, *window_ms, ""), growth(whole, *window_ms, ""));
            format!("{part} / ({whole} >= {min_sample}) {sign} {bound}")
        }
        Measure::Quantile { of, quantile, window_ms, min_sample } => {
            let window = duration(*window_ms);
            let on = rule.by.as_deref().unwrap_or_default();
            let comma = if on.is_empty() { "" } else { ", " };
            let (buckets, count) = (series(of, "_bucket"), series(of, "_count"));
            let rate = format!("sum by (le{comma}{on}) (rate({buckets}[{window}]))");
            let enough = format!("sum{by} (increase({count}[{window}])) >= {min_sample}");
            format!("(histogram_quantile({quantile}, {rate}) {sign} {bound}) and on ({on}) ({enough})")
        }
        Measure::Value { of, is_absolute } => {
            let worst = match rule.bad {
                Bad::AtLeast => "max",
                Bad::Below => "min",
            };
            let gauge = |selector: &Selector| {
                let gauge = series(selector, "");
                if *is_absolute { format!("abs({gauge})") } else { gauge }
            };
            let each = of.iter().map(|selector| format!("{worst}{by} ({}) {sign} {bound}", gauge(selector)));
            each.collect::<Vec<_>>().join(" or ")
        }
    }
}

/// By how much counters grew: what `increase` sees, and what a series born within the window was born with.
fn growth(of: &[Selector], window_ms: i64, by: &str) -> String {
    let window = duration(window_ms);
    let each = of.iter().map(|selector| {
        let counter = series(selector, "");
        let grown = format!("sum{by} (increase({counter}[{window}]))");
        let born = format!("sum{by} (min_over_time({counter}[{window}]) unless {counter} offset {window})");
        if by.is_empty() {
            format!("(({grown} or vector(0)) + ({born} or vector(0)))")
        } else {
            format!("(({grown} + {born}) or {grown} or {born})")
        }
    });
    let sum = each.collect::<Vec<_>>().join(" + ");
    if of.len() > 1 { format!("({sum})") } else { sum }
}

/// One `promtool` case.
struct Case {
    /// What it shows.
    name: &'static str,
    /// Series and their values.
    input: Vec<(String, String)>,
    fires: bool,
}

/// Unit tests of the rules: for each at least one case that fires and one that stays silent.
#[must_use]
pub fn tests(rules: &[Rule], rule_file: &str) -> String {
    let mut text = format!("{HEADER}rule_files: [{rule_file}]\nevaluation_interval: 15s\ntests:\n");
    for rule in rules {
        for case in cases(rule) {
            let at_ms = begins_ms(rule).saturating_add(rule.for_ms).saturating_add(4 * STEP_MS);
            let _ = write!(
                text,
                "  - name: {}\n    interval: 15s\n    input_series:\n",
                quoted(&format!("{}: {}", rule.name, case.name))
            );
            for (series, values) in &case.input {
                let _ = writeln!(text, "      - {{series: {}, values: {}}}", quoted(series), quoted(values));
            }
            let _ = write!(
                text,
                "    alert_rule_test:\n      - eval_time: {}\n        alertname: {}\n        exp_alerts:{}\n",
                duration(at_ms),
                rule.name,
                if case.fires { "" } else { " []" }
            );
            if case.fires {
                let about = rule.by.as_ref().map(|by| format!(", {by}: {ABOUT}")).unwrap_or_default();
                let _ = write!(
                    text,
                    "          - exp_labels: {{severity: {}{about}}}\n            exp_annotations: {{summary: {}, runbook: {}}}\n",
                    rule.level,
                    quoted(&rule.title),
                    quoted(&rule.runbook)
                );
            }
        }
    }
    text
}

/// When what a test is about begins, ms: before, there is a whole window without it.
fn begins_ms(rule: &Rule) -> i64 {
    match &rule.measure {
        Measure::Increase { window_ms, .. }
        | Measure::Ratio { window_ms, .. }
        | Measure::Quantile { window_ms, .. } => {
            // With a little more, so that the beginning lies before the window.
            window_ms.saturating_add(2 * STEP_MS)
        }
        Measure::Value { .. } => 0,
    }
}

/// Steps in a time, and some more.
fn steps(ms: i64) -> i64 {
    ms.checked_div(STEP_MS).unwrap_or(0)
}

fn cases(rule: &Rule) -> Vec<Case> {
    let bound = rule.threshold.saturating_mul(rule.divide_by).normalize();
    match &rule.measure {
        Measure::Increase { of, .. } => increase_cases(rule, of, bound),
        Measure::Ratio { part, whole, min_sample, .. } => ratio_cases(rule, part, whole, *min_sample),
        Measure::Quantile { of, min_sample, .. } => quantile_cases(rule, of, *min_sample, bound),
        Measure::Value { of, is_absolute } => value_cases(rule, of, *is_absolute, bound),
    }
}

/// A series of a test, told from the same series of another service.
fn in_test(rule: &Rule, selector: &Selector, suffix: &str, more: &[(&str, &str)]) -> String {
    let mut labels = selector.labels.clone();
    labels.insert(INSTANCE.to_owned(), selector.metric.split('_').take(2).collect::<Vec<_>>().join("_"));
    if let Some(by) = &rule.by {
        labels.insert(by.clone(), ABOUT.to_owned());
    }
    labels.extend(more.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())));
    series(&Selector { metric: selector.metric.clone(), labels }, suffix)
}

/// 0 for a window, then this for good.
fn jump(rule: &Rule, to: Decimal) -> String {
    format!("0+0x{} {to}+0x{}", steps(begins_ms(rule)), steps(rule.for_ms).saturating_add(8))
}

fn increase_cases(rule: &Rule, of: &[Selector], bound: Decimal) -> Vec<Case> {
    let first = |values: String| {
        let rest = of.iter().skip(1).map(|other| (in_test(rule, other, "", &[]), jump(rule, Decimal::ZERO)));
        of.iter().take(1).map(|first| (in_test(rule, first, "", &[]), values.clone())).chain(rest).collect()
    };
    let just_less = bound.saturating_sub(Decimal::ONE);
    let (bad, good) = match rule.bad {
        Bad::AtLeast => (bound, just_less),
        Bad::Below => (just_less, bound),
    };
    let mut cases = vec![
        Case { name: "fires", input: first(jump(rule, bad)), fires: true },
        Case { name: "silent", input: first(jump(rule, good)), fires: false },
    ];
    if rule.bad == Bad::AtLeast {
        let (before, after) = (steps(begins_ms(rule)), steps(rule.for_ms).saturating_add(8));
        let born = format!("_x{before} {bad}+0x{after}");
        let again = format!("57+0x{before} 58 0 {bad}+0x{after}");
        cases.push(Case { name: "fires when the series is born with it (FL-AL-05)", input: first(born), fires: true });
        cases.push(Case { name: "fires after a restart (FL-AL-05)", input: first(again), fires: true });
        let each = of.iter().skip(1).map(|other| Case {
            name: "fires by another counter",
            input: vec![(in_test(rule, other, "", &[]), jump(rule, bad))],
            fires: true,
        });
        cases.extend(each);
    }
    cases
}

fn ratio_cases(rule: &Rule, part: &[Selector], whole: &[Selector], min_sample: Decimal) -> Vec<Case> {
    let all = min_sample.max(Decimal::ONE_HUNDRED);
    let input = |bad: Decimal, all: Decimal| {
        let mut values: BTreeMap<&Selector, Decimal> = whole.iter().map(|of| (of, Decimal::ZERO)).collect();
        let rest = if part.iter().any(|of| whole.contains(of)) { all.saturating_sub(bad) } else { all };
        if let Some(of) = whole.iter().find(|of| !part.contains(of)) {
            values.insert(of, rest);
        }
        values.extend(part.iter().take(1).map(|of| (of, bad)));
        values.into_iter().map(|(of, value)| (in_test(rule, of, "", &[]), jump(rule, value))).collect()
    };
    let at = all.saturating_mul(rule.threshold);
    let few = min_sample.saturating_sub(Decimal::ONE);
    vec![
        Case { name: "fires", input: input(at.saturating_add(Decimal::ONE).trunc(), all), fires: true },
        Case { name: "silent", input: input(at.saturating_sub(Decimal::ONE).trunc(), all), fires: false },
        Case { name: "silent with too few, whatever their share", input: input(few, few), fires: false },
    ]
}

fn quantile_cases(rule: &Rule, of: &Selector, min_sample: Decimal, bound: Decimal) -> Vec<Case> {
    let all = min_sample.max(Decimal::ONE_HUNDRED);
    let input = |within: Decimal, all: Decimal| {
        let beyond = bound.saturating_mul(Decimal::TWO).normalize().to_string();
        let bound = bound.to_string();
        let bucket = |le: &str, count: Decimal| (in_test(rule, of, "_bucket", &[("le", le)]), jump(rule, count));
        let count = (in_test(rule, of, "_count", &[]), jump(rule, all));
        vec![bucket(&bound, within), bucket(&beyond, all), bucket("+Inf", all), count]
    };
    let few = min_sample.saturating_sub(Decimal::ONE);
    let Measure::Quantile { quantile, .. } = rule.measure else { return Vec::new() };
    let at = all.saturating_mul(quantile).trunc();
    vec![
        Case { name: "fires", input: input(at.saturating_sub(Decimal::ONE), all), fires: true },
        Case { name: "silent", input: input(at.saturating_add(Decimal::ONE), all), fires: false },
        Case { name: "silent with too few", input: input(Decimal::ZERO, few), fires: false },
    ]
}

fn value_cases(rule: &Rule, of: &[Selector], is_absolute: bool, bound: Decimal) -> Vec<Case> {
    let nearly = bound.saturating_mul(Decimal::new(99, 2)).normalize();
    let (bad, good, harmless) = match rule.bad {
        Bad::AtLeast => (bound, nearly, Decimal::ZERO),
        Bad::Below => (nearly, bound, bound.saturating_mul(Decimal::TWO)),
    };
    let bad = if is_absolute { Decimal::ZERO.saturating_sub(bad) } else { bad };
    let steps = steps(rule.for_ms).saturating_add(8);
    let with = |which: usize, value: Decimal| {
        let value = |at: usize| if at == which { value } else { harmless };
        of.iter().enumerate().map(|(at, of)| (in_test(rule, of, "", &[]), format!("{}+0x{steps}", value(at)))).collect()
    };
    let each = (0..of.len()).map(|which| Case { name: "fires", input: with(which, bad), fires: true });
    each.chain([Case { name: "silent", input: with(0, good), fires: false }]).collect()
}
