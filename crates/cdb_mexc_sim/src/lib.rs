//! A stand-in MEXC spot exchange: strict where the exchange is known to be strict, matching against replayed or
//! scripted prices, with every uncertainty and every fault settable at run time. It shares no code with cdb, so that
//! a misunderstanding on one side does not agree with itself on the other. Interface: `docs/stand-in.md`.
//! Reading order:

pub mod rules; // the symbols and what they allow
pub mod market; // bid, ask, last, and the liquidity behind them
pub mod account; // balances
pub mod order; // orders and trades
pub mod event; // what the streams are told
pub mod exchange; // matching
pub mod error; // refusals with their codes
pub mod params; // parameters of a request, raw and parsed
pub mod auth; // key, signature, time window
pub mod budget; // rate limits, as the exchange counts them
pub mod faults; // what is to go wrong
pub mod listen_key; // what opens the user stream
pub mod channel; // what can be subscribed to, and its frames
pub mod hub; // who is subscribed to what
pub mod state; // everything behind one lock
pub mod api; // the exchange's REST interface
pub mod stream; // the exchange's WebSocket interface
pub mod admin; // the interface for tests and scripts
pub mod replay; // recorded prints as a price path
pub mod server; // both interfaces on their ports
