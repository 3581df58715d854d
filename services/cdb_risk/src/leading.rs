//! The loop of the deciding instance: wait for the lease, rebuild, then read, decide, commit, record, and between
//! the batches renew lease and permit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use cdb_core::breaker;
use cdb_core::command::WIRE_VERSION;
use cdb_core::condition;
use cdb_core::desk::{Decided, Desk, Stops};
use cdb_core::event::{Event, EventType};
use cdb_core::fields::FieldFault;
use cdb_core::gate::Permit;
use cdb_core::ids::{EntryId, StrategyId, Symbol};
use cdb_core::inputs::Recorder;
use cdb_core::pnl::Nearness;
use cdb_core::reason::Reason;
use cdb_core::report::Execution;
use cdb_core::time::Timestamp;
use cdb_core::usage::Usage;
use cdb_io::audit_log::{self, AuditLog};
use cdb_io::bus::{self, Bus, Entry, Left, keys};
use cdb_io::health::Health;
use cdb_io::lease::{Asked, LEASE_RENEWAL, LEASE_TTL_MS, Lease};
use cdb_io::scripts::{self, Script, ScriptError, Scripts};
use cdb_io::supervise::Shutdown;
use cdb_io::{clock, heartbeat};
use redis::aio::ConnectionManager;
use serde_json::json;

use crate::config::Config;
use crate::data_set;
use crate::feeds::{BATCH, Fed, Feeds};
use crate::history::{self, KeptResult, Rebuilt, breaker_fields};
use crate::observe::Observer;
use crate::publish::{Published, publish};
use crate::stop_memory::StopMemory;
use crate::trail::{self, Trail};

/// Services whose conditions the breaker heeds.
const REPORTERS: [&str; 2] = ["cdb_execution", "cdb_monitor"];
/// How long a permit lives without renewal (design §3).
const PERMIT_TTL_MS: &str = "5000";
/// How often lease and permit are renewed and stops and prices are read.
const BEAT: Duration = Duration::from_millis(250);
/// How often the usage of the limits is published, ms.
const USAGE_EVERY_MS: i64 = 1_000;
/// How long it stands, ms.
const USAGE_TTL_MS: i64 = 5_000;
/// How often entries are looked for that another instance read and left.
const RECLAIM: Duration = Duration::from_secs(5);
/// How long they must have been left, ms; every entry in hand is answered long before.
const RECLAIM_IDLE_MS: u64 = 5_000;

/// One term as the deciding instance.
struct Leader<'a> {
    config: &'a Config,
    redis: ConnectionManager,
    scripts: Scripts,
    token: String,
    epoch: String,
    desk: Desk,
    strategies: BTreeSet<StrategyId>,
    is_breaker_dirty: bool,
    /// The last report learnt.
    learnt: String,
    /// The result as it was last kept.
    kept: KeptResult,
    /// The last operator's command carried out.
    command_done: String,
    /// The stops that only DEL or `cdb resume` ends.
    stop_memory: StopMemory,
    /// A stop is gone and it is not known why: nothing is permitted until it is.
    is_stop_unclear: bool,
    /// What another service reports and the breaker heeds.
    condition: Option<breaker::Cause>,
    /// When the usage of the limits was last published.
    usage_at: Timestamp,
    /// How near daily loss and drawdown were when an operator was last warned.
    warned: [Nearness; 2],
    trail: Trail,
    observer: &'a mut Observer,
}

/// Stop keys as the desk sees them. A key whose name is no symbol or strategy stops everything: it was meant to stop.
fn stops_from(set: &BTreeMap<String, String>) -> Stops {
    let mut stops = Stops::default();
    for (key, reason) in set {
        let symbol = key.strip_prefix(keys::STOP_SYMBOL).and_then(Symbol::parse);
        let strategy = key.strip_prefix(keys::STOP_STRATEGY).and_then(StrategyId::parse);
        match (symbol, strategy) {
            (Some(symbol), _) => {
                stops.symbols.insert(symbol, reason.clone());
            }
            (None, Some(strategy)) => {
                stops.strategies.insert(strategy, reason.clone());
            }
            (None, None) => stops.all = Some(reason.clone()),
        }
    }
    stops
}

/// What `cdb breaker trip` and `cdb breaker reset` write.
#[derive(serde::Deserialize)]
struct BreakerWish {
    id: String,
    command: String,
    actor: String,
    reason: String,
}

