//! A JSON object read strictly, field by field: every fault names its field, unknown and repeated fields are faults.
//!
//! Numbers are kept as their text (`RawValue`), so a decimal never passes through a float (design §3).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::money::DecimalFault;

/// Most bytes a command may have.
pub const OBJECT_BYTES_MAX: usize = 4_096;

/// What is wrong with a field, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// The field's name, or `json` when the whole text is unreadable.
    pub field: String,
    /// What is wrong with it; never repeats the value.
    pub text: String,
}

impl FieldFault {
    /// Builds a fault.
    pub fn new(field: &str, text: impl Into<String>) -> Self {
        // A field name comes from outside: it is shortened and stripped of control characters before it is shown.
        let field = field.chars().filter(|c| !c.is_control()).take(40).collect();
        Self { field, text: text.into() }
    }
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field '{}' {}", self.field, self.text)
    }
}

/// The fields of one object that were not taken yet.
#[derive(Debug)]
pub struct Fields<'a>(BTreeMap<String, &'a RawValue>);

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format!("field '{}' is given twice", name.escape_default())));
            }
            fields.insert(name, value);
        }
        Ok(Fields(fields))
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

impl<'a> Fields<'a> {
    /// Reads the outermost object.
    ///
    /// # Errors
    /// A fault on `json` when the bytes are not one JSON object of at most [`OBJECT_BYTES_MAX`] bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FieldFault> {
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(FieldFault::new("json", format!("is longer than {OBJECT_BYTES_MAX} bytes")));
        }
        serde_json::from_slice(bytes).map_err(|error| FieldFault::new("json", format!("is not readable: {error}")))
    }

    /// Takes a field's raw text; `null` counts as absent.
    fn take(&mut self, name: &str) -> Option<&'a str> {
        self.0.remove(name).map(RawValue::get).filter(|text| *text != "null")
    }

    fn needed(&mut self, name: &str) -> Result<&'a str, FieldFault> {
        self.take(name).ok_or_else(|| FieldFault::new(name, "is missing"))
    }

    /// A text field through `parse`; `shape` says what a valid text looks like.
    ///
    /// # Errors
    /// Missing, not a string, or refused by `parse`.
    pub fn text<T>(&mut self, name: &str, shape: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, FieldFault> {
        let raw = self.needed(name)?;
        string(name, raw).and_then(|text| parse(&text).ok_or_else(|| FieldFault::new(name, format!("is not {shape}"))))
    }

    /// As [`Self::text`], for a field that may be absent.
    ///
    /// # Errors
    /// Not a string, or refused by `parse`.
    pub fn text_if_present<T>(
        &mut self,
        name: &str,
        shape: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, FieldFault> {
        if self.has(name) { self.text(name, shape, parse).map(Some) } else { Ok(None) }
    }

    /// A decimal given as a string, or as a JSON number that is read digit by digit.
    ///
    /// # Errors
    /// Missing, of another type, or refused by `parse`.
    pub fn decimal<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, DecimalFault>) -> Result<T, FieldFault> {
        let raw = self.needed(name)?;
        let text = if raw.starts_with('"') { string(name, raw)? } else { raw.to_owned() };
        parse(&text).map_err(|fault| FieldFault::new(name, fault.to_string()))
    }

    /// A whole number of zero or more.
    ///
    /// # Errors
    /// Missing or not such a number.
    pub fn whole(&mut self, name: &str) -> Result<i64, FieldFault> {
        let raw = self.needed(name)?;
        let digits = !raw.is_empty() && raw.len() <= 18 && raw.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { raw.parse().ok() } else { None };
        number.ok_or_else(|| FieldFault::new(name, "is not a whole number of zero or more"))
    }

    /// `true`, `false` or absent (= false).
    ///
    /// # Errors
    /// Another value.
    pub fn flag(&mut self, name: &str) -> Result<bool, FieldFault> {
        match self.take(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(FieldFault::new(name, "is not true or false")),
        }
    }

    /// Whether the field is there and not `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|raw| raw.get() != "null")
    }

    /// Ends the reading: what nobody took is refused by name.
    ///
    /// # Errors
    /// The first unknown field, in the order of the alphabet.
    pub fn finish(self) -> Result<(), FieldFault> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(FieldFault::new(&name, "is not known here")),
        }
    }
}

fn string(name: &str, raw: &str) -> Result<String, FieldFault> {
    serde_json::from_str::<String>(raw).map_err(|_| FieldFault::new(name, "is not a string"))
}
