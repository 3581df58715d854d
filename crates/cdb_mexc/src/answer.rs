//! What a status, a code, a body, or silence means: one table (exchange API §12, `docs/mexc.md`).
//!
//! Decided by HTTP status and code alone; `msg` can be in any language. What is not known to mean "not executed"
//! is in doubt.

use cdb_core::reason::VenueRefusal;

use crate::wire::{Envelope, read_object};

/// Longest part of an exchange's text that is passed on.
const TEXT_MAX: usize = 200;

/// A reply as it came: status, `Retry-After`, body.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, seconds.
    pub retry_after_s: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a call did not bring what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it means.
    pub meaning: Meaning,
    /// HTTP status of the answer that says so; `None` when none came, or when a success could not be read.
    pub status: Option<u16>,
    /// For a person; never a URL or a header.
    pub text: String,
}

/// What trouble means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Not executed and will not be.
    Refused(VenueRefusal),
    /// It may have been executed.
    Unknown,
    /// 429: not before this many seconds. Whether it was executed is to be confirmed.
    RateLimited {
        /// Seconds to wait.
        wait_s: u64,
    },
    /// 418: banned for this many seconds. Not executed.
    Banned {
        /// Seconds to wait.
        wait_s: u64,
    },
    /// The order is not there, or not visible yet.
    NotFound,
    /// The listen key is unknown or lapsed; a new one is to be made.
    NoListenKey,
}

/// Waits when the exchange does not say how long (exchange API §4.3: bans last 2 minutes and more).
const RATE_LIMIT_WAIT_S: u64 = 10;
/// See [`RATE_LIMIT_WAIT_S`].
const BAN_WAIT_S: u64 = 600;

impl Reply {
    /// The body of a success, or what kind of trouble it is.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn success(self) -> Result<Vec<u8>, Trouble> {
        let envelope = read_object::<Envelope>(&self.body).ok();
        let code_text = envelope.as_ref().and_then(|envelope| envelope.code.as_ref()).map(|code| code.0.clone());
        let code = code_text.as_ref().and_then(|text| text.parse::<i64>().ok());
        let is_success_code = matches!(code, None | Some(0 | 200)) && (code_text.is_none() || code.is_some());
        if self.status == 200 && is_success_code {
            return Ok(self.body);
        }
        let message = envelope.and_then(|envelope| envelope.msg).unwrap_or_default();
        let message: String = message.trim().chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect();
        let text = match code {
            Some(code) => format!("HTTP {} code {code}: {message}", self.status),
            None => format!("HTTP {} without a readable error", self.status),
        };
        Err(Trouble { meaning: meaning(self.status, self.retry_after_s, code), status: Some(self.status), text })
    }
}

/// The table.
pub(crate) fn meaning(status: u16, retry_after_s: Option<u64>, code: Option<i64>) -> Meaning {
    match (status, code) {
        (418, _) => Meaning::Banned { wait_s: retry_after_s.unwrap_or(BAN_WAIT_S) },
        (429, _) | (_, Some(429)) => Meaning::RateLimited { wait_s: retry_after_s.unwrap_or(RATE_LIMIT_WAIT_S) },
        (500.., _) => Meaning::Unknown,
        (_, Some(code)) => of_code(code),
        (_, None) => Meaning::Unknown,
    }
}

/// Codes that are known to mean "not executed", by what the sender may do about them; anything else is unknown.
const fn of_code(code: i64) -> Meaning {
    use VenueRefusal as R;
    match code {
        -2013 | -2011 => Meaning::NotFound,
        730_708 => Meaning::NoListenKey,
        10101 | 30004 | 30005 => Meaning::Refused(R::InsufficientBalance),
        -1128 | 400 | 30002 | 30003 | 30029 | 30032 | 30087 | 33333 | 44444 | 700_004 | 700_005 | 700_008 | 700_013
        | 730_002 => Meaning::Refused(R::OrderRules),
        -1121 | 10004 | 10007 | 30000 | 30014 | 30016 | 30020 | 30021 | 70011 | 730_001 => {
            Meaning::Refused(R::SymbolNotTradable)
        }
        26 | 30001 | 30010 | 30018 | 30019 | 30025 | 30027 | 30028 | 30041 | 30051 | 20001 | 730_003 => {
            Meaning::Refused(R::NotPossibleNow)
        }
        30069 => Meaning::Refused(R::TooManyOpenOrders),
        401 | 402 | 403 | 406 | 602 | 10015 | 10072 | 700_001 | 700_002 | 700_006 | 700_007 => {
            Meaning::Refused(R::Auth)
        }
        10073 | 700_003 => Meaning::Refused(R::Clock),
        10001 | 10098 | 60005 | 200_006 | 200_010 | 730_100 => Meaning::Refused(R::Account),
        11444 => Meaning::Refused(R::Maintenance),
        _ => Meaning::Unknown,
    }
}

