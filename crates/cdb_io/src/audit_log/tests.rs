use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cdb_core::audit::Record;

use super::*;

fn entry(text: &str) -> Entry {
    Entry { event_type: "ORDER_SUBMITTED", actor: None, order: None, result: Some(json!({ "text": text })) }
}

fn faults(dir: &Path) -> usize {
    verify_dir(&dir.join("svc"), |_| {}).unwrap().faults().len()
}

fn seen(dir: &Path) -> Vec<String> {
    let mut events = Vec::new();
    verify_dir(&dir.join("svc"), |record| events.push(record.event_type.clone())).unwrap();
    events
}

#[tokio::test]
async fn a_chain_goes_on_after_a_restart_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (log, ended) = open(dir.path(), "svc", "test").unwrap();
        log.record(entry("a\nb")).await.unwrap();
        drop(log);
        ended.wait().await.unwrap();
    }
    assert_eq!(seen(dir.path()), [DAY_OPENED, "ORDER_SUBMITTED", "ORDER_SUBMITTED"]);
    assert_eq!(faults(dir.path()), 0);
}

#[tokio::test]
async fn many_writers_share_syncs_and_every_record_stands_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _ended) = open(dir.path(), "svc", "test").unwrap();
    let writers: Vec<_> = (0..200)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move { log.record(entry(&number.to_string())).await.unwrap().seq() })
        })
        .collect();
    let mut numbers = Vec::new();
    for writer in writers {
        numbers.push(writer.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=201).collect::<Vec<u64>>());
    assert_eq!(faults(dir.path()), 0);
}

#[tokio::test]
async fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path(), "svc", "test").unwrap();
    let second = open(dir.path(), "svc", "test");
    assert!(second.err().unwrap().to_string().contains("another process writes it"));
}

#[tokio::test]
async fn a_tail_torn_at_every_byte_is_moved_aside_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ended) = open(dir.path(), "svc", "test").unwrap();
    log.record(entry("whole")).await.unwrap();
    log.record(entry("torn")).await.unwrap();
    drop(log);
    ended.wait().await.unwrap();
    let (_, path) = files(&dir.path().join("svc")).unwrap().pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    // The first byte of the file's last line is the first that can be torn; cut before it, the file is whole.
    let start = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for end in start + 1..bytes.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("svc")).unwrap();
        let file = copy.path().join("svc").join(path.file_name().unwrap());
        fs::write(&file, &bytes[..end]).unwrap();
        let (log, ended) = open(copy.path(), "svc", "test").unwrap();
        log.record(entry("after")).await.unwrap();
        drop(log);
        ended.wait().await.unwrap();
        assert_eq!(seen(copy.path()), [DAY_OPENED, "ORDER_SUBMITTED", TORN_TAIL, "ORDER_SUBMITTED"], "cut at {end}");
        assert_eq!(faults(copy.path()), 0);
        let aside = file.with_extension(format!("jsonl.torn-{start}"));
        assert_eq!(fs::read(aside).unwrap(), bytes[start..end], "what was torn is kept");
    }
}

#[tokio::test]
async fn a_chain_changed_while_down_refuses_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ended) = open(dir.path(), "svc", "test").unwrap();
    log.record(entry("whole")).await.unwrap();
    drop(log);
    ended.wait().await.unwrap();
    let (_, path) = files(&dir.path().join("svc")).unwrap().pop().unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("whole", "wh0le");
    fs::write(&path, text).unwrap();
    let refused = open(dir.path(), "svc", "test").err().unwrap().to_string();
    assert!(refused.contains("line 2"), "{refused}");
}

#[tokio::test]
async fn an_older_day_is_sealed_and_the_chain_runs_on_into_today() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("svc");
    fs::create_dir(&folder).unwrap();
    let yesterday = UtcDay::from_number(clock::now().day().number() - 1);
    let mut chain = Chain::genesis("svc", "test");
    let (line, _) = chain.append("ORDER_SUBMITTED", None, None, None, yesterday.start());
    fs::write(folder.join(audit::file_name(yesterday)), line).unwrap();
    let (log, ended) = open(dir.path(), "svc", "test").unwrap();
    drop(log);
    ended.wait().await.unwrap();
    assert_eq!(seen(dir.path()), ["ORDER_SUBMITTED", DAY_SEALED, DAY_OPENED]);
    assert_eq!(faults(dir.path()), 0);
    assert_eq!(files(&folder).unwrap().len(), 2);
}

