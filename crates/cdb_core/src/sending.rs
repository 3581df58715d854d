//! The only road from an approved order to a submission, and from an unknown outcome to a known one (design §6).
//!
//! [`Sending::on`] is the machine. A [`Submission`] is made in one arm of it: after approval, grant and durable
//! audit record, within the send deadline. It cannot be cloned; what was submitted once is never submitted again.

use crate::audit::Durable;
use crate::gate::{Answer, Claim, FENCE_MARGIN_MS};
use crate::ids::OrderId;
use crate::lifecycle::{Observation, VenueStatus};
use crate::money::Qty;
use crate::order::NewOrder;
use crate::reason::{GateRefusal, VenueRefusal};
use crate::time::Timestamp;
use crate::verdict::ApprovedOrder;

/// Longest time from the grant to the first byte of the request, ms on the monotonic clock.
pub const SEND_DEADLINE_MS: i64 = 250;
/// The part of it that a new connection to the exchange may take, ms.
pub const CONNECT_MS_MAX: i64 = 100;
/// After this long the submission is not handed out any more, ms.
pub const SEND_BY_MS: i64 = SEND_DEADLINE_MS - CONNECT_MS_MAX;
/// Queries after the fence that must all say "not found" before that is final.
pub const ABSENT_QUERIES_MIN: u32 = 3;
/// Shortest pause between two queries about an order in doubt, ms.
pub const QUERY_PAUSE_MS_MIN: i64 = 250;
/// Longest pause between two queries about an order in doubt, ms.
pub const QUERY_PAUSE_MS_MAX: i64 = 4_000;

/// The right to send one request once. Made by [`Sending::on`] alone.
#[derive(Debug)]
pub struct Submission {
    order: NewOrder,
    claim: Claim,
}

impl Submission {
    /// What to send.
    #[must_use]
    pub const fn order(&self) -> &NewOrder {
        &self.order
    }
    /// With which timestamp and window.
    #[must_use]
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }
}

/// What the exchange answered to a submission. Placing does not fail, it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VenueAnswer {
    /// It has the order.
    Accepted {
        /// Its id for it.
        order_id: OrderId,
    },
    /// It does not have the order and will not.
    Refused {
        /// What the sender may do about it.
        reason: VenueRefusal,
        /// For a person.
        text: String,
    },
    /// Nobody knows.
    InDoubt {
        /// Why.
        text: String,
    },
}

/// What a query about an order in doubt found, in orders, open orders and trades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The exchange has it.
    Found {
        /// Its id there.
        order_id: OrderId,
        /// Its state.
        status: VenueStatus,
        /// Base quantity executed.
        executed_qty: Qty,
    },
    /// None of the lists has it.
    Absent {
        /// The exchange's clock when it said so.
        exchange_time: Timestamp,
    },
    /// The exchange could not be asked.
    Unanswered,
}

/// Where an order is on its way.
#[derive(Debug)]
pub enum Sending {
    /// Not granted.
    Waiting(Box<ApprovedOrder>),
    /// Claimed; its audit record is being written.
    Granted {
        /// The order.
        order: NewOrder,
        /// Its claim.
        claim: Claim,
        /// Monotonic ms just before the gate was asked.
        asked_at_ms: i64,
    },
    /// The submission was given out.
    InFlight {
        /// Its claim.
        claim: Claim,
    },
    /// The outcome is unknown.
    InDoubt {
        /// Its claim, with the fence.
        claim: Claim,
        /// Pause before the next query, ms.
        pause_ms: i64,
        /// "Not found" answers from beyond the fence.
        absent: u32,
        /// Monotonic ms since when it is in doubt here: a wall clock that is set forward passes no fence.
        since_ms: i64,
    },
    /// The outcome is known; the order's life goes on in `lifecycle`.
    Settled,
}

