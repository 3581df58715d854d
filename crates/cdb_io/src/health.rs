//! Progress, readiness and metrics over HTTP: `/metrics`, `/healthz` (the process lives), `/readyz` (its loop makes
//! progress and its dependencies answer; 503 with the reasons otherwise).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder as _, Registry, TextEncoder};

use crate::clock;
use crate::supervise::Shutdown;

/// A loop that made no progress for this long is stuck.
pub const STUCK_AFTER_MS: i64 = 10_000;

/// What a service says about itself.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// When each loop last came round.
    progressed_at_ms: Mutex<BTreeMap<&'static str, i64>>,
    troubles: Mutex<BTreeMap<&'static str, String>>,
}

impl Health {
    /// The service's loop came round.
    pub fn progress(&self) {
        self.progress_of("main");
    }

    /// One of several loops came round; each must go on, whatever the others do.
    pub fn progress_of(&self, task: &'static str) {
        self.progressed().insert(task, clock::monotonic_ms());
    }

    fn progressed(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, i64>> {
        self.0.progressed_at_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A dependency does not answer, or something else keeps the service from its work.
    pub fn trouble(&self, what: &'static str, why: impl Into<String>) {
        self.troubles().insert(what, why.into());
    }

    /// It is well again.
    pub fn well(&self, what: &'static str) {
        self.troubles().remove(what);
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that keeps the service from being ready.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let now_ms = clock::monotonic_ms();
        let progressed = self.progressed().clone();
        let none = progressed.is_empty().then(|| "no progress yet".to_owned());
        let stuck = progressed.into_iter().filter_map(|(task, at_ms)| {
            let idle_ms = now_ms.saturating_sub(at_ms);
            (idle_ms > STUCK_AFTER_MS).then(|| format!("no progress of {task} for {idle_ms} ms"))
        });
        let troubles = self.troubles();
        none.into_iter().chain(stuck).chain(troubles.iter().map(|(what, why)| format!("{what}: {why}"))).collect()
    }
}

#[derive(Clone)]
struct Served {
    health: Health,
    registry: Registry,
}

/// Serves the endpoints until the end is asked for.
///
/// # Errors
/// The address is taken or not ours.
pub async fn serve(
    listen: SocketAddr,
    health: Health,
    registry: Registry,
    more: Router,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Served { health, registry })
        .merge(more);
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("listening on HTTP_LISTEN {listen}"))?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.asked().await })
        .await
        .context("serving metrics and health")
}

async fn metrics(State(served): State<Served>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&served.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(served): State<Served>) -> Response {
    let problems = served.health.problems();
    if problems.is_empty() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n").into_response()
    }
}
