//! Rules out of TOML: the ones that come with this version, and over them the owner's file, which may change single
//! settings of a rule, switch it off, or add one. Every fault of a file is named at once.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use toml::{Table, Value};

use super::Level;
use super::page;
use super::rule::{Bad, Measure, Rule, Selector};
use crate::event::EventType;

/// The rules that come with this version.
pub const SHIPPED: &str = include_str!("rules.toml");
/// Rules at most.
const RULES_MAX: usize = 200;
/// Longest window, and longest wait, ms: a day.
const DURATION_MS_MAX: i64 = 86_400_000;
/// Longest title, characters.
const TITLE_CHARS_MAX: usize = 120;
/// Everything that a rule may say.
const KNOWN: [&str; 20] = [
    "enabled",
    "level",
    "title",
    "increase",
    "part",
    "whole",
    "value",
    "quantile_of",
    "quantile",
    "absolute",
    "window",
    "min_sample",
    "divide_by",
    "at_least",
    "below",
    "clear",
    "for",
    "clear_for",
    "by",
    "explain",
];

/// The shipped rules, with the owner's file over them.
///
/// # Errors
/// Every fault, each with the rule and the setting.
pub fn read(own: &str) -> Result<Vec<Rule>, Vec<String>> {
    let table = |text: &str| text.parse::<Table>().map_err(|error| vec![format!("is no TOML: {}", error.message())]);
    let mut rules = table(SHIPPED)?;
    let mut faults = Vec::new();
    for (name, given) in table(own)? {
        match given {
            Value::Table(given) => match rules.entry(&name).or_insert_with(|| Value::Table(Table::new())) {
                Value::Table(rule) => rule.extend(given),
                _ => faults.push(format!("{name}: is no table")),
            },
            _ => faults.push(format!("{name}: must be a table, as in [{name}]")),
        }
    }
    if rules.len() > RULES_MAX {
        faults.push(format!("has more than {RULES_MAX} rules"));
    }
    let mut read = Vec::new();
    for (name, rule) in rules {
        let Value::Table(rule) = rule else { continue };
        if let Some(rule) = Reader::new(&name, &rule, &mut faults).rule() {
            read.push(rule);
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

/// Reads one rule.
struct Reader<'a> {
    name: &'a str,
    rule: &'a Table,
    faults: &'a mut Vec<String>,
    /// How many faults there were before this rule.
    before: usize,
}

impl<'a> Reader<'a> {
    fn new(name: &'a str, rule: &'a Table, faults: &'a mut Vec<String>) -> Self {
        let before = faults.len();
        Self { name, rule, faults, before }
    }

    fn fault(&mut self, setting: &str, text: &str) {
        let setting: String = setting.chars().filter(|c| !c.is_control()).take(40).collect();
        self.faults.push(format!("{}.{setting}: {text}", self.name));
    }

    /// The rule; `None` when it is switched off or has faults.
    fn rule(mut self) -> Option<Rule> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_plain) {
            self.faults.push(format!("{}: a name has small letters, digits and _", self.name.escape_default()));
        }
        let known: BTreeSet<&str> = KNOWN.into_iter().chain(["runbook"]).collect();
        for unknown in self.rule.keys().filter(|key| !known.contains(key.as_str())) {
            self.fault(unknown, "is no setting of a rule");
        }
        let measure = self.measure();
        let (bad, threshold) = self.threshold();
        let clear = self.number("clear").unwrap_or(threshold);
        let (is_wrong, side) = match bad {
            Bad::AtLeast => (clear > threshold, "not above at_least"),
            Bad::Below => (clear < threshold, "not below below"),
        };
        if is_wrong {
            self.fault("clear", &format!("must be {side}: otherwise it would flap"));
        }
        let divide_by = self.number("divide_by").unwrap_or(Decimal::ONE);
        if divide_by <= Decimal::ZERO {
            self.fault("divide_by", "must be above 0");
        }
        let default_runbook = "docs/operations.md#alert-rules".to_owned();
        let rule = Rule {
            name: self.name.to_owned(),
            level: self.level(),
            title: self.title(),
            divide_by,
            bad,
            threshold,
            clear,
            for_ms: self.duration("for").unwrap_or(0),
            clear_for_ms: self.duration("clear_for").unwrap_or(0),
            by: self.by(),
            explain: self.explain(),
            runbook: self.text("runbook").unwrap_or(default_runbook),
            measure: measure?,
        };
        let is_enabled = self.is_true("enabled", true);
        (is_enabled && self.faults.len() == self.before).then_some(rule)
    }

    fn measure(&mut self) -> Option<Measure> {
        let given: Vec<&str> = ["increase", "part", "value", "quantile_of"]
            .into_iter()
            .filter(|setting| self.rule.contains_key(*setting))
            .collect();
        let [given] = given.as_slice() else {
            self.fault("increase", "exactly one of increase, part with whole, value, quantile_of must be there");
            return None;
        };
        let uses: &[&str] = match *given {
            "increase" => &["window"],
            "part" => &["whole", "window", "min_sample"],
            "quantile_of" => &["quantile", "window", "min_sample"],
            _ => &["absolute"],
        };
        for setting in ["whole", "window", "min_sample", "quantile", "absolute"] {
            if self.rule.contains_key(setting) && !uses.contains(&setting) {
                self.fault(setting, &format!("means nothing beside {given}"));
            }
        }
        let of = self.selectors(given);
        match *given {
            "increase" => Some(Measure::Increase { of, window_ms: self.window() }),
            "part" => Some(Measure::Ratio {
                part: of,
                whole: self.selectors("whole"),
                window_ms: self.window(),
                min_sample: self.min_sample(),
            }),
            "quantile_of" => {
                let quantile = self.number("quantile").unwrap_or_default();
                if quantile <= Decimal::ZERO || quantile >= Decimal::ONE {
                    self.fault("quantile", "must lie between 0 and 1");
                }
                if of.len() > 1 {
                    self.fault("quantile_of", "must be one histogram");
                }
                let (window_ms, min_sample) = (self.window(), self.min_sample());
                Some(Measure::Quantile { of: of.into_iter().next()?, quantile, window_ms, min_sample })
            }
            _ => Some(Measure::Value { of, is_absolute: self.is_true("absolute", false) }),
        }
    }

    fn threshold(&mut self) -> (Bad, Decimal) {
        match (self.number("at_least"), self.number("below")) {
            (Some(threshold), None) => (Bad::AtLeast, threshold),
            (None, Some(threshold)) => (Bad::Below, threshold),
            (None, None) | (Some(_), Some(_)) => {
                self.fault("at_least", "exactly one of at_least and below must be there");
                (Bad::AtLeast, Decimal::ZERO)
            }
        }
    }

    fn level(&mut self) -> Level {
        let level = self.text("level").and_then(|text| Level::parse(&text));
        level.unwrap_or_else(|| {
            self.fault("level", "must be info, warning or critical");
            Level::Critical
        })
    }

    fn title(&mut self) -> String {
        let title = self.text("title").unwrap_or_default();
        if title.is_empty() || title.chars().count() > TITLE_CHARS_MAX || title.chars().any(char::is_control) {
            self.fault("title", "must be one line of 1 to 120 characters");
        }
        title
    }

    fn by(&mut self) -> Option<String> {
        let by = self.text("by")?;
        let is_one = |setting: &str| matches!(self.rule.get(setting), Some(Value::Array(of)) if of.len() > 1);
        if self.rule.contains_key("part") || is_one("increase") {
            self.fault("by", "goes with one selector of increase, with value or with quantile_of");
        }
        Some(by)
    }

    fn explain(&mut self) -> Vec<EventType> {
        let words = self.texts("explain");
        let mut explain = Vec::new();
        for word in words {
            match EventType::ALL.iter().find(|event_type| event_type.as_str() == word) {
                Some(event_type) => explain.push(*event_type),
                None => self.fault("explain", "names no type of event"),
            }
        }
        explain
    }

    fn window(&mut self) -> i64 {
        self.duration("window").filter(|window_ms| *window_ms > 0).unwrap_or_else(|| {
            self.fault("window", "must be a duration above 0");
            1
        })
    }

    fn min_sample(&mut self) -> Decimal {
        self.number("min_sample").filter(|min_sample| *min_sample >= Decimal::ONE).unwrap_or_else(|| {
            self.fault("min_sample", "must be at least 1");
            Decimal::ONE
        })
    }

    fn selectors(&mut self, setting: &str) -> Vec<Selector> {
        let mut selectors = Vec::new();
        let texts = self.texts(setting);
        if texts.is_empty() {
            self.fault(setting, "must name at least one metric");
        }
        for text in texts {
            match page::series(&text) {
                Some(page::Series { metric, labels }) => selectors.push(Selector { metric, labels }),
                None => self.fault(setting, "must be written as metric or metric{label=\"value\"}"),
            }
        }
        selectors
    }

    fn text(&mut self, setting: &str) -> Option<String> {
        match self.rule.get(setting)? {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.fault(setting, "must be a text");
                None
            }
        }
    }

    /// One text or several.
    fn texts(&mut self, setting: &str) -> Vec<String> {
        let texts = match self.rule.get(setting) {
            None => return Vec::new(),
            Some(Value::String(text)) => Some(vec![text.clone()]),
            Some(Value::Array(texts)) => texts.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        texts.unwrap_or_else(|| {
            self.fault(setting, "must be a text or a list of texts");
            Vec::new()
        })
    }

    fn is_true(&mut self, setting: &str, default: bool) -> bool {
        match self.rule.get(setting) {
            None => default,
            Some(Value::Boolean(is_true)) => *is_true,
            Some(_) => {
                self.fault(setting, "must be true or false");
                default
            }
        }
    }

    fn number(&mut self, setting: &str) -> Option<Decimal> {
        let number = match self.rule.get(setting)? {
            Value::Integer(number) => Some(Decimal::from(*number)),
            // The shortest text that means this float: the digits that were written.
            Value::Float(number) => number.to_string().parse().ok(),
            Value::String(text) => text.parse().ok(),
            Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
        };
        if number.is_none() {
            self.fault(setting, "must be a number");
        }
        number
    }

    fn duration(&mut self, setting: &str) -> Option<i64> {
        let text = self.text(setting)?;
        let duration = duration_ms(&text).filter(|ms| *ms <= DURATION_MS_MAX);
        if duration.is_none() {
            self.fault(setting, "must be a duration up to 24h, as 500ms, 30s, 5m, 24h");
        }
        duration
    }
}

/// Reads `500ms`, `30s`, `5m`, `24h`, `90d`.
#[must_use]
pub fn duration_ms(text: &str) -> Option<i64> {
    let units: BTreeMap<&str, i64> =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)].into();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    number.parse::<i64>().ok()?.checked_mul(*units.get(unit)?)
}
