//! Secrets out of files (design §8): `<NAME>_FILE`, else `/run/secrets/<name>`, else, outside live mode, `<NAME>`.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cdb_core::report::Mode;
use cdb_core::secret::{SECRET_BYTES_MAX, Secret, SecretFault};
use rustix::fs::OFlags;
use thiserror::Error;

use crate::config::Environment;

/// Where containers find their secrets.
const MOUNTED: &str = "/run/secrets";

/// Why a secret cannot be had. Names the file or variable, never the content.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Set nowhere.
    #[error("is set nowhere: give it as a file in the variable of the same name with _FILE appended")]
    Absent,
    /// In the environment while trading real money.
    #[error("is set in the environment, which every child process and `docker inspect` can read; use a file")]
    InEnvironment,
    /// A file and the environment, which may be another secret.
    #[error("is set in the environment as well as by file {0}: remove one of them")]
    Twice(PathBuf),
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
    /// Nothing there.
    #[error("file {0} does not exist")]
    Missing(PathBuf),
    /// A link to nothing.
    #[error("file {0} is a symbolic link to nothing")]
    Dangling(PathBuf),
    /// Docker makes a directory where a mounted file is missing.
    #[error("file {0} is a directory (docker makes one where the file to be mounted is missing)")]
    Directory(PathBuf),
    /// A pipe, socket or device.
    #[error("file {0} is not a regular file")]
    NotAFile(PathBuf),
    /// Anybody could replace it.
    #[error("file {0} is writable by everybody: chmod o-w it, and rotate the secret")]
    WorldWritable(PathBuf),
    /// Somebody replaces it, and does not end.
    #[error("file {0} is held by whoever replaces it")]
    Busy(PathBuf),
    /// Not readable.
    #[error("file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where a secret is, before it is read: a service that notices changes looks there again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// In the environment, which does not change.
    Environment,
}

/// Loads a secret.
///
/// # Errors
/// See [`SecretError`].
pub fn load(environment: &Environment, name: &str, mode: Mode) -> Result<Secret, SecretError> {
    load_from(environment, name, mode, Path::new(MOUNTED))
}

/// Where a secret is to be read.
///
/// # Errors
/// It is set nowhere, twice, or where it must not be.
pub fn place(environment: &Environment, name: &str, mode: Mode) -> Result<Place, SecretError> {
    place_from(environment, name, mode, Path::new(MOUNTED))
}

fn load_from(environment: &Environment, name: &str, mode: Mode, mounted: &Path) -> Result<Secret, SecretError> {
    match place_from(environment, name, mode, mounted)? {
        Place::File(path) => {
            warn_of_readers(&path, mounted);
            read(&path)
        }
        Place::Environment => {
            let text = environment.text(name).ok_or(SecretError::Absent)?;
            Secret::parse(text.as_bytes()).map_err(SecretError::BadText)
        }
    }
}

fn place_from(environment: &Environment, name: &str, mode: Mode, mounted: &Path) -> Result<Place, SecretError> {
    let in_environment = environment.text(name).is_some();
    let given = environment.text(&format!("{name}_FILE")).map(PathBuf::from);
    let mounted = mounted.join(name.to_ascii_lowercase());
    // A link to nothing is there as well: what it was to name is missing, not unset.
    let file = given.or_else(|| fs::symlink_metadata(&mounted).is_ok().then_some(mounted));
    match (file, in_environment) {
        (Some(path), false) => Ok(Place::File(path)),
        (Some(path), true) => Err(SecretError::Twice(path)),
        (None, true) if mode == Mode::Live => Err(SecretError::InEnvironment),
        (None, true) => Ok(Place::Environment),
        (None, false) => Err(SecretError::Absent),
    }
}

/// Reads one secret file. It never waits, whatever the file is.
///
/// # Errors
/// See [`SecretError`].
pub fn read(path: &Path) -> Result<Secret, SecretError> {
    let file = open(path)?;
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let limit = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    Secret::parse(&bytes).map_err(|fault| SecretError::BadFile { path: path.to_owned(), fault })
}

/// Opens what is a regular file that not everybody can write.
pub(crate) fn open(path: &Path) -> Result<File, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    // Non-blocking: opening a pipe would wait for its writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => SecretError::Dangling(path.to_owned()),
        ErrorKind::NotFound => SecretError::Missing(path.to_owned()),
        // A socket cannot be opened at all.
        _ if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) => {
            SecretError::NotAFile(path.to_owned())
        }
        _ => unreadable(error),
    })?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(SecretError::Directory(path.to_owned()));
    }
    if !metadata.is_file() {
        return Err(SecretError::NotAFile(path.to_owned()));
    }
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(SecretError::WorldWritable(path.to_owned()));
    }
    Ok(file)
}

/// Others who can read it are worth a look; what is mounted has the mode that it has on the host.
fn warn_of_readers(path: &Path, mounted: &Path) {
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o7777).unwrap_or_default();
    if !path.starts_with(mounted) && mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{mode:04o}"), "others can read this secret: chmod 600 it");
    }
}

#[cfg(test)]
mod tests;
