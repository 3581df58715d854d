//! The exchange's two streams, opened again whenever they end. What they tell is booked at once; what they may have
//! missed is asked for after every opening, and by the polls that go on beside them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cdb_core::ids::{ClOrdId, OrderId, Symbol};
use cdb_core::lifecycle::Observation;
use cdb_core::report::Source;
use cdb_core::time::Timestamp;
use cdb_mexc::answer::{Meaning, Trouble};
use cdb_mexc::endpoint::{Endpoint, Priority};
use cdb_mexc::push::{self, Push, VenueDeal};
use cdb_mexc::stream::{Heard, ListenKey, Stream, StreamEnd};
use cdb_mexc::wire::VenueOrder;
use tokio::time::{Instant, sleep_until};

use crate::book::{Along, Book, Tracked};
use crate::leading::Crew;
use crate::market::Quotes;
use crate::observe::StreamKind;
use crate::reconcile::Strangers;
use crate::tracker::{Tracker, booked};
use crate::venue::Venue;

/// Pause before the second attempt; doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A stream that lived this long begins anew with the shortest pause.
const STEADY: Duration = Duration::from_secs(60);
/// How often the listen key is extended; it lives for 60 minutes (exchange API §10).
const EXTEND_EVERY: Duration = Duration::from_secs(30 * 60);
/// A key that was not extended for this long is given up.
const EXTENDED_MAX: Duration = Duration::from_secs(50 * 60);
/// Pause before a key that could not be extended is extended again.
const EXTEND_AGAIN: Duration = Duration::from_secs(60);
/// How long a message about an unknown order is kept before the order counts as not ours.
const STRANGE_AFTER: Duration = Duration::from_secs(3);
/// Messages about unknown orders kept at one time.
const STRAYS_MAX: usize = 1_000;
/// Causes of a changed balance that come of orders (exchange API §11.3); any other is a transfer of some kind.
const ORDER_CAUSES: [&str; 5] = ["ENTRUST", "ENTRUST_PLACE", "ENTRUST_CANCEL", "ENTRUST_UNFROZEN", "TRADE_FEE"];
/// Symbols of one connection: two channels each, of the 30 that one takes.
const SYMBOLS_PER_STREAM: usize = 15;

/// Whether the user stream is open, for those who ask less while it is.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<AtomicBool>);

impl Live {
    /// Whether it is open.
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    fn set(&self, is_up: bool) {
        self.0.store(is_up, Ordering::Relaxed);
    }
}

/// Pauses between attempts.
struct Backoff(Duration);

impl Backoff {
    async fn pause(&mut self, lived: Duration) {
        if lived > STEADY {
            self.0 = BACKOFF_MIN;
        }
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}

/// Opens a connection within the budget of connections.
async fn open(
    venue: &Venue,
    base: &str,
    key: Option<&ListenKey>,
    channels: &[String],
) -> anyhow::Result<Result<Stream, StreamEnd>> {
    let mut end = None;
    let opened = venue
        .call(Endpoint::Stream, Priority::Query, async |_, _| {
            Stream::open(base, key, channels).await.map_err(|why| {
                let text = why.to_string();
                end = Some(why);
                Trouble { meaning: Meaning::Unknown, status: None, text }
            })
        })
        .await?;
    Ok(opened.map_err(|trouble| end.unwrap_or(StreamEnd::NoConnection(trouble.text))))
}

/// The user stream of one term.
#[derive(Clone)]
pub struct UserStream {
    base: String,
    book: Book,
    venue: Venue,
    tracker: Tracker,
    strangers: Strangers,
    crew: Crew,
    live: Live,
    key: Arc<Mutex<Option<ListenKey>>>,
}

impl UserStream {
    /// A stream that is not open yet.
    pub fn new(
        base: String,
        book: Book,
        venue: Venue,
        tracker: Tracker,
        strangers: Strangers,
        crew: Crew,
        live: Live,
    ) -> Self {
        Self { base, book, venue, tracker, strangers, crew, live, key: Arc::default() }
    }

    /// Listens for as long as the term lasts.
    ///
    /// # Errors
    /// The audit trail or Redis failed.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut backoff = Backoff(BACKOFF_MIN);
        loop {
            let begun = Instant::now();
            let end = self.listen().await?;
            self.live.set(false);
            self.venue.observer().stream_ended(StreamKind::User, &end);
            if end == StreamEnd::NoListenKey {
                *self.lock_key() = None;
            }
            backoff.pause(begun.elapsed()).await;
        }
    }

