//! Connections to Redis and what is read from it.
//!
//! Commands go over a reconnecting connection with a response time-out; every blocking read has a connection of its
//! own whose time-out exceeds its BLOCK, because a blocking command stalls everything else on its connection.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use cdb_core::ids::EntryId;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::streams::{StreamAutoClaimReply, StreamId, StreamRangeReply, StreamReadReply};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult};

use crate::config::RedisConfig;

/// Longest wait for the answer to a command.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one blocking read waits for an entry.
pub const BLOCK: Duration = Duration::from_millis(1_000);

/// Key names (design §3). Those with a colon at the end are prefixes.
pub mod keys {
    /// Order commands.
    pub const ORDERS: &str = "cdb:orders";
    /// Signed verdicts.
    pub const VERDICTS: &str = "cdb:verdicts";
    /// Reports, account, findings.
    pub const EXECUTIONS: &str = "cdb:executions";
    /// What happened to the desk.
    pub const EVENTS: &str = "cdb:events";
    /// What could not be read.
    pub const DEAD: &str = "cdb:dead";
    /// Channel of prices.
    pub const PRICES: &str = "cdb:prices";
    /// Hash of the latest price per symbol.
    pub const PRICE: &str = "cdb:price";
    /// Hash of the exchange's rules per symbol.
    pub const RULES: &str = "cdb:rules";
    /// Field of that hash: when the rules were read, epoch ms.
    pub const RULES_AS_OF: &str = "as_of";
    /// Exists = stopped.
    pub const STOP: &str = "emergency_stop";
    /// Stops of one symbol.
    pub const STOP_SYMBOL: &str = "emergency_stop:symbol:";
    /// Stops of one strategy.
    pub const STOP_STRATEGY: &str = "emergency_stop:strategy:";
    /// The right to trade.
    pub const PERMIT: &str = "cdb:permit";
    /// The breaker.
    pub const BREAKER: &str = "cdb:breaker";
    /// An operator's wish to open or close it.
    pub const BREAKER_COMMAND: &str = "cdb:breaker:command";
    /// The day's result.
    pub const RESULT: &str = "cdb:result";
    /// How much of each limit is in use, by cdb_risk; gone = not known.
    pub const USAGE: &str = "cdb:usage";
    /// Identity of this data set.
    pub const EPOCH: &str = "cdb:epoch";
    /// The epoch that an operator accepted by `cdb resume`.
    pub const RESUMED: &str = "cdb:resumed";
    /// Nothing is sent before this instant: the exchange wants silence.
    pub const BAN: &str = "cdb:ban";
    /// ClOrdIDs of one day.
    pub const SEEN: &str = "cdb:seen:";
    /// Claims.
    pub const CLAIM: &str = "cdb:claim:";
    /// ClOrdIDs whose order is not final.
    pub const OPEN_CLAIMS: &str = "cdb:claims:open";
    /// An operator's wish to compare everything with the exchange.
    pub const RECONCILE_COMMAND: &str = "cdb:reconcile:command";
    /// What the last comparison asked for found.
    pub const RECONCILE: &str = "cdb:reconcile";
    /// An operator's wish to rebuild the ledger.
    pub const LEDGER_COMMAND: &str = "cdb:ledger:command";
    /// An operator's wish for audit checkpoints at once.
    pub const ANCHOR_COMMAND: &str = "cdb:anchor:command";
    /// Conditions that the breaker heeds, a hash for each service that reports them.
    pub const CONDITIONS: &str = "cdb:conditions:";
    /// Heartbeats.
    pub const HEARTBEAT: &str = "cdb:heartbeat:";
}

/// Opens connections as one ACL user.
#[derive(Clone)]
pub struct Bus {
    client: Client,
    commands: ConnectionManager,
}

