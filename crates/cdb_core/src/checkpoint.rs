//! Signed checkpoints of an audit chain: how many records it had, and which. Whoever keeps one can tell later whether
//! the chain was rolled back or rewritten, even with all hashes recomputed.
//!
//! The text is a signed note (C2SP `signed-note`, `tlog-checkpoint`), so that tools made for those can read it:
//!
//! ```text
//! cdb/cdb_execution
//! 41
//! <root of the Merkle tree, base64>
//! head <hash of record 41, hex>
//! time 2026-11-25T10:00:00.000Z
//!
//! — cdb <base64 of the key's id and the Ed25519 signature of everything above the blank line>
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::time::Timestamp;
use crate::tree::{Hash, hash_from_hex};

/// Ed25519 in the signed-note format.
const ALGORITHM: u8 = 1;
/// What a signature's line begins with.
const SIGNATURE: &str = "\u{2014} ";
/// Longest key name or origin, bytes.
const NAME_BYTES_MAX: usize = 200;
/// Length of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// How far a chain had come at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which chain: the key's name, a slash, the chain's directory.
    pub origin: String,
    /// Records, which is also the number of the last one.
    pub size: u64,
    /// Root of the Merkle tree over the records' hashes.
    pub root: Hash,
    /// Hash of the last record.
    pub head: Hash,
    /// When it was signed, by the signer's clock.
    pub at: Timestamp,
}

impl Checkpoint {
    /// The chain's directory, out of the origin.
    #[must_use]
    pub fn chain(&self) -> &str {
        self.origin.rsplit_once('/').map_or(self.origin.as_str(), |(_, chain)| chain)
    }

    fn text(&self) -> String {
        let (root, head) = (BASE64.encode(self.root), hex::encode(self.head));
        format!("{}\n{}\n{root}\nhead {head}\ntime {}\n", self.origin, self.size, self.at.to_rfc3339())
    }

    /// Reads exactly what [`Self::text`] writes.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split_terminator('\n');
        let checkpoint = Self {
            origin: lines.next()?.to_owned(),
            size: lines.next()?.parse().ok()?,
            root: BASE64.decode(lines.next()?).ok()?.try_into().ok()?,
            head: hash_from_hex(lines.next()?.strip_prefix("head ")?)?,
            at: Timestamp::parse_rfc3339(lines.next()?.strip_prefix("time ")?)?,
        };
        (checkpoint.text() == text && is_name(&checkpoint.origin)).then_some(checkpoint)
    }
}

/// Whether a text can be a key's name or an origin: visible, without blanks, `+` or control characters.
fn is_name(text: &str) -> bool {
    let is_fit = |character: char| !character.is_whitespace() && !character.is_control() && character != '+';
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(is_fit)
}

/// Why a key is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// Of another form.
    #[error("must be 64 hex digits (32 bytes); scripts/init-secrets makes one")]
    NotHex,
    /// No name.
    #[error("its name must be visible characters without blanks and +, 200 at most")]
    Name,
    /// Of another form.
    #[error("is no public key: expected one line <name>+<8 hex digits>+<base64>")]
    NotPublic,
    /// Damaged.
    #[error("is damaged: its id does not belong to its name and bytes")]
    WrongId,
    /// Another kind of key.
    #[error("is a key of another kind than Ed25519")]
    OtherAlgorithm,
}

/// First four bytes of SHA-256 over name, line end, algorithm and key.
fn key_id(name: &str, bytes: &[u8]) -> [u8; 4] {
    let digest: Hash =
        Sha256::new().chain_update(name).chain_update([b'\n', ALGORITHM]).chain_update(bytes).finalize().into();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// The key that signs checkpoints; no service but cdb_monitor has it.
pub struct CheckpointKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl CheckpointKey {
    /// Makes the key out of its secret seed.
    ///
    /// # Errors
    /// See [`KeyFault`].
    pub fn new(name: &str, secret: &Secret) -> Result<Self, KeyFault> {
        if !is_name(name) {
            return Err(KeyFault::Name);
        }
        let mut seed = Zeroizing::new([0_u8; 32]);
        hex::decode_to_slice(secret.expose(), seed.as_mut_slice()).map_err(|_| KeyFault::NotHex)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| KeyFault::NotHex)?;
        let bytes: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| KeyFault::NotHex)?;
        let public = PublicKey { id: key_id(name, &bytes), name: name.to_owned(), bytes };
        Ok(Self { pair, public })
    }

    /// What others verify with.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The origin of a chain under this key.
    #[must_use]
    pub fn origin(&self, chain: &str) -> String {
        format!("{}/{chain}", self.public.name)
    }

    /// Signs: the whole note, with its last line end.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.text();
        let mut signature = self.public.id.to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n{SIGNATURE}{} {}\n", self.public.name, BASE64.encode(signature))
    }
}

