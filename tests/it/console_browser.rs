//! The console in a headless Chromium, as an operator uses it. Pictures of each state at two widths, light and dark, are
//! in `target/screenshots` for a person to look at.

use cdb_tests::browser::{Browser, missing};
use cdb_tests::cell::Cell;
use cdb_tests::console::Desk;
use cdb_tests::orders::{market_buy, resting_buy};
use serde_json::json;

/// Text that must stay text wherever it comes from.
const HOSTILE: &str = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>";

async fn browser() -> Option<Browser> {
    if let Some(why) = missing() {
        println!("SKIPPED: there is no Chromium here and it cannot be installed: {why}");
        return None;
    }
    Some(Browser::start().await)
}

async fn log_in(browser: &Browser, cell: &Cell) {
    browser.open(&Desk::base(cell)).await;
    browser.fill("#login-actor", "anna").await;
    browser.fill("#login-token", &Desk::token(cell)).await;
    browser.press("#login-form button").await;
    browser.until_text("#state", "TRADING").await;
}

async fn stop(browser: &Browser, reason: &str) {
    browser.press("#stop").await;
    browser.fill("#ask-reason", reason).await;
    browser.press("#ask-yes").await;
    browser.until_text("#state", "STOPPED").await;
}

/// A picture in each width and colour scheme; nothing may be wider than the window.
async fn pictures(browser: &Browser, state: &str) {
    for width in [360, 1_440] {
        for scheme in ["light", "dark"] {
            browser.appear(width, scheme).await;
            let (page, window) = browser.width_of_page().await;
            assert!(page <= window, "{state} at {width} px: the page is {page} px wide");
            browser.picture(&format!("{state}-{width}-{scheme}"), true).await;
        }
    }
    browser.appear(1_440, "light").await;
}

#[tokio::test]
async fn an_operator_logs_in_sees_an_order_arrive_stops_and_resumes() {
    let Some(browser) = browser().await else { return };
    let cell = Cell::start().await;
    browser.open(&Desk::base(&cell)).await;
    assert_eq!(browser.text("#mode").await.to_lowercase(), "paper");
    log_in(&browser, &cell).await;
    browser.run("window.mark = 'the same page'").await;

    cell.put(&market_buy("seen-1", "0.002").to_string()).await;
    cell.put(&resting_buy("rests-1", "0.01").to_string()).await;
    browser.until_text("#feed", "seen-1").await;
    browser.until_text("#feed", "Filled").await;
    browser.until_text("#positions", "BTCUSDT").await;
    browser.until_text("#open", "rests-1").await;
    assert_eq!(browser.run("return window.mark").await, "the same page", "nothing was loaded again");

    browser.press("#feed button[data-order='seen-1']").await;
    browser.until_text("#story-steps", "approved").await;
    browser.until_text("#story-steps", "trade").await;
    browser.press("#story-close").await;

    // An empty reason is no reason.
    browser.press("#stop").await;
    browser.press("#ask-yes").await;
    browser.until_text("#ask-problem", "reason").await;
    browser.press("#ask-no").await;
    assert_eq!(cell.value_of("emergency_stop").await, None);

    stop(&browser, "market anomaly").await;
    assert_eq!(cell.value_of("emergency_stop").await.as_deref(), Some("market anomaly"));
    browser.until_text("#stops", "by anna").await;
    cell.until("open orders are cancelled", async || cell.state_of("rests-1").await.as_deref() == Some("Canceled"))
        .await;

    browser.press("#resume").await;
    browser.fill("#ask-reason", "checked").await;
    browser.press("#ask-yes").await;
    browser.until_text("#ask-problem", "Confirm").await;
    assert!(cell.value_of("emergency_stop").await.is_some(), "not without the second look");
    browser.press("#ask-sure").await;
    browser.press("#ask-yes").await;
    browser.until_text("#state", "TRADING").await;
    assert_eq!(cell.value_of("emergency_stop").await, None);
}

