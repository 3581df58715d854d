//! Chance: who moves next, and what goes wrong. A run follows its seed alone.

use std::fmt;

use cdb_tests::chaos::Random;

use crate::executor::Executor;
use crate::world::{Redis, World};

/// Orders of a run.
const ORDERS: usize = 20;
/// Executors of a run.
const EXECUTORS: usize = 3;
/// After the faults time runs on for this long, ms: longer than any fence.
const QUIET_MS: i64 = 240_000;
/// Steps of the trace that are shown.
const SHOWN: usize = 80;

/// What happened in one run or in many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    steps: u64,
    orders: u64,
    at_exchange: u64,
    crashes: u64,
    pauses: u64,
    restarts: u64,
    rollbacks: u64,
    stops: u64,
}

impl Counts {
    /// Adds a run.
    pub const fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.orders += other.orders;
        self.at_exchange += other.at_exchange;
        self.crashes += other.crashes;
        self.pauses += other.pauses;
        self.restarts += other.restarts;
        self.rollbacks += other.rollbacks;
        self.stops += other.stops;
    }

    /// Whether every kind of trouble came and most orders still got through.
    pub const fn is_telling(&self) -> bool {
        let troubles = [self.crashes, self.pauses, self.restarts, self.rollbacks, self.stops];
        let mut index = 0;
        while index < troubles.len() {
            if troubles[index] == 0 {
                return false;
            }
            index += 1;
        }
        self.at_exchange * 3 > self.orders
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, orders, at_exchange, crashes, pauses, restarts, rollbacks, stops } = self;
        write!(
            f,
            "{steps} steps, {orders} orders, {at_exchange} at the exchange, {crashes} crashes, {pauses} pauses, \
             {restarts} restarts of Redis, {rollbacks} rollbacks, {stops} stops"
        )
    }
}

/// One run.
pub struct Play {
    world: World,
    executors: Vec<Executor>,
    random: Random,
    counts: Counts,
    older: Option<Redis>,
    /// How likely trouble is in this run, per mille of its steps.
    trouble: u64,
}

impl Play {
    /// Plays one seed to its end, or until a promise is broken.
    pub fn run(seed: u64, steps: u32) -> Self {
        let mut random = Random::seeded(seed + 1);
        let skew = i64::try_from(random.below(4_000)).unwrap_or(0) - 2_000;
        let visibility_ms = i64::try_from(random.below(3_000)).unwrap_or(0);
        let trouble = 1 + random.below(8);
        let mut play = Self {
            world: World::new(ORDERS, EXECUTORS, skew, visibility_ms),
            executors: (0..EXECUTORS).map(Executor::new).collect(),
            random,
            counts: Counts { orders: u64::try_from(ORDERS).unwrap_or(0), ..Counts::default() },
            older: None,
            trouble,
        };
        for _ in 0..steps {
            if play.world.broken.is_some() {
                return play;
            }
            play.step();
        }
        play.settle();
        play
    }

    /// The promise that was broken.
    pub fn broken(&self) -> Option<&str> {
        self.world.broken.as_deref()
    }

    /// What happened.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The last steps.
    pub fn trace(&self) -> String {
        let trace = &self.world.trace;
        trace[trace.len().saturating_sub(SHOWN)..].join("\n")
    }

    fn step(&mut self) {
        self.counts.steps += 1;
        if self.random.below(1_000) < self.trouble {
            self.trouble();
        }
        self.recover();
        self.move_on();
    }

