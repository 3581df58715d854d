//! One WebSocket connection: opened, subscribed, kept alive, and ended when it is dead, silent or old. Whoever uses it
//! opens the next one, and asks by REST for what it may have missed.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cdb_core::secret::Secret;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::http;
use crate::push::{self, Control, Push};
use crate::signing::Query;

/// Longest wait for the connection, and again for the acknowledgement of every channel.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// How often the exchange is pinged (it closes a connection that says nothing for 60 s).
const PING_EVERY: Duration = Duration::from_secs(15);
/// Not even a pong for this long: the connection is dead.
const SILENT_MAX: Duration = Duration::from_secs(40);
/// Renewed before the exchange ends it at 24 h.
const LIFE: Duration = Duration::from_secs(23 * 3_600);
/// Largest message, bytes; the largest known is a few KB.
const MESSAGE_MAX: usize = 1 << 20;
/// Frames kept that came before every channel was acknowledged.
const EARLY_MAX: usize = 1_000;

/// What opens a user stream. As secret as an API key while it lives.
#[derive(Clone)]
pub struct ListenKey(Secret);

impl ListenKey {
    /// A key as the exchange gave it; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        Secret::parse(text.as_bytes()).ok().filter(|_| is_key).map(Self)
    }
    /// The key.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Why a connection is over, or never began. Carries no URL: it would show the listen key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// It could not be opened.
    NoConnection(String),
    /// A channel was refused, or not acknowledged in time.
    NotSubscribed(String),
    /// The listen key opens nothing; a new one is to be made.
    NoListenKey,
    /// Not even a pong came for too long.
    Silent,
    /// The other side ended it.
    Closed(String),
    /// It is as old as a connection gets.
    Aged,
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(why) => write!(f, "no connection: {why}"),
            Self::NotSubscribed(why) => write!(f, "not subscribed: {why}"),
            Self::NoListenKey => f.write_str("the listen key opens nothing any more"),
            Self::Silent => f.write_str("nothing was heard for too long"),
            Self::Closed(why) => write!(f, "closed: {why}"),
            Self::Aged => f.write_str("renewed because of its age"),
        }
    }
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Data.
    Push(Push),
    /// A message that could not be understood: what it was about is to be asked for by REST.
    Strange(String),
}

/// One open connection, subscribed to every channel that was asked for.
pub struct Stream {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    early: VecDeque<Heard>,
    opened_at: Instant,
    pinged_at: Instant,
    heard_at: Instant,
}

impl Stream {
    /// Opens a connection to `base`, e.g. `wss://wbs-api.mexc.com/ws`, and subscribes.
    ///
    /// # Errors
    /// See [`StreamEnd`].
    pub async fn open(base: &str, listen_key: Option<&ListenKey>, channels: &[String]) -> Result<Self, StreamEnd> {
        let url = match listen_key {
            Some(key) => format!("{base}?{}", Query::default().with("listenKey", key.expose()).as_str()),
            None => base.to_owned(),
        };
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
        let tls = http::tls().map_err(|why| StreamEnd::NoConnection(why.to_owned()))?;
        let connecting = connect_async_tls_with_config(url, Some(config), true, Some(Connector::Rustls(Arc::new(tls))));
        let connected = timeout(OPEN_MAX, connecting).await;
        let (socket, _) = connected
            .map_err(|_| StreamEnd::NoConnection("no answer in time".to_owned()))?
            .map_err(|error| StreamEnd::NoConnection(describe(&error)))?;
        let now = Instant::now();
        let mut stream = Self { socket, early: VecDeque::new(), opened_at: now, pinged_at: now, heard_at: now };
        timeout(OPEN_MAX, stream.subscribe(channels)).await.unwrap_or_else(|_| {
            Err(StreamEnd::NotSubscribed("not every channel was acknowledged in time".to_owned()))
        })?;
        Ok(stream)
    }

