//! Prices and rules: heard on the market stream and read from the exchange, published for risk (`cdb:price`,
//! `cdb:prices`, `cdb:rules`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cdb_core::ids::{Asset, Symbol};
use cdb_core::market::Quote;
use cdb_core::money::Price;
use cdb_core::symbol_rules::{SymbolRules, USD_ASSETS};
use cdb_core::time::Timestamp;
use cdb_io::bus::keys;
use cdb_io::clock;
use cdb_mexc::endpoint::{Endpoint, Priority};
use cdb_mexc::push::Push;
use redis::aio::ConnectionManager;
use tokio::time::Instant;

use crate::config::Config;
use crate::venue::Venue;

/// How often best bid and ask are read while the stream does not tell them.
const QUOTES: Duration = Duration::from_millis(500);
/// Rounds between two readings while it does: a market that does not move says nothing, and its price must not age.
const QUOTES_EVERY: u64 = 4;
/// A stream that was heard this recently tells prices.
const HEARD: Duration = Duration::from_secs(1);
/// Rounds between two readings of last prices.
const LAST_EVERY: u64 = 4;
/// Rounds between two readings of rules.
const RULES_EVERY: u64 = 120;

/// Base and quote asset of every symbol that the exchange lists.
#[derive(Debug, Clone, Default)]
pub struct Pairs(Arc<Mutex<BTreeMap<Symbol, (Asset, Asset)>>>);

impl Pairs {
    /// Those of one symbol, once its rules were read.
    pub fn of(&self, symbol: &Symbol) -> Option<(Asset, Asset)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(symbol).cloned()
    }
    fn learn(&self, rules: &[SymbolRules]) {
        let pairs = rules.iter().map(|rules| (rules.symbol.clone(), (rules.base.clone(), rules.quote.clone())));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(pairs);
    }
}

/// What is known of prices, and where it is published.
#[derive(Clone)]
pub struct Quotes {
    symbols: BTreeSet<Symbol>,
    venue: Venue,
    redis: ConnectionManager,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    last: BTreeMap<Symbol, Price>,
    /// Pairs of what the account holds: risk marks them, although they may not be traded.
    held: BTreeSet<Symbol>,
    /// Whether that has changed since prices were last read.
    is_held_new: bool,
    heard_at: Option<Instant>,
}

impl Quotes {
    /// Of these symbols; nothing is known yet.
    pub fn new(symbols: BTreeSet<Symbol>, venue: Venue, redis: ConnectionManager) -> Self {
        Self { symbols, venue, redis, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what the account holds.
    pub fn on_held<'a>(&self, assets: impl Iterator<Item = &'a Asset>) {
        let pairs = assets.flat_map(|asset| USD_ASSETS.map(|usd| Symbol::parse(&format!("{asset}{usd}"))));
        let held: BTreeSet<Symbol> = pairs.flatten().collect();
        let mut known = self.known();
        known.is_held_new |= known.held != held;
        known.held = held;
    }

    fn is_wanted(&self, symbol: &Symbol) -> bool {
        self.symbols.contains(symbol) || self.known().held.contains(symbol)
    }

    /// Takes in what the stream says.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn take(&self, push: Push) -> anyhow::Result<()> {
        match push {
            Push::Book { symbol, bid, ask, sent_at } => {
                self.known().heard_at = Some(Instant::now());
                let exchange_now = self.venue.exchange_time();
                let sent_at = sent_at.map_or(exchange_now, Timestamp::from_millis).min(exchange_now);
                self.publish([(symbol, (bid, ask))], sent_at).await
            }
            Push::Last { symbol, price } => {
                self.known().last.insert(symbol, price);
                Ok(())
            }
            Push::Order(_) | Push::Deal(_) | Push::Balance(_) | Push::Other => Ok(()),
        }
    }

    fn is_heard(&self) -> bool {
        self.known().heard_at.is_some_and(|heard_at| heard_at.elapsed() < HEARD)
    }

    /// Publishes best prices as of `exchange_time`, by the exchange's clock. A message that was long under way is as
    /// old as it is.
    async fn publish(
        &self,
        books: impl IntoIterator<Item = (Symbol, (Price, Price))>,
        exchange_time: Timestamp,
    ) -> anyhow::Result<()> {
        let age_ms = self.venue.exchange_time().since_ms(exchange_time).max(0);
        let ts = clock::now().plus_ms(-age_ms);
        let mut pipeline = redis::pipe();
        for (symbol, (bid, ask)) in books {
            let last = self.known().last.get(&symbol).copied();
            let (true, Some(last)) = (self.is_wanted(&symbol), last) else { continue };
            // Crossed prices are not published; the last good one then grows too old to trade on.
            if bid > ask {
                tracing::warn!(%symbol, %bid, %ask, "crossed prices");
                continue;
            }
            let quote = Quote { symbol, bid, ask, last, exchange_time, ts };
            let json = serde_json::to_string(&quote)?;
            pipeline.hset(keys::PRICE, quote.symbol.as_str(), &json).ignore().publish(keys::PRICES, json).ignore();
        }
        if !pipeline.is_empty() {
            let () = pipeline.query_async(&mut self.redis.clone()).await?;
        }
        Ok(())
    }
}

/// Reads and publishes for as long as the term lasts.
///
/// # Errors
/// Redis failed.
pub async fn run(config: Config, venue: Venue, quotes: Quotes, pairs: Pairs) -> anyhow::Result<()> {
    let mut rounds = tokio::time::interval(QUOTES);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 0_u64.. {
        rounds.tick().await;
        if round % RULES_EVERY == 0 {
            rules(&config, &venue, &pairs, &mut quotes.redis.clone()).await?;
        }
        if round % LAST_EVERY == 0 {
            let answer =
                venue.call(Endpoint::Price, Priority::Poll, async |client, _| client.last_prices().await).await?;
            if let Ok(prices) = answer {
                quotes.known().last = prices;
            }
        }
        let is_held_new = std::mem::take(&mut quotes.known().is_held_new);
        if quotes.is_heard() && !round.is_multiple_of(QUOTES_EVERY) && !is_held_new {
            continue;
        }
        let answer =
            venue.call(Endpoint::BookTicker, Priority::Poll, async |client, _| client.book_tickers().await).await?;
        match answer {
            Ok(books) => quotes.publish(books, venue.exchange_time()).await?,
            Err(trouble) => tracing::warn!(text = trouble.text, "prices could not be read"),
        }
    }
    Ok(())
}

async fn rules(config: &Config, venue: &Venue, pairs: &Pairs, redis: &mut ConnectionManager) -> anyhow::Result<()> {
    let answer =
        venue.call(Endpoint::ExchangeInfo, Priority::Query, async |client, _| client.exchange_info().await).await?;
    match answer {
        Ok(rules) => {
            pairs.learn(&rules);
            let mut pipeline = redis::pipe();
            pipeline.hset(keys::RULES, keys::RULES_AS_OF, clock::now().millis()).ignore();
            for rules in rules.iter().filter(|rules| config.symbols.contains(&rules.symbol)) {
                pipeline.hset(keys::RULES, rules.symbol.as_str(), serde_json::to_string(rules)?).ignore();
            }
            let () = pipeline.query_async(redis).await?;
        }
        Err(trouble) => tracing::warn!(text = trouble.text, "the exchange's rules could not be read"),
    }
    Ok(())
}
