//! The owner's limits, read from names and texts (design §4). All faults are reported at once; a value that is
//! set but unreadable, a misspelt name, or two values that contradict each other stop the start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use crate::ids::{StrategyId, Symbol};
use crate::money::{Notional, parse_decimal};

/// Which strategies may trade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedStrategies {
    /// `*`
    Any,
    /// Only these; an empty set allows none.
    Only(BTreeSet<StrategyId>),
}

/// What resting buys become when the breaker opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitOpenAction {
    /// They stay.
    Hold,
    /// They are cancelled.
    Cancel,
}

/// One setting as it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// Its effective text.
    pub value: String,
    /// Whether the owner set it; otherwise the default holds.
    pub is_set: bool,
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The variable.
    pub name: String,
    /// What is wrong and what to do; never repeats the value.
    pub text: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}

/// How a variable's text is read.
#[derive(Clone, Copy)]
enum Shape {
    /// Decimal amount of quote currency above zero.
    Usd,
    /// Share above 0 and at most 1.
    Share,
    /// Whole number within the bounds.
    Whole { min: i64, max: i64 },
    /// Comma-separated symbols.
    Symbols,
    /// `*` or comma-separated strategy names.
    Strategies,
    /// `hold` or `cancel`.
    OpenAction,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident : $type:ty = $name:literal, $default:literal, $shape:expr;)+) => {
        /// Every limit of design §4.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$doc])* pub $field: $type,)+
        }

        /// Name, default and shape of every variable, in the order of the documentation.
        const VARIABLES: &[(&str, &str, Shape)] = &[$(($name, $default, $shape),)+];

        impl Limits {
            /// Reads the limits out of an environment; names that are not limits are left alone.
            ///
            /// # Errors
            /// Every fault found: unreadable values, misspelt names, contradictions.
            pub fn from_variables(environment: &BTreeMap<String, String>) -> Result<(Self, Vec<Setting>), Vec<ConfigFault>> {
                let mut reader = Reader::new(environment);
                let limits = Self { $($field: reader.value($name, $default, $shape)?,)+ };
                reader.refuse_misspelt();
                reader.refuse_contradictions(&limits);
                reader.finish(limits)
            }
        }
    };
}

