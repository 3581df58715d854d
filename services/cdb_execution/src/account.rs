//! Balances, published only from a moment when every fill is booked: nothing in flight, and nothing new found by a
//! sweep made after the balances were read. Under constant load, and under doubts that follow one another without a
//! pause, sending is held back to have such a moment before risk refuses everything for want of balances.
//!
//! Two such readings must be explained by the fills booked between them. What is not is a finding.

use std::time::{Duration, Instant};

use cdb_core::command::WIRE_VERSION;
use cdb_core::reconcile::{Flows, Unexplained, unexplained};
use cdb_core::report::{AccountSnapshot, AssetBalance, Execution, Finding, FindingKind};
use cdb_io::clock;
use cdb_mexc::endpoint::{Endpoint, Priority};

use crate::book::Book;
use crate::market::{Pairs, Quotes};
use crate::sender::Sender;
use crate::tracker::Tracker;
use crate::venue::Venue;

/// Pause between two readings when nothing happens.
const PAUSE: Duration = Duration::from_secs(5);
/// Pause after something happened, so that a burst is read once.
const SETTLE: Duration = Duration::from_millis(400);
/// Without a good moment for this long, one is made.
const MAKE_AFTER: Duration = Duration::from_secs(10);
/// Doubts that never end all at once, one following the other, for this long: sending waits until they have.
const CLEAR_AFTER: Duration = Duration::from_secs(30);
/// Longest such wait; a doubt that lasts longer is the breaker's business.
const CLEAR_MAX: Duration = Duration::from_secs(20);
/// A difference must be there this often before it is one: balance and fill may become visible one after the other.
const SEEN_TIMES: u32 = 3;

/// Reads and publishes balances for one term.
pub struct Accountant {
    book: Book,
    venue: Venue,
    tracker: Tracker,
    sender: Sender,
    pairs: Pairs,
    quotes: Quotes,
    /// The last reading that was published.
    baseline: Option<Vec<AssetBalance>>,
    /// How often in a row the same difference was seen.
    suspicions: u32,
}

impl Accountant {
    /// Goes on from the last reading that an earlier term published.
    pub const fn new(
        book: Book,
        venue: Venue,
        tracker: Tracker,
        sender: Sender,
        pairs: Pairs,
        quotes: Quotes,
        baseline: Option<Vec<AssetBalance>>,
    ) -> Self {
        Self { book, venue, tracker, sender, pairs, quotes, baseline, suspicions: 0 }
    }

    /// Reads and publishes for as long as the term lasts.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut activity = self.book.activity.subscribe();
        let mut published_at = Instant::now();
        let mut is_first = true;
        loop {
            let must_hold = is_first || published_at.elapsed() > MAKE_AFTER;
            let sender = self.sender.clone();
            let held = if must_hold { Some(sender.hold().await?) } else { None };
            if published_at.elapsed() > CLEAR_AFTER {
                // With nothing sent meanwhile no new doubt begins, and the old ones end at their fences.
                let _still_in_doubt = tokio::time::timeout(CLEAR_MAX, sender.without_doubts()).await;
            }
            let is_published = self.read(held.is_some()).await?;
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

    async fn read(&mut self, is_held: bool) -> anyhow::Result<bool> {
        let activity_before = *self.book.activity.borrow();
        if self.sender.is_in_doubt() || (!is_held && !self.sender.is_idle()) {
            return Ok(false);
        }
        let account = async |client: &cdb_mexc::client::Client, stamp| client.account(stamp).await;
        let account = match self.venue.call(Endpoint::Account, Priority::Query, account).await? {
            Ok(account) => account,
            Err(trouble) => {
                tracing::warn!(text = trouble.text, "the account could not be read");
                return Ok(false);
            }
        };
        let (exchange_time, Ok(clock_offset_ms)) = (self.venue.exchange_time(), self.venue.offset_ms()) else {
            return Ok(false);
        };
        self.tracker.sweep().await?;
        let is_quiet = *self.book.activity.borrow() == activity_before
            && (is_held || self.sender.is_idle())
            && !self.sender.is_in_doubt();
        if !is_quiet {
            return Ok(false);
        }
        let balances = account.balances.into_iter().map(|(asset, free, locked)| AssetBalance { asset, free, locked });
        let balances: Vec<AssetBalance> =
            balances.filter(|balance| !balance.free.is_zero() || !balance.locked.is_zero()).collect();
        if !self.is_explained(&balances).await? {
            return Ok(false);
        }
        self.quotes.on_held(balances.iter().map(|balance| &balance.asset));
        let snapshot = Execution::AccountSnapshot(AccountSnapshot {
            v: WIRE_VERSION,
            balances: balances.clone(),
            can_trade: account.can_trade,
            can_withdraw: account.can_withdraw,
            clock_offset_ms,
            exchange_time,
            ts: clock::now(),
            mode: self.book.mode(),
        });
        self.book.gatekeeper().publish(vec![snapshot.to_json()]).await?;
        self.baseline = Some(balances);
        self.suspicions = 0;
        self.book.begin_account();
        Ok(true)
    }

    /// Whether the balances may be published: explained by the fills, or reported as not. A difference is looked at
    /// again first.
    async fn is_explained(&mut self, balances: &[AssetBalance]) -> anyhow::Result<bool> {
        let Some(baseline) = &self.baseline else { return Ok(true) };
        let Some(flows) = self.flows() else { return Ok(true) };
        let differences = unexplained(baseline, balances, &flows);
        if differences.is_empty() {
            return Ok(true);
        }
        self.suspicions += 1;
        if self.suspicions < SEEN_TIMES {
            return Ok(false);
        }
        for difference in differences {
            self.report(difference).await?;
        }
        Ok(true)
    }

    /// What the fills since the baseline did; `None` when a symbol's assets are not known.
    fn flows(&self) -> Option<Flows> {
        let mut flows = Flows::default();
        for (symbol, side, fill) in self.book.fills_of_account() {
            let Some((base, quote)) = self.pairs.of(&symbol) else {
                tracing::warn!(%symbol, "its assets are not known; the balances are taken as they are");
                return None;
            };
            flows.add(&base, &quote, side, &fill);
        }
        Some(flows)
    }

    async fn report(&self, difference: Unexplained) -> anyhow::Result<()> {
        let Unexplained { asset, before, expected, actual } = difference;
        let told = self.book.transfer_of(&asset);
        let (kind, text) = match &told {
            Some(cause) => (FindingKind::Transfer, format!("{asset}: the exchange says {cause}")),
            None => (
                FindingKind::BalanceBreak,
                format!(
                    "{asset} changed and no fill explains it: a transfer that nobody told of, or a trade unknown here"
                ),
            ),
        };
        tracing::error!(%asset, %before, %expected, %actual, ?kind, "a balance is not explained by the fills");
        let finding = Finding {
            v: WIRE_VERSION,
            kind,
            symbol: None,
            order_id: None,
            trade_id: None,
            ours: Some(format!("{} {asset}", expected.normalize())),
            theirs: Some(format!("{} {asset}", actual.normalize())),
            text,
            ts: clock::now(),
        };
        self.book.publish_finding(finding).await
    }
}
