//! The audit chain read back from its files, line by line: a trail of any length is verified in the memory of its
//! longest line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cdb_core::audit::{self, Record, Verifier};

/// Longest line that is read, bytes. No record comes near it; a longer line is none.
pub const LINE_MAX: usize = 16 * 1024 * 1024;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// File name.
    pub file: &'a str,
    /// Line number from 1.
    pub line: usize,
}

/// The chain's files in the order of their days, with their days.
///
/// # Errors
/// The directory cannot be read.
pub fn files(dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for item in fs::read_dir(dir).with_context(|| format!("reading audit directory {}", dir.display()))? {
        let item = item?;
        if let Some(day) = item.file_name().to_str().and_then(audit::day_in_file_name) {
            files.push((day.to_owned(), item.path()));
        }
    }
    // Of a day that is there in both forms, which a crash while it is compressed can leave, the original counts.
    files.sort();
    files.dedup_by(|later, earlier| later.0 == earlier.0);
    Ok(files)
}

/// Verifies all files of a chain; `each` sees every readable record.
///
/// # Errors
/// A file cannot be read. Faults of the chain itself are in the verifier.
pub fn verify_dir(dir: &Path, mut each: impl FnMut(&Record<'_>)) -> anyhow::Result<Verifier> {
    verify_places(dir, |_, record| each(record))
}

/// As [`verify_dir`]; `each` also sees where the record stands.
///
/// # Errors
/// As [`verify_dir`].
pub fn verify_places(dir: &Path, mut each: impl FnMut(Place<'_>, &Record<'_>)) -> anyhow::Result<Verifier> {
    let files = files(dir)?;
    let mut verifier = Verifier::default();
    for (index, (day, path)) in files.iter().enumerate() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut lines = lines_of(path).with_context(|| format!("reading {}", path.display()))?;
        let is_last = index + 1 == files.len();
        verify_lines(&mut verifier, &mut lines, name, day, is_last, &mut each)
            .with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(verifier)
}

/// The lines of a day's file, compressed or not.
///
/// # Errors
/// It cannot be opened.
pub fn lines_of(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    if is_compressed(path) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::new(file)?)));
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}

/// Whether a day's file is compressed.
#[must_use]
pub fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == audit::COMPRESSED.trim_start_matches('.'))
}

fn verify_lines(
    verifier: &mut Verifier,
    lines: &mut impl BufRead,
    file: &str,
    day: &str,
    is_last: bool,
    each: &mut impl FnMut(Place<'_>, &Record<'_>),
) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut line = 0;
    let bound = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    loop {
        match lines.by_ref().take(bound).read_until(b'\n', &mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) if file.ends_with(audit::COMPRESSED) => {
                verifier.damaged(file, line);
                break;
            }
            Err(error) => return Err(error),
        }
        line += 1;
        let place = Place { file, line };
        match bytes.strip_suffix(b"\n") {
            Some(bytes) => verifier.read_line(file, day, line, bytes, &mut |record| each(place, record)),
            None if bytes.len() < LINE_MAX => verifier.torn(file, line, is_last),
            None => {
                // Too long for a record; what is left of the line is skipped.
                verifier.read_line(file, day, line, b"", &mut |_| {});
                lines.skip_until(b'\n')?;
            }
        }
        bytes.clear();
    }
    verifier.end_file(file, line, is_last);
    Ok(())
}
