//! Exactly the bytes that are sent are signed (exchange API §2): percent-encoding with upper-case hex, `%20` for a
//! blank, HMAC-SHA256 over query then body without a separator, lower-case hex digest.

use cdb_core::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A key pair, ready to sign. It has no `Debug`.
#[derive(Clone)]
pub struct Credentials {
    api_key: Secret,
    mac: Hmac<Sha256>,
}

impl Credentials {
    /// Prepares a pair.
    #[must_use]
    pub fn new(api_key: Secret, api_secret: &Secret) -> Self {
        let mac = Hmac::new_from_slice(api_secret.expose().as_bytes()).expect("HMAC takes a key of any length");
        Self { api_key, mac }
    }

    /// For the header `X-MEXC-APIKEY`.
    #[must_use]
    pub const fn api_key(&self) -> &Secret {
        &self.api_key
    }

    /// The digest of `query` followed by `body`.
    #[must_use]
    pub fn sign(&self, query: &str, body: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(query.as_bytes());
        mac.update(body.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

/// Builds a query string in the order given.
#[derive(Debug, Clone, Default)]
pub struct Query(String);

impl Query {
    /// Adds a parameter, percent-encoded.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        percent_encode(value, &mut self.0);
        self
    }

    /// The text so far.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Ends a signed query: `recvWindow`, `timestamp`, then `signature` over all before it.
    #[must_use]
    pub fn signed(self, credentials: &Credentials, timestamp_ms: i64, recv_window_ms: i64) -> String {
        let query = self.with("recvWindow", &recv_window_ms.to_string()).with("timestamp", &timestamp_ms.to_string()).0;
        let signature = credentials.sign(&query, "");
        format!("{query}&signature={signature}")
    }
}

/// RFC 3986: everything but unreserved characters becomes `%XX` with upper-case hex.
fn percent_encode(value: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo_pair() -> Credentials {
        // The demo pair printed in the exchange's public documentation; it opens nothing.
        let secret = |text: &str| Secret::parse(text.as_bytes()).ok().unwrap();
        Credentials::new(secret("mx0aBYs33eIilxBWC5"), &secret("45d0b3c26f2644f19bfb98b07741b2f5"))
    }

    #[test]
    fn every_vector_of_the_fixtures_has_this_digest() {
        let file = include_str!("../fixtures/signing/vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(file).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap();
            assert_eq!(demo_pair().sign(text("query"), text("body")), text("digest"), "{}", case["id"]);
        }
    }

    fn cases(file: &str) -> Vec<serde_json::Value> {
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        file["cases"].as_array().unwrap().clone()
    }

    fn built(pairs: &serde_json::Value) -> Query {
        let pairs = pairs.as_array().unwrap();
        pairs
            .iter()
            .fold(Query::default(), |query, pair| query.with(pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
    }

    #[test]
    fn every_request_of_a_working_client_has_the_signature_that_we_would_give_it() {
        let cases = cases(include_str!("../fixtures/requests/wire_captures.json"));
        assert_eq!(cases.len(), 30);
        let mut signed = 0;
        for case in cases.iter().filter(|case| case["signed"] == true) {
            let query = case["raw_query"].as_str().unwrap();
            let unsigned: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("signature=")).collect();
            let digest = demo_pair().sign(&unsigned.join("&"), case["body"].as_str().unwrap());
            assert_eq!(digest, case["signature"].as_str().unwrap(), "{}", case["id"]);
            signed += 1;
        }
        assert!(signed > 20, "{signed}");
    }

    #[test]
    fn every_recorded_query_is_built_as_it_was_sent() {
        let cases = cases(include_str!("../fixtures/requests/ccxt_static.json"));
        assert_eq!(cases.len(), 23);
        for case in cases {
            assert_eq!(built(&case["query"]).as_str(), case["query_encoded"].as_str().unwrap(), "{}", case["id"]);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_put_into_a_query_can_be_read_back(values in proptest::collection::vec(".*", 1..5)) {
            let query = values.iter().fold(Query::default(), |query, value| query.with("k", value));
            let read: Vec<String> = query.as_str().split('&').map(|pair| {
                let mut bytes = Vec::new();
                let mut rest = pair.strip_prefix("k=").unwrap().as_bytes();
                while let Some((first, after)) = rest.split_first() {
                    let is_hex = *first == b'%';
                    bytes.push(if is_hex { u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap() } else { *first });
                    rest = if is_hex { &after[2..] } else { after };
                }
                String::from_utf8(bytes).unwrap()
            }).collect();
            proptest::prop_assert_eq!(read, values);
            proptest::prop_assert!(!query.as_str().contains(['+', ' ', '(', ')']));
        }
    }

    #[test]
    fn values_are_encoded_as_the_exchange_wants_them() {
        let query = Query::default().with("symbol", "BTCUSDT,MXUSDT").with("network", "BNB Smart Chain(BEP20)");
        assert_eq!(query.as_str(), "symbol=BTCUSDT%2CMXUSDT&network=BNB%20Smart%20Chain%28BEP20%29");
    }

    #[test]
    fn the_signature_stands_last_and_covers_everything_before_it() {
        let signed = Query::default().with("symbol", "BTCUSDT").signed(&demo_pair(), 1_644_489_390_087, 5_000);
        let (before, signature) = signed.split_once("&signature=").unwrap();
        assert_eq!(before, "symbol=BTCUSDT&recvWindow=5000&timestamp=1644489390087");
        assert_eq!(signature, demo_pair().sign(before, ""));
    }
}