limits! {
    /// Greatest resulting position per symbol, USD.
    max_position_size_usd: Notional = "MAX_POSITION_SIZE_USD", "1000", Shape::Usd;
    /// Greatest resulting position per symbol as a share of equity.
    max_position_pct: Decimal = "MAX_POSITION_PCT", "0.10", Shape::Share;
    /// Greatest sum of all positions and open buys as a share of equity.
    max_total_exposure: Decimal = "MAX_TOTAL_EXPOSURE", "0.30", Shape::Share;
    /// Smallest order, USD.
    min_order_size_usd: Notional = "MIN_ORDER_SIZE_USD", "10", Shape::Usd;
    /// Largest order, USD.
    max_order_size_usd: Notional = "MAX_ORDER_SIZE_USD", "500", Shape::Usd;
    /// Symbols that may be traded.
    allowed_symbols: BTreeSet<Symbol> = "ALLOWED_SYMBOLS", "BTCUSDT,ETHUSDT", Shape::Symbols;
    /// Strategies that may trade.
    allowed_strategies: AllowedStrategies = "ALLOWED_STRATEGIES", "*", Shape::Strategies;
    /// Approvals per UTC day, exits not counted.
    max_daily_orders: u64 = "MAX_DAILY_ORDERS", "50", Shape::Whole { min: 0, max: 1_000_000_000 };
    /// Approved notional per UTC day, USD, exits not counted.
    max_daily_notional_usd: Notional = "MAX_DAILY_NOTIONAL_USD", "10000", Shape::Usd;
    /// Orders open, reserved or in doubt at one time.
    max_open_orders: u64 = "MAX_OPEN_ORDERS", "20", Shape::Whole { min: 0, max: 500 };
    /// Approvals in any second, all strategies.
    max_orders_per_second: u64 = "MAX_ORDERS_PER_SECOND", "5", Shape::Whole { min: 1, max: 1_000_000 };
    /// Approvals in any second, one strategy.
    max_strategy_orders_per_second: u64 = "MAX_STRATEGY_ORDERS_PER_SECOND", "2", Shape::Whole { min: 1, max: 1_000_000 };
    /// Approved notional in any minute, USD, exits not counted.
    max_notional_per_minute_usd: Notional = "MAX_NOTIONAL_PER_MINUTE_USD", "2000", Shape::Usd;
    /// Approvals of one strategy for the same symbol, side, type and size in one window, exits not counted.
    max_repeated_orders: u64 = "MAX_REPEATED_ORDERS", "10", Shape::Whole { min: 1, max: 1_000_000 };
    /// That window, s.
    repeat_window_sec: i64 = "REPEAT_WINDOW_SEC", "60", Shape::Whole { min: 1, max: 3_600 };
    /// Furthest a limit price may be from the market, share.
    max_price_deviation_pct: Decimal = "MAX_PRICE_DEVIATION_PCT", "0.05", Shape::Share;
    /// Oldest usable price, ms.
    max_price_age_ms: i64 = "MAX_PRICE_AGE_MS", "5000", Shape::Whole { min: 100, max: 600_000 };
    /// Widest usable spread, share of the middle.
    max_spread_pct: Decimal = "MAX_SPREAD_PCT", "0.05", Shape::Share;
    /// Added to the aggressive price when a market order is valued, share.
    market_slippage_pct: Decimal = "MARKET_SLIPPAGE_PCT", "0.01", Shape::Share;
    /// Oldest acceptable order, ms since its `ts`.
    max_order_age_ms: i64 = "MAX_ORDER_AGE_MS", "10000", Shape::Whole { min: 100, max: 600_000 };
    /// How long a verdict may be acted on, ms.
    verdict_ttl_ms: i64 = "VERDICT_TTL_MS", "5000", Shape::Whole { min: 100, max: 60_000 };
    /// Window in which equal content is refused, ms.
    duplicate_window_ms: i64 = "DUPLICATE_WINDOW_MS", "2000", Shape::Whole { min: 0, max: 600_000 };
    /// Failures in a row that open the breaker.
    max_consecutive_failures: u64 = "MAX_CONSECUTIVE_FAILURES", "3", Shape::Whole { min: 1, max: 1_000 };
    /// Failures in any hour that open the breaker.
    max_failures_per_hour: u64 = "MAX_FAILURES_PER_HOUR", "10", Shape::Whole { min: 1, max: 10_000 };
    /// Loss since the start of the UTC day that opens the breaker, share of the day's first equity.
    max_daily_loss_pct: Decimal = "MAX_DAILY_LOSS_PCT", "0.05", Shape::Share;
    /// Fall from peak equity that opens the breaker, share.
    max_drawdown_pct: Decimal = "MAX_DRAWDOWN_PCT", "0.10", Shape::Share;
    /// How long a failure keeps the breaker open before a probe, s.
    recovery_timeout_sec: i64 = "RECOVERY_TIMEOUT_SEC", "300", Shape::Whole { min: 1, max: 86_400 };
    /// `recvWindow` of every signed request, ms.
    recv_window_ms: i64 = "RECV_WINDOW_MS", "2000", Shape::Whole { min: 500, max: 59_999 };
    /// What resting buys become when the breaker opens.
    circuit_open_action: CircuitOpenAction = "CIRCUIT_OPEN_ACTION", "hold", Shape::OpenAction;
}

/// Prefixes that only limits have; an unknown name with one of them is a misspelling.
const LIMIT_PREFIXES: [&str; 5] = ["MAX_", "MIN_", "ALLOWED_", "CIRCUIT_", "REPEAT_"];

struct Reader<'a> {
    environment: &'a BTreeMap<String, String>,
    faults: Vec<ConfigFault>,
    settings: Vec<Setting>,
}

/// A value read from one text; a placeholder stands in for an unreadable one so that reading can go on.
trait FromText: Sized {
    fn from_text(text: &str, shape: Shape) -> Result<Self, String>;
}

impl<'a> Reader<'a> {
    const fn new(environment: &'a BTreeMap<String, String>) -> Self {
        Self { environment, faults: Vec::new(), settings: Vec::new() }
    }

    /// The value of a variable; after a fault, its default, so that the remaining ones are read too.
    fn value<T: FromText>(&mut self, name: &'static str, default: &str, shape: Shape) -> Result<T, Vec<ConfigFault>> {
        let set = self.environment.get(name);
        let text = set.map_or(default, String::as_str).trim();
        self.settings.push(Setting { name, value: text.to_owned(), is_set: set.is_some() });
        match T::from_text(text, shape) {
            Ok(value) => Ok(value),
            Err(problem) => {
                self.faults.push(ConfigFault { name: name.to_owned(), text: problem });
                Ok(T::from_text(default, shape).expect("every default is readable; a test reads them all"))
            }
        }
    }