#[tokio::test]
async fn a_wrong_token_shows_nothing_of_the_desk() {
    let Some(browser) = browser().await else { return };
    let cell = Cell::start().await;
    browser.open(&Desk::base(&cell)).await;
    browser.fill("#login-actor", "mallory").await;
    browser.fill("#login-token", "not-the-token").await;
    browser.press("#login-form button").await;
    browser.until_text("#said", "not the console's token").await;
    assert_eq!(browser.text("#state").await, "UNKNOWN");
    assert_eq!(browser.run("return document.getElementById('main').hidden").await, true);
    assert_eq!(browser.run("return document.getElementById('stop').hidden").await, true);
}

#[tokio::test]
async fn html_stays_text_wherever_it_comes_from() {
    let Some(browser) = browser().await else { return };
    let cell = Cell::start().await;
    log_in(&browser, &cell).await;
    // A strategy's name, which no strategy may have, still stands on the stream; and what is no order at all.
    let mut order = market_buy("hostile-1", "0.002");
    order["strategy"] = json!(HOSTILE);
    cell.put(&order.to_string()).await;
    cell.put(HOSTILE).await;
    browser.until_text("#feed", "by <img src=x").await;
    browser.until_text("#feed", "dead letter").await;
    // A stop's reason, by the console and on the bus; and an event's.
    stop(&browser, HOSTILE).await;
    browser.until_text("#why", "<img src=x").await;
    browser.until_text("#stops", "<script>").await;
    let event = json!({"v": 1, "type": "alert_raised", "service": HOSTILE, "actor": HOSTILE, "reason": HOSTILE,
        "detail": {"rule": HOSTILE, "level": HOSTILE}, "ts": cdb_io::clock::now()});
    let mut xadd = redis::cmd("XADD");
    xadd.arg("cdb:events").arg("*").arg("json").arg(event.to_string());
    let _entry: String = xadd.query_async(&mut cell.operator().commands()).await.unwrap();
    browser.until_text("#alerts", "<img src=x").await;
    browser.until_text("#feed", "alert_raised").await;
    // The text of a key, a checkpoint, a trouble; and an alert of such a name is acknowledged under it.
    for (event_type, detail) in [
        ("key_loaded", json!({"fingerprint": HOSTILE})),
        ("checkpoint", json!({"anchored": [HOSTILE]})),
        ("audit_trouble", json!({})),
    ] {
        let event = json!({"v": 1, "type": event_type, "service": HOSTILE, "actor": HOSTILE, "reason": HOSTILE,
            "detail": detail, "ts": cdb_io::clock::now()});
        let mut xadd = redis::cmd("XADD");
        xadd.arg("cdb:events").arg("*").arg("json").arg(event.to_string());
        let _entry: String = xadd.query_async(&mut cell.operator().commands()).await.unwrap();
    }
    browser
        .until("four facts carry it", async || browser.text("#facts").await.matches("<img src=x").count() == 4)
        .await;
    browser.press("#alerts button[data-ack]").await;
    browser.until_text("#alerts", "acknowledged by anna").await;
    browser.fill("#filter", HOSTILE).await;
    browser.fill("#filter", "hostile-1").await;
    browser.press("#feed button[data-order='hostile-1']").await;
    browser.until_text("#story-steps", "rejected").await;
    browser.press("#story-close").await;
    assert_eq!(browser.run("return document.images.length").await, 0);
    assert_eq!(browser.run("return document.scripts.length").await, 1);
    assert_eq!(browser.run("return window.pwned ?? null").await, json!(null));
    // Even a page that were broken could run nothing: the policy forbids it.
    let tried = "const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; \
                 document.body.append(s); return window.pwned ?? null";
    assert_eq!(browser.run(tried).await, json!(null));
}

#[tokio::test]
async fn a_page_whose_desk_is_silent_says_so_and_does_not_keep_showing_trading() {
    let Some(browser) = browser().await else { return };
    let cell = Cell::start().await;
    log_in(&browser, &cell).await;
    cell.signal("cdb_monitor", rustix::process::Signal::STOP);
    browser.until_text("#state", "UNKNOWN").await;
    browser.until_text("#why", "no news from the desk").await;
    cell.signal("cdb_monitor", rustix::process::Signal::CONT);
    browser.until_text("#state", "TRADING").await;
    cell.signal("redis", rustix::process::Signal::STOP);
    browser.until_text("#facts", "cannot be reached").await;
    assert_eq!(browser.text("#state").await, "UNKNOWN");
    cell.signal("redis", rustix::process::Signal::CONT);
}

