//! `cdb:heartbeat:<service>`: which services live, on which build, and whether they lead.

use redis::RedisResult;
use redis::aio::ConnectionLike;
use serde::Serialize;

use crate::bus::keys;
use crate::clock;
use crate::config::BUILD;

#[derive(Serialize)]
struct Heartbeat {
    build: &'static str,
    ts: cdb_core::time::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    leads: Option<bool>,
}

/// Publishes a heartbeat that lasts `ttl_ms`. `leads` is absent for a service without a lease.
///
/// # Errors
/// Redis is unreachable or refuses.
pub async fn beat(
    connection: &mut impl ConnectionLike,
    service: &str,
    leads: Option<bool>,
    ttl_ms: u64,
) -> RedisResult<()> {
    let beat = Heartbeat { build: BUILD, ts: clock::now(), leads };
    let json = serde_json::to_string(&beat).expect("a heartbeat always serialises");
    let key = format!("{}{service}", keys::HEARTBEAT);
    redis::cmd("SET").arg(key).arg(json).arg("PX").arg(ttl_ms).query_async(connection).await
}
