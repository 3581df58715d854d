//! One log line and one metric for each thing that happens. Every label value is there at 0 from the start.

use std::time::Duration;

use cdb_core::gate::Answer;
use cdb_core::reason::GateRefusal;
use cdb_core::report::{ExecType, ExecutionReport};
use cdb_mexc::answer::{Meaning, Trouble};
use cdb_mexc::endpoint::Endpoint;
use cdb_mexc::push::Push;
use cdb_mexc::stream::{Heard, StreamEnd};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::config::Config;

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
    gate: IntCounterVec,
    reports: IntCounterVec,
    troubles: IntCounterVec,
    latency: HistogramVec,
    rate_limited: IntCounterVec,
    stream_up: IntGaugeVec,
    stream_messages: IntCounterVec,
    stream_ends: IntCounterVec,
    /// Fills that the user stream should have told of, and that were found by asking.
    pub stream_missed: IntCounter,
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
        let registry = Registry::new();
        let vector = |name: &str, help: &str, label: &str| -> anyhow::Result<IntCounterVec> {
            let vector = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(vector.clone()))?;
            Ok(vector)
        };
        let redis_errors = IntCounter::new("cdb_execution_redis_errors_total", "Terms ended by Redis")?;
        let forged = IntCounter::new("cdb_execution_forged_verdicts_total", "Verdicts that were not genuine")?;
        let clock_offset_ms = IntGauge::new("cdb_execution_clock_offset_ms", "Exchange clock minus ours")?;
        let latency = HistogramVec::new(
            HistogramOpts::new("cdb_execution_exchange_latency_seconds", "Time to the exchange's answer")
                .buckets(vec![0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0]),
            &["endpoint"],
        )?;
        let labels = ["build", "mode", "key_fingerprint"];
        let build = IntGaugeVec::new(Opts::new("cdb_execution_build_info", "Always 1"), &labels)?;
        build.with_label_values(&[cdb_io::config::BUILD, config.service.mode.as_str(), &config.key_fingerprint]).set(1);
        registry.register(Box::new(redis_errors.clone()))?;
        registry.register(Box::new(forged.clone()))?;
        registry.register(Box::new(clock_offset_ms.clone()))?;
        let local_stop = IntGauge::new("cdb_execution_local_stop", "1 while stopped by file, signal or POST /stop")?;
        registry.register(Box::new(local_stop.clone()))?;
        registry.register(Box::new(latency.clone()))?;
        registry.register(Box::new(build))?;
        let stream_up = IntGaugeVec::new(Opts::new("cdb_execution_stream_up", "1 while subscribed"), &["stream"])?;
        registry.register(Box::new(stream_up.clone()))?;
        let stream_missed = IntCounter::new(
            "cdb_execution_stream_missed_fills_total",
            "Fills found by asking that the user stream should have told of",
        )?;
        registry.register(Box::new(stream_missed.clone()))?;
        let observer = Self {
            gate: vector("cdb_execution_gate_answers_total", "The gate's answers for new orders", "answer")?,
            reports: vector("cdb_execution_reports_total", "Execution reports", "exec_type")?,
            troubles: vector("cdb_execution_exchange_troubles_total", "Calls that failed, by meaning", "meaning")?,
            stream_up,
            stream_missed,
            stream_messages: vector("cdb_execution_stream_messages_total", "Messages of the streams", "message")?,
            stream_ends: vector("cdb_execution_stream_ends_total", "Ends of streams, by cause", "cause")?,
            rate_limited: vector("cdb_execution_rate_limited_total", "429 and 418 of the exchange", "kind")?,
            redis_errors,
            forged,
            clock_offset_ms,
            local_stop,
            latency,
            registry,
        };
        observer.zero();
        Ok(observer)
    }

    fn zero(&self) {
        for answer in ["granted", "wait", "not_leader"].into_iter().chain(GateRefusal::ALL.iter().map(|one| one.code()))
        {
            self.gate.with_label_values(&[answer]);
        }
        for exec_type in
            ["PendingNew", "New", "Trade", "PendingCancel", "Canceled", "Rejected", "Expired", "OrderStatus"]
        {
            self.reports.with_label_values(&[exec_type]);
        }
        for meaning in ["refused", "unknown", "rate_limited", "banned", "not_found", "no_listen_key"] {
            self.troubles.with_label_values(&[meaning]);
        }
        for stream in [StreamKind::User, StreamKind::Market] {
            self.stream_up.with_label_values(&[stream.as_str()]).set(0);
        }
        for message in MESSAGES {
            self.stream_messages.with_label_values(&[message]);
        }
        for cause in ["no_connection", "not_subscribed", "no_listen_key", "silent", "closed", "aged"] {
            self.stream_ends.with_label_values(&[cause]);
        }
        for kind in ["429", "418"] {
            self.rate_limited.with_label_values(&[kind]);
        }
        for endpoint in Endpoint::ALL {
            self.latency.with_label_values(&[endpoint.name()]);
        }
    }

    /// For the endpoint.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
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
