//! What happened to the desk, published on `cdb:events`.

use cdb_core::event::Event;
use redis::RedisResult;
use redis::aio::ConnectionLike;

use crate::bus::keys;

/// Publishes one event.
///
/// # Errors
/// Redis is unreachable or refuses.
pub async fn publish(connection: &mut impl ConnectionLike, event: &Event) -> RedisResult<()> {
    let json = serde_json::to_string(event).expect("an event always serialises");
    redis::cmd("XADD").arg(keys::EVENTS).arg("*").arg("json").arg(json).query_async(connection).await
}
