//! The venue: MEXC spot, REST and streams. Facts and how certain each is: `docs/mexc.md`. Reading order:

pub mod signing; // exactly the bytes that are sent are signed
pub mod answer; // what a status, a code, a body, or silence means
pub mod wire; // the exchange's JSON, read leniently
pub mod endpoint; // every call, its weight and its rate budgets
pub mod clock; // the exchange's clock, and when it may be relied on
pub mod http; // how connections are secured and HTTP clients built
pub mod client; // the calls
pub mod push; // what the streams say
pub mod stream; // one WebSocket connection
