//! An audit chain followed as it grows: verified line by line from where the follower stood, in the memory of one line.
//! It reads only; a line that is still being written is waited for.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cdb_core::audit::{Fault, FaultKind, GENESIS, Verifier};
use cdb_core::tree::{Frontier, Hash, hash_from_hex};
use serde::{Deserialize, Serialize};

use crate::audit_files;

/// Longest line that is read, bytes.
const LINE_MAX: u64 = 16 * 1024 * 1024;
/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// Up to where a chain was read and found whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Day of the file; empty before the first.
    day: String,
    /// Bytes of it that were read.
    offset: u64,
    /// Lines of it that were read.
    line: usize,
    /// Hash of the last record.
    head: String,
    /// Whether the last record is a day's seal.
    is_sealed: bool,
    /// The edge of the tree over all records.
    tree: Frontier,
}

impl Default for Position {
    /// Before the first record.
    fn default() -> Self {
        let tree = Frontier::default();
        Self { day: String::new(), offset: 0, line: 0, head: GENESIS.to_owned(), is_sealed: true, tree }
    }
}

impl Position {
    /// Number of the last record; 0 before the first.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.tree.size()
    }
    /// Hash of the last record; `None` when it is no hash.
    #[must_use]
    pub fn head(&self) -> Option<Hash> {
        hash_from_hex(&self.head)
    }
    /// Root of the tree over all records.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.tree.root()
    }
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It does not hold together.
    Broken(Fault),
    /// It holds together, but a record is another one than was signed for.
    Rewritten {
        /// The record.
        seq: u64,
    },
    /// It ends before a record that was signed for.
    RolledBack {
        /// Its last record.
        seq: u64,
        /// The record that was signed for.
        signed: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(fault) => write!(f, "{} line {}: {}", fault.file, fault.line, fault.text),
            Self::Rewritten { seq } => {
                write!(f, "record {seq} is not the one that a checkpoint was signed for: history was rewritten")
            }
            Self::RolledBack { seq, signed } => {
                write!(f, "it ends at record {seq}, but a checkpoint was signed for record {signed}: rolled back")
            }
        }
    }
}

impl Finding {
    /// The word for it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::Rewritten { .. } => "rewritten",
            Self::RolledBack { .. } => "rolled_back",
        }
    }
}

/// Where reading stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// All that is there was read.
    Level,
    /// There is more.
    Bound,
    /// Something is wrong with the next line; nothing after it was read.
    Found(Finding),
}

/// A follower of one chain.
#[derive(Debug, Clone)]
pub struct Tail {
    dir: PathBuf,
    at: Position,
    /// Records that checkpoints were signed for, by number.
    signed: BTreeMap<u64, Hash>,
}

impl Tail {
    /// Follows the chain of a directory from a position.
    #[must_use]
    pub const fn new(dir: PathBuf, at: Position) -> Self {
        Self { dir, at, signed: BTreeMap::new() }
    }

