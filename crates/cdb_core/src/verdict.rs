//! The signed answer to one order (design §3 "A verdict"). [`ApprovedOrder`] and [`ApprovedCancel`] come out of
//! [`verify`] alone: whoever holds one has proof that cdb_risk approved it.

use hmac::{Hmac, KeyInit, Mac};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::checks::CheckResult;
use crate::command::{Command, WIRE_VERSION};
use crate::ids::{ClOrdId, EntryId, Symbol};
use crate::inputs::Inputs;
use crate::money::{Notional, Price};
use crate::order::NewOrder;
use crate::reason::Reason;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Risk's answer before it is signed.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The order or cancel it answers.
    pub cl_ord_id: ClOrdId,
    /// The entry of `cdb:orders` it answers.
    pub entry: EntryId,
    /// `None` = approved.
    pub reason: Option<Reason>,
    /// Figures for a person.
    pub detail: String,
    /// Every check that was made, in order.
    pub checks: Vec<CheckResult>,
    /// The whole command; absent when it was malformed.
    pub command: Option<Command>,
    /// The reference price it was valued at.
    pub ref_price: Option<Price>,
    /// The order's value at the worst price, which an approval reserves.
    pub notional: Option<Notional>,
    /// Whether it only reduces a held position.
    pub is_exit: bool,
    /// Hash of the limits it was judged by.
    pub limits_hash: String,
    /// Identity of the Redis data set.
    pub epoch: String,
    /// When it was decided.
    pub ts: Timestamp,
    /// Not to be acted on at or after this instant.
    pub expires_at: Timestamp,
    /// What it was decided from, for a second opinion; absent where nobody records it.
    pub inputs: Option<Box<Inputs>>,
}

impl Verdict {
    /// Whether the order may go on.
    #[must_use]
    pub const fn is_approved(&self) -> bool {
        self.reason.is_none()
    }

    /// The exact bytes that are signed and published.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a verdict always serialises")
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &WIRE_VERSION)?;
        map.serialize_entry("cl_ord_id", &self.cl_ord_id)?;
        map.serialize_entry("entry", &self.entry)?;
        map.serialize_entry("decision", if self.is_approved() { "approved" } else { "rejected" })?;
        if let Some(reason) = self.reason {
            map.serialize_entry("reason", &reason)?;
        }
        map.serialize_entry("detail", &self.detail)?;
        map.serialize_entry("checks", &self.checks)?;
        if let Some(command) = &self.command {
            map.serialize_entry("command", command)?;
        }
        if let Some(price) = self.ref_price {
            map.serialize_entry("ref_price", &price)?;
        }
        if let Some(notional) = self.notional {
            map.serialize_entry("notional", &notional)?;
        }
        if self.is_exit {
            map.serialize_entry("is_exit", &true)?;
        }
        map.serialize_entry("limits_hash", &self.limits_hash)?;
        map.serialize_entry("epoch", &self.epoch)?;
        map.serialize_entry("ts", &self.ts)?;
        map.serialize_entry("expires_at", &self.expires_at)?;
        if let Some(inputs) = &self.inputs {
            map.serialize_entry("inputs", inputs)?;
        }
        map.end()
    }
}

/// Signs and checks verdicts with the verdict key.
#[derive(Clone)]
pub struct VerdictKey(Hmac<Sha256>);

impl VerdictKey {
    /// Prepares the key once.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length"))
    }

    /// Lower-case hex HMAC-SHA256 of the exact bytes.
    #[must_use]
    pub fn sign(&self, json: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(json);
        hex::encode(mac.finalize().into_bytes())
    }

    fn is_valid(&self, json: &[u8], signature_hex: &str) -> bool {
        // Compared as text: an upper-case or padded signature is another signature.
        bool::from(self.sign(json).as_bytes().ct_eq(signature_hex.as_bytes()))
    }
}

/// An order with proof that risk approved it.
#[derive(Debug, Clone)]
pub struct ApprovedOrder {
    order: NewOrder,
    limits_hash: String,
    epoch: String,
    is_exit: bool,
    decided_at: Timestamp,
    expires_at: Timestamp,
    digest: String,
}

