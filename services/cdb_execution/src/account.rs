//! Balances, published only from a moment when every fill is booked: nothing in flight, and nothing new found by a
//! sweep made after the balances were read. Under constant load, sending is held back briefly to have such a moment.

use std::time::{Duration, Instant};

use cdb_core::command::WIRE_VERSION;
use cdb_core::report::{AccountSnapshot, AssetBalance, Execution};
use cdb_io::clock;
use cdb_mexc::endpoint::{Endpoint, Priority};

use crate::book::Book;
use crate::sender::Sender;
use crate::tracker::Tracker;
use crate::venue::Venue;

/// Pause between two readings when nothing happens.
const PAUSE: Duration = Duration::from_secs(5);
/// Pause after something happened, so that a burst is read once.
const SETTLE: Duration = Duration::from_millis(400);
/// Without a good moment for this long, one is made.
const MAKE_AFTER: Duration = Duration::from_secs(10);

/// Reads and publishes for as long as the term lasts.
///
/// # Errors
/// Redis failed.
pub async fn run(book: Book, venue: Venue, tracker: Tracker, sender: Sender) -> anyhow::Result<()> {
    let mut activity = book.activity.subscribe();
    let mut published_at = Instant::now();
    let mut is_first = true;
    loop {
        let must_hold = is_first || published_at.elapsed() > MAKE_AFTER;
        let held = if must_hold { Some(sender.hold().await?) } else { None };
        let is_published = read(&book, &venue, &tracker, &sender, held.is_some()).await?;
        drop(held);
        if is_published {
            published_at = Instant::now();
            is_first = false;
            // Reading marks changes as seen; what comes after the reading wakes the next one early.
            activity.borrow_and_update();
            let _timed_out = tokio::time::timeout(PAUSE, activity.changed()).await;
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn read(book: &Book, venue: &Venue, tracker: &Tracker, sender: &Sender, is_held: bool) -> anyhow::Result<bool> {
    let activity_before = *book.activity.borrow();
    if sender.is_in_doubt() || (!is_held && !sender.is_idle()) {
        return Ok(false);
    }
    let answer =
        venue.call(Endpoint::Account, Priority::Query, async |client, stamp| client.account(stamp).await).await?;
    let account = match answer {
        Ok(account) => account,
        Err(trouble) => {
            tracing::warn!(text = trouble.text, "the account could not be read");
            return Ok(false);
        }
    };
    let (exchange_time, Ok(clock_offset_ms)) = (venue.exchange_time(), venue.offset_ms()) else { return Ok(false) };
    tracker.sweep().await?;
    let is_quiet = *book.activity.borrow() == activity_before && (is_held || sender.is_idle()) && !sender.is_in_doubt();
    if !is_quiet {
        return Ok(false);
    }
    let balances = account.balances.into_iter().map(|(asset, free, locked)| AssetBalance { asset, free, locked });
    let snapshot = Execution::AccountSnapshot(AccountSnapshot {
        v: WIRE_VERSION,
        balances: balances.filter(|balance| !balance.free.is_zero() || !balance.locked.is_zero()).collect(),
        can_trade: account.can_trade,
        can_withdraw: account.can_withdraw,
        clock_offset_ms,
        exchange_time,
        ts: clock::now(),
        mode: book.mode(),
    });
    book.gatekeeper().publish(vec![snapshot.to_json()]).await?;
    Ok(true)
}