/// Renews the lease while history is read, which may take longer than it lives; ends when it is lost.
async fn keep_lease(
    lease: &Lease,
    scripts: &Scripts,
    redis: &mut ConnectionManager,
    token: &str,
) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(LEASE_RENEWAL).await;
        let asked = lease.ask(scripts, redis).await?;
        anyhow::ensure!(asked == Asked::Ours(token.to_owned()), "the lease was lost");
    }
}

/// The last operator's command that an earlier term carried out.
async fn done_command(redis: &mut ConnectionManager) -> anyhow::Result<String> {
    let done: Option<String> = redis::cmd("HGET").arg(keys::BREAKER).arg("command").query_async(redis).await?;
    Ok(done.unwrap_or_default())
}

/// Waits for the lease, leads, and gives the lease back.
///
/// # Errors
/// Redis failed: the term is over.
pub async fn term(
    bus: &Bus,
    config: &Config,
    audit: &AuditLog,
    health: &Health,
    observer: &mut Observer,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut redis = bus.commands();
    data_set::must_keep_data(&mut redis).await?;
    for (stream, group) in [(keys::ORDERS, "cdb_risk"), (keys::VERDICTS, "cdb_execution")] {
        bus::ensure_group(&mut redis, stream, group)
            .await
            .with_context(|| format!("creating the consumer group of {stream}"))?;
    }
    let data_set = data_set::open(&mut redis, &config.state_dir).await?;
    let scripts = Scripts::bind(&mut redis).await?;
    let lease = Lease::new("risk", &config.service.instance);
    let token = loop {
        health.progress();
        match lease.ask(&scripts, &mut redis).await? {
            Asked::Ours(token) => break token,
            Asked::NoEpoch => bail!("the data set's epoch is gone"),
            Asked::Held => {
                observer.not_leading();
                health.trouble("lease", "another instance decides; this one stands by");
            }
        }
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(LEASE_RENEWAL) => {}
        }
    };
    health.well("lease");
    let (mut reading, mut renewing) = (redis.clone(), redis.clone());
    audit
        .note(audit_log::Entry::of(
            "LEASE_ACQUIRED",
            json!({"token": token, "epoch": data_set.epoch, "lost": data_set.lost}),
        ))
        .await?;
    let read_back = async {
        trail::catch_up(&mut reading, audit, &config.service.audit_dir).await?;
        history::rebuild(&mut reading, config, &data_set, clock::now()).await
    };
    let rebuilt = tokio::select! {
        rebuilt = read_back => rebuilt?,
        lost = keep_lease(&lease, &scripts, &mut renewing, &token) => return lost,
    };
    let Rebuilt { mut desk, executions_after } = rebuilt;
    desk.record_inputs(Recorder::new(&token, &config.settings, EntryId::parse(&executions_after)));
    observer.leading(&token, &data_set);
    let epoch = data_set.epoch;
    let strategies = BTreeSet::new();
    let command_done = done_command(&mut redis).await?;
    let mut leader = Leader {
        config,
        redis,
        scripts,
        token,
        epoch,
        desk,
        strategies,
        is_breaker_dirty: true,
        learnt: executions_after.clone(),
        kept: KeptResult::default(),
        command_done,
        stop_memory: StopMemory::open(&config.state_dir)?,
        is_stop_unclear: false,
        condition: None,
        usage_at: Timestamp::default(),
        warned: [Nearness::Far; 2],
        trail: Trail::new(audit.clone()),
        observer,
    };
    let outcome = leader.lead(bus, &lease, health, executions_after, &mut shutdown).await;
    if outcome.is_ok() {
        lease.release(&leader.scripts, &mut leader.redis).await?;
    }
    outcome
}

