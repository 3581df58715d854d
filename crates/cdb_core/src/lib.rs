//! The decisions of Claire de Binare, pure: values in, values out, `now` is the last argument.
//!
//! Nothing here reads a clock, an environment or a file, draws a random number, logs, or waits.
//! Reading order:
#![cfg_attr(not(test), deny(clippy::float_arithmetic, clippy::arithmetic_side_effects))]

pub mod money; // prices, quantities, amounts: decimals that cannot be mixed up
pub mod ids; // names of orders, trades, strategies, symbols
pub mod time; // UTC milliseconds and the UTC day
pub mod fields; // a JSON object read strictly, field by field
pub mod order; // what an order is
pub mod command; // what strategies and operators may ask for
pub mod reason; // every reason for which an order is refused
pub mod symbol_rules; // what the exchange allows on a symbol
pub mod market; // the reference price and how old it is
pub mod limits; // the owner's limits, read from names and texts
pub mod window; // counting in sliding windows and UTC days
pub mod portfolio; // balances, positions, open orders, exposure
pub mod position; // quantity, cost and result out of fills
pub mod pnl; // the day's result and the fall from the peak
pub mod breaker; // the circuit breaker's state machine
pub mod condition; // what other services report to the breaker
pub mod checks; // the ordered table of checks
pub mod inputs; // what a decision was made from
pub mod desk; // the risk service's whole state: one order in, one decision out
pub mod usage; // how much of each limit is in use
pub mod verdict; // the signed answer to one order
pub mod second_opinion; // deciding again what was decided
pub mod gate; // the specification of the atomic admission
pub mod sending; // the only road from an approved order to a submission
pub mod fills; // which fills are booked, each once
pub mod lifecycle; // how reports move an order, whatever their order of arrival
pub mod reconcile; // whether the account is explained by the fills
pub mod report; // what happened to an order, and to the account
pub mod event; // what happened to the desk
pub mod alert; // when a person is told
pub mod audit; // the tamper-evident chain of records
pub mod tree; // short proofs that records are in a chain
pub mod checkpoint; // signed: how far a chain had come
pub mod secret; // what may never be printed
pub mod key_change; // what becomes of a changed exchange key

#[cfg(test)]
mod test_values; // values that several tests speak of
