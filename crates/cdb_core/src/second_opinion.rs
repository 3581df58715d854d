//! Deciding again what was decided, from what was recorded, by the same checks (design §10).
//!
//! A verdict is told with the bytes of the order that it answers; the executions it knew of are told before it. What
//! a verdict does to the account is taken from the verdict, so that one wrong decision is one finding and not many.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::breaker::Breaker;
use crate::command::Command;
use crate::desk::{Decided, Desk, content_fingerprint};
use crate::ids::{ClOrdId, EntryId};
use crate::inputs::Inputs;
use crate::limits::{Limits, Setting, limits_hash};
use crate::money::{Notional, Price};
use crate::reason::Reason;
use crate::report::Execution;
use crate::time::Timestamp;
use crate::verdict::Verdict;

/// What the second look at one verdict says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// The same decision with the same figures.
    Same,
    /// The same decision with another figure: which.
    OtherFigures(String),
    /// Another decision: which.
    Differs(String),
    /// What it was decided from is not known: why.
    CannotTell(String),
}

impl Opinion {
    /// Every word that [`Self::word`] gives.
    pub const WORDS: &'static [&'static str] = &["same", "other_figures", "differs", "cannot_tell"];

    /// The opinion in one word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::OtherFigures(_) => "other_figures",
            Self::Differs(_) => "differs",
            Self::CannotTell(_) => "cannot_tell",
        }
    }

    /// Whether risk decided or figured otherwise than its own rules say.
    #[must_use]
    pub const fn is_finding(&self) -> bool {
        matches!(self, Self::OtherFigures(_) | Self::Differs(_))
    }
}

impl fmt::Display for Opinion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("the same"),
            Self::OtherFigures(text) | Self::Differs(text) | Self::CannotTell(text) => f.write_str(text),
        }
    }
}

/// One check as a verdict shows it.
#[derive(Deserialize)]
struct Shown {
    check: String,
    value: String,
    limit: String,
    #[serde(default)]
    refused: bool,
}

impl Shown {
    fn all(json: &str) -> Vec<Self> {
        serde_json::from_str(json).unwrap_or_default()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = if self.refused { " (refused)" } else { "" };
        write!(f, "{} {} of {}{refused}", self.check, self.value, self.limit)
    }
}

/// A verdict as it was published.
#[derive(Deserialize)]
struct Recorded<'a> {
    cl_ord_id: ClOrdId,
    entry: EntryId,
    decision: String,
    reason: Option<Reason>,
    #[serde(borrow)]
    checks: &'a RawValue,
    #[serde(borrow)]
    command: Option<&'a RawValue>,
    ref_price: Option<Price>,
    notional: Option<Notional>,
    #[serde(default)]
    is_exit: bool,
    limits_hash: String,
    ts: Timestamp,
    expires_at: Timestamp,
    inputs: Option<Inputs>,
}

/// A verdict with what the second look says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// The order or cancel.
    pub cl_ord_id: ClOrdId,
    /// When it was decided.
    pub ts: Timestamp,
    /// Whether it had been approved.
    pub is_approved: bool,
    /// What is said of it.
    pub opinion: Opinion,
}

/// A desk that follows another by what was recorded.
#[derive(Debug)]
pub struct SecondOpinion {
    desk: Desk,
    waiting: VecDeque<(EntryId, Execution)>,
    /// Fingerprints of the verdicts by the entry they answer.
    answered: BTreeMap<EntryId, u64>,
    term: String,
    /// The number that the next decision of the term must have; `None` = only a whole record can be understood.
    next: Option<u64>,
    has_limits: bool,
    /// Windows were changed: until then it is not known what they hold.
    blurred_until: Timestamp,
}

