use std::fs;

use cdb_core::audit::{Chain, DAY_OPENED, DAY_SEALED, file_name};
use cdb_core::time::UtcDay;
use tempfile::TempDir;

use super::*;

const FIRST: UtcDay = UtcDay::from_number(20_000);
const SECOND: UtcDay = UtcDay::from_number(20_001);

/// A day of five records, the first of which opens it and the last of which seals it.
fn day(chain: &mut Chain, day: UtcDay, word: &'static str) -> Vec<String> {
    let words = [DAY_OPENED, word, word, word, DAY_SEALED];
    words.iter().map(|word| chain.append(word, None, None, None, day.start()).0).collect()
}

fn two_days(word: &'static str) -> (Vec<String>, Vec<String>) {
    let mut chain = Chain::genesis("svc", "test");
    (day(&mut chain, FIRST, word), day(&mut chain, SECOND, word))
}

fn path(dir: &TempDir, day: UtcDay) -> PathBuf {
    dir.path().join(file_name(day))
}

/// A directory with these lines, a file a day.
fn trail(first: &[String], second: &[String]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(path(&dir, FIRST), first.concat()).unwrap();
    fs::write(path(&dir, SECOND), second.concat()).unwrap();
    dir
}

fn tail(dir: &TempDir) -> Tail {
    Tail::new(dir.path().to_owned(), Position::default())
}

fn read_all(dir: &TempDir) -> Tail {
    let mut tail = tail(dir);
    assert_eq!(tail.advance(1_000).unwrap(), Stop::Level);
    tail
}

fn kind(stop: &Stop) -> Option<FaultKind> {
    match stop {
        Stop::Found(Finding::Broken(fault)) => Some(fault.kind),
        Stop::Found(_) | Stop::Level | Stop::Bound => None,
    }
}

#[test]
fn a_follower_that_restarts_after_any_record_ends_where_one_in_one_go_ends() {
    let (first, second) = two_days("ORDER_FILLED");
    let dir = trail(&first, &second);
    let whole = read_all(&dir);
    assert_eq!((whole.position().seq(), whole.unread().unwrap()), (10, 0));
    for bound in 1..10 {
        let mut follower = tail(&dir);
        let mut steps = 0;
        while follower.advance(bound).unwrap() == Stop::Bound {
            let text = serde_json::to_string(follower.position()).unwrap();
            follower = Tail::new(dir.path().to_owned(), serde_json::from_str(&text).unwrap());
            steps += 1;
        }
        assert_eq!(steps, 10 / bound);
        assert_eq!(follower.position(), whole.position());
        assert_eq!(follower.position().root(), whole.position().root());
    }
}

#[test]
fn a_line_that_is_being_written_is_waited_for_at_every_byte() {
    let (first, second) = two_days("ORDER_FILLED");
    let text = first.concat();
    let dir = tempfile::tempdir().unwrap();
    let mut follower = tail(&dir);
    assert_eq!(follower.advance(10).unwrap(), Stop::Level);
    for end in 0..=text.len() {
        fs::write(path(&dir, FIRST), &text.as_bytes()[..end]).unwrap();
        assert_eq!(follower.advance(10).unwrap(), Stop::Level, "{end} bytes");
        let lines = text[..end].matches('\n').count();
        assert_eq!(follower.position().seq(), u64::try_from(lines).unwrap());
    }
    // The next day's file is made before the old one is sealed.
    fs::write(path(&dir, FIRST), first[..4].concat()).unwrap();
    fs::write(path(&dir, SECOND), "").unwrap();
    let mut follower = tail(&dir);
    assert_eq!(follower.advance(10).unwrap(), Stop::Level);
    fs::write(path(&dir, FIRST), first.concat()).unwrap();
    fs::write(path(&dir, SECOND), second.concat()).unwrap();
    assert_eq!(follower.advance(10).unwrap(), Stop::Level);
    assert_eq!(follower.position().seq(), 10);
}

