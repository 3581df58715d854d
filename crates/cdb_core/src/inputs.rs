//! What a decision was made from, recorded in its verdict, so that another process can decide again.
//!
//! Prices and rules are recorded when they have changed since the decision before; a decision that says `is_whole`
//! carries all of them. The rest is as it stood.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::breaker;
use crate::desk::Stops;
use crate::ids::{ClOrdId, EntryId, Symbol};
use crate::limits::Setting;
use crate::market::Quote;
use crate::portfolio::Portfolio;
use crate::symbol_rules::SymbolRules;
use crate::time::Timestamp;

/// The inputs of one decision besides the order itself and what the streams hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inputs {
    /// The deciding instance's lease.
    pub term: String,
    /// Which decision of its term it is, from 0 on.
    pub number: u64,
    /// The entry of `cdb:executions` up to which the desk had learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learnt: Option<EntryId>,
    /// Whether nothing of an earlier decision is needed to understand it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_whole: bool,
    /// Every limit with its effective text, in a whole record.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
    /// Prices that changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quotes: Vec<Quote>,
    /// Symbol rules that changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<SymbolRules>,
    /// When the exchange's rules were last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules_as_of: Option<Timestamp>,
    /// The stops in force.
    #[serde(skip_serializing_if = "is_default")]
    pub stops: Stops,
    /// Why the state could not be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_lost: Option<String>,
    /// The breaker's position.
    #[serde(skip_serializing_if = "is_default")]
    pub breaker: breaker::State,
    /// The probe in flight while half open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ClOrdId>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Remembers what has changed since the decision before.
#[derive(Debug)]
pub struct Recorder {
    term: String,
    limits: BTreeMap<String, String>,
    number: u64,
    learnt: Option<EntryId>,
    is_whole: bool,
    quotes: BTreeSet<Symbol>,
    rules: BTreeSet<Symbol>,
}

impl Recorder {
    /// For one term under these limits, by a desk that has learnt of executions up to `learnt`.
    #[must_use]
    pub fn new(term: &str, limits: &[Setting], learnt: Option<EntryId>) -> Self {
        Self {
            term: term.to_owned(),
            limits: limits.iter().map(|setting| (setting.name.to_owned(), setting.value.clone())).collect(),
            number: 0,
            learnt,
            is_whole: true,
            quotes: BTreeSet::new(),
            rules: BTreeSet::new(),
        }
    }

    pub(crate) fn learnt(&mut self, entry: &EntryId) {
        self.learnt = Some(entry.clone());
    }
    pub(crate) fn quote_changed(&mut self, symbol: Symbol) {
        self.quotes.insert(symbol);
    }
    pub(crate) fn rules_changed(&mut self, symbol: Symbol) {
        self.rules.insert(symbol);
    }
    /// A decision that is not published takes its changes with it: the next one carries everything.
    pub(crate) const fn begin_anew(&mut self) {
        self.is_whole = true;
    }

    /// The record for one decision; stops, breaker and what else stands in the desk are the desk's to add.
    pub(crate) fn take(&mut self, portfolio: &Portfolio) -> Inputs {
        let is_whole = std::mem::take(&mut self.is_whole);
        let (quotes, rules) = (std::mem::take(&mut self.quotes), std::mem::take(&mut self.rules));
        let number = self.number;
        self.number = number.saturating_add(1);
        let (quotes, rules) = if is_whole {
            (portfolio.quotes().cloned().collect(), portfolio.all_rules().cloned().collect())
        } else {
            (
                quotes.iter().filter_map(|symbol| portfolio.quote(symbol)).cloned().collect(),
                rules.iter().filter_map(|symbol| portfolio.rules(symbol)).cloned().collect(),
            )
        };
        Inputs {
            term: self.term.clone(),
            number,
            learnt: self.learnt.clone(),
            is_whole,
            limits: if is_whole { self.limits.clone() } else { BTreeMap::new() },
            quotes,
            rules,
            ..Inputs::default()
        }
    }
}
