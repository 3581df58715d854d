//! Each way to change an audit trail is found by `cdb audit verify`, which names file, line, record and kind of the first
//! fault, and ends with a code of its own for clean, torn, changed and unreadable (I7).

use std::fs;

use cdb_core::audit::{Chain, Verifier};
use cdb_core::checkpoint::{Checkpoint, CheckpointKey};
use cdb_core::secret::Secret;
use cdb_core::time::Timestamp;
use cdb_tests::trail::{Trail, note};

const CLEAN: i32 = 0;
const TAMPERED: i32 = 6;
const TORN_TAIL: i32 = 8;
const BEHIND_ANCHORS: i32 = 9;
const CANNOT_TELL: i32 = 10;

const SECOND: &str = "audit_2026-01-06.jsonl";
const THIRD: &str = "audit_2026-01-07.jsonl";
/// A moment of the first day.
const EARLY: Timestamp = Timestamp::from_millis(1_767_614_400_000);
/// A moment of the second day.
const NOON: Timestamp = Timestamp::from_millis(1_767_700_800_000);

#[test]
fn an_untouched_trail_of_three_days_is_clean() {
    let said = Trail::of_three_days().verify();
    assert_eq!((said.code, said.kinds()), (Some(CLEAN), vec![]), "{said:?}");
    assert_eq!(said.json["chains"][0]["records"], 17);
    assert_eq!(said.json["judgement"], "clean");
}

#[test]
fn an_edited_record_is_named() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(2);
    lines[2] = lines[2].replace("note 1", "note 7");
    trail.set_lines(2, &lines);
    let said = trail.verify();
    assert_eq!(said.code, Some(TAMPERED));
    assert_eq!(said.first(), (SECOND, 3, Some(9), "edited"));
    let sentence = "cdb_execution/audit_2026-01-06.jsonl line 3, record 9: edited";
    assert!(said.message.contains(sentence), "{}", said.message);
}

#[test]
fn a_deleted_record_is_named() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(2);
    lines.remove(2);
    trail.set_lines(2, &lines);
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (SECOND, 3, Some(10), "removed")));
}

#[test]
fn an_inserted_copy_of_a_record_is_named() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(2);
    lines.insert(4, lines[1].clone());
    trail.set_lines(2, &lines);
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (SECOND, 5, Some(8), "inserted")));
}

#[test]
fn an_inserted_forged_record_is_named() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(2);
    let mut verifier = Verifier::default();
    verifier.read_file("1", "2026-01-05", trail.lines(1).concat().as_bytes(), false, |_| {});
    verifier.read_file("2", "2026-01-06", lines[..2].concat().as_bytes(), true, |_| {});
    assert_eq!(verifier.faults(), []);
    // Well made, with the right number, link and hash: it is the record after it that no longer fits.
    let forged = note(&mut Chain::resumed("cdb_execution", "test", 9, verifier.head()), "never happened", NOON);
    lines.insert(2, forged);
    trail.set_lines(2, &lines);
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (SECOND, 4, Some(9), "inserted")));
}

#[test]
fn swapped_records_are_named() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(2);
    lines.swap(2, 3);
    trail.set_lines(2, &lines);
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (SECOND, 3, Some(10), "removed")));
    assert_eq!(said.kinds(), ["removed", "inserted", "forked"], "all are listed");
}

#[test]
fn a_deleted_day_is_named() {
    let trail = Trail::of_three_days();
    fs::remove_file(trail.file(2)).unwrap();
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (THIRD, 1, Some(13), "removed")));
    assert!(said.message.contains("records 7 to 12 are missing"), "{}", said.message);
}

#[test]
fn a_deleted_first_day_is_named() {
    let trail = Trail::of_three_days();
    fs::remove_file(trail.file(1)).unwrap();
    assert_eq!(trail.verify().first(), (SECOND, 1, Some(7), "removed"));
}

#[test]
fn an_earlier_day_that_lost_its_end_is_named() {
    let trail = Trail::of_three_days();
    let lines = trail.lines(2);
    trail.set_lines(2, &lines[..5]);
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (SECOND, 5, None, "unsealed")));
    let mut half = lines[..5].to_vec();
    half.push(lines[5][..40].to_owned());
    trail.set_lines(2, &half);
    assert_eq!(trail.verify().first(), (SECOND, 6, None, "truncated"));
}

