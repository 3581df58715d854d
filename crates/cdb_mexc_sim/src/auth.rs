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

/// One key pair of the account.
#[derive(Clone)]
pub struct Pair {
    /// For the header.
    pub api_key: String,
    /// For the signature.
    pub api_secret: String,
    /// It opens nothing any more.
    pub is_revoked: bool,
    /// It may withdraw.
    pub can_withdraw: bool,
    /// Requests that it opened.
    pub opened: u64,
    /// Requests that were refused because it is revoked.
    pub refused: u64,
}

impl Pair {
    /// A pair that opens the account.
    #[must_use]
    pub const fn new(api_key: String, api_secret: String, can_withdraw: bool) -> Self {
        Self { api_key, api_secret, is_revoked: false, can_withdraw, opened: 0, refused: 0 }
    }

    fn has_signed(&self, message: &str, signature: &str) -> bool {
        let mut mac: Hmac<Sha256> = Hmac::new_from_slice(self.api_secret.as_bytes()).expect("any length is a key");
        mac.update(message.as_bytes());
        let expected = hex::encode(mac.finalize().into_bytes());
        // Compared as text: an upper-case digest is refused.
        bool::from(expected.as_bytes().ct_eq(signature.as_bytes()))
    }
}

/// The key pairs of the account: while one is exchanged, two are valid.
#[derive(Clone, Default)]
pub struct Keys {
    /// Every pair that ever was.
    pub pairs: Vec<Pair>,
    /// Requests with the key of one pair and the signature of another.
    pub mixed: u64,
    /// Requests with a key that no pair has.
    pub unknown: u64,
}

impl Keys {
    /// Lets a pair open the account from here on.
    pub fn add(&mut self, pair: Pair) {
        self.pairs.retain(|one| one.api_key != pair.api_key);
        self.pairs.push(pair);
    }

    /// Ends a pair; whether there is one with this key.
    pub fn revoke(&mut self, api_key: &str) -> bool {
        let pair = self.pairs.iter_mut().find(|pair| pair.api_key == api_key);
        pair.map(|pair| pair.is_revoked = true).is_some()
    }

    /// The pair that a request names.
    #[must_use]
    pub fn named(&self, api_key: Option<&str>) -> Option<&Pair> {
        self.pairs.iter().find(|pair| Some(pair.api_key.as_str()) == api_key)
    }
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

/// Checks key, signature and time; what comes of it is counted.
///
/// # Errors
/// The refusal.
pub fn check(
    keys: &mut Keys,
    is_all_revoked: bool,
    request: &Signed<'_>,
    params: &Params,
    server_time: i64,
) -> Result<(), Refusal> {
    let api_key = request.api_key.ok_or_else(|| refuse(400, "api key required"))?;
    let Some(index) = keys.pairs.iter().position(|pair| pair.api_key == api_key) else {
        keys.unknown += 1;
        return Err(refuse(10072, "Api key info invalid"));
    };
    if is_all_revoked || keys.pairs[index].is_revoked {
        keys.pairs[index].refused += 1;
        return Err(refuse(10072, "Api key info invalid"));
    }
    let signature = params.get("signature").ok_or_else(|| missing("signature"))?;
    // The exchange signs what it re-encodes: another spelling of the same values gives another digest.
    if [request.query, request.body].iter().any(|text| !is_canonical(text)) {
        return Err(refuse(700_002, "Signature for this request is not valid."));
    }
    let message = format!("{}{}", unsigned(request.query), unsigned(request.body));
    if !keys.pairs[index].has_signed(&message, signature) {
        keys.mixed += u64::from(keys.pairs.iter().any(|other| other.has_signed(&message, signature)));
        return Err(refuse(700_002, "Signature for this request is not valid."));
    }
    check_time(params, server_time)?;
    keys.pairs[index].opened += 1;
    Ok(())
}

fn check_time(params: &Params, server_time: i64) -> Result<(), Refusal> {
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
