//! The tamper-evident chain of records (design §7): one JSON object a line, each line's hash over a version tag and
//! the line's exact bytes before the hash, each line carrying the hash of the one before.
//!
//! Files are named by day; the chain runs through them. A day is closed with a seal and the next one opens with the
//! previous head.

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
        // serde_json escapes every control character, so text from outside can never end a line or begin one.
        let mut line = serde_json::to_string(&body).expect("a record always serialises");
        line.pop();
        self.head = hash(line.as_bytes());
        self.next_seq = self.next_seq.saturating_add(1);
        line.push_str(",\"hash\":\"");
        line.push_str(&self.head);
        line.push_str("\"}\n");
        (line, Pending { seq })
    }
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
    /// The file ends in the middle of a line.
    TornTail,
    /// The file of an earlier day has no seal at its end.
    Unsealed,
    /// The record's own time belongs to another day's file.
    Misplaced,
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

/// Verifies a chain file by file, in the order of the days.
#[derive(Debug, Clone)]
pub struct Verifier {
    next_seq: u64,
    head: String,
    records: u64,
    is_sealed: bool,
    faults: Vec<Fault>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { next_seq: 1, head: GENESIS.to_owned(), records: 0, is_sealed: true, faults: Vec::new() }
    }
}

impl Verifier {
    /// Goes on after record `seq`, which was verified earlier and has this hash.
    #[must_use]
    pub fn resumed(seq: u64, head: &str, is_sealed: bool) -> Self {
        Self { next_seq: seq.saturating_add(1), head: head.to_owned(), records: seq, is_sealed, faults: Vec::new() }
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
    /// Every fault found, in order.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Reads one day's file; `each` sees every record that is readable.
    pub fn read_file(&mut self, file: &str, day: &str, bytes: &[u8], is_last: bool, mut each: impl FnMut(&Record<'_>)) {
        let mut rest = bytes;
        let mut line_number = 0_usize;
        while !rest.is_empty() {
            line_number = line_number.saturating_add(1);
            let (line, after) = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&rest[..end], &rest[end.saturating_add(1)..]),
                None => {
                    self.fault(file, line_number, None, FaultKind::TornTail, "the file ends inside this line");
                    return;
                }
            };
            self.read_line(file, day, line_number, line, &mut each);
            rest = after;
        }
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
        let expected_end = format!(",\"hash\":\"{}\"}}", record.hash);
        if !line.ends_with(expected_end.as_bytes()) || hash_of_line(line) != record.hash {
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
        self.next_seq = record.seq.max(self.next_seq.saturating_sub(1)).saturating_add(1);
        self.head.clone_from(&record.hash);
        self.records = self.records.saturating_add(1);
        self.is_sealed = record.event_type == DAY_SEALED;
        each(&record);
    }

    fn fault(&mut self, file: &str, line: usize, seq: Option<u64>, kind: FaultKind, text: &str) {
        self.faults.push(Fault { file: file.to_owned(), line, seq, kind, text: text.to_owned() });
    }
}

/// `audit_2026-11-25.jsonl`
#[must_use]
pub fn file_name(day: UtcDay) -> String {
    format!("audit_{day}.jsonl")
}

/// The day in a file's name; `None` when the name is not one of ours.
#[must_use]
pub fn day_in_file_name(name: &str) -> Option<&str> {
    let day = name.strip_prefix("audit_")?.strip_suffix(".jsonl")?;
    (day.len() == 10 && day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')).then_some(day)
}

#[cfg(test)]
mod tests;
