//! Orders, reports and prices as they come in, each over a connection of its own, into one bounded queue.

use cdb_core::market::Quote;
use cdb_io::bus::{self, Bus, Entry, keys};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

/// Most entries taken from a stream at once.
pub const BATCH: usize = 256;
/// Batches that may wait; a full queue makes the readers wait.
const QUEUE: usize = 16;

/// Channel names of keyspace events before the key.
const KEYSPACE: &str = "__keyspace@0__:";
/// What happens to stop keys.
const STOP_EVENTS: &str = "__keyspace@0__:emergency_stop*";

/// Something that came in.
#[derive(Debug)]
pub enum Fed {
    /// Entries of `cdb:orders`.
    Orders(Vec<Entry>),
    /// Entries of `cdb:executions`.
    Executions(Vec<Entry>),
    /// Prices of one symbol; a hint, the hash is the truth.
    Quote(Quote),
    /// Somebody deleted a stop.
    StopDeleted(String),
    /// A feed broke off.
    Broken(anyhow::Error),
}

/// The readers of one term; they end when this is dropped.
pub struct Feeds {
    queue: mpsc::Receiver<Fed>,
    _readers: tokio::task::JoinSet<()>,
}

impl Feeds {
    /// Starts reading: orders that nobody has had, and reports after `executions_after`.
    pub fn start(bus: &Bus, consumer: &str, executions_after: String) -> Self {
        let (feed, queue) = mpsc::channel(QUEUE);
        let mut readers = tokio::task::JoinSet::new();
        readers.spawn(report_end(feed.clone(), orders(bus.clone(), consumer.to_owned(), feed.clone())));
        readers.spawn(report_end(feed.clone(), executions(bus.clone(), executions_after, feed.clone())));
        readers.spawn(report_end(feed.clone(), prices(bus.clone(), feed)));
        Self { queue, _readers: readers }
    }

    /// The next thing that came in.
    pub async fn next(&mut self) -> Fed {
        self.queue.recv().await.unwrap_or_else(|| Fed::Broken(anyhow::anyhow!("all feeds ended")))
    }
}

async fn report_end(feed: mpsc::Sender<Fed>, reader: impl Future<Output = anyhow::Result<()>>) {
    if let Err(error) = reader.await {
        // The term may be over already; then nobody listens.
        let _unheard = feed.send(Fed::Broken(error)).await;
    }
}

async fn orders(bus: Bus, consumer: String, feed: mpsc::Sender<Fed>) -> anyhow::Result<()> {
    let mut connection = bus.blocking().await?;
    loop {
        let entries = bus::read_group(&mut connection, keys::ORDERS, "cdb_risk", &consumer, BATCH).await?;
        if !entries.is_empty() {
            feed.send(Fed::Orders(entries)).await?;
        }
    }
}

async fn executions(bus: Bus, mut after: String, feed: mpsc::Sender<Fed>) -> anyhow::Result<()> {
    let mut connection = bus.blocking().await?;
    loop {
        let entries = bus::read_after(&mut connection, keys::EXECUTIONS, &after, BATCH).await?;
        if let Some(last) = entries.last() {
            after = last.id.to_string();
            feed.send(Fed::Executions(entries)).await?;
        }
    }
}

async fn prices(bus: Bus, feed: mpsc::Sender<Fed>) -> anyhow::Result<()> {
    let mut subscriber = bus.subscriber().await?;
    subscriber.subscribe(keys::PRICES).await?;
    subscriber.psubscribe(STOP_EVENTS).await?;
    let mut messages = subscriber.on_message();
    while let Some(message) = messages.next().await {
        if let Some(key) = message.get_channel_name().strip_prefix(KEYSPACE) {
            if message.get_payload_bytes() == b"del" {
                feed.send(Fed::StopDeleted(key.to_owned())).await?;
            }
            continue;
        }
        // A price that cannot be read is as good as none; its age then refuses orders.
        if let Ok(quote) = serde_json::from_slice::<Quote>(message.get_payload_bytes()) {
            feed.send(Fed::Quote(quote)).await?;
        }
    }
    anyhow::bail!("the price subscription ended")
}
