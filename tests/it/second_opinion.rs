//! What risk decided is decided again by cdb_monitor and by `cdb replay`, from what was recorded; a decision that the
//! rules do not give is an alert.

use cdb_tests::cell::Cell;
use cdb_tests::metrics::sum;
use cdb_tests::orders::{cancel, cancel_all, market_buy, market_sell, resting_buy};
use serde_json::Value;

async fn opinions(cell: &Cell, opinion: &str) -> f64 {
    let page = cell.http("cdb_monitor", "/metrics").await;
    sum(&page, "cdb_monitor_second_opinions_total", &[("opinion", opinion)])
}

async fn alerts(cell: &Cell) -> Vec<Value> {
    let events = cell.stream("cdb:events").await.into_iter();
    events.filter(|event| event["type"] == "alert_raised" && event["detail"]["rule"] == "second_opinion").collect()
}

fn replayed(cell: &Cell, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["replay", "--json"], arguments].concat();
    let output = cell.cdb(&arguments);
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), json)
}

/// Orders of every kind, one after the other, in two terms of risk.
async fn trade(cell: &Cell, term: &str) {
    let id = |name: &str| format!("{term}-{name}");
    let mut malformed = market_buy(&id("malformed"), "0.001");
    malformed["qty"] = "NaN".into();
    let commands = [
        market_buy(&id("buy"), "0.002"),
        resting_buy(&id("rests"), "0.001"),
        market_buy(&id("too-large"), "5"),
        malformed,
        market_sell(&id("sell"), "0.001"),
        cancel(&id("cancel"), &id("rests")),
        market_sell(&id("more-than-held"), "5"),
        cancel_all(&id("all")),
    ];
    for command in &commands {
        let entry = cell.put(&command.to_string()).await;
        cell.until("the entry is answered", async || {
            cell.stream("cdb:verdicts").await.iter().any(|verdict| verdict["entry"] == entry.as_str())
        })
        .await;
    }
    // The same entry's content once more: its verdict is published again.
    cell.put(&commands[0].to_string()).await;
    cell.until("every order has ended", async || cell.unfinished().await.is_empty()).await;
}

#[tokio::test]
async fn every_decision_comes_out_the_same_and_one_that_does_not_is_an_alert() {
    let cell = Cell::start().await;
    trade(&cell, "one").await;
    assert!(cell.cdb(&["stop", "drill"]).status.success());
    cell.put(&market_buy("stopped", "0.001").to_string()).await;
    cell.until("it is answered", async || {
        cell.stream("cdb:verdicts").await.iter().any(|verdict| verdict["cl_ord_id"] == "stopped")
    })
    .await;
    assert!(cell.cdb(&["resume", "--reason", "drill over"]).status.success());
    // Until risk has seen the DEL it gives no permit, and the gate refuses what it approves.
    let tried = std::cell::Cell::new(0);
    cell.until("risk has heard of it", async || {
        let id = format!("resumed-{}", tried.replace(tried.get() + 1));
        cell.put(&market_buy(&id, "0.001").to_string()).await;
        cell.until("it ends", async || cell.unfinished().await.is_empty() && cell.state_of(&id).await.is_some()).await;
        cell.state_of(&id).await.as_deref() == Some("Filled")
    })
    .await;
    cell.kill("cdb_risk");
    trade(&cell, "two").await;

    let (code, said) = replayed(&cell, &[]);
    let same = said["counts"]["same"].as_u64().unwrap();
    assert_eq!((code, &said["not_the_same"]), (Some(0), &serde_json::json!([])), "{said}");
    let first_answers: std::collections::BTreeSet<String> =
        cell.stream("cdb:verdicts").await.iter().map(|verdict| verdict["entry"].to_string()).collect();
    assert_eq!(same, u64::try_from(first_answers.len()).unwrap());
    assert!(same >= 17, "{said}");
    cell.until("the monitor has looked at all", async || opinions(&cell, "same").await as u64 == same).await;
    assert_eq!(replayed(&cell, &["--day", "2001-01-01"]).1["counts"]["same"], 0);
    assert!(alerts(&cell).await.is_empty());

    // Whoever can write the stream without the key cannot make the executor believe it; here it is also noticed.
    let mut forged =
        cell.stream("cdb:verdicts").await.into_iter().find(|verdict| verdict["reason"] == "order_too_large");
    let forged = forged.as_mut().unwrap().as_object_mut().unwrap();
    forged.remove("reason");
    forged.insert("decision".to_owned(), "approved".into());
    let mut add = redis::cmd("XADD");
    add.arg("cdb:verdicts").arg("*").arg("json").arg(serde_json::to_string(forged).unwrap()).arg("sig").arg("0");
    let _: String = add.query_async(&mut cell.as_superuser().await).await.unwrap();
    cell.until("an alert is raised", async || alerts(&cell).await.len() == 1).await;
    let (code, said) = replayed(&cell, &[]);
    assert_eq!((code, &said["counts"]["differs"]), (Some(6), &1.into()), "{said}");

    cell.kill("cdb_monitor");
    cell.put(&market_buy("after", "0.0005").to_string()).await;
    cell.until("another process has looked at it", async || opinions(&cell, "same").await == 1.0).await;
    assert_eq!(alerts(&cell).await.len(), 1, "told once");
}
