use serde_json::json;

use super::*;

const NOON: Timestamp = Timestamp::from_millis(1_700_049_600_000);
const DAY: &str = "2023-11-15";

fn lines(count: usize) -> Vec<String> {
    let mut chain = Chain::genesis("cdb_execution", "test");
    let result = json!({"text": "line one\nline two\u{2028}\"},{\"seq\":9"});
    (0..count).map(|_| chain.append("ORDER_SUBMITTED", None, None, Some(&result), NOON).0).collect()
}

fn verify_text(text: &str) -> Verifier {
    let mut verifier = Verifier::default();
    verifier.read_file("f", DAY, text.as_bytes(), true, |_| {});
    verifier
}

fn kinds(text: &str) -> Vec<(usize, FaultKind)> {
    verify_text(text).faults().iter().map(|fault| (fault.line, fault.kind)).collect()
}

#[test]
fn an_untouched_chain_is_clean_and_text_from_outside_cannot_break_a_line() {
    let text = lines(5).concat();
    let verifier = verify_text(&text);
    assert_eq!(verifier.faults(), []);
    assert_eq!((verifier.records(), verifier.next_seq()), (5, 6));
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn a_verifier_that_goes_on_line_by_line_finds_what_one_in_one_go_finds() {
    let all = lines(5);
    let first = verify_text(&all[..2].concat());
    let mut resumed = Verifier::resumed(2, first.head(), false);
    for (line, number) in all[2..].iter().zip(3..) {
        resumed.read_line("f", DAY, number, line.trim_end().as_bytes(), &mut |_| {});
    }
    assert_eq!((resumed.faults(), resumed.records(), resumed.next_seq()), (&[][..], 5, 6));
    assert_eq!(hash_of_line(all[4].trim_end().as_bytes()), resumed.head());
    let mut skipped = Verifier::resumed(2, first.head(), false);
    skipped.read_line("f", DAY, 4, all[3].trim_end().as_bytes(), &mut |_| {});
    assert_eq!(skipped.faults()[0].kind, FaultKind::Removed);
    let mut forked = Verifier::resumed(2, GENESIS, false);
    forked.read_line("f", DAY, 3, all[2].trim_end().as_bytes(), &mut |_| {});
    assert_eq!(forked.faults()[0].kind, FaultKind::Forked);
}

#[test]
fn flipping_any_bit_of_any_byte_is_found_on_its_line() {
    let original = lines(2).concat();
    for position in 0..original.len() {
        for bit in 0..8_u8 {
            let mut bytes = original.clone().into_bytes();
            bytes[position] ^= 1 << bit;
            let mut verifier = Verifier::default();
            verifier.read_file("f", DAY, &bytes, true, |_| {});
            assert!(!verifier.faults().is_empty(), "byte {position} bit {bit}");
        }
    }
}

#[test]
fn each_attack_is_named() {
    let all = lines(5);
    let without_third = [&all[..2], &all[3..]].concat().concat();
    assert_eq!(kinds(&without_third), [(3, FaultKind::Removed)]);
    let doubled = [&all[..3], &all[2..]].concat().concat();
    assert_eq!(kinds(&doubled)[0], (4, FaultKind::Inserted));
    let swapped = [&all[..1], &[all[2].clone(), all[1].clone()], &all[3..]].concat().concat();
    assert_eq!(kinds(&swapped)[0], (2, FaultKind::Removed));
    let foreign = Chain::resumed("cdb_execution", "test", 3, GENESIS).append("ORDER_FILLED", None, None, None, NOON).0;
    let forked = [&all[..2], &[foreign]].concat().concat();
    assert_eq!(kinds(&forked), [(3, FaultKind::Forked)]);
    let edited = all.concat().replacen("line one", "line 0ne", 1);
    assert_eq!(kinds(&edited), [(1, FaultKind::Edited)]);
    let torn = &all.concat()[..all.concat().len() - 10];
    assert_eq!(kinds(torn), [(5, FaultKind::TornTail)]);
    let junk = format!("{}hello\n", all.concat());
    assert_eq!(kinds(&junk), [(6, FaultKind::Unreadable)]);
}

#[test]
fn a_rewritten_line_with_a_recomputed_hash_breaks_the_next_one() {
    let all = lines(3);
    let mut chain = Chain::resumed("cdb_execution", "test", 2, verify_text(&all[0]).head());
    let forged = chain.append("ORDER_REJECTED", None, None, None, NOON).0;
    assert_eq!(kinds(&[all[0].clone(), forged, all[2].clone()].concat()), [(3, FaultKind::Forked)]);
}

#[test]
fn a_day_without_its_seal_and_a_record_of_a_later_day_are_found() {
    let mut verifier = Verifier::default();
    verifier.read_file("f", DAY, lines(2).concat().as_bytes(), false, |_| {});
    assert_eq!(verifier.faults()[0].kind, FaultKind::Unsealed);
    let mut verifier = Verifier::default();
    verifier.read_file("f", "2023-11-14", lines(1).concat().as_bytes(), true, |_| {});
    assert_eq!(verifier.faults()[0].kind, FaultKind::Misplaced);
}

#[test]
fn file_names_give_their_day_and_nothing_else_does() {
    assert_eq!(day_in_file_name(&file_name(NOON.day())), Some(DAY));
    for other in ["audit_2023-11-15.jsonl.torn", "audit_x.jsonl", "notes.txt"] {
        assert_eq!(day_in_file_name(other), None);
    }
}
