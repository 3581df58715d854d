//! The tamper-evident chain of records (design §7): one JSON object a line, each line's hash over a version tag and
//! the line's exact bytes before the hash, each line carrying the hash of the one before.
//!
//! Files are named by day; the chain runs through them. A day is closed with a seal and the next one opens with the
//! previous head.

pub mod story; // what the records say together

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::time::{Timestamp, UtcDay};

/// Goes into every hash, so that a line of another format can never pass for one of these.
const VERSION_TAG: &[u8] = b"cdb-audit-v1\n";
/// What stands in `prev` of the very first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Length of `,"hash":"<64 hex>"}` at a line's end.
const HASH_FIELD_LEN: usize = 75;
/// Closes a day's file.
pub const DAY_SEALED: &str = "DAY_SEALED";
/// Opens a day's file.
pub const DAY_OPENED: &str = "DAY_OPENED";
/// Says that a torn last line was moved aside.
pub const TORN_TAIL: &str = "TORN_TAIL";

/// Proof that a record is on disk. Spent by the one submission that it allows.
#[derive(Debug)]
pub struct Durable {
    seq: u64,
}

impl Durable {
    /// The record's sequence number.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }
    /// Uses the proof up.
    pub fn spend(self) {
        let Self { seq: _ } = self;
    }
}

/// A record that was written but perhaps not yet reached the disk.
#[derive(Debug)]
pub struct Pending {
    seq: u64,
}

impl Pending {
    /// To be called by the writer after a successful fdatasync that covers the record, and by nobody else.
    #[must_use]
    pub const fn synced(self) -> Durable {
        Durable { seq: self.seq }
    }
}

/// The writing end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    service: String,
    build: String,
    next_seq: u64,
    head: String,
}

#[derive(Serialize)]
struct Body<'a> {
    seq: u64,
    timestamp: String,
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<&'a serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a serde_json::Value>,
    service: &'a str,
    build: &'a str,
    prev: &'a str,
}

impl Chain {
    /// A chain without records.
    #[must_use]
    pub fn genesis(service: &str, build: &str) -> Self {
        Self::resumed(service, build, 1, GENESIS)
    }

    /// A chain that goes on after a known head.
    #[must_use]
    pub fn resumed(service: &str, build: &str, next_seq: u64, head: &str) -> Self {
        Self { service: service.to_owned(), build: build.to_owned(), next_seq, head: head.to_owned() }
    }

    /// Sequence number of the next record.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Hash of the last record.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Makes the next record: its line (with the line end) and the token that becomes a proof once it is synced.
    pub fn append(
        &mut self,
        event_type: &str,
        actor: Option<&str>,
        order: Option<&serde_json::Value>,
        result: Option<&serde_json::Value>,
        now: Timestamp,
    ) -> (String, Pending) {
        let seq = self.next_seq;
        let body = Body {
            seq,
            timestamp: now.to_rfc3339(),
            event_type,
            actor,
            order,
            result,
            service: &self.service,
            build: &self.build,
            prev: &self.head,
        };
        // serde_json escapes every ASCII control character, so text from outside can never end a line or begin one.
        let mut line = one_line_everywhere(serde_json::to_string(&body).expect("a record always serialises"));
        line.pop();
        self.head = hash(line.as_bytes());
        self.next_seq = self.next_seq.saturating_add(1);
        line.push_str(",\"hash\":\"");
        line.push_str(&self.head);
        line.push_str("\"}\n");
        (line, Pending { seq })
    }
}

