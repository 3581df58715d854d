//! Conditions that the breaker must heed, reported in `cdb:conditions:<service>`.

use cdb_core::breaker::Cause;
use cdb_core::condition::Condition;
use redis::RedisResult;
use redis::aio::ConnectionLike;

use crate::bus::keys;
use crate::clock;

/// Reports that a condition holds for as long as this.
///
/// # Errors
/// Redis is unreachable or refuses.
pub async fn report(
    connection: &mut impl ConnectionLike,
    service: &str,
    cause: Cause,
    text: &str,
    lasts_ms: i64,
) -> RedisResult<()> {
    let condition = Condition { until: clock::now().plus_ms(lasts_ms), text: text.to_owned() };
    let json = serde_json::to_string(&condition).expect("a condition always serialises");
    let key = format!("{}{service}", keys::CONDITIONS);
    redis::cmd("HSET").arg(key).arg(cause.code()).arg(json).query_async(connection).await
}
