//! Alerts: when a person is to be told, decided from samples of metrics alone.
//!
//! A rule is data (`alert/rules.toml`, and the owner's file over it). The monitor evaluates it from `/metrics` pages, and
//! the rules for Prometheus are made from the same data, so that both say the same. An alert is quiet, pending or firing;
//! what is not measured is unknown and neither raises nor resolves anything. Reading order:

pub mod page; // a `/metrics` page as samples
pub mod rule; // what a rule is
pub mod rules_file; // rules out of TOML, every fault named
pub mod window; // what counters grew by within a window
pub mod evaluate; // pending, firing, resolved
pub mod prometheus; // the same rules for Prometheus, and their tests

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// To know.
    Info,
    /// To look at today.
    Warning,
    /// Somebody has to act.
    Critical,
}

impl Level {
    /// Every level, the mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The wire word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads the wire word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