impl Default for SecondOpinion {
    fn default() -> Self {
        let (limits, _) = Limits::from_variables(&BTreeMap::new()).expect("the defaults are valid");
        Self {
            desk: Desk::new(limits, String::new(), String::new(), Breaker::default()),
            waiting: VecDeque::new(),
            answered: BTreeMap::new(),
            term: String::new(),
            next: None,
            has_limits: false,
            blurred_until: Timestamp::default(),
        }
    }
}

impl SecondOpinion {
    /// Takes the next entry of `cdb:executions`.
    pub fn on_execution(&mut self, entry: EntryId, execution: Execution) {
        self.waiting.push_back((entry, execution));
    }

    /// Looks at the next entry of `cdb:verdicts`; `original` is the entry of `cdb:orders` that it answers, when it is
    /// still kept. `None` for a verdict that was published again.
    ///
    /// # Errors
    /// The bytes are no verdict.
    pub fn on_verdict(&mut self, json: &[u8], original: Option<&[u8]>) -> Result<Option<Reviewed>, String> {
        let recorded: Recorded<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let fingerprint = content_fingerprint(&[json]);
        let opinion = match self.answered.get(&recorded.entry) {
            Some(known) if *known == fingerprint => return Ok(None),
            // The desk that decides knows nothing of it.
            Some(_) => Opinion::Differs(format!("its order {} was answered otherwise before", recorded.entry)),
            None => {
                let opinion =
                    self.prepare(&recorded).map_or_else(|opinion| opinion, |()| self.look(&recorded, original));
                // Whatever it should have been, the desk that decided went on from what it did.
                self.desk.recall(json)?;
                opinion
            }
        };
        self.answered.entry(recorded.entry.clone()).or_insert(fingerprint);
        Ok(Some(Reviewed {
            is_approved: recorded.decision == "approved",
            cl_ord_id: recorded.cl_ord_id,
            ts: recorded.ts,
            opinion,
        }))
    }

    /// Brings the desk to where the other one stood.
    fn prepare(&mut self, recorded: &Recorded<'_>) -> Result<(), Opinion> {
        let Some(inputs) = &recorded.inputs else {
            self.next = None;
            return Err(Opinion::CannotTell("it was recorded without what it was decided from".to_owned()));
        };
        let is_next = self.term == inputs.term && self.next == Some(inputs.number);
        self.term.clone_from(&inputs.term);
        self.next = (is_next || inputs.is_whole).then(|| inputs.number.saturating_add(1));
        let limits = if inputs.is_whole { self.take_limits(recorded, inputs) } else { Ok(()) };
        for rules in &inputs.rules {
            self.desk.on_rules(rules.clone());
        }
        self.catch_up(inputs.learnt.as_ref());
        self.desk.assume(inputs);
        limits?;
        let problem = if self.next.is_none() {
            "a decision before it was taken back or is missing"
        } else if !self.has_limits {
            "the limits it was judged by are not recorded"
        } else if recorded.ts < self.blurred_until {
            "the windows of the throttles had just been changed"
        } else {
            return Ok(());
        };
        Err(Opinion::CannotTell(problem.to_owned()))
    }

    fn take_limits(&mut self, recorded: &Recorded<'_>, inputs: &Inputs) -> Result<(), Opinion> {
        let read = Limits::from_variables(&inputs.limits);
        let (limits, settings): (Limits, Vec<Setting>) = read.map_err(|faults| {
            let names: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Opinion::Differs(format!("these limits cannot be: {}", names.join("; ")))
        })?;
        let hash = limits_hash(&settings);
        if hash != recorded.limits_hash {
            let text = format!("the recorded limits have the hash {hash}, not {}", recorded.limits_hash);
            return Err(Opinion::Differs(text));
        }
        let before = self.desk.limits();
        let windows = |limits: &Limits| (limits.repeat_window_sec, limits.duplicate_window_ms);
        if self.has_limits && windows(before) != windows(&limits) {
            let longest = before.repeat_window_sec.max(limits.repeat_window_sec).saturating_mul(1_000);
            let longest = longest.max(before.duplicate_window_ms).max(limits.duplicate_window_ms);
            self.blurred_until = recorded.ts.plus_ms(longest);
        }
        self.has_limits = true;
        self.desk.assume_limits(limits);
        Ok(())
    }

