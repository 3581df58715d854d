//! Marker secrets, and where they must not be: every form in which a text could leak, looked for in bytes.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use memchr::memmem;

/// One marker and the forms in which it could turn up.
struct Marker {
    name: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

/// Everything that must not turn up.
#[derive(Default)]
pub struct Canary {
    markers: Vec<Marker>,
    /// Where it turned up.
    hits: Vec<String>,
    /// Bytes that were looked through.
    looked_at: usize,
}

impl Canary {
    /// One more text that must not turn up.
    ///
    /// # Panics
    /// It is too short to be told from chance.
    pub fn watch(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 16, "{name} is too short for a marker");
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let json = serde_json::to_string(text).expect("text").trim_matches('"').to_owned();
        let percent = text.bytes().map(percent_encoded).collect::<String>();
        let mut forms = vec![
            ("as it is", text.as_bytes().to_vec()),
            ("in JSON", json.into_bytes()),
            ("in an address", percent.into_bytes()),
            ("in HEX", hex.to_uppercase().into_bytes()),
            ("in hex", hex.into_bytes()),
            ("as numbers", text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ").into_bytes()),
            ("in UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ];
        // Somewhere inside other bytes there are three ways to fall on base64's groups; the ends depend on neighbours.
        for lead in 0..3 {
            let bytes = [&b"xx"[..lead], text.as_bytes()].concat();
            for (form, engine) in [
                ("in base64", base64::engine::general_purpose::STANDARD_NO_PAD),
                ("in base64url", base64::engine::general_purpose::URL_SAFE_NO_PAD),
            ] {
                let encoded = engine.encode(&bytes);
                let from = if lead == 0 { 0 } else { 4 };
                forms.push((form, encoded.as_bytes()[from..encoded.len() - 4].to_vec()));
            }
        }
        forms.dedup_by(|one, other| one.1 == other.1);
        self.markers.push(Marker { name: name.to_owned(), forms });
    }

    /// Looks through what a place holds.
    pub fn look(&mut self, place: &str, bytes: &[u8]) {
        self.looked_at += bytes.len();
        for marker in &self.markers {
            for (form, needle) in &marker.forms {
                if memmem::find(bytes, needle).is_some() {
                    self.hits.push(format!("{} {form} in {place}", marker.name));
                }
            }
        }
    }

    /// Looks through every file below a directory, but not through what `passes_over` names; how many there were.
    ///
    /// # Panics
    /// A file cannot be read.
    pub fn look_below(&mut self, dir: &Path, passes_over: &dyn Fn(&Path) -> bool) -> usize {
        let mut left: Vec<PathBuf> = vec![dir.to_owned()];
        let mut count = 0;
        while let Some(path) = left.pop() {
            if passes_over(&path) {
                continue;
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                left.extend(fs::read_dir(&path).expect("a directory").filter_map(|entry| Some(entry.ok()?.path())));
            } else if metadata.is_file() {
                // What is written to all the time may be gone meanwhile.
                let Ok(bytes) = fs::read(&path) else { continue };
                self.look(&path.display().to_string(), &bytes);
                count += 1;
            }
        }
        count
    }

    /// Where markers turned up.
    #[must_use]
    pub fn hits(&self) -> &[String] {
        &self.hits
    }

    /// Bytes that were looked through.
    #[must_use]
    pub const fn looked_at(&self) -> usize {
        self.looked_at
    }
}

fn percent_encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}
