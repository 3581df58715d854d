//! One executor, in the steps of the real sender: every step is one await there, and a crash or pause may come between
//! any two.

use std::collections::{BTreeMap, BTreeSet};

use cdb_core::audit::Chain;
use cdb_core::gate::{Answer, Claim, OrderRequest, Request};
use cdb_core::ids::ClOrdId;
use cdb_core::lifecycle::{Observation, VenueStatus};
use cdb_core::money::Qty;
use cdb_core::sending::{Action, Input, Lookup, Sending};
use cdb_core::time::Timestamp;

use crate::world::{End, InFlight, RECV_WINDOW_MS, Record, World, approved_at, budgets};

/// How long a lease lasts without renewal.
pub const LEASE_MS: i64 = 3_000;
/// How long an answer is waited for.
const ANSWER_MS: i64 = 5_000;

/// Where an order stands.
enum Stage {
    /// To be asked for at the gate.
    Ask,
    /// Granted; its record is to be written.
    Write,
    /// Written; to be made durable.
    Sync,
    /// Durable; to be sent unless it is too late.
    Submit,
    /// Sent; until then an answer may come.
    Answer(i64),
    /// In doubt; to be looked up at this time.
    Doubt(i64),
    /// At the exchange; how it ended is to be found out.
    Track,
    /// It ended; the record is to be written and made durable, then published.
    Record(End),
    /// Recorded; to be published.
    Publish(End),
}

struct Task {
    stage: Stage,
    sending: Sending,
    claim: Option<Claim>,
    nonce: String,
}

/// One executor.
pub struct Executor {
    pub number: usize,
    /// Counts its processes.
    pub life: u32,
    /// Until then it does nothing.
    pub paused_until: i64,
    /// Its term: token and the Redis process it is bound to.
    term: Option<(String, String)>,
    /// Whether what earlier terms left is settled.
    is_settled: bool,
    tasks: BTreeMap<ClOrdId, Task>,
    submitted: BTreeSet<ClOrdId>,
    asked: u64,
}

impl Executor {
    pub const fn new(number: usize) -> Self {
        Self {
            number,
            life: 0,
            paused_until: 0,
            term: None,
            is_settled: false,
            tasks: BTreeMap::new(),
            submitted: BTreeSet::new(),
            asked: 0,
        }
    }

    /// `kill -9`: what was not durable is gone.
    pub fn crash(&mut self, world: &mut World) {
        world.note(format!("executor {} crashes", self.number));
        let (trail, synced) = &mut world.trails[self.number];
        trail.truncate(*synced);
        *self = Self { life: self.life + 1, ..Self::new(self.number) };
    }

    fn end_term(&mut self, world: &mut World, why: &str) {
        world.note(format!("executor {}'s term ends: {why}", self.number));
        let (life, asked) = (self.life, self.asked);
        // The process lives on; requests that left are not taken back, and their answers are heard by nobody.
        *self = Self { life: life + 1, asked, ..Self::new(self.number) };
    }

    /// One step; `choice` picks among what can be done.
    pub fn step(&mut self, world: &mut World, choice: u64, network: &mut impl FnMut() -> (i64, Option<i64>)) {
        if world.now < self.paused_until {
            return;
        }
        let Some((token, run_id)) = self.term.clone() else { return self.take_lease(world) };
        if world.redis.gate.run_id != run_id {
            // Its scripts are bound to the process that is gone.
            return self.end_term(world, "another Redis");
        }
        if world.redis.gate.lease.as_deref() == Some(&token) && choice.is_multiple_of(3) {
            world.redis.lease_until = world.now + LEASE_MS;
        }
        self.take_up(world);
        if self.tasks.is_empty() {
            return;
        }
        let index = usize::try_from(choice / 3).unwrap_or(0) % self.tasks.len();
        let Some(id) = self.tasks.keys().nth(index).cloned() else { return };
        let Some(mut task) = self.tasks.remove(&id) else { return };
        if self.advance(world, &id, &mut task, &token, network) {
            self.tasks.insert(id, task);
        }
    }

