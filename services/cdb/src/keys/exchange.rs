//! The exchange's key pair: proven before anything is touched, replaced as a pair, taken up by the running
//! cdb_execution, and only then is the old one to be revoked.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cdb_core::event::EventType;
use cdb_core::key_change::KeyPair;
use cdb_core::reason::VenueRefusal;
use cdb_core::secret::Secret;
use cdb_io::bus::Bus;
use cdb_io::operator::fresh_id;
use cdb_io::secret_pair::{self, Way};
use cdb_mexc::answer::{Meaning, Trouble};
use cdb_mexc::client::{Client, Stamp};
use cdb_mexc::signing::Credentials;
use cdb_mexc::wire::VenueAccount;
use serde_json::{Value, json};

use super::{entry, reported, secrets_dir};
use crate::arguments::{At, PairSource, RotateOptions};
use crate::cell::Cell;
use crate::connect;
use crate::desk::{operator, record};
use crate::outcome::{CONFIGURATION, FAILURE, PROBLEMS, REFUSED, Result, UNREACHABLE, USAGE, WithCode as _, end};
use crate::output;

/// The exchange of a cell that trades real money.
const LIVE_BASE: &str = "https://api.mexc.com";
/// How long a signed request holds, ms.
const RECV_WINDOW_MS: i64 = 5_000;
/// Times that a call is made while the exchange asks for patience or does not answer.
const TRIES: u32 = 4;
/// Pause between two of them: the account may be read twice a second, and cdb_execution reads it too.
const TRY_PAUSE: Duration = Duration::from_millis(1_200);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Pause between two questions whether the old key is refused.
const REVOKED_PAUSE: Duration = Duration::from_secs(2);
/// The service that holds the pair, and the name of its key.
const HOLDER: (&str, &str) = ("cdb_execution", "MEXC_API_KEY");

/// What the exchange says of a pair.
enum Proof {
    Good(VenueAccount),
    /// It refuses the pair.
    Bad(String),
}

/// Where the pair is kept.
struct Files {
    key: PathBuf,
    secret: PathBuf,
    way: Way,
}

impl Files {
    fn read(&self) -> Option<KeyPair> {
        let (api_key, api_secret) = secret_pair::read(&self.key, &self.secret).ok()?;
        Some(KeyPair { api_key, api_secret })
    }

    fn write(&self, pair: &KeyPair) -> Result {
        let (key, secret) = (pair.api_key.expose().as_bytes(), pair.api_secret.expose().as_bytes());
        let written = secret_pair::replace(&[(&self.key, key), (&self.secret, secret)], self.way);
        written.map_err(|error| end(CONFIGURATION, format!("{}: {error}; nothing was changed", self.key.display())))
    }
}

/// `cdb keys rotate`
pub async fn rotate(at: &At, options: RotateOptions) -> Result {
    let (cell, bus) = if options.offline {
        (Cell::read(&at.cell)?, None)
    } else {
        let (cell, bus) = operator(at).await?;
        (cell, Some(bus))
    };
    let dir = secrets_dir(&cell, options.secrets.as_deref())?;
    let way = if options.in_place { Way::InPlace } else { Way::Auto };
    let files = Files { key: dir.join("mexc_api_key"), secret: dir.join("mexc_api_secret"), way };
    let old = files.read();
    let pair = new_pair(&cell, &options.source, "new").await?;
    if old.as_ref().is_some_and(|old| old.api_key.is_same(&pair.api_key)) {
        return Err(end(USAGE, "this key is in the files already; nothing was changed"));
    }
    let exchange = exchange_base(&cell, &options.source)?;
    let account = accepted(at, bus.as_ref(), &exchange, &pair, options.allow_withdraw).await?;
    let (new_print, old_print) = (pair.api_key.fingerprint(), old.as_ref().map(|old| old.api_key.fingerprint()));
    if let Some(bus) = &bus {
        let detail = json!({"command": "keys rotate", "fingerprint": new_print, "previous": old_print});
        record(bus, at, EventType::OperatorAction, "a new exchange key", detail).await?;
    }
    files.write(&pair)?;
    say(at, &format!("proven and written: {new_print} (read {} assets)", account.balances.len()));
    if let Some(bus) = &bus {
        let wait = Duration::from_secs(options.wait_sec);
        taken_up(at, bus, &files, old.as_ref(), &new_print, wait).await?;
    }
    let mut is_revoked = None;
    if let Some((old, old_print)) = old.as_ref().zip(old_print.as_ref()) {
        say(at, &format!("now revoke the old key {old_print} at the exchange"));
        if options.check_old_revoked {
            await_revoked(&exchange, old, old_print, Duration::from_secs(options.revoke_wait_sec)).await?;
            is_revoked = Some(true);
            say(at, &format!("the exchange refuses the old key {old_print}"));
        }
    }
    if at.json {
        output::json(&json!({
            "rotated": true, "fingerprint": new_print, "previous": old_print, "is_in_use": bus.is_some(),
            "can_trade": account.can_trade, "can_withdraw": account.can_withdraw, "is_old_revoked": is_revoked,
        }));
    }
    Ok(())
}