impl ApprovedOrder {
    /// The order.
    #[must_use]
    pub const fn order(&self) -> &NewOrder {
        &self.order
    }
    /// Hash of the limits it was judged by; the permit must carry the same.
    #[must_use]
    pub fn limits_hash(&self) -> &str {
        &self.limits_hash
    }
    /// The data set it was judged in; the permit must carry the same.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }
    /// Whether risk found that it only reduces a held position.
    #[must_use]
    pub const fn is_exit(&self) -> bool {
        self.is_exit
    }
    /// When risk decided.
    #[must_use]
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }
    /// Which verdict approved it: see [`digest`].
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
    /// The earlier of the verdict's and the order's own expiry.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.order.expires_at.map_or(self.expires_at, |own| own.min(self.expires_at))
    }
}

/// A cancel with proof that risk passed it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovedCancel {
    cl_ord_id: ClOrdId,
    target: CancelTarget,
}

/// What a cancel is aimed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelTarget {
    /// One order.
    Order(ClOrdId),
    /// Every open order, of one symbol or of all.
    All(Option<Symbol>),
}

impl ApprovedCancel {
    /// The cancel's own id.
    #[must_use]
    pub const fn cl_ord_id(&self) -> &ClOrdId {
        &self.cl_ord_id
    }
    /// What it is aimed at.
    #[must_use]
    pub const fn target(&self) -> &CancelTarget {
        &self.target
    }
}

/// What a genuine verdict says.
#[derive(Debug, Clone)]
pub enum Verified {
    /// Go on with the order.
    Approved(Box<ApprovedOrder>),
    /// Cancel.
    Cancel(ApprovedCancel),
    /// Nothing to do.
    Rejected(ClOrdId),
}

/// Why bytes are not a genuine verdict.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadVerdict {
    /// The signature does not belong to these bytes.
    #[error("the signature does not belong to these bytes")]
    Signature,
    /// Genuine but not understood.
    #[error("signed but not readable: {0}")]
    Unreadable(String),
}

#[derive(Deserialize)]
struct Wire<'a> {
    v: i64,
    cl_ord_id: ClOrdId,
    decision: String,
    #[serde(borrow)]
    command: Option<&'a RawValue>,
    #[serde(default)]
    is_exit: bool,
    limits_hash: String,
    epoch: String,
    ts: Timestamp,
    expires_at: Timestamp,
}

/// Names a verdict by its exact bytes: lower-case hex SHA-256. The audit trail's sends and verdicts are matched by it.
#[must_use]
pub fn digest(json: &[u8]) -> String {
    hex::encode(Sha256::digest(json))
}

