//! What a request must prove. `Viewer` needs a session; `Operator` needs the session, its page's own token and the page's
//! own origin, and is the only key to the operator's Redis user (see `actions`).

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Console;
use super::answer::Refused;
use super::sessions::Session;

/// The header in which a page proves that it is this session's.
pub const CSRF: &str = "x-csrf-token";

/// Somebody with a session: may look.
pub struct Viewer {
    /// Its session.
    pub session: Session,
    /// Its cookie's value.
    pub cookie: String,
}

/// Somebody with a session who asks out of its own page: may act. Made here alone.
pub struct Operator {
    actor: String,
}

impl Operator {
    /// For the record.
    pub fn actor(&self) -> &str {
        &self.actor
    }
}

impl FromRequestParts<Arc<Console>> for Viewer {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Refused> {
        let cookie = cookie_of(&parts.headers, &console.cookie_name()).ok_or_else(Refused::log_in)?;
        let session = console.sessions.of(&cookie, super::monotonic()).ok_or_else(Refused::log_in)?;
        Ok(Self { session, cookie })
    }
}

impl FromRequestParts<Arc<Console>> for Operator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Refused> {
        let viewer = Viewer::from_request_parts(parts, console).await?;
        let given = parts.headers.get(CSRF).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !viewer.session.is_csrf(given) {
            let text = "this request does not come from the console's own page; reload it";
            return Err(Refused::new(StatusCode::FORBIDDEN, text));
        }
        Ok(Self { actor: viewer.session.actor })
    }
}

/// The value of a cookie.
fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// Refuses requests to another host name (a foreign name that was made to point here) and actions of another origin.
pub async fn same_origin(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = host.parse::<Authority>().is_ok_and(|host| console.is_known_host(host.host()));
    if !is_known {
        let text = "this host name is not the console's; allow it with CONSOLE_HOSTS";
        return Refused::new(StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let is_own = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
        if !is_own && !request.method().is_safe() {
            return Refused::new(StatusCode::FORBIDDEN, "an action must come from the console's own page")
                .into_response();
        }
    }
    next.run(request).await
}

/// Headers that let a page do nothing but show this desk.
pub async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                  form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; xcdb_session=no; cdb_session=yes"));
        assert_eq!(cookie_of(&headers, "cdb_session").as_deref(), Some("yes"));
        assert_eq!(cookie_of(&headers, "session"), None);
    }
}
