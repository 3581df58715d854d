#!/bin/sh
# Roles of a new ledger, at the database's first start: each logs in with a password of its own, none is a superuser.
# cdb_monitor owns the schema; the others may read what their work needs and nothing else.
set -eu
# Reached as the first start reaches it: over the socket, as the superuser. Passwords are read by psql itself, so that
# none is an argument that the process list shows.
psql -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d "$POSTGRES_DB" <<'SQL'
\set monitor `cat /run/secrets/postgres_password`
\set exporter `cat /run/secrets/postgres_exporter`
\set grafana `cat /run/secrets/postgres_grafana`
SET password_encryption = 'scram-sha-256';
SET log_statement = 'none';
CREATE ROLE cdb_monitor LOGIN PASSWORD :'monitor' CONNECTION LIMIT 20;
CREATE ROLE cdb_exporter LOGIN PASSWORD :'exporter' CONNECTION LIMIT 5 IN ROLE pg_monitor;
CREATE ROLE cdb_grafana LOGIN PASSWORD :'grafana' CONNECTION LIMIT 10;
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO cdb_monitor, cdb_exporter, cdb_grafana;
GRANT USAGE, CREATE ON SCHEMA public TO cdb_monitor;
GRANT USAGE ON SCHEMA public TO cdb_grafana;
ALTER DEFAULT PRIVILEGES FOR ROLE cdb_monitor IN SCHEMA public GRANT SELECT ON TABLES TO cdb_grafana;
ALTER ROLE cdb_grafana SET default_transaction_read_only = on;
ALTER ROLE cdb_grafana SET statement_timeout = '10s';
ALTER ROLE cdb_exporter SET default_transaction_read_only = on;
ALTER ROLE cdb_exporter SET statement_timeout = '10s';
SQL
