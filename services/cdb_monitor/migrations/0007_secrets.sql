-- Secrets by name and fingerprint; an age counts from the fingerprint's first sight. Events from before secrets had
-- names are about the exchange key.
CREATE VIEW secrets AS
SELECT COALESCE(detail ->> 'secret', 'MEXC_API_KEY') AS secret, detail ->> 'fingerprint' AS fingerprint,
       min(happened_at) AS first_seen, max(happened_at) AS last_seen,
       max(happened_at) FILTER (WHERE event_type = 'key_rotated') AS rotated_at
FROM events
WHERE event_type IN ('key_loaded', 'key_rotated') AND detail ->> 'fingerprint' IS NOT NULL
GROUP BY 1, 2;

-- The exchange keys among them.
CREATE OR REPLACE VIEW keys AS
SELECT fingerprint, first_seen, last_seen FROM secrets WHERE secret = 'MEXC_API_KEY';
