//! The operator's console: a page that shows the desk as it moves and lets a logged-in operator act (design §3, operator
//! users). Everything but the bare page needs a session; the monitor itself may stop and never start.

mod actions; // stop, resume, cancel, breaker, acknowledge
mod answer; // when something is not done
mod desk; // the desk as it stands, once a second
mod feed; // the streams as they move
mod guard; // session, page's token, origin, headers
mod listener; // bounded connections
mod sessions; // who is logged in

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use cdb_core::secret::Secret;
use cdb_core::time::Timestamp;
use cdb_io::bus::Bus;
use cdb_io::clock;
use cdb_io::config::RedisConfig;
use cdb_io::supervise::{Shutdown, Tasks};
use futures_util::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use self::answer::Refused;
use self::feed::{Feed, Message};
use self::guard::{Operator, Viewer};
use self::listener::Connections;
use self::sessions::{FAILURE_WINDOW_MS, LogIn, SESSION_MS, Sessions};
use crate::config::Config;
use crate::ledger::Ledger;

/// Pages that look at one time.
const PAGES_MAX: usize = 16;
/// Largest body of an action, bytes.
const BODY_MAX: usize = 4_096;
/// The curve that is shown, hours.
const CURVE_HOURS: i32 = 24;
/// A curve may be asked for over this many hours at most.
const CURVE_HOURS_MAX: i32 = 24 * 31;

/// The console's settings.
#[derive(Clone)]
pub struct ConsoleConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What an operator logs in with; without it nobody can.
    pub token: Option<Secret>,
    /// Redis as the operator; without it the console can stop and nothing else.
    pub operator_redis: Option<RedisConfig>,
    /// Host names under which it is reached besides this machine's own.
    pub hosts: Vec<String>,
}

/// Everything that answers need.
pub struct Console {
    ledger: Ledger,
    bus: Bus,
    mode: &'static str,
    sessions: Sessions,
    feed: Arc<Feed>,
    pages: Arc<Semaphore>,
    operator_redis: Option<RedisConfig>,
    hosts: Vec<String>,
    port: u16,
    shutdown: Shutdown,
}

impl Console {
    /// Cookies do not know ports: two consoles on one machine need two names.
    fn cookie_name(&self) -> String {
        format!("cdb_session_{}", self.port)
    }

    fn is_known_host(&self, host: &str) -> bool {
        let own = ["127.0.0.1", "localhost", "[::1]"];
        own.contains(&host) || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }
}

/// Sessions are measured on the clock that nobody sets.
fn monotonic() -> Timestamp {
    Timestamp::from_millis(clock::monotonic_ms())
}

/// Starts the console.
///
/// # Errors
/// Its address is taken or not ours.
pub fn start(config: &Config, ledger: Ledger, bus: Bus, tasks: &mut Tasks) -> anyhow::Result<()> {
    let settings = &config.console;
    if settings.token.is_none() {
        tracing::warn!("CONSOLE_TOKEN is not set: nobody can log in to the console");
    }
    let connections = Connections::on(settings.listen)?;
    let console = Arc::new(Console {
        ledger,
        bus,
        mode: config.service.mode.as_str(),
        sessions: Sessions::new(settings.token.as_ref()),
        feed: Arc::default(),
        pages: Arc::new(Semaphore::new(PAGES_MAX)),
        operator_redis: settings.operator_redis.clone(),
        hosts: settings.hosts.clone(),
        port: settings.listen.port(),
        shutdown: tasks.shutdown(),
    });
    let feed = feed::run(Arc::clone(&console.feed), config.service.redis.clone(), tasks.shutdown());
    tasks.spawn("console feed", feed);
    tasks.spawn("console desk", desk::run(Arc::clone(&console), tasks.shutdown()));
    let mut shutdown = tasks.shutdown();
    tasks.spawn("console", async move {
        let served = axum::serve(connections, routes(console));
        let served = served.with_graceful_shutdown(async move { shutdown.asked().await });
        served.await.context("serving the console")
    });
    Ok(())
}

