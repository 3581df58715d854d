use proptest::prelude::*;
use serde_json::{Value, json};

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

/// FL-AU-09 and more: what editors, terminals and Python's `splitlines` take for a line's end or for a command.
const LINE_BREAKERS: &[&str] = &[
    "line1\nline2",
    "a\rb",
    "a\u{2028}b\u{2029}c",
    "a\u{85}b\u{7f}c\u{9b}2J",
    "\u{1b}[2Jwiped",
    "quote\" back\\slash\ttab",
    "\u{202e}reversed\u{2066}",
    "\u{0}\u{b}\u{c}\u{1c}\u{1d}\u{1e}",
    "\"}\n{\"seq\":9}",
];

#[test]
fn fl_au_09_text_stays_on_its_line_for_every_reader_and_comes_back_the_same() {
    for text in LINE_BREAKERS {
        let mut chain = Chain::genesis("cdb_execution", "test");
        let (reason, order) = (json!({ "reason": text }), json!({ "note": text }));
        let line = chain.append("STOP_SET", Some(text), Some(&order), Some(&reason), NOON).0;
        let is_control = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
        let body = line.strip_suffix('\n').unwrap();
        assert!(!body.contains(is_control), "{body}");
        let record: Record<'_> = serde_json::from_str(body).unwrap();
        assert_eq!(record.actor.as_deref(), Some(*text));
        assert_eq!(serde_json::from_str::<Value>(record.result.unwrap().get()).unwrap(), reason);
        assert_eq!(serde_json::from_str::<Value>(record.order.unwrap().get()).unwrap(), order);
        assert_eq!(verify_text(&line).faults(), []);
    }
    assert!(
        serde_json::from_str::<Value>(r#"{"reason":"\ud800"}"#).is_err(),
        "half a character is refused on the way in"
    );
}

/// A record's fields in the order of its line.
const FIELDS: [&str; 10] =
    ["seq", "timestamp", "event_type", "actor", "order", "result", "service", "build", "prev", "hash"];

fn lines_of(texts: &[String]) -> Vec<String> {
    let mut chain = Chain::genesis("cdb_execution", "test");
    let append = |text: &String| {
        let (order, result) = (json!({"cl_ord_id": text}), json!({"text": text}));
        chain.append("ORDER_SUBMITTED", Some(text), Some(&order), Some(&result), NOON).0
    };
    texts.iter().map(append).collect()
}

/// The line with one field's value replaced, its fields in the same order; its hash made anew if so wished.
fn with_field(line: &str, field: &str, value: &Value, is_rehashed: bool) -> String {
    let record: Value = serde_json::from_str(line).unwrap();
    let pairs = FIELDS.iter().map(|name| {
        let value = if *name == field { value } else { &record[*name] };
        format!("{}:{value}", json!(name))
    });
    let mut text = format!("{{{}}}", pairs.collect::<Vec<_>>().join(","));
    if is_rehashed {
        text.truncate(text.len() - HASH_FIELD_LEN);
        text = format!("{text},\"hash\":\"{}\"}}", hash(text.as_bytes()));
    }
    text + "\n"
}

#[test]
fn rewriting_a_line_without_a_change_changes_nothing() {
    let line = &lines_of(&["a".to_owned()])[0];
    for field in FIELDS {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(with_field(line, field, &record[field], false), *line, "{field}");
    }
    assert_eq!(with_field(line, "build", &json!("test"), true), *line);
}

proptest! {
    #[test]
    fn every_field_matters(
        texts in prop::collection::vec("\\PC{0,20}", 2..6), at in any::<prop::sample::Index>(),
        field in prop::sample::select(&FIELDS[..]), other in "\\PC{1,12}",
    ) {
        let mut all = lines_of(&texts);
        let at = at.index(all.len());
        let before: Value = serde_json::from_str(&all[at]).unwrap();
        let value = match field {
            "seq" => json!(before["seq"].as_u64().unwrap() + u64::try_from(other.len()).unwrap()),
            "order" | "result" => json!({ "text": other, "changed": true }),
            _ => json!(format!("{}{other}", before[field].as_str().unwrap())),
        };
        all[at] = with_field(&all[at], field, &value, false);
        let found = kinds(&all.concat());
        prop_assert!(found.contains(&(at + 1, FaultKind::Edited)), "{field}: {found:?}");
    }

    #[test]
    fn a_changed_field_with_a_new_hash_shows_at_the_next_line(
        texts in prop::collection::vec("\\PC{0,20}", 2..6), at in any::<prop::sample::Index>(), other in "\\PC{1,12}",
    ) {
        let mut all = lines_of(&texts);
        let at = at.index(all.len() - 1);
        all[at] = with_field(&all[at], "result", &json!({ "forged": other }), true);
        prop_assert_eq!(kinds(&all.concat()), [(at + 2, FaultKind::Forked)]);
    }

    #[test]
    fn any_bytes_at_all_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut verifier = Verifier::default();
        verifier.read_file("f", DAY, &bytes, true, |_| {});
        prop_assert!(bytes.is_empty() || verifier.faults_found() > 0);
    }
}
