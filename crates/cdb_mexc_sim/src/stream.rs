//! The exchange's WebSocket interface: commands and acknowledgements as JSON text, data as protobuf (exchange API §11).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::channel::Channel;
use crate::hub::Outgoing;
use crate::state::Shared;

/// Without a valid subscription for this long a connection ends.
const UNSUBSCRIBED_MAX: Duration = Duration::from_secs(30);
/// Without a message from either side for this long a connection ends.
const QUIET_MAX: Duration = Duration::from_secs(60);
/// Messages a client may send in any second.
const MESSAGES_PER_SECOND: u32 = 100;
/// Longest message of a client, bytes.
const MESSAGE_MAX: usize = 64 << 10;

#[derive(Deserialize)]
pub(crate) struct Opening {
    #[serde(rename = "listenKey")]
    listen_key: Option<String>,
}

/// `GET /ws[?listenKey=...]`
pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Query(opening): Query<Opening>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .max_message_size(MESSAGE_MAX)
        .on_upgrade(async move |socket| serve(shared, socket, opening.listen_key).await)
}

async fn serve(shared: Arc<Shared>, mut socket: WebSocket, listen_key: Option<String>) {
    let opened = {
        let mut inner = shared.lock();
        let now = inner.exchange_ms();
        inner.hub.open(listen_key, now)
    };
    let Some((id, frames)) = opened else {
        if !shared.lock().switches.dead_key_breaks {
            // The client may be gone already.
            let _gone = socket.send(Message::Text("Invalid listen key".into())).await;
        }
        return;
    };
    let life = Duration::from_millis(shared.lock().switches.stream_life_ms);
    let mut connection = Connection { shared: Arc::clone(&shared), socket, id, frames, second: Second::new() };
    let reason = connection.run(life).await;
    tracing::debug!(id, reason, "stream ended");
    shared.lock().hub.close(id);
    let _gone = connection.socket.send(Message::Close(None)).await;
}

struct Connection {
    shared: Arc<Shared>,
    socket: WebSocket,
    id: u64,
    frames: mpsc::Receiver<Outgoing>,
    second: Second,
}

/// Counts the client's messages.
struct Second {
    began: Instant,
    messages: u32,
}

impl Second {
    fn new() -> Self {
        Self { began: Instant::now(), messages: 0 }
    }
    /// Counts one; whether it is one too many.
    fn is_over(&mut self) -> bool {
        if self.began.elapsed() >= Duration::from_secs(1) {
            *self = Self::new();
        }
        self.messages += 1;
        self.messages > MESSAGES_PER_SECOND
    }
}

impl Connection {
    /// Serves until one side ends it; why.
    async fn run(&mut self, life: Duration) -> &'static str {
        let end = Instant::now() + life;
        let mut unsubscribed_since = Instant::now();
        let mut last_message = Instant::now();
        loop {
            if self.shared.lock().hub.has_subscription(self.id) {
                unsubscribed_since = Instant::now();
            }
            let quiet = (last_message + QUIET_MAX).min(unsubscribed_since + UNSUBSCRIBED_MAX);
            tokio::select! {
                frame = self.frames.recv() => {
                    let Some((due, bytes)) = frame else { return "closed by the exchange" };
                    sleep_until(due).await;
                    if self.socket.send(Message::Binary(Bytes::from(bytes))).await.is_err() {
                        return "the client is gone";
                    }
                }
                message = self.socket.recv() => {
                    let Some(Ok(message)) = message else { return "the client is gone" };
                    if self.second.is_over() {
                        return "too many messages";
                    }
                    match message {
                        Message::Text(text) => {
                            let answer = self.answer(&text).to_string();
                            if self.socket.send(Message::Text(answer.into())).await.is_err() {
                                return "the client is gone";
                            }
                        }
                        Message::Close(_) => return "closed by the client",
                        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
                    }
                }
                () = sleep_until(quiet) => return "quiet for too long",
                () = sleep_until(end) => return "as old as a connection gets",
            }
            last_message = Instant::now();
        }
    }

    /// The answer to a command. Failures have code 0 as well.
    fn answer(&self, text: &str) -> Value {
        let said = |msg: String| json!({"id": 0, "code": 0, "msg": msg});
        let Ok(command) = serde_json::from_str::<Value>(text) else { return said("msg format invalid".to_owned()) };
        let method = command["method"].as_str().unwrap_or_default().to_ascii_uppercase();
        let names: Option<Vec<&str>> =
            command["params"].as_array().map(|list| list.iter().filter_map(Value::as_str).collect());
        match (method.as_str(), names) {
            ("PING", _) => said("PONG".to_owned()),
            ("SUBSCRIPTION", Some(names)) => said(self.subscribe(&names)),
            ("UNSUBSCRIPTION", Some(names)) => said(self.unsubscribe(&names)),
            _ => said("msg format invalid".to_owned()),
        }
    }

    fn subscribe(&self, names: &[&str]) -> String {
        let mut inner = self.shared.lock();
        let inner = &mut *inner;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for name in names {
            let is_blocked = inner.switches.blocked_channels.iter().any(|blocked| name.starts_with(blocked.as_str()));
            let channel = Channel::parse(name, |symbol| inner.exchange.symbols.contains_key(symbol));
            let wanted = channel.filter(|_| !is_blocked);
            let is_subscribed = wanted.is_some_and(|channel| inner.hub.subscribe(self.id, channel));
            if is_subscribed { good.push(*name) } else { bad.push(*name) }
        }
        if bad.is_empty() {
            good.join(",")
        } else {
            // The colon is the exchange's.
            format!("Not Subscribed successfully! [{}].  Reason： Blocked! ", bad.join(","))
        }
    }

    fn unsubscribe(&self, names: &[&str]) -> String {
        let mut inner = self.shared.lock();
        let inner = &mut *inner;
        for name in names {
            if let Some(channel) = Channel::parse(name, |symbol| inner.exchange.symbols.contains_key(symbol)) {
                inner.hub.unsubscribe(self.id, &channel);
            }
        }
        names.join(",")
    }
}