    fn refuse_misspelt(&mut self) {
        for name in self.environment.keys() {
            let is_known = VARIABLES.iter().any(|(known, ..)| known == name);
            let looks_like_a_limit = LIMIT_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if is_known || !looks_like_a_limit {
                continue;
            }
            let nearest =
                VARIABLES.iter().map(|(known, ..)| *known).min_by_key(|known| strsim::levenshtein(known, name));
            let text = format!("is no known limit; did you mean {}?", nearest.unwrap_or_default());
            self.faults.push(ConfigFault { name: name.clone(), text });
        }
    }

    fn refuse_contradictions(&mut self, limits: &Limits) {
        let mut contradict = |holds: bool, name: &str, text: &str| {
            if !holds {
                self.faults.push(ConfigFault { name: name.to_owned(), text: text.to_owned() });
            }
        };
        contradict(
            limits.min_order_size_usd <= limits.max_order_size_usd,
            "MIN_ORDER_SIZE_USD",
            "is greater than MAX_ORDER_SIZE_USD, so no order could pass",
        );
        contradict(
            limits.max_order_size_usd <= limits.max_position_size_usd,
            "MAX_ORDER_SIZE_USD",
            "is greater than MAX_POSITION_SIZE_USD, so the order limit could never bind",
        );
        contradict(
            limits.max_position_pct <= limits.max_total_exposure,
            "MAX_POSITION_PCT",
            "is greater than MAX_TOTAL_EXPOSURE, so the position limit could never bind",
        );
        contradict(
            limits.max_order_size_usd <= limits.max_daily_notional_usd,
            "MAX_ORDER_SIZE_USD",
            "is greater than MAX_DAILY_NOTIONAL_USD, so the largest order could never pass",
        );
        contradict(
            limits.max_order_size_usd <= limits.max_notional_per_minute_usd,
            "MAX_ORDER_SIZE_USD",
            "is greater than MAX_NOTIONAL_PER_MINUTE_USD, so the largest order could never pass",
        );
        contradict(
            limits.max_strategy_orders_per_second <= limits.max_orders_per_second,
            "MAX_STRATEGY_ORDERS_PER_SECOND",
            "is greater than MAX_ORDERS_PER_SECOND, so it could never bind",
        );
        contradict(
            limits.max_consecutive_failures <= limits.max_failures_per_hour,
            "MAX_CONSECUTIVE_FAILURES",
            "is greater than MAX_FAILURES_PER_HOUR, so it could never bind",
        );
    }

    fn finish(self, limits: Limits) -> Result<(Limits, Vec<Setting>), Vec<ConfigFault>> {
        if self.faults.is_empty() { Ok((limits, self.settings)) } else { Err(self.faults) }
    }
}

/// The first 16 hex digits of the SHA-256 over all effective settings; goes into permit and verdicts.
#[must_use]
pub fn limits_hash(settings: &[Setting]) -> String {
    let mut digest = Sha256::new();
    for setting in settings {
        digest.update(format!("{}={}\n", setting.name, setting.value));
    }
    hex::encode(digest.finalize()).chars().take(16).collect()
}

impl FromText for Notional {
    fn from_text(text: &str, _: Shape) -> Result<Self, String> {
        Self::parse(text).map_err(|fault| fault.to_string())
    }
}

impl FromText for Decimal {
    fn from_text(text: &str, _: Shape) -> Result<Self, String> {
        let value = parse_decimal(text).map_err(|fault| fault.to_string())?;
        if value > Self::ZERO && value <= Self::ONE {
            Ok(value)
        } else {
            Err("must be above 0 and at most 1 (0.10 means 10 %)".to_owned())
        }
    }
}

fn whole(text: &str, shape: Shape) -> Result<i64, String> {
    let Shape::Whole { min, max } = shape else { return Err("is not a whole number".to_owned()) };
    match text.parse::<i64>() {
        Ok(value) if value >= min && value <= max => Ok(value),
        Ok(_) => Err(format!("must be between {min} and {max}")),
        Err(_) => Err("is not a whole number".to_owned()),
    }
}

impl FromText for i64 {
    fn from_text(text: &str, shape: Shape) -> Result<Self, String> {
        whole(text, shape)
    }
}

impl FromText for u64 {
    fn from_text(text: &str, shape: Shape) -> Result<Self, String> {
        whole(text, shape).and_then(|value| Self::try_from(value).map_err(|_| "must not be negative".to_owned()))
    }
}

/// The non-empty parts of a comma-separated list.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

