//! `kill -9` at random points of an order flow: every order that left has its earlier record, and the chain goes on. And
//! two writers of one chain: one at a time, whatever their number.
//!
//! `CDB_AUDIT_KILLS=1000` kills more often.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cdb_core::audit::Judgement;
use cdb_io::audit_files;
use cdb_tests::cell::programs;
use cdb_tests::chaos::Random;

/// Kills of one trail, after which a new one begins.
const KILLS_OF_A_TRAIL: u64 = 25;

fn flow(dir: &Path, prefix: &str, count: &str) -> Child {
    Command::new(programs().join("audit_flow"))
        .args([dir.to_str().unwrap(), prefix])
        .args((!count.is_empty()).then_some(count))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("audit_flow must be built: cargo build --workspace")
}

/// ClOrdIDs on record, how often the writer moved a torn line aside, and what can be said of the chain.
fn recorded(dir: &Path) -> (Vec<String>, usize, Judgement) {
    let (mut ids, mut torn) = (Vec::new(), 0);
    let verifier = audit_files::verify_dir(&dir.join("cdb_execution"), |record| {
        torn += usize::from(record.event_type == "TORN_TAIL");
        if let Some(order) = record.order {
            let order: serde_json::Value = serde_json::from_str(order.get()).unwrap();
            ids.push(order["cl_ord_id"].as_str().unwrap().to_owned());
        }
    });
    (ids, torn, verifier.unwrap().judgement())
}

#[test]
fn whenever_the_writer_is_killed_every_order_that_left_has_its_earlier_record() {
    let kills = std::env::var("CDB_AUDIT_KILLS").map_or(30, |text| text.parse().unwrap());
    let mut random = Random::seeded(kills);
    let (mut left, mut on_record, mut tails) = (0, 0, 0);
    let mut dir = tempfile::tempdir().unwrap();
    let mut arrived = BTreeSet::new();
    for kill in 0..kills {
        if kill % KILLS_OF_A_TRAIL == 0 {
            dir = tempfile::tempdir().unwrap();
            arrived = BTreeSet::new();
        }
        let mut child = flow(dir.path(), &format!("k{kill}"), "");
        let mut exchange = BufReader::new(child.stdout.take().unwrap()).lines();
        let orders = random.below(200);
        for _ in 0..orders {
            arrived.insert(exchange.next().expect("an order").unwrap());
        }
        // Somewhere within the next write, sync or send.
        for _ in 0..random.below(20_000) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What was still in the pipe had left as well. A last line may be cut off: that order did not arrive.
        arrived.extend(exchange.map_while(Result::ok).filter(|id| id.starts_with('k')));
        let (ids, torn, judgement) = recorded(dir.path());
        assert!(judgement <= Judgement::TornTail, "kill {kill}: {judgement:?}");
        let ids: BTreeSet<String> = ids.into_iter().collect();
        let missing: Vec<&String> = arrived.difference(&ids).collect();
        assert!(missing.is_empty(), "kill {kill}: sent and not on record: {missing:?}");
        if (kill + 1) % KILLS_OF_A_TRAIL == 0 || kill + 1 == kills {
            (left, on_record, tails) = (left + arrived.len(), on_record + ids.len(), tails + torn);
        }
    }
    assert!(left > 0);
    println!("{kills} kills: {left} orders had left, {on_record} were on record, {tails} torn lines were moved aside");
}

#[test]
fn fl_au_04_two_processes_that_append_to_one_chain_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = vec![("a", flow(dir.path(), "a", "300")), ("b", flow(dir.path(), "b", "300"))];
    let mut refused = 0;
    while let Some((name, child)) = running.pop() {
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            continue;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("another process writes it"), "{said}");
        refused += 1;
        assert!(refused < 1_000, "refused again and again");
        running.insert(0, (name, flow(dir.path(), name, "300")));
    }
    let (ids, _, judgement) = recorded(dir.path());
    assert_eq!(judgement, Judgement::Clean, "no number twice, no line glued to another");
    assert_eq!(ids.len(), 600);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 600);
}
