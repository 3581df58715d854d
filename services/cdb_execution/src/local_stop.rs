//! Stops that need no Redis: a file, SIGUSR1, and `POST /stop`. They halt this process, also after a restart, and cancel
//! open orders within a small budget of their own, leading or not. Removing the file ends them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use cdb_core::audit::story::{STOP_CLEARED, STOP_SET};
use cdb_core::event::SecurityKind;
use cdb_core::ids::Symbol;
use cdb_core::secret::Secret;
use cdb_core::time::Timestamp;
use cdb_io::audit_log::{AuditLog, Entry};
use cdb_io::health::Health;
use cdb_io::supervise::Shutdown;
use cdb_io::{clock, durable_file};
use cdb_mexc::client::{Client, Stamp};
use cdb_mexc::clock::ServerClock;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, StopAction};
use crate::observe::Observer;

/// How often the file is looked for.
const LOOK: Duration = Duration::from_millis(200);
/// Pause after each request of the cancels: 2 a second, beside whatever budget the cell has left.
const PACE: Duration = Duration::from_millis(500);
/// Longest reason that is kept.
const REASON_MAX: usize = 500;

/// Whether this process is stopped, and why.
#[derive(Clone)]
pub struct LocalStop {
    file: Arc<Path>,
    reason: Arc<watch::Sender<Option<String>>>,
    /// The file could not be written: this process stays stopped whatever the file says.
    is_unwritten: Arc<AtomicBool>,
}

impl LocalStop {
    /// As the file says now. Made before anything is sent.
    pub fn open(file: PathBuf) -> Self {
        let reason = read(&file);
        Self { file: file.into(), reason: Arc::new(watch::Sender::new(reason)), is_unwritten: Arc::default() }
    }

    /// Whether nothing may be sent.
    pub fn is_set(&self) -> bool {
        self.reason.borrow().is_some()
    }

    /// Stops. At once in this process, and by the file for the next one.
    ///
    /// # Errors
    /// The file cannot be written: this process is stopped all the same.
    pub fn set(&self, reason: &str) -> anyhow::Result<()> {
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
        // Before the file is written: a look in between must not take the stop back.
        self.is_unwritten.store(true, Ordering::SeqCst);
        self.reason.send_replace(Some(reason.clone()));
        let written = durable_file::replace(&self.file, reason.as_bytes());
        self.is_unwritten.store(written.is_err(), Ordering::SeqCst);
        written.with_context(|| format!("writing CDB_STOP_FILE {}", self.file.display()))
    }

    /// Watches file and signal for as long as the process lives; each change is recorded.
    ///
    /// # Errors
    /// The audit trail failed, or signals cannot be heard.
    pub async fn watch(
        self,
        audit: AuditLog,
        health: Health,
        observer: Observer,
        mut shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        let mut asked = signal(SignalKind::user_defined1()).context("listening for SIGUSR1")?;
        let mut looks = tokio::time::interval(LOOK);
        let mut known = None;
        let mut still_set_at = Timestamp::default();
        loop {
            let looked_at = clock::now();
            tokio::select! {
                () = shutdown.asked() => return Ok(()),
                _ = looks.tick() => self.look(),
                _ = asked.recv() => {
                    if let Err(error) = self.set("SIGUSR1") {
                        tracing::error!(error = format!("{error:#}"), "the stop lasts as long as this process");
                    }
                }
            }
            let reason = self.reason.borrow().clone();
            if reason.is_some() && reason == known {
                still_set_at = looked_at;
            }
            if reason == known {
                continue;
            }
            observer.local_stop.set(i64::from(reason.is_some()));
            let (event_type, text) = match &reason {
                Some(reason) => {
                    health.trouble(
                        "stop",
                        format!("stopped here: {reason}; ends when {} is removed", self.file.display()),
                    );
                    (STOP_SET, reason.clone())
                }
                None => {
                    health.well("stop");
                    (STOP_CLEARED, "the file was removed".to_owned())
                }
            };
            tracing::error!(event_type, text, "local stop");
            let mut result = json!({"reason": text, "file": self.file.display().to_string()});
            if event_type == STOP_CLEARED {
                result["still_set_at"] = json!(still_set_at);
            }
            audit.record(Entry::of(event_type, result).by("unknown")).await?;
            still_set_at = looked_at;
            known = reason;
        }
    }

    /// The file is the truth; what it says is the reason.
    fn look(&self) {
        let reason = read(&self.file);
        if reason.is_none() && self.is_unwritten.load(Ordering::SeqCst) {
            return;
        }
        self.reason.send_if_modified(|known| {
            let is_change = *known != reason;
            known.clone_from(&reason);
            is_change
        });
    }