impl FromText for BTreeSet<Symbol> {
    fn from_text(text: &str, _: Shape) -> Result<Self, String> {
        let parse =
            |part: &str| Symbol::parse(part).ok_or_else(|| format!("holds a name that is not {}", Symbol::SHAPE));
        list(text).map(parse).collect()
    }
}

impl FromText for AllowedStrategies {
    fn from_text(text: &str, _: Shape) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let shape = StrategyId::SHAPE;
        let parse = |part: &str| StrategyId::parse(part).ok_or_else(|| format!("holds a name that is not {shape}"));
        list(text).map(parse).collect::<Result<_, _>>().map(Self::Only)
    }
}

impl FromText for CircuitOpenAction {
    fn from_text(text: &str, _: Shape) -> Result<Self, String> {
        match text {
            "hold" => Ok(Self::Hold),
            "cancel" => Ok(Self::Cancel),
            _ => Err("must be hold or cancel".to_owned()),
        }
    }
}

impl AllowedStrategies {
    /// Whether this strategy may trade.
    #[must_use]
    pub fn allow(&self, strategy: &StrategyId) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(strategy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_stage_is_a_configuration_without_contradiction_and_none_is_tighter_than_the_one_before() {
        let stages = [
            include_str!("../../../deploy/limits/initial.env"),
            include_str!("../../../deploy/limits/week.env"),
            include_str!("../../../deploy/limits/month.env"),
        ];
        let read = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let variables = lines.map(|line| line.split_once('=').unwrap());
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Limits::from_variables(&variables).unwrap().0
        };
        let stages = stages.map(read);
        for pair in stages.windows(2) {
            let [before, after] = pair else { panic!("a pair") };
            assert!(after.max_position_size_usd >= before.max_position_size_usd);
            assert!(after.max_order_size_usd >= before.max_order_size_usd);
            assert!(after.max_daily_orders >= before.max_daily_orders);
            assert!(after.max_daily_notional_usd >= before.max_daily_notional_usd);
            assert!(after.allowed_symbols.is_superset(&before.allowed_symbols));
        }
    }

    #[test]
    fn the_defaults_of_the_design_are_readable_and_consistent() {
        let (limits, settings) = Limits::from_variables(&env(&[])).unwrap();
        assert_eq!(limits.max_order_size_usd, Notional::parse("500").unwrap());
        assert_eq!(limits.max_daily_orders, 50);
        assert!(settings.iter().all(|setting| !setting.is_set));
        assert_eq!(settings.len(), VARIABLES.len());
    }

    #[test]
    fn both_of_the_guides_samples_load() {
        let first = env(&[
            ("MAX_POSITION_SIZE_USD", "1000"),
            ("MAX_ORDER_SIZE_USD", "500"),
            ("ALLOWED_SYMBOLS", "BTCUSDT,ETHUSDT"),
            ("MAX_DAILY_ORDERS", "50"),
        ]);
        assert!(Limits::from_variables(&first).is_ok());
        let later = env(&[
            ("MAX_POSITION_SIZE_USD", "5000"),
            ("MAX_ORDER_SIZE_USD", "2000"),
            ("ALLOWED_SYMBOLS", "BTCUSDT, ETHUSDT, BNBUSDT, SOLUSDT"),
        ]);
        let (limits, _) = Limits::from_variables(&later).unwrap();
        assert_eq!(limits.allowed_symbols.len(), 4);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let broken = env(&[
            ("MAX_ORDER_SIZE_USD", "5000"),
            ("MAX_POSITION_PCT", "10"),
            ("MAX_DAILY_ORDER", "5"),
            ("MAX_OPEN_ORDERS", "many"),
            ("PATH", "/bin"),
        ]);
        let faults = Limits::from_variables(&broken).expect_err("must be refused");
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let all = texts.join("\n");
        assert_eq!(faults.len(), 5, "{all}");
        assert!(all.contains("MAX_POSITION_PCT: must be above 0"), "{all}");
        assert!(all.contains("MAX_DAILY_ORDER: is no known limit; did you mean MAX_DAILY_ORDERS?"), "{all}");
        assert!(all.contains("MAX_OPEN_ORDERS: is not a whole number"), "{all}");
        assert!(all.contains("MAX_ORDER_SIZE_USD: is greater than MAX_POSITION_SIZE_USD"), "{all}");
        assert!(all.contains("MAX_ORDER_SIZE_USD: is greater than MAX_NOTIONAL_PER_MINUTE_USD"), "{all}");
        assert!(!all.contains("many"), "a value must never be repeated");
    }

