//! One log line and one metric for each thing that happens. Every label value is there at 0 from the start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cdb_core::event::SecurityKind;
use cdb_core::gate::Answer;
use cdb_core::reason::{GateRefusal, VenueRefusal};
use cdb_core::report::{ExecType, ExecutionReport, FindingKind};
use cdb_io::meters::{Meters, disk_free_ppm};
use cdb_mexc::answer::{Meaning, Trouble};
use cdb_mexc::endpoint::Endpoint;
use cdb_mexc::push::Push;
use cdb_mexc::stream::{Heard, StreamEnd};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::config::Config;

/// What changes an order.
const EXEC_TYPES: [&str; 8] =
    ["PendingNew", "New", "Trade", "PendingCancel", "Canceled", "Rejected", "Expired", "OrderStatus"];
/// What a failed call means.
const MEANINGS: [&str; 6] = ["refused", "unknown", "rate_limited", "banned", "not_found", "no_listen_key"];
/// Why a stream ended.
const STREAM_ENDS: [&str; 6] = ["no_connection", "not_subscribed", "no_listen_key", "silent", "closed", "aged"];
/// Kinds of stream messages.
const MESSAGES: [&str; 7] = ["order", "deal", "balance", "book", "last", "other", "strange"];

/// Metrics and logs of this service.
#[derive(Clone)]
pub struct Observer {
    registry: Registry,
    /// Terms ended by Redis.
    pub redis_errors: IntCounter,
    /// Verdicts that were not genuine.
    pub forged: IntCounter,
    /// Exchange clock minus ours, ms.
    pub clock_offset_ms: IntGauge,
    /// 1 while a stop that needs no Redis is set.
    pub local_stop: IntGauge,
    /// Entries that went to the dead letters.
    pub dead_letters: IntCounter,
    /// Orders in line, in flight, in doubt, open.
    pub standing: Standing,
    /// Time until a record was durable.
    pub audit_write: Histogram,
    /// Records that wait for the disk.
    pub audit_queue: IntGauge,
    gate: IntCounterVec,
    reports: IntCounterVec,
    sends: IntCounter,
    failures: IntCounter,
    findings: IntCounterVec,
    security: IntCounterVec,
    troubles: IntCounterVec,
    latency: HistogramVec,
    rate_limited: IntCounterVec,
    stream_up: IntGaugeVec,
    stream_messages: IntCounterVec,
    stream_ends: IntCounterVec,
    /// Fills that the user stream should have told of, and that were found by asking.
    pub stream_missed: IntCounter,
    key_info: IntGaugeVec,
    key_generation: IntGauge,
    leads: IntGauge,
    audit_disk_free: IntGauge,
    ages: Arc<Mutex<Ages>>,
    in_doubt_age: IntGauge,
    reconcile_age: IntGauge,
}

/// Orders by where they stand.
#[derive(Clone)]
pub struct Standing {
    /// Waiting for their turn.
    pub queued: IntGauge,
    /// Between grant and answer.
    pub in_flight: IntGauge,
    /// Open at the exchange.
    pub open: IntGauge,
    /// Of unknown outcome.
    pub in_doubt: IntGauge,
}

/// Moments from which ages are counted.
#[derive(Default)]
struct Ages {
    doubts: BTreeMap<u64, Instant>,
    doubts_begun: u64,
    /// When orders and fills were last compared with the exchange; when this process began, before the first time.
    reconciled_at: Option<Instant>,
}

/// A doubt, counted for as long as this lives.
pub struct Doubt {
    id: u64,
    ages: Arc<Mutex<Ages>>,
}

impl Drop for Doubt {
    fn drop(&mut self) {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner).doubts.remove(&self.id);
    }
}

/// The two streams.
#[derive(Debug, Clone, Copy)]
pub enum StreamKind {
    /// Orders, fills and balances of the account.
    User,
    /// Prices.
    Market,
}

impl StreamKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Market => "market",
        }
    }
}

