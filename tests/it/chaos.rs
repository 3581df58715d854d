//! One round of each kind of trouble; `just soak` plays hundreds.

use cdb_tests::chaos::{Fault, round, table};

/// Plays every `step`-th kind, from `first` on.
async fn plays(first: usize, step: usize) {
    let mut rounds = Vec::new();
    for (n, fault) in Fault::ALL.iter().enumerate().skip(first).step_by(step) {
        // One kind is played under the real budgets, the next without.
        rounds.push(round(*fault, 1_000 + u64::try_from(n / step).unwrap()).await);
    }
    let violations: Vec<&String> = rounds.iter().flat_map(|round| &round.violations).collect();
    let (text, is_well) = table(&rounds);
    assert!(is_well, "{text}\n{violations:#?}");
    eprintln!("{text}");
}

#[tokio::test]
async fn no_trouble_of_the_first_kind_breaks_a_promise() {
    plays(0, 4).await;
}

#[tokio::test]
async fn no_trouble_of_the_second_kind_breaks_a_promise() {
    plays(1, 4).await;
}

#[tokio::test]
async fn no_trouble_of_the_third_kind_breaks_a_promise() {
    plays(2, 4).await;
}

#[tokio::test]
async fn no_trouble_of_the_fourth_kind_breaks_a_promise() {
    plays(3, 4).await;
}
