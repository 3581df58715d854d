//! What those who watch ask of the ledger: alerts, keys, stops, open orders, the equity curve, one order's whole story.

use cdb_core::usage::Usage;
use cdb_io::bus::{Bus, keys};
use cdb_io::supervise::Shutdown;
use chrono::{DateTime, Utc};
use redis::AsyncCommands as _;
use serde_json::{Value, json};

use crate::ledger::{Ledger, time};

/// How often the equity is sampled.
const SAMPLE: std::time::Duration = std::time::Duration::from_secs(10);
/// Longest wait for Redis or the database when sampling.
const SAMPLE_MAX: std::time::Duration = std::time::Duration::from_secs(5);
/// Points of a curve at most.
const POINTS: i64 = 300;
/// Rows of any list at most.
const ROWS: i64 = 200;
/// Alerts older than this are history, not open.
const ALERT_DAYS: i32 = 7;

/// Samples the equity until the end is asked for. A sample that is missed is a gap in the curve and nothing else.
///
/// # Errors
/// Never.
pub async fn sample_equity(ledger: Ledger, bus: Bus, mode: &'static str, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let mut beat = tokio::time::interval(SAMPLE);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            _ = beat.tick() => {}
        }
        match tokio::time::timeout(SAMPLE_MAX, sample(&ledger, &bus, mode)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "the equity was not sampled"),
            Err(_) => tracing::warn!("the equity was not sampled in time"),
        }
    }
}

async fn sample(ledger: &Ledger, bus: &Bus, mode: &str) -> anyhow::Result<()> {
    let json: Option<Vec<u8>> = bus.commands().get(keys::USAGE).await?;
    let usage = json.and_then(|json| serde_json::from_slice::<Usage>(&json).ok());
    let Some((equity, usage)) = usage.and_then(|usage| Some((usage.equity?, usage))) else { return Ok(()) };
    sqlx::query!(
        "INSERT INTO equity (mode, at, equity, today) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        mode,
        time(usage.ts),
        equity.decimal(),
        usage.today.map(|today| today.decimal())
    )
    .execute(&ledger.pool)
    .await?;
    Ok(())
}

fn millis(at: Option<DateTime<Utc>>) -> Option<i64> {
    at.map(|at| at.timestamp_millis())
}