    /// Time passes a little, what is due arrives, and one executor takes one step.
    fn move_on(&mut self) {
        let most_ms = if self.random.below(80) == 0 { 300 } else { 4 };
        self.world.now += i64::try_from(self.random.below(most_ms)).unwrap_or(0);
        self.world.deliver();
        let index = usize::try_from(self.random.below(3)).unwrap_or(0);
        let choice = self.random.below(1 << 20);
        // Most requests take milliseconds, some are held up for as long as they live and longer; some answers are lost.
        let delay = match self.random.below(10) {
            0..7 => self.random.below(30),
            7..9 => self.random.below(2_100),
            _ => self.random.below(12_000),
        };
        let answer = (self.random.below(10) > 1).then(|| i64::try_from(self.random.below(40)).unwrap_or(0));
        let delay = i64::try_from(delay).unwrap_or(0);
        self.executors[index].step(&mut self.world, choice, &mut || (delay, answer));
    }

    fn trouble(&mut self) {
        let index = usize::try_from(self.random.below(3)).unwrap_or(0);
        match self.random.below(8) {
            0 | 1 => {
                self.counts.crashes += 1;
                self.executors[index].crash(&mut self.world);
            }
            2 | 3 => {
                self.counts.pauses += 1;
                let pause_ms = i64::try_from(50 + self.random.below(6_000)).unwrap_or(0);
                self.world.note(format!("executor {index} pauses for {pause_ms} ms"));
                self.executors[index].paused_until = self.world.now + pause_ms;
            }
            4 => {
                self.counts.restarts += 1;
                self.world.note("Redis restarts");
                self.world.restart_redis(None);
            }
            5 => match self.older.take() {
                Some(older) => {
                    self.counts.rollbacks += 1;
                    self.world.note("Redis restarts with older data");
                    self.world.restart_redis(Some(older));
                }
                None => self.older = Some(self.world.redis.clone()),
            },
            6 => {
                self.counts.stops += 1;
                self.world.note("a stop is set");
                self.world.redis.gate.is_stopped = true;
                self.world.stopped_at = Some(self.world.now);
            }
            _ => {
                self.world.note("the permit lapses");
                self.world.redis.gate.permit = None;
            }
        }
    }

    /// cdb_risk gives its permit soon after a restart, and an operator lifts a stop after a while.
    fn recover(&mut self) {
        if self.world.redis.gate.permit.is_none() && self.random.below(4) == 0 {
            self.world.permit();
        }
        if self.world.stopped_at.is_some() && self.random.below(12) == 0 {
            self.world.note("the stop is lifted");
            self.world.redis.gate.is_stopped = false;
            self.world.stopped_at = None;
        }
    }

    /// Whether nothing more can happen: every order has ended, and nothing is under way that could arrive in time.
    fn is_over(&self) -> bool {
        let world = &self.world;
        world.redis.published.len() == world.approved.len() && world.redis.open.is_empty() && world.network.is_empty()
    }

    /// The faults end and time runs on; then every order must have ended, as the exchange says.
    fn settle(&mut self) {
        self.world.note("the faults end");
        self.world.redis.gate.is_stopped = false;
        self.world.stopped_at = None;
        self.world.permit();
        for executor in &mut self.executors {
            executor.paused_until = 0;
        }
        let end = self.world.now + QUIET_MS;
        while self.world.now < end && self.world.broken.is_none() && !self.is_over() {
            self.move_on();
        }
        self.counts.at_exchange = u64::try_from(self.world.exchange.orders.len()).unwrap_or(0);
        let ids: Vec<_> = self.world.approved.iter().map(|order| order.order().cl_ord_id.clone()).collect();
        for id in ids {
            let published = self.world.redis.published.get(&id).cloned();
            let executed = self.world.exchange.by_client_id("BTCUSDT", id.as_str()).map(|order| order.executed);
            let agrees = match (&published, executed) {
                (Some(end), Some(executed)) => !end.is_rejected && end.executed.decimal() == executed,
                (Some(end), None) => end.is_rejected,
                (None, _) => false,
            };
            self.world.must(agrees, || {
                format!("I4: {id} ended here as {published:?}, and the exchange executed {executed:?}")
            });
        }
        let open = self.world.redis.open.clone();
        self.world.must(open.is_empty(), || format!("I4: claims are still open: {open:?}"));
    }
}
