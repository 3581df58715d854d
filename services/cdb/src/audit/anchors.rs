//! Checkpoints kept elsewhere: what they were signed for must still be in the trail, at the same place.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use cdb_core::audit::{Fault, FaultKind};
use cdb_core::checkpoint::{self, PublicKey, split_notes};

use crate::outcome::{CANNOT_TELL, Result, WithCode as _, end};

/// The hash of a record, by its number.
pub type Heads = BTreeMap<u64, String>;

/// Reads the notes of a file and checks each with the key; the heads by chain.
pub fn read(checkpoints: &Path, public_key: &Path) -> Result<BTreeMap<String, Heads>> {
    let text = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let key: PublicKey = text(public_key)
        .and_then(|key| key.parse().with_context(|| format!("{}", public_key.display())))
        .code(CANNOT_TELL)?;
    let mut chains: BTreeMap<String, Heads> = BTreeMap::new();
    for (index, note) in split_notes(&text(checkpoints).code(CANNOT_TELL)?).into_iter().enumerate() {
        let checkpoint = checkpoint::verify(note, &key)
            .with_context(|| format!("{}: note {}", checkpoints.display(), index + 1))
            .code(CANNOT_TELL)?;
        chains.entry(checkpoint.chain().to_owned()).or_default().insert(checkpoint.size, hex::encode(checkpoint.head));
    }
    if chains.is_empty() {
        return Err(end(CANNOT_TELL, format!("{} holds no checkpoint", checkpoints.display())));
    }
    Ok(chains)
}

/// The chain's end lies before what was signed for.
pub fn behind(file: &str, line: usize, records: u64, heads: &Heads) -> Option<Fault> {
    let (signed, _) = heads.last_key_value().filter(|(signed, _)| **signed > records)?;
    let text = format!("it ends at record {records}, and a checkpoint was signed for record {signed}");
    Some(Fault { file: file.to_owned(), line, seq: None, kind: FaultKind::BehindAnchor, text })
}
