-- What those who watch ask for.

CREATE INDEX events_by_type ON events (event_type, happened_at);
CREATE INDEX reports_by_order ON reports (cl_ord_id);
CREATE INDEX verdicts_of_cancels ON verdicts ((command ->> 'orig_cl_ord_id')) WHERE command ->> 'type' = 'cancel';

-- Equity and result as cdb_risk measures them, sampled. Prices are not on the streams, so this is an observation that
-- cannot be rebuilt from them: a rebuild leaves it alone.
CREATE TABLE equity (
    mode   text        NOT NULL,
    at     timestamptz NOT NULL,
    equity numeric     NOT NULL,
    today  numeric,
    PRIMARY KEY (mode, at)
);

-- Alerts that were raised and not resolved, with who acknowledged them.
CREATE VIEW open_alerts AS
SELECT last.alert, last.level, last.service, last.reason, last.happened_at,
       ack.actor AS acknowledged_by, ack.happened_at AS acknowledged_at
FROM (SELECT DISTINCT ON (alert) *
      FROM (SELECT COALESCE(detail ->> 'id', detail ->> 'rule', service) AS alert, event_type,
                   detail ->> 'level' AS level, service, reason, happened_at, entry
            FROM events WHERE event_type IN ('alert_raised', 'alert_resolved')) raised
      ORDER BY alert, happened_at DESC, entry DESC) last
LEFT JOIN LATERAL (SELECT actor, happened_at FROM events
                   WHERE event_type = 'operator_action' AND detail ->> 'command' = 'alert_ack'
                     AND detail ->> 'alert' = last.alert AND happened_at >= last.happened_at
                   ORDER BY happened_at LIMIT 1) ack ON true
WHERE last.event_type = 'alert_raised';

-- Exchange keys by fingerprint; a key's age counts from its first sight.
CREATE VIEW keys AS
SELECT detail ->> 'fingerprint' AS fingerprint, min(happened_at) AS first_seen, max(happened_at) AS last_seen
FROM events
WHERE event_type IN ('key_loaded', 'key_rotated') AND detail ->> 'fingerprint' IS NOT NULL
GROUP BY 1;

-- Stops and resumes, whoever caused them.
CREATE VIEW stop_history AS
SELECT entry, happened_at, actor, reason, detail ->> 'key' AS key,
       CASE WHEN event_type IN ('stop_cleared', 'resumed') THEN 'cleared' ELSE 'set' END AS change
FROM events
WHERE event_type IN ('stop_seen', 'stop_cleared', 'resumed')
   OR (event_type = 'operator_action' AND detail ->> 'command' = 'stop');

-- Every move of the circuit breaker.
CREATE VIEW breaker_history AS
SELECT entry, happened_at, actor, reason, detail ->> 'cause' AS cause,
       CASE event_type WHEN 'breaker_opened' THEN 'open' WHEN 'breaker_half_open' THEN 'half_open'
                       WHEN 'operator_action' THEN detail ->> 'command' ELSE 'closed' END AS change
FROM events
WHERE event_type IN ('breaker_opened', 'breaker_half_open', 'breaker_closed', 'breaker_reset')
   OR (event_type = 'operator_action' AND detail ->> 'command' IN ('breaker trip', 'breaker reset'));
