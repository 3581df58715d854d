# Short names for the scripts. `just` is not needed: each line can be typed as it stands.

# What CI runs.
check:
    ./scripts/test

# The sample orders against the stand-in exchange.
demo *options:
    ./scripts/quickstart {{options}}

# Latency and throughput beside a bare two-hop chain, in one run.
bench:
    cargo build --release --locked --workspace --bins
    cargo run --release --locked -p cdb_tests --bin bench

# Made-up bytes for the readers of the exchange's frames and answers.
fuzz *seconds:
    ./scripts/fuzz {{seconds}}

# 10,000 orders while everything goes wrong at random (CDB_SEED for another run).
random-faults *orders="10000":
    CDB_ORDERS={{orders}} cargo test --locked -p cdb_tests --test it random_faults -- --nocapture

# Rounds of trouble, one kind after the other, and the table of what was broken.
soak rounds="208" seed="1":
    cargo build --locked --workspace --bins
    ./target/debug/soak {{rounds}} {{seed}}

# Each deliberately broken build must be caught by the suite.
mutants:
    ./scripts/mutants

# Renews the offline data of the compile-time checked queries.
sqlx:
    ./scripts/sqlx-prepare
