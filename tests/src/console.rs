//! A logged-in operator without a browser.

use std::time::{Duration, Instant};

use reqwest::header::{COOKIE, HOST, HeaderMap, ORIGIN, SET_COOKIE};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::cell::{Cell, WAIT};

/// One session at a cell's console.
pub struct Desk {
    http: Client,
    base: String,
    set_cookie: String,
    csrf: String,
}

impl Desk {
    /// The console's token.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn token(cell: &Cell) -> String {
        let path = cell.file().with_file_name("secrets").join("console_token");
        std::fs::read_to_string(path).expect("the console's token").trim().to_owned()
    }

    /// Address of a cell's console.
    ///
    /// # Panics
    /// The cell's file does not say.
    #[must_use]
    pub fn base(cell: &Cell) -> String {
        cell.description()["console"].as_str().expect("an address").to_owned()
    }

    async fn post_log_in(cell: &Cell, actor: &str, token: &str) -> reqwest::Response {
        let body = json!({"actor": actor, "token": token});
        let url = format!("{}api/login", Self::base(cell));
        http().post(url).json(&body).send().await.expect("the console answers")
    }

    /// What an attempt to log in is answered.
    pub async fn try_log_in(cell: &Cell, actor: &str, token: &str) -> StatusCode {
        Self::post_log_in(cell, actor, token).await.status()
    }

    /// Logs in.
    ///
    /// # Panics
    /// It is refused.
    pub async fn log_in(cell: &Cell, actor: &str) -> Self {
        let answer = Self::post_log_in(cell, actor, &Self::token(cell)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let set_cookie = answer.headers()[SET_COOKIE].to_str().expect("a cookie").to_owned();
        let mut desk = Self { http: http(), base: Self::base(cell), set_cookie, csrf: String::new() };
        desk.csrf = desk.get("session").await["csrf"].as_str().expect("the page's token").to_owned();
        desk
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://").trim_end_matches('/')
    }

    /// The session cookie as it was set.
    #[must_use]
    pub fn set_cookie(&self) -> &str {
        &self.set_cookie
    }

    /// The header that sends it back.
    #[must_use]
    pub fn cookie_header(&self) -> &str {
        self.set_cookie.split(';').next().unwrap_or_default()
    }

    /// The cookie's value.
    #[must_use]
    pub fn cookie(&self) -> &str {
        self.cookie_header().split_once('=').map(|(_, value)| value).unwrap_or_default()
    }

    /// The page's own token.
    #[must_use]
    pub fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Does something; status and answer.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn act(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}api/{path}", self.base)).json(body);
        let request = request.header(COOKIE, self.cookie_header()).header("x-csrf-token", &self.csrf);
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json().await.unwrap_or(Value::Null))
    }

    /// Tries something with other proofs than the right ones.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn raw(
        &self,
        path: &str,
        body: &Value,
        cookie: Option<&str>,
        csrf: Option<&str>,
        origin: Option<&str>,
    ) -> StatusCode {
        let mut request = self.http.post(format!("{}api/{path}", self.base)).json(body);
        let name = self.cookie_header().split('=').next().unwrap_or_default();
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, format!("{name}={cookie}"));
        }
        if let Some(csrf) = csrf {
            request = request.header("x-csrf-token", csrf);
        }
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        request.send().await.expect("an answer").status()
    }

    /// Asks for something.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}api/{path}", self.base)).header(COOKIE, self.cookie_header());
        request.send().await.expect("an answer").json().await.unwrap_or(Value::Null)
    }

    /// Asks without a session.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn get_without_session(&self, path: &str) -> StatusCode {
        self.http.get(format!("{}api/{path}", self.base)).send().await.expect("an answer").status()
    }

    /// Asks under another host name.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn with_host(&self, host: &str) -> StatusCode {
        self.http.get(&self.base).header(HOST, host).send().await.expect("an answer").status()
    }

    /// Headers of any answer.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn headers(&self, path: &str) -> HeaderMap {
        let request = self.http.get(format!("{}{path}", self.base)).header(COOKIE, self.cookie_header());
        request.send().await.expect("an answer").headers().clone()
    }

    /// The bare page.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn page(&self) -> String {
        self.http.get(&self.base).send().await.expect("an answer").text().await.expect("a page")
    }

    /// The desk as pages are told it.
    ///
    /// # Panics
    /// They are not told.
    pub async fn state(&self) -> Value {
        let request = self.http.get(format!("{}api/stream", self.base)).header(COOKIE, self.cookie_header());
        let mut answer = request.send().await.expect("an answer");
        let (mut text, deadline) = (String::new(), Instant::now() + WAIT);
        loop {
            assert!(Instant::now() < deadline, "no news of the desk: {text}");
            let chunk = answer.chunk().await.expect("the stream goes on").expect("more");
            text.push_str(&String::from_utf8_lossy(&chunk));
            if let Some((_, rest)) = text.split_once("event: desk\ndata: ")
                && let Some((json, _)) = rest.split_once("\n\n")
            {
                return serde_json::from_str(json).expect("JSON");
            }
        }
    }
}

fn http() -> Client {
    let builder = cdb_mexc::http::builder().expect("TLS");
    builder.timeout(Duration::from_secs(30)).build().expect("an HTTP client")
}
