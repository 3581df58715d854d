//! Parameters of a request: from the query string, from a `k=v` body, or mixed; the query wins (exchange API §1).

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use crate::error::{Refusal, refuse};

/// Parsed parameters.
#[derive(Debug, Clone, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads query and body.
    #[must_use]
    pub fn parse(query: &str, body: &str) -> Self {
        let mut params = BTreeMap::new();
        for pair in body.split('&').chain(query.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            params.insert(decode(name), decode(value));
        }
        Self(params)
    }

    /// From a JSON object of scalars, as in `batchOrders`.
    #[must_use]
    pub fn from_json(object: &serde_json::Map<String, serde_json::Value>) -> Self {
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let present = object.iter().filter(|(_, value)| !value.is_null());
        Self(present.map(|(name, value)| (name.clone(), text(value))).collect())
    }

    /// A parameter that is there and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A parameter that must be there.
    ///
    /// # Errors
    /// 700004.
    pub fn needed(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| missing(name))
    }

    /// A decimal.
    ///
    /// # Errors
    /// 400 when it is none; exponents are refused.
    pub fn decimal(&self, name: &str) -> Result<Option<Decimal>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
        match Decimal::from_str_exact(text) {
            Ok(value) if is_plain => Ok(Some(value)),
            _ => Err(refuse(400, format!(" {name} is invalid"))),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn whole(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let parse = |text: &str| text.parse().map_err(|_| refuse(400, format!(" {name} is invalid")));
        self.get(name).map(parse).transpose()
    }
}

/// 700004 for a parameter.
#[must_use]
pub fn missing(name: &str) -> Refusal {
    refuse(700_004, format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed"))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let hex = (*byte == b'%').then(|| after.get(..2)).flatten().and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