/// What moves the machine.
#[derive(Debug)]
pub enum Input {
    /// The gate answered a question asked at this monotonic time.
    Gate {
        /// Its answer.
        answer: Answer,
        /// Monotonic ms just before it was asked.
        asked_at_ms: i64,
    },
    /// The order was withdrawn, or did not get a slot in time.
    GiveUp(GateRefusal),
    /// ORDER_SUBMITTED is on disk.
    AuditDurable {
        /// Proof.
        proof: Durable,
        /// Monotonic ms now.
        now_ms: i64,
    },
    /// The exchange answered, or did not.
    Venue {
        /// Its answer.
        answer: VenueAnswer,
        /// Monotonic ms now.
        now_ms: i64,
    },
    /// A query was answered, or not.
    Looked {
        /// What it found.
        lookup: Lookup,
        /// Monotonic ms now.
        now_ms: i64,
    },
}

/// What to do next.
#[derive(Debug)]
pub enum Action {
    /// Ask the gate again after this many ms.
    AskAgainIn(i64),
    /// Write ORDER_SUBMITTED and wait until it is durable.
    WriteAudit,
    /// Send, once.
    Submit(Submission),
    /// Record and publish what was learnt; the order's life goes on in `lifecycle`.
    Learn(Observation),
    /// As [`Action::Learn`], then query after the pause.
    LearnThenQueryIn(Observation, i64),
    /// Query after this many ms.
    QueryIn(i64),
    /// The ClOrdID was granted before: acknowledge the repeated verdict and do nothing else.
    AlreadyClaimed,
    /// This process no longer leads: no acknowledgement, no publication.
    StandDown,
    /// The input does not belong to this state.
    Nothing,
}

impl Sending {
    /// An order that was claimed by an earlier process, audited or not: in doubt until found or fenced off.
    #[must_use]
    pub const fn recovered(claim: Claim, now_ms: i64) -> Self {
        Self::InDoubt { claim, pause_ms: QUERY_PAUSE_MS_MIN, absent: 0, since_ms: now_ms }
    }

    /// Moves the machine.
    pub fn on(&mut self, input: Input) -> Action {
        let state = std::mem::replace(self, Self::Settled);
        let (next, action) = match (state, input) {
            (Self::Waiting(order), Input::Gate { answer, asked_at_ms }) => Self::on_gate(order, answer, asked_at_ms),
            (Self::Waiting(_), Input::GiveUp(refusal)) => (Self::Settled, refuse(refusal)),
            (Self::Granted { order, claim, asked_at_ms }, Input::AuditDurable { proof, now_ms }) => {
                if now_ms.saturating_sub(asked_at_ms) <= SEND_BY_MS {
                    proof.spend();
                    (Self::InFlight { claim: claim.clone() }, Action::Submit(Submission { order, claim }))
                } else {
                    // Nobody sends it, ever; that nobody did is then proven like any other doubt.
                    doubt(
                        claim,
                        format!("{}: not sent within {SEND_DEADLINE_MS} ms", GateRefusal::SendDeadline),
                        now_ms,
                    )
                }
            }
            (Self::InFlight { .. }, Input::Venue { answer: VenueAnswer::Accepted { order_id }, .. }) => {
                (Self::Settled, Action::Learn(Observation::Accepted { order_id }))
            }
            (Self::InFlight { .. }, Input::Venue { answer: VenueAnswer::Refused { reason, text }, .. }) => {
                let observation = Observation::Refused { reason: reason.code().to_owned(), text };
                (Self::Settled, Action::Learn(observation))
            }
            (Self::InFlight { claim }, Input::Venue { answer: VenueAnswer::InDoubt { text }, now_ms }) => {
                doubt(claim, text, now_ms)
            }
            (Self::InDoubt { claim, pause_ms, absent, since_ms }, Input::Looked { lookup, now_ms }) => {
                let doubted_ms = now_ms.saturating_sub(since_ms);
                Self::on_lookup(Doubt { claim, pause_ms, absent, since_ms }, lookup, doubted_ms)
            }
            (state, _) => (state, Action::Nothing),
        };
        *self = next;
        action
    }

