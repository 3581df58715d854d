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
async fn a_tail_torn_at_any_byte_is_moved_aside_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ended) = open(dir.path(), "svc", "test").unwrap();
    log.record(entry("whole")).await.unwrap();
    log.record(entry("torn")).await.unwrap();
    drop(log);
    ended.wait().await.unwrap();
    let (_, path) = files(&dir.path().join("svc")).unwrap().pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let start = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for end in [start + 1, start + 40, bytes.len() - 1] {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("svc")).unwrap();
        fs::write(copy.path().join("svc").join(path.file_name().unwrap()), &bytes[..end]).unwrap();
        let (log, ended) = open(copy.path(), "svc", "test").unwrap();
        log.record(entry("after")).await.unwrap();
        drop(log);
        ended.wait().await.unwrap();
        assert_eq!(seen(copy.path()), [DAY_OPENED, "ORDER_SUBMITTED", TORN_TAIL, "ORDER_SUBMITTED"], "cut at {end}");
        assert_eq!(faults(copy.path()), 0);
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
