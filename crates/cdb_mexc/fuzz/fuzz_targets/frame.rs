//! Any bytes as a data frame, any text as a text frame: read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _outcome = cdb_mexc::push::read_frame(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _control = cdb_mexc::push::read_text(text);
    }
});