/// One entry of a stream.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// Its fields.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// A field's bytes.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, bytes)| bytes.as_slice())
    }

    /// The bytes of the message; none when the field is missing, which no reader takes for a message.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        self.field("json").unwrap_or_default()
    }

    /// A field as text for a person; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.field(name).unwrap_or_default()).into_owned()
    }

    /// All bytes of all fields in base64, as a dead letter keeps them.
    #[must_use]
    pub fn original(&self) -> String {
        let bytes: Vec<u8> = self.fields.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }
}

impl Bus {
    /// Connects.
    ///
    /// # Errors
    /// Redis is unreachable, refuses the user, or is still loading.
    pub async fn connect(config: &RedisConfig) -> anyhow::Result<Self> {
        let place = format!("Redis at {}:{} as user {}", config.host, config.port, config.user);
        let client = Client::open(connection_info(config)?).with_context(|| format!("describing {place}"))?;
        let commands = client
            .get_connection_manager_with_config(manager_config())
            .await
            .with_context(|| format!("connecting to {place}"))?;
        Ok(Self { client, commands })
    }

    /// Connects when it is first used: for whoever has work to do while Redis is away.
    ///
    /// # Errors
    /// The address is none.
    pub fn lazy(config: &RedisConfig) -> anyhow::Result<Self> {
        let client = Client::open(connection_info(config)?).context("describing Redis")?;
        let commands = ConnectionManager::new_lazy_with_config(client.clone(), manager_config())
            .context("describing the connection to Redis")?;
        Ok(Self { client, commands })
    }

    /// The connection for commands; cheap to clone, reconnects by itself.
    #[must_use]
    pub fn commands(&self) -> ConnectionManager {
        self.commands.clone()
    }

    /// A connection of its own for blocking reads.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn blocking(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(BLOCK + RESPONSE_TIMEOUT));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A connection of its own for subscriptions.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn subscriber(&self) -> RedisResult<redis::aio::PubSub> {
        self.client.get_async_pubsub().await
    }
}

fn manager_config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_number_of_retries(2)
        .set_max_delay(Duration::from_millis(500))
}

fn connection_info(config: &RedisConfig) -> RedisResult<ConnectionInfo> {
    let mut redis = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = &config.password {
        redis = redis.set_username(&config.user).set_password(password.expose());
    }
    Ok((config.host.as_str(), config.port).into_connection_info()?.set_redis_settings(redis))
}

/// Identity of the Redis process behind a connection.
///
/// # Errors
/// Redis is unreachable or does not tell.
pub async fn run_id(connection: &mut impl redis::aio::ConnectionLike) -> RedisResult<String> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    let line = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    line.map(|id| id.trim().to_owned())
        .ok_or_else(|| (redis::ErrorKind::UnexpectedReturnType, "INFO server has no run_id").into())
}

/// Creates a stream and its consumer group where they are missing. The group reads from the stream's beginning.
///
/// # Errors
/// Redis is unreachable or refuses.
pub async fn ensure_group(
    connection: &mut impl redis::aio::ConnectionLike,
    stream: &str,
    group: &str,
) -> RedisResult<()> {
    let answer: RedisResult<()> =
        redis::cmd("XGROUP").arg(&["CREATE", stream, group, "0", "MKSTREAM"]).query_async(connection).await;
    match answer {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        other => other,
    }
}

/// Reads entries that no consumer of the group has had, waiting up to [`BLOCK`].
///
/// # Errors
/// Redis is unreachable, or the group is gone (code `NOGROUP`).
pub async fn read_group(
    connection: &mut impl redis::aio::ConnectionLike,
    stream: &str,
    group: &str,
    consumer: &str,
    count: usize,
) -> RedisResult<Vec<Entry>> {
    let mut command = redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(count).arg("BLOCK").arg(block_ms());
    command.arg("STREAMS").arg(stream).arg(">");
    let reply: Option<StreamReadReply> = command.query_async(connection).await?;
    Ok(entries(reply))
}

