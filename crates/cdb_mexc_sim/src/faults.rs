//! What is to go wrong: rules by endpoint, symbol, count or probability, with a seed.

use serde::{Deserialize, Serialize};

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Answered with this status, without being executed.
    Refuse {
        /// HTTP status, e.g. 429, 418, 403, 503.
        status: u16,
        /// `Retry-After`, s.
        #[serde(default)]
        retry_after_s: Option<u64>,
        /// Body; without one, a 403 is HTML and the others are JSON.
        #[serde(default)]
        body: Option<String>,
    },
    /// Executed, then answered with this status.
    ExecuteThenStatus {
        /// HTTP status, e.g. 503, 504.
        status: u16,
        /// Body; HTML when absent.
        #[serde(default)]
        body: Option<String>,
    },
    /// Executed, never answered (the connection hangs for a minute).
    LostReply,
    /// Executed, then the answer breaks off in its middle.
    BrokenReply,
    /// The connection breaks before anything is executed.
    Reset,
    /// Executed only after this long; answered then.
    DelayBefore {
        /// ms
        delay_ms: u64,
    },
    /// Executed at once, answered after this long.
    DelayAfter {
        /// ms
        delay_ms: u64,
    },
    /// Executed, answered with this body and status 200.
    ReplyWith {
        /// Any text.
        body: String,
    },
}

/// One rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// `POST order`, `GET account`, ...; absent = every endpoint.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Only requests for this symbol.
    #[serde(default)]
    pub symbol: Option<String>,
    /// How many requests it hits; absent = no end.
    #[serde(default)]
    pub count: Option<u64>,
    /// Chance for each request, 0 to 1000 per mille; absent = always.
    #[serde(default)]
    pub per_mille: Option<u64>,
    /// What happens.
    pub fault: Fault,
}

/// All rules in force.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    rules: Vec<FaultRule>,
    random: u64,
}

impl Faults {
    /// No rules; random choices follow the seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self { rules: Vec::new(), random: seed }
    }

    /// Replaces all rules.
    pub fn set(&mut self, rules: Vec<FaultRule>) {
        self.rules = rules;
    }

    /// Rules in force, with what is left of their counts.
    #[must_use]
    pub fn rules(&self) -> &[FaultRule] {
        &self.rules
    }

    /// The fault that hits this request, if any.
    pub fn hit(&mut self, method: &str, path: &str, symbol: Option<&str>) -> Option<Fault> {
        let endpoint = format!("{method} {path}");
        for index in 0..self.rules.len() {
            let rule = &self.rules[index];
            let is_meant = rule.endpoint.as_ref().is_none_or(|wanted| *wanted == endpoint)
                && rule.symbol.as_deref().is_none_or(|wanted| Some(wanted) == symbol)
                && rule.count != Some(0);
            let per_mille = rule.per_mille;
            if !is_meant || per_mille.is_some_and(|chance| !self.strikes(chance)) {
                continue;
            }
            let rule = &mut self.rules[index];
            rule.count = rule.count.map(|count| count - 1);
            return Some(rule.fault.clone());
        }
        None
    }

    /// Whether something with this chance happens now.
    pub fn strikes(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.next_random() % 1_000 < per_mille
    }

    /// A random number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next_random() % bound
    }

    /// splitmix64.
    const fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