impl Observer {
    /// Registers everything.
    ///
    /// # Errors
    /// A metric's name is given twice.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let meters = Meters::of("cdb_execution");
        let mode = config.service.mode.as_str();
        meters.build_info(mode, &[])?;
        let answers =
            ["granted", "wait", "not_leader"].into_iter().chain(GateRefusal::ALL.iter().map(|refusal| refusal.code()));
        let endpoints = || Endpoint::ALL.iter().map(|endpoint| endpoint.name());
        let streams = [StreamKind::User, StreamKind::Market].map(StreamKind::as_str);
        let missed = "Fills found by asking that the user stream should have told of";
        let standing = Standing {
            queued: meters.gauge("queued_orders", "Approved orders that wait for their turn")?,
            in_flight: meters.gauge("in_flight_orders", "Orders between grant and answer")?,
            open: meters.gauge("open_orders", "Orders that have not ended")?,
            in_doubt: meters.gauge("in_doubt_orders", "Orders of unknown outcome")?,
        };
        Ok(Self {
            standing,
            redis_errors: meters.counter("redis_errors_total", "Terms ended by Redis")?,
            forged: meters.counter("forged_verdicts_total", "Verdicts that were not genuine")?,
            clock_offset_ms: meters.gauge("clock_offset_ms", "Exchange clock minus ours")?,
            local_stop: meters.gauge("local_stop", "1 while stopped by file, signal or POST /stop")?,
            dead_letters: meters.counter("dead_letters_total", "Verdicts that went to the dead letters")?,
            audit_write: meters.seconds("audit_write_seconds", "Time until an audit record was durable")?,
            audit_queue: meters.gauge("audit_queue_records", "Audit records that wait for the disk")?,
            gate: meters.counters("gate_answers_total", "The gate's answers for new orders", "answer", answers)?,
            reports: meters.counters("reports_total", "Execution reports", "exec_type", EXEC_TYPES)?,
            sends: meters.counter("sends_total", "New orders that the exchange was asked for")?,
            failures: meters.counter("failures_total", "Of those: no answer, 5xx, 401, 403, 418, 429")?,
            findings: meters.counters(
                "findings_total",
                "Differences between the exchange and the books",
                "kind",
                FindingKind::ALL.iter().map(|kind| kind.as_str()),
            )?,
            security: meters.counters(
                "security_total",
                "Forged, replayed, refused",
                "kind",
                SecurityKind::ALL.iter().map(|kind| kind.as_str()),
            )?,
            troubles: meters.counters("exchange_troubles_total", "Calls that failed", "meaning", MEANINGS)?,
            latency: meters.seconds_by(
                "exchange_latency_seconds",
                "Time to the exchange's answer",
                "endpoint",
                endpoints(),
            )?,
            rate_limited: meters.counters("rate_limited_total", "429 and 418", "kind", ["429", "418"])?,
            stream_up: meters.gauges("stream_up", "1 while subscribed", "stream", streams)?,
            stream_messages: meters.counters("stream_messages_total", "Messages", "message", MESSAGES)?,
            stream_ends: meters.counters("stream_ends_total", "Ends of streams", "cause", STREAM_ENDS)?,
            stream_missed: meters.counter("stream_missed_fills_total", missed)?,
            key_info: meters.gauges("key_info", "1 for the exchange key in use", "fingerprint", [])?,
            key_generation: meters.gauge("key_generation_count", "Exchange keys that this process has used")?,
            leads: meters.gauge("leads", "1 while this instance sends")?,
            audit_disk_free: meters.gauge("audit_disk_free_ppm", "Free share of the audit trail's disk, millionths")?,
            in_doubt_age: meters.gauge("in_doubt_age_seconds", "Age of the oldest doubt")?,
            reconcile_age: meters.gauge("reconcile_age_seconds", "Since everything was compared with the exchange")?,
            ages: Arc::default(),
            registry: meters.registry(),
        })
    }

    /// For the endpoint.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    fn ages(&self) -> MutexGuard<'_, Ages> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exchange key in use.
    pub fn key(&self, fingerprint: &str, generation: u64) {
        self.key_info.reset();
        self.key_info.with_label_values(&[fingerprint]).set(1);
        self.key_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// Whether this instance sends. What a former term counted does not stand any more.
    pub fn leading(&self, leads: bool) {
        self.leads.set(i64::from(leads));
        if !leads {
            let Standing { queued, in_flight, open, in_doubt } = &self.standing;
            for gauge in [queued, in_flight, open, in_doubt] {
                gauge.set(0);
            }
        }
    }

    /// An order's outcome is unknown for as long as the answer lives.
    pub fn doubt(&self) -> Doubt {
        let mut ages = self.ages();
        ages.doubts_begun += 1;
        let id = ages.doubts_begun;
        ages.doubts.insert(id, Instant::now());
        Doubt { id, ages: Arc::clone(&self.ages) }
    }

    /// Everything was compared with the exchange.
    pub fn reconciled(&self) {
        self.ages().reconciled_at = Some(Instant::now());
    }

    /// Ages and the disk, once a second, whether this instance sends or not.
    pub fn look_around(&self, audit_dir: &Path) {
        let seconds = |since: Instant| i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX);
        let mut ages = self.ages();
        let reconciled_at = *ages.reconciled_at.get_or_insert_with(Instant::now);
        self.reconcile_age.set(seconds(reconciled_at));
        self.in_doubt_age.set(ages.doubts.values().min().map_or(0, |since| seconds(*since)));
        drop(ages);
        self.audit_disk_free.set(disk_free_ppm(audit_dir));
    }

    /// A difference between the exchange and the books.
    pub fn found(&self, kind: FindingKind) {
        self.findings.with_label_values(&[kind.as_str()]).inc();
    }

    /// Something forged, replayed or refused.
    pub fn security(&self, kind: SecurityKind) {
        self.security.with_label_values(&[kind.as_str()]).inc();
    }

    /// The exchange was asked for a new order. A business refusal is no failure (design §5).
    pub fn sent(&self, trouble: Option<&Trouble>) {
        self.sends.inc();
        let is_failure = trouble.is_some_and(|trouble| match trouble.meaning {
            Meaning::Refused(VenueRefusal::Auth | VenueRefusal::Clock) => true,
            Meaning::Unknown | Meaning::RateLimited { .. } | Meaning::Banned { .. } => true,
            Meaning::Refused(_) | Meaning::NotFound | Meaning::NoListenKey => false,
        });
        if is_failure {
            self.failures.inc();
        }
    }

    /// The gate answered for a new order.
    pub fn gate(&self, answer: &Answer) {
        let word = match answer {
            Answer::Granted(_) => "granted",
            Answer::Wait(_) => "wait",
            Answer::NotLeader => "not_leader",
            Answer::Refused(refusal) => refusal.code(),
        };
        self.gate.with_label_values(&[word]).inc();
    }

    /// The exchange answered a call, or did not.
    pub fn answered(&self, endpoint: Endpoint, elapsed: Duration, trouble: Option<&Trouble>) {
        self.latency.with_label_values(&[endpoint.name()]).observe(elapsed.as_secs_f64());
        if let Some(trouble) = trouble {
            let meaning = match trouble.meaning {
                Meaning::Refused(_) => "refused",
                Meaning::Unknown => "unknown",
                Meaning::RateLimited { .. } => "rate_limited",
                Meaning::Banned { .. } => "banned",
                Meaning::NotFound => "not_found",
                Meaning::NoListenKey => "no_listen_key",
            };
            self.troubles.with_label_values(&[meaning]).inc();
            tracing::debug!(
                endpoint = endpoint.name(),
                meaning,
                text = trouble.text,
                "the exchange did not do as asked"
            );
        }
    }

    /// A stream is subscribed to all it should be.
    pub fn stream_opened(&self, stream: StreamKind) {
        self.stream_up.with_label_values(&[stream.as_str()]).set(1);
        tracing::info!(stream = stream.as_str(), "stream open");
    }

    /// A stream ended, or could not be opened.
    pub fn stream_ended(&self, stream: StreamKind, end: &StreamEnd) {
        let cause = match end {
            StreamEnd::NoConnection(_) => "no_connection",
            StreamEnd::NotSubscribed(_) => "not_subscribed",
            StreamEnd::NoListenKey => "no_listen_key",
            StreamEnd::Silent => "silent",
            StreamEnd::Closed(_) => "closed",
            StreamEnd::Aged => "aged",
        };
        self.stream_up.with_label_values(&[stream.as_str()]).set(0);
        self.stream_ends.with_label_values(&[cause]).inc();
        tracing::warn!(stream = stream.as_str(), %end, "stream ended; until the next one everything is asked for");
    }

    /// A stream said something.
    pub fn stream_heard(&self, heard: &Heard) {
        let message = match heard {
            Heard::Push(Push::Order(_)) => "order",
            Heard::Push(Push::Deal(_)) => "deal",
            Heard::Push(Push::Balance(_)) => "balance",
            Heard::Push(Push::Book { .. }) => "book",
            Heard::Push(Push::Last { .. }) => "last",
            Heard::Push(Push::Other) => "other",
            Heard::Strange(text) => {
                tracing::warn!(text, "a message of the stream cannot be understood");
                "strange"
            }
        };
        self.stream_messages.with_label_values(&[message]).inc();
    }

    /// 429 or 418.
    pub fn rate_limited(&self, wait_s: u64, is_ban: bool) {
        let kind = if is_ban { "418" } else { "429" };
        self.rate_limited.with_label_values(&[kind]).inc();
        tracing::error!(kind, wait_s, "the exchange wants silence; nothing is sent until then");
    }

    /// A report went out.
    pub fn reported(&self, report: &ExecutionReport) {
        let exec_type = match report.exec_type {
            ExecType::PendingNew => "PendingNew",
            ExecType::New => "New",
            ExecType::Trade => "Trade",
            ExecType::PendingCancel => "PendingCancel",
            ExecType::Canceled => "Canceled",
            ExecType::Rejected => "Rejected",
            ExecType::Expired => "Expired",
            ExecType::OrderStatus => "OrderStatus",
        };
        self.reports.with_label_values(&[exec_type]).inc();
        let (id, status, reason) = (&report.cl_ord_id, report.ord_status.as_str(), report.reason.as_deref());
        if report.in_doubt {
            tracing::warn!(cl_ord_id = %id, text = report.text, "in doubt: nobody knows whether the exchange has it");
        } else {
            tracing::info!(cl_ord_id = %id, exec_type, status, reason, cum_qty = %report.cum_qty, "order");
        }
    }
}
