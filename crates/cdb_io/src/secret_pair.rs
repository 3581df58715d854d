//! Secrets that change while services run: two files that belong together are read and replaced as one.
//!
//! Whoever replaces files holds an exclusive lock of the first of them, whoever reads them a shared one, so that nobody
//! sees half of a pair. The lock is the file's own, which a container sees as well whose mount is that one file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cdb_core::secret::Secret;
use rustix::fs::{FlockOperation, flock};

use crate::secret_file::{self, SecretError};

/// Longest wait for whoever has the files in hand; replacing them takes some milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks at a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// Times a file may be exchanged while it is being opened.
const OPENS_MAX: u32 = 1_000;

/// How a file gets its new content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Aside, synced and renamed, so that it is there whole or not at all; in place where the file is itself a mount.
    Auto,
    /// In the file as it is: a container whose mount is this one file sees nothing else.
    InPlace,
}

/// Reads two files that belong together.
///
/// # Errors
/// One of them is no usable secret, or somebody replaces them for longer than 5 s.
pub fn read(first: &Path, second: &Path) -> Result<(Secret, Secret), SecretError> {
    let held = lock(first, FlockOperation::NonBlockingLockShared)?;
    let pair = (secret_file::read(first)?, secret_file::read(second)?);
    drop(held);
    Ok(pair)
}

/// Reads one file that others may be replacing.
///
/// # Errors
/// As [`read`].
pub fn read_one(path: &Path) -> Result<Secret, SecretError> {
    let held = lock(path, FlockOperation::NonBlockingLockShared)?;
    let secret = secret_file::read(path)?;
    drop(held);
    Ok(secret)
}

/// Replaces files that belong together; owner and mode stay. What was not there is made, readable by its owner alone.
///
/// # Errors
/// A file cannot be written. What had been written by then is put back.
pub fn replace(files: &[(&Path, &[u8])], way: Way) -> io::Result<()> {
    let Some((first, _)) = files.first() else { return Ok(()) };
    let before: Vec<Option<Vec<u8>>> = files.iter().map(|(path, _)| content(path)).collect::<io::Result<_>>()?;
    let held = if before[0].is_some() {
        Some(lock(first, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::other)?)
    } else {
        None
    };
    let written = write_all(files, way);
    if written.is_err() {
        for ((path, _), before) in files.iter().zip(&before) {
            // As far as it goes: the first failure is the one to tell of.
            let _also_failed = match before {
                Some(bytes) if content(path).is_ok_and(|now| now.as_ref() != Some(bytes)) => in_place(path, bytes),
                Some(_) => Ok(()),
                None => fs::remove_file(path),
            };
        }
    }
    drop(held);
    written
}

fn content(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_all(files: &[(&Path, &[u8])], way: Way) -> io::Result<()> {
    let mut aside: Vec<(PathBuf, &Path, File)> = Vec::new();
    let mut mounted: Vec<(&Path, &[u8])> = Vec::new();
    for (path, bytes) in files {
        if way == Way::InPlace && path.exists() || is_mount(path) {
            mounted.push((path, bytes));
        } else {
            let prepared = prepare(path, bytes);
            match prepared {
                Ok((temporary, file)) => aside.push((temporary, path, file)),
                Err(error) => {
                    discard(&aside);
                    return Err(error);
                }
            }
        }
    }
    let moved = move_all(&aside, &mounted);
    if moved.is_err() {
        discard(&aside);
    }
    moved
}

fn move_all(aside: &[(PathBuf, &Path, File)], mounted: &[(&Path, &[u8])]) -> io::Result<()> {
    for (path, bytes) in mounted {
        in_place(path, bytes)?;
    }
    for (temporary, path, _locked) in aside {
        fs::rename(temporary, path)?;
    }
    for (_, path, _) in aside {
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn discard(aside: &[(PathBuf, &Path, File)]) {
    for (temporary, _, _) in aside {
        // It may have been renamed already.
        let _gone = fs::remove_file(temporary);
    }
}

/// The new content beside the file, synced, with the file's owner and mode, and locked like the file that it replaces.
fn prepare(path: &Path, bytes: &[u8]) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.new"));
    // Left by a run that was cut off.
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let filled = (|| {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(bytes)?;
        if let Ok(metadata) = fs::metadata(path) {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
                fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
            }
            file.set_permissions(fs::Permissions::from_mode(metadata.permissions().mode() & 0o777))?;
        }
        file.sync_all()
    })();
    match filled {
        Ok(()) => Ok((temporary, file)),
        Err(error) => {
            let _gone = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Writes into the file as it is; one that its owner may only read is made writable for the moment.
fn in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let is_locked = mode & 0o200 == 0 && OpenOptions::new().write(true).open(path).is_err();
    if is_locked {
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o200))?;
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(bytes)?;
        file.set_len(u64::try_from(bytes.len()).map_err(io::Error::other)?)?;
        file.sync_all()
    })();
    if is_locked {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    written
}

/// Whether something is mounted at this very file, so that nothing can be renamed over it.
fn is_mount(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    let mut mounts = String::new();
    let read = File::open("/proc/self/mountinfo").and_then(|mut file| file.read_to_string(&mut mounts));
    read.is_ok() && mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|mount| Path::new(mount) == path)
}

