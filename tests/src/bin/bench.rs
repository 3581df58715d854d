//! `just bench`: what an order's way costs beside a bare two-hop Redis chain, both measured in this run on the same
//! Redis. Figures from different machines do not compare; the ratios do.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cdb_io::bus::{self, Bus};
use cdb_tests::cell::Cell;
use cdb_tests::orders::market_buy;
use cdb_tests::redis_server::RedisServer;

/// Orders sent one at a time.
const ORDERS: usize = 400;
/// Orders put in bulk for the verdicts per second.
const BULK: usize = 10_000;

fn now_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or_default()
}

/// The value below which `share` of the values lie.
fn percentile(values: &mut [i64], share: usize) -> i64 {
    values.sort_unstable();
    values[(values.len() * share / 100).min(values.len() - 1)]
}

/// One message through two streams and two consumer groups, one outstanding.
async fn two_hops(bus: &Bus) -> Vec<i64> {
    let mut producer = bus.commands();
    for stream in ["bench:a", "bench:b"] {
        bus::ensure_group(&mut producer, stream, "g").await.expect("a group");
    }
    let first = bus.clone();
    let hop = tokio::spawn(async move {
        let mut reader = first.blocking().await.expect("a connection");
        let mut writer = first.commands();
        loop {
            let Ok(entries) = bus::read_group(&mut reader, "bench:a", "g", "1", 16).await else { return };
            for entry in entries {
                let json = entry.json().to_vec();
                let mut pipeline = redis::pipe();
                pipeline.cmd("XADD").arg("bench:b").arg("*").arg("json").arg(json).ignore();
                pipeline.cmd("XACK").arg("bench:a").arg("g").arg(entry.id.as_str()).ignore();
                let () = pipeline.query_async(&mut writer).await.expect("a hop");
            }
        }
    });
    let mut last = bus.blocking().await.expect("a connection");
    let mut times = Vec::with_capacity(ORDERS);
    let payload = market_buy("bench", "0.001").to_string();
    for _ in 0..ORDERS {
        let begun = Instant::now();
        let mut add = redis::cmd("XADD");
        add.arg("bench:a").arg("*").arg("json").arg(&payload);
        let _: String = add.query_async(&mut producer).await.expect("XADD");
        let entries = bus::read_group(&mut last, "bench:b", "g", "1", 16).await.expect("the second hop");
        assert_eq!(entries.len(), 1);
        times.push(i64::try_from(begun.elapsed().as_micros()).unwrap_or_default());
        let mut ack = redis::cmd("XACK");
        ack.arg("bench:b").arg("g").arg(entries[0].id.as_str());
        let () = ack.query_async(&mut producer).await.expect("XACK");
    }
    hop.abort();
    times
}

/// From XADD of an order to the arrival of its request at the stand-in, one order outstanding.
async fn order_to_exchange(cell: &Cell) -> Vec<i64> {
    let mut added = Vec::with_capacity(ORDERS);
    for n in 0..ORDERS {
        let id = format!("bench-{n}");
        let order = market_buy(&id, "0.0005").to_string();
        added.push(now_us());
        cell.put(&order).await;
        while cell.state_of_last().await.as_deref() != Some(id.as_str()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let posts = cell.posts().await;
    let arrived = |n: usize| {
        let id = format!("bench-{n}");
        posts.iter().find(|post| post["client_id"] == id.as_str()).and_then(|post| post["at_us"].as_i64())
    };
    added.iter().enumerate().filter_map(|(n, at)| Some(arrived(n)? - at)).collect()
}

/// Verdicts a second for orders that fail a late check, put in bulk.
async fn verdicts_per_second(cell: &Cell) -> f64 {
    let before = cell.length_of("cdb:verdicts").await;
    let mut pipeline = redis::pipe();
    for n in 0..BULK {
        let order = market_buy(&format!("bulk-{n}"), "100").to_string();
        pipeline.cmd("XADD").arg("cdb:orders").arg("*").arg("json").arg(order).ignore();
    }
    let mut redis = cell.operator().commands();
    let begun = Instant::now();
    let () = pipeline.query_async(&mut redis).await.expect("XADD");
    while cell.length_of("cdb:verdicts").await < before + BULK {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    BULK as f64 / begun.elapsed().as_secs_f64()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = RedisServer::start_durable().await;
    let mut hops = two_hops(&server.bus().await).await;
    drop(server);
    let cell = Cell::start().await;
    let mut orders = order_to_exchange(&cell).await;
    let per_second = verdicts_per_second(&cell).await;
    let (hop_50, hop_99) = (percentile(&mut hops, 50), percentile(&mut hops, 99));
    let (order_50, order_99) = (percentile(&mut orders, 50), percentile(&mut orders, 99));
    let ratio = |one: i64, other: i64| one as f64 / other.max(1) as f64;
    println!("one outstanding, microseconds                     p50      p99");
    println!("two bare hops (everysec)                     {hop_50:>8} {hop_99:>8}");
    println!("order: XADD -> verdict -> gate -> durable    {order_50:>8} {order_99:>8}");
    println!("       audit record -> request at stand-in");
    println!(
        "ratio                                        {:>8.2} {:>8.2}",
        ratio(order_50, hop_50),
        ratio(order_99, hop_99)
    );
    println!("verdicts per second, {BULK} orders in bulk: {per_second:.0}");
}
