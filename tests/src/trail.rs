//! An audit trail of three days, as files that a test may change, and what `cdb audit verify` says of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cdb_core::audit::{Chain, DAY_OPENED, DAY_SEALED, file_name};
use cdb_core::time::{Timestamp, UtcDay};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cell::programs;

/// The first of the three days.
const FIRST_DAY: &str = "2026-01-05";
/// Records of a day between its first and its seal.
const RECORDS: usize = 4;

/// A trail with one chain; gone when it is dropped.
pub struct Trail {
    dir: TempDir,
}

/// What `cdb audit verify --json` said.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub json: Value,
    /// Standard error.
    pub message: String,
}

impl Said {
    /// File, line, seq and kind of the first fault.
    #[must_use]
    pub fn first(&self) -> (&str, u64, Option<u64>, &str) {
        let fault = &self.json["first_fault"]["fault"];
        let text = |name: &str| fault[name].as_str().unwrap_or_default();
        (text("file"), fault["line"].as_u64().unwrap_or_default(), fault["seq"].as_u64(), text("kind"))
    }

    /// Kinds of all faults, in order.
    #[must_use]
    pub fn kinds(&self) -> Vec<&str> {
        let chains = self.json["chains"].as_array().into_iter().flatten();
        let faults = chains.filter_map(|chain| chain["faults"].as_array()).flatten();
        faults.filter_map(|fault| fault["kind"].as_str()).collect()
    }
}

impl Trail {
    /// Three days of one chain: two sealed, the third going on. Each day's file has six lines, the last one five.
    ///
    /// # Panics
    /// The files cannot be written.
    #[must_use]
    pub fn of_three_days() -> Self {
        let trail = Self { dir: tempfile::tempdir().expect("a directory") };
        fs::create_dir(trail.chain()).expect("the chain's directory");
        let mut chain = Chain::genesis("cdb_execution", "test");
        let first = UtcDay::parse(FIRST_DAY).expect("a day").number();
        for number in first..first + 3 {
            let day = UtcDay::from_number(number);
            let mut text = chain.append(DAY_OPENED, None, None, None, day.start()).0;
            for n in 0..RECORDS {
                let at = day.start().plus_ms(1_000 * i64::try_from(n).unwrap_or(0));
                text.push_str(&note(&mut chain, &format!("note {n} of {day}"), at));
            }
            if number < first + 2 {
                text.push_str(&chain.append(DAY_SEALED, None, None, None, day.start().plus_ms(UtcDay::MS - 1)).0);
            }
            fs::write(trail.chain().join(file_name(day)), text).expect("the day's file");
        }
        trail
    }

    /// The directory of the whole trail.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The directory of the chain.
    #[must_use]
    pub fn chain(&self) -> PathBuf {
        self.dir.path().join("cdb_execution")
    }

    /// The file of the first, second or third day.
    #[must_use]
    pub fn file(&self, day: usize) -> PathBuf {
        self.chain().join(format!("audit_2026-01-0{}.jsonl", 4 + day))
    }

    /// The lines of a day, each with its end.
    ///
    /// # Panics
    /// The file cannot be read.
    #[must_use]
    pub fn lines(&self, day: usize) -> Vec<String> {
        let text = fs::read_to_string(self.file(day)).expect("the day's file");
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    /// Writes other lines.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn set_lines(&self, day: usize, lines: &[String]) {
        fs::write(self.file(day), lines.concat()).expect("the day's file");
    }

    /// What `cdb audit verify` says.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn verify(&self) -> Said {
        self.verify_with(&[])
    }

    /// What it says with further options.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn verify_with(&self, options: &[&str]) -> Said {
        let output = Command::new(programs().join("cdb"))
            .args(["--json", "audit", "verify"])
            .arg(self.dir.path())
            .args(options)
            .output()
            .expect("cdb must be built: cargo build --workspace");
        Said {
            code: output.status.code(),
            json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
            message: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A record that says nothing of orders.
pub fn note(chain: &mut Chain, text: &str, at: Timestamp) -> String {
    chain.append("NOTE", None, None, Some(&json!({ "text": text })), at).0
}
