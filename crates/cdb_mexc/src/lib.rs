//! The venue: MEXC spot, REST. Facts and how certain each is: `docs/mexc.md`. Reading order:

pub mod signing; // exactly the bytes that are sent are signed
pub mod answer; // what a status, a code, a body, or silence means
pub mod wire; // the exchange's JSON, read leniently
pub mod endpoint; // every call, its weight and its rate budgets
pub mod http; // how HTTP clients are built
pub mod client; // the calls
