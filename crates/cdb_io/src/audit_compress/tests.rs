use cdb_core::audit::{Chain, DAY_SEALED, FaultKind, file_name};
use cdb_core::time::Timestamp;

use super::*;
use crate::audit_files::verify_dir;

/// Five days of a chain, the last one going on.
fn five_days() -> (tempfile::TempDir, UtcDay) {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::genesis("svc", "test");
    let first = Timestamp::from_millis(1_767_614_400_000).day().number();
    for number in first..first + 5 {
        let day = UtcDay::from_number(number);
        let mut text = String::new();
        for _ in 0..50 {
            text.push_str(&chain.append("NOTE", None, None, None, day.start()).0);
        }
        if number < first + 4 {
            text.push_str(&chain.append(DAY_SEALED, None, None, None, day.start()).0);
        }
        fs::write(dir.path().join(file_name(day)), text).unwrap();
    }
    (dir, UtcDay::from_number(first + 4))
}

fn names(dir: &Path) -> Vec<String> {
    files(dir).unwrap().iter().map(|(_, path)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

const DAYS: [&str; 5] = [
    "audit_2026-01-05.jsonl",
    "audit_2026-01-06.jsonl",
    "audit_2026-01-07.jsonl",
    "audit_2026-01-08.jsonl",
    "audit_2026-01-09.jsonl",
];

#[test]
fn old_days_are_compressed_and_the_chain_still_verifies() {
    let (dir, today) = five_days();
    let (plain, size) =
        (verify_dir(dir.path(), |_| {}).unwrap(), fs::metadata(dir.path().join(DAYS[0])).unwrap().len());
    assert_eq!(compress_older(dir.path(), today, 3).unwrap().len(), 2);
    let zst = |day: &str| format!("{day}.zst");
    assert_eq!(names(dir.path()), [&zst(DAYS[0]), &zst(DAYS[1]), DAYS[2], DAYS[3], DAYS[4]]);
    let after = verify_dir(dir.path(), |_| {}).unwrap();
    assert_eq!((after.faults(), after.records(), after.head()), (&[][..], plain.records(), plain.head()));
    assert!(fs::metadata(dir.path().join(zst(DAYS[0]))).unwrap().len() * 2 < size);
    assert_eq!(compress_older(dir.path(), today, 3).unwrap().len(), 0, "once");
}

#[test]
fn the_day_that_goes_on_is_never_compressed() {
    let (dir, today) = five_days();
    compress_older(dir.path(), UtcDay::from_number(today.number() + 100), 1).unwrap();
    assert_eq!(names(dir.path())[4], DAYS[4]);
    assert_eq!(verify_dir(dir.path(), |_| {}).unwrap().faults(), []);
}

#[test]
fn changing_any_byte_of_a_compressed_day_is_found() {
    let (dir, today) = five_days();
    compress_older(dir.path(), today, 4).unwrap();
    let path = dir.path().join(format!("{}.zst", DAYS[0]));
    let whole = fs::read(&path).unwrap();
    for position in 0..whole.len() {
        let mut changed = whole.clone();
        changed[position] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        // A bit of the frame's header may say nothing of the content; then nothing that is read has changed.
        let read = zstd::stream::decode_all(&changed[..]);
        let is_same = read.is_ok_and(|bytes| bytes == zstd::stream::decode_all(&whole[..]).unwrap());
        let faults = verify_dir(dir.path(), |_| {}).unwrap().faults_found();
        assert_eq!(faults == 0, is_same, "byte {position}");
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(verify_dir(dir.path(), |_| {}).unwrap().faults()[0].kind, FaultKind::Unreadable);
    fs::remove_file(&path).unwrap();
    assert_eq!(verify_dir(dir.path(), |_| {}).unwrap().faults()[0].kind, FaultKind::Removed);
}

#[test]
fn a_compression_that_was_cut_short_leaves_a_whole_day_and_is_made_again() {
    let (dir, today) = five_days();
    fs::write(dir.path().join(format!("{}.zst.unfinished", DAYS[0])), "half").unwrap();
    // Renamed, the original not removed yet.
    let packed = zstd::stream::encode_all(&fs::read(dir.path().join(DAYS[1])).unwrap()[..], LEVEL).unwrap();
    fs::write(dir.path().join(format!("{}.zst", DAYS[1])), &packed[..20]).unwrap();
    assert_eq!(names(dir.path()), DAYS);
    assert_eq!(verify_dir(dir.path(), |_| {}).unwrap().faults(), []);
    assert_eq!(compress_older(dir.path(), today, 3).unwrap().len(), 2);
    assert_eq!(verify_dir(dir.path(), |_| {}).unwrap().faults(), []);
}
