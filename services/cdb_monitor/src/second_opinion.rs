//! Looks at every verdict again, as soon as it is published, and raises an alert where the same checks say otherwise.

use std::time::Duration;

use cdb_core::event::{Event, EventType};
use cdb_core::ids::EntryId;
use cdb_core::second_opinion::{Opinion, Reviewed};
use cdb_io::bus::Bus;
use cdb_io::review::Review;
use cdb_io::supervise::Shutdown;
use cdb_io::{clock, events};
use serde_json::json;

use crate::config::Config;
use crate::ledger::Ledger;
use crate::observe::Observer;

/// Name of the alert, and of the cursor up to which verdicts were looked at by an earlier process.
const RULE: &str = "second_opinion";
/// Pause between two looks at the stream, and before trying again.
const PAUSE: Duration = Duration::from_millis(1_000);

/// Looks until the end is asked for.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn run(
    config: Config,
    ledger: Ledger,
    bus: Bus,
    observer: Observer,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        let error = tokio::select! {
            () = shutdown.asked() => return Ok(()),
            Err(error) = look(&config, &ledger, &bus, &observer) => error,
        };
        observer.trouble(&error);
        tracing::warn!(error = format!("{error:#}"), "the second look at the verdicts begins again");
        tokio::select! {
            () = shutdown.asked() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn look(config: &Config, ledger: &Ledger, bus: &Bus, observer: &Observer) -> anyhow::Result<()> {
    let mut looked_at = EntryId::parse(&ledger.cursor(RULE).await?);
    let mut review = Review::of(bus);
    loop {
        while let Some(page) = review.next().await? {
            let last = page.last().map(|(entry, _)| entry.clone());
            for (entry, reviewed) in page {
                if looked_at.as_ref().is_none_or(|before| entry.is_after(before)) {
                    tell(config, bus, observer, &entry, reviewed).await?;
                }
            }
            if let Some(last) = last.filter(|last| looked_at.as_ref().is_none_or(|before| last.is_after(before))) {
                ledger.move_cursor(RULE, &last).await?;
                looked_at = Some(last);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tell(
    config: &Config,
    bus: &Bus,
    observer: &Observer,
    entry: &EntryId,
    reviewed: Result<Reviewed, String>,
) -> anyhow::Result<()> {
    let (order, opinion) = match reviewed {
        Ok(reviewed) => (Some(reviewed.cl_ord_id), reviewed.opinion),
        Err(problem) => (None, Opinion::Differs(format!("the verdict cannot be read: {problem}"))),
    };
    observer.second_opinion(opinion.word());
    if !opinion.is_finding() {
        return Ok(());
    }
    let name = order.as_ref().map_or("-", |id| id.as_str());
    tracing::error!(entry = %entry, cl_ord_id = name, opinion = %opinion, "a second look at a verdict says otherwise");
    let reason = format!("a second look at the verdict on {name} says otherwise: {opinion}");
    let detail = json!({
        "rule": RULE, "level": "critical", "entry": entry, "cl_ord_id": order, "opinion": opinion.word(),
    });
    let event = Event::by_service(EventType::AlertRaised, config.service.service, reason, detail, clock::now());
    Ok(events::publish(&mut bus.commands(), &event).await?)
}