/// A clock that a test moves.
#[derive(Clone)]
struct TestClock(Arc<AtomicI64>);

impl TestClock {
    fn at(text: &str) -> Self {
        Self(Arc::new(AtomicI64::new(Timestamp::parse_rfc3339(text).unwrap().millis())))
    }
    fn set(&self, text: &str) {
        self.0.store(Timestamp::parse_rfc3339(text).unwrap().millis(), Ordering::SeqCst);
    }
    fn open(&self, dir: &Path) -> anyhow::Result<(AuditLog, WriterEnd)> {
        let own = self.clone();
        let now = move || Timestamp::from_millis(own.0.load(Ordering::SeqCst));
        Writer::open(&dir.join("svc"), "svc", "test", Box::new(now))?.start()
    }
}

async fn end((log, ended): (AuditLog, WriterEnd)) {
    drop(log);
    ended.wait().await.unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let files = files(&dir.join("svc")).unwrap().into_iter();
    files.map(|(_, path)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The records of one type, as JSON.
fn records(dir: &Path, event_type: &str) -> Vec<Value> {
    let mut records = Vec::new();
    let mut each = |record: &Record<'_>| {
        if record.event_type == event_type {
            let result = record.result.map_or(Value::Null, |raw| serde_json::from_str(raw.get()).unwrap());
            records.push(json!({"seq": record.seq, "prev": record.prev, "at": record.timestamp, "result": result}));
        }
    };
    assert_eq!(verify_dir(&dir.join("svc"), &mut each).unwrap().faults(), []);
    records
}

#[tokio::test]
async fn fl_au_03_each_record_is_in_the_file_of_its_own_utc_day() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-01-05T23:59:59.900Z");
    let (log, ended) = clock.open(dir.path()).unwrap();
    for at in ["2026-01-05T23:59:59.900Z", "2026-01-06T00:00:00.100Z", "2026-01-08T12:00:00.000Z"] {
        clock.set(at);
        log.record(entry(at)).await.unwrap();
    }
    end((log, ended)).await;
    assert_eq!(names(dir.path()), ["audit_2026-01-05.jsonl", "audit_2026-01-06.jsonl", "audit_2026-01-08.jsonl"]);
    for (day, path) in files(&dir.path().join("svc")).unwrap() {
        let text = fs::read_to_string(path).unwrap();
        let of_the_day = text.lines().filter(|line| line.contains("ORDER_SUBMITTED")).collect::<Vec<_>>();
        assert_eq!(of_the_day.len(), 1, "{day}");
        assert!(of_the_day[0].contains(&format!("\"timestamp\":\"{day}T")), "{day}");
    }
    assert_eq!(faults(dir.path()), 0);
}

#[tokio::test]
async fn fl_au_12_days_restarts_an_idle_day_and_a_torn_line_verify_and_each_day_links_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-01-05T10:00:00.000Z");
    let (log, ended) = clock.open(dir.path()).unwrap();
    log.record(entry("one")).await.unwrap();
    end((log, ended)).await;
    let first = dir.path().join("svc/audit_2026-01-05.jsonl");
    append_synced(&first, b"{\"seq\":3,\"times").unwrap();
    // Nothing ran on the sixth.
    for at in ["2026-01-07T10:00:00.000Z", "2026-01-07T11:00:00.000Z", "2026-01-08T09:00:00.000Z"] {
        clock.set(at);
        let (log, ended) = clock.open(dir.path()).unwrap();
        log.record(entry(at)).await.unwrap();
        end((log, ended)).await;
    }
    assert_eq!(names(dir.path()), ["audit_2026-01-05.jsonl", "audit_2026-01-07.jsonl", "audit_2026-01-08.jsonl"]);
    assert_eq!(records(dir.path(), TORN_TAIL).len(), 1);
    let opened = records(dir.path(), DAY_OPENED);
    let sealed = records(dir.path(), DAY_SEALED);
    for (link, seal) in opened[1..].iter().zip(&sealed) {
        assert_eq!(link["result"]["previous_seq"], seal["seq"]);
        assert_eq!(link["result"]["previous_head"], link["prev"]);
    }
    assert_eq!(opened[1]["result"]["previous_file"], "audit_2026-01-05.jsonl");
    assert_eq!(opened[2]["result"]["previous_file"], "audit_2026-01-07.jsonl");
}

