//! Prices and rules: read from the exchange, published for risk (`cdb:price`, `cdb:prices`, `cdb:rules`).

use std::collections::BTreeMap;
use std::time::Duration;

use cdb_core::ids::Symbol;
use cdb_core::market::Quote;
use cdb_core::money::Price;
use cdb_io::bus::keys;
use cdb_io::clock;
use cdb_mexc::endpoint::{Endpoint, Priority};
use redis::aio::ConnectionManager;

use crate::config::Config;
use crate::venue::Venue;

/// How often best bid and ask are read.
const QUOTES: Duration = Duration::from_millis(500);
/// Rounds between two readings of last prices.
const LAST_EVERY: u64 = 4;
/// Rounds between two readings of rules and of the exchange's clock.
const SLOW_EVERY: u64 = 120;

/// Reads and publishes for as long as the term lasts.
///
/// # Errors
/// Redis failed.
pub async fn run(config: Config, venue: Venue, mut redis: ConnectionManager) -> anyhow::Result<()> {
    let mut rounds = tokio::time::interval(QUOTES);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last: BTreeMap<Symbol, Price> = BTreeMap::new();
    for round in 0_u64.. {
        rounds.tick().await;
        if round % SLOW_EVERY == 0 {
            rules(&config, &venue, &mut redis).await?;
            if round > 0
                && let Err(error) = venue.measure_clock().await
            {
                tracing::warn!(error = format!("{error:#}"), "the exchange's clock could not be measured anew");
            }
        }
        if round % LAST_EVERY == 0 {
            let answer =
                venue.call(Endpoint::Price, Priority::Poll, async |client, _| client.last_prices().await).await?;
            if let Ok(prices) = answer {
                last = prices;
            }
        }
        let answer =
            venue.call(Endpoint::BookTicker, Priority::Poll, async |client, _| client.book_tickers().await).await?;
        match answer {
            Ok(books) => publish(&config, &venue, &books, &last, &mut redis).await?,
            Err(trouble) => tracing::warn!(text = trouble.text, "prices could not be read"),
        }
    }
    Ok(())
}

async fn publish(
    config: &Config,
    venue: &Venue,
    books: &BTreeMap<Symbol, (Price, Price)>,
    last: &BTreeMap<Symbol, Price>,
    redis: &mut ConnectionManager,
) -> anyhow::Result<()> {
    let mut pipeline = redis::pipe();
    for symbol in &config.symbols {
        let (Some((bid, ask)), Some(last)) = (books.get(symbol), last.get(symbol)) else { continue };
        // Crossed prices are not published; the last good one then grows too old to trade on.
        if bid > ask {
            tracing::warn!(%symbol, %bid, %ask, "crossed prices");
            continue;
        }
        let quote = Quote {
            symbol: symbol.clone(),
            bid: *bid,
            ask: *ask,
            last: *last,
            exchange_time: venue.exchange_time(),
            ts: clock::now(),
        };
        let json = serde_json::to_string(&quote)?;
        pipeline.hset(keys::PRICE, symbol.as_str(), &json).ignore().publish(keys::PRICES, json).ignore();
    }
    let () = pipeline.query_async(redis).await?;
    Ok(())
}

async fn rules(config: &Config, venue: &Venue, redis: &mut ConnectionManager) -> anyhow::Result<()> {
    let answer =
        venue.call(Endpoint::ExchangeInfo, Priority::Query, async |client, _| client.exchange_info().await).await?;
    match answer {
        Ok(rules) => {
            let mut pipeline = redis::pipe();
            for rules in rules.iter().filter(|rules| config.symbols.contains(&rules.symbol)) {
                pipeline.hset(keys::RULES, rules.symbol.as_str(), serde_json::to_string(rules)?).ignore();
            }
            let () = pipeline.query_async(redis).await?;
        }
        Err(trouble) => tracing::warn!(text = trouble.text, "the exchange's rules could not be read"),
    }
    Ok(())
}
