//! Listen keys: what opens a user stream (exchange API §10).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::error::{Refusal, refuse};

/// Keys an account may have.
const KEYS_MAX: usize = 60;

/// All keys of the account.
#[derive(Debug, Clone, Default)]
pub struct ListenKeys {
    /// Key to the time it lapses, epoch ms.
    lapse_at: BTreeMap<String, i64>,
    made: u64,
}

impl ListenKeys {
    /// Makes a key that lives this long.
    ///
    /// # Errors
    /// The account has as many as it may.
    pub fn create(&mut self, now: i64, life_ms: i64) -> Result<String, Refusal> {
        self.lapse_at.retain(|_, lapse_at| *lapse_at > now);
        if self.lapse_at.len() >= KEYS_MAX {
            return Err(refuse(730_000, "too many listen keys"));
        }
        self.made += 1;
        let key = hex::encode(Sha256::digest(format!("listen key {} {now}", self.made)));
        self.lapse_at.insert(key.clone(), now + life_ms);
        Ok(key)
    }

    /// Lets a key live for as long again.
    ///
    /// # Errors
    /// The key is unknown or lapsed.
    pub fn extend(&mut self, key: &str, now: i64, life_ms: i64) -> Result<(), Refusal> {
        let lapse_at = self.lapse_at.get_mut(key).filter(|lapse_at| **lapse_at > now).ok_or_else(unknown)?;
        *lapse_at = now + life_ms;
        Ok(())
    }

    /// Ends a key.
    ///
    /// # Errors
    /// The key is unknown.
    pub fn remove(&mut self, key: &str) -> Result<(), Refusal> {
        self.lapse_at.remove(key).map(|_| ()).ok_or_else(unknown)
    }

    /// Whether a key opens a stream now.
    #[must_use]
    pub fn is_live(&self, key: &str, now: i64) -> bool {
        self.lapse_at.get(key).is_some_and(|lapse_at| *lapse_at > now)
    }

    /// All keys that live.
    #[must_use]
    pub fn live(&self, now: i64) -> Vec<&String> {
        self.lapse_at.iter().filter(|(_, lapse_at)| **lapse_at > now).map(|(key, _)| key).collect()
    }

    /// Lets every key lapse at once.
    pub fn lapse_all(&mut self) {
        self.lapse_at.clear();
    }
}

fn unknown() -> Refusal {
    Refusal { is_code_text: true, ..refuse(730_708, "listen key information error") }
}
