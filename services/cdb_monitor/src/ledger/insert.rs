//! Rows into tables, one statement a table and batch. Every statement may be repeated without effect.

use serde_json::Value;
use sqlx::PgConnection;

use super::rows::{Rows, storable};

impl Rows {
    /// Inserts what is not there yet.
    ///
    /// # Errors
    /// The database failed, or does not take a value.
    pub async fn insert(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        verdicts(self.verdicts, connection).await?;
        reports(self.reports, connection).await?;
        fills(self.fills, connection).await?;
        balances(self.balances, connection).await?;
        findings(self.findings, connection).await?;
        events(self.events, connection).await?;
        dead_letters(self.dead_letters, connection).await?;
        decided(self.decided.into_values().collect(), connection).await?;
        changed(self.changed.into_values().collect(), connection).await
    }
}

async fn verdicts(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO verdicts (entry, cl_ord_id, decision, reason, detail, checks, command, notional, limits_hash,
                               epoch, decided_at)
         SELECT entry, cl_ord_id, decision, reason, detail, checks, command, notional, limits_hash, epoch, decided_at
         FROM jsonb_to_recordset($1) AS row(
             entry text, cl_ord_id text, decision text, reason text, detail text, checks jsonb, command jsonb,
             notional numeric, limits_hash text, epoch text, decided_at timestamptz)
         ON CONFLICT DO NOTHING",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}

async fn reports(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO reports (entry, cl_ord_id, exec_id, order_id, exec_type, ord_status, in_doubt, strategy, symbol,
                              side, cum_qty, avg_px, reason, note, source, mode, transact_time, reported_at)
         SELECT entry, cl_ord_id, exec_id, order_id, exec_type, ord_status, in_doubt, strategy, symbol, side, cum_qty,
                avg_px, reason, note, source, mode, transact_time, reported_at
         FROM jsonb_to_recordset($1) AS row(
             entry text, cl_ord_id text, exec_id text, order_id text, exec_type text, ord_status text,
             in_doubt boolean, strategy text, symbol text, side text, cum_qty numeric, avg_px numeric, reason text,
             note text, source text, mode text, transact_time timestamptz, reported_at timestamptz)
         ON CONFLICT DO NOTHING",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}

async fn fills(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO fills (mode, symbol, trade_id, cl_ord_id, strategy, side, qty, price, commission,
                            commission_asset, is_maker, traded_at, entry)
         SELECT mode, symbol, trade_id, cl_ord_id, strategy, side, qty, price, commission, commission_asset, is_maker,
                traded_at, entry
         FROM jsonb_to_recordset($1) AS row(
             mode text, symbol text, trade_id text, cl_ord_id text, strategy text, side text, qty numeric,
             price numeric, commission numeric, commission_asset text, is_maker boolean, traded_at timestamptz,
             entry text)
         ON CONFLICT DO NOTHING",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}

async fn balances(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO balances (entry, asset, free, locked, mode, taken_at)
         SELECT entry, asset, free, locked, mode, taken_at
         FROM jsonb_to_recordset($1) AS row(
             entry text, asset text, free numeric, locked numeric, mode text, taken_at timestamptz)
         ON CONFLICT DO NOTHING",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}

async fn findings(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO findings (entry, kind, symbol, order_id, trade_id, ours, theirs, note, found_at)
         SELECT entry, kind, symbol, order_id, trade_id, ours, theirs, note, found_at
         FROM jsonb_to_recordset($1) AS row(
             entry text, kind text, symbol text, order_id text, trade_id text, ours text, theirs text, note text,
             found_at timestamptz)
         ON CONFLICT DO NOTHING",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}

async fn events(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO events (entry, event_type, service, actor, reason, detail, happened_at)
         SELECT entry, event_type, service, actor, reason, COALESCE(detail, 'null'), happened_at
         FROM jsonb_to_recordset($1) AS row(
             entry text, event_type text, service text, actor text, reason text, detail jsonb,
             happened_at timestamptz)
         ON CONFLICT DO NOTHING",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}

async fn dead_letters(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO dead_letters (entry, stream, of_entry, reason, note, original)
         SELECT entry, stream, of_entry, reason, note, original
         FROM jsonb_to_recordset($1) AS row(
             entry text, stream text, of_entry text, reason text, note text, original text)
         ON CONFLICT DO NOTHING",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}

/// What an order is, by its first verdict.
async fn decided(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO orders (cl_ord_id, strategy, symbol, side, ord_type, tif, qty, quote_qty, price, decision, reason,
                             detail, notional, decided_at, verdict_entry)
         SELECT cl_ord_id, strategy, symbol, side, ord_type, tif, qty, quote_qty, price, decision, reason, detail,
                notional, decided_at, verdict_entry
         FROM jsonb_to_recordset($1) AS row(
             cl_ord_id text, strategy text, symbol text, side text, ord_type text, tif text, qty numeric,
             quote_qty numeric, price numeric, decision text, reason text, detail text, notional numeric,
             decided_at timestamptz, verdict_entry text)
         ON CONFLICT (cl_ord_id) DO UPDATE SET
             (strategy, symbol, side, ord_type, tif, qty, quote_qty, price, decision, reason, detail, notional,
              decided_at, verdict_entry)
             = (EXCLUDED.strategy, EXCLUDED.symbol, EXCLUDED.side, EXCLUDED.ord_type, EXCLUDED.tif, EXCLUDED.qty,
                EXCLUDED.quote_qty, EXCLUDED.price, EXCLUDED.decision, EXCLUDED.reason, EXCLUDED.detail,
                EXCLUDED.notional, EXCLUDED.decided_at, EXCLUDED.verdict_entry)
         WHERE orders.verdict_entry IS NULL OR entry_place(EXCLUDED.verdict_entry) < entry_place(orders.verdict_entry)",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}

/// What became of an order, by its latest report.
async fn changed(rows: Vec<Value>, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO orders (cl_ord_id, strategy, symbol, side, ord_type, tif, qty, quote_qty, price, ord_status,
                             in_doubt, cum_qty, avg_px, end_reason, end_note, order_id, mode, changed_at, report_entry)
         SELECT cl_ord_id, strategy, symbol, side, ord_type, tif, qty, quote_qty, price, ord_status, in_doubt, cum_qty,
                avg_px, end_reason, end_note, order_id, mode, changed_at, report_entry
         FROM jsonb_to_recordset($1) AS row(
             cl_ord_id text, strategy text, symbol text, side text, ord_type text, tif text, qty numeric,
             quote_qty numeric, price numeric, ord_status text, in_doubt boolean, cum_qty numeric, avg_px numeric,
             end_reason text, end_note text, order_id text, mode text, changed_at timestamptz, report_entry text)
         ON CONFLICT (cl_ord_id) DO UPDATE SET
             (ord_status, in_doubt, cum_qty, avg_px, end_reason, end_note, order_id, mode, changed_at, report_entry)
             = (EXCLUDED.ord_status, EXCLUDED.in_doubt, EXCLUDED.cum_qty, EXCLUDED.avg_px, EXCLUDED.end_reason,
                EXCLUDED.end_note, EXCLUDED.order_id, EXCLUDED.mode, EXCLUDED.changed_at, EXCLUDED.report_entry)
         WHERE orders.report_entry IS NULL OR entry_place(EXCLUDED.report_entry) > entry_place(orders.report_entry)",
        storable(rows)
    )
    .execute(connection)
    .await
    .map(|_| ())
}
