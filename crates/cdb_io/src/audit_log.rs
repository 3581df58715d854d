//! The audit chain on disk: one writer a service, group-committed. Whoever writes waits until its record is durable;
//! one fdatasync serves all that wait. A failed write or sync ends the writer, and with it the process (design §7).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use cdb_core::audit::{self, Chain, DAY_OPENED, DAY_SEALED, Durable, Pending, Record, TORN_TAIL, Verifier};
use cdb_core::time::{Timestamp, UtcDay};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::clock;

/// Records that may wait for the disk at one time; a full queue makes writers wait.
const QUEUE: usize = 1_024;

/// What to record.
#[derive(Debug)]
pub struct Entry {
    /// `ORDER_SUBMITTED`, ...
    pub event_type: &'static str,
    /// A person, when one caused it.
    pub actor: Option<String>,
    /// The order as commanded.
    pub order: Option<Value>,
    /// What came of it.
    pub result: Option<Value>,
}

struct Job {
    entry: Entry,
    done: oneshot::Sender<Durable>,
}

/// The handle by which a service writes its chain.
#[derive(Clone)]
pub struct AuditLog {
    jobs: mpsc::Sender<Job>,
}

/// The writer's thread ended: nothing more can be recorded, so nothing more may be done.
#[derive(Debug, thiserror::Error)]
#[error("the audit trail cannot be written any more")]
pub struct AuditEnded;

impl AuditLog {
    /// Records that wait for the disk.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.jobs.max_capacity().saturating_sub(self.jobs.capacity())
    }

    /// Records one entry and waits until it is on disk.
    ///
    /// # Errors
    /// [`AuditEnded`].
    pub async fn record(&self, entry: Entry) -> Result<Durable, AuditEnded> {
        let (done, wait) = oneshot::channel();
        self.jobs.send(Job { entry, done }).await.map_err(|_| AuditEnded)?;
        wait.await.map_err(|_| AuditEnded)
    }
}

/// Opens a service's chain in `<dir>/<service>`, verifies what is there, and starts its writer.
///
/// # Errors
/// The directory cannot be written, another writer holds it, or the chain is broken.
pub fn open(dir: &Path, service: &str, build: &str) -> anyhow::Result<(AuditLog, WriterEnd)> {
    let mut writer = Writer::open(&dir.join(service), service, build)?;
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (failed, failure) = oneshot::channel();
    std::thread::Builder::new()
        .name("audit".to_owned())
        .spawn(move || {
            let outcome = writer.run(queue);
            // The lock is free before anybody learns of the end.
            drop(writer);
            // Nobody listens any more once the process ends.
            let _unheard = failed.send(outcome);
        })
        .context("starting the audit writer")?;
    Ok((AuditLog { jobs }, WriterEnd(failure)))
}

/// The end of a writer.
pub struct WriterEnd(oneshot::Receiver<anyhow::Result<()>>);

impl WriterEnd {
    /// Waits until every handle is gone and all is written, or until the writer fails.
    ///
    /// # Errors
    /// A write or sync failed.
    pub async fn wait(self) -> anyhow::Result<()> {
        self.0.await.unwrap_or_else(|_| bail!("the audit writer panicked"))
    }
}

struct Writer {
    dir: PathBuf,
    chain: Chain,
    day: UtcDay,
    file: File,
    /// Held for the writer's life: a second writer cannot take it.
    _lock: File,
}