/// Verifies signature and content of a verdict. Its expiry is judged by the gate, on Redis's clock.
///
/// # Errors
/// See [`BadVerdict`]; nothing is read from bytes whose signature is wrong.
pub fn verify(json: &[u8], signature_hex: &str, key: &VerdictKey) -> Result<Verified, BadVerdict> {
    if !key.is_valid(json, signature_hex) {
        return Err(BadVerdict::Signature);
    }
    let unreadable = |text: String| BadVerdict::Unreadable(text);
    let wire: Wire<'_> = serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
    if wire.v != WIRE_VERSION {
        return Err(unreadable(format!("wire version {} is not known", wire.v)));
    }
    match wire.decision.as_str() {
        "rejected" => return Ok(Verified::Rejected(wire.cl_ord_id)),
        "approved" => {}
        _ => return Err(unreadable("decision is neither approved nor rejected".to_owned())),
    }
    let raw = wire.command.ok_or_else(|| unreadable("approved without a command".to_owned()))?;
    let command = Command::parse(raw.get().as_bytes()).map_err(|bad| unreadable(bad.fault.to_string()))?;
    if command.cl_ord_id() != &wire.cl_ord_id {
        return Err(unreadable("cl_ord_id differs between verdict and command".to_owned()));
    }
    Ok(match command {
        Command::New(order) => Verified::Approved(Box::new(ApprovedOrder {
            order,
            limits_hash: wire.limits_hash,
            epoch: wire.epoch,
            is_exit: wire.is_exit,
            decided_at: wire.ts,
            expires_at: wire.expires_at,
            digest: digest(json),
        })),
        Command::Cancel { cl_ord_id, orig_cl_ord_id } => {
            Verified::Cancel(ApprovedCancel { cl_ord_id, target: CancelTarget::Order(orig_cl_ord_id) })
        }
        Command::CancelAll { cl_ord_id, symbol } => {
            Verified::Cancel(ApprovedCancel { cl_ord_id, target: CancelTarget::All(symbol) })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"v":1,"type":"new","cl_ord_id":"a-1","strategy":"s","symbol":"BTCUSDT","side":"BUY","ord_type":"LIMIT","tif":"GTC","qty":"0.002","price":"60000.00","ts":1700000000000}"#;

    fn key() -> VerdictKey {
        VerdictKey::new(&Secret::parse(b"a-made-up-test-key").ok().unwrap())
    }

    fn verdict(reason: Option<Reason>) -> Verdict {
        Verdict {
            cl_ord_id: ClOrdId::parse("a-1").unwrap(),
            entry: EntryId::parse("1700000000000-0").unwrap(),
            reason,
            detail: "within every limit".into(),
            checks: Vec::new(),
            command: Some(Command::parse(ORDER.as_bytes()).unwrap()),
            ref_price: Price::parse("60000").ok(),
            notional: Notional::parse("120").ok(),
            is_exit: false,
            limits_hash: "0123456789abcdef".into(),
            epoch: "e1".into(),
            ts: Timestamp::from_millis(1_700_000_000_001),
            expires_at: Timestamp::from_millis(1_700_000_005_001),
            inputs: None,
        }
    }

    #[test]
    fn the_golden_verdict_has_these_bytes() {
        let expected = format!(
            r#"{{"v":1,"cl_ord_id":"a-1","entry":"1700000000000-0","decision":"rejected","reason":"order_too_large","detail":"within every limit","checks":[],"command":{ORDER},"ref_price":"60000","notional":"120","limits_hash":"0123456789abcdef","epoch":"e1","ts":1700000000001,"expires_at":1700000005001}}"#
        );
        assert_eq!(verdict(Some(Reason::OrderTooLarge)).to_json(), expected);
    }

    #[test]
    fn only_a_genuine_approval_becomes_an_approved_order() {
        let json = verdict(None).to_json();
        let signature = key().sign(json.as_bytes());
        let Ok(Verified::Approved(approved)) = verify(json.as_bytes(), &signature, &key()) else { panic!("genuine") };
        assert_eq!(approved.order().cl_ord_id.as_str(), "a-1");
        assert_eq!(approved.expires_at(), Timestamp::from_millis(1_700_000_005_001));

        let refused = verdict(Some(Reason::Throttled)).to_json();
        let signature = key().sign(refused.as_bytes());
        assert!(matches!(verify(refused.as_bytes(), &signature, &key()), Ok(Verified::Rejected(_))));
    }

    #[test]
    fn changing_any_byte_of_the_json_or_the_signature_is_noticed() {
        let json = verdict(None).to_json();
        let signature = key().sign(json.as_bytes());
        for position in 0..json.len() {
            let mut forged = json.clone().into_bytes();
            forged[position] ^= 1;
            assert_eq!(verify(&forged, &signature, &key()).err(), Some(BadVerdict::Signature));
        }
        for bad in [signature.to_uppercase(), String::new(), format!("{signature}0"), "0".repeat(64)] {
            assert_eq!(verify(json.as_bytes(), &bad, &key()).err(), Some(BadVerdict::Signature));
        }
        let other = VerdictKey::new(&Secret::parse(b"another-key").ok().unwrap());
        assert_eq!(verify(json.as_bytes(), &signature, &other).err(), Some(BadVerdict::Signature));
    }

    #[test]
    fn a_signed_verdict_for_another_id_or_version_is_not_acted_on() {
        for (from, to) in
            [("{\"v\":1,\"cl_ord_id\":\"a-1\"", "{\"v\":1,\"cl_ord_id\":\"a-2\""), ("{\"v\":1,\"cl", "{\"v\":9,\"cl")]
        {
            let json = verdict(None).to_json().replacen(from, to, 1);
            let signature = key().sign(json.as_bytes());
            assert!(matches!(verify(json.as_bytes(), &signature, &key()), Err(BadVerdict::Unreadable(_))));
        }
    }
}