#[tokio::test]
async fn midnight_under_load_loses_doubles_and_misplaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-01-05T23:59:59.000Z");
    let (log, ended) = clock.open(dir.path()).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..400_i64 {
        let (log, clock) = (log.clone(), clock.clone());
        writers.spawn(async move {
            // Five milliseconds for each record: midnight comes in the middle.
            clock.0.fetch_add(5, Ordering::SeqCst);
            log.record(entry(&number.to_string())).await.unwrap().seq()
        });
    }
    let numbers: BTreeSet<u64> = writers.join_all().await.into_iter().collect();
    assert_eq!(numbers.len(), 400);
    end((log, ended)).await;
    assert_eq!(names(dir.path()), ["audit_2026-01-05.jsonl", "audit_2026-01-06.jsonl"]);
    let written = records(dir.path(), "ORDER_SUBMITTED");
    let texts: BTreeSet<&str> = written.iter().map(|record| record["result"]["text"].as_str().unwrap()).collect();
    assert_eq!((written.len(), texts.len()), (400, 400));
    for (day, path) in files(&dir.path().join("svc")).unwrap() {
        for line in fs::read_to_string(path).unwrap().lines() {
            assert!(line.contains(&format!("\"timestamp\":\"{day}T")), "{line}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_reopens_no_day_and_breaks_no_chain() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-01-06T00:00:01.000Z");
    let (log, ended) = clock.open(dir.path()).unwrap();
    log.record(entry("ahead")).await.unwrap();
    clock.set("2026-01-05T23:59:58.000Z");
    log.record(entry("back")).await.unwrap();
    end((log, ended)).await;
    clock.set("2026-01-04T12:00:00.000Z");
    let (log, ended) = clock.open(dir.path()).unwrap();
    log.record(entry("further back")).await.unwrap();
    clock.set("2026-01-07T00:00:00.000Z");
    log.record(entry("right again")).await.unwrap();
    end((log, ended)).await;
    assert_eq!(names(dir.path()), ["audit_2026-01-06.jsonl", "audit_2026-01-07.jsonl"]);
    let at: Vec<String> =
        records(dir.path(), "ORDER_SUBMITTED").iter().map(|record| record["at"].to_string()).collect();
    assert_eq!(at[2], "\"2026-01-04T12:00:00.000Z\"", "each record says what the clock said");
}

#[tokio::test]
async fn whenever_the_change_of_days_is_cut_short_the_next_start_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-01-05T12:00:00.000Z");
    let (log, ended) = clock.open(dir.path()).unwrap();
    log.record(entry("before")).await.unwrap();
    clock.set("2026-01-06T12:00:00.000Z");
    log.record(entry("after")).await.unwrap();
    end((log, ended)).await;
    let (first, second) = (
        fs::read(dir.path().join("svc/audit_2026-01-05.jsonl")).unwrap(),
        fs::read(dir.path().join("svc/audit_2026-01-06.jsonl")).unwrap(),
    );
    let seal_at = first[..first.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let opened = second.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // How far it came: into the seal, after it, with an empty file, into the link, after it.
    let states: [(usize, Option<usize>); 6] = [
        (seal_at, None),
        (seal_at + 20, None),
        (first.len(), None),
        (first.len(), Some(0)),
        (first.len(), Some(20)),
        (first.len(), Some(opened)),
    ];
    for (of_first, of_second) in states {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("svc")).unwrap();
        fs::write(copy.path().join("svc/audit_2026-01-05.jsonl"), &first[..of_first]).unwrap();
        if let Some(length) = of_second {
            fs::write(copy.path().join("svc/audit_2026-01-06.jsonl"), &second[..length]).unwrap();
        }
        let (log, ended) = clock.open(copy.path()).unwrap();
        log.record(entry("again")).await.unwrap();
        end((log, ended)).await;
        assert_eq!(faults(copy.path()), 0, "cut at {of_first} and {of_second:?}");
        assert_eq!(records(copy.path(), DAY_OPENED).len(), 2);
        assert_eq!(records(copy.path(), DAY_SEALED).len(), 1);
    }
}