#[tokio::test]
async fn pictures_of_the_three_states_fit_a_phone_and_a_desk() {
    let Some(browser) = browser().await else { return };
    let cell = Cell::start().await;
    browser.open(&Desk::base(&cell)).await;
    pictures(&browser, "login").await;
    log_in(&browser, &cell).await;
    for n in 0..4 {
        cell.put(&market_buy(&format!("picture-{n}"), "0.002").to_string()).await;
    }
    cell.put(&resting_buy("picture-rests", "0.01").to_string()).await;
    let mut refused = market_buy("picture-refused", "0.002");
    refused["symbol"] = json!("DOGEUSDT");
    cell.put(&refused.to_string()).await;
    browser.until_text("#feed", "Filled").await;
    browser.until_text("#open", "picture-rests").await;
    browser.until_text("#feed", "symbol_not_allowed").await;
    browser.until_text("#curve-text", "highest").await;
    pictures(&browser, "trading").await;
    browser.press("#feed button[data-order='picture-2']").await;
    browser.until_text("#story-steps", "approved").await;
    browser.appear(360, "light").await;
    browser.picture("story-360-light", false).await;
    browser.appear(1_440, "light").await;
    browser.picture("story-1440-light", false).await;
    browser.press("#story-close").await;
    browser.press("#stop").await;
    browser.picture("ask-1440-light", false).await;
    browser.appear(360, "dark").await;
    browser.picture("ask-360-dark", false).await;
    browser.appear(1_440, "light").await;
    browser.press("#ask-no").await;
    stop(&browser, "Market anomaly: spread above 3 % on two pairs").await;
    pictures(&browser, "stopped").await;
    browser.press("#resume").await;
    browser.fill("#ask-reason", "spread is back to normal").await;
    browser.press("#ask-sure").await;
    browser.press("#ask-yes").await;
    browser.until_text("#state", "TRADING").await;
    browser.press("#trip").await;
    browser.fill("#ask-reason", "news").await;
    browser.press("#ask-yes").await;
    browser.until_text("#state", "BREAKER OPEN").await;
    browser.until_text("#why", "only exits pass; cause: operator").await;
    browser
        .until("the button to reset it is there", async || {
            browser.run("return document.getElementById('reset').hidden").await == false
        })
        .await;
    pictures(&browser, "breaker-open").await;
}

#[tokio::test]
async fn everything_can_be_reached_by_keyboard() {
    let Some(browser) = browser().await else { return };
    let cell = Cell::start().await;
    log_in(&browser, &cell).await;
    browser.until_text("#facts", "Breaker").await;
    // Every visible control is a button, a field or a link, which the keyboard reaches by itself, and has a name.
    let unreachable = "return [...document.querySelectorAll('button, input, select, a, [data-action], [data-order]')]
        .filter((e) => e.offsetParent !== null)
        .filter((e) => e.tabIndex < 0 || !(e.innerText || e.labels?.length || e.getAttribute('aria-label')))
        .map((e) => e.outerHTML)";
    assert_eq!(browser.run(unreachable).await, json!([]));
    // The dialog of a stop takes the focus, and Escape leaves it without doing anything.
    browser.run("document.getElementById('stop').focus()").await;
    let stop = browser.find("#stop").await;
    stop.send_keys("\u{e007}").await.unwrap();
    browser
        .until("the reason has the focus", async || {
            browser.run("return document.activeElement.id").await == "ask-reason"
        })
        .await;
    browser.find("#ask-reason").await.send_keys("\u{e00c}").await.unwrap();
    browser
        .until("it is closed", async || browser.run("return document.getElementById('ask').open").await == false)
        .await;
    assert_eq!(cell.value_of("emergency_stop").await, None);
}