    fn take_lease(&mut self, world: &mut World) {
        if world.redis.gate.lease.is_some() && world.now < world.redis.lease_until {
            return;
        }
        world.redis.fence += 1;
        let token = format!("e:{}", world.redis.fence);
        world.redis.gate.lease = Some(token.clone());
        world.redis.lease_until = world.now + LEASE_MS;
        world.note(format!("executor {} leads as {token}", self.number));
        self.term = Some((token, world.redis.gate.run_id.clone()));
        self.recover(world);
    }

    /// What earlier processes left: from the audit trails first, then from Redis.
    fn recover(&mut self, world: &mut World) {
        let records = world.durable_records();
        let ends: BTreeMap<ClOrdId, End> = records
            .iter()
            .filter_map(|(id, record)| match record {
                Record::Ended(end) => Some((id.clone(), end.clone())),
                Record::Submitted(_) => None,
            })
            .collect();
        self.submitted.extend(records.iter().map(|(id, _)| id.clone()));
        for (id, end) in &ends {
            world.redis.published.entry(id.clone()).or_insert_with(|| end.clone());
            world.redis.open.remove(id);
        }
        let mut claims: BTreeMap<ClOrdId, Claim> = records
            .iter()
            .filter_map(|(id, record)| match record {
                Record::Submitted(claim) => Some((id.clone(), claim.clone())),
                Record::Ended(_) => None,
            })
            .collect();
        for id in &world.redis.open {
            if let Some(claim) = world.redis.gate.claims.get(id) {
                claims.entry(id.clone()).or_insert_with(|| claim.clone());
            }
        }
        for (id, claim) in claims.into_iter().filter(|(id, _)| !ends.contains_key(id)) {
            world.note(format!("executor {} finds {id} in doubt", self.number));
            // A rolled-back Redis learns of it again.
            world.redis.gate.claims.entry(id.clone()).or_insert_with(|| claim.clone());
            world.redis.open.insert(id.clone());
            self.submitted.insert(id.clone());
            let sending = Sending::recovered(claim.clone(), world.now);
            let task = Task { stage: Stage::Doubt(world.now + 200), sending, claim: Some(claim), nonce: String::new() };
            self.tasks.insert(id, task);
        }
        self.is_settled = false;
    }

    /// New orders, once nothing that earlier processes left is in doubt.
    fn take_up(&mut self, world: &mut World) {
        self.is_settled |= !self.tasks.values().any(|task| matches!(task.stage, Stage::Doubt(_)));
        if !self.is_settled || self.tasks.len() >= 4 {
            return;
        }
        let is_new = |order: &&cdb_core::verdict::ApprovedOrder| {
            let id = &order.order().cl_ord_id;
            !world.redis.acknowledged.contains(id) && !self.tasks.contains_key(id)
        };
        let so_far = world.approved.iter().enumerate().take_while(|(n, _)| approved_at(*n) <= world.now);
        let Some(order) = so_far.map(|(_, order)| order).find(is_new).cloned() else { return };
        let id = order.order().cl_ord_id.clone();
        if self.submitted.contains(&id) {
            // A verdict delivered once more: its order lives or has lived.
            world.redis.acknowledged.insert(id);
            return;
        }
        let sending = Sending::Waiting(Box::new(order));
        self.tasks.insert(id, Task { stage: Stage::Ask, sending, claim: None, nonce: String::new() });
    }

    fn is_leading(&self, world: &World) -> bool {
        self.term.as_ref().is_some_and(|(token, run_id)| {
            world.redis.gate.lease.as_ref() == Some(token) && world.redis.gate.run_id == *run_id
        })
    }

