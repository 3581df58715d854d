//! A real cell under test: `cdb up` in a directory and on ports of its own, driven from outside as a user's script
//! would. Everything it starts ends with it.

pub mod cell; // starting, asking, killing
pub mod orders; // order texts
pub mod redis_server; // a bare Redis of its own
pub mod second; // a second executor
pub mod canary; // marker secrets, looked for everywhere
pub mod console; // a logged-in operator without a browser
pub mod browser; // a headless browser
pub mod chaos; // rounds of trouble, and every promise checked
pub mod metrics; // reading /metrics
pub mod trail; // an audit trail of three days, as files
pub mod sql; // asking the ledger
pub mod prometheus_server; // a Prometheus of its own
