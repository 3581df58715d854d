//! Everything behind one lock, and what survives a restart of the stand-in.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::auth::Keys;
use crate::budget::Budget;
use crate::exchange::{Change, Exchange};
use crate::faults::Faults;
use crate::hub::Hub;

/// Requests remembered for tests.
const SEEN_MAX: usize = 200_000;

/// One request as it arrived.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Epoch µs.
    pub at_us: i64,
    /// `POST order`
    pub endpoint: String,
    /// `symbol` parameter.
    pub symbol: Option<String>,
    /// `newClientOrderId` or `origClientOrderId` parameter.
    pub client_id: Option<String>,
    /// Id of the order it made.
    pub order_id: Option<String>,
    /// HTTP status answered; `None` while unanswered.
    pub status: Option<u16>,
    /// Code of a refusal.
    pub code: Option<i64>,
    /// Fault that hit it.
    pub fault: Option<String>,
}

/// Settings that a client must survive in every position (exchange API §15).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// New orders are invisible to queries for this long, ms.
    pub visibility_delay_ms: i64,
    /// The exchange's clock runs ahead by this, ms.
    pub clock_skew_ms: i64,
    /// Everything signed is refused.
    pub is_key_revoked: bool,
    /// Replies carry fields that no documentation names.
    pub extra_fields: bool,
    /// `code` of errors is a string.
    pub code_as_string: bool,
    /// `NEW`, `CANCELED` or empty = absent.
    pub cancel_status: String,
    /// What stands in `clientOrderId` of an order without one: `null`, `empty` or `absent`.
    pub missing_client_id: String,
    /// `code` of wrapped successes: 0 or 200.
    pub success_code: i64,
    /// The key may withdraw.
    pub can_withdraw: bool,
    /// Requests and answers are each under way for a random time up to twice this, ms; what counts is the arrival.
    pub network_delay_ms: u64,
    /// A listen key lives for this long, ms.
    pub listen_key_life_ms: i64,
    /// A stream whose listen key lapsed is closed; otherwise it falls silent.
    pub lapsed_key_closes: bool,
    /// A connection with a dead key breaks without a word.
    pub dead_key_breaks: bool,
    /// A connection opened from now on lives for this long, ms.
    pub stream_life_ms: u64,
    /// User streams say nothing.
    pub stream_is_silent: bool,
    /// Frames come this much later, ms.
    pub stream_delay_ms: u64,
    /// Chance that a frame is lost, per mille.
    pub stream_drop_per_mille: u64,
    /// Chance that a frame comes twice, per mille.
    pub stream_duplicate_per_mille: u64,
    /// Chance that the next frame overtakes this one, per mille.
    pub stream_reorder_per_mille: u64,
    /// Chance that half of a frame comes before the whole, per mille.
    pub stream_broken_per_mille: u64,
    /// Channels whose name begins like this cannot be subscribed to.
    pub blocked_channels: Vec<String>,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            visibility_delay_ms: 0,
            clock_skew_ms: 0,
            is_key_revoked: false,
            extra_fields: false,
            code_as_string: false,
            cancel_status: "NEW".to_owned(),
            missing_client_id: "null".to_owned(),
            success_code: 0,
            can_withdraw: false,
            network_delay_ms: 0,
            listen_key_life_ms: 3_600_000,
            lapsed_key_closes: false,
            dead_key_breaks: false,
            stream_life_ms: 86_400_000,
            stream_is_silent: false,
            stream_delay_ms: 0,
            stream_drop_per_mille: 0,
            stream_duplicate_per_mille: 0,
            stream_reorder_per_mille: 0,
            stream_broken_per_mille: 0,
            blocked_channels: Vec::new(),
        }
    }
}

/// The stand-in.
pub struct Inner {
    /// Books.
    pub exchange: Exchange,
    /// Key pair.
    pub keys: Keys,
    /// Limits.
    pub budget: Budget,
    /// What goes wrong.
    pub faults: Faults,
    /// Streams.
    pub hub: Hub,
    /// Behaviour.
    pub switches: Switches,
    /// Requests seen.
    pub seen: VecDeque<Seen>,
    /// Number of the oldest request in `seen`.
    pub seen_from: u64,
    /// Where the books are kept.
    pub kept: Option<Kept>,
    /// Balances at the start, for a reset.
    pub opening: Vec<(String, Decimal)>,
}

impl Inner {
    /// The exchange's clock, epoch ms.
    #[must_use]
    pub fn exchange_ms(&self) -> i64 {
        now_us() / 1_000 + self.switches.clock_skew_ms
    }