    /// Ends the listen key: the next term makes its own, and the exchange gives no more than 60.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn give_key_back(&self) -> anyhow::Result<()> {
        let Some(key) = self.lock_key().take() else { return Ok(()) };
        let delete = async |client: &cdb_mexc::client::Client, stamp| client.delete_listen_key(&key, stamp).await;
        if let Err(trouble) = self.venue.call(Endpoint::ListenKey, Priority::Query, delete).await? {
            tracing::info!(text = trouble.text, "the listen key was left to lapse");
        }
        Ok(())
    }

    fn lock_key(&self) -> std::sync::MutexGuard<'_, Option<ListenKey>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key in use, a new one, or one that lives when no more are given.
    async fn listen_key(&self) -> anyhow::Result<Result<ListenKey, Trouble>> {
        if let Some(key) = self.lock_key().clone() {
            return Ok(Ok(key));
        }
        let create = async |client: &cdb_mexc::client::Client, stamp| client.create_listen_key(stamp).await;
        let mut made = self.venue.call(Endpoint::ListenKey, Priority::Query, create).await?;
        if made.as_ref().is_err_and(|trouble| trouble.status.is_some()) {
            let list = async |client: &cdb_mexc::client::Client, stamp| client.listen_keys(stamp).await;
            let living = self.venue.call(Endpoint::ListenKey, Priority::Query, list).await?;
            if let Some(key) = living.ok().and_then(|keys| keys.into_iter().next_back()) {
                made = Ok(key);
            }
        }
        if let Ok(key) = &made {
            *self.lock_key() = Some(key.clone());
        }
        Ok(made)
    }

    /// Why a stream did not open. A connection that broke while it was opened may have taken the word about its dead
    /// key with it, so the key is asked about: a dead one would open nothing however often it is tried.
    async fn or_dead_key(&self, key: &ListenKey, end: StreamEnd) -> anyhow::Result<StreamEnd> {
        let extend = async |client: &cdb_mexc::client::Client, stamp| client.extend_listen_key(key, stamp).await;
        let extended = self.venue.call(Endpoint::ListenKey, Priority::Query, extend).await?;
        let is_dead = extended.is_err_and(|trouble| trouble.meaning == Meaning::NoListenKey);
        Ok(if is_dead { StreamEnd::NoListenKey } else { end })
    }

    /// One connection from its opening to its end.
    async fn listen(&self) -> anyhow::Result<StreamEnd> {
        let key = match self.listen_key().await? {
            Ok(key) => key,
            Err(trouble) => return Ok(StreamEnd::NoConnection(format!("no listen key: {}", trouble.text))),
        };
        let channels = [push::ORDERS, push::DEALS, push::ACCOUNT].map(str::to_owned);
        let mut stream = match open(&self.venue, &self.base, Some(&key), &channels).await? {
            Ok(stream) => stream,
            Err(end) => return self.or_dead_key(&key, end).await,
        };
        self.live.set(true);
        self.venue.observer().stream_opened(StreamKind::User);
        // What happened while nobody listened.
        let tracker = self.tracker.clone();
        self.crew.spawn("catch-up", async move { tracker.sweep().await });
        self.book.activity.send_modify(|count| *count += 1);
        let mut extend_at = Instant::now() + EXTEND_EVERY;
        let mut extended_at = Instant::now();
        let mut strays: VecDeque<(Instant, Push)> = VecDeque::new();
        loop {
            let next_stray = strays.front().map(|(due, _)| *due);
            let stray_due = async {
                match next_stray {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = stream.next() => match heard {
                    Ok(heard) => {
                        self.venue.observer().stream_heard(&heard);
                        if let Heard::Push(push) = heard
                            && let Some(stray) = self.take(push).await?
                        {
                            if strays.len() == STRAYS_MAX && let Some((_, oldest)) = strays.pop_front() {
                                self.is_strange(oldest).await?;
                            }
                            strays.push_back((Instant::now() + STRANGE_AFTER, stray));
                        }
                    }
                    Err(end) => return Ok(end),
                },
                () = stray_due => {
                    if let Some((_, push)) = strays.pop_front()
                        && let Some(stray) = self.take(push).await?
                    {
                        self.is_strange(stray).await?;
                    }
                }
                () = sleep_until(extend_at) => {
                    let extend = async |client: &cdb_mexc::client::Client, stamp| client.extend_listen_key(&key, stamp).await;
                    extend_at = Instant::now() + match self.venue.call(Endpoint::ListenKey, Priority::Query, extend).await? {
                        Ok(()) => {
                            extended_at = Instant::now();
                            EXTEND_EVERY
                        }
                        // It lapses at 60 minutes without a word: a new one before that.
                        Err(_) if extended_at.elapsed() > EXTENDED_MAX => return Ok(StreamEnd::NoListenKey),
                        Err(trouble) if trouble.meaning == Meaning::NoListenKey => return Ok(StreamEnd::NoListenKey),
                        Err(trouble) => {
                            tracing::warn!(text = trouble.text, "the listen key could not be extended");
                            EXTEND_AGAIN
                        }
                    };
                }
            }
        }
    }

    /// Books what a message says; gives it back when it is about an order that is not known.
    async fn take(&self, push: Push) -> anyhow::Result<Option<Push>> {
        match push {
            Push::Order(order) => {
                let Some(tracked) = self.find(&order.symbol, order.cl_ord_id.as_deref(), &order.order_id).await else {
                    return Ok(Some(Push::Order(order)));
                };
                self.take_order(&tracked, order).await?;
            }
            Push::Deal(deal) => {
                let order_id = &deal.trade.order_id;
                let Some(tracked) = self.find(&deal.symbol, deal.cl_ord_id.as_deref(), order_id).await else {
                    return Ok(Some(Push::Deal(deal)));
                };
                self.take_deal(&tracked, deal).await?;
            }
            Push::Balance(balance) => {
                if !ORDER_CAUSES.contains(&balance.cause.as_str()) {
                    tracing::warn!(asset = %balance.asset, cause = balance.cause, "a balance changed by no order");
                    self.book.note_transfer(balance.asset, balance.cause);
                }
                self.book.activity.send_modify(|count| *count += 1);
            }
            Push::Book { .. } | Push::Last { .. } | Push::Other => {}
        }
        Ok(None)
    }

    /// The order of ours that a message is about: by our id, or by the exchange's. One with our id and another
    /// exchange id, or another symbol, is not the order that was sent.
    async fn find(&self, symbol: &Symbol, cl_ord_id: Option<&str>, order_id: &OrderId) -> Option<Arc<Tracked>> {
        let ours = cl_ord_id.and_then(ClOrdId::parse).and_then(|id| self.book.find_even_ended(&id));
        let tracked = ours.or_else(|| self.book.find_by_order_id(order_id))?;
        let order = tracked.order.lock().await;
        let is_it = tracked.symbol == *symbol && order.order_id.as_ref().is_none_or(|known| known == order_id);
        drop(order);
        is_it.then_some(tracked)
    }

    async fn take_order(&self, tracked: &Arc<Tracked>, found: VenueOrder) -> anyhow::Result<()> {
        tracked.is_heard_of.store(true, Ordering::Relaxed);
        let at = self.venue.exchange_time();
        let VenueOrder { order_id, status, executed_qty, .. } = found;
        let observation = Observation::Found { order_id, status, executed_qty };
        self.book.learn(tracked, observation, Source::Stream, at, Along::default()).await?;
        self.book.end_if_complete(tracked, Source::Stream).await?;
        if executed_qty > tracked.order.lock().await.cum_qty {
            // Its fills are on their way, or lost.
            self.tracker.look_later(&tracked.id);
        }
        Ok(())
    }

    async fn take_deal(&self, tracked: &Tracked, deal: VenueDeal) -> anyhow::Result<()> {
        let at = Timestamp::from_millis(deal.trade.time);
        self.book.learn(tracked, booked(deal.trade), Source::Stream, at, Along::default()).await?;
        self.book.end_if_complete(tracked, Source::Stream).await
    }

    /// Something about an order that is still not known.
    async fn is_strange(&self, push: Push) -> anyhow::Result<()> {
        match push {
            Push::Order(order) => self.strangers.order(order).await,
            Push::Deal(deal) => self.strangers.deal(deal).await,
            Push::Balance(_) | Push::Book { .. } | Push::Last { .. } | Push::Other => Ok(()),
        }
    }
}

