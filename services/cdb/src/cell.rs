//! Where a cell's parts are: the file that `cdb up` writes, for this command and for scripts in any language.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cdb_io::durable_file;
use serde::{Deserialize, Serialize};

use crate::outcome::{CONFIGURATION, Result, WithCode as _, end};

/// The file's content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    /// Version of this file's form.
    pub version: u32,
    /// paper, validate or live.
    pub mode: String,
    /// The cell's directory.
    pub dir: PathBuf,
    /// Redis.
    pub redis: Redis,
    /// The stand-in exchange, in paper mode.
    pub exchange: Option<Exchange>,
    /// PostgreSQL.
    pub postgres: Postgres,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// The audit trail.
    pub audit_dir: PathBuf,
    /// The page that shows the desk.
    pub console: String,
}

/// Redis and who may speak to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Redis {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Process id.
    pub pid: Option<u32>,
    /// File with the password of each user.
    pub password_files: BTreeMap<String, PathBuf>,
}

/// The stand-in exchange.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exchange {
    /// The exchange itself.
    pub url: String,
    /// Its admin interface.
    pub admin_url: String,
    /// Process id.
    pub pid: Option<u32>,
}

/// PostgreSQL.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Postgres {
    /// Directory of its socket.
    pub host: String,
    /// Port, part of the socket's name.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// File with the role's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Process id.
    pub pid: Option<u32>,
}

/// A service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    /// Its HTTP address.
    pub url: String,
    /// Process id; changes when it is restarted.
    pub pid: Option<u32>,
    /// Its log.
    pub log: PathBuf,
}

impl Cell {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let hint = "is a cell running? start one with `cdb up`, or name its file with --cell";
            end(CONFIGURATION, format!("{}: {error}; {hint}", path.display()))
        })?;
        serde_json::from_str(&text)
            .map_err(|error| end(CONFIGURATION, format!("{} is no cell file: {error}", path.display())))
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result {
        let text = serde_json::to_string_pretty(self).code(CONFIGURATION)? + "\n";
        durable_file::replace(path, text.as_bytes()).code(CONFIGURATION)
    }
}
