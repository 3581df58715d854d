//! The audit chain on disk: one writer a service, group-committed. Whoever writes waits until its record is durable;
//! one fdatasync serves all that wait. A failed write or sync ends the writer, and with it the process (design §7).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cdb_core::audit::{self, Chain, DAY_OPENED, DAY_SEALED, Durable, Pending, TORN_TAIL};
use cdb_core::time::{Timestamp, UtcDay};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::audit_compress::compress_older;
use crate::audit_files::{LINE_MAX, files, verify_dir};
use crate::clock;
use crate::config::{BUILD, ServiceConfig};

/// Records that may wait for the disk at one time; a full queue makes writers wait.
const QUEUE: usize = 1_024;

/// How long records may be written and not yet on disk when nobody waits for them. Each sync of one service is a wait
/// for every other on the same disk.
const UNWAITED: Duration = Duration::from_millis(200);

/// Those whom one sync has let go come back at once with their next record. They are waited for, this share of a sync's
/// own length at most, so that they share the next sync and not the one after.
const GATHER_SHARE: u32 = 8;
/// And never longer than this.
const GATHER_MAX: Duration = Duration::from_millis(1);

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

impl Entry {
    /// Something that the service did or saw by itself.
    #[must_use]
    pub const fn of(event_type: &'static str, result: Value) -> Self {
        Self { event_type, actor: None, order: None, result: Some(result) }
    }
    /// By this person.
    #[must_use]
    pub fn by(self, actor: &str) -> Self {
        Self { actor: Some(actor.to_owned()), ..self }
    }
}

struct Job {
    entry: Entry,
    /// Absent when nobody waits for the disk.
    done: Option<oneshot::Sender<Durable>>,
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
        self.jobs.send(Job { entry, done: Some(done) }).await.map_err(|_| AuditEnded)?;
        wait.await.map_err(|_| AuditEnded)
    }

    /// Records one entry without waiting for the disk, where it is soon after; only for room in the queue, when that is
    /// full.
    ///
    /// # Errors
    /// [`AuditEnded`].
    pub async fn note(&self, entry: Entry) -> Result<(), AuditEnded> {
        self.jobs.send(Job { entry, done: None }).await.map_err(|_| AuditEnded)
    }
}

/// Opens the chain of a service's instance, compresses its old days in the background, and starts its writer.
///
/// # Errors
/// As [`open`].
pub fn open_for(config: &ServiceConfig) -> anyhow::Result<(AuditLog, WriterEnd)> {
    let dir = config.audit_dir.join(config.audit_name());
    let mut writer = Writer::open(&dir, &config.audit_name(), BUILD, Box::new(clock::now))?;
    if let Some(days) = config.audit_compress_after {
        writer.compress_after(days)?;
    }
    writer.start()
}

/// Opens a service's chain in `<dir>/<service>`, verifies what is there, and starts its writer.
///
/// # Errors
/// The directory cannot be written, another writer holds it, or the chain is broken.
pub fn open(dir: &Path, service: &str, build: &str) -> anyhow::Result<(AuditLog, WriterEnd)> {
    Writer::open(&dir.join(service), service, build, Box::new(clock::now))?.start()
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

/// What tells a writer the time.
type Now = Box<dyn Fn() -> Timestamp + Send>;

struct Writer {
    dir: PathBuf,
    chain: Chain,
    day: UtcDay,
    file: File,
    now: Now,
    /// Since when something is written and not yet on disk.
    unsynced: Option<Instant>,
    /// How many waited for the last sync, and how long it took.
    last_sync: (usize, Duration),
    /// Is told each new day.
    compressor: Option<std::sync::mpsc::Sender<UtcDay>>,
    /// Held for the writer's life: a second writer cannot take it.
    _lock: File,
}

/// Lines that wait for one sync, and those who wait for them.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    waiting: Vec<(Pending, oneshot::Sender<Durable>)>,
}

impl Writer {
    fn open(dir: &Path, service: &str, build: &str, now: Now) -> anyhow::Result<Self> {
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
        let today = now().day();
        let last = files(dir)?.pop().and_then(|(day, _)| UtcDay::parse(&day));
        // A clock that went back does not reopen a day: its file goes on.
        let day = last.map_or(today, |last| last.max(today));
        let mut chain = Chain::resumed(service, build, verifier.next_seq(), verifier.head());
        // Before the new day's file is there: whenever this is cut short, the older day is still the last one.
        if let Some(last) = last.filter(|last| *last < day && !verifier.is_sealed()) {
            let seal = seal(&mut chain, last);
            append_synced(&dir.join(audit::file_name(last)), seal.as_bytes())?;
        }
        let file = append_only(&dir.join(audit::file_name(day)))?;
        let mut writer = Self {
            chain,
            day,
            file,
            now,
            dir: dir.to_owned(),
            unsynced: None,
            last_sync: (0, Duration::ZERO),
            compressor: None,
            _lock: lock,
        };
        if writer.file.metadata()?.len() == 0 {
            writer.open_day(last.filter(|last| *last < day))?;
        }
        if let Some(torn) = torn {
            let (line, _) = writer.chain.append(TORN_TAIL, None, None, Some(&torn), (writer.now)());
            writer.write(line.as_bytes())?;
        }
        writer.sync_names()?;
        Ok(writer)
    }

