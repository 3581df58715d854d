//! What the services say about themselves: names of one form, labels out of closed sets, everything there at 0 before
//! anything happened, and no series more however odd the orders are.

use std::collections::{BTreeMap, BTreeSet};

use cdb_core::breaker::Cause;
use cdb_core::event::{EventType, SecurityKind};
use cdb_core::limits::Limits;
use cdb_core::reason::{GateRefusal, Reason};
use cdb_core::report::FindingKind;
use cdb_mexc::endpoint::Endpoint;
use cdb_tests::cell::{Cell, WIDE};
use cdb_tests::metrics::{Sample, samples, sum, types};
use serde_json::json;

const SERVICES: [&str; 3] = ["cdb_risk", "cdb_execution", "cdb_monitor"];

/// Where each label's values come from.
fn known_values() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let (_, settings) = Limits::from_variables(&BTreeMap::new()).ok().unwrap();
    let words = |words: &[&'static str]| words.to_vec();
    let gate = GateRefusal::ALL.iter().map(|refusal| refusal.code()).chain(["granted", "wait", "not_leader"]);
    let kinds = FindingKind::ALL.iter().map(|kind| kind.as_str());
    let kinds = kinds.chain(SecurityKind::ALL.iter().map(|kind| kind.as_str())).chain(["429", "418"]);
    let ends = ["no_connection", "not_subscribed", "no_listen_key", "silent", "closed", "aged"];
    let exec_types = ["PendingNew", "New", "Trade", "PendingCancel", "Canceled", "Rejected", "Expired", "OrderStatus"];
    let streams = ["user", "market", "cdb:orders", "cdb:verdicts", "cdb:executions", "cdb:events", "cdb:dead"];
    let reasons = Reason::ALL.iter().map(|reason| reason.code()).collect::<Vec<_>>();
    let rows = [
        ("reason", reasons.clone()),
        ("check", reasons),
        ("outcome", words(&["passed", "refused"])),
        (
            "state",
            words(&[
                "unknown",
                "closed",
                "open",
                "half_open",
                "clear",
                "stopped",
                "present",
                "absent",
                "clean",
                "broken",
            ]),
        ),
        ("cause", Cause::ALL.iter().map(|cause| cause.code()).chain(ends).collect()),
        ("change", words(&["set", "cleared"])),
        ("limit", settings.iter().map(|setting| setting.name).collect()),
        ("answer", gate.collect()),
        ("exec_type", words(&exec_types)),
        ("kind", kinds.collect()),
        ("meaning", words(&["refused", "unknown", "rate_limited", "banned", "not_found", "no_listen_key"])),
        ("stream", words(&streams)),
        ("message", words(&["order", "deal", "balance", "book", "last", "other", "strange"])),
        ("endpoint", Endpoint::ALL.iter().map(|endpoint| endpoint.name()).collect()),
        ("type", EventType::ALL.iter().map(|event_type| event_type.as_str()).collect()),
        ("service", words(&SERVICES)),
        ("opinion", words(cdb_core::second_opinion::Opinion::WORDS)),
        ("group", words(&["cdb_risk", "cdb_execution"])),
        ("place", words(&["ledger", "copies"])),
    ];
    rows.into_iter().map(|(label, values)| (label, values.into_iter().collect())).collect()
}

async fn pages(cell: &Cell) -> Vec<(&'static str, String)> {
    let mut pages = Vec::new();
    for service in SERVICES {
        pages.push((service, cell.http(service, "/metrics").await));
    }
    pages
}

#[tokio::test]
async fn names_have_one_form_labels_come_from_closed_sets_and_every_value_is_there_before_anything_happened() {
    let cell = Cell::start().await;
    let known = known_values();
    let mut met: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (service, page) in pages(&cell).await {
        let types = types(&page);
        assert!(types.len() > 10, "{service} serves no metrics:\n{page}");
        for (name, kind) in &types {
            let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            assert!(is_plain && name.starts_with(&format!("{service}_")), "{name} of {service}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        }
        for Sample { name, labels, .. } in samples(&page) {
            // One series each, of the build and of the key in use.
            if name.ends_with("_build_info") || name.ends_with("_key_info") {
                continue;
            }
            for (label, value) in labels.into_iter().filter(|(label, _)| label != "le") {
                let values = known.get(label.as_str()).unwrap_or_else(|| panic!("{name} has a label {label}"));
                assert!(values.contains(value.as_str()), "{name}: {label}={value} is of no closed set");
                met.entry(format!("{name} {label}")).or_default().insert(value);
            }
        }
    }
    let all_of = |series: &str, label: &str| {
        let met = met.get(series).unwrap_or_else(|| panic!("{series} is not there"));
        let known: BTreeSet<String> = known[label].iter().map(|value| (*value).to_owned()).collect();
        assert_eq!(*met, known, "{series}");
    };
    all_of("cdb_risk_rejected_total reason", "reason");
    all_of("cdb_risk_checks_total check", "check");
    all_of("cdb_execution_gate_answers_total answer", "answer");
    all_of("cdb_execution_exchange_latency_seconds_count endpoint", "endpoint");
    all_of("cdb_monitor_events_total type", "type");
    assert_eq!(met["cdb_execution_findings_total kind"].len(), FindingKind::ALL.len());
    assert_eq!(met["cdb_execution_security_total kind"].len(), SecurityKind::ALL.len());
}

/// FL-AL-07: one time series per order.
#[tokio::test]
async fn ten_thousand_orders_of_five_hundred_odd_symbols_add_no_series() {
    let cell = Cell::start_with(WIDE, &["--unlimited-exchange"]).await;
    let count = async || pages(&cell).await.iter().map(|(_, page)| samples(page).len()).sum::<usize>();
    let before = count().await;
    let mut pipeline = redis::pipe();
    for n in 0..10_000_u32 {
        let order = json!({
            "v": 1, "type": "new", "cl_ord_id": format!("odd-{n}"), "strategy": format!("strategy-{}", n % 200),
            "symbol": format!("ODD{}USDT", n % 500), "side": "BUY", "ord_type": "MARKET", "qty": "1",
            "ts": cdb_io::clock::now(), format!("field_{}", n % 200): 1,
        });
        pipeline.xadd("cdb:orders", "*", &[("json", order.to_string())]).ignore();
    }
    let () = pipeline.query_async(&mut cell.operator().commands()).await.unwrap();
    cell.until("all are refused", async || cell.length_of("cdb:verdicts").await == 10_000).await;
    let refused = async || sum(&cell.http("cdb_risk", "/metrics").await, "cdb_risk_rejected_total", &[]);
    cell.until("all are counted", async || (refused().await - 10_000.0).abs() < 0.5).await;
    assert_eq!(count().await, before, "series were added");
}