/// Opens a file and locks it; what was renamed over it meanwhile is opened anew.
fn lock(path: &Path, operation: FlockOperation) -> Result<File, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let deadline = Instant::now() + LOCK_WAIT;
    for _ in 0..OPENS_MAX {
        let file = secret_file::open(path)?;
        while let Err(error) = flock(&file, operation) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(unreadable(error.into()));
            }
            if Instant::now() > deadline {
                return Err(SecretError::Busy(path.to_owned()));
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        let (held, there) = (file.metadata().map_err(unreadable)?, fs::metadata(path).map_err(unreadable)?);
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(file);
        }
    }
    Err(SecretError::Busy(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nobody_sees_half_of_a_pair_whichever_way_it_is_replaced() {
        for way in [Way::Auto, Way::InPlace] {
            let dir = tempfile::tempdir().unwrap();
            let (first, second) = (dir.path().join("key"), dir.path().join("secret"));
            let pair = |n: u32| (format!("mxTESTONLY{n:06}"), format!("tests-only-{n:06}"));
            let put = |n: u32| {
                let (key, secret) = pair(n);
                replace(&[(&first, key.as_bytes()), (&second, secret.as_bytes())], way).unwrap();
            };
            put(0);
            let is_over = Arc::new(AtomicBool::new(false));
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let (first, second, is_over) = (first.clone(), second.clone(), Arc::clone(&is_over));
                    std::thread::spawn(move || {
                        let mut seen = std::collections::BTreeSet::new();
                        while !is_over.load(Ordering::Relaxed) {
                            let (key, secret) = read(&first, &second).unwrap();
                            let number = |text: &str| text.chars().rev().take(6).collect::<String>();
                            assert_eq!(number(key.expose()), number(secret.expose()), "{way:?}");
                            seen.insert(number(key.expose()));
                        }
                        seen.len()
                    })
                })
                .collect();
            for n in 1..=200 {
                put(n);
            }
            is_over.store(true, Ordering::Relaxed);
            let seen: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            assert!(seen > 3, "the readers saw {seen} pairs: they did not read while the files changed");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left aside");
        }
    }

    #[test]
    fn in_place_keeps_the_file_and_a_rename_does_not_and_both_keep_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "mxTESTONLY1-longer\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        let inode = || fs::metadata(&path).unwrap().ino();
        // What a mount of this one file still sees.
        let (before, mut seen_inside) = (inode(), File::open(&path).unwrap());
        replace(&[(&path, b"mxTESTONLY2")], Way::InPlace).unwrap();
        assert_eq!((inode(), mode_of(&path)), (before, 0o440));
        let mut text = String::new();
        seen_inside.read_to_string(&mut text).unwrap();
        assert_eq!(text, "mxTESTONLY2");
        replace(&[(&path, b"mxTESTONLY3")], Way::Auto).unwrap();
        assert_ne!(inode(), before);
        assert_eq!(mode_of(&path), 0o440);
        assert_eq!(read_one(&path).ok().unwrap().expose(), "mxTESTONLY3");
    }

    #[test]
    fn what_cannot_be_written_whole_leaves_everything_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("key"), dir.path().join("nowhere/secret"));
        fs::write(&first, "mxTESTONLY1").unwrap();
        assert!(replace(&[(&first, b"mxTESTONLY2"), (&second, b"tests-only-2")], Way::Auto).is_err());
        assert!(replace(&[(&first, b"mxTESTONLY2"), (&second, b"tests-only-2")], Way::InPlace).is_err());
        assert_eq!(fs::read_to_string(&first).unwrap(), "mxTESTONLY1");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_not_there_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("key"), dir.path().join("secret"));
        replace(&[(&first, b"mxTESTONLY1"), (&second, b"tests-only-1")], Way::InPlace).unwrap();
        assert_eq!((mode_of(&first), mode_of(&second)), (0o600, 0o600));
        assert!(read(&first, &second).is_ok());
    }
}