impl Leader<'_> {
    async fn lead(
        &mut self,
        bus: &Bus,
        lease: &Lease,
        health: &Health,
        executions_after: String,
        shutdown: &mut Shutdown,
    ) -> anyhow::Result<()> {
        // Before the first permit: whatever stop this data set has lost is set again.
        self.look_at_stops(true).await?;
        self.beat(lease).await?;
        self.report_health(health);
        self.take_over_pending(0).await?;
        let mut reclaim = tokio::time::interval(RECLAIM);
        let mut feeds = Feeds::start(bus, &self.config.service.instance, executions_after);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        health.well("redis");
        loop {
            tokio::select! {
                biased;
                () = shutdown.asked() => return self.take_back_permit().await,
                _ = beat.tick() => {
                    self.beat(lease).await?;
                    self.report_health(health);
                }
                // A former instance that was paused may have read entries after this term began.
                _ = reclaim.tick() => self.take_over_pending(RECLAIM_IDLE_MS).await?,
                fed = feeds.next() => self.take(fed).await?,
            }
        }
    }

    async fn take(&mut self, fed: Fed) -> anyhow::Result<()> {
        match fed {
            Fed::Orders(entries) => self.answer(entries).await,
            Fed::Executions(entries) => {
                for entry in entries {
                    self.learn(&entry).await?;
                }
                Ok(())
            }
            Fed::Quote(quote) => {
                self.desk.on_quote(quote);
                Ok(())
            }
            Fed::StopDeleted(key) => {
                self.stop_memory.on_deleted(&key);
                self.trail.stop_ended(&key).await?;
                self.look_at_stops(false).await
            }
            Fed::Broken(error) => Err(error.context("a feed broke off")),
        }
    }

    /// Entries that some instance read so long ago and did not answer: all are ours, for we lead.
    async fn take_over_pending(&mut self, idle_ms: u64) -> anyhow::Result<()> {
        let mut left = Left::of(keys::ORDERS, "cdb_risk", &self.config.service.instance, idle_ms);
        while let Some(entries) = left.next(&mut self.redis, BATCH).await? {
            if !entries.is_empty() {
                self.answer(entries).await?;
            }
        }
        Ok(())
    }

    /// Decides entries in their order and publishes the decisions in one round trip.
    async fn answer(&mut self, entries: Vec<Entry>) -> anyhow::Result<()> {
        let now = clock::now();
        let mut decisions: Vec<(Entry, Decided)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let decided = self.decide(&entry, now);
            decisions.push((entry, decided));
        }
        let outcomes = self.publish(&decisions).await?;
        for ((entry, decided), outcome) in decisions.into_iter().zip(outcomes) {
            match outcome {
                Published::Done => self.observer.decided(&decided, &entry),
                Published::NotLeader => {
                    if let Decided::Verdict { verdict, .. } = &decided {
                        self.trail.withdrawn(verdict, "another instance decides").await?;
                    }
                    bail!("another instance decides")
                }
                Published::Stopped => self.answer_stopped(entry, decided).await?,
                Published::OriginalGone => self.refuse_replay(entry, decided, now).await?,
            }
        }
        Ok(())
    }

    async fn publish(&mut self, decisions: &[(Entry, Decided)]) -> anyhow::Result<Vec<Published>> {
        for (_, decided) in decisions {
            if let Decided::Verdict { verdict, .. } = decided {
                self.trail.verdict(verdict).await?;
            }
        }
        publish(&mut self.redis, &self.scripts, &self.token, &self.config.verdict_key, decisions).await
    }

    fn decide(&mut self, entry: &Entry, now: Timestamp) -> Decided {
        let Some(json) = entry.field("json") else {
            return Decided::DeadLetter(FieldFault::new("json", "is missing from the stream entry"));
        };
        let decided = self.desk.decide(&entry.id, json, now);
        if let Decided::Verdict { verdict, .. } = &decided
            && let Some(cdb_core::command::Command::New(order)) = &verdict.command
            && !self.strategies.contains(&order.strategy)
        {
            self.strategies.insert(order.strategy.clone());
        }
        decided
    }

    /// A stop was set between the decision and its publication: the stops are read again and the order is refused.
    async fn answer_stopped(&mut self, entry: Entry, decided: Decided) -> anyhow::Result<()> {
        let Decided::Verdict { verdict, .. } = &decided else { bail!("only an approval can be stopped") };
        self.desk.withdraw(verdict);
        self.trail.withdrawn(verdict, "a stop was set before it was published").await?;
        self.look_at_stops(false).await?;
        let again = self.decide(&entry, clock::now());
        let decisions = [(entry, again)];
        let outcomes = self.publish(&decisions).await?;
        match outcomes[..] {
            [Published::Done] => {
                let [(entry, again)] = decisions;
                self.observer.decided(&again, &entry);
                Ok(())
            }
            // The stop came and went within a millisecond; a new term takes the entry up again.
            _ => bail!("the stop changed while an order was refused: {outcomes:?}"),
        }
    }

    /// The verdict to repeat was trimmed from the stream: the id stays taken.
    async fn refuse_replay(&mut self, entry: Entry, decided: Decided, now: Timestamp) -> anyhow::Result<()> {
        let Decided::Replay { cl_ord_id, .. } = decided else { bail!("only a repeated order has an original") };
        let verdict = self.desk.refusal(
            &cl_ord_id,
            &entry.id,
            Reason::DuplicateClOrdId,
            "this cl_ord_id was used before and its verdict is no longer kept",
            now,
        );
        let decisions = [(entry, Decided::Verdict { verdict: Box::new(verdict), seen: None })];
        let outcomes = self.publish(&decisions).await?;
        anyhow::ensure!(outcomes == [Published::Done], "a refusal was not published: {outcomes:?}");
        Ok(())
    }

    /// Takes one message of cdb_execution.
    async fn learn(&mut self, entry: &Entry) -> anyhow::Result<()> {
        self.learnt = entry.id.to_string();
        self.desk.on_learnt(&entry.id);
        match Execution::parse(entry.json()) {
            Ok(execution) => {
                let change = self.desk.on_execution(&execution, clock::now());
                self.on_breaker_change(change).await
            }
            Err(problem) => {
                tracing::error!(entry = %entry.id, problem, "a report cannot be read; nothing is approved any more");
                self.desk.lose_state(format!("report {} cannot be read: {problem}", entry.id));
                Ok(())
            }
        }
    }

    async fn on_breaker_change(&mut self, change: Option<breaker::State>) -> anyhow::Result<()> {
        if let Some(state) = change {
            self.is_breaker_dirty = true;
            // The gate must see it before another order is granted.
            self.renew_permit().await?;
            let event = self.observer.breaker(state, clock::now());
            self.trail.event(&event).await?;
            cdb_io::events::publish(&mut self.redis, &event).await?;
        }
        Ok(())
    }

    fn report_health(&self, health: &Health) {
        let missing = self.desk.missing_inputs(clock::now());
        if missing.is_empty() {
            health.well("inputs");
        } else {
            health.trouble("inputs", format!("missing: {}", missing.join(", ")));
        }
        match self.config.service.audit_disk_trouble() {
            Some(text) => health.trouble("audit disk", text),
            None => health.well("audit disk"),
        }
        health.progress();
    }

    /// Renews lease and permit, reads stops, prices and rules.
    async fn beat(&mut self, lease: &Lease) -> anyhow::Result<()> {
        let now = clock::now();
        match lease.ask(&self.scripts, &mut self.redis).await? {
            Asked::Ours(token) if token == self.token => {}
            Asked::Ours(_) | Asked::Held => bail!("the lease was lost"),
            Asked::NoEpoch => bail!("the data set's epoch is gone: Redis was flushed"),
        }
        // Losses are measured by these prices, also those that an operator's reset measures anew.
        self.read_market().await?;
        // While a condition holds, time does not bring the breaker closer to its end.
        let input = self.condition.map_or(breaker::Input::Tick, breaker::Input::Trip);
        let change = self.desk.on_breaker(input, now);
        self.on_breaker_change(change).await?;
        self.obey_operator(now).await?;
        let change = self.desk.watch_losses(now);
        self.on_breaker_change(change).await?;
        self.warn_of_losses(now).await?;
        self.look_at_stops(false).await?;
        self.renew_permit().await?;
        self.desk.prune(now);
        self.observer.beat(&self.desk, now);
        self.trail.figures(&self.desk, now).await?;
        self.publish_usage(now).await?;
        heartbeat::beat(
            &mut self.redis,
            self.config.service.service,
            Some(true),
            &serde_json::Value::Null,
            LEASE_TTL_MS,
        )
        .await?;
        Ok(())
    }

    /// Says how much of each limit is in use, for those who watch.
    async fn publish_usage(&mut self, now: Timestamp) -> anyhow::Result<()> {
        // A clock that went back is no reason for silence.
        if (0..USAGE_EVERY_MS).contains(&now.since_ms(self.usage_at)) {
            return Ok(());
        }
        self.usage_at = now;
        let json = serde_json::to_string(&Usage::of(&self.desk, now))?;
        let mut command = redis::cmd("SET");
        command.arg(keys::USAGE).arg(json).arg("PX").arg(USAGE_TTL_MS);
        Ok(command.query_async(&mut self.redis).await?)
    }

    /// Warns once each time that a loss comes nearer to its limit.
    async fn warn_of_losses(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Some(figures) = self.desk.figures() else { return Ok(()) };
        let limits = self.desk.limits();
        let losses = [
            ("daily_loss_pct", figures.daily_loss, limits.max_daily_loss_pct),
            ("drawdown_pct", figures.drawdown, limits.max_drawdown_pct),
        ];
        for (index, (rule, loss, limit)) in losses.into_iter().enumerate() {
            let nearness = Nearness::of(loss, limit);
            // Told again only after the loss has been well below: a loss that trembles around 60 % is one warning.
            if loss.saturating_add(loss) < limit {
                self.warned[index] = Nearness::Far;
            }
            if nearness <= self.warned[index] {
                continue;
            }
            self.warned[index] = nearness;
            let share = match nearness {
                Nearness::Sixty => "60 %",
                Nearness::Eighty => "80 %",
                // The limit itself opens the breaker, which says so.
                Nearness::Far | Nearness::Reached => continue,
            };
            let reason = format!("{rule} has reached {share} of its limit: {loss} of {limit}");
            tracing::warn!(reason, "loss warning");
            let detail = serde_json::json!({"rule": rule, "level": "warning", "value": loss, "limit": limit});
            let service = self.config.service.service;
            let event = Event::by_service(EventType::AlertRaised, service, reason, detail, now);
            self.trail.event(&event).await?;
            cdb_io::events::publish(&mut self.redis, &event).await?;
        }
        Ok(())
    }

    /// Opens or closes the breaker when an operator asked for it.
    async fn obey_operator(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let json: Option<Vec<u8>> = redis::cmd("GET").arg(keys::BREAKER_COMMAND).query_async(&mut self.redis).await?;
        let Some(wish) = json.and_then(|json| serde_json::from_slice::<BreakerWish>(&json).ok()) else {
            return Ok(());
        };
        if wish.id == self.command_done {
            return Ok(());
        }
        self.command_done.clone_from(&wish.id);
        self.trail.command(&wish.actor, &wish.command, &wish.reason).await?;
        self.is_breaker_dirty = true;
        let change = match wish.command.as_str() {
            "trip" => self.desk.on_breaker(breaker::Input::Trip(breaker::Cause::Operator), now),
            "reset" => self.desk.reset_breaker(now),
            _ => None,
        };
        tracing::warn!(
            command = wish.command,
            actor = wish.actor,
            reason = wish.reason,
            "an operator moved the breaker"
        );
        self.on_breaker_change(change).await
    }

    async fn renew_permit(&mut self) -> anyhow::Result<()> {
        let permit = if self.desk.state_lost().is_some() || self.is_stop_unclear {
            String::new()
        } else {
            let permit = Permit {
                epoch: self.epoch.clone(),
                run_id: self.scripts.run_id().to_owned(),
                limits_hash: self.config.limits_hash.clone(),
                wire: WIRE_VERSION,
                issued_at: clock::now(),
            };
            serde_json::to_string(&permit)?
        };
        let mut fields = Vec::new();
        if self.is_breaker_dirty {
            fields = breaker_fields(self.desk.breaker());
            fields.extend(["command".to_owned(), self.command_done.clone()]);
        }
        let present = KeptResult { result: self.desk.result().clone(), as_of: self.learnt.clone() };
        let result = if present == self.kept { String::new() } else { serde_json::to_string(&present)? };
        let mut arguments = vec![self.token.as_str(), PERMIT_TTL_MS, permit.as_str(), result.as_str()];
        arguments.extend(fields.iter().map(String::as_str));
        let reply = self.scripts.run(&mut self.redis, Script::Permit, &arguments).await;
        match reply.map(|reply| scripts::word(&reply)) {
            Ok(Some(word)) if word == "done" => {
                self.is_breaker_dirty = false;
                self.kept = present;
                Ok(())
            }
            Ok(word) => bail!("the permit was not renewed: {}", word.unwrap_or_default()),
            Err(error @ ScriptError::Unbound) => Err(error).context("a new term begins"),
            Err(error) => Err(error.into()),
        }
    }

    async fn take_back_permit(&mut self) -> anyhow::Result<()> {
        self.scripts.run(&mut self.redis, Script::Permit, &[&self.token, PERMIT_TTL_MS, "", ""]).await?;
        Ok(())
    }

    /// Reads the stops, sets again what nobody cleared, and takes them into account.
    async fn look_at_stops(&mut self, is_new_data_set: bool) -> anyhow::Result<()> {
        let asked_at = clock::now();
        let set = self.read_stops().await?;
        self.trail.stops(&set, asked_at).await?;
        let judgement = self.stop_memory.judge(&set, is_new_data_set)?;
        let mut in_force = set;
        for (key, reason) in &judgement.set_again {
            tracing::error!(key, reason, "a stop vanished and nobody cleared it: it is set again");
            let mut command = redis::cmd("SET");
            command.arg(key).arg(reason).arg("NX");
            let _was_free: Option<String> = command.query_async(&mut self.redis).await?;
            in_force.insert(key.clone(), reason.clone());
            self.publish_stop(EventType::StopSeen, key, "set again: it vanished and nobody cleared it").await?;
        }
        for key in &judgement.cleared {
            self.publish_stop(EventType::StopCleared, key, "the key was deleted").await?;
        }
        self.is_stop_unclear = judgement.is_unclear;
        let stops = if judgement.is_unclear { self.desk.stops().clone() } else { stops_from(&in_force) };
        if *self.desk.stops() != stops {
            self.observer.stops(&stops);
            if let (None, Some(reason)) = (&self.desk.stops().all, &stops.all) {
                self.publish_stop(EventType::StopSeen, keys::STOP, reason).await?;
            }
            self.desk.on_stops(stops);
        }
        Ok(())
    }

    async fn publish_stop(&mut self, event_type: EventType, key: &str, reason: &str) -> anyhow::Result<()> {
        let detail = serde_json::json!({"key": key});
        let mut event = Event::by_service(event_type, self.config.service.service, reason, detail, clock::now());
        event.actor = "unknown".to_owned();
        cdb_io::events::publish(&mut self.redis, &event).await?;
        Ok(())
    }

    /// The stop keys that are set, with their reasons: all, each allowed symbol, each strategy seen or stopped before.
    async fn read_stops(&mut self) -> anyhow::Result<BTreeMap<String, String>> {
        let symbols = self.config.limits.allowed_symbols.iter().map(|symbol| format!("{}{symbol}", keys::STOP_SYMBOL));
        let strategies = self.strategies.iter().map(|strategy| format!("{}{strategy}", keys::STOP_STRATEGY));
        let mut stop_keys: BTreeSet<String> = symbols.chain(strategies).collect();
        stop_keys.extend(self.stop_memory.keys().cloned());
        stop_keys.insert(keys::STOP.to_owned());
        let mut pipeline = redis::pipe();
        pipeline.cmd("MGET").arg(stop_keys.iter().collect::<Vec<_>>());
        for key in &stop_keys {
            pipeline.cmd("EXISTS").arg(key);
        }
        let replies: Vec<redis::Value> = pipeline.query_async(&mut self.redis).await?;
        let (values, exist) = replies.split_first().context("no reply about the stops")?;
        let values: Vec<Option<Vec<u8>>> = redis::from_redis_value(values.clone())?;
        let exist = exist.iter().map(|reply| *reply != redis::Value::Int(0));
        let set = stop_keys.into_iter().zip(values).zip(exist).filter_map(|((key, value), is_there)| match value {
            Some(reason) => Some((key, String::from_utf8_lossy(&reason).into_owned())),
            // Whatever it is, it was meant to stop.
            None => is_there.then(|| (key, "the key is there, but is no text".to_owned())),
        });
        Ok(set.collect())
    }

    async fn read_market(&mut self) -> anyhow::Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(keys::PRICE).hgetall(keys::RULES).get(keys::RESUMED);
        for service in REPORTERS {
            pipeline.hgetall(format!("{}{service}", keys::CONDITIONS));
        }
        type Json = BTreeMap<String, Vec<u8>>;
        let (prices, rules, resumed, execution, monitor): (Json, Json, Option<String>, Json, Json) =
            pipeline.query_async(&mut self.redis).await?;
        let now = clock::now();
        let mut reported = execution.iter().chain(&monitor);
        let disk = self.config.service.audit_disk_trouble().map(|_| breaker::Cause::AuditUnwritable);
        self.condition = reported.find_map(|(code, json)| condition::cause_of(code, json, now)).or(disk);
        for json in prices.values() {
            if let Ok(quote) = serde_json::from_slice(json) {
                self.desk.on_quote(quote);
            }
        }
        self.desk.on_rules_as_of(history::rules_as_of(&rules));
        for json in rules.values() {
            if let Ok(rules) = serde_json::from_slice(json) {
                self.desk.on_rules(rules);
            }
        }
        if self.desk.state_lost().is_some() && resumed.as_deref() == Some(self.epoch.as_str()) {
            bail!("the operator resumed: a new term begins");
        }
        Ok(())
    }
}