/// `cdb keys check-revoked`
pub async fn check_revoked(at: &At, source: PairSource) -> Result {
    let cell = Cell::read(&at.cell)?;
    let pair = entry::pair(&source, "revoked")?;
    let fingerprint = pair.api_key.fingerprint();
    let proof = prove(&exchange_base(&cell, &source)?, &pair).await?;
    let is_revoked = matches!(proof, Proof::Bad(_));
    if at.json {
        output::json(&json!({"fingerprint": fingerprint, "is_revoked": is_revoked}));
    }
    match proof {
        Proof::Bad(text) => say(at, &format!("{fingerprint} is refused: {text}")),
        Proof::Good(_) => {
            return Err(end(PROBLEMS, format!("the exchange still takes {fingerprint}: revoke it there")));
        }
    }
    Ok(())
}

/// The pair, from wherever it comes.
async fn new_pair(cell: &Cell, source: &PairSource, what: &str) -> Result<KeyPair> {
    if !source.paper {
        return entry::pair(source, what);
    }
    let made_up =
        |prefix: &str| Secret::parse(format!("{prefix}{}{}", fresh_id(), fresh_id()).as_bytes()).code(FAILURE);
    let pair = KeyPair { api_key: made_up("mx0paper")?, api_secret: made_up("")? };
    let exchange = cell.exchange.as_ref().filter(|_| cell.mode == "paper");
    let admin = &exchange.ok_or_else(|| end(USAGE, "--paper is for a cell with a stand-in exchange"))?.admin_url;
    let body = json!({"api_key": pair.api_key.expose(), "api_secret": pair.api_secret.expose()});
    let answer = connect::http()?.post(format!("{admin}/keys/add")).json(&body).send().await.code(UNREACHABLE)?;
    answer.error_for_status().code(UNREACHABLE)?;
    Ok(pair)
}

fn exchange_base(cell: &Cell, source: &PairSource) -> Result<String> {
    let stand_in = cell.exchange.as_ref().map(|exchange| exchange.url.clone());
    match (source.exchange_url.clone().filter(|url| !url.is_empty()).or(stand_in), cell.mode.as_str()) {
        (Some(url), "paper") if url.contains("mexc.com") => {
            Err(end(USAGE, "a paper cell proves its keys at the stand-in exchange, never at the real one"))
        }
        (Some(url), _) => Ok(url),
        (None, "paper") => Err(end(CONFIGURATION, "name the stand-in exchange with --exchange-url")),
        (None, _) => Ok(LIVE_BASE.to_owned()),
    }
}

/// A pair that the exchange takes and that may trade and nothing worse.
async fn accepted(
    at: &At,
    bus: Option<&Bus>,
    exchange: &str,
    pair: &KeyPair,
    allow_withdraw: bool,
) -> Result<VenueAccount> {
    let reason = match prove(exchange, pair).await? {
        Proof::Good(account) if account.can_withdraw && !allow_withdraw => {
            "it may withdraw: make a key that may only trade".to_owned()
        }
        Proof::Good(account) if !account.can_trade => "it may not trade".to_owned(),
        Proof::Good(account) => return Ok(account),
        Proof::Bad(text) => text,
    };
    let fingerprint = pair.api_key.fingerprint();
    if let Some(bus) = bus {
        let detail = json!({"secret": HOLDER.1, "fingerprint": fingerprint, "is_in_use": false});
        record(bus, at, EventType::KeyRejected, &reason, detail).await?;
        let detail = json!({"id": format!("exchange_key_rejected:{fingerprint}"), "level": "warning"});
        record(bus, at, EventType::AlertRaised, &format!("new exchange key {fingerprint}: {reason}"), detail).await?;
    }
    Err(end(REFUSED, format!("the new key {fingerprint} is not taken: {reason}; nothing was changed")))
}

