//! Sealed days of an audit chain, compressed once they are old enough. The bytes that come out again are compared with
//! those that went in before the original is removed; a crash at any point leaves at least one whole copy.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cdb_core::audit::COMPRESSED;
use cdb_core::time::UtcDay;

use crate::audit_files::files;

/// How hard is tried; a day's records shrink to about a tenth at any level.
const LEVEL: i32 = 3;
/// Bytes that are compared at once.
const BUFFER: usize = 64 * 1024;

/// Compresses the chain's days that ended at least `days` days before `today`, never the last one.
///
/// # Errors
/// A file cannot be read or written; every day is then still whole, in one form or the other.
pub fn compress_older(dir: &Path, today: UtcDay, days: i64) -> anyhow::Result<Vec<PathBuf>> {
    let mut done = Vec::new();
    let mut chain = files(dir)?;
    chain.pop();
    for (day, path) in chain {
        let is_old = UtcDay::parse(&day).is_some_and(|day| today.number() - day.number() >= days);
        if is_old && path.extension().is_some_and(|extension| extension == "jsonl") {
            compress(dir, &path).with_context(|| format!("compressing {}", path.display()))?;
            done.push(path);
        }
    }
    Ok(done)
}

fn compress(dir: &Path, path: &Path) -> anyhow::Result<()> {
    let compressed = path.with_extension(format!("jsonl{COMPRESSED}"));
    let unfinished = path.with_extension(format!("jsonl{COMPRESSED}.unfinished"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&unfinished)?;
    zstd::stream::copy_encode(File::open(path)?, &mut file, LEVEL)?;
    file.flush()?;
    file.sync_all()?;
    anyhow::ensure!(is_same(path, &unfinished)?, "what comes out again is not what went in");
    fs::rename(&unfinished, &compressed)?;
    File::open(dir)?.sync_all()?;
    fs::remove_file(path)?;
    File::open(dir)?.sync_all()?;
    Ok(())
}

fn is_same(plain: &Path, compressed: &Path) -> io::Result<bool> {
    let mut plain = BufReader::new(File::open(plain)?);
    let mut unpacked = zstd::stream::read::Decoder::new(File::open(compressed)?)?;
    let (mut one, mut other) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let length = fill(&mut plain, &mut one)?;
        if fill(&mut unpacked, &mut other)? != length || one[..length] != other[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
