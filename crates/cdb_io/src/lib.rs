//! The shell shared by the services: it moves bytes and decides nothing. Reading order:

pub mod clock; // wall, monotonic and boot time
pub mod config; // a service's environment, all faults at once
pub mod secret_file; // secrets out of files
pub mod secret_pair; // the same while they are exchanged, two that belong together as one
pub mod no_dumps; // no image of a process that holds secrets
pub mod durable_file; // small files, whole or not at all
pub mod bus; // connections to Redis and what is read from it
pub mod scripts; // the Lua scripts, bound to one Redis process
pub mod lease; // who leads
pub mod heartbeat; // which services live
pub mod audit_log; // the audit chain on disk, group-committed
pub mod audit_compress; // its old days, compressed
pub mod audit_files; // the chain read back and verified, line by line
pub mod audit_tail; // a chain followed as it grows
pub mod conditions; // what the breaker must heed, reported
pub mod events; // what happened to the desk, published
pub mod operator; // what an operator may do, on record
pub mod review; // verdicts, decided again
pub mod telemetry; // logs
pub mod meters; // metrics under one rule of names
pub mod health; // progress, readiness, metrics over HTTP
pub mod healthcheck; // the same, asked for by the program itself
pub mod supervise; // a task that ends ends the process; SIGTERM drains
