//! `cdb:heartbeat:<service>`: which services live, on which build, whether they lead, and which secrets they use.

use redis::RedisResult;
use redis::aio::ConnectionLike;
use serde::Serialize;
use serde_json::Value;

use crate::bus::keys;
use crate::clock;
use crate::config::BUILD;

#[derive(Serialize)]
struct Heartbeat<'a> {
    build: &'static str,
    ts: cdb_core::time::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    leads: Option<bool>,
    #[serde(skip_serializing_if = "Value::is_null")]
    secrets: &'a Value,
}

/// Publishes a heartbeat that lasts `ttl_ms`. `leads` is absent for a service without a lease; `secrets` says by name
/// what may be shown of those in use, fingerprints above all.
///
/// # Errors
/// Redis is unreachable or refuses.
pub async fn beat(
    connection: &mut impl ConnectionLike,
    service: &str,
    leads: Option<bool>,
    secrets: &Value,
    ttl_ms: u64,
) -> RedisResult<()> {
    let beat = Heartbeat { build: BUILD, ts: clock::now(), leads, secrets };
    let json = serde_json::to_string(&beat).expect("a heartbeat always serialises");
    let key = format!("{}{service}", keys::HEARTBEAT);
    redis::cmd("SET").arg(key).arg(json).arg("PX").arg(ttl_ms).query_async(connection).await
}