impl Ledger {
    /// Strategies that have sent something, the latest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn strategies(&self, limit: i64) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar!(
            r#"SELECT strategy AS "strategy!" FROM reports GROUP BY strategy ORDER BY max(reported_at) DESC LIMIT $1"#,
            limit
        )
        .fetch_all(&self.pool)
        .await
    }

    /// Alerts that are open, the worst first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn open_alerts(&self) -> Result<Value, sqlx::Error> {
        let rows = sqlx::query!(
            "SELECT alert, level, service, reason, happened_at, acknowledged_by, acknowledged_at FROM open_alerts
             WHERE happened_at > now() - make_interval(days => $1)
             ORDER BY level = 'critical' DESC, happened_at DESC LIMIT $2",
            ALERT_DAYS,
            ROWS
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                json!({
                    "alert": row.alert, "level": row.level, "service": row.service, "reason": row.reason,
                    "at": millis(row.happened_at), "acknowledged_by": row.acknowledged_by,
                    "acknowledged_at": millis(row.acknowledged_at),
                })
            })
            .collect())
    }

    /// Exchange keys by fingerprint, the one in use first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keys(&self) -> Result<Value, sqlx::Error> {
        let rows = sqlx::query!("SELECT fingerprint, first_seen, last_seen FROM keys ORDER BY last_seen DESC LIMIT 5")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let (first, last) = (millis(row.first_seen), millis(row.last_seen));
                json!({"fingerprint": row.fingerprint, "first_seen": first, "last_seen": last})
            })
            .collect())
    }

    /// The last event of a type.
    ///
    /// # Errors
    /// The database failed.
    pub async fn last_event(&self, event_type: &str) -> Result<Value, sqlx::Error> {
        let row = sqlx::query!(
            "SELECT service, reason, detail, happened_at FROM events WHERE event_type = $1
             ORDER BY happened_at DESC LIMIT 1",
            event_type
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map_or(Value::Null, |row| {
            let at = row.happened_at.timestamp_millis();
            json!({"service": row.service, "reason": row.reason, "detail": row.detail, "at": at})
        }))
    }

    /// For each stop key the last time that an operator set it, or that it was seen.
    ///
    /// # Errors
    /// The database failed.
    pub async fn stop_records(&self) -> Result<Value, sqlx::Error> {
        let rows = sqlx::query!(
            r#"SELECT DISTINCT ON (key) key AS "key!", actor AS "actor!", happened_at AS "at!"
               FROM (SELECT key, actor, happened_at, actor <> 'unknown' AS is_known FROM stop_history
                     WHERE change = 'set' AND key IS NOT NULL ORDER BY happened_at DESC LIMIT $1) recent
               ORDER BY key, date_trunc('minute', happened_at) DESC, is_known DESC, happened_at DESC"#,
            ROWS
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| json!({"key": row.key, "actor": row.actor, "at": row.at.timestamp_millis()}))
            .collect())
    }

    /// Orders that have not ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn open_orders(&self) -> Result<Value, sqlx::Error> {
        let rows = sqlx::query!(
            "SELECT cl_ord_id, strategy, symbol, side, ord_status, in_doubt, cum_qty, decided_at FROM orders
             WHERE decision = 'approved' AND decided_at > now() - interval '35 days'
               AND COALESCE(ord_status, 'PendingNew') NOT IN ('Filled', 'Canceled', 'Rejected', 'Expired')
             ORDER BY decided_at DESC LIMIT $1",
            ROWS
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                json!({
                    "cl_ord_id": row.cl_ord_id, "strategy": row.strategy, "symbol": row.symbol, "side": row.side,
                    "ord_status": row.ord_status, "in_doubt": row.in_doubt, "cum_qty": row.cum_qty,
                    "at": millis(row.decided_at),
                })
            })
            .collect())
    }

    /// The equity of the last hours as a curve of bounded length.
    ///
    /// # Errors
    /// The database failed.
    pub async fn equity(&self, mode: &str, hours: i32) -> Result<Value, sqlx::Error> {
        let rows = sqlx::query!(
            r#"WITH span AS (SELECT * FROM equity WHERE mode = $1 AND at > now() - make_interval(hours => $2)),
                    step AS (SELECT greatest(extract(epoch FROM max(at) - min(at)) / $3::bigint, 1)::float8 AS s FROM span)
               SELECT DISTINCT ON (floor(extract(epoch FROM at)::float8 / s)) at, equity, today
               FROM span, step ORDER BY floor(extract(epoch FROM at)::float8 / s), at DESC"#,
            mode,
            hours,
            POINTS
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| json!({"at": row.at.timestamp_millis(), "equity": row.equity, "today": row.today}))
            .collect())
    }

    /// Everything that the ledger knows of one order, in the order of its happening; `None` for an unknown id.
    ///
    /// # Errors
    /// The database failed.
    pub async fn story(&self, cl_ord_id: &str) -> Result<Option<Value>, sqlx::Error> {
        let mut steps = self.verdicts_of(cl_ord_id).await?;
        steps.extend(self.reports_of(cl_ord_id).await?);
        steps.extend(self.fills_of(cl_ord_id).await?);
        if steps.is_empty() {
            return Ok(None);
        }
        steps.sort_by_key(|step| step["at"].as_i64());
        Ok(Some(json!({"cl_ord_id": cl_ord_id, "steps": steps})))
    }

    /// Verdicts about an order and about cancels of it.
    async fn verdicts_of(&self, cl_ord_id: &str) -> Result<Vec<Value>, sqlx::Error> {
        let rows = sqlx::query!(
            "SELECT cl_ord_id, decision, reason, detail, checks, command, notional, limits_hash, epoch, decided_at, entry
             FROM verdicts WHERE cl_ord_id = $1 OR (command ->> 'type' = 'cancel' AND command ->> 'orig_cl_ord_id' = $1)
             ORDER BY decided_at LIMIT $2",
            cl_ord_id,
            ROWS
        )
        .fetch_all(&self.pool)
        .await?;
        let step = rows.into_iter().map(|row| {
            json!({
                "kind": "verdict", "at": row.decided_at.timestamp_millis(), "entry": row.entry,
                "of": row.cl_ord_id, "decision": row.decision, "reason": row.reason, "text": row.detail,
                "checks": row.checks, "command": row.command, "notional": row.notional,
                "limits_hash": row.limits_hash, "epoch": row.epoch,
            })
        });
        Ok(step.collect())
    }

    async fn reports_of(&self, cl_ord_id: &str) -> Result<Vec<Value>, sqlx::Error> {
        let rows = sqlx::query!(
            "SELECT exec_id, order_id, exec_type, ord_status, in_doubt, cum_qty, avg_px, reason, note, source, mode,
                    reported_at, entry FROM reports WHERE cl_ord_id = $1 ORDER BY reported_at LIMIT $2",
            cl_ord_id,
            ROWS
        )
        .fetch_all(&self.pool)
        .await?;
        let step = rows.into_iter().map(|row| {
            json!({
                "kind": "report", "at": row.reported_at.timestamp_millis(), "entry": row.entry,
                "exec_type": row.exec_type, "ord_status": row.ord_status, "in_doubt": row.in_doubt,
                "cum_qty": row.cum_qty, "avg_px": row.avg_px, "reason": row.reason, "text": row.note,
                "source": row.source, "mode": row.mode, "order_id": row.order_id, "exec_id": row.exec_id,
            })
        });
        Ok(step.collect())
    }

    async fn fills_of(&self, cl_ord_id: &str) -> Result<Vec<Value>, sqlx::Error> {
        let rows = sqlx::query!(
            "SELECT trade_id, qty, price, commission, commission_asset, is_maker, traded_at FROM fills
             WHERE cl_ord_id = $1 ORDER BY traded_at LIMIT $2",
            cl_ord_id,
            ROWS
        )
        .fetch_all(&self.pool)
        .await?;
        let step = rows.into_iter().map(|row| {
            json!({
                "kind": "fill", "at": row.traded_at.timestamp_millis(), "trade_id": row.trade_id, "qty": row.qty,
                "price": row.price, "commission": row.commission, "commission_asset": row.commission_asset,
                "is_maker": row.is_maker,
            })
        });
        Ok(step.collect())
    }
}