/// Reads entries after `after` without a group, waiting up to [`BLOCK`].
///
/// # Errors
/// Redis is unreachable.
pub async fn read_after(
    connection: &mut impl redis::aio::ConnectionLike,
    stream: &str,
    after: &str,
    count: usize,
) -> RedisResult<Vec<Entry>> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(count).arg("BLOCK").arg(block_ms()).arg("STREAMS").arg(stream).arg(after);
    let reply: Option<StreamReadReply> = command.query_async(connection).await?;
    Ok(entries(reply))
}

fn block_ms() -> u64 {
    u64::try_from(BLOCK.as_millis()).unwrap_or(1_000)
}

/// A whole stream from its beginning, page by page.
pub struct Pages {
    stream: &'static str,
    after: String,
}

impl Pages {
    /// Entries in a page.
    const COUNT: usize = 1_000;

    /// From the beginning.
    #[must_use]
    pub fn of(stream: &'static str) -> Self {
        Self { stream, after: "0".to_owned() }
    }

    /// The id of the last entry read; `0` before the first.
    #[must_use]
    pub fn after(self) -> String {
        self.after
    }

    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn next(
        &mut self,
        connection: &mut impl redis::aio::ConnectionLike,
    ) -> anyhow::Result<Option<Vec<Entry>>> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.stream).arg(format!("({}", self.after)).arg("+").arg("COUNT").arg(Self::COUNT);
        let reply: StreamRangeReply =
            command.query_async(connection).await.with_context(|| format!("reading {}", self.stream))?;
        let entries: Vec<Entry> = reply.ids.into_iter().filter_map(entry).collect();
        let Some(last) = entries.last() else { return Ok(None) };
        self.after = last.id.to_string();
        Ok(Some(entries))
    }
}

/// Entries that some consumer of a group read and left unacknowledged, handed over to this consumer page by page.
pub struct Left<'a> {
    stream: &'static str,
    group: &'static str,
    consumer: &'a str,
    idle_ms: u64,
    /// Where the next page begins; `None` at the end.
    start: Option<String>,
}

impl<'a> Left<'a> {
    /// Those left for at least `idle_ms`.
    #[must_use]
    pub fn of(stream: &'static str, group: &'static str, consumer: &'a str, idle_ms: u64) -> Self {
        Self { stream, group, consumer, idle_ms, start: Some("0-0".to_owned()) }
    }

    /// The next page of up to `count` entries, which may be empty; `None` at the end.
    ///
    /// # Errors
    /// Redis is unreachable, or the group is gone (code `NOGROUP`).
    pub async fn next(
        &mut self,
        connection: &mut impl redis::aio::ConnectionLike,
        count: usize,
    ) -> RedisResult<Option<Vec<Entry>>> {
        let Some(start) = &self.start else { return Ok(None) };
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(self.stream).arg(self.group).arg(self.consumer).arg(self.idle_ms).arg(start);
        let reply: StreamAutoClaimReply = command.arg("COUNT").arg(count).query_async(connection).await?;
        self.start = Some(reply.next_stream_id).filter(|next| next != "0-0");
        Ok(Some(reply.claimed.into_iter().filter_map(entry).collect()))
    }
}

fn entries(reply: Option<StreamReadReply>) -> Vec<Entry> {
    let keys = reply.map(|reply| reply.keys).unwrap_or_default();
    keys.into_iter().flat_map(|key| key.ids).filter_map(entry).collect()
}

/// One entry as the client library gives it; `None` for an id that is none.
#[must_use]
pub fn entry(raw: StreamId) -> Option<Entry> {
    let id = EntryId::parse(&raw.id)?;
    let fields = raw.map.into_iter().map(|(name, value)| (name, bytes_of(value))).collect();
    Some(Entry { id, fields })
}

fn bytes_of(value: redis::Value) -> Vec<u8> {
    match value {
        redis::Value::BulkString(bytes) => bytes,
        redis::Value::SimpleString(text) => text.into_bytes(),
        other => format!("{other:?}").into_bytes(),
    }
}
