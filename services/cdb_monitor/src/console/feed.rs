//! What happens on the streams, as it happens, for every page that looks: read once, handed to each through a bounded
//! channel. A page that does not keep up is ended, and begins anew with the latest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cdb_io::bus::{self, BLOCK, Bus, keys};
use cdb_io::config::RedisConfig;
use cdb_io::supervise::Shutdown;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamRangeReply, StreamReadReply};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// The streams that pages see.
const STREAMS: [&str; 5] = [keys::ORDERS, keys::VERDICTS, keys::EXECUTIONS, keys::EVENTS, keys::DEAD];
/// Entries of a stream in one message.
const BATCH: usize = 20;
/// Messages that a page may be behind.
const BEHIND_MAX: usize = 32;
/// Entries that a new page sees at once.
const RECENT: usize = 120;
/// Longest text of an entry that is shown whole, bytes; the ledger has the rest.
const SHOWN_MAX: usize = 4_096;
/// Pause before trying Redis again.
const RETRY: Duration = Duration::from_secs(1);

/// One message to all pages: its kind and its JSON.
#[derive(Clone)]
pub struct Message {
    /// `entries` or `desk`.
    pub kind: &'static str,
    /// The JSON text.
    pub json: Arc<str>,
}

/// What pages subscribe to.
pub struct Feed {
    messages: broadcast::Sender<Message>,
    recent: Mutex<VecDeque<Value>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { messages: broadcast::Sender::new(BEHIND_MAX), recent: Mutex::new(VecDeque::new()) }
    }
}

impl Feed {
    /// From here on; the first message has the latest entries.
    pub fn subscribe(&self) -> (Message, broadcast::Receiver<Message>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.messages.subscribe();
        let json = json!(*recent).to_string().into();
        (Message { kind: "recent", json }, receiver)
    }

    /// Whether anybody looks.
    pub fn is_watched(&self) -> bool {
        self.messages.receiver_count() > 0
    }

    /// To everybody who looks.
    pub fn send(&self, kind: &'static str, json: &Value) {
        // Nobody may be looking.
        let _unheard = self.messages.send(Message { kind, json: json.to_string().into() });
    }

    fn take(&self, entries: Vec<Value>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.extend(entries.iter().cloned());
        let excess = recent.len().saturating_sub(RECENT);
        recent.drain(..excess);
        // Sent under the lock, so that a page that subscribes meanwhile misses none and sees none twice.
        self.send("entries", &Value::Array(entries));
    }
}

