use super::*;

/// The secret of RFC 8032, section 7.1, test 1.
const SEED: &[u8] = b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn key() -> CheckpointKey {
    CheckpointKey::new("cdb", &Secret::parse(SEED).ok().unwrap()).ok().unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: "cdb/cdb_execution".to_owned(),
        size: 41,
        root: [7; 32],
        head: [0xab; 32],
        at: Timestamp::from_millis(1_700_006_400_123),
    }
}

#[test]
fn a_note_of_another_implementation_is_read() {
    // Key and note are the example of Go's package golang.org/x/mod/sumdb/note.
    let key: PublicKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let note = format!(
        "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    );
    assert_eq!(signed_text(&note, &key), Ok(text));
    assert_eq!(verify(&note, &key), Err(NoteFault::NotACheckpoint));
}

#[test]
fn the_note_is_these_bytes() {
    let key = key();
    assert_eq!(hex::encode(key.public().bytes), PUBLIC);
    let note = key.sign(&checkpoint());
    let text = "cdb/cdb_execution\n41\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\
                head abababababababababababababababababababababababababababababababab\n\
                time 2023-11-15T00:00:00.123Z\n\n\u{2014} cdb ";
    assert!(note.starts_with(text), "{note}");
    // Ed25519 gives one signature only.
    assert_eq!(note, key.sign(&checkpoint()));
    assert_eq!(verify(&note, key.public()), Ok(checkpoint()));
    assert_eq!(checkpoint().chain(), "cdb_execution");
}

#[test]
fn flipping_any_bit_of_a_note_is_found() {
    let key = key();
    let note = key.sign(&checkpoint()).into_bytes();
    for position in 0..note.len() {
        for bit in 0..8_u8 {
            let mut bytes = note.clone();
            bytes[position] ^= 1 << bit;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(verify(&text, key.public()).is_err(), "byte {position} bit {bit}: {text}");
        }
    }
}

#[test]
fn every_field_is_under_the_signature() {
    let key = key();
    let note = key.sign(&checkpoint());
    let others = [
        Checkpoint { origin: "cdb/cdb_risk".to_owned(), ..checkpoint() },
        Checkpoint { size: 40, ..checkpoint() },
        Checkpoint { root: [8; 32], ..checkpoint() },
        Checkpoint { head: [8; 32], ..checkpoint() },
        Checkpoint { at: checkpoint().at.plus_ms(1), ..checkpoint() },
    ];
    for other in others {
        let forged = note.replacen(&checkpoint().text(), &other.text(), 1);
        assert_ne!(forged, note);
        assert_eq!(verify(&forged, key.public()), Err(NoteFault::BadSignature), "{other:?}");
    }
}

#[test]
fn a_genuine_note_in_another_spelling_is_no_checkpoint() {
    let key = key();
    let good = checkpoint().text();
    let spellings = [
        good.replace("\n41\n", "\n041\n"),
        good.replace("\n41\n", "\n+41\n"),
        good.replace("head ab", "head AB"),
        good.replace(".123Z", "Z"),
        format!("{good}more\n"),
        good.replace("cdb/cdb_execution", "cdb/cdb execution"),
    ];
    for text in spellings {
        assert_ne!(text, good);
        let mut signature = key.public.id.to_vec();
        signature.extend_from_slice(key.pair.sign(text.as_bytes()).as_ref());
        let note = format!("{text}\n{SIGNATURE}cdb {}\n", BASE64.encode(signature));
        assert_eq!(verify(&note, key.public()), Err(NoteFault::NotACheckpoint), "{text}");
    }
}

#[test]
fn notes_of_other_keys_are_not_accepted_and_further_signatures_do_no_harm() {
    let other = CheckpointKey::new("cdb", &Secret::parse(&[b'1'; 64]).ok().unwrap()).ok().unwrap();
    let renamed = CheckpointKey::new("desk", &Secret::parse(SEED).ok().unwrap()).ok().unwrap();
    let key = key();
    for stranger in [&other, &renamed] {
        assert_eq!(verify(&stranger.sign(&checkpoint()), key.public()), Err(NoteFault::OtherKey));
    }
    let note = key.sign(&checkpoint());
    let theirs = other.sign(&checkpoint());
    let line = theirs.lines().last().unwrap();
    assert_eq!(verify(&format!("{note}{line}\n"), key.public()), Ok(checkpoint()));
    assert_eq!(verify(&note.repeat(2), key.public()), Err(NoteFault::BadSignature));
    for junk in ["", "\n", "\n\n", "a\n\nb\n", "a\n\n\u{2014} cdb\n", "a\n\n\u{2014} cdb AAAA\n"] {
        assert!(verify(junk, key.public()).is_err(), "{junk:?}");
    }
}

#[test]
fn a_public_key_reads_back_and_a_damaged_one_is_refused() {
    let key = key();
    let text = key.public().to_string();
    assert_eq!(text.parse(), Ok(key.public().clone()));
    assert_eq!(format!("{text}\n").parse(), Ok(key.public().clone()));
    for position in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[position] ^= 1;
        assert!(String::from_utf8(bytes).unwrap().parse::<PublicKey>().is_err(), "byte {position}");
    }
    let mut other_kind = vec![4_u8];
    other_kind.extend_from_slice(&key.public.bytes);
    let other_kind = format!("cdb+{}+{}", hex::encode(key.public.id), BASE64.encode(other_kind));
    assert_eq!(other_kind.parse::<PublicKey>(), Err(KeyFault::OtherAlgorithm));
}

#[test]
fn a_seed_or_name_of_another_form_is_refused() {
    let fault = |name: &str, seed: &[u8]| CheckpointKey::new(name, &Secret::parse(seed).ok().unwrap()).err();
    assert_eq!(fault("cdb", b"abcd"), Some(KeyFault::NotHex));
    assert_eq!(fault("cdb", &[b'z'; 64]), Some(KeyFault::NotHex));
    assert_eq!(fault("cdb", &[b'1'; 66]), Some(KeyFault::NotHex));
    for name in ["", "a b", "a+b", "a\n", "a\u{a0}b"] {
        assert_eq!(fault(name, SEED), Some(KeyFault::Name), "{name:?}");
    }
}

#[test]
fn notes_one_after_the_other_are_told_apart() {
    let key = key();
    let (one, two) = (key.sign(&checkpoint()), key.sign(&Checkpoint { size: 42, ..checkpoint() }));
    assert_eq!(split_notes(&format!("{one}{two}")), [&one, &two]);
    assert_eq!(split_notes(&format!("\n{one}\n\n{two}\n")), [&one, &two]);
    assert_eq!(split_notes(&one), [&one]);
    assert!(split_notes("\n \n").is_empty());
    // What is cut off stays visible as a note that does not verify.
    let cut = &two[..two.len() - 20];
    let (whole, cut_off) = (format!("{one}{cut}"), split_notes(&format!("{one}{cut}")).len());
    assert_eq!(cut_off, 2);
    assert!(verify(split_notes(&whole)[1], key.public()).is_err());
}
