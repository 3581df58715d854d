//! Who is logged in. A session exists in this process alone: a restart logs everybody out. Attempts with a wrong token
//! are bounded, and the bound holds for the right token as well (design §3, operator users).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cdb_core::secret::Secret;
use cdb_core::time::Timestamp;
use cdb_core::window::SlidingCount;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// How long a session lasts, ms.
pub const SESSION_MS: i64 = 8 * 3_600_000;
/// Sessions at one time; the oldest ends when one more begins.
const SESSIONS_MAX: usize = 16;
/// Attempts with a wrong token in [`FAILURE_WINDOW_MS`].
const FAILURES_MAX: u64 = 5;
/// See [`FAILURES_MAX`].
pub const FAILURE_WINDOW_MS: i64 = 60_000;
/// Longest name of an operator.
const ACTOR_CHARS_MAX: usize = 32;

type Digest32 = [u8; 32];

/// One logged-in operator.
#[derive(Clone)]
pub struct Session {
    /// Whose.
    pub actor: String,
    /// What a page must send with each action; another site cannot know it.
    csrf: String,
    began_at: Timestamp,
}

impl Session {
    /// For the page of this session.
    pub fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Whether a page knows this session's token.
    pub fn is_csrf(&self, given: &str) -> bool {
        self.csrf.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// The answer to an attempt.
pub enum LogIn {
    /// In: the cookie's value.
    Granted(String),
    /// Not the token.
    Wrong,
    /// Too many wrong ones: nobody is let in for a while.
    TooMany,
    /// No token is set, so nobody can log in.
    NotConfigured,
}

/// All sessions.
pub struct Sessions {
    /// Of the token; digests of equal length are compared, so that time tells nothing of it.
    digest: Option<Digest32>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// By the digest of the cookie's value.
    open: BTreeMap<Digest32, Session>,
    failures: SlidingCount,
}

impl Sessions {
    /// None open.
    pub fn new(token: Option<&Secret>) -> Self {
        let digest = token.map(|token| Sha256::digest(token.expose().as_bytes()).into());
        let inner = Inner { open: BTreeMap::new(), failures: SlidingCount::new(FAILURE_WINDOW_MS) };
        Self { digest, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One attempt.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn log_in(&self, token: &str, actor: &str, now: Timestamp) -> anyhow::Result<LogIn> {
        let Some(digest) = self.digest else { return Ok(LogIn::NotConfigured) };
        let mut inner = self.inner();
        if inner.failures.count(now) >= FAILURES_MAX {
            return Ok(LogIn::TooMany);
        }
        let given: Digest32 = Sha256::digest(token.as_bytes()).into();
        if !bool::from(digest.ct_eq(&given)) {
            inner.failures.record(now);
            return Ok(LogIn::Wrong);
        }
        let (cookie, csrf) = (random()?, random()?);
        inner.open.retain(|_, session| now.since_ms(session.began_at) < SESSION_MS);
        if inner.open.len() >= SESSIONS_MAX {
            let oldest = inner.open.iter().min_by_key(|(_, session)| session.began_at).map(|(key, _)| *key);
            oldest.map(|key| inner.open.remove(&key));
        }
        let session = Session { actor: actor.to_owned(), csrf, began_at: now };
        inner.open.insert(key(&cookie), session);
        Ok(LogIn::Granted(cookie))
    }

    /// The session of a cookie's value, while it lasts.
    pub fn of(&self, cookie: &str, now: Timestamp) -> Option<Session> {
        let inner = self.inner();
        inner.open.get(&key(cookie)).filter(|session| now.since_ms(session.began_at) < SESSION_MS).cloned()
    }

    /// Ends a session.
    pub fn log_out(&self, cookie: &str) {
        self.inner().open.remove(&key(cookie));
    }
}

fn key(cookie: &str) -> Digest32 {
    Sha256::digest(cookie.as_bytes()).into()
}

/// 32 random bytes as hex.
fn random() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Whether a text may stand as an operator's name in records.
pub fn is_actor(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-', '@'].contains(&c);
    !text.is_empty() && text.len() <= ACTOR_CHARS_MAX && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions::new(Some(&Secret::parse(b"right-token").ok().unwrap()))
    }
    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_session_lasts_eight_hours_and_ends_by_logging_out() {
        let sessions = sessions();
        let LogIn::Granted(cookie) = sessions.log_in("right-token", "anna", at(0)).unwrap() else { panic!("in") };
        assert_eq!(sessions.of(&cookie, at(SESSION_MS - 1)).unwrap().actor, "anna");
        assert!(sessions.of(&cookie, at(SESSION_MS)).is_none());
        assert!(sessions.of("another", at(0)).is_none());
        sessions.log_out(&cookie);
        assert!(sessions.of(&cookie, at(1)).is_none());
    }

    #[test]
    fn five_wrong_tokens_in_a_minute_close_the_door_even_to_the_right_one() {
        let sessions = sessions();
        for attempt in 0..5 {
            assert!(matches!(sessions.log_in("guess", "x", at(attempt)).unwrap(), LogIn::Wrong));
        }
        assert!(matches!(sessions.log_in("right-token", "x", at(59_999)).unwrap(), LogIn::TooMany));
        assert!(matches!(sessions.log_in("right-token", "x", at(60_000)).unwrap(), LogIn::Granted(_)));
    }

    #[test]
    fn without_a_token_nobody_gets_in_not_even_with_an_empty_one() {
        assert!(matches!(Sessions::new(None).log_in("", "x", at(0)).unwrap(), LogIn::NotConfigured));
    }

    #[test]
    fn sessions_are_bounded_and_each_page_has_a_token_of_its_own() {
        let sessions = sessions();
        let log_in = |ms| match sessions.log_in("right-token", "x", at(ms)).unwrap() {
            LogIn::Granted(cookie) => cookie,
            LogIn::Wrong | LogIn::TooMany | LogIn::NotConfigured => panic!("in"),
        };
        let first = log_in(0);
        let others: Vec<String> = (1..=16).map(log_in).collect();
        assert!(sessions.of(&first, at(20)).is_none(), "the oldest makes room");
        let one = sessions.of(&others[0], at(20)).unwrap();
        let other = sessions.of(&others[1], at(20)).unwrap();
        assert!(one.is_csrf(one.csrf()) && !one.is_csrf(other.csrf()) && !one.is_csrf(""));
    }

    #[test]
    fn a_name_that_could_be_taken_for_something_else_is_none() {
        for name in ["", "a b", "<b>", "x\ny", &"n".repeat(33)] {
            assert!(!is_actor(name), "{name}");
        }
        assert!(is_actor("anna.b-2@desk"));
    }
}