    /// Remembers a request; its number.
    pub fn see(&mut self, seen: Seen) -> u64 {
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
            self.seen_from += 1;
        }
        self.seen.push_back(seen);
        self.seen_from + u64::try_from(self.seen.len()).unwrap_or_default() - 1
    }

    /// Forgets every request that was answered or not.
    pub fn forget_seen(&mut self) {
        self.seen_from += u64::try_from(self.seen.len()).unwrap_or_default();
        self.seen.clear();
    }

    /// A remembered request.
    pub fn seen_mut(&mut self, number: u64) -> Option<&mut Seen> {
        let index = number.checked_sub(self.seen_from)?;
        self.seen.get_mut(usize::try_from(index).ok()?)
    }

    /// Tells the streams what happened since they were last told.
    fn tell_streams(&mut self) {
        let now = self.exchange_ms();
        for event in std::mem::take(&mut self.exchange.events) {
            self.hub.tell(&event, &self.exchange, &self.switches, &mut self.faults, now);
        }
    }

    /// Appends what changed to the file of the books, before anybody is told of it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&mut self) -> std::io::Result<()> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.append(&self.exchange.change(kept.trades), self.exchange.trades.len())
    }

    /// Writes the whole books anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_whole(&mut self) -> std::io::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        self.kept = Some(Kept::begin(kept.path.clone(), &self.exchange)?);
        Ok(())
    }
}

/// The file that keeps the books over a restart: one change a line.
pub struct Kept {
    path: PathBuf,
    file: File,
    /// Trades that are in it.
    trades: usize,
}

impl Kept {
    /// Begins the file with the whole books; it is there whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(path: PathBuf, exchange: &Exchange) -> std::io::Result<Self> {
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&line(&exchange.whole())?)?;
        std::fs::rename(&aside, &path)?;
        Ok(Self { path, file, trades: exchange.trades.len() })
    }

    /// Reads the books back. A last line that broke off was told to nobody.
    ///
    /// # Errors
    /// The file cannot be read, or a line is no change.
    pub fn restore(path: &Path) -> anyhow::Result<Exchange> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut exchange = Exchange::default();
        for (index, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
            let change = serde_json::from_str(line);
            let change = change.with_context(|| format!("{} line {} is no change of books", path.display(), index + 1));
            exchange.apply(change?);
        }
        Ok(exchange)
    }

    fn append(&mut self, change: &Change, trades: usize) -> std::io::Result<()> {
        self.file.write_all(&line(change)?)?;
        self.trades = trades;
        Ok(())
    }
}

fn line(change: &Change) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(change)?;
    line.push(b'\n');
    Ok(line)
}

/// The stand-in, shared.
pub struct Shared(Mutex<Inner>);

impl Shared {
    /// Wraps it.
    #[must_use]
    pub const fn new(inner: Inner) -> Self {
        Self(Mutex::new(inner))
    }

    /// Locks it.
    pub fn lock(&self) -> Locked<'_> {
        Locked(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The locked stand-in. Whoever changed something, the streams are told when the lock is given back: before the
/// answer to the request that changed it.
pub struct Locked<'a>(MutexGuard<'a, Inner>);

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.tell_streams();
    }
}

/// Epoch µs.
#[must_use]
pub fn now_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Wanted;
    use crate::order::{Kind, Side};
    use crate::rules;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn wanted(side: Side, price: Option<&str>) -> Wanted {
        let (symbol, kind) = ("BTCUSDT".to_owned(), if price.is_some() { Kind::Limit } else { Kind::Market });
        let (qty, price) = (Some(dec("0.5")), price.map(dec));
        Wanted { symbol, side, kind, qty, quote_qty: None, price, client_id: None, is_foreign: false }
    }

    #[test]
    fn the_kept_changes_add_up_to_the_books_and_a_torn_last_line_was_told_to_nobody() {
        let dir = std::env::temp_dir().join(format!("mexc-sim-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("books");
        let mut exchange = Exchange::new(rules::listed());
        exchange.account.add("USDT", dec("10000"));
        exchange.on_script("BTCUSDT", dec("100"), dec("100.10"), dec("100"), 0).unwrap();
        let mut kept = Kept::begin(path.clone(), &exchange).unwrap();
        for step in 0..30_i64 {
            exchange.events.clear();
            match step % 3 {
                0 => exchange.place(wanted(Side::Buy, Some("99")), step).map(|_| ()).unwrap(),
                1 => exchange.place(wanted(Side::Buy, None), step).map(|_| ()).unwrap(),
                _ => exchange.on_print("BTCUSDT", dec("98.90"), dec("0.3"), Side::Sell, step),
            }
            let trades = exchange.trades.len();
            kept.append(&exchange.change(kept.trades), trades).unwrap();
        }
        let json = |exchange: &Exchange| serde_json::to_value(exchange.whole()).unwrap();
        assert_eq!(json(&Kept::restore(&path).unwrap()), json(&exchange));
        kept.file.write_all(b"{\"account\":").unwrap();
        assert_eq!(json(&Kept::restore(&path).unwrap()), json(&exchange));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
