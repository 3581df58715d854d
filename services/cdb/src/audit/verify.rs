//! `cdb audit verify`: offline, from the files alone. The exit code says what the worst is that was found.

use std::path::Path;

use cdb_core::audit::{Fault, Judgement, Verifier};
use cdb_io::audit_files;
use serde_json::json;

use super::chains;
use crate::arguments::{At, VerifyOptions};
use crate::cell::Cell;
use crate::outcome::{BEHIND_ANCHORS, CANNOT_TELL, Result, TORN_TAIL, VERIFICATION, WithCode as _, end};
use crate::output;

/// One chain and what was found in it.
struct Verified {
    /// Its directory's name.
    name: String,
    verifier: Verifier,
}

/// Verifies every chain of a trail.
pub fn run(at: &At, options: VerifyOptions) -> Result {
    let dir = match options.dir {
        Some(dir) => dir,
        None => Cell::read(&at.cell)?.audit_dir,
    };
    let mut verified = Vec::new();
    for chain in chains(&dir)? {
        let verifier = audit_files::verify_dir(&chain, |_| {}).code(CANNOT_TELL)?;
        verified.push(Verified { name: name_of(&chain), verifier });
    }
    let records: u64 = verified.iter().map(|chain| chain.verifier.records()).sum();
    let nothing = if records == 0 { Judgement::CannotTell } else { Judgement::Clean };
    let judgement = verified.iter().map(|chain| chain.verifier.judgement()).max().unwrap_or(nothing).max(nothing);
    if at.json {
        show_json(&verified, judgement);
    } else {
        show(&verified);
    }
    conclude(&verified, judgement)
}

/// A directory's name on one line, whatever it is called.
fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().escape_debug().collect()
}

fn show(verified: &[Verified]) {
    for Verified { name, verifier } in verified {
        for fault in verifier.faults() {
            println!("{}", output::red(&sentence(name, fault)));
        }
        let head: String = verifier.head().chars().take(16).collect();
        let word = match verifier.faults_found() {
            0 => output::green("clean"),
            1 => output::red("1 fault"),
            many => output::red(&format!("{many} faults")),
        };
        println!("{name}: {word} ({} records, head {head}...)", verifier.records());
    }
}

fn show_json(verified: &[Verified], judgement: Judgement) {
    let chains = verified.iter().map(|Verified { name, verifier }| {
        json!({
            "chain": name, "service": verifier.service(), "records": verifier.records(), "head": verifier.head(),
            "faults_found": verifier.faults_found(), "faults": verifier.faults(),
        })
    });
    let chains: Vec<_> = chains.collect();
    let first = first_fault(verified, judgement).map(|(chain, fault)| json!({"chain": chain, "fault": fault}));
    output::json(&json!({"judgement": judgement, "first_fault": first, "chains": chains}));
}

/// The first fault that made the judgement what it is.
fn first_fault(verified: &[Verified], judgement: Judgement) -> Option<(&str, &Fault)> {
    verified.iter().find_map(|Verified { name, verifier }| {
        let is_worst = |fault: &&Fault| fault.kind.judgement() == judgement;
        Some((name.as_str(), verifier.faults().iter().find(is_worst)?))
    })
}

/// `cdb_execution/audit_2026-11-25.jsonl line 3, record 3: edited: its bytes do not give its hash`
fn sentence(chain: &str, fault: &Fault) -> String {
    let seq = fault.seq.map(|seq| format!(", record {seq}")).unwrap_or_default();
    format!("{chain}/{} line {}{seq}: {}: {}", fault.file, fault.line, fault.kind.as_str(), fault.text)
}

fn conclude(verified: &[Verified], judgement: Judgement) -> Result {
    let (code, what) = match judgement {
        Judgement::Clean => return Ok(()),
        Judgement::TornTail => (TORN_TAIL, "the audit trail ends inside a line: a crash, or a writer at work"),
        Judgement::CannotTell => (CANNOT_TELL, "the audit trail holds no record"),
        Judgement::BehindAnchors => (BEHIND_ANCHORS, "the audit trail is shorter than a checkpoint says that it was"),
        Judgement::Tampered => (VERIFICATION, "the audit trail was changed after it was written"),
    };
    let faults: u64 = verified.iter().map(|chain| chain.verifier.faults_found()).sum();
    match first_fault(verified, judgement) {
        Some((chain, first)) => {
            Err(end(code, format!("{what}; {faults} fault(s), the first: {}", sentence(chain, first))))
        }
        None => Err(end(code, what)),
    }
}
