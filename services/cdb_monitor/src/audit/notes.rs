//! Checkpoints as files: one file a chain and day, each a row of signed notes, and the public key beside them. Anybody
//! who copies the directory can verify later.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cdb_core::checkpoint::{Checkpoint, CheckpointKey};
use cdb_io::durable_file;

/// Name of the public key's file.
pub const PUBLIC_KEY: &str = "public-key";

/// A directory of notes.
pub struct NoteFiles {
    dir: PathBuf,
}

impl NoteFiles {
    /// Makes the directory and writes the public key.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(dir: PathBuf, key: Option<&CheckpointKey>) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        if let Some(key) = key {
            replace_if_other(&dir.join(PUBLIC_KEY), format!("{}\n", key.public()).as_bytes())?;
        }
        Ok(Self { dir })
    }

    /// Adds a note to its chain's and day's file.
    ///
    /// # Errors
    /// The file cannot be written; it is then as it was.
    pub fn add(&self, checkpoint: &Checkpoint, note: &str) -> anyhow::Result<()> {
        let file = self.dir.join(format!("{}_{}.notes", checkpoint.chain(), checkpoint.at.day()));
        let mut text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        };
        text.extend_from_slice(note.as_bytes());
        durable_file::replace(&file, &text).with_context(|| format!("writing {}", file.display()))
    }
}

fn replace_if_other(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(file).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    durable_file::replace(file, bytes).with_context(|| format!("writing {}", file.display()))
}
