//! The chains as they lie on the disk: followed, signed, remembered. Everything here may block.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cdb_core::checkpoint::{self, Checkpoint, CheckpointKey};
use cdb_io::audit_tail::{Finding, Position, Stop, Tail};
use cdb_io::{audit_files, clock, durable_file};
use serde::{Deserialize, Serialize};

use super::notes::NoteFiles;

/// Records read of one chain at once, so that stops and metrics are never far away.
const RECORDS: usize = 20_000;
/// While a record that was read before is wrong, all is read again this often: somebody may mend it.
const RECHECK_TROUBLE: Duration = Duration::from_secs(60);

/// What is set.
#[derive(Clone)]
pub struct Settings {
    /// Root of the audit trail.
    pub audit_dir: PathBuf,
    /// Where positions are kept.
    pub state_dir: PathBuf,
    /// The key; without it chains are verified and nothing is signed.
    pub key: Option<Arc<CheckpointKey>>,
    /// A chain that has grown is signed for this often.
    pub interval: Duration,
    /// A chain that has not grown is signed for again after this.
    pub interval_idle: Duration,
    /// All records are read again this often: what was read may have been changed since.
    pub recheck: Duration,
}

/// A checkpoint with the note that was signed.
#[derive(Clone)]
pub struct Signed {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The whole note.
    pub note: String,
}

/// One chain.
pub struct Chain {
    tail: Tail,
    /// Reads all records again, up to where `tail` was.
    recheck: Option<Tail>,
    rechecked_at: Option<Instant>,
    /// The newest checkpoint.
    pub signed: Option<Signed>,
    signed_at: Option<Instant>,
    /// The next record is wrong.
    finding: Option<Finding>,
    /// A record that was read before is wrong.
    finding_behind: Option<Finding>,
    /// Its files could not be read or signed for.
    error: Option<String>,
    /// When all that was there had been read.
    pub level_at: Instant,
    /// Bytes that are there and not read.
    pub unread: u64,
}

/// What is kept of a chain between two processes.
#[derive(Serialize, Deserialize)]
struct Kept {
    position: Position,
    note: Option<String>,
}

impl Chain {
    /// What is wrong, where something is: a word and a sentence.
    pub fn trouble(&self) -> Option<(&'static str, String)> {
        let finding = self.finding.as_ref().or(self.finding_behind.as_ref());
        let error = || self.error.as_ref().map(|error| ("unreadable", error.clone()));
        finding.map(|finding| (finding.kind(), finding.to_string())).or_else(error)
    }

    fn is_whole(&self) -> bool {
        self.finding.is_none() && self.finding_behind.is_none()
    }

    /// Records that were read and found right.
    pub fn records(&self) -> u64 {
        self.tail.position().seq()
    }

    /// Takes note of a checkpoint that was signed for earlier.
    fn expect(&mut self, seq: u64, anchor: &Checkpoint) {
        if seq == 0 {
            return;
        }
        self.tail.expect(seq, anchor.head);
        if let Some(recheck) = &mut self.recheck {
            recheck.expect(seq, anchor.head);
        }
    }
}

/// All chains.
pub struct Chains {
    settings: Settings,
    notes: NoteFiles,
    chains: BTreeMap<String, Chain>,
}