    fn catch_up(&mut self, learnt: Option<&EntryId>) {
        let Some(learnt) = learnt else { return };
        while self.waiting.front().is_some_and(|(entry, _)| !entry.is_after(learnt)) {
            if let Some((_, execution)) = self.waiting.pop_front() {
                self.desk.recall_execution(&execution, Timestamp::default());
            }
        }
    }

    fn look(&mut self, recorded: &Recorded<'_>, original: Option<&[u8]>) -> Opinion {
        let Some(bytes) = original.or_else(|| recorded.command.map(|command| command.get().as_bytes())) else {
            return Opinion::CannotTell(
                "the order is not kept, and it was too malformed to be in its verdict".to_owned(),
            );
        };
        let verdict = match self.desk.decide(&recorded.entry, bytes, recorded.ts) {
            Decided::Verdict { verdict, seen } => {
                self.desk.withdraw(&verdict);
                if let Some(seen) = seen {
                    self.desk.on_seen(verdict.cl_ord_id.clone(), seen);
                }
                verdict
            }
            // A repeated order whose verdict is no longer kept is refused by its id.
            Decided::Replay { .. } if recorded.reason == Some(Reason::DuplicateClOrdId) => return Opinion::Same,
            Decided::Replay { .. } => return Opinion::Differs("the same order was answered before".to_owned()),
            Decided::DeadLetter(fault) => return Opinion::Differs(format!("the order is not readable: {fault}")),
        };
        compare(recorded, &verdict, self.desk.limits().verdict_ttl_ms)
    }
}

fn compare(recorded: &Recorded<'_>, now: &Verdict, ttl_ms: i64) -> Opinion {
    let word = |approved: bool, reason: Option<Reason>| match (approved, reason) {
        (true, _) => "approved".to_owned(),
        (false, Some(reason)) => format!("rejected ({reason})"),
        (false, None) => "rejected".to_owned(),
    };
    let then_word = word(recorded.decision == "approved", recorded.reason);
    let now_word = word(now.is_approved(), now.reason);
    if then_word != now_word {
        return Opinion::Differs(format!("was {then_word}, is {now_word}: {}", now.detail));
    }
    if recorded.cl_ord_id != now.cl_ord_id {
        return Opinion::Differs(format!("its order has the id {}", now.cl_ord_id));
    }
    let command = recorded.command.and_then(|raw| Command::parse(raw.get().as_bytes()).ok());
    if command != now.command {
        return Opinion::Differs("it carries another command than the order it answers".to_owned());
    }
    if recorded.is_exit != now.is_exit {
        return Opinion::Differs(format!("is_exit was {}, is {}", recorded.is_exit, now.is_exit));
    }
    if recorded.expires_at.since_ms(recorded.ts) != ttl_ms {
        let lives_ms = recorded.expires_at.since_ms(recorded.ts);
        return Opinion::Differs(format!("it may be acted on for {lives_ms} ms, not {ttl_ms}"));
    }
    let checks = serde_json::to_string(&now.checks).unwrap_or_default();
    if recorded.checks.get() != checks {
        let (then, now) = (Shown::all(recorded.checks.get()), Shown::all(&checks));
        let mut pairs = then.iter().zip(&now).map(|(then, now)| (then.to_string(), now.to_string()));
        return Opinion::OtherFigures(match pairs.find(|(then, now)| then != now) {
            Some((then, now)) => format!("was {then}, is {now}"),
            None => format!("{} checks were made, not {}", then.len(), now.len()),
        });
    }
    if (recorded.ref_price, recorded.notional) != (now.ref_price, now.notional) {
        return Opinion::OtherFigures("it was valued otherwise".to_owned());
    }
    Opinion::Same
}
