//! Redis and the monitor's views.

use std::time::Duration;

use cdb_io::bus::Bus;
use cdb_io::config::RedisConfig;
use cdb_io::secret_file;
use serde_json::Value;

use crate::cell::Cell;
use crate::outcome::{CONFIGURATION, Result, UNREACHABLE, WithCode as _, end};

/// Longest wait for a view.
const VIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to a cell's Redis as one of its users.
pub async fn redis(cell: &Cell, user: &str) -> Result<Bus> {
    let file = cell.redis.password_files.get(user);
    let file = file.ok_or_else(|| end(CONFIGURATION, format!("the cell's file names no password of user {user}")))?;
    let password = secret_file::read(file).code(CONFIGURATION)?;
    let config = RedisConfig {
        host: cell.redis.host.clone(),
        port: cell.redis.port,
        user: user.to_owned(),
        password: Some(password),
    };
    Bus::connect(&config).await.code(UNREACHABLE)
}

/// An HTTP client for addresses of the cell.
pub fn http() -> Result<reqwest::Client> {
    let builder = cdb_mexc::http::builder().map_err(|problem| end(CONFIGURATION, problem))?;
    builder.timeout(VIEW_TIMEOUT).build().code(CONFIGURATION)
}

/// One view of the monitor.
pub async fn view(cell: &Cell, path: &str) -> Result<Value> {
    let monitor = cell.services.get("cdb_monitor");
    let monitor = monitor.ok_or_else(|| end(CONFIGURATION, "the cell's file names no cdb_monitor"))?;
    let response = http()?.get(format!("{}{path}", monitor.url)).send().await.code(UNREACHABLE)?;
    let response = response.error_for_status().code(UNREACHABLE)?;
    response.json().await.code(UNREACHABLE)
}