    async fn subscribe(&mut self, channels: &[String]) -> Result<(), StreamEnd> {
        let mut missing: BTreeSet<&str> = channels.iter().map(String::as_str).collect();
        // One channel a message: a refusal then says which.
        for channel in channels {
            self.say(json!({"method": "SUBSCRIPTION", "params": [channel]}).to_string()).await?;
        }
        while !missing.is_empty() {
            match self.receive().await? {
                Incoming::Text(text) => match push::read_text(&text) {
                    Control::Acknowledged(names) => {
                        for name in &names {
                            missing.remove(name.as_str());
                        }
                    }
                    Control::Failed(why) => return Err(StreamEnd::NotSubscribed(why)),
                    Control::NoListenKey => return Err(StreamEnd::NoListenKey),
                    Control::Pong => {}
                },
                Incoming::Data(heard) => {
                    if self.early.len() < EARLY_MAX {
                        self.early.push_back(heard);
                    }
                }
            }
        }
        Ok(())
    }

    /// The next thing heard. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn next(&mut self) -> Result<Heard, StreamEnd> {
        if let Some(heard) = self.early.pop_front() {
            return Ok(heard);
        }
        loop {
            let now = Instant::now();
            if now >= self.opened_at + LIFE {
                return Err(StreamEnd::Aged);
            }
            if now >= self.pinged_at + PING_EVERY {
                self.pinged_at = now;
                self.say(json!({"method": "PING"}).to_string()).await?;
            }
            let next_ping = self.pinged_at + PING_EVERY;
            tokio::select! {
                incoming = self.receive() => match incoming? {
                    Incoming::Data(heard) => return Ok(heard),
                    Incoming::Text(text) => match push::read_text(&text) {
                        Control::NoListenKey => return Err(StreamEnd::NoListenKey),
                        Control::Failed(why) => return Ok(Heard::Strange(why)),
                        Control::Pong | Control::Acknowledged(_) => {}
                    },
                },
                () = sleep_until(next_ping) => {}
            }
        }
    }

    async fn receive(&mut self) -> Result<Incoming, StreamEnd> {
        loop {
            let message = timeout_at(self.heard_at + SILENT_MAX, self.socket.next()).await;
            let message = message.map_err(|_| StreamEnd::Silent)?;
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(StreamEnd::Closed(describe(&error))),
                None => return Err(StreamEnd::Closed("the connection ended".to_owned())),
            };
            self.heard_at = Instant::now();
            match message {
                Message::Binary(bytes) => {
                    let heard = push::read_frame(&bytes);
                    let strange = |fault: crate::wire::WireFault| Heard::Strange(fault.to_string());
                    return Ok(Incoming::Data(heard.map_or_else(strange, Heard::Push)));
                }
                Message::Text(text) => return Ok(Incoming::Text(text.as_str().to_owned())),
                Message::Close(_) => return Err(StreamEnd::Closed("by the exchange".to_owned())),
                // The library answers protocol pings by itself.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    async fn say(&mut self, text: String) -> Result<(), StreamEnd> {
        let said = timeout(OPEN_MAX, self.socket.send(Message::text(text))).await;
        said.map_err(|_| StreamEnd::Silent)?.map_err(|error| StreamEnd::Closed(describe(&error)))
    }
}

enum Incoming {
    Data(Heard),
    Text(String),
}

/// An error's kind. Never the library's own text, which may name the URL.
fn describe(error: &Error) -> String {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => "the connection ended".to_owned(),
        Error::Io(error) => format!("I/O: {:?}", error.kind()),
        Error::Tls(_) => "TLS failed".to_owned(),
        Error::Capacity(_) => format!("a message of over {MESSAGE_MAX} bytes"),
        Error::Protocol(_) => "the protocol was broken".to_owned(),
        Error::Http(response) => format!("HTTP {}", response.status().as_u16()),
        Error::Utf8(_) => "text that is no UTF-8".to_owned(),
        Error::Url(_) => "the address is none".to_owned(),
        _ => "the connection failed".to_owned(),
    }
}
