//! The promises of the whole, each in a file of its own, kept against real processes.
#![expect(clippy::unwrap_used, reason = "a test fails by unwrapping")]

mod audit_tampering; // `cdb audit verify`
mod bad_input; // what is no order
mod bus_acl; // who may do what on Redis
mod crash; // kill -9 in a burst
mod doubt; // unknown outcomes
mod emergency_stop; // nothing leaves while stopped
mod foreign_order; // orders that cdb did not send
mod gate_differential; // gate.lua against its specification
mod losses; // the loss limits
mod running; // cdb up itself
mod whole_way; // one order, all the way