fn routes(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/console.css", get(async || file("text/css", include_str!("console/page/console.css"))))
        .route("/console.js", get(async || file("text/javascript", include_str!("console/page/console.js"))))
        .route("/icon.svg", get(async || file("image/svg+xml", include_str!("console/page/icon.svg"))))
        .route("/api/login", post(log_in))
        .route("/api/logout", post(log_out))
        .route("/api/session", get(session))
        .route("/api/stream", get(stream))
        .route("/api/equity", get(equity))
        .route("/api/orders/{cl_ord_id}", get(story))
        .route("/api/stop", post(actions::stop))
        .route("/api/resume", post(actions::resume))
        .route("/api/cancel", post(actions::cancel))
        .route("/api/cancel-all", post(actions::cancel_all))
        .route("/api/breaker", post(actions::breaker))
        .route("/api/alerts/ack", post(actions::acknowledge))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), guard::same_origin))
        .layer(middleware::from_fn(guard::harden))
        .with_state(console)
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// The page; the mode is in it before anybody logs in.
async fn page(State(console): State<Arc<Console>>) -> Response {
    let html = include_str!("console/page/index.html").replace("{mode}", console.mode);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    actor: String,
    token: String,
}

async fn log_in(State(console): State<Arc<Console>>, Json(given): Json<Credentials>) -> Result<Response, Refused> {
    if !sessions::is_actor(&given.actor) {
        let text = "your name: 1 to 32 letters, digits or . _ - @";
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, text));
    }
    let outcome = console.sessions.log_in(&given.token, &given.actor, monotonic());
    match outcome.map_err(|error| Refused::failed(&error))? {
        LogIn::Granted(cookie) => {
            actions::record_log_in(&console.bus, &given.actor, true).await;
            let (name, max_age_s) = (console.cookie_name(), SESSION_MS / 1_000);
            let cookie = format!("{name}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}");
            Ok(([(header::SET_COOKIE, cookie)], Json(json!({"done": "logged in"}))).into_response())
        }
        LogIn::Wrong => {
            actions::record_log_in(&console.bus, &given.actor, false).await;
            Err(Refused::new(StatusCode::UNAUTHORIZED, "that is not the console's token"))
        }
        LogIn::TooMany => {
            let wait_s = (FAILURE_WINDOW_MS / 1_000).to_string();
            let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "too many attempts; wait a minute");
            Ok(([(header::RETRY_AFTER, wait_s)], refused).into_response())
        }
        LogIn::NotConfigured => {
            let text = "no CONSOLE_TOKEN is set, so nobody can log in";
            Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, text))
        }
    }
}

async fn log_out(State(console): State<Arc<Console>>, viewer: Viewer, _operator: Operator) -> Response {
    console.sessions.log_out(&viewer.cookie);
    let gone = format!("{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0", console.cookie_name());
    ([(header::SET_COOKIE, gone)], Json(json!({"done": "logged out"}))).into_response()
}

async fn session(State(console): State<Arc<Console>>, viewer: Viewer) -> Json<Value> {
    Json(json!({
        "actor": viewer.session.actor, "csrf": viewer.session.csrf(), "mode": console.mode,
        "may_start": console.operator_redis.is_some(),
    }))
}

#[derive(Deserialize)]
struct Span {
    hours: Option<i32>,
}

async fn equity(
    State(console): State<Arc<Console>>,
    _viewer: Viewer,
    Query(span): Query<Span>,
) -> Result<Json<Value>, Refused> {
    let hours = span.hours.unwrap_or(CURVE_HOURS).clamp(1, CURVE_HOURS_MAX);
    let curve = console.ledger.equity(console.mode, hours).await;
    curve.map(Json).map_err(|error| Refused::failed(&error))
}

async fn story(
    State(console): State<Arc<Console>>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    let story = console.ledger.story(&id).await.map_err(|error| Refused::failed(&error))?;
    story.map(Json).ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "the ledger does not know this order (yet)"))
}

/// One page that looks.
struct Page {
    console: Arc<Console>,
    cookie: String,
    messages: broadcast::Receiver<Message>,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

/// The server-sent events of one page. They end when the session does, when the page falls behind, or with the process;
/// the page then begins anew.
async fn stream(State(console): State<Arc<Console>>, viewer: Viewer) -> Result<Response, Refused> {
    let place = Arc::clone(&console.pages).try_acquire_owned().map_err(|_| {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, format!("{PAGES_MAX} pages are open already; close one"))
    })?;
    let (recent, messages) = console.feed.subscribe();
    let shutdown = console.shutdown.clone();
    let page = Page { console, cookie: viewer.cookie, messages, shutdown, _place: place };
    let live = stream::unfold(page, |mut page| async move {
        let message = tokio::select! {
            () = page.shutdown.asked() => return None,
            message = page.messages.recv() => message.ok()?,
        };
        page.console.sessions.of(&page.cookie, monotonic())?;
        Some((message, page))
    });
    let event = |message: Message| Ok::<_, Infallible>(Event::default().event(message.kind).data(message.json));
    let events = stream::iter([recent]).chain(live).map(event);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
