#!/bin/sh
# Roles of a new ledger, at the database's first start: see roles.psql. Reached as the first start reaches it: over the
# socket, as the superuser.
set -eu
CDB_SECRETS=/run/secrets psql -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d "$POSTGRES_DB" \
    -f /docker-entrypoint-initdb.d/roles.psql