/// Reads the streams until the end is asked for.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn run(feed: Arc<Feed>, redis: RedisConfig, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let mut cursors = None;
    loop {
        let error = tokio::select! {
            () = shutdown.asked() => return Ok(()),
            Err(error) = read(&feed, &redis, &mut cursors) => error,
        };
        tracing::warn!(error = format!("{error:#}"), "the console's feed waits for Redis");
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Where reading goes on, for each of [`STREAMS`].
type Cursors = [String; STREAMS.len()];

async fn read(feed: &Feed, redis: &RedisConfig, cursors: &mut Option<Cursors>) -> anyhow::Result<()> {
    let bus = Bus::connect(redis).await?;
    let mut connection = bus.blocking().await?;
    let cursors = match cursors {
        Some(cursors) => cursors,
        None => cursors.insert(begin(feed, &mut connection).await?),
    };
    loop {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(BATCH).arg("BLOCK").arg(u64::try_from(BLOCK.as_millis())?).arg("STREAMS");
        command.arg(&STREAMS[..]).arg(&cursors[..]);
        let reply: Option<StreamReadReply> = command.query_async(&mut connection).await?;
        let mut entries = Vec::new();
        for key in reply.map(|reply| reply.keys).unwrap_or_default() {
            let Some(index) = STREAMS.iter().position(|stream| *stream == key.key) else { continue };
            for entry in key.ids.into_iter().filter_map(bus::entry) {
                cursors[index] = entry.id.to_string();
                entries.push(shown(STREAMS[index], &entry));
            }
        }
        if !entries.is_empty() {
            in_order(&mut entries);
            feed.take(entries);
        }
    }
}

/// Shows the latest entries and remembers where they end.
async fn begin(feed: &Feed, connection: &mut MultiplexedConnection) -> anyhow::Result<Cursors> {
    let mut cursors: Cursors = std::array::from_fn(|_| "0".to_owned());
    let mut entries = Vec::new();
    for (stream, cursor) in STREAMS.iter().zip(&mut cursors) {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(stream).arg("+").arg("-").arg("COUNT").arg(RECENT / STREAMS.len());
        let reply: StreamRangeReply = command.query_async(connection).await?;
        if let Some(newest) = reply.ids.first() {
            cursor.clone_from(&newest.id);
        }
        entries.extend(reply.ids.into_iter().filter_map(bus::entry).map(|entry| shown(stream, &entry)));
    }
    in_order(&mut entries);
    feed.take(entries);
    Ok(cursors)
}

fn in_order(entries: &mut [Value]) {
    entries.sort_by_key(|entry| entry["at"].as_i64());
}

/// An entry as a page gets it.
fn shown(stream: &str, entry: &bus::Entry) -> Value {
    let id = entry.id.to_string();
    let at: i64 = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_default();
    let mut shown = json!({"stream": stream, "entry": id, "at": at});
    if stream == keys::DEAD {
        let letter: serde_json::Map<_, _> = ["stream", "entry", "reason", "text"]
            .map(|field| (field.to_owned(), json!(cut(&entry.text(field)))))
            .into_iter()
            .collect();
        shown["message"] = Value::Object(letter);
        return shown;
    }
    match serde_json::from_slice::<Value>(entry.json()) {
        Ok(mut message) => {
            // A page shows them from the ledger when it is asked for the order's story.
            if let Some(fields) = message.as_object_mut() {
                fields.remove("checks");
            }
            let is_short = message.to_string().len() <= SHOWN_MAX;
            if is_short {
                shown["message"] = message;
            } else {
                shown["raw"] = json!(cut(&message.to_string()));
            }
        }
        Err(_) => shown["raw"] = json!(cut(&entry.text("json"))),
    }
    shown
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= SHOWN_MAX).last();
    let end = end.unwrap_or_default();
    if end < text.len() { format!("{}...", &text[..end]) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use cdb_core::ids::EntryId;

    use super::*;

    fn entry(json: &str) -> bus::Entry {
        let id = EntryId::parse("1700000000000-3").unwrap();
        bus::Entry { id, fields: vec![("json".to_owned(), json.as_bytes().to_vec())] }
    }

    #[test]
    fn what_is_no_json_or_too_long_is_shown_as_text_that_is_bounded() {
        let broken = shown(keys::ORDERS, &entry("{<script>"));
        assert_eq!((&broken["raw"], &broken["at"]), (&json!("{<script>"), &json!(1_700_000_000_000_i64)));
        let long = format!("{{\"x\":\"{}\"}}", "\u{fc}".repeat(9_000));
        let shown = shown(keys::ORDERS, &entry(&long));
        let text = shown["raw"].as_str().unwrap();
        assert!(text.len() <= SHOWN_MAX + 3 && text.ends_with("..."));
    }

    #[test]
    fn a_page_that_falls_behind_is_told_so_and_what_is_kept_is_bounded() {
        let feed = Feed::default();
        let (_, mut page) = feed.subscribe();
        for n in 0..500 {
            feed.take(vec![json!({"at": n})]);
        }
        assert!(matches!(page.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
        let (recent, _) = feed.subscribe();
        let recent: Vec<Value> = serde_json::from_str(&recent.json).unwrap();
        assert_eq!((recent.len(), &recent[0]["at"]), (RECENT, &json!(500 - RECENT)));
    }
}
