//! What a service does about the files of its exchange key (design §8): a changed pair is proven before it is used, half
//! of a change is waited out, and a pair that was refused is not asked about again.

use crate::secret::Secret;

/// For how long one changed file of the two waits for the other, ms. A rotation changes both; who puts a forgotten
/// secret right by hand changes one.
pub const HALF_MS_MAX: i64 = 10_000;
/// Advice to change the key from this age on, days.
pub const AGE_ADVISED_DAYS: i64 = 30;
/// The key is overdue from this age on, days; the exchange ends keys without an address list at this age.
pub const AGE_OVERDUE_DAYS: i64 = 90;

/// A key and its secret.
#[derive(Clone)]
pub struct KeyPair {
    /// Names the account.
    pub api_key: Secret,
    /// Signs.
    pub api_secret: Secret,
}

impl KeyPair {
    /// Whether this is the same pair.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.api_key.is_same(&other.api_key) && self.api_secret.is_same(&other.api_secret)
    }
}

/// What is to be done about what the files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing has changed.
    Keep,
    /// One of the two has changed: the other is on its way.
    Wait,
    /// Both have changed, or one for long: a signed read-only call shows whether they are a pair.
    Prove,
    /// This pair was refused already.
    Refused,
}

/// Decides by what is in use, what was refused last, and what the files hold for how long (ms) without a change.
#[must_use]
pub fn step(in_use: &KeyPair, refused: Option<&KeyPair>, seen: &KeyPair, unchanged_ms: i64) -> Step {
    if seen.is_same(in_use) {
        return Step::Keep;
    }
    if refused.is_some_and(|refused| refused.is_same(seen)) {
        return Step::Refused;
    }
    let is_half = seen.api_key.is_same(&in_use.api_key) || seen.api_secret.is_same(&in_use.api_secret);
    if is_half && unchanged_ms < HALF_MS_MAX { Step::Wait } else { Step::Prove }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, secret: &str) -> KeyPair {
        let secret_of = |text: &str| Secret::parse(text.as_bytes()).ok().unwrap();
        KeyPair { api_key: secret_of(key), api_secret: secret_of(secret) }
    }

    #[test]
    fn half_of_a_change_is_waited_out_and_a_whole_one_is_proven() {
        let in_use = pair("k1", "s1");
        let of = |key: &str, secret: &str, unchanged_ms| step(&in_use, None, &pair(key, secret), unchanged_ms);
        assert_eq!(of("k1", "s1", i64::MAX), Step::Keep);
        assert_eq!(of("k2", "s2", 0), Step::Prove);
        for (key, secret) in [("k2", "s1"), ("k1", "s2")] {
            assert_eq!(of(key, secret, HALF_MS_MAX - 1), Step::Wait);
            assert_eq!(of(key, secret, HALF_MS_MAX), Step::Prove);
        }
    }

    #[test]
    fn a_refused_pair_is_not_asked_about_again_and_its_verdict_ends_with_it() {
        let (in_use, refused) = (pair("k1", "s1"), pair("k2", "s2"));
        assert_eq!(step(&in_use, Some(&refused), &refused, i64::MAX), Step::Refused);
        assert_eq!(step(&in_use, Some(&refused), &pair("k3", "s3"), 0), Step::Prove);
        assert_eq!(step(&in_use, Some(&refused), &in_use, 0), Step::Keep);
    }
}
