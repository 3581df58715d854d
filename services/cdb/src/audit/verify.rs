//! `cdb audit verify`: offline, from the files alone: is each chain whole, and do all records together keep the promises?
//! The exit code says what the worst is that was found.

use std::collections::BTreeMap;
use std::path::Path;

use cdb_core::audit::story::{ChainFault, Story};
use cdb_core::audit::{Fault, FaultKind, Judgement, Verifier};
use cdb_io::audit_files;
use serde_json::json;

use super::anchors::{self, Heads};
use super::chains;
use crate::arguments::{At, VerifyOptions};
use crate::cell::Cell;
use crate::outcome::{BEHIND_ANCHORS, CANNOT_TELL, PROBLEMS, Result, TORN_TAIL, VERIFICATION, WithCode as _, end};
use crate::output;

/// One chain and what was found in it.
struct Verified {
    /// Its directory's name.
    name: String,
    verifier: Verifier,
}

/// Everything that was found.
struct Found {
    chains: Vec<Verified>,
    /// What does not fit together, or does not fit the checkpoints.
    contradictions: Vec<ChainFault>,
    judgement: Judgement,
}

/// Verifies every chain of a trail.
pub fn run(at: &At, options: VerifyOptions) -> Result {
    let dir = match options.dir {
        Some(dir) => dir,
        None => Cell::read(&at.cell)?.audit_dir,
    };
    let anchors = match (&options.checkpoints, &options.public_key) {
        (Some(checkpoints), Some(key)) => anchors::read(checkpoints, key)?,
        (Some(_) | None, _) => BTreeMap::new(),
    };
    let found = find(&dir, anchors)?;
    if at.json {
        show_json(&found);
    } else {
        show(&found);
    }
    conclude(&found)
}

fn find(dir: &Path, mut anchors: BTreeMap<String, Heads>) -> Result<Found> {
    let mut verified = Vec::new();
    let mut story = Story::default();
    let mut unanchored = Vec::new();
    for chain in chains(dir)? {
        let name = name_of(&chain);
        story.begin_chain(&name);
        let heads = anchors.remove(&name).unwrap_or_default();
        let mut last = (String::new(), 0);
        let verifier = audit_files::verify_places(&chain, |place, record| {
            story.take(place.file, place.line, record);
            if heads.get(&record.seq).is_some_and(|head| *head != record.hash) {
                let text = "a checkpoint was signed for another record of this number".to_owned();
                let (file, seq) = (place.file.to_owned(), Some(record.seq));
                unanchored
                    .push((name.clone(), Fault { file, line: place.line, seq, kind: FaultKind::Rewritten, text }));
            }
            if last.0 != place.file {
                place.file.clone_into(&mut last.0);
            }
            last.1 = place.line;
        });
        let verifier = verifier.code(CANNOT_TELL)?;
        let behind = anchors::behind(&last.0, last.1, verifier.next_seq() - 1, &heads);
        unanchored.extend(behind.map(|fault| (name.clone(), fault)));
        verified.push(Verified { name, verifier });
    }
    // A checkpoint of a chain that is not there at all.
    let gone = anchors.into_iter().filter_map(|(name, heads)| Some((name, anchors::behind("", 0, 0, &heads)?)));
    let contradictions: Vec<ChainFault> = unanchored.into_iter().chain(gone).chain(story.end()).collect();
    let records: u64 = verified.iter().map(|chain| chain.verifier.records()).sum();
    let judgements = verified.iter().map(|chain| chain.verifier.judgement());
    let contradicted = contradictions.iter().map(|(_, fault)| fault.kind.judgement());
    let nothing = if records == 0 { Judgement::CannotTell } else { Judgement::Clean };
    let judgement = judgements.chain(contradicted).max().unwrap_or(nothing).max(nothing);
    Ok(Found { chains: verified, contradictions, judgement })
}

/// A directory's name on one line, whatever it is called.
fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().escape_debug().collect()
}

impl Found {
    /// Every fault with its chain: first what is wrong with the chains, then what does not fit together.
    fn faults(&self) -> impl Iterator<Item = (&str, &Fault)> {
        let of_chains = self
            .chains
            .iter()
            .flat_map(|Verified { name, verifier }| verifier.faults().iter().map(|fault| (name.as_str(), fault)));
        of_chains.chain(self.contradictions.iter().map(|(chain, fault)| (chain.as_str(), fault)))
    }

    fn count(&self) -> u64 {
        let contradictions = u64::try_from(self.contradictions.len()).unwrap_or(u64::MAX);
        self.chains.iter().map(|chain| chain.verifier.faults_found()).sum::<u64>().saturating_add(contradictions)
    }

    /// The first fault that made the judgement what it is.
    fn first(&self) -> Option<(&str, &Fault)> {
        self.faults().find(|(_, fault)| fault.kind.judgement() == self.judgement)
    }
}

fn show(found: &Found) {
    for (chain, fault) in found.faults() {
        println!("{}", output::red(&sentence(chain, fault)));
    }
    for Verified { name, verifier } in &found.chains {
        let head: String = verifier.head().chars().take(16).collect();
        let contradictions = found.contradictions.iter().filter(|(chain, _)| chain == name).count();
        let word = match verifier.faults_found() + u64::try_from(contradictions).unwrap_or(u64::MAX) {
            0 => output::green("clean"),
            1 => output::red("1 fault"),
            many => output::red(&format!("{many} faults")),
        };
        println!("{name}: {word} ({} records, head {head}...)", verifier.records());
    }
}

fn show_json(found: &Found) {
    let chains = found.chains.iter().map(|Verified { name, verifier }| {
        json!({
            "chain": name, "service": verifier.service(), "records": verifier.records(), "head": verifier.head(),
            "faults_found": verifier.faults_found(), "faults": verifier.faults(),
        })
    });
    let chains: Vec<_> = chains.collect();
    let pair = |(chain, fault): (&str, &Fault)| json!({"chain": chain, "fault": fault});
    let contradictions: Vec<_> = found.contradictions.iter().map(|(chain, fault)| pair((chain, fault))).collect();
    output::json(&json!({
        "judgement": found.judgement, "first_fault": found.first().map(pair), "chains": chains,
        "contradictions": contradictions,
    }));
}

/// `cdb_execution/audit_2026-11-25.jsonl line 3, record 3: edited: its bytes do not give its hash`
fn sentence(chain: &str, fault: &Fault) -> String {
    let seq = fault.seq.map(|seq| format!(", record {seq}")).unwrap_or_default();
    format!("{chain}/{} line {}{seq}: {}: {}", fault.file, fault.line, fault.kind.as_str(), fault.text)
}

fn conclude(found: &Found) -> Result {
    let (code, what) = match found.judgement {
        Judgement::Clean => return Ok(()),
        Judgement::TornTail => (TORN_TAIL, "the audit trail ends inside a line: a crash, or a writer at work"),
        Judgement::CannotTell => (CANNOT_TELL, "the audit trail holds no record"),
        Judgement::Contradictory => (PROBLEMS, "the audit trail is whole, and what it says breaks a promise"),
        Judgement::BehindAnchors => (BEHIND_ANCHORS, "the audit trail is shorter than a checkpoint says that it was"),
        Judgement::Tampered => (VERIFICATION, "the audit trail was changed after it was written"),
    };
    match found.first() {
        Some((chain, first)) => {
            let (count, first) = (found.count(), sentence(chain, first));
            Err(end(code, format!("{what}; {count} fault(s), the first: {first}")))
        }
        None => Err(end(code, what)),
    }
}
