//! What the console answers when it does not do what was asked.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refusal or failure with a text for the person at the page.
pub struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    /// With this status.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// Nobody is logged in.
    pub fn log_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "log in first")
    }

    /// Redis or the ledger failed or did not answer.
    pub fn failed(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "the console could not answer");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.text}))).into_response()
    }
}
