//! What an operator may do to the desk, from the command line and from the console alike: each action is on record with
//! its actor (design §3, `emergency_stop`, `cdb:breaker:command`).

use std::time::Duration;

use cdb_core::command::WIRE_VERSION;
use cdb_core::event::{Event, EventType};
use cdb_core::ids::{ClOrdId, StrategyId, Symbol};
use redis::{AsyncCommands as _, RedisError};
use serde_json::{Value, json};
use thiserror::Error;

use crate::bus::{Bus, keys};
use crate::{clock, events};

/// Longest wait for risk to carry an operator's command out.
const BREAKER_WAIT: Duration = Duration::from_secs(5);

/// What a stop covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// One symbol.
    Symbol(Symbol),
    /// One strategy.
    Strategy(StrategyId),
}

impl Scope {
    /// The key that such a stop sets.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::All => keys::STOP.to_owned(),
            Self::Symbol(symbol) => format!("{}{symbol}", keys::STOP_SYMBOL),
            Self::Strategy(strategy) => format!("{}{strategy}", keys::STOP_STRATEGY),
        }
    }
}

/// How an operator moves the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerMove {
    /// Open it.
    Trip,
    /// Close it.
    Reset,
}

impl BreakerMove {
    /// The wire word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trip => "trip",
            Self::Reset => "reset",
        }
    }
}

/// Why an action was not done.
#[derive(Debug, Error)]
pub enum OperatorFault {
    /// Redis is unreachable or refuses.
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    /// The stop cannot be read back.
    #[error("the stop was set and is not there: stop cdb_execution by other means at once")]
    StopNotThere,
    /// It is done, and not on record.
    #[error("it is done, but could not be put on record: {0}")]
    NotRecorded(RedisError),
    /// Risk did not take it up.
    #[error("risk did not carry it out; is cdb_risk running?")]
    NotCarriedOut,
}

/// One operator at one bus.
pub struct Hand<'a> {
    bus: &'a Bus,
    service: &'a str,
    actor: &'a str,
}

impl<'a> Hand<'a> {
    /// `service` is the program that the operator uses.
    #[must_use]
    pub const fn new(bus: &'a Bus, service: &'a str, actor: &'a str) -> Self {
        Self { bus, service, actor }
    }

    /// Puts on record what the operator does.
    ///
    /// # Errors
    /// Redis is unreachable or refuses.
    pub async fn record(&self, event_type: EventType, reason: &str, detail: Value) -> Result<(), RedisError> {
        let event = Event {
            v: WIRE_VERSION,
            event_type,
            service: self.service.to_owned(),
            actor: self.actor.to_owned(),
            reason: reason.to_owned(),
            detail,
            ts: clock::now(),
        };
        events::publish(&mut self.bus.commands(), &event).await
    }

    /// Sets a stop, reads it back, and then puts it on record: a stop never waits for its record.
    ///
    /// # Errors
    /// See [`OperatorFault`].
    pub async fn stop(&self, scope: &Scope, reason: &str) -> Result<(), OperatorFault> {
        let key = scope.key();
        let mut redis = self.bus.commands();
        let () = redis.set(&key, reason).await?;
        let back: Option<Vec<u8>> = redis.get(&key).await?;
        if back.is_none() {
            return Err(OperatorFault::StopNotThere);
        }
        let recorded = self.record(EventType::OperatorAction, reason, json!({"command": "stop", "key": key})).await;
        recorded.map_err(OperatorFault::NotRecorded)
    }

    /// Ends a stop, and accepts the present data set where risk had lost its state. Recorded first: a resume without a
    /// record is worse than a record without a resume.
    ///
    /// # Errors
    /// See [`OperatorFault`].
    pub async fn resume(&self, scope: &Scope, reason: &str) -> Result<(), OperatorFault> {
        let key = scope.key();
        let mut redis = self.bus.commands();
        self.record(EventType::Resumed, reason, json!({"command": "resume", "key": key})).await?;
        let epoch: Option<String> = redis.get(keys::EPOCH).await?;
        if let Some(epoch) = epoch {
            let () = redis.set(keys::RESUMED, epoch).await?;
        }
        Ok(redis.del(&key).await?)
    }

    /// Opens or closes the breaker, and waits until risk has done it.
    ///
    /// # Errors
    /// See [`OperatorFault`].
    pub async fn move_breaker(&self, to: BreakerMove, reason: &str) -> Result<(), OperatorFault> {
        let id = fresh_id();
        let command = to.as_str();
        let wish = json!({"id": id, "command": command, "actor": self.actor, "reason": reason});
        let detail = json!({"command": format!("breaker {command}")});
        self.record(EventType::OperatorAction, reason, detail).await?;
        let mut redis = self.bus.commands();
        let () = redis.set(keys::BREAKER_COMMAND, wish.to_string()).await?;
        let deadline = tokio::time::Instant::now() + BREAKER_WAIT;
        loop {
            let done: Option<String> = redis.hget(keys::BREAKER, "command").await?;
            if done.as_ref() == Some(&id) {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(OperatorFault::NotCarriedOut);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has one order cancelled; the ClOrdID of the cancel.
    ///
    /// # Errors
    /// See [`OperatorFault`].
    pub async fn cancel(&self, order: &ClOrdId) -> Result<String, OperatorFault> {
        let own = fresh_id();
        let command = json!({"v": WIRE_VERSION, "type": "cancel", "cl_ord_id": own, "orig_cl_ord_id": order});
        let detail = json!({"command": "cancel", "cl_ord_id": order, "cancel_cl_ord_id": own});
        self.command(&command, "cancel of one order", detail).await?;
        Ok(own)
    }

    /// Has all open orders cancelled, of one symbol or of all; the ClOrdID of the cancel.
    ///
    /// # Errors
    /// See [`OperatorFault`].
    pub async fn cancel_all(&self, symbol: Option<&Symbol>) -> Result<String, OperatorFault> {
        let own = fresh_id();
        let mut command = json!({"v": WIRE_VERSION, "type": "cancel_all", "cl_ord_id": own});
        if let Some(symbol) = symbol {
            command["symbol"] = json!(symbol);
        }
        let detail = json!({"command": "cancel_all", "symbol": symbol, "cancel_cl_ord_id": own});
        self.command(&command, "cancel of all open orders", detail).await?;
        Ok(own)
    }

    async fn command(&self, command: &Value, reason: &str, detail: Value) -> Result<(), OperatorFault> {
        self.record(EventType::OperatorAction, reason, detail).await?;
        let mut xadd = redis::cmd("XADD");
        xadd.arg(keys::ORDERS).arg("*").arg("json").arg(command.to_string());
        let _entry: String = xadd.query_async(&mut self.bus.commands()).await?;
        Ok(())
    }
}

/// An id that no other command has.
#[must_use]
pub fn fresh_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}
