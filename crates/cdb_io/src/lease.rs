//! Who leads: one risk instance decides, one execution instance sends (design §3, `cdb:lease:*`).

use std::time::Duration;

use redis::aio::ConnectionLike;

use crate::scripts::{Script, ScriptError, Scripts, word};

/// How long a lease lives without renewal.
pub const LEASE_TTL_MS: u64 = 3_000;
/// How often it is renewed.
pub const LEASE_RENEWAL: Duration = Duration::from_millis(750);

/// The answer to asking for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is ours, under this fencing token.
    Ours(String),
    /// Somebody else leads.
    Held,
    /// The data set has no epoch: risk has not opened it yet, or it was lost.
    NoEpoch,
}

/// One process's wish to lead in a role.
#[derive(Debug, Clone)]
pub struct Lease {
    role: &'static str,
    holder: String,
}

impl Lease {
    /// A wish under a name that no other process has.
    #[must_use]
    pub fn new(role: &'static str, instance: &str) -> Self {
        Self { role, holder: format!("{instance}-{}", uuid::Uuid::now_v7().simple()) }
    }

    /// Takes or renews the lease.
    ///
    /// # Errors
    /// See [`ScriptError`].
    pub async fn ask(&self, scripts: &Scripts, connection: &mut impl ConnectionLike) -> Result<Asked, ScriptError> {
        let ttl = LEASE_TTL_MS.to_string();
        let reply = scripts.run(connection, Script::Lease, &[self.role, &self.holder, &ttl]).await?;
        Ok(match word(&reply).as_deref() {
            Some("held") | None => Asked::Held,
            Some("no_epoch") => Asked::NoEpoch,
            Some(token) => Asked::Ours(token.to_owned()),
        })
    }

    /// Gives the lease back, so that a successor need not wait for it to expire.
    ///
    /// # Errors
    /// See [`ScriptError`].
    pub async fn release(&self, scripts: &Scripts, connection: &mut impl ConnectionLike) -> Result<(), ScriptError> {
        scripts.run(connection, Script::Release, &[self.role, &self.holder]).await.map(|_| ())
    }
}
