//! The audit trail, from its files.

use std::path::{Path, PathBuf};

use cdb_io::audit_files;

use crate::outcome::{CANNOT_TELL, Result, WithCode as _, end};

mod anchors; // what checkpoints were signed for
pub mod verify; // is it whole and unchanged?

/// The chains' directories below a trail's; the directory itself when it is a chain's.
pub fn chains(dir: &Path) -> Result<Vec<PathBuf>> {
    let is_chain = |dir: &Path| audit_files::files(dir).map(|files| !files.is_empty());
    if is_chain(dir).code(CANNOT_TELL)? {
        return Ok(vec![dir.to_owned()]);
    }
    let mut chains = Vec::new();
    for item in std::fs::read_dir(dir).map_err(anyhow::Error::from).code(CANNOT_TELL)? {
        let path = item.map_err(anyhow::Error::from).code(CANNOT_TELL)?.path();
        if path.is_dir() && is_chain(&path).code(CANNOT_TELL)? {
            chains.push(path);
        }
    }
    chains.sort();
    if chains.is_empty() {
        return Err(end(CANNOT_TELL, format!("{} holds no audit chain", dir.display())));
    }
    Ok(chains)
}
