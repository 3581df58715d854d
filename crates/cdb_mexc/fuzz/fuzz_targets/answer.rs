//! Any bytes as the body of any answer: read or refused, never a panic.
#![no_main]

use cdb_mexc::answer::Reply;
use cdb_mexc::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (status, body) = match bytes {
        [first, body @ ..] => ([200, 400, 403, 418, 429, 500, 503][usize::from(*first) % 7], body),
        [] => (200, bytes),
    };
    let Ok(body) = (Reply { status, retry_after_s: None, body: body.to_vec() }).success() else { return };
    let _outcomes = (wire::order(&body), wire::orders(&body), wire::trades(&body), wire::account(&body));
    let _outcomes = (wire::exchange_info(&body), wire::book_tickers(&body), wire::last_prices(&body));
    let _outcomes = (wire::symbols(&body), wire::trade_fee(&body), wire::depth(&body), wire::market_trades(&body));
    if let Ok(elements) = wire::batch(&body) {
        for element in elements {
            let _outcome = element.outcome();
        }
    }
});