/// No reply, or not all of one.
#[must_use]
pub fn silence(error: reqwest::Error) -> Trouble {
    // The error carries the URL, and with it the signature.
    let error = error.without_url();
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the answer broke off"
    };
    Trouble { meaning: Meaning::Unknown, status: None, text: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(status: u16, body: &str) -> Trouble {
        Reply { status, retry_after_s: None, body: body.as_bytes().to_vec() }.success().expect_err(body)
    }

    #[test]
    fn every_recorded_error_has_its_meaning() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../fixtures/errors/errors.json")).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let status = u16::try_from(case["http_status"].as_u64().unwrap_or(400)).unwrap();
            let body = case["body_text"].as_str().map_or_else(|| case["body"].to_string(), str::to_owned);
            let meaning = trouble(status, &body).meaning;
            let expected = match case["id"].as_str().unwrap() {
                "order-does-not-exist" => Meaning::NotFound,
                "signature" => Meaning::Refused(VenueRefusal::Auth),
                "timestamp-window" => Meaning::Refused(VenueRefusal::Clock),
                "symbol-not-for-api" => Meaning::Refused(VenueRefusal::SymbolNotTradable),
                "oversold" => Meaning::Refused(VenueRefusal::InsufficientBalance),
                "account-restricted-chinese" => Meaning::Refused(VenueRefusal::NotPossibleNow),
                "rate-limit" => Meaning::RateLimited { wait_s: RATE_LIMIT_WAIT_S },
                "listen-key-string-code" => Meaning::NoListenKey,
                "service-unavailable" | "waf-403-html" => Meaning::Unknown,
                _ => Meaning::Refused(VenueRefusal::OrderRules),
            };
            assert_eq!(meaning, expected, "{}", case["id"]);
        }
    }

    #[test]
    fn success_is_200_without_an_error_code() {
        for body in
            ["{}", "[]", r#"{"code":0}"#, r#"{"code":200,"data":[]}"#, r#"{"code":"200"}"#, "[{\"code\":30002}]"]
        {
            assert!(Reply { status: 200, retry_after_s: None, body: body.into() }.success().is_ok(), "{body}");
        }
        assert_eq!(trouble(200, r#"{"code":"30005"}"#).meaning, Meaning::Refused(VenueRefusal::InsufficientBalance));
        assert_eq!(trouble(200, r#"{"code":"???"}"#).meaning, Meaning::Unknown);
    }

    #[test]
    fn every_5xx_html_body_and_unknown_code_is_in_doubt() {
        for (status, body) in [
            (500, r#"{"code":30005}"#),
            (503, r#"{"code":-1003}"#),
            (504, "<html>"),
            (403, "<HTML>"),
            (400, ""),
            (400, r#"{"code":987654}"#),
            (302, ""),
        ] {
            assert_eq!(trouble(status, body).meaning, Meaning::Unknown, "{status} {body}");
        }
    }

    #[test]
    fn waits_are_taken_from_retry_after_or_assumed() {
        let reply = |status| Reply { status, retry_after_s: Some(7), body: Vec::new() }.success().unwrap_err().meaning;
        assert_eq!(reply(429), Meaning::RateLimited { wait_s: 7 });
        assert_eq!(reply(418), Meaning::Banned { wait_s: 7 });
        assert_eq!(trouble(418, "").meaning, Meaning::Banned { wait_s: BAN_WAIT_S });
    }
}
