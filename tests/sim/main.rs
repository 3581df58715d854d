//! The sending path by seed: several executors, the gate's specification, the stand-in's matching core, one virtual
//! clock. Executors crash and pause between any two steps, messages are held up, lost and answered late, Redis restarts
//! and is rolled back, stops come and go. After every step the invariants are checked (design §11).
//!
//! `CDB_SIM_SEED=n` replays one run with its trace, `CDB_SIM_RUNS=n` plays that many.
#![expect(clippy::unwrap_used, reason = "a test fails by unwrapping")]

mod world; // Redis, the network, the exchange, the orders
mod executor; // the sender's steps, one at a time
mod play; // chance: who moves next, and what goes wrong

use play::Play;

/// Runs of the corpus.
const RUNS: u64 = 400;
/// Steps of a run while things go wrong.
const STEPS: u32 = 4_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_goes_wrong_an_order_is_sent_at_most_once_and_never_lost() {
    if let Some(seed) = number("CDB_SIM_SEED") {
        let play = Play::run(seed, STEPS);
        println!("{}", play.trace());
        assert_eq!(play.broken(), None, "seed {seed}");
        return;
    }
    let runs = number("CDB_SIM_RUNS").unwrap_or(RUNS);
    let mut totals = play::Counts::default();
    for seed in 0..runs {
        let play = Play::run(seed, STEPS);
        if let Some(broken) = play.broken() {
            let trace = play.trace();
            panic!(
                "{trace}\nseed {seed}: {broken}\nreplay: CDB_SIM_SEED={seed} cargo test -p cdb_tests --test sim -- --nocapture"
            );
        }
        totals.add(play.counts());
    }
    println!("{runs} runs: {totals}");
    assert!(totals.is_telling(), "the runs show too little: {totals}");
}
