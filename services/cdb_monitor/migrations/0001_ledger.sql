-- The ledger: a projection of the streams, idempotent by stream id and trade id. It can be rebuilt from them.

-- How far each stream is in the ledger; moved in the same transaction as the rows.
CREATE TABLE cursors (
    stream text PRIMARY KEY,
    entry  text NOT NULL
);

CREATE TABLE verdicts (
    entry       text PRIMARY KEY,               -- id in cdb:verdicts
    cl_ord_id   text        NOT NULL,
    decision    text        NOT NULL CHECK (decision IN ('approved', 'rejected')),
    reason      text,
    detail      text        NOT NULL,
    checks      jsonb       NOT NULL,
    command     jsonb,
    notional    numeric,
    limits_hash text        NOT NULL,
    epoch       text        NOT NULL,
    decided_at  timestamptz NOT NULL
);
CREATE INDEX verdicts_by_order ON verdicts (cl_ord_id);
CREATE INDEX verdicts_by_time ON verdicts (decided_at);

CREATE TABLE reports (
    entry         text PRIMARY KEY,             -- id in cdb:executions
    cl_ord_id     text        NOT NULL,
    exec_id       text        NOT NULL,
    order_id      text,
    exec_type     text        NOT NULL,
    ord_status    text        NOT NULL,
    in_doubt      boolean     NOT NULL,
    strategy      text        NOT NULL,
    symbol        text        NOT NULL,
    side          text        NOT NULL CHECK (side IN ('BUY', 'SELL')),
    cum_qty       numeric     NOT NULL,
    avg_px        numeric,
    reason        text,
    note          text,
    source        text        NOT NULL,
    mode          text        NOT NULL,
    transact_time timestamptz NOT NULL,
    reported_at   timestamptz NOT NULL,
    UNIQUE (cl_ord_id, exec_id)
);
CREATE INDEX reports_by_time ON reports (reported_at);

CREATE TABLE fills (
    mode             text        NOT NULL,
    symbol           text        NOT NULL,
    trade_id         text        NOT NULL,
    cl_ord_id        text        NOT NULL,
    strategy         text        NOT NULL,
    side             text        NOT NULL CHECK (side IN ('BUY', 'SELL')),
    qty              numeric     NOT NULL CHECK (qty > 0),
    price            numeric     NOT NULL CHECK (price > 0),
    commission       numeric     NOT NULL,
    commission_asset text        NOT NULL,
    is_maker         boolean     NOT NULL,
    traded_at        timestamptz NOT NULL,
    entry            text        NOT NULL,
    PRIMARY KEY (mode, symbol, trade_id)
);
CREATE INDEX fills_by_order ON fills (cl_ord_id);

CREATE TABLE balances (
    entry    text        NOT NULL,
    asset    text        NOT NULL,
    free     numeric     NOT NULL,
    locked   numeric     NOT NULL,
    mode     text        NOT NULL,
    taken_at timestamptz NOT NULL,
    PRIMARY KEY (entry, asset)
);

CREATE TABLE findings (
    entry    text PRIMARY KEY,
    kind     text        NOT NULL,
    symbol   text,
    order_id text,
    trade_id text,
    note     text        NOT NULL,
    found_at timestamptz NOT NULL
);

CREATE TABLE events (
    entry       text PRIMARY KEY,               -- id in cdb:events
    event_type  text        NOT NULL,
    service     text        NOT NULL,
    actor       text        NOT NULL,
    reason      text        NOT NULL,
    detail      jsonb       NOT NULL,
    happened_at timestamptz NOT NULL
);
CREATE INDEX events_by_time ON events (happened_at);

CREATE TABLE dead_letters (
    entry      text PRIMARY KEY,                -- id in cdb:dead
    stream     text NOT NULL,
    of_entry   text NOT NULL,
    reason     text NOT NULL,
    note       text NOT NULL,
    original   text NOT NULL
);

-- The state of each order: its first verdict, and the report with the highest entry.
CREATE VIEW orders AS
SELECT v.cl_ord_id,
       v.command ->> 'strategy'            AS strategy,
       v.command ->> 'symbol'              AS symbol,
       v.command ->> 'side'                AS side,
       v.command ->> 'ord_type'            AS ord_type,
       v.decision,
       v.reason,
       v.detail,
       v.decided_at,
       r.ord_status,
       r.in_doubt,
       r.cum_qty,
       r.avg_px,
       r.reason                            AS end_reason,
       r.note                              AS end_note,
       r.order_id
FROM (SELECT DISTINCT ON (cl_ord_id) * FROM verdicts ORDER BY cl_ord_id, decided_at, entry) v
LEFT JOIN (SELECT DISTINCT ON (cl_ord_id) * FROM reports
           ORDER BY cl_ord_id, split_part(entry, '-', 1)::bigint DESC, split_part(entry, '-', 2)::bigint DESC) r
       ON r.cl_ord_id = v.cl_ord_id
WHERE COALESCE(v.command ->> 'type', 'new') = 'new';