#[test]
fn a_rewritten_day_with_recomputed_hashes_does_not_fit_the_next_one() {
    let trail = Trail::of_three_days();
    let mut verifier = Verifier::default();
    verifier.read_file("1", "2026-01-05", trail.lines(1).concat().as_bytes(), true, |_| {});
    let mut chain = Chain::resumed("cdb_execution", "test", 7, verifier.head());
    let mut lines: Vec<String> = (0..5).map(|n| note(&mut chain, &format!("another past {n}"), NOON)).collect();
    lines.push(chain.append("DAY_SEALED", None, None, None, NOON).0);
    trail.set_lines(2, &lines);
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (THIRD, 1, Some(13), "forked")));
}

#[test]
fn another_services_records_do_not_pass() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(3);
    let mut verifier = Verifier::default();
    for day in 1..=3 {
        verifier.read_file(
            "",
            &format!("2026-01-0{}", 4 + day),
            trail.lines(day).concat().as_bytes(),
            day == 3,
            |_| {},
        );
    }
    lines.push(note(&mut Chain::resumed("cdb_risk", "test", 18, verifier.head()), "not mine", NOON));
    trail.set_lines(3, &lines);
    assert_eq!(trail.verify().first(), (THIRD, 6, Some(18), "misplaced"));
}

#[test]
fn a_second_writer_that_ignored_the_lock_is_named() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(3);
    let head = lines.pop().unwrap();
    let mut verifier = Verifier::default();
    for day in 1..=2 {
        verifier.read_file("", &format!("2026-01-0{}", 4 + day), trail.lines(day).concat().as_bytes(), false, |_| {});
    }
    verifier.read_file("", "2026-01-07", lines.concat().as_bytes(), true, |_| {});
    // Both went on from the same head.
    let other = note(&mut Chain::resumed("cdb_execution", "test", 17, verifier.head()), "the other's", NOON);
    lines.extend([head, other]);
    trail.set_lines(3, &lines);
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (THIRD, 6, Some(17), "inserted")));
}

#[test]
fn a_torn_tail_has_its_own_code_at_every_byte() {
    let trail = Trail::of_three_days();
    let lines = trail.lines(3);
    let last = lines[4].len();
    for cut in [1, 2, last / 2, last - 1] {
        let mut torn = lines.clone();
        torn[4].truncate(cut);
        trail.set_lines(3, &torn);
        let said = trail.verify();
        assert_eq!((said.code, said.first()), (Some(TORN_TAIL), (THIRD, 5, None, "torn_tail")), "cut at {cut}");
    }
}

#[test]
fn a_torn_tail_does_not_hide_that_something_else_was_changed() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(3);
    lines[1] = lines[1].replace("note 0", "note 9");
    lines[4].truncate(30);
    trail.set_lines(3, &lines);
    let said = trail.verify();
    assert_eq!((said.code, said.first()), (Some(TAMPERED), (THIRD, 2, Some(14), "edited")));
    assert_eq!(said.kinds(), ["edited", "torn_tail"]);
}

#[test]
fn without_a_trail_nothing_can_be_told() {
    let trail = Trail::of_three_days();
    for day in 1..=3 {
        fs::write(trail.file(day), "").unwrap();
    }
    assert_eq!(trail.verify().code, Some(CANNOT_TELL), "no record");
    fs::remove_dir_all(trail.chain()).unwrap();
    assert_eq!(trail.verify().code, Some(CANNOT_TELL), "no chain");
    fs::remove_dir(trail.path()).unwrap();
    assert_eq!(trail.verify().code, Some(CANNOT_TELL), "no directory");
}

#[test]
fn bytes_that_are_no_record_are_named_and_the_rest_is_still_read() {
    let trail = Trail::of_three_days();
    let mut lines = trail.lines(1);
    lines[3] = format!("{}\n", "\u{fffd}".repeat(3));
    trail.set_lines(1, &lines);
    let said = trail.verify();
    assert_eq!(said.first(), ("audit_2026-01-05.jsonl", 4, None, "unreadable"));
    assert_eq!(said.kinds(), ["unreadable", "removed"]);
    assert_eq!(said.json["chains"][0]["records"], 16);
}

/// Checkpoints signed while the trail was whole, kept elsewhere.
struct Anchors {
    dir: tempfile::TempDir,
}

