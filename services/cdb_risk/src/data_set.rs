//! Is this the Redis data set we know? A data set has an epoch, set once; risk keeps it in a file of its own too.
//! A lost or exchanged Redis then shows, and nothing is approved until `cdb resume` (design §3, §4 `state_lost`).

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use cdb_io::bus::keys;
use cdb_io::durable_file;
use redis::AsyncCommands as _;
use redis::aio::ConnectionManager;

/// File in the state directory.
const FILE: &str = "epoch";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// Its epoch.
    pub epoch: String,
    /// Why its history cannot be trusted.
    pub lost: Option<String>,
}

/// Refuses a Redis that could lose what it was told: without its log, or one that evicts keys (design §3).
///
/// # Errors
/// Redis is unreachable, or is set up so.
pub async fn must_keep_data(redis: &mut ConnectionManager) -> anyhow::Result<()> {
    let info: String = redis::cmd("INFO").arg("everything").query_async(redis).await?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    anyhow::ensure!(field("aof_enabled:") == Some("1"), "Redis keeps no log: set `appendonly yes`");
    let policy = field("maxmemory_policy:").unwrap_or("unknown");
    anyhow::ensure!(policy == "noeviction", "Redis may evict keys ({policy}): set `maxmemory-policy noeviction`");
    anyhow::ensure!(field("aof_last_write_status:") == Some("ok"), "Redis cannot write its log: is the disk full?");
    Ok(())
}

/// Reads the epoch, or sets it in an empty data set.
///
/// # Errors
/// Redis is unreachable or the state directory cannot be written.
pub async fn open(redis: &mut ConnectionManager, state_dir: &Path) -> anyhow::Result<DataSet> {
    let remembered = remembered(state_dir)?;
    let found: Option<String> = redis.get(keys::EPOCH).await?;
    let epoch = match found {
        Some(epoch) => epoch,
        None => {
            let fresh = uuid::Uuid::now_v7().simple().to_string();
            let _is_ours: bool = redis.set_nx(keys::EPOCH, &fresh).await?;
            redis.get(keys::EPOCH).await?
        }
    };
    let lost = match &remembered {
        None => None,
        Some(known) if *known == epoch => None,
        Some(_) => {
            let resumed: Option<String> = redis.get(keys::RESUMED).await?;
            (resumed.as_deref() != Some(epoch.as_str())).then(|| {
                "Redis has lost its data or was exchanged; compare with the exchange, then run `cdb resume`".to_owned()
            })
        }
    };
    if lost.is_none() && remembered.as_ref() != Some(&epoch) {
        remember(state_dir, &epoch)?;
    }
    Ok(DataSet { epoch, lost })
}

fn remembered(state_dir: &Path) -> anyhow::Result<Option<String>> {
    let path = state_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn remember(state_dir: &Path, epoch: &str) -> anyhow::Result<()> {
    let place = || format!("STATE_DIR {}", state_dir.display());
    fs::create_dir_all(state_dir).with_context(place)?;
    durable_file::replace(&state_dir.join(FILE), epoch.as_bytes()).with_context(place)
}