#[test]
fn what_does_not_hold_together_stops_the_follower_before_it_until_it_is_mended() {
    let (first, second) = two_days("ORDER_FILLED");
    let edited = [&second[..2], &[second[2].replace("FILLED", "FIXXED")], &second[3..]].concat();
    let without = [&second[..2], &second[3..]].concat();
    let cases: [(Vec<String>, Vec<String>, FaultKind, u64); 4] = [
        (first.clone(), edited, FaultKind::Edited, 7),
        (first.clone(), without, FaultKind::Removed, 7),
        (first[..4].to_vec(), second.clone(), FaultKind::Unsealed, 4),
        ([&first[..4], &["{\"seq\":5".to_owned()]].concat(), second.clone(), FaultKind::TornTail, 4),
    ];
    for (one, two, expected, seq) in cases {
        let dir = trail(&one, &two);
        let mut follower = tail(&dir);
        let stop = follower.advance(1_000).unwrap();
        assert_eq!((kind(&stop), follower.position().seq()), (Some(expected), seq), "{stop:?}");
        fs::write(path(&dir, FIRST), first.concat()).unwrap();
        fs::write(path(&dir, SECOND), second.concat()).unwrap();
        assert_eq!(follower.advance(1_000).unwrap(), Stop::Level);
        assert_eq!(follower.position().seq(), 10);
    }
}

#[test]
fn what_was_read_and_then_goes_is_missed() {
    let (first, second) = two_days("ORDER_FILLED");
    for (lines, is_gone) in [(4, false), (0, true)] {
        let dir = trail(&first, &second);
        let mut follower = read_all(&dir);
        if is_gone {
            fs::remove_file(path(&dir, SECOND)).unwrap();
        } else {
            fs::write(path(&dir, SECOND), second[..lines].concat()).unwrap();
        }
        assert_eq!(kind(&follower.advance(10).unwrap()), Some(FaultKind::Removed), "{lines} lines");
    }
}

#[test]
fn history_that_was_written_anew_with_all_hashes_is_not_the_one_that_was_signed_for() {
    let (first, second) = two_days("ORDER_FILLED");
    let signed = read_all(&trail(&first, &second[..3])).position().clone();
    let (forged_first, forged_second) = two_days("ORDER_REJECTED");
    let dir = trail(&forged_first, &forged_second);
    assert_eq!(read_all(&dir).position().seq(), 10, "by itself it holds together");
    let mut follower = tail(&dir);
    follower.expect(signed.seq(), signed.head().unwrap());
    assert_eq!(follower.advance(1_000).unwrap(), Stop::Found(Finding::Rewritten { seq: 8 }));
    // One that stands behind the forgery finds that nothing follows.
    let mut follower = Tail::new(dir.path().to_owned(), signed);
    assert_eq!(kind(&follower.advance(1_000).unwrap()), Some(FaultKind::Unreadable));
}

#[test]
fn an_older_copy_ends_before_what_was_signed_for() {
    let (first, second) = two_days("ORDER_FILLED");
    let signed = read_all(&trail(&first, &second)).position().clone();
    for lines in 0..5 {
        let dir = trail(&first, &second[..lines]);
        let mut follower = tail(&dir);
        follower.expect(signed.seq(), signed.head().unwrap());
        let seq = 5 + u64::try_from(lines).unwrap();
        assert_eq!(follower.advance(1_000).unwrap(), Stop::Found(Finding::RolledBack { seq, signed: 10 }));
    }
    let dir = trail(&first, &second);
    let mut follower = tail(&dir);
    follower.expect(signed.seq(), signed.head().unwrap());
    assert_eq!(follower.advance(1_000).unwrap(), Stop::Level);
}

#[test]
fn a_position_without_its_tree_is_refused() {
    let (first, second) = two_days("ORDER_FILLED");
    let text = serde_json::to_string(read_all(&trail(&first, &second)).position()).unwrap();
    assert!(serde_json::from_str::<Position>(&text).is_ok());
    assert!(serde_json::from_str::<Position>(&text.replace("\"size\":10", "\"size\":11")).is_err());
}