/// The public half, as `<name>+<id>+<base64>` (the signed-note format's verifier key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    id: [u8; 4],
    bytes: [u8; 32],
}

impl PublicKey {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ALGORITHM];
        bytes.extend_from_slice(&self.bytes);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id), BASE64.encode(bytes))
    }
}

impl FromStr for PublicKey {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        let text = text.trim();
        // Base64 may hold a plus as well.
        let mut parts = text.splitn(3, '+');
        let mut part = || parts.next().ok_or(KeyFault::NotPublic);
        let (name, id, bytes) = (part()?, part()?, part()?);
        let bytes = BASE64.decode(bytes).map_err(|_| KeyFault::NotPublic)?;
        let (algorithm, bytes) = bytes.split_first().ok_or(KeyFault::NotPublic)?;
        if *algorithm != ALGORITHM {
            return Err(KeyFault::OtherAlgorithm);
        }
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyFault::NotPublic)?;
        if !is_name(name) {
            return Err(KeyFault::Name);
        }
        if hex::encode(key_id(name, &bytes)) != id {
            return Err(KeyFault::WrongId);
        }
        Ok(Self { name: name.to_owned(), id: key_id(name, &bytes), bytes })
    }
}

/// Why a note is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoteFault {
    /// No note at all.
    #[error("is no signed note")]
    NotANote,
    /// Signed by somebody else, or by nobody.
    #[error("carries no signature of this key")]
    OtherKey,
    /// Forged or damaged.
    #[error("carries a signature that does not belong to its text")]
    BadSignature,
    /// Genuine, but no checkpoint.
    #[error("is signed, but is no checkpoint of an audit chain")]
    NotACheckpoint,
}

/// Checks a note's signature and reads its checkpoint. Signatures of other keys are passed over.
///
/// # Errors
/// See [`NoteFault`].
pub fn verify(note: &str, key: &PublicKey) -> Result<Checkpoint, NoteFault> {
    let text = signed_text(note, key)?;
    Checkpoint::parse(text).ok_or(NoteFault::NotACheckpoint)
}

/// The part of a note that this key signed.
fn signed_text<'a>(note: &'a str, key: &PublicKey) -> Result<&'a str, NoteFault> {
    let end = note.rfind("\n\n").and_then(|blank| blank.checked_add(1)).ok_or(NoteFault::NotANote)?;
    let (text, signatures) = note.split_at(end);
    let signatures = signatures.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
    let mut is_signed = false;
    for line in signatures.ok_or(NoteFault::NotANote)?.split('\n') {
        let (name, signature) =
            line.strip_prefix(SIGNATURE).and_then(|line| line.split_once(' ')).ok_or(NoteFault::NotANote)?;
        let signature = BASE64.decode(signature).map_err(|_| NoteFault::NotANote)?;
        let (id, signature) = signature.split_at_checked(4).ok_or(NoteFault::NotANote)?;
        if name != key.name || id != key.id {
            continue;
        }
        if is_signed || signature.len() != SIGNATURE_BYTES {
            return Err(NoteFault::NotANote);
        }
        let public = UnparsedPublicKey::new(&ED25519, key.bytes);
        public.verify(text.as_bytes(), signature).map_err(|_| NoteFault::BadSignature)?;
        is_signed = true;
    }
    if is_signed { Ok(text) } else { Err(NoteFault::OtherKey) }
}

/// The notes of a file that holds one after the other; blank lines between them are passed over.
#[must_use]
pub fn split_notes(text: &str) -> Vec<&str> {
    let mut notes = Vec::new();
    let (mut start, mut at, mut is_at_signatures) = (0_usize, 0_usize, false);
    for line in text.split_inclusive('\n') {
        let is_signature = line.starts_with(SIGNATURE);
        if is_at_signatures && !is_signature {
            notes.push(&text[start..at]);
            start = at;
        }
        is_at_signatures = is_signature;
        at = at.saturating_add(line.len());
        if line == "\n" && text[start..at].trim().is_empty() {
            start = at;
        }
    }
    if !text[start..].trim().is_empty() {
        notes.push(&text[start..]);
    }
    notes
}

#[cfg(test)]
mod tests;
