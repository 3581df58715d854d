//! The Lua scripts, bound to one Redis process.
//!
//! The process's `run_id` is written into every script's text, so a restarted Redis does not know their hashes. A
//! caller then learns of the restart (which may have rolled data back) before anything was granted, without one
//! extra round trip.

use std::collections::BTreeMap;

use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult, Value};
use thiserror::Error;

use crate::bus;

/// Which script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Script {
    /// Admission before a send.
    Gate,
    /// What execution does after an answer.
    Settle,
    /// What risk does with a decision.
    Verdict,
    /// Take or renew a lease.
    Lease,
    /// Give a lease back.
    Release,
    /// Renew the right to trade.
    Permit,
}

impl Script {
    const ALL: [Self; 6] = [Self::Gate, Self::Settle, Self::Verdict, Self::Lease, Self::Release, Self::Permit];

    const fn text(self) -> &'static str {
        match self {
            Self::Gate => include_str!("scripts/gate.lua"),
            Self::Settle => include_str!("scripts/settle.lua"),
            Self::Verdict => include_str!("scripts/verdict.lua"),
            Self::Lease => include_str!("scripts/lease.lua"),
            Self::Release => include_str!("scripts/release.lua"),
            Self::Permit => include_str!("scripts/permit.lua"),
        }
    }
}

/// Why a script did not run.
#[derive(Debug, Error)]
pub enum ScriptError {
    /// Redis does not know the script: it was restarted, or its scripts were flushed. Bind again.
    #[error("Redis was restarted or its scripts were flushed")]
    Unbound,
    /// Redis is unreachable or refused; nothing is known about whether the script ran.
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
}

/// The scripts as loaded into one Redis process.
#[derive(Debug, Clone)]
pub struct Scripts {
    run_id: String,
    hashes: BTreeMap<Script, String>,
}

impl Scripts {
    /// Loads every script into the Redis process behind the connection.
    ///
    /// # Errors
    /// Redis is unreachable or refuses.
    pub async fn bind(connection: &mut impl ConnectionLike) -> RedisResult<Self> {
        let run_id = bus::run_id(connection).await?;
        let mut hashes = BTreeMap::new();
        for script in Script::ALL {
            let text = format!("local RUN_ID = '{run_id}'\n{}", script.text());
            hashes.insert(script, redis::cmd("SCRIPT").arg("LOAD").arg(text).query_async(connection).await?);
        }
        Ok(Self { run_id, hashes })
    }

    /// The Redis process they are bound to.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The command that runs a script; its replies go through [`outcome`].
    #[must_use]
    pub fn command(&self, script: Script, arguments: &[&str]) -> redis::Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hashes[&script]).arg(0).arg(arguments);
        command
    }

    /// Runs a script.
    ///
    /// # Errors
    /// See [`ScriptError`].
    pub async fn run(
        &self,
        connection: &mut impl ConnectionLike,
        script: Script,
        arguments: &[&str],
    ) -> Result<Value, ScriptError> {
        outcome(self.command(script, arguments).query_async(connection).await)
    }
}

/// Sorts a script's reply.
///
/// # Errors
/// See [`ScriptError`].
pub fn outcome(reply: RedisResult<Value>) -> Result<Value, ScriptError> {
    match reply {
        Ok(Value::ServerError(error)) if error.code() == "NOSCRIPT" => Err(ScriptError::Unbound),
        Ok(Value::ServerError(error)) => Err(ScriptError::Redis(error.into())),
        Ok(value) => Ok(value),
        Err(error) if error.code() == Some("NOSCRIPT") => Err(ScriptError::Unbound),
        Err(error) => Err(ScriptError::Redis(error)),
    }
}

/// A reply that is one word.
#[must_use]
pub fn word(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// A reply that is a list of words.
#[must_use]
pub fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(word).collect(),
        other => word(other).into_iter().collect(),
    }
}
