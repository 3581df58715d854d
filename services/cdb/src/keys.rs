//! `cdb keys`: which secrets are in use, and their exchange for new ones while orders are under way (design §8).

pub mod exchange; // the exchange's key pair
pub mod status; // what is in use
mod entry; // how a secret gets in without being seen

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cdb_io::bus::{Bus, keys};
use redis::AsyncCommands as _;
use serde_json::Value;

use crate::cell::Cell;
use crate::outcome::{CONFIGURATION, Result, UNREACHABLE, WithCode as _, end};

/// The secret files' directory: what is named, else that of a cell of `cdb up`.
fn secrets_dir(cell: &Cell, named: Option<&Path>) -> Result<PathBuf> {
    let dir = named.map_or_else(|| cell.dir.join("secrets"), Path::to_owned);
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(end(CONFIGURATION, format!("{} is no directory; name that of the secret files with --secrets", dir.display())))
}

/// What a running service says of its secrets, by name; nothing while it does not say anything.
async fn all_reported(bus: &Bus, service: &str) -> Result<BTreeMap<String, Value>> {
    let key = format!("{}{service}", keys::HEARTBEAT);
    let json: Option<String> = bus.commands().get(key).await.code(UNREACHABLE)?;
    let beat = json.and_then(|json| serde_json::from_str::<Value>(&json).ok());
    let secrets = beat.and_then(|mut beat| Some(beat.get_mut("secrets")?.take()));
    Ok(secrets.and_then(|secrets| serde_json::from_value(secrets).ok()).unwrap_or_default())
}

/// What it says of one of them.
async fn reported(bus: &Bus, service: &str, secret: &str) -> Result<Option<Value>> {
    Ok(all_reported(bus, service).await?.remove(secret))
}