    fn on_gate(order: Box<ApprovedOrder>, answer: Answer, asked_at_ms: i64) -> (Self, Action) {
        match answer {
            Answer::Granted(Some(claim)) => {
                let order = order.order().clone();
                (Self::Granted { order, claim, asked_at_ms }, Action::WriteAudit)
            }
            // A grant without a claim belongs to another kind of request and permits nothing here.
            Answer::Granted(None) => (Self::Waiting(order), Action::Nothing),
            Answer::Wait(ms) => (Self::Waiting(order), Action::AskAgainIn(ms)),
            // The order of that claim lives; a Rejected would end its reservation at risk.
            Answer::Refused(GateRefusal::AlreadyClaimed) => (Self::Settled, Action::AlreadyClaimed),
            Answer::Refused(refusal) => (Self::Settled, refuse(refusal)),
            Answer::NotLeader => (Self::Settled, Action::StandDown),
        }
    }

    fn on_lookup(doubt: Doubt, lookup: Lookup, doubted_ms: i64) -> (Self, Action) {
        let Doubt { claim, pause_ms, absent, since_ms } = doubt;
        let longer = pause_ms.saturating_mul(2).min(QUERY_PAUSE_MS_MAX);
        let fence_ms = claim.recv_window.saturating_add(FENCE_MARGIN_MS);
        match lookup {
            Lookup::Found { order_id, status, executed_qty } => {
                (Self::Settled, Action::Learn(Observation::Found { order_id, status, executed_qty }))
            }
            Lookup::Unanswered => {
                (Self::InDoubt { claim, pause_ms: longer, absent, since_ms }, Action::QueryIn(longer))
            }
            Lookup::Absent { exchange_time } if exchange_time > claim.final_after && doubted_ms > fence_ms => {
                let absent = absent.saturating_add(1);
                if absent >= ABSENT_QUERIES_MIN {
                    let text = "the exchange does not have it and can no longer accept it".to_owned();
                    let reason = VenueRefusal::NotAccepted.code().to_owned();
                    (Self::Settled, Action::Learn(Observation::Refused { reason, text }))
                } else {
                    let state = Self::InDoubt { claim, pause_ms: QUERY_PAUSE_MS_MIN, absent, since_ms };
                    (state, Action::QueryIn(QUERY_PAUSE_MS_MIN))
                }
            }
            Lookup::Absent { exchange_time } => {
                let to_fence = claim.final_after.since_ms(exchange_time).max(fence_ms.saturating_sub(doubted_ms));
                let pause = longer.min(to_fence.saturating_add(1).max(QUERY_PAUSE_MS_MIN));
                (Self::InDoubt { claim, pause_ms: longer, absent: 0, since_ms }, Action::QueryIn(pause))
            }
        }
    }
}

/// What a doubt consists of.
struct Doubt {
    claim: Claim,
    pause_ms: i64,
    absent: u32,
    since_ms: i64,
}

fn doubt(claim: Claim, text: String, now_ms: i64) -> (Sending, Action) {
    let pause_ms = QUERY_PAUSE_MS_MIN;
    let action = Action::LearnThenQueryIn(Observation::Doubt { text }, pause_ms);
    (Sending::InDoubt { claim, pause_ms, absent: 0, since_ms: now_ms }, action)
}

fn refuse(refusal: GateRefusal) -> Action {
    let text = match refusal {
        GateRefusal::EmergencyStop => "a stop is set",
        GateRefusal::PermitMissing => "risk gives no valid permit; is cdb_risk running, with these limits?",
        GateRefusal::CircuitOpen => "the circuit breaker does not admit it",
        GateRefusal::Expired => "its verdict or the order itself expired before its turn",
        GateRefusal::AlreadyClaimed => "this cl_ord_id was granted before",
        GateRefusal::RateQueueFull => "too many orders wait for a rate slot",
        GateRefusal::SendDeadline => "not sent in time",
        GateRefusal::CanceledBeforeSend => "cancelled while it waited",
    };
    Action::Learn(Observation::Refused { reason: refusal.code().to_owned(), text: text.to_owned() })
}

#[cfg(test)]
mod tests;