impl Writer {
    fn open(dir: &Path, service: &str, build: &str) -> anyhow::Result<Self> {
        let place = || format!("audit directory {}", dir.display());
        if !dir.exists() {
            fs::create_dir_all(dir).with_context(place)?;
            fs::set_permissions(dir, Permissions::from_mode(0o750)).with_context(place)?;
        }
        let lock = append_only(&dir.join("writer.lock")).with_context(place)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("{}: another process writes it", place()))?;
        let torn = move_torn_tail_aside(dir)?;
        let verifier = verify_dir(dir, |_| {})?;
        if let Some(fault) = verifier.faults().first() {
            bail!("{}: {} line {}: {}", place(), fault.file, fault.line, fault.text);
        }
        let today = clock::now().day();
        let last = last_day(dir)?;
        let day = last.map_or(today, |last| last.max(today));
        let mut writer = Self {
            chain: Chain::resumed(service, build, verifier.next_seq(), verifier.head()),
            day,
            file: append_only(&dir.join(audit::file_name(day)))?,
            dir: dir.to_owned(),
            _lock: lock,
        };
        writer.begin(&verifier, last, torn)?;
        Ok(writer)
    }

    /// Seals an older day, opens today's, and records a torn tail.
    fn begin(&mut self, verifier: &Verifier, last: Option<UtcDay>, torn: Option<Value>) -> anyhow::Result<()> {
        if !verifier.is_sealed()
            && let Some(last) = last
            && last < self.day
        {
            let seal = self.seal(last);
            append_synced(&self.dir.join(audit::file_name(last)), seal.as_bytes())?;
        }
        if self.file.metadata()?.len() == 0 {
            let opened = self.open_day();
            self.write(opened.as_bytes())?;
        }
        if let Some(torn) = torn {
            let (line, _) = self.chain.append(TORN_TAIL, None, None, Some(&torn), clock::now());
            self.write(line.as_bytes())?;
        }
        File::open(&self.dir)?.sync_all().context("making the audit file's name durable")
    }

    fn open_day(&mut self) -> String {
        let result = json!({"day": self.day.to_string(), "previous_head": self.chain.head()});
        self.chain.append(DAY_OPENED, None, None, Some(&result), clock::now().max(self.day.start())).0
    }

    fn seal(&mut self, day: UtcDay) -> String {
        let result = json!({"day": day.to_string(), "records": self.chain.next_seq()});
        let end_of_day = day.start().plus_ms(UtcDay::MS - 1);
        self.chain.append(DAY_SEALED, None, None, Some(&result), end_of_day).0
    }

    fn run(&mut self, mut queue: mpsc::Receiver<Job>) -> anyhow::Result<()> {
        let mut jobs = Vec::new();
        let mut batch = Vec::new();
        while queue.blocking_recv_many(&mut jobs, QUEUE) > 0 {
            for Job { entry, done } in jobs.drain(..) {
                let now = clock::now();
                if now.day() > self.day {
                    self.flush(&mut batch)?;
                    self.roll_to(now.day())?;
                }
                let (line, pending) = self.record(&entry, now);
                batch.push((line, pending, done));
            }
            self.flush(&mut batch)?;
        }
        Ok(())
    }

    /// Makes a batch durable and tells those that wait.
    fn flush(&mut self, batch: &mut Vec<(String, Pending, oneshot::Sender<Durable>)>) -> anyhow::Result<()> {
        let bytes: Vec<u8> = batch.iter().flat_map(|(line, ..)| line.as_bytes()).copied().collect();
        self.write(&bytes)?;
        for (_, pending, done) in batch.drain(..) {
            // The writer of a record may have given up; the record stands all the same.
            let _unheard = done.send(pending.synced());
        }
        Ok(())
    }

    fn record(&mut self, entry: &Entry, now: Timestamp) -> (String, Pending) {
        let (actor, order, result) = (entry.actor.as_deref(), entry.order.as_ref(), entry.result.as_ref());
        self.chain.append(entry.event_type, actor, order, result, now)
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if !bytes.is_empty() {
            self.file.write_all(bytes).context("writing the audit trail")?;
            self.file.sync_data().context("syncing the audit trail")?;
        }
        Ok(())
    }

    fn roll_to(&mut self, day: UtcDay) -> anyhow::Result<()> {
        let seal = self.seal(self.day);
        self.write(seal.as_bytes())?;
        self.day = day;
        self.file = append_only(&self.dir.join(audit::file_name(day)))?;
        let opened = self.open_day();
        self.write(opened.as_bytes())?;
        File::open(&self.dir)?.sync_all().context("making the audit file's name durable")
    }
}

fn append_only(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

fn append_synced(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = append_only(path)?;
    file.write_all(bytes).and_then(|()| file.sync_data()).with_context(|| format!("writing {}", path.display()))
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
    files.sort();
    Ok(files)
}

fn last_day(dir: &Path) -> anyhow::Result<Option<UtcDay>> {
    Ok(files(dir)?.pop().and_then(|(day, _)| UtcDay::parse(&day)))
}

/// Verifies all files of a chain; `each` sees every readable record.
///
/// # Errors
/// A file cannot be read. Faults of the chain itself are in the verifier.
pub fn verify_dir(dir: &Path, mut each: impl FnMut(&Record<'_>)) -> anyhow::Result<Verifier> {
    let files = files(dir)?;
    let mut verifier = Verifier::default();
    for (index, (day, path)) in files.iter().enumerate() {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        verifier.read_file(name, day, &bytes, index + 1 == files.len(), &mut each);
    }
    Ok(verifier)
}

/// Moves one torn last line of the last file aside, keeping its bytes; what to record about it.
fn move_torn_tail_aside(dir: &Path) -> anyhow::Result<Option<Value>> {
    let Some((_, path)) = files(dir)?.pop() else { return Ok(None) };
    let bytes = fs::read(&path)?;
    let keep = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let torn = &bytes[keep..];
    if torn.is_empty() {
        return Ok(None);
    }
    let aside = path.with_extension(format!("jsonl.torn-{keep}"));
    append_synced(&aside, torn)?;
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(u64::try_from(keep)?)?;
    file.sync_all()?;
    let name = aside.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Some(json!({"bytes": torn.len(), "moved_to": name})))
}

#[cfg(test)]
mod tests;