/// Signed read-only calls with this pair. They are outside the budgets of cdb_execution, which leave room for them.
async fn prove(exchange: &str, pair: &KeyPair) -> Result<Proof> {
    let credentials = Credentials::new(pair.api_key.clone(), &pair.api_secret);
    let client = Client::new(exchange, credentials).map_err(|problem| end(USAGE, problem))?;
    let mut last = String::new();
    for _ in 0..TRIES {
        match read_account(&client).await {
            Ok(account) => return Ok(Proof::Good(account)),
            Err(trouble) if trouble.meaning == Meaning::Refused(VenueRefusal::Auth) => {
                return Ok(Proof::Bad(trouble.text));
            }
            Err(trouble) => last = trouble.text,
        }
        tokio::time::sleep(TRY_PAUSE).await;
    }
    Err(end(UNREACHABLE, format!("the exchange does not say whether it takes the key: {last}; nothing was changed")))
}

async fn read_account(client: &Client) -> std::result::Result<VenueAccount, Trouble> {
    // By the exchange's clock: ours may be off, and that says nothing of the key.
    let timestamp_ms = client.time().await?;
    client.account(Stamp { timestamp_ms, recv_window_ms: RECV_WINDOW_MS }).await
}

/// Waits until the running service says that it uses the new pair. One that refuses it gets the old pair back.
async fn taken_up(at: &At, bus: &Bus, files: &Files, old: Option<&KeyPair>, new_print: &str, wait: Duration) -> Result {
    let begun = Instant::now();
    let mut in_use = None;
    while begun.elapsed() < wait {
        if let Some(report) = reported(bus, HOLDER.0, HOLDER.1).await? {
            if report["fingerprint"] == new_print && report["refused"].is_null() {
                let ms = begun.elapsed().as_millis();
                say(at, &format!("in use: cdb_execution has signed a call with {new_print} ({ms} ms later)"));
                return Ok(());
            }
            if report["rejected"]["fingerprint"] == new_print {
                return Err(put_back(files, old, &report["rejected"]["reason"]));
            }
            in_use = report["fingerprint"].as_str().map(str::to_owned);
        }
        tokio::time::sleep(LOOK).await;
    }
    let in_use = in_use.unwrap_or_else(|| "nothing that it tells of".to_owned());
    Err(end(
        UNREACHABLE,
        format!(
            "the files hold {new_print}, but cdb_execution uses {in_use}: do not revoke the old key; \
             is the service running, and does its mount show the new files? (--in-place, or recreate it)"
        ),
    ))
}

fn put_back(files: &Files, old: Option<&KeyPair>, reason: &Value) -> crate::outcome::Outcome {
    let reason = output::cell(reason);
    match old.map(|old| files.write(old)) {
        Some(Ok(())) => end(REFUSED, format!("cdb_execution refuses the new key: {reason}; the old files are back")),
        Some(Err(error)) => end(
            FAILURE,
            format!(
                "cdb_execution refuses the new key: {reason}; the old files could not be put back: {}",
                error.message
            ),
        ),
        None => end(REFUSED, format!("cdb_execution refuses the new key: {reason}; there was no old one")),
    }
}

async fn await_revoked(exchange: &str, old: &KeyPair, old_print: &str, wait: Duration) -> Result {
    let begun = Instant::now();
    loop {
        if matches!(prove(exchange, old).await?, Proof::Bad(_)) {
            return Ok(());
        }
        if begun.elapsed() > wait {
            return Err(end(
                PROBLEMS,
                format!("the new key is in use, and the exchange still takes {old_print}: revoke it"),
            ));
        }
        tokio::time::sleep(REVOKED_PAUSE).await;
    }
}

/// For a person; with `--json` on standard error.
fn say(at: &At, text: &str) {
    if at.json {
        eprintln!("{text}");
    } else {
        println!("{text}");
    }
}