impl Anchors {
    /// Of the trail as it is after each of its days.
    fn of(trail: &Trail) -> Self {
        let key = key('1');
        let mut notes = String::new();
        let mut verifier = Verifier::default();
        for day in 1..=3 {
            let text = trail.lines(day).concat();
            verifier.read_file("", &format!("2026-01-0{}", 4 + day), text.as_bytes(), day == 3, |_| {});
            let head = cdb_core::tree::hash_from_hex(verifier.head()).unwrap();
            let (origin, size) = (key.origin("cdb_execution"), verifier.records());
            notes.push_str(&key.sign(&Checkpoint { origin, size, root: head, head, at: NOON }));
            notes.push('\n');
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes"), notes).unwrap();
        fs::write(dir.path().join("key"), key.public().to_string()).unwrap();
        fs::write(dir.path().join("other"), self::key('2').public().to_string()).unwrap();
        Self { dir }
    }

    fn verify(&self, trail: &Trail, key: &str) -> cdb_tests::trail::Said {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        trail.verify_with(&["--checkpoints", &path("notes"), "--public-key", &path(key)])
    }
}

fn key(digit: char) -> CheckpointKey {
    let seed = digit.to_string().repeat(64);
    CheckpointKey::new("cdb", &Secret::parse(seed.as_bytes()).ok().unwrap()).unwrap()
}

#[test]
fn a_trail_that_holds_what_its_checkpoints_were_signed_for_is_clean_and_may_have_grown() {
    let trail = Trail::of_three_days();
    let anchors = Anchors::of(&trail);
    assert_eq!(anchors.verify(&trail, "key").code, Some(CLEAN));
}

#[test]
fn a_cut_tail_is_behind_its_anchors() {
    let trail = Trail::of_three_days();
    let anchors = Anchors::of(&trail);
    let lines = trail.lines(3);
    trail.set_lines(3, &lines[..4]);
    assert_eq!(trail.verify().code, Some(CLEAN), "nothing in the files themselves shows it");
    let said = anchors.verify(&trail, "key");
    assert_eq!((said.code, said.first()), (Some(BEHIND_ANCHORS), (THIRD, 4, None, "behind_anchor")));
}

#[test]
fn an_older_copy_is_behind_its_anchors_and_so_is_a_chain_that_is_gone() {
    let trail = Trail::of_three_days();
    let anchors = Anchors::of(&trail);
    fs::remove_file(trail.file(3)).unwrap();
    assert_eq!(trail.verify().code, Some(CLEAN), "nothing in the files themselves shows it");
    let said = anchors.verify(&trail, "key");
    assert_eq!((said.code, said.first()), (Some(BEHIND_ANCHORS), (SECOND, 6, None, "behind_anchor")));
    fs::rename(trail.chain(), trail.path().join("another")).unwrap();
    assert_eq!(anchors.verify(&trail, "key").code, Some(BEHIND_ANCHORS));
}

#[test]
fn a_whole_trail_rewritten_with_recomputed_hashes_is_named() {
    let trail = Trail::of_three_days();
    let anchors = Anchors::of(&trail);
    let mut chain = Chain::genesis("cdb_execution", "test");
    for day in 1..=3 {
        let mut lines: Vec<String> = (0..5).map(|n| note(&mut chain, &format!("another past {n}"), EARLY)).collect();
        if day < 3 {
            lines.push(chain.append("DAY_SEALED", None, None, None, EARLY).0);
        }
        trail.set_lines(day, &lines);
    }
    assert_eq!(trail.verify().code, Some(CLEAN), "nothing in the files themselves shows it");
    let said = anchors.verify(&trail, "key");
    assert_eq!((said.code, said.first()), (Some(TAMPERED), ("audit_2026-01-05.jsonl", 6, Some(6), "rewritten")));
}

#[test]
fn checkpoints_of_another_key_or_none_at_all_tell_nothing() {
    let trail = Trail::of_three_days();
    let anchors = Anchors::of(&trail);
    assert_eq!(anchors.verify(&trail, "other").code, Some(CANNOT_TELL));
    fs::write(anchors.dir.path().join("notes"), "").unwrap();
    assert_eq!(anchors.verify(&trail, "key").code, Some(CANNOT_TELL));
}