    /// Moves one order by one step; whether there is more to do for it here.
    fn advance(
        &mut self,
        world: &mut World,
        id: &ClOrdId,
        task: &mut Task,
        token: &str,
        network: &mut impl FnMut() -> (i64, Option<i64>),
    ) -> bool {
        match &task.stage {
            Stage::Ask => self.ask(world, id, task, token),
            Stage::Write => {
                let claim = task.claim.clone().unwrap();
                world.trails[self.number].0.push((id.clone(), Record::Submitted(claim)));
                task.stage = Stage::Sync;
                true
            }
            Stage::Sync => {
                let (trail, synced) = &mut world.trails[self.number];
                *synced = trail.len();
                task.stage = Stage::Submit;
                true
            }
            Stage::Submit => self.submit(world, id, task, network),
            Stage::Answer(until) => self.answer(world, id, task, *until),
            Stage::Doubt(at) if world.now < *at => true,
            Stage::Doubt(_) => self.look(world, id, task),
            Stage::Track => {
                if let Lookup::Found { status: VenueStatus::Filled, executed_qty, .. } = world.look_up(id) {
                    task.stage = Stage::Record(End { is_rejected: false, executed: executed_qty });
                }
                true
            }
            Stage::Record(end) => {
                let end = end.clone();
                let (trail, synced) = &mut world.trails[self.number];
                trail.push((id.clone(), Record::Ended(end.clone())));
                *synced = trail.len();
                task.stage = Stage::Publish(end);
                true
            }
            Stage::Publish(end) => {
                let end = end.clone();
                if !self.is_leading(world) {
                    self.end_term(world, "the lease was lost");
                    return false;
                }
                world.note(format!("executor {} publishes {id}: {end:?}", self.number));
                world.redis.published.insert(id.clone(), end);
                world.redis.acknowledged.insert(id.clone());
                world.redis.open.remove(id);
                false
            }
        }
    }

    fn ask(&mut self, world: &mut World, id: &ClOrdId, task: &mut Task, token: &str) -> bool {
        if self.submitted.contains(id) {
            world.redis.acknowledged.insert(id.clone());
            return false;
        }
        let Sending::Waiting(order) = &task.sending else { panic!("only a waiting order is asked for") };
        self.asked += 1;
        task.nonce = format!("{}-{}-{}", self.number, self.life, self.asked);
        let request = Request {
            token: token.to_owned(),
            nonce: task.nonce.clone(),
            budgets: budgets(),
            recv_window_ms: RECV_WINDOW_MS,
            order: Some(OrderRequest {
                cl_ord_id: id.clone(),
                symbol: order.order().symbol.clone(),
                strategy: order.order().strategy.clone(),
                epoch: order.epoch().to_owned(),
                limits_hash: order.limits_hash().to_owned(),
                expires_at: order.expires_at(),
                is_exit: false,
                exchange_offset_ms: world.skew,
            }),
        };
        let now = Timestamp::from_millis(world.now);
        let is_held = world.now < world.hold_until && world.redis.gate.lease.as_deref() == Some(token);
        let answer = if is_held { Answer::Wait(1) } else { world.redis.gate.admit(&request, now) };
        if let Answer::Granted(Some(claim)) = &answer {
            world.redis.open.insert(id.clone());
            task.claim = Some(claim.clone());
            let stopped_at = world.stopped_at;
            world.must(stopped_at.is_none(), || format!("I2: {id} was granted while stopped"));
        }
        match task.sending.on(Input::Gate { answer, asked_at_ms: world.now }) {
            Action::WriteAudit => {
                world.note(format!("executor {} is granted {id}", self.number));
                self.submitted.insert(id.clone());
                task.stage = Stage::Write;
                true
            }
            Action::AskAgainIn(_) => true,
            Action::Learn(Observation::Refused { reason, .. }) => {
                // Refused by a stop or a missing permit, or expired.
                world.note(format!("executor {} is refused {id}: {reason}", self.number));
                self.submitted.insert(id.clone());
                task.stage = Stage::Record(End { is_rejected: true, executed: Qty::ZERO });
                true
            }
            Action::AlreadyClaimed => {
                world.redis.acknowledged.insert(id.clone());
                false
            }
            Action::StandDown => {
                self.end_term(world, "not the leader");
                false
            }
            other => panic!("the gate's answer led to {other:?}"),
        }
    }