/// Escapes what some viewers take for a line's end, or for a command to the terminal, beyond ASCII: DEL, the C1
/// controls, the line and paragraph separators, and marks that turn the direction of writing. In JSON these stand in
/// strings only, where an escape is the same text.
fn one_line_everywhere(json: String) -> String {
    let is_odd = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if json.bytes().all(|byte| byte < 0x7f) || !json.contains(is_odd) {
        return json;
    }
    let mut text = String::with_capacity(json.len().saturating_add(32));
    for c in json.chars() {
        if is_odd(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

fn hash(bytes_before_the_hash: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(VERSION_TAG);
    digest.update(bytes_before_the_hash);
    hex::encode(digest.finalize())
}

/// What a line's bytes give as its hash, whatever hash it carries; `line` is without its line end.
#[must_use]
pub fn hash_of_line(line: &[u8]) -> String {
    hash(&line[..line.len().saturating_sub(HASH_FIELD_LEN)])
}

/// One record read back.
#[derive(Debug, Clone, Deserialize)]
pub struct Record<'a> {
    /// Runs from 1 without a gap, through all days and restarts.
    pub seq: u64,
    /// RFC 3339, UTC, ms.
    pub timestamp: String,
    /// What happened.
    pub event_type: String,
    /// Who caused it, when it was a person.
    #[serde(default)]
    pub actor: Option<String>,
    /// The order, as it was commanded.
    #[serde(borrow, default)]
    pub order: Option<&'a RawValue>,
    /// What came of it.
    #[serde(borrow, default)]
    pub result: Option<&'a RawValue>,
    /// Who wrote it.
    pub service: String,
    /// Which build wrote it.
    pub build: String,
    /// Hash of the record before.
    pub prev: String,
    /// Hash of this record.
    pub hash: String,
}

/// What is wrong at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The bytes do not give the hash that the line carries.
    Edited,
    /// Sequence numbers are missing before this line.
    Removed,
    /// A line that does not belong here: a number seen before, or not following the line above.
    Inserted,
    /// The number follows but the hash chain does not: two histories were joined.
    Forked,
    /// Not a record at all.
    Unreadable,
    /// The trail ends in the middle of a line, as after a crash or while it is being written.
    TornTail,
    /// The file of an earlier day ends in the middle of a line.
    Truncated,
    /// The file of an earlier day has no seal at its end.
    Unsealed,
    /// The record's own time belongs to another day's file, or the record to another service's chain.
    Misplaced,
    /// The chain holds together, but a record is another one than a checkpoint was signed for.
    Rewritten,
    /// The chain ends before a record that a checkpoint was signed for.
    BehindAnchor,
    /// An order was sent and no verdict on record approves it.
    NoApproval,
    /// The exchange had an order that no earlier record says was submitted.
    NotSubmitted,
    /// An order was submitted twice.
    SubmittedTwice,
    /// An order went on after its end, or ended in two ways.
    AfterItsEnd,
    /// An order was granted while a stop that covers it was in force.
    SentWhileStopped,
    /// The fills of an order are not what it is said to have filled.
    FillsDisagree,
}

impl FaultKind {
    /// The word for it, the same everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Removed => "removed",
            Self::Inserted => "inserted",
            Self::Forked => "forked",
            Self::Unreadable => "unreadable",
            Self::TornTail => "torn_tail",
            Self::Truncated => "truncated",
            Self::Unsealed => "unsealed",
            Self::Misplaced => "misplaced",
            Self::Rewritten => "rewritten",
            Self::BehindAnchor => "behind_anchor",
            Self::NoApproval => "no_approval",
            Self::NotSubmitted => "not_submitted",
            Self::SubmittedTwice => "submitted_twice",
            Self::AfterItsEnd => "after_its_end",
            Self::SentWhileStopped => "sent_while_stopped",
            Self::FillsDisagree => "fills_disagree",
        }
    }

    /// What a fault of this kind makes of the whole trail.
    #[must_use]
    pub const fn judgement(self) -> Judgement {
        match self {
            Self::TornTail => Judgement::TornTail,
            Self::Edited
            | Self::Removed
            | Self::Inserted
            | Self::Forked
            | Self::Unreadable
            | Self::Truncated
            | Self::Unsealed
            | Self::Misplaced
            | Self::Rewritten => Judgement::Tampered,
            Self::BehindAnchor => Judgement::BehindAnchors,
            Self::NoApproval
            | Self::NotSubmitted
            | Self::SubmittedTwice
            | Self::AfterItsEnd
            | Self::SentWhileStopped
            | Self::FillsDisagree => Judgement::Contradictory,
        }
    }
}

/// What can be said of a trail. The worst that was found counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Nothing is wrong.
    Clean,
    /// The last line is not whole: a crash, or a writer at work.
    TornTail,
    /// There is no trail, or it cannot be read.
    CannotTell,
    /// It is whole, and what it says breaks a promise.
    Contradictory,
    /// It is whole, and shorter than a checkpoint says that it once was.
    BehindAnchors,
    /// It was changed after it was written.
    Tampered,
}

/// One fault with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// File name.
    pub file: String,
    /// Line number from 1.
    pub line: usize,
    /// The record's number, where it is readable.
    pub seq: Option<u64>,
    /// What is wrong.
    pub kind: FaultKind,
    /// For a person.
    pub text: String,
}

/// Faults that are kept; the rest is counted. A file of nothing but rubbish must not fill the memory.
pub const FAULTS_KEPT: usize = 10_000;

/// Verifies a chain line by line, file by file in the order of the days.
#[derive(Debug, Clone)]
pub struct Verifier {
    next_seq: u64,
    head: String,
    records: u64,
    is_sealed: bool,
    /// Who writes this chain, by the first record read.
    service: Option<String>,
    faults: Vec<Fault>,
    faults_found: u64,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::resumed(0, GENESIS, true)
    }
}

impl Verifier {
    /// Goes on after record `seq`, which was verified earlier and has this hash.
    #[must_use]
    pub fn resumed(seq: u64, head: &str, is_sealed: bool) -> Self {
        Self {
            next_seq: seq.saturating_add(1),
            head: head.to_owned(),
            records: seq,
            is_sealed,
            service: None,
            faults: Vec::new(),
            faults_found: 0,
        }
    }

