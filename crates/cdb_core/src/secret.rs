//! What may never be printed: a secret has no `Debug`, `Display` or `Serialize`, only a fingerprint (design §8).

use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest secret, bytes; a larger file is something else.
pub const SECRET_BYTES_MAX: usize = 4_096;

/// Texts that templates leave in secret files.
const PLACEHOLDERS: [&str; 8] =
    ["new_key", "new_secret", "changeme", "change_me", "your_api_key", "your_api_secret", "placeholder", "todo"];

/// Why bytes are not a usable secret. The text never repeats them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SecretFault {
    /// Nothing, or nothing but a line end.
    #[error("is empty")]
    Empty,
    /// Larger than [`SECRET_BYTES_MAX`].
    #[error("is longer than 4096 bytes")]
    TooLong,
    /// More than one line.
    #[error("holds more than one line")]
    SeveralLines,
    /// A space, tab or control character.
    #[error("holds a blank or a control character")]
    Blank,
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// What a template put there.
    #[error("holds a placeholder instead of a secret")]
    Placeholder,
}

/// A secret text, wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Reads a secret out of a file's bytes: one trailing LF or CRLF and a leading BOM are dropped, nothing else.
    ///
    /// # Errors
    /// See [`SecretFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretFault> {
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(SecretFault::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SecretFault::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return Err(SecretFault::Empty);
        }
        if text.contains('\n') {
            return Err(SecretFault::SeveralLines);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(SecretFault::Blank);
        }
        let lowered = text.to_ascii_lowercase();
        if PLACEHOLDERS.contains(&lowered.as_str()) || (text.starts_with('<') && text.ends_with('>')) {
            return Err(SecretFault::Placeholder);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The secret itself. Every caller hands it to the one thing that needs it and keeps no copy.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first 8 hex digits of its SHA-256: the only thing that may be shown.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes())).chars().take(8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_and_a_bom_are_dropped() {
        for bytes in [&b"s3cret"[..], b"s3cret\n", b"s3cret\r\n", b"\xef\xbb\xbfs3cret\n"] {
            assert_eq!(Secret::parse(bytes).ok().map(|secret| secret.expose().to_owned()), Some("s3cret".to_owned()));
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_with_its_kind() {
        let cases: [(&[u8], SecretFault); 9] = [
            (b"", SecretFault::Empty),
            (b"\n", SecretFault::Empty),
            (b"one\ntwo\n", SecretFault::SeveralLines),
            (b"s3cret\n\n", SecretFault::SeveralLines),
            (b" s3cret", SecretFault::Blank),
            (b"s3cret\r", SecretFault::Blank),
            (b"\xff", SecretFault::NotText),
            (b"NEW_KEY\n", SecretFault::Placeholder),
            (b"<paste here>", SecretFault::Blank),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Secret::parse(bytes).err(), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_only_thing_shown() {
        let secret = Secret::parse(b"s3cret").ok().unwrap();
        assert_eq!(secret.fingerprint().len(), 8);
        assert!(!secret.fingerprint().contains("s3cret"));
    }
}
