//! The gate and the rate budgets, asked: builds the question for `gate.lua`, reads its answer, settles afterwards.

use cdb_core::command::WIRE_VERSION;
use cdb_core::gate::{Answer, Budget, Claim, FENCE_MARGIN_MS};
use cdb_core::ids::{ClOrdId, EntryId};
use cdb_core::reason::GateRefusal;
use cdb_core::verdict::ApprovedOrder;
use cdb_io::clock;
use cdb_io::scripts::{self, Script, Scripts};
use redis::aio::ConnectionManager;
use serde_json::json;

/// How long a final claim keeps its ClOrdID taken, s.
const KEEP_S: i64 = 35 * 86_400;
/// Times a suspected step of Redis's clock is looked at again before it is taken for one.
const CLOCK_CHECKS: u32 = 3;
/// After a step of the clock nothing is granted for the longest window and a request's life, ms.
const LONGEST_WINDOW_MS: i64 = 10_000;

/// Asks the gate for one term.
#[derive(Clone)]
pub struct Gatekeeper {
    redis: ConnectionManager,
    scripts: Scripts,
    token: String,
    recv_window_ms: i64,
    boot_id: String,
}

/// What happened besides the slots: goes out in one step with them.
#[derive(Debug, Default)]
pub struct Settlement<'a> {
    /// Whose slots are freed one window from here: nonce and budgets.
    pub slots: Option<(&'a str, &'a [Budget])>,
    /// Messages for `cdb:executions`.
    pub messages: Vec<String>,
    /// The exchange's answer about this order is known: a probe has done its work.
    pub answered: Option<&'a ClOrdId>,
    /// The order reached its final state.
    pub is_final: Option<&'a ClOrdId>,
    /// The verdict entry that is done.
    pub verdict_entry: Option<&'a EntryId>,
}

impl Gatekeeper {
    /// For a term under this token.
    pub fn new(redis: ConnectionManager, scripts: Scripts, token: String, recv_window_ms: i64) -> Self {
        Self { redis, scripts, token, recv_window_ms, boot_id: clock::boot_id() }
    }

    /// Asks for admission; for a new order with its approval and the exchange's clock minus Redis's, ms.
    ///
    /// # Errors
    /// Redis did not answer, or does not know the script any more.
    pub async fn ask(
        &self,
        nonce: &str,
        budgets: &[Budget],
        order: Option<(&ApprovedOrder, i64)>,
    ) -> anyhow::Result<Answer> {
        for check in 0..=CLOCK_CHECKS {
            let question = self.question(nonce, budgets, order, check == CLOCK_CHECKS);
            let mut redis = self.redis.clone();
            let reply = self.scripts.run(&mut redis, Script::Gate, &[&question]).await?;
            match read(&scripts::words(&reply))? {
                Some(answer) => return Ok(answer),
                // The clock looks as if it had been set; a late call looks the same and is asked again.
                None => tracing::warn!(check, "Redis's clock and the host's disagree"),
            }
        }
        anyhow::bail!("Redis's clock and the host's disagree, and gate.lua does not settle it")
    }

    fn question(
        &self,
        nonce: &str,
        budgets: &[Budget],
        order: Option<(&ApprovedOrder, i64)>,
        is_confirmed: bool,
    ) -> String {
        let budgets: Vec<_> = budgets
            .iter()
            .map(|budget| {
                json!({"name": budget.name, "limit": budget.limit, "window_ms": budget.window_ms, "weight": budget.weight})
            })
            .collect();
        let mut question = json!({
            "token": self.token, "nonce": nonce, "recv_window_ms": self.recv_window_ms, "boot_id": self.boot_id,
            "boot_ms": clock::boot_ms(), "is_confirmed": is_confirmed,
            "hold_ms": LONGEST_WINDOW_MS + self.recv_window_ms, "budgets": budgets,
        });
        if let Some((approved, exchange_offset_ms)) = order {
            let order = approved.order();
            question["order"] = json!({
                "cl_ord_id": order.cl_ord_id, "symbol": order.symbol, "strategy": order.strategy,
                "epoch": approved.epoch(), "limits_hash": approved.limits_hash(),
                "expires_at": approved.expires_at(), "is_exit": approved.is_exit(),
                "exchange_offset_ms": exchange_offset_ms, "fence_margin_ms": FENCE_MARGIN_MS, "wire": WIRE_VERSION,
            });
        }
        question.to_string()
    }

    /// Frees slots, publishes, marks final, acknowledges: all or nothing, and only while this process leads.
    ///
    /// # Errors
    /// Redis did not answer, or another process leads: the term is over.
    pub async fn settle(&self, settlement: Settlement<'_>) -> anyhow::Result<()> {
        let (nonce, budgets) = settlement.slots.unwrap_or_default();
        let budgets: Vec<_> = budgets
            .iter()
            .map(|budget| json!({"name": budget.name, "window_ms": budget.window_ms, "weight": budget.weight}))
            .collect();
        let mut request = json!({"token": self.token, "nonce": nonce, "budgets": budgets, "keep_s": KEEP_S});
        if let Some(id) = settlement.answered {
            request["answered"] = json!(id);
        }
        if let Some(id) = settlement.is_final {
            request["final"] = json!(id);
        }
        if let Some(entry) = settlement.verdict_entry {
            request["verdict_entry"] = json!(entry);
        }
        let request = request.to_string();
        let mut arguments = vec![request.as_str()];
        arguments.extend(settlement.messages.iter().map(String::as_str));
        let mut redis = self.redis.clone();
        let reply = self.scripts.run(&mut redis, Script::Settle, &arguments).await?;
        anyhow::ensure!(scripts::word(&reply).as_deref() == Some("done"), "another instance sends");
        Ok(())
    }

    /// Acknowledges a verdict entry that is done.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub async fn acknowledge(&self, verdict_entry: &EntryId) -> anyhow::Result<()> {
        self.settle(Settlement { verdict_entry: Some(verdict_entry), ..Settlement::default() }).await
    }

    /// Publishes messages on `cdb:executions`.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub async fn publish(&self, messages: Vec<String>) -> anyhow::Result<()> {
        self.settle(Settlement { messages, ..Settlement::default() }).await
    }

    /// The connection for plain commands.
    pub fn redis(&self) -> ConnectionManager {
        self.redis.clone()
    }
}

/// The gate's words; `None` = it asks for another look at the clock.
fn read(words: &[String]) -> anyhow::Result<Option<Answer>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(Some(match words[..] {
        ["clock"] => return Ok(None),
        ["not_leader"] => Answer::NotLeader,
        ["granted"] => Answer::Granted(None),
        ["granted", claim] => Answer::Granted(Some(serde_json::from_str::<Claim>(claim)?)),
        ["wait", ms] => Answer::Wait(ms.parse()?),
        ["refused", code] => {
            let refusal = GateRefusal::ALL.iter().copied().find(|refusal| refusal.code() == code);
            Answer::Refused(refusal.ok_or_else(|| anyhow::anyhow!("gate.lua refused with {code}"))?)
        }
        _ => anyhow::bail!("gate.lua answered {words:?}"),
    }))
}