    /// The fault that a text gives a setting, if it gives one.
    fn fault_of(name: &str, text: &str) -> Option<String> {
        let faults = Limits::from_variables(&env(&[(name, text)])).err()?;
        faults.into_iter().find(|fault| fault.name == name && !fault.text.contains("so ")).map(|fault| fault.text)
    }

    #[test]
    fn every_setting_takes_its_bounds_and_nothing_beyond_them() {
        for (name, default, shape) in VARIABLES {
            assert_eq!(fault_of(name, default), None, "{name}");
            let (fits, fails): (Vec<String>, Vec<String>) = match *shape {
                Shape::Usd => (
                    vec!["0.00000001".into(), "999999999".into()],
                    vec!["0".into(), "-1".into(), "1e3".into(), "NaN".into(), String::new()],
                ),
                Shape::Share => (
                    vec!["0.000001".into(), "1".into()],
                    vec!["0".into(), "1.000001".into(), "-0.1".into(), "10%".into()],
                ),
                Shape::Whole { min, max } => (
                    vec![min.to_string(), max.to_string()],
                    vec![(min - 1).to_string(), (max + 1).to_string(), "1.5".into(), String::new()],
                ),
                Shape::Symbols => (vec![String::new(), "BTCUSDT,,ETHUSDT".into()], vec!["btcusdt".into(), "*".into()]),
                Shape::Strategies => (vec!["*".into(), "a,b.c".into()], vec!["a b".into(), "*,a".into()]),
                Shape::OpenAction => (vec!["hold".into(), "cancel".into()], vec!["Hold".into(), String::new()]),
            };
            for text in fits {
                assert_eq!(fault_of(name, &text), None, "{name}={text}");
            }
            for text in fails {
                assert!(fault_of(name, &text).is_some(), "{name}={text} was taken");
            }
        }
    }

    #[test]
    fn what_becomes_of_resting_buys_is_as_written() {
        let action = |text: &str| {
            let variables = env(&[("CIRCUIT_OPEN_ACTION", text)]);
            Limits::from_variables(&variables).unwrap().0.circuit_open_action
        };
        assert_eq!((action("hold"), action("cancel")), (CircuitOpenAction::Hold, CircuitOpenAction::Cancel));
    }

    #[test]
    fn a_misspelt_name_is_told_the_nearest_one() {
        for (name, nearest) in [
            ("MAX_ORDER_SIZE", "MAX_ORDER_SIZE_USD"),
            ("MAX_DAILY_LOS_PCT", "MAX_DAILY_LOSS_PCT"),
            ("ALLOWED_SYMBOL", "ALLOWED_SYMBOLS"),
            ("MIN_ORDER_USD", "MIN_ORDER_SIZE_USD"),
            ("CIRCUIT_OPENACTION", "CIRCUIT_OPEN_ACTION"),
        ] {
            let text = fault_of(name, "1").unwrap();
            assert!(text.ends_with(&format!("did you mean {nearest}?")), "{name}: {text}");
        }
    }

    #[test]
    fn an_empty_list_allows_nothing_and_is_not_one_empty_name() {
        let (limits, _) =
            Limits::from_variables(&env(&[("ALLOWED_SYMBOLS", ""), ("ALLOWED_STRATEGIES", " ")])).unwrap();
        assert!(limits.allowed_symbols.is_empty());
        let (one, _) = Limits::from_variables(&env(&[("ALLOWED_STRATEGIES", "grid")])).unwrap();
        let allows = |name: &str| one.allowed_strategies.allow(&StrategyId::parse(name).unwrap());
        assert!(allows("grid") && !allows("trend"));
        assert!(!limits.allowed_strategies.allow(&StrategyId::parse("any").unwrap()));
    }

    #[test]
    fn the_documentation_lists_exactly_these_settings_with_their_defaults() {
        let page = include_str!("../../../docs/limits.md");
        let (_, table) = page.split_once("## Settings").unwrap();
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), (*cells.get(2)?).to_owned()))
        };
        let documented: Vec<(String, String)> = table.lines().filter_map(row).collect();
        let in_code: Vec<(String, String)> =
            VARIABLES.iter().map(|(name, default, _)| ((*name).to_owned(), (*default).to_owned())).collect();
        assert_eq!(documented, in_code);
    }

    #[test]
    fn changing_any_setting_changes_the_hash() {
        let (_, settings) = Limits::from_variables(&env(&[])).unwrap();
        let original = limits_hash(&settings);
        for index in 0..settings.len() {
            let mut changed = settings.clone();
            changed[index].value.push('1');
            assert_ne!(limits_hash(&changed), original, "{}", changed[index].name);
        }
    }
}
