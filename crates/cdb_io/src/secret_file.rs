//! Secrets out of files (design §8): `<NAME>_FILE`, else `/run/secrets/<name>`, else, outside live mode, `<NAME>`.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cdb_core::report::Mode;
use cdb_core::secret::{SECRET_BYTES_MAX, Secret, SecretFault};
use thiserror::Error;

use crate::config::Environment;

/// Why a secret cannot be had. Names the file or variable, never the content.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Set nowhere.
    #[error("is set nowhere: give it as a file in the variable of the same name with _FILE appended")]
    Absent,
    /// In the environment while trading real money.
    #[error("is set in the environment, which every child process and `docker inspect` can read; use a file")]
    InEnvironment,
    /// The environment's text is no secret.
    #[error("in the environment {0}")]
    BadText(SecretFault),
    /// The file's bytes are no secret.
    #[error("file {path} {fault}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: SecretFault,
    },
    /// Not a regular file; docker makes a directory where a mounted file is missing.
    #[error("file {0} is not a regular file (docker makes a directory of a missing one)")]
    NotAFile(PathBuf),
    /// Anybody could replace it.
    #[error("file {0} is writable by everybody: chmod o-w it, and rotate the secret")]
    WorldWritable(PathBuf),
    /// Not readable.
    #[error("file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Loads a secret.
///
/// # Errors
/// See [`SecretError`].
pub fn load(environment: &Environment, name: &str, mode: Mode) -> Result<Secret, SecretError> {
    if let Some(path) = environment.text(&format!("{name}_FILE")) {
        return read(Path::new(path));
    }
    let mounted = Path::new("/run/secrets").join(name.to_ascii_lowercase());
    if mounted.exists() {
        return read(&mounted);
    }
    match environment.text(name) {
        None => Err(SecretError::Absent),
        Some(_) if mode == Mode::Live => Err(SecretError::InEnvironment),
        Some(text) => Secret::parse(text.as_bytes()).map_err(SecretError::BadText),
    }
}

/// Reads one secret file.
///
/// # Errors
/// See [`SecretError`].
pub fn read(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile(path.to_owned()));
    }
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(SecretError::WorldWritable(path.to_owned()));
    }
    let limit = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(unreadable)?;
    Secret::parse(&bytes).map_err(|fault| SecretError::BadFile { path: path.to_owned(), fault })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment::new(pairs.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn a_file_wins_over_the_environment_and_live_mode_refuses_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "from-file\n").unwrap();
        let both = environment(&[("MEXC_API_KEY", "from-env"), ("MEXC_API_KEY_FILE", path.to_str().unwrap())]);
        assert_eq!(load(&both, "MEXC_API_KEY", Mode::Live).ok().unwrap().expose(), "from-file");
        let only_env = environment(&[("MEXC_API_KEY", "from-env")]);
        assert_eq!(load(&only_env, "MEXC_API_KEY", Mode::Paper).ok().unwrap().expose(), "from-env");
        assert!(matches!(load(&only_env, "MEXC_API_KEY", Mode::Live), Err(SecretError::InEnvironment)));
        assert!(matches!(load(&environment(&[]), "MEXC_API_KEY", Mode::Paper), Err(SecretError::Absent)));
    }

    #[test]
    fn each_bad_file_has_its_own_message_naming_the_file_and_never_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let cases: [(&str, &[u8], u32, &str); 5] = [
            ("empty", b"", 0o600, "is empty"),
            ("two", b"marker1\nmarker2\n", 0o600, "more than one line"),
            ("placeholder", b"new_key\n", 0o600, "placeholder"),
            ("open", b"marker1", 0o602, "writable by everybody"),
            ("huge", &[b'm'; 5_000], 0o600, "longer than"),
        ];
        for (name, bytes, mode, expected) in cases {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let message = read(&path).err().unwrap().to_string();
            assert!(message.contains(expected) && message.contains(path.to_str().unwrap()), "{message}");
            assert!(!message.contains("marker"), "{message}");
        }
        assert!(matches!(read(dir.path()), Err(SecretError::NotAFile(_))));
        assert!(matches!(read(&dir.path().join("none")), Err(SecretError::Unreadable { .. })));
    }
}