/// Listens to the prices of some symbols for as long as the term lasts.
///
/// # Errors
/// Redis failed.
pub async fn run_market(base: String, symbols: Vec<Symbol>, venue: Venue, quotes: Quotes) -> anyhow::Result<()> {
    let channels: Vec<String> =
        symbols.iter().flat_map(|symbol| [push::book_channel(symbol), push::deals_channel(symbol)]).collect();
    let mut backoff = Backoff(BACKOFF_MIN);
    loop {
        let begun = Instant::now();
        let end = match open(&venue, &base, None, &channels).await? {
            Err(end) => end,
            Ok(mut stream) => {
                venue.observer().stream_opened(StreamKind::Market);
                loop {
                    match stream.next().await {
                        Ok(heard) => {
                            venue.observer().stream_heard(&heard);
                            if let Heard::Push(push) = heard {
                                quotes.take(push).await?;
                            }
                        }
                        Err(end) => break end,
                    }
                }
            }
        };
        venue.observer().stream_ended(StreamKind::Market, &end);
        backoff.pause(begun.elapsed()).await;
    }
}

/// Symbols, as many as one connection takes.
pub fn by_connection(symbols: impl Iterator<Item = Symbol>) -> Vec<Vec<Symbol>> {
    let symbols: Vec<Symbol> = symbols.collect();
    symbols.chunks(SYMBOLS_PER_STREAM).map(<[Symbol]>::to_vec).collect()
}
