//! `cdb audit verify`: offline, from the files alone.

use std::path::{Path, PathBuf};

use cdb_io::audit_log;
use serde_json::json;

use crate::arguments::{At, VerifyOptions};
use crate::cell::Cell;
use crate::outcome::{CONFIGURATION, Result, VERIFICATION, WithCode as _, end};
use crate::output;

/// Verifies every chain of a trail.
pub fn verify(at: &At, options: VerifyOptions) -> Result {
    let dir = match options.dir {
        Some(dir) => dir,
        None => Cell::read(&at.cell)?.audit_dir,
    };
    let chains = chains(&dir)?;
    let mut faults = 0_usize;
    for chain in &chains {
        let verifier = audit_log::verify_dir(chain, |_| {}).code(CONFIGURATION)?;
        let name = chain.file_name().unwrap_or_default().to_string_lossy().into_owned();
        faults += verifier.faults().len();
        if at.json {
            output::json(&json!({
                "chain": name, "records": verifier.records(), "head": verifier.head(), "faults": verifier.faults(),
            }));
            continue;
        }
        if verifier.faults().is_empty() {
            let head: String = verifier.head().chars().take(16).collect();
            println!("{name}: {} ({} records, head {head}...)", output::green("clean"), verifier.records());
        }
        for fault in verifier.faults() {
            let seq = fault.seq.map(|seq| format!(", record {seq}")).unwrap_or_default();
            let kind = format!("{:?}", fault.kind);
            println!("{name}: {} {} line {}{seq}: {}", output::red(&kind), fault.file, fault.line, fault.text);
        }
    }
    if faults > 0 { Err(end(VERIFICATION, format!("the audit trail has {faults} fault(s)"))) } else { Ok(()) }
}

/// The chains' directories below a trail's.
pub fn chains(dir: &Path) -> Result<Vec<PathBuf>> {
    let items = std::fs::read_dir(dir).map_err(|error| end(CONFIGURATION, format!("{}: {error}", dir.display())))?;
    let mut chains: Vec<PathBuf> =
        items.filter_map(|item| item.ok().map(|item| item.path())).filter(|path| path.is_dir()).collect();
    chains.sort();
    if chains.is_empty() {
        return Err(end(VERIFICATION, format!("{} holds no audit chain", dir.display())));
    }
    Ok(chains)
}
