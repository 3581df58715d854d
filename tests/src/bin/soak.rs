//! `soak [ROUNDS] [SEED]`: rounds of trouble, one kind after the other, and a table at the end. Not part of CI.

use std::process::ExitCode;

use cdb_tests::chaos::{Fault, round, table};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let (rounds, seed) = (arguments.next().unwrap_or(200), arguments.next().unwrap_or(1));
    let mut played = Vec::new();
    for (n, fault) in (0..rounds).zip(Fault::ALL.iter().copied().cycle()) {
        let one = round(fault, seed.wrapping_add(n)).await;
        let (orders, there, took) = (one.orders, one.at_exchange, one.took.as_secs());
        println!("round {n}: {}, {orders} orders, {there} at the exchange, {took} s", fault.name());
        for violation in &one.violations {
            println!("  VIOLATION (seed {}): {violation}", seed.wrapping_add(n));
        }
        played.push(one);
    }
    let (text, is_well) = table(&played);
    println!("\n{text}");
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
