//! Losing the daily limit opens the breaker, and only an operator closes it, whatever restarts.

use cdb_tests::cell::{Cell, WIDE};
use cdb_tests::orders::market_buy;
use serde_json::json;

async fn price(cell: &Cell, price: &str, ask: &str) {
    cell.tell("/price", &json!({"symbol": "BTCUSDT", "bid": price, "ask": ask, "last": price})).await;
}

/// Warnings of the daily loss.
async fn warnings(cell: &Cell) -> usize {
    let events = cell.stream("cdb:events").await;
    events.iter().filter(|event| event["type"] == "alert_raised" && event["detail"]["rule"] == "daily_loss_pct").count()
}

#[tokio::test]
async fn losing_five_percent_of_the_days_first_equity_opens_the_breaker_and_a_restart_does_not_close_it() {
    // ETH alone is replayed, so that the price of BTC is the one scripted here.
    let replay = ["--replay", "examples/data/trades-ETHUSDT-2023-02-02.csv"];
    let settings = format!("{WIDE}ALLOWED_SYMBOLS=BTCUSDT,ETHUSDT\n");
    let options = ["--unlimited-exchange", "--balance", "USDT=10000", replay[0], replay[1]];
    let cell = Cell::start_scripted(&settings, &options, "BTCUSDT", "40000.00", "40000.10").await;
    cell.put(&market_buy("hold-1", "0.1").to_string()).await;
    cell.until("it is held", async || cell.state_of("hold-1").await.as_deref() == Some("Filled")).await;

    // 0.1 BTC x 3100 = 310, 62 % of the limit's 500: a warning, once.
    price(&cell, "36900.00", "36900.10").await;
    cell.until("an operator is warned", async || warnings(&cell).await == 1).await;
    // 0.1 BTC x 4950 = 495, 4.95 % of 10000, with fees still below the limit's 500.
    price(&cell, "35100.00", "35100.10").await;
    cell.until("the loss is seen", async || {
        let metrics = cell.http("cdb_risk", "/metrics").await;
        let line = metrics.lines().find(|line| line.starts_with("cdb_risk_daily_loss_ppm"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).is_some_and(|loss| loss > 48_000)
    })
    .await;
    assert_eq!(cell.status().await["breaker"]["state"], "closed");
    cell.until("an operator is warned again", async || warnings(&cell).await == 2).await;
    let metrics = cell.http("cdb_risk", "/metrics").await;
    assert!(metrics.contains("cdb_risk_limit_used_ppm{limit=\"MAX_DAILY_LOSS_PCT\"} 9"), "{metrics}");
    assert!(metrics.contains("cdb_risk_limit{limit=\"MAX_DAILY_LOSS_PCT\"} 0.05"), "{metrics}");

    price(&cell, "34900.00", "34900.10").await;
    cell.until("the breaker is open", async || cell.status().await["breaker"]["state"] == "open").await;
    assert_eq!(cell.status().await["breaker"]["cause"], "daily_loss");
    cell.kill("cdb_risk");
    cell.until("risk is back", async || cell.http("cdb_risk", "/readyz").await == "ready\n").await;
    assert_eq!(cell.status().await["breaker"]["state"], "open");

    assert!(cell.cdb(&["breaker", "reset", "--reason", "understood"]).status.success());
    cell.until("it may trade again", async || cell.status().await["may_trade"] == true).await;
}
