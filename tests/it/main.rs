//! The promises of the whole, each in a file of its own, kept against real processes.
#![expect(clippy::unwrap_used, reason = "a test fails by unwrapping")]

mod whole_way; // one order, all the way
mod bad_input; // what is no order
mod emergency_stop; // nothing leaves while stopped
mod local_stop; // the same without Redis
mod second_opinion; // decisions made again
mod losses; // the loss limits
mod doubt; // unknown outcomes
mod exchange_trouble; // every meaning of the exchange's answers
mod streams; // what the exchange tells by itself
mod random_faults; // everything at random
mod breaker_conditions; // what execution and monitor see and the breaker heeds
mod crash; // kill -9 in a burst
mod chaos; // every kind of trouble under load
mod audit_before_send; // no record, no order
mod redis_loss; // FLUSHALL, SCRIPT FLUSH, an expired stop, SIGTERM
mod budgets; // what the exchange counts
mod overlap; // two executors at once
mod reconciliation; // exchange, audit trail and ledger compared
mod ledger; // every row once, whatever goes away; rebuilt; who may do what
mod foreign_order; // orders that cdb did not send
mod gate_differential; // gate.lua against its specification
mod audit_proof; // chains followed, signed for, anchored
mod audit_tampering; // `cdb audit verify` after trading
mod audit_attacks; // every way to change a trail, and what `cdb audit verify` calls it
mod audit_kill; // kill -9 of the writer, and two writers
mod audit_story; // what the records of all chains say together
mod bus_acl; // who may do what on Redis
mod secret_places; // passwords of any form, no dumps, starts that are refused
mod secrets_stay_secret; // marker secrets, every failure, every output
mod init_secrets; // scripts/init-secrets
mod key_rotation; // `cdb keys`: another exchange key while orders are under way
mod metrics; // what the services say about themselves
mod readiness; // 503 with the reason
mod dashboards; // every panel and rule at a real Prometheus and the ledger
mod console; // who may do what at the operator's page
mod console_browser; // the page in a browser
mod running; // cdb up itself
mod status; // docs/status.md
