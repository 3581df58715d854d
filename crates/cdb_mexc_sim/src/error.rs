//! Refusals with their codes (exchange API §12).

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub http: u16,
    /// The exchange's code.
    pub code: i64,
    /// Text.
    pub msg: String,
    /// `Retry-After`, seconds.
    pub retry_after_s: Option<u64>,
    /// The code is sent as text whatever the switch says.
    pub is_code_text: bool,
}

/// A refusal with HTTP 400, as every business refusal is.
#[must_use]
pub fn refuse(code: i64, msg: impl Into<String>) -> Refusal {
    Refusal { http: 400, code, msg: msg.into(), retry_after_s: None, is_code_text: false }
}

/// A symbol that is not listed.
#[must_use]
pub fn unknown_symbol() -> Refusal {
    refuse(-1121, "Invalid symbol.")
}