    /// A follower of the same chain that reads everything again, with the same expectations.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { at: Position::default(), ..self.clone() }
    }

    /// Up to where it has read.
    #[must_use]
    pub const fn position(&self) -> &Position {
        &self.at
    }

    /// Says which hash record `seq` must have. What lies behind the position is not looked at again.
    pub fn expect(&mut self, seq: u64, head: Hash) {
        self.signed.insert(seq, head);
    }

    /// Reads on, `records` at most.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn advance(&mut self, records: usize) -> anyhow::Result<Stop> {
        let mut left = records;
        loop {
            // Asked before the file is read: a day's seal is on disk before the next day's file has a byte.
            let files = written(&self.dir)?;
            if self.at.day.is_empty() {
                let Some((day, _)) = files.first() else { return Ok(self.at_end()) };
                self.at.day.clone_from(day);
            }
            let Some(index) = files.iter().position(|(day, _)| *day == self.at.day) else {
                return Ok(self.broken(&self.dir, FaultKind::Removed, "the file that was read last is gone"));
            };
            let path = &files[index].1;
            match self.read(path, &mut left)? {
                Some(stop) => return Ok(stop),
                None if left == 0 => return Ok(Stop::Bound),
                None => {}
            }
            let Some((day, _)) = files.get(index + 1) else { return Ok(self.at_end()) };
            if !audit_files::is_compressed(path) && std::fs::metadata(path)?.len() > self.at.offset {
                return Ok(self.broken(path, FaultKind::TornTail, "an earlier day's file ends inside this line"));
            }
            if !self.at.is_sealed {
                return Ok(self.broken(path, FaultKind::Unsealed, "the day has no seal; its end may be missing"));
            }
            self.at = Position { day: day.clone(), offset: 0, line: 0, ..self.at.clone() };
        }
    }

    /// Whole lines of one file; `None` when there is none left.
    fn read(&mut self, path: &Path, left: &mut usize) -> anyhow::Result<Option<Stop>> {
        let reading = || format!("reading {}", path.display());
        let Some(mut lines) = lines_from(path, self.at.offset).with_context(reading)? else {
            let text = "the file is shorter than what was read of it";
            return Ok(Some(self.broken(path, FaultKind::Removed, text)));
        };
        let name = name_of(path);
        let mut verifier = Verifier::resumed(self.at.seq(), &self.at.head, self.at.is_sealed);
        let mut bytes = Vec::new();
        while *left > 0 {
            bytes.clear();
            let length = lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes).with_context(reading)?;
            let length = u64::try_from(length)?;
            let Some(line) = bytes.strip_suffix(b"\n") else {
                let is_no_record = length == LINE_MAX;
                return Ok(is_no_record.then(|| self.broken(path, FaultKind::Unreadable, "no record is so long")));
            };
            verifier.read_line(&name, &self.at.day, self.at.line + 1, line, &mut |_| {});
            if let Some(fault) = verifier.faults().first() {
                return Ok(Some(Stop::Found(Finding::Broken(fault.clone()))));
            }
            let seq = self.at.seq() + 1;
            let hash = hash_from_hex(verifier.head()).context("a hash that was verified is 64 hex digits")?;
            if self.signed.get(&seq).is_some_and(|signed| *signed != hash) {
                return Ok(Some(Stop::Found(Finding::Rewritten { seq })));
            }
            self.at.tree.append(&hash);
            verifier.head().clone_into(&mut self.at.head);
            self.at.is_sealed = verifier.is_sealed();
            self.at.offset += length;
            self.at.line += 1;
            *left -= 1;
        }
        Ok(None)
    }

    /// All was read: it must reach as far as was signed.
    fn at_end(&self) -> Stop {
        let seq = self.at.seq();
        match self.signed.last_key_value() {
            Some((signed, _)) if *signed > seq => Stop::Found(Finding::RolledBack { seq, signed: *signed }),
            Some(_) | None => Stop::Level,
        }
    }

    fn broken(&self, path: &Path, kind: FaultKind, text: &str) -> Stop {
        let (file, line, text) = (name_of(path), self.at.line + 1, text.to_owned());
        Stop::Found(Finding::Broken(Fault { file, line, seq: None, kind, text }))
    }

    /// Bytes that are there and were not read.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn unread(&self) -> anyhow::Result<u64> {
        let mut bytes = 0_u64;
        for (day, path) in written(&self.dir)? {
            if day >= self.at.day {
                let read = if day == self.at.day { self.at.offset } else { 0 };
                bytes = bytes.saturating_add(std::fs::metadata(path)?.len().saturating_sub(read));
            }
        }
        Ok(bytes)
    }

    /// Waits until what was read is on disk: a checkpoint must not be signed for what a power cut can take back.
    ///
    /// # Errors
    /// The file cannot be synced.
    pub fn sync(&self) -> anyhow::Result<()> {
        for (day, path) in written(&self.dir)? {
            if day == self.at.day {
                let synced = File::open(&path).and_then(|file| file.sync_data());
                synced.with_context(|| format!("syncing {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// The chain's files that hold something: a writer makes a new day's file before it seals the old one.
fn written(dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let files = audit_files::files(dir)?.into_iter();
    let sized = files.map(|(day, path)| Ok((std::fs::metadata(&path)?.len(), day, path)));
    let sized: io::Result<Vec<_>> = sized.collect();
    let sized = sized.with_context(|| format!("reading audit directory {}", dir.display()))?;
    Ok(sized.into_iter().filter(|(length, ..)| *length > 0).map(|(_, day, path)| (day, path)).collect())
}

/// A day's file from a byte on, compressed or not; `None` when it is shorter.
fn lines_from(path: &Path, offset: u64) -> io::Result<Option<Box<dyn BufRead>>> {
    if audit_files::is_compressed(path) {
        let mut lines = audit_files::lines_of(path)?;
        let skipped = io::copy(&mut lines.by_ref().take(offset), &mut io::sink())?;
        return Ok((skipped == offset).then_some(lines));
    }
    let mut file = File::open(path)?;
    if file.metadata()?.len() < offset {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(offset))?;
    Ok(Some(Box::new(BufReader::with_capacity(BUFFER, file))))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
