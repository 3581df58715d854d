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

# Appends to the audit trail beside the disk's own rate, and a million records verified; DIR is on the disk to measure.
audit-bench *dir:
    cargo build --release --locked -p cdb -p cdb_tests --bins
    ./target/release/audit_bench {{dir}}

# kill -9 of the audit trail's writer at random points of an order flow.
audit-kills kills="1000":
    CDB_AUDIT_KILLS={{kills}} cargo test --locked -p cdb_tests --test it whenever_the_writer -- --nocapture

# What one risk decision costs: every check, with 50 open orders and 10 symbols.
bench-risk:
    cargo bench --locked -p cdb_core --bench evaluate

# Made-up bytes for the readers of the exchange's frames and answers.
fuzz *seconds:
    ./scripts/fuzz {{seconds}}

# 10,000 orders while everything goes wrong at random (CDB_SEED for another run).
random-faults *orders="10000":
    CDB_ORDERS={{orders}} cargo test --locked -p cdb_tests --test it random_faults -- --nocapture

# The sending path by seed, many times.
sim runs="30000":
    CDB_SIM_RUNS={{runs}} cargo test --locked -p cdb_tests --test sim -- --nocapture

# Emergency stops in the middle of bursts.
stops trials="1000":
    CDB_STOP_TRIALS={{trials}} cargo test --locked -p cdb_tests --test it middle_of_a_burst -- --nocapture

# Rounds of trouble, one kind after the other, and the table of what was broken.
soak rounds="208" seed="1":
    cargo build --locked --workspace --bins
    ./target/debug/soak {{rounds}} {{seed}}

# Each deliberately broken build must be caught by the suite.
mutants:
    ./scripts/mutants

# Every small change to the risk decisions must be caught by a test; needs cargo-mutants.
mutants-risk *options:
    cargo mutants --test-tool nextest -p cdb_core -f 'crates/cdb_core/src/checks/*.rs' -f crates/cdb_core/src/checks.rs -f crates/cdb_core/src/limits.rs -f 'crates/cdb_core/src/portfolio*' -f 'crates/cdb_core/src/portfolio/*.rs' -f crates/cdb_core/src/pnl.rs -f crates/cdb_core/src/breaker.rs -f crates/cdb_core/src/window.rs --minimum-test-timeout 120 {{options}} -- --lib

# Renews the offline data of the compile-time checked queries.
sqlx:
    ./scripts/sqlx-prepare

# Entries a second from the streams into the ledger.
ledger-rate:
    cargo build --release --locked --workspace --bins
    ./target/release/ledger_rate
