//! How a secret gets in without being seen: without echo on a terminal, otherwise line by line; never by an argument,
//! which the list of processes and the shell's history would keep.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use cdb_core::key_change::KeyPair;
use cdb_core::secret::{SECRET_BYTES_MAX, Secret};
use cdb_io::secret_file;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::arguments::PairSource;
use crate::outcome::{CONFIGURATION, FAILURE, Result, USAGE, WithCode as _, end};

/// The pair out of files, standard input or the terminal.
pub fn pair(source: &PairSource, what: &str) -> Result<KeyPair> {
    let (api_key, api_secret) = match (&source.key_file, &source.secret_file) {
        (Some(key), Some(secret)) => (from_file(key)?, from_file(secret)?),
        _ => {
            let is_terminal = std::io::stdin().is_terminal();
            if !source.stdin && !is_terminal {
                return Err(end(USAGE, "there is no terminal to ask on: use --stdin, or --key-file and --secret-file"));
            }
            let ask = |what: String| if is_terminal { hidden(&what) } else { line(&what) };
            (ask(format!("{what} API key"))?, ask(format!("{what} API secret"))?)
        }
    };
    if api_key.is_same(&api_secret) {
        return Err(end(USAGE, "key and secret are the same text"));
    }
    Ok(KeyPair { api_key, api_secret })
}

fn from_file(path: &Path) -> Result<Secret> {
    secret_file::read(path).code(CONFIGURATION)
}

fn parsed(what: &str, bytes: &[u8]) -> Result<Secret> {
    Secret::parse(bytes).map_err(|fault| end(USAGE, format!("{what} {fault}")))
}

fn line(what: &str) -> Result<Secret> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 2));
    let limit = u64::try_from(SECRET_BYTES_MAX + 2).unwrap_or(u64::MAX);
    std::io::stdin().lock().take(limit).read_until(b'\n', &mut bytes).code(FAILURE)?;
    parsed(what, &bytes)
}

/// Puts a terminal back as it was.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
        eprintln!();
    }
}

fn hidden(what: &str) -> Result<Secret> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).code(FAILURE)?;
    let mut silent = before.clone();
    // Signals too: the terminal must be put back before this process ends.
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    silent.special_codes[SpecialCodeIndex::VMIN] = 1;
    silent.special_codes[SpecialCodeIndex::VTIME] = 0;
    eprint!("{what} (not shown): ");
    std::io::stderr().flush().code(FAILURE)?;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).code(FAILURE)?;
    let restored = Restored(before);
    let bytes = typed(&mut stdin.lock())?;
    drop(restored);
    parsed(what, &bytes)
}

/// What is typed up to the end of the line, with backspace and Ctrl-U as everybody expects them.
fn typed(keys: &mut impl std::io::Read) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    let mut key = [0_u8; 1];
    loop {
        keys.read_exact(&mut key).code(FAILURE)?;
        match key[0] {
            b'\r' | b'\n' => return Ok(bytes),
            0x03 | 0x04 => return Err(end(FAILURE, "nothing was changed")),
            0x7f | 0x08 => drop(bytes.pop()),
            0x15 => bytes.clear(),
            byte if bytes.len() <= SECRET_BYTES_MAX => bytes.push(byte),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_can_be_put_right_and_given_up() {
        let of = |mut keys: &[u8]| typed(&mut keys).ok().map(|bytes| bytes.to_vec());
        assert_eq!(of(b"mxTESTX\x7fONLY\r").as_deref(), Some(&b"mxTESTONLY"[..]));
        assert_eq!(of(b"wrong\x15right\n").as_deref(), Some(&b"right"[..]));
        assert_eq!(of(b"half\x03"), None);
        assert_eq!(of(b"no end"), None);
    }
}
