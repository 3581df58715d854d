//! Key, signature, time window (exchange API §2, §3): strict where the documentation is.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::error::{Refusal, refuse};
use crate::params::{Params, missing};

/// Largest `recvWindow`.
const RECV_WINDOW_MAX: i64 = 60_000;
/// When none is given.
const RECV_WINDOW_DEFAULT: i64 = 5_000;
/// How far in the future a timestamp may lie.
const FUTURE_MS: i64 = 1_000;

/// The key pair that opens the account.
#[derive(Clone)]
pub struct Keys {
    /// For the header.
    pub api_key: String,
    /// For the signature.
    pub api_secret: String,
    /// Refuse everything signed.
    pub is_revoked: bool,
}

/// The parts of a request that a signature covers.
pub struct Signed<'a> {
    /// `X-MEXC-APIKEY`
    pub api_key: Option<&'a str>,
    /// Raw query string.
    pub query: &'a str,
    /// Raw body.
    pub body: &'a str,
}

/// Checks key, signature and time.
///
/// # Errors
/// The refusal.
pub fn check(keys: &Keys, request: &Signed<'_>, params: &Params, server_time: i64) -> Result<(), Refusal> {
    let api_key = request.api_key.ok_or_else(|| refuse(400, "api key required"))?;
    if !bool::from(api_key.as_bytes().ct_eq(keys.api_key.as_bytes())) || keys.is_revoked {
        return Err(refuse(10072, "Api key info invalid"));
    }
    let signature = params.get("signature").ok_or_else(|| missing("signature"))?;
    // The exchange signs what it re-encodes: another spelling of the same values gives another digest.
    if [request.query, request.body].iter().any(|text| !is_canonical(text)) {
        return Err(refuse(700_002, "Signature for this request is not valid."));
    }
    let message = format!("{}{}", unsigned(request.query), unsigned(request.body));
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(keys.api_secret.as_bytes()).expect("any length is a key");
    mac.update(message.as_bytes());
    let expected = hex::encode(mac.finalize().into_bytes());
    // Compared as text: an upper-case digest is refused.
    if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
        return Err(refuse(700_002, "Signature for this request is not valid."));
    }
    let timestamp = params.whole("timestamp")?.ok_or_else(|| missing("timestamp"))?;
    let recv_window = params.whole("recvWindow")?.unwrap_or(RECV_WINDOW_DEFAULT);
    if recv_window > RECV_WINDOW_MAX {
        return Err(refuse(700_005, "recvWindow must less than 60000"));
    }
    if timestamp < server_time + FUTURE_MS && server_time - timestamp <= recv_window {
        Ok(())
    } else {
        Err(refuse(700_003, "Timestamp for this request is outside of the recvWindow."))
    }
}

/// Upper-case percent hex, encoded parentheses and blanks, no empty pair.
fn is_canonical(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_lower_hex = |window: &[u8]| window[0] == b'%' && window[1..].iter().any(u8::is_ascii_lowercase);
    !text.contains("&&") && !text.contains(['(', ')', '+', ' ']) && !bytes.windows(3).any(is_lower_hex)
}

/// The raw text without its `signature` parameter.
fn unsigned(text: &str) -> String {
    let kept: Vec<&str> = text.split('&').filter(|pair| !pair.starts_with("signature=")).collect();
    kept.join("&")
}

#[cfg(test)]
mod tests {
    use super::is_canonical;

    #[test]
    fn only_one_spelling_is_signed() {
        assert!(is_canonical("symbol=BTCUSDT%2CMXUSDT&network=BNB%20Smart%28X%29"));
        for bad in ["a=%2c", "a=1&&b=2", "a=(1)", "a=b+c"] {
            assert!(!is_canonical(bad), "{bad}");
        }
    }
}