    /// Cancels open orders while stopped, until a later list of open orders is empty.
    ///
    /// # Errors
    /// Never: what fails is tried again.
    pub async fn cancel(self, config: Config, client: Client, mut shutdown: Shutdown) -> anyhow::Result<()> {
        let mut reason = self.reason.subscribe();
        loop {
            tokio::select! {
                () = shutdown.asked() => return Ok(()),
                // The sender lives as long as this.
                _changed = reason.wait_for(|reason| reason.is_some() && config.stop_action == StopAction::Cancel) => {}
            }
            let round = cancel_all(&client, &config.symbols, config.recv_window_ms);
            let is_empty = tokio::select! {
                () = shutdown.asked() => return Ok(()),
                is_empty = round => is_empty,
            };
            if is_empty {
                tracing::warn!("no order is open while stopped here");
                tokio::select! {
                    () = shutdown.asked() => return Ok(()),
                    _changed = reason.wait_for(Option::is_none) => {}
                }
            }
        }
    }

    /// `POST /stop` with the token; the body is the reason.
    pub fn routes(&self, token: Option<Secret>, observer: Observer) -> Router {
        let digest = token.map(|token| Sha256::digest(token.expose().as_bytes()).into());
        Router::new().route("/stop", post(stop)).with_state(Endpoint { stop: self.clone(), observer, digest })
    }
}

/// A file that cannot be read stops as well: it may say so.
fn read(file: &Path) -> Option<String> {
    match std::fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let text: String = text.trim().chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
            Some(if text.is_empty() { "no reason given".to_owned() } else { text })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(format!("the stop file cannot be read: {error}")),
    }
}

/// Cancels every symbol's open orders once; whether a list made afterwards is empty. At the pace of [`PACE`].
async fn cancel_all(client: &Client, symbols: &BTreeSet<Symbol>, recv_window_ms: i64) -> bool {
    let server_clock = ServerClock::default();
    let before = clock::now();
    if let Ok(time) = client.time().await {
        server_clock.learn(before.millis(), clock::now().millis(), time, clock::monotonic_ms());
    }
    tokio::time::sleep(PACE).await;
    // Far off is better than not at all: cancels only reduce risk.
    let offset_ms = server_clock.last_offset_ms().unwrap_or_default();
    let stamp = || Stamp { timestamp_ms: clock::now().plus_ms(offset_ms).millis(), recv_window_ms };
    let mut is_empty = true;
    for symbol in symbols {
        if let Err(trouble) = client.cancel_open_orders(symbol, stamp()).await {
            tracing::error!(%symbol, text = trouble.text, "open orders could not be cancelled; trying again");
        }
        tokio::time::sleep(PACE).await;
        let open = client.open_orders(symbol, stamp()).await;
        is_empty &= open.is_ok_and(|open| open.orders.is_empty() && !open.is_partial);
        tokio::time::sleep(PACE).await;
    }
    is_empty
}

#[derive(Clone)]
struct Endpoint {
    stop: LocalStop,
    observer: Observer,
    /// Of the token; digests of equal length are compared, so that time tells nothing of the token.
    digest: Option<[u8; 32]>,
}

async fn stop(State(endpoint): State<Endpoint>, headers: HeaderMap, body: String) -> Response {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given: [u8; 32] = match given.and_then(|text| text.strip_prefix("Bearer ")) {
        Some(token) => Sha256::digest(token.as_bytes()).into(),
        None => {
            endpoint.observer.security(SecurityKind::AuthFailed);
            return (StatusCode::UNAUTHORIZED, "a bearer token is needed\n").into_response();
        }
    };
    let is_right = endpoint.digest.is_some_and(|digest| bool::from(subtle::ConstantTimeEq::ct_eq(&digest[..], &given)));
    if !is_right {
        endpoint.observer.security(SecurityKind::AuthFailed);
        tracing::error!("POST /stop with a wrong token");
        return (StatusCode::UNAUTHORIZED, "not the token of STOP_TOKEN\n").into_response();
    }
    let reason = if body.trim().is_empty() { "POST /stop" } else { body.trim() };
    match endpoint.stop.set(reason) {
        Ok(()) => "stopped\n".into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("stopped until this process ends: {error:#}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("cdb-stop-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_stop_outlives_the_process_and_ends_with_its_file() {
        let path = file("lasting");
        LocalStop::open(path.clone()).set("drill\nwith a line break").unwrap();
        let next = LocalStop::open(path.clone());
        assert_eq!(next.reason.borrow().as_deref(), Some("drillwith a line break"));
        std::fs::remove_file(&path).unwrap();
        next.look();
        assert!(!next.is_set());
    }

    #[test]
    fn a_stop_that_could_not_be_written_does_not_end_by_itself() {
        let stop = LocalStop::open(file("nowhere").join("below").join("stop"));
        assert!(stop.set("drill").is_err());
        stop.look();
        assert!(stop.is_set());
    }

    #[test]
    fn a_file_that_cannot_be_read_stops() {
        let path = file("directory");
        std::fs::create_dir_all(&path).unwrap();
        assert!(LocalStop::open(path.clone()).is_set());
        std::fs::remove_dir(&path).unwrap();
    }
}
