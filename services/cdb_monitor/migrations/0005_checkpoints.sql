-- Signed checkpoints of the audit chains, kept where the audit files' host cannot change them. They are no projection of
-- the streams: a rebuild of the ledger leaves them alone. Nothing is ever changed or deleted here.
CREATE TABLE checkpoints (
    origin      text        NOT NULL,              -- <key's name>/<chain>
    size        bigint      NOT NULL CHECK (size >= 0),
    head        text        NOT NULL,              -- hash of record <size>
    note        text        NOT NULL,              -- the whole signed note
    signed_at   timestamptz NOT NULL,
    anchored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (origin, size, signed_at)
);
CREATE INDEX checkpoints_by_time ON checkpoints (signed_at);