    fn start(mut self) -> anyhow::Result<(AuditLog, WriterEnd)> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (failed, failure) = oneshot::channel();
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                let outcome = waiting.block_on(self.run(queue));
                // The lock is free before anybody learns of the end.
                drop(self);
                // Nobody listens any more once the process ends.
                let _unheard = failed.send(outcome);
            })
            .context("starting the audit writer")?;
        Ok((AuditLog { jobs }, WriterEnd(failure)))
    }

    /// Compresses the days that are this old, now and whenever a new day begins, on a thread of its own.
    fn compress_after(&mut self, days: i64) -> anyhow::Result<()> {
        let (tell, told) = std::sync::mpsc::channel();
        let dir = self.dir.clone();
        let work = move || {
            for today in told {
                match compress_older(&dir, today, days) {
                    Ok(done) => done.iter().for_each(|path| tracing::info!(path = %path.display(), "compressed")),
                    // Nothing is lost: the day stays as it is, and is tried again with the next one.
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "an audit file was not compressed"),
                }
            }
        };
        std::thread::Builder::new().name("audit-compress".to_owned()).spawn(work).context("starting a thread")?;
        self.compressor = Some(tell);
        self.new_day();
        Ok(())
    }

    fn new_day(&self) {
        if let Some(compressor) = &self.compressor {
            // It ends only after this writer.
            let _gone = compressor.send(self.day);
        }
    }

    /// Links a day's file to the one before.
    fn open_day(&mut self, previous: Option<UtcDay>) -> anyhow::Result<()> {
        let result = json!({
            "day": self.day.to_string(), "previous_file": previous.map(audit::file_name),
            "previous_seq": self.chain.next_seq() - 1, "previous_head": self.chain.head(),
        });
        let now = (self.now)().max(self.day.start());
        let (line, _) = self.chain.append(DAY_OPENED, None, None, Some(&result), now);
        self.write(line.as_bytes())
    }

    async fn run(&mut self, mut queue: mpsc::Receiver<Job>) -> anyhow::Result<()> {
        let mut jobs = Vec::new();
        let mut batch = Batch::default();
        loop {
            let received = queue.recv_many(&mut jobs, QUEUE);
            let received = match self.unsynced {
                None => received.await,
                Some(since) => match tokio::time::timeout(UNWAITED.saturating_sub(since.elapsed()), received).await {
                    Ok(received) => received,
                    Err(_) => {
                        self.sync()?;
                        continue;
                    }
                },
            };
            if received == 0 {
                return self.sync();
            }
            self.gather(&mut queue, &mut jobs);
            for Job { entry, done } in jobs.drain(..) {
                let now = (self.now)();
                if now.day() > self.day {
                    self.flush(&mut batch)?;
                    self.roll_to(now.day())?;
                }
                let (actor, order, result) = (entry.actor.as_deref(), entry.order.as_ref(), entry.result.as_ref());
                let (line, pending) = self.chain.append(entry.event_type, actor, order, result, now);
                anyhow::ensure!(line.len() <= LINE_MAX, "a record of {} bytes is too long to be read back", line.len());
                batch.bytes.extend_from_slice(line.as_bytes());
                batch.waiting.extend(done.map(|done| (pending, done)));
            }
            self.flush(&mut batch)?;
        }
    }

    /// Waits a moment for those who shared the last sync. Whoever comes alone waits for nobody.
    fn gather(&self, queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>) {
        let (usual, sync) = self.last_sync;
        let longest = (sync / GATHER_SHARE).min(GATHER_MAX);
        let begun = Instant::now();
        while jobs.len() < usual.min(QUEUE) && begun.elapsed() < longest {
            match queue.try_recv() {
                Ok(job) => jobs.push(job),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    /// Writes a batch, makes it durable when somebody waits for that, and tells those that do.
    fn flush(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        self.append(&batch.bytes)?;
        batch.bytes.clear();
        if batch.waiting.is_empty() && self.unsynced.is_none_or(|since| since.elapsed() < UNWAITED) {
            return Ok(());
        }
        let begun = Instant::now();
        self.sync()?;
        self.last_sync = (batch.waiting.len(), begun.elapsed());
        for (pending, done) in batch.waiting.drain(..) {
            // The writer of a record may have given up; the record stands all the same.
            let _unheard = done.send(pending.synced());
        }
        Ok(())
    }

    /// Writes and makes durable.
    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.append(bytes)?;
        self.sync()
    }

    fn append(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if !bytes.is_empty() {
            self.file.write_all(bytes).context("writing the audit trail")?;
            self.unsynced.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        if self.unsynced.is_some() {
            self.file.sync_data().context("syncing the audit trail")?;
            self.unsynced = None;
        }
        Ok(())
    }

    fn roll_to(&mut self, day: UtcDay) -> anyhow::Result<()> {
        let previous = self.day;
        let seal = seal(&mut self.chain, previous);
        self.write(seal.as_bytes())?;
        self.day = day;
        self.file = append_only(&self.dir.join(audit::file_name(day)))?;
        self.open_day(Some(previous))?;
        self.sync_names()?;
        self.new_day();
        Ok(())
    }

    fn sync_names(&self) -> anyhow::Result<()> {
        File::open(&self.dir)?.sync_all().context("making the audit file's name durable")
    }
}

/// The record that closes a day.
fn seal(chain: &mut Chain, day: UtcDay) -> String {
    let result = json!({"day": day.to_string(), "records": chain.next_seq()});
    let end_of_day = day.start().plus_ms(UtcDay::MS - 1);
    chain.append(DAY_SEALED, None, None, Some(&result), end_of_day).0
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
    // An attempt that was cut short is replaced.
    let mut copy = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&aside)?;
    copy.write_all(torn).and_then(|()| copy.sync_all()).with_context(|| format!("writing {}", aside.display()))?;
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(u64::try_from(keep)?)?;
    file.sync_all()?;
    let name = aside.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Some(json!({"bytes": torn.len(), "moved_to": name})))
}

#[cfg(test)]
mod tests;