    /// Records seen so far.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }
    /// Number that the next record must have.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }
    /// Hash of the last record.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }
    /// Whether the last record seen is a seal (or there is none).
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.is_sealed
    }
    /// Who writes the chain; `None` before its first record.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }
    /// The faults found, in order, the first [`FAULTS_KEPT`] of them.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
    /// How many faults were found.
    #[must_use]
    pub const fn faults_found(&self) -> u64 {
        self.faults_found
    }
    /// What the faults found so far make of the chain.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        self.faults.iter().map(|fault| fault.kind.judgement()).max().unwrap_or(Judgement::Clean)
    }

    /// Reads one day's file from memory; `each` sees every record that is readable.
    pub fn read_file(&mut self, file: &str, day: &str, bytes: &[u8], is_last: bool, mut each: impl FnMut(&Record<'_>)) {
        let mut line_number = 0_usize;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            line_number = line_number.saturating_add(1);
            match piece.strip_suffix(b"\n") {
                Some(line) => self.read_line(file, day, line_number, line, &mut each),
                None => self.torn(file, line_number, is_last),
            }
        }
        self.end_file(file, line_number, is_last);
    }

    /// A line without its end.
    pub fn torn(&mut self, file: &str, line_number: usize, is_last: bool) {
        let kind = if is_last { FaultKind::TornTail } else { FaultKind::Truncated };
        self.fault(file, line_number, None, kind, "the file ends inside this line");
    }

    /// A compressed file gives no further line: its bytes were changed.
    pub fn damaged(&mut self, file: &str, line_number: usize) {
        let text = "the compressed file is damaged from here on";
        self.fault(file, line_number.saturating_add(1), None, FaultKind::Unreadable, text);
    }

    /// The file is read, up to this line.
    pub fn end_file(&mut self, file: &str, line_number: usize, is_last: bool) {
        if !is_last && !self.is_sealed {
            self.fault(file, line_number, None, FaultKind::Unsealed, "the day has no seal; its end may be missing");
        }
    }

    /// Reads one line, without its line end; `each` sees it when it is a record.
    pub fn read_line(
        &mut self,
        file: &str,
        day: &str,
        line_number: usize,
        line: &[u8],
        each: &mut impl FnMut(&Record<'_>),
    ) {
        let Ok(record) = serde_json::from_slice::<Record<'_>>(line) else {
            self.fault(file, line_number, None, FaultKind::Unreadable, "not an audit record");
            return;
        };
        let seq = Some(record.seq);
        if !carries_its_hash(line, &record.hash) {
            self.fault(file, line_number, seq, FaultKind::Edited, "its bytes do not give its hash");
        }
        if record.seq > self.next_seq {
            let text = format!("records {} to {} are missing", self.next_seq, record.seq.saturating_sub(1));
            self.fault(file, line_number, seq, FaultKind::Removed, &text);
        } else if record.seq < self.next_seq {
            let text = format!("number {} stands where {} must follow", record.seq, self.next_seq);
            self.fault(file, line_number, seq, FaultKind::Inserted, &text);
        } else if record.prev != self.head {
            self.fault(file, line_number, seq, FaultKind::Forked, "it does not follow the record above");
        }
        if !record.timestamp.starts_with(day) && record.timestamp.as_str() > day {
            self.fault(file, line_number, seq, FaultKind::Misplaced, "its time lies after this file's day");
        }
        match &self.service {
            Some(service) if *service != record.service => {
                let text = format!("a record of {:?} in the chain of {service:?}", record.service);
                self.fault(file, line_number, seq, FaultKind::Misplaced, &text);
            }
            Some(_) => {}
            None => self.service = Some(record.service.clone()),
        }
        self.next_seq = record.seq.max(self.next_seq.saturating_sub(1)).saturating_add(1);
        self.head.clone_from(&record.hash);
        self.records = self.records.saturating_add(1);
        self.is_sealed = record.event_type == DAY_SEALED;
        each(&record);
    }

    fn fault(&mut self, file: &str, line: usize, seq: Option<u64>, kind: FaultKind, text: &str) {
        self.faults_found = self.faults_found.saturating_add(1);
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(Fault { file: file.to_owned(), line, seq, kind, text: text.to_owned() });
        }
    }
}

/// Whether a line ends in its hash field, and the bytes before it give that hash.
fn carries_its_hash(line: &[u8], hash_of_record: &str) -> bool {
    let Some(at) = line.len().checked_sub(HASH_FIELD_LEN) else { return false };
    let (hashed, field) = line.split_at(at);
    let field = field.strip_prefix(b",\"hash\":\"").and_then(|field| field.strip_suffix(b"\"}"));
    field == Some(hash_of_record.as_bytes()) && hash(hashed) == hash_of_record
}

/// `audit_2026-11-25.jsonl`
#[must_use]
pub fn file_name(day: UtcDay) -> String {
    format!("audit_{day}.jsonl")
}

/// What the name of a compressed day's file ends with.
pub const COMPRESSED: &str = ".zst";

/// The day in the name of a day's file, compressed or not; `None` when the name is not one of ours.
#[must_use]
pub fn day_in_file_name(name: &str) -> Option<&str> {
    let plain = name.strip_suffix(COMPRESSED).unwrap_or(name);
    let day = plain.strip_prefix("audit_")?.strip_suffix(".jsonl")?;
    UtcDay::parse(day).is_some().then_some(day)
}

#[cfg(test)]
mod tests;
