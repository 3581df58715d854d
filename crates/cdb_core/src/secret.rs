//! What may never be printed: a secret has no `Debug`, `Display` or `Serialize`, only a fingerprint (design §8).

use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest secret, bytes; a larger file is something else.
pub const SECRET_BYTES_MAX: usize = 4_096;

/// Texts that templates leave in secret files; compared in small letters with `_` for `-`.
const PLACEHOLDERS: [&str; 12] = [
    "new_key",
    "new_secret",
    "changeme",
    "change_me",
    "your_api_key",
    "your_api_secret",
    "your_key",
    "your_secret",
    "placeholder",
    "todo",
    "password",
    "secret",
];

/// Why bytes are not a usable secret. The text never repeats them: a position and a code point at most.
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
    #[error("holds a blank or a control character (U+{code_point:04X} as character {at})")]
    Blank {
        /// Which character, from 1.
        at: usize,
        /// What it is.
        code_point: u32,
    },
    /// A letter that headers and passwords are read differently with, or one that nobody sees.
    #[error("holds a character beyond visible ASCII (U+{code_point:04X} as character {at})")]
    NotAscii {
        /// Which character, from 1.
        at: usize,
        /// What it is.
        code_point: u32,
    },
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
    /// What is left is visible ASCII: every header, password prompt and URL agrees on what that is.
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
        for (at, character) in (1..).zip(text.chars()) {
            let code_point = u32::from(character);
            if character.is_whitespace() || character.is_control() {
                return Err(SecretFault::Blank { at, code_point });
            }
            if !character.is_ascii_graphic() {
                return Err(SecretFault::NotAscii { at, code_point });
            }
        }
        if is_placeholder(text) {
            return Err(SecretFault::Placeholder);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The secret itself. Every caller hands it to the one thing that needs it and keeps no copy.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the same text.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }

    /// The first 8 hex digits of its SHA-256: the only thing that may be shown.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes())).chars().take(8).collect()
    }
}

fn is_placeholder(text: &str) -> bool {
    let lowered = text.to_ascii_lowercase().replace('-', "_");
    let is_filler = text.len() > 1 && text.bytes().all(|byte| byte.eq_ignore_ascii_case(&b'x') || byte == b'*');
    PLACEHOLDERS.contains(&lowered.as_str()) || is_filler || (text.starts_with('<') && text.ends_with('>'))
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
        let blank = |at, code_point| SecretFault::Blank { at, code_point };
        let cases: [(&[u8], SecretFault); 17] = [
            (b"", SecretFault::Empty),
            (b"\n", SecretFault::Empty),
            (b"\r\n", SecretFault::Empty),
            (b"\xef\xbb\xbf\n", SecretFault::Empty),
            (b"one\ntwo\n", SecretFault::SeveralLines),
            (b"s3cret\n\n", SecretFault::SeveralLines),
            (b" s3cret", blank(1, 0x20)),
            (b"s3cret\r", blank(7, 0x0d)),
            (b"s3c\tret", blank(4, 0x09)),
            (b"s3cret\0", blank(7, 0)),
            (b"\xff", SecretFault::NotText),
            ("s3crét".as_bytes(), SecretFault::NotAscii { at: 5, code_point: 0xe9 }),
            ("s3\u{200b}cret".as_bytes(), SecretFault::NotAscii { at: 3, code_point: 0x200b }),
            (b"NEW-KEY\n", SecretFault::Placeholder),
            (b"XXXXXXXX", SecretFault::Placeholder),
            (b"<paste-here>", SecretFault::Placeholder),
            (b"<paste here>", blank(7, 0x20)),
        ];
        for (bytes, expected) in cases {
            let fault = Secret::parse(bytes).err();
            assert_eq!(fault, Some(expected), "{bytes:?}");
            let text = expected.to_string();
            assert!(!text.contains("s3c"), "{text}");
        }
    }

    #[test]
    fn every_character_of_passwords_and_urls_is_allowed() {
        let text: String = ('!'..='~').collect();
        assert_eq!(Secret::parse(text.as_bytes()).ok().unwrap().expose(), text);
    }

    #[test]
    fn the_fingerprint_is_the_only_thing_shown() {
        let secret = Secret::parse(b"s3cret").ok().unwrap();
        assert_eq!(secret.fingerprint().len(), 8);
        assert!(!secret.fingerprint().contains("s3cret"));
    }
}
