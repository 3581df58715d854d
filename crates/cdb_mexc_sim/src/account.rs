//! Balances.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// One asset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Usable.
    pub free: Decimal,
    /// Held by open orders.
    pub locked: Decimal,
}

/// All assets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Account(pub BTreeMap<String, Balance>);

impl Account {
    /// One asset's balance.
    #[must_use]
    pub fn of(&self, asset: &str) -> Balance {
        self.0.get(asset).copied().unwrap_or_default()
    }
    /// Adds to (or takes from) the free balance.
    pub fn add(&mut self, asset: &str, amount: Decimal) {
        self.0.entry(asset.to_owned()).or_default().free += amount;
    }
    /// Moves from free to locked; `false` when there is not enough.
    #[must_use]
    pub fn lock(&mut self, asset: &str, amount: Decimal) -> bool {
        let balance = self.0.entry(asset.to_owned()).or_default();
        if balance.free < amount {
            return false;
        }
        balance.free -= amount;
        balance.locked += amount;
        true
    }
    /// Moves from locked to free.
    pub fn unlock(&mut self, asset: &str, amount: Decimal) {
        let balance = self.0.entry(asset.to_owned()).or_default();
        balance.locked -= amount;
        balance.free += amount;
    }
    /// Takes from locked for good.
    pub fn spend_locked(&mut self, asset: &str, amount: Decimal) {
        self.0.entry(asset.to_owned()).or_default().locked -= amount;
    }
}
