//! Asking the ledger by `psql`, as any of its roles.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::cell::Cell;

/// The tables that streams and audit trail can bring back.
pub const TABLES: [&str; 8] =
    ["verdicts", "reports", "fills", "balances", "findings", "events", "dead_letters", "orders"];

/// A role of the ledger, with the secret that is its password.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    /// The cluster's superuser.
    Admin,
    /// Owns the schema.
    Owner,
    /// Writes rows.
    Writer,
    /// Reads.
    Reader,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Admin => "cdb",
            Self::Owner => "cdb_owner",
            Self::Writer => "cdb_monitor",
            Self::Reader => "cdb_grafana",
        }
    }

    const fn secret(self) -> &'static str {
        match self {
            Self::Admin => "postgres_admin_password",
            Self::Owner => "postgres_owner",
            Self::Writer => "postgres_password",
            Self::Reader => "postgres_grafana",
        }
    }
}

/// Which messages have a row.
type Wanted<'a> = &'a dyn Fn(&Value) -> bool;

fn psql() -> PathBuf {
    let newest = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let newest = newest.map(|dir| dir.path().join("bin/psql")).filter(|path| path.is_file()).max();
    newest.unwrap_or_else(|| PathBuf::from("psql"))
}

impl Cell {
    /// Runs a statement; what `psql` says.
    ///
    /// # Panics
    /// There is no `psql`.
    #[must_use]
    pub fn psql(&self, role: Role, statement: &str) -> Output {
        let postgres = &self.description()["postgres"];
        let secret = self.file().with_file_name("secrets").join(role.secret());
        let mut command = Command::new(psql());
        command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
        command.args(["--host", postgres["host"].as_str().expect("a socket"), "--username", role.name()]);
        command.args(["--port", &postgres["port"].to_string(), "--dbname", "cdb", "--command", statement]);
        command.env("PGPASSWORD", read(&secret)).output().expect("psql can be run")
    }

    /// What a query answers, as text.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn sql(&self, role: Role, query: &str) -> String {
        let output = self.psql(role, query);
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Every row of a table as JSON text, sorted, without these columns.
    #[must_use]
    pub fn rows(&self, table: &str, without: &[&str]) -> Vec<String> {
        let without: String = without.iter().map(|column| format!(" - '{column}'")).collect();
        let rows = self.sql(Role::Reader, &format!("SELECT to_jsonb(t){without} FROM {table} t ORDER BY 1"));
        rows.lines().map(str::to_owned).collect()
    }

    /// Waits until the ledger has everything that is on the streams.
    pub async fn until_ledger_is_level(&self) {
        self.until("the ledger has everything", async || {
            for stream in ["cdb:verdicts", "cdb:executions", "cdb:events", "cdb:dead"] {
                let newest = self.newest_entry(stream).await;
                let output = self.psql(Role::Reader, &format!("SELECT entry FROM cursors WHERE stream = '{stream}'"));
                if !output.status.success() || String::from_utf8_lossy(&output.stdout).trim() != newest {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// The id of a stream's newest entry; empty when there is none.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn newest_entry(&self, stream: &str) -> String {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
        let reply: redis::streams::StreamRangeReply =
            command.query_async(&mut self.operator().commands()).await.expect("XREVRANGE");
        reply.ids.first().map(|entry| entry.id.clone()).unwrap_or_default()
    }

    /// Ledger and streams hold the same verdicts, reports, fills, events and dead letters, each once.
    ///
    /// # Panics
    /// They do not.
    pub async fn ledger_must_equal_streams(&self) {
        let entries = async |stream: &str, wanted: Wanted<'_>| {
            let mut ids = Vec::new();
            let mut command = redis::cmd("XRANGE");
            command.arg(stream).arg("-").arg("+");
            let reply: redis::streams::StreamRangeReply =
                command.query_async(&mut self.operator().commands()).await.expect("XRANGE");
            for entry in reply.ids {
                let json = entry.get::<String>("json").unwrap_or_default();
                let message = serde_json::from_str(&json).unwrap_or(Value::Null);
                if wanted(&message) {
                    ids.push(entry.id);
                }
            }
            ids.sort();
            ids
        };
        let is_report = |message: &Value| message["type"] == "execution_report";
        let is_fill = |message: &Value| message["exec_type"] == "Trade";
        let any = |_: &Value| true;
        let pairs: [(&str, &str, Wanted<'_>); 5] = [
            ("verdicts", "cdb:verdicts", &any),
            ("reports", "cdb:executions", &is_report),
            ("fills", "cdb:executions", &is_fill),
            ("events", "cdb:events", &any),
            ("dead_letters", "cdb:dead", &any),
        ];
        for (table, stream, wanted) in pairs {
            let in_ledger = self.sql(Role::Reader, &format!("SELECT entry FROM {table} ORDER BY entry COLLATE \"C\""));
            let in_ledger: Vec<&str> = in_ledger.lines().collect();
            assert_eq!(in_ledger, entries(stream, wanted).await, "{table} against {stream}");
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