    fn submit(
        &mut self,
        world: &mut World,
        id: &ClOrdId,
        task: &mut Task,
        network: &mut impl FnMut() -> (i64, Option<i64>),
    ) -> bool {
        let mut chain = Chain::genesis("cdb_execution", "simulation");
        let (_, pending) = chain.append("ORDER_SUBMITTED", None, None, None, Timestamp::from_millis(world.now));
        match task.sending.on(Input::AuditDurable { proof: pending.synced(), now_ms: world.now }) {
            Action::Submit(submission) => {
                let (delay_ms, answer_delay_ms) = network();
                let arrives_at = world.now + delay_ms;
                world.note(format!("executor {} sends {id}, arriving in {delay_ms} ms", self.number));
                world.send(InFlight {
                    from: (self.number, self.life),
                    id: id.clone(),
                    claim: submission.claim().clone(),
                    arrives_at,
                    answer_at: answer_delay_ms.map(|delay_ms| arrives_at + delay_ms),
                });
                task.stage = Stage::Answer(world.now + ANSWER_MS);
            }
            Action::LearnThenQueryIn(_, pause_ms) => {
                world.note(format!("executor {} does not send {id}: too late", self.number));
                task.stage = Stage::Doubt(world.now + pause_ms);
            }
            other => panic!("a durable record led to {other:?}"),
        }
        true
    }

    fn answer(&mut self, world: &mut World, id: &ClOrdId, task: &mut Task, until: i64) -> bool {
        let (number, life, now) = (self.number, self.life, world.now);
        let is_it =
            |(from, of, _, at): &((usize, u32), ClOrdId, _, i64)| *from == (number, life) && of == id && *at <= now;
        let answer = match world.answers.iter().position(is_it) {
            Some(index) => {
                if self.is_leading(world) {
                    // Its slot is free one window from here.
                    world.redis.gate.answered(&task.nonce, &budgets(), Timestamp::from_millis(now));
                }
                world.answers.remove(index).2
            }
            None if now >= until => cdb_core::sending::VenueAnswer::InDoubt { text: "no answer".into() },
            None => return true,
        };
        match task.sending.on(Input::Venue { answer, now_ms: now }) {
            Action::Learn(Observation::Accepted { .. }) => task.stage = Stage::Track,
            Action::Learn(Observation::Refused { .. }) => {
                task.stage = Stage::Record(End { is_rejected: true, executed: Qty::ZERO });
            }
            Action::LearnThenQueryIn(_, pause_ms) => {
                world.note(format!("executor {number} doubts {id}"));
                task.stage = Stage::Doubt(now + pause_ms);
            }
            other => panic!("an answer led to {other:?}"),
        }
        true
    }

    fn look(&mut self, world: &mut World, id: &ClOrdId, task: &mut Task) -> bool {
        // One query in four is not answered.
        let lookup = if world.now % 4 == 0 { Lookup::Unanswered } else { world.look_up(id) };
        match task.sending.on(Input::Looked { lookup, now_ms: world.now }) {
            Action::QueryIn(pause_ms) => task.stage = Stage::Doubt(world.now + pause_ms),
            Action::Learn(Observation::Found { .. }) => task.stage = Stage::Track,
            Action::Learn(Observation::Refused { .. }) => {
                world.note(format!("executor {} declares {id} absent", self.number));
                task.stage = Stage::Record(End { is_rejected: true, executed: Qty::ZERO });
            }
            other => panic!("a lookup led to {other:?}"),
        }
        true
    }
}