impl Chains {
    /// Chains that were never looked at.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        fs::create_dir_all(&settings.state_dir).with_context(|| format!("making {}", settings.state_dir.display()))?;
        let notes = NoteFiles::new(settings.state_dir.join("checkpoints"), settings.key.as_deref())?;
        Ok(Self { settings, notes, chains: BTreeMap::new() })
    }

    /// The chains by name.
    pub const fn all(&self) -> &BTreeMap<String, Chain> {
        &self.chains
    }

    /// A checkpoint is known from elsewhere: its chain must have that record.
    pub fn expect(&mut self, anchor: &Checkpoint) -> anyhow::Result<()> {
        self.chain(anchor.chain())?.expect(anchor.size, anchor);
        Ok(())
    }

    fn position_file(&self, name: &str) -> PathBuf {
        self.settings.state_dir.join(format!("{name}.json"))
    }

    fn chain(&mut self, name: &str) -> anyhow::Result<&mut Chain> {
        if !self.chains.contains_key(name) {
            let chain = self.remembered(name)?;
            self.chains.insert(name.to_owned(), chain);
        }
        self.chains.get_mut(name).context("a chain that was just put there")
    }

    /// A chain where an earlier process left it. What that process wrote counts only as far as it was signed.
    fn remembered(&self, name: &str) -> anyhow::Result<Chain> {
        let dir = self.settings.audit_dir.join(name);
        let kept = match fs::read(self.position_file(name)) {
            Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.position_file(name).display())),
        };
        let signed = kept.as_ref().and_then(|kept| kept.note.as_ref()).zip(self.settings.key.as_ref());
        let signed = signed.and_then(|(note, key)| {
            let checkpoint = checkpoint::verify(note, key.public()).ok()?;
            Some(Signed { checkpoint, note: note.clone() })
        });
        let position = kept.map(|kept| kept.position).filter(|position| {
            let is_ours = |signed: &Signed| {
                let checkpoint = &signed.checkpoint;
                (checkpoint.size, Some(checkpoint.head), checkpoint.root)
                    == (position.seq(), position.head(), position.root())
            };
            self.settings.key.is_none() || signed.as_ref().is_some_and(is_ours)
        });
        let mut tail = Tail::new(dir, position.clone().unwrap_or_default());
        if let Some(signed) = &signed {
            tail.expect(signed.checkpoint.size, signed.checkpoint.head);
        }
        Ok(Chain {
            tail,
            recheck: None,
            rechecked_at: None,
            signed,
            signed_at: None,
            finding: None,
            finding_behind: None,
            error: None,
            level_at: Instant::now(),
            unread: 0,
        })
    }

    /// Reads on in every chain and signs for those that it is time for, or for all when `is_asked`. Whether there is
    /// more to read at once. What is wrong with a chain is said by the chain.
    ///
    /// # Errors
    /// The trail's directory cannot be read.
    pub fn look(&mut self, is_asked: bool) -> anyhow::Result<bool> {
        for name in directories(&self.settings.audit_dir)? {
            self.chain(&name)?;
        }
        let mut has_more = false;
        let names: Vec<String> = self.chains.keys().cloned().collect();
        for name in &names {
            let looked = self.look_at(name, is_asked);
            let chain = self.chain(name)?;
            chain.error = looked.as_ref().err().map(|error| format!("{error:#}"));
            has_more |= looked.unwrap_or(false);
        }
        Ok(has_more)
    }

    fn look_at(&mut self, name: &str, is_asked: bool) -> anyhow::Result<bool> {
        let (settings, now) = (self.settings.clone(), Instant::now());
        let chain = self.chain(name)?;
        let has_more = chain.read_on(now)? | chain.read_again(&settings, now)?;
        if chain.is_due(&settings, now, is_asked) {
            self.sign(name)?;
        }
        Ok(has_more)
    }

    /// Signs for what was read of a chain, keeps note and position.
    fn sign(&mut self, name: &str) -> anyhow::Result<()> {
        let key = self.settings.key.clone();
        let file = self.position_file(name);
        let chain = self.chain(name)?;
        chain.tail.sync()?;
        let position = chain.tail.position().clone();
        let signed = match (key, position.head()) {
            (Some(key), Some(head)) => {
                let (size, root, at) = (position.seq(), position.root(), clock::now());
                let checkpoint = Checkpoint { origin: key.origin(name), size, root, head, at };
                let note = key.sign(&checkpoint);
                Some(Signed { checkpoint, note })
            }
            (Some(_) | None, _) => None,
        };
        let kept = Kept { position, note: signed.as_ref().map(|signed| signed.note.clone()) };
        durable_file::replace(&file, &serde_json::to_vec(&kept)?)
            .with_context(|| format!("writing {}", file.display()))?;
        if let Some(signed) = &signed {
            self.notes.add(&signed.checkpoint, &signed.note)?;
        }
        let chain = self.chain(name)?;
        if let Some(signed) = &signed {
            chain.tail.expect(signed.checkpoint.size, signed.checkpoint.head);
        }
        (chain.signed, chain.signed_at) = (signed, Some(Instant::now()));
        Ok(())
    }
}

impl Chain {
    /// Reads on; whether there is more.
    fn read_on(&mut self, now: Instant) -> anyhow::Result<bool> {
        let stop = self.tail.advance(RECORDS)?;
        self.unread = self.tail.unread()?;
        let (has_more, finding) = match stop {
            Stop::Level => {
                self.level_at = now;
                (false, None)
            }
            Stop::Bound => (true, None),
            Stop::Found(finding) => (false, Some(finding)),
        };
        self.finding = finding;
        Ok(has_more)
    }

    /// Goes on with reading everything again, or begins it when it is time; whether there is more.
    fn read_again(&mut self, settings: &Settings, now: Instant) -> anyhow::Result<bool> {
        let interval =
            if self.finding_behind.is_some() { settings.recheck.min(RECHECK_TROUBLE) } else { settings.recheck };
        let is_time = self.rechecked_at.is_none_or(|at| now.duration_since(at) >= interval);
        if self.recheck.is_none() && is_time && self.records() > 0 {
            self.recheck = Some(self.tail.again());
            self.rechecked_at = Some(now);
        }
        let Some(recheck) = &mut self.recheck else { return Ok(false) };
        let finding = match recheck.advance(RECORDS)? {
            Stop::Bound if recheck.position().seq() < self.tail.position().seq() => return Ok(true),
            Stop::Bound | Stop::Level => None,
            Stop::Found(finding) => Some(finding),
        };
        self.finding_behind = finding;
        self.recheck = None;
        Ok(false)
    }

    fn is_due(&self, settings: &Settings, now: Instant, is_asked: bool) -> bool {
        if !self.is_whole() || self.records() == 0 {
            return false;
        }
        let has_grown = self.signed.as_ref().is_none_or(|signed| signed.checkpoint.size < self.records());
        let interval = if has_grown { settings.interval } else { settings.interval_idle };
        is_asked || self.signed_at.is_none_or(|at| now.duration_since(at) >= interval)
    }
}

/// The directories below the trail's that hold a chain.
fn directories(audit_dir: &Path) -> anyhow::Result<Vec<String>> {
    let reading = || format!("reading audit directory {}", audit_dir.display());
    let mut names = Vec::new();
    for item in fs::read_dir(audit_dir).with_context(reading)? {
        let item = item.with_context(reading)?;
        let Ok(name) = item.file_name().into_string() else { continue };
        if item.path().is_dir() && !audit_files::files(&item.path())?.is_empty() {
            names.push(name);
        }
    }
    Ok(names)
}
