//! The stops that were set and not cleared, in a file that Redis cannot make risk forget (design §3): a stop ends by
//! DEL or `cdb resume` alone. One that expires, is evicted, flushed or rolled back is set again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cdb_io::durable_file;

/// File in the state directory.
const FILE: &str = "stops.json";

/// What to do about the stops just read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Stops that ended without anybody clearing them: to be set again, with their reasons.
    pub set_again: BTreeMap<String, String>,
    /// Stops that somebody cleared.
    pub cleared: Vec<String>,
    /// A stop is gone and it is not known yet why: no permit until it is.
    pub is_unclear: bool,
}

/// The remembered stops.
#[derive(Debug)]
pub struct StopMemory {
    path: PathBuf,
    stops: BTreeMap<String, String>,
    /// Keys whose DEL was seen since they were last there.
    deleted: BTreeSet<String>,
    /// Keys that are gone, with how often they were looked for since.
    missing: BTreeMap<String, u32>,
}

/// Looks at a missing stop, without a DEL seen, before it is set again.
const LOOKS: u32 = 4;

impl StopMemory {
    /// Reads what was remembered.
    ///
    /// # Errors
    /// The file is there and not readable: what was stopped is then unknown, and nothing may be traded.
    pub fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let stops = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        Ok(Self { path, stops, deleted: BTreeSet::new(), missing: BTreeMap::new() })
    }

    /// Keys that must be looked for.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.stops.keys()
    }

    /// Somebody deleted a key.
    pub fn on_deleted(&mut self, key: &str) {
        if self.stops.contains_key(key) {
            self.deleted.insert(key.to_owned());
        }
    }

    /// Compares what is set with what is remembered. With `is_new_data_set`, nothing that is gone was cleared.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn judge(&mut self, set: &BTreeMap<String, String>, is_new_data_set: bool) -> anyhow::Result<Judgement> {
        let mut judgement = Judgement::default();
        let before = self.stops.clone();
        for (key, reason) in set {
            self.stops.insert(key.clone(), reason.clone());
            self.deleted.remove(key);
            self.missing.remove(key);
        }
        let gone: Vec<String> = before.keys().filter(|key| !set.contains_key(*key)).cloned().collect();
        for key in gone {
            if self.deleted.remove(&key) && !is_new_data_set {
                self.stops.remove(&key);
                self.missing.remove(&key);
                judgement.cleared.push(key);
                continue;
            }
            let looks = self.missing.entry(key.clone()).or_default();
            *looks += 1;
            if is_new_data_set || *looks > LOOKS {
                let reason = self.stops.get(&key).cloned().unwrap_or_default();
                judgement.set_again.insert(key, reason);
            } else {
                judgement.is_unclear = true;
            }
        }
        if self.stops != before {
            self.write()?;
        }
        Ok(judgement)
    }

    fn write(&self) -> anyhow::Result<()> {
        let json = serde_json::to_vec(&self.stops)?;
        durable_file::replace(&self.path, &json).with_context(|| format!("writing {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(reason: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("emergency_stop".to_owned(), reason.to_owned())])
    }

    fn none() -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    #[test]
    fn a_deleted_stop_is_cleared_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = StopMemory::open(dir.path()).unwrap();
        memory.judge(&set(""), false).unwrap();
        memory.on_deleted("emergency_stop");
        assert_eq!(memory.judge(&none(), false).unwrap().cleared, ["emergency_stop"]);
        let mut reopened = StopMemory::open(dir.path()).unwrap();
        assert_eq!(reopened.judge(&none(), true).unwrap(), Judgement::default());
    }

    #[test]
    fn a_stop_that_vanishes_without_a_delete_is_set_again_and_until_then_nothing_is_permitted() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = StopMemory::open(dir.path()).unwrap();
        memory.judge(&set("why"), false).unwrap();
        for _ in 0..LOOKS {
            let judgement = memory.judge(&none(), false).unwrap();
            assert!(judgement.is_unclear && judgement.set_again.is_empty());
        }
        assert_eq!(memory.judge(&none(), false).unwrap().set_again, set("why"));
    }

    #[test]
    fn after_a_restart_or_in_a_new_data_set_a_missing_stop_is_set_again_at_once() {
        let dir = tempfile::tempdir().unwrap();
        StopMemory::open(dir.path()).unwrap().judge(&set("why"), false).unwrap();
        let mut memory = StopMemory::open(dir.path()).unwrap();
        assert_eq!(memory.judge(&none(), true).unwrap().set_again, set("why"));
    }

    #[test]
    fn an_unreadable_memory_is_an_error_and_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(StopMemory::open(dir.path()).is_err());
    }
}