/// The next day's file is a device: what the kernel answers is real.
async fn fails_on(device: &str) -> (Result<Durable, AuditEnded>, Result<Durable, AuditEnded>, String) {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-01-05T12:00:00.000Z");
    let (log, ended) = clock.open(dir.path()).unwrap();
    log.record(entry("fits")).await.unwrap();
    symlink(device, dir.path().join("svc/audit_2026-01-06.jsonl")).unwrap();
    clock.set("2026-01-06T00:00:00.000Z");
    let (first, second) = (log.record(entry("lost")).await, log.record(entry("too late")).await);
    drop(log);
    let why = format!("{:#}", ended.wait().await.unwrap_err());
    fs::remove_file(dir.path().join("svc/audit_2026-01-06.jsonl")).unwrap();
    let (log, ended) = clock.open(dir.path()).unwrap();
    log.record(entry("goes on")).await.unwrap();
    end((log, ended)).await;
    assert_eq!(faults(dir.path()), 0);
    (first, second, why)
}

#[tokio::test]
async fn fl_au_06_a_full_disk_proves_nothing_durable_ends_the_writer_and_the_chain_goes_on_later() {
    let (first, second, why) = fails_on("/dev/full").await;
    assert!(first.is_err() && second.is_err());
    assert!(why.contains("No space left"), "{why}");
}

#[tokio::test]
async fn a_failed_fdatasync_proves_nothing_durable_and_ends_the_writer() {
    // Takes every byte and cannot sync.
    let (first, second, why) = fails_on("/dev/null").await;
    assert!(first.is_err() && second.is_err());
    assert!(why.contains("syncing the audit trail"), "{why}");
}

#[tokio::test]
async fn fl_au_01_a_record_after_a_torn_line_is_not_lost_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ended) = open(dir.path(), "svc", "test").unwrap();
    log.record(entry("a1")).await.unwrap();
    end((log, ended)).await;
    let (_, path) = files(&dir.path().join("svc")).unwrap().pop().unwrap();
    let whole = fs::read(&path).unwrap();
    append_synced(&path, b"{\"seq\":2,\"event_type\":\"ORDER_FIL").unwrap();
    let (log, ended) = open(dir.path(), "svc", "test").unwrap();
    log.record(entry("a3")).await.unwrap();
    end((log, ended)).await;
    let texts: Vec<Value> =
        records(dir.path(), "ORDER_SUBMITTED").iter().map(|one| one["result"]["text"].clone()).collect();
    assert_eq!(texts, ["a1", "a3"]);
    assert_eq!(records(dir.path(), TORN_TAIL).len(), 1);
    assert_eq!(fs::read(&path).unwrap()[..whole.len()], whole, "what stood before is unchanged");
}

#[test]
fn files_can_be_read_by_the_group_and_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at("2026-01-05T12:00:00.000Z");
    drop(clock.open(dir.path()).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir.path().join("svc")), 0o750);
    assert_eq!(mode(&dir.path().join("svc/audit_2026-01-05.jsonl")), 0o640);
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_in_order_and_stands_when_the_writer_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ended) = open(dir.path(), "svc", "test").unwrap();
    for number in 0..QUEUE + 200 {
        log.note(entry(&number.to_string())).await.unwrap();
    }
    let seq = log.record(entry("waited for")).await.unwrap().seq();
    log.note(entry("last")).await.unwrap();
    end((log, ended)).await;
    let written = records(dir.path(), "ORDER_SUBMITTED");
    assert_eq!(written.len(), QUEUE + 202);
    assert_eq!(written[QUEUE + 200]["seq"], seq);
}
