-- Orders as rows of their own, the day's figures, histories, and what a rebuild leaves on record.

-- Where an entry stands among others of its stream. Ids are `<ms>-<sequence>`; rows out of the audit trail carry a third
-- part, which names the chain.
CREATE FUNCTION entry_place(entry text) RETURNS bigint[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY[split_part(entry, '-', 1)::bigint, split_part(entry, '-', 2)::bigint];

-- The state of each order: its first verdict, and its latest report. Whichever comes first makes the row.
ALTER VIEW orders RENAME TO orders_before;
CREATE TABLE orders (
    cl_ord_id     text PRIMARY KEY,
    strategy      text,
    symbol        text,
    side          text,
    ord_type      text,
    tif           text,
    qty           numeric,
    quote_qty     numeric,
    price         numeric,
    decision      text CHECK (decision IN ('approved', 'rejected')),
    reason        text,
    detail        text,
    notional      numeric,
    decided_at    timestamptz,
    verdict_entry text,                         -- id in cdb:verdicts
    ord_status    text,
    in_doubt      boolean,
    cum_qty       numeric,
    avg_px        numeric,
    end_reason    text,
    end_note      text,
    order_id      text,
    mode          text,
    changed_at    timestamptz,
    report_entry  text                          -- id in cdb:executions
);
CREATE INDEX orders_by_time ON orders (decided_at);
CREATE INDEX orders_open ON orders (decided_at)
    WHERE decision = 'approved' AND COALESCE(ord_status, 'PendingNew') NOT IN ('Filled', 'Canceled', 'Rejected', 'Expired');

INSERT INTO orders (cl_ord_id, strategy, symbol, side, ord_type, tif, qty, quote_qty, price, decision, reason, detail,
                    notional, decided_at, verdict_entry, ord_status, in_doubt, cum_qty, avg_px, end_reason, end_note,
                    order_id, mode, changed_at, report_entry)
SELECT v.cl_ord_id, v.command ->> 'strategy', v.command ->> 'symbol', v.command ->> 'side', v.command ->> 'ord_type',
       v.command ->> 'tif',
       CASE WHEN v.command ->> 'qty' ~ '^[0-9]+([.][0-9]+)?$' THEN (v.command ->> 'qty')::numeric END,
       CASE WHEN v.command ->> 'quote_qty' ~ '^[0-9]+([.][0-9]+)?$' THEN (v.command ->> 'quote_qty')::numeric END,
       CASE WHEN v.command ->> 'price' ~ '^[0-9]+([.][0-9]+)?$' THEN (v.command ->> 'price')::numeric END, v.decision, v.reason, v.detail, v.notional, v.decided_at, v.entry,
       r.ord_status, r.in_doubt, r.cum_qty, r.avg_px, r.reason, r.note, r.order_id, r.mode, r.reported_at, r.entry
FROM (SELECT DISTINCT ON (cl_ord_id) * FROM verdicts ORDER BY cl_ord_id, entry_place(entry)) v
LEFT JOIN (SELECT DISTINCT ON (cl_ord_id) * FROM reports ORDER BY cl_ord_id, entry_place(entry) DESC) r
       ON r.cl_ord_id = v.cl_ord_id
WHERE COALESCE(v.command ->> 'type', 'new') = 'new';
DROP VIEW orders_before;

-- Both sides of a difference; and a difference that the audit trail tells of as well is one.
ALTER TABLE findings ADD COLUMN ours text, ADD COLUMN theirs text;
DELETE FROM findings doubled USING findings kept
WHERE doubled.entry > kept.entry AND doubled.kind = kept.kind AND doubled.found_at = kept.found_at
  AND doubled.note = kept.note;
CREATE UNIQUE INDEX findings_once ON findings (kind, found_at, md5(note));
CREATE INDEX balances_by_time ON balances (taken_at);
CREATE INDEX fills_by_time ON fills (traded_at);
CREATE INDEX fills_by_day ON fills (((traded_at AT TIME ZONE 'UTC')::date));

-- Orders of each UTC day.
CREATE VIEW daily_orders AS
SELECT (decided_at AT TIME ZONE 'UTC')::date                  AS day,
       count(*)                                               AS orders,
       count(*) FILTER (WHERE decision = 'approved')          AS approved,
       count(*) FILTER (WHERE decision = 'rejected')          AS refused,
       count(*) FILTER (WHERE ord_status = 'Filled')          AS filled,
       count(*) FILTER (WHERE ord_status = 'Canceled')        AS canceled,
       count(*) FILTER (WHERE decision = 'approved' AND ord_status = 'Rejected') AS not_accepted
FROM orders WHERE decided_at IS NOT NULL GROUP BY 1;

-- Fills, fees and equity of each UTC day. Turnover is in the quote currency. The result is the last one measured.
CREATE VIEW daily_figures AS
SELECT day, mode, f.fills, f.bought, f.sold, c.fees,
       e.first_equity, e.last_equity, e.lowest_equity, e.highest_equity, e.result
FROM (SELECT (traded_at AT TIME ZONE 'UTC')::date AS day, mode, count(*) AS fills,
             COALESCE(sum(qty * price) FILTER (WHERE side = 'BUY'), 0)  AS bought,
             COALESCE(sum(qty * price) FILTER (WHERE side = 'SELL'), 0) AS sold
      FROM fills GROUP BY 1, 2) f
FULL JOIN (SELECT (at AT TIME ZONE 'UTC')::date AS day, mode,
                  (array_agg(equity ORDER BY at))[1]      AS first_equity,
                  (array_agg(equity ORDER BY at DESC))[1] AS last_equity,
                  min(equity) AS lowest_equity, max(equity) AS highest_equity,
                  (array_agg(today ORDER BY at DESC))[1]  AS result
           FROM equity GROUP BY 1, 2) e USING (day, mode)
LEFT JOIN (SELECT day, mode, jsonb_object_agg(commission_asset, fee) AS fees
           FROM (SELECT (traded_at AT TIME ZONE 'UTC')::date AS day, mode, commission_asset, sum(commission) AS fee
                 FROM fills GROUP BY 1, 2, 3) by_asset
           GROUP BY 1, 2) c USING (day, mode);

-- Everything that happened to an alert.
CREATE VIEW alert_history AS
SELECT entry, happened_at,
       COALESCE(detail ->> 'alert', detail ->> 'id', detail ->> 'rule', service) AS alert,
       CASE event_type WHEN 'alert_raised' THEN 'raised' WHEN 'alert_resolved' THEN 'resolved'
                       ELSE replace(detail ->> 'command', 'alert_', '') END AS change,
       detail ->> 'level' AS level, service, actor, reason
FROM events
WHERE event_type IN ('alert_raised', 'alert_resolved')
   OR (event_type = 'operator_action' AND detail ->> 'command' LIKE 'alert\_%');

-- Every sight of an exchange key: loaded, rotated, refused.
CREATE VIEW key_history AS
SELECT entry, happened_at, event_type AS change, detail ->> 'fingerprint' AS fingerprint, service, actor, reason
FROM events WHERE event_type IN ('key_loaded', 'key_rotated', 'key_rejected');

-- Signed checkpoints of the audit trail, and its troubles.
CREATE VIEW audit_history AS
SELECT entry, happened_at, event_type AS change, service, reason, detail
FROM events WHERE event_type IN ('checkpoint', 'audit_trouble');

-- Rebuilds of this ledger that operators asked for.
CREATE TABLE rebuilds (
    id       text PRIMARY KEY,
    actor    text        NOT NULL,
    reason   text        NOT NULL,
    ended_at timestamptz NOT NULL,
    outcome  jsonb       NOT NULL
);
