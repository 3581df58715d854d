//! A headless Chromium, driven: what an operator sees and presses.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cell::{WAIT, free_ports};

/// A browser with one page; ends when it is dropped.
pub struct Browser {
    client: Client,
    driver: Child,
    _profile: TempDir,
}

/// A command of the browser's own protocol.
#[derive(Debug)]
struct Cdp {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for Cdp {
    fn endpoint(
        &self,
        base_url: &reqwest::Url,
        session_id: Option<&str>,
    ) -> Result<reqwest::Url, <reqwest::Url as std::str::FromStr>::Err> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &reqwest::Url) -> (reqwest::Method, Option<String>) {
        (reqwest::Method::POST, Some(json!({"cmd": self.command, "params": self.parameters}).to_string()))
    }
}

/// Why there is no browser here, after trying to install one; `None` = there is.
#[must_use]
pub fn missing() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let script = root.join("scripts/install-tools");
    let installed = Command::new(script).args(["chromium", "chromium-driver"]).output().expect("a shell script");
    let text = String::from_utf8_lossy(&installed.stderr).into_owned();
    (!installed.status.success()).then_some(text)
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start() -> Self {
        let port = free_ports(1);
        let profile = tempfile::tempdir().expect("a temporary directory");
        let log = fs::File::create(profile.path().join("driver.log")).expect("a log");
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("chromedriver");
        let data = profile.path().join("profile");
        // It speaks to this machine alone.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            &format!("--user-data-dir={}", data.display()),
        ];
        let options = json!({"goog:chromeOptions": {"args": arguments}});
        let capabilities = options.as_object().cloned().expect("an object");
        let deadline = Instant::now() + WAIT;
        let client = loop {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            match builder.capabilities(capabilities.clone()).connect(&format!("http://127.0.0.1:{port}")).await {
                Ok(client) => break client,
                Err(error) if Instant::now() > deadline => panic!("no browser: {error}"),
                // The driver does not listen yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        Self { client, driver, _profile: profile }
    }

    /// Goes to an address.
    ///
    /// # Panics
    /// It cannot be loaded.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page");
    }

    /// The element with this id or selector.
    ///
    /// # Panics
    /// There is none within [`WAIT`].
    pub async fn find(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(WAIT);
        wait.for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// Presses a button.
    ///
    /// # Panics
    /// It is not there or not visible.
    pub async fn press(&self, css: &str) {
        let deadline = Instant::now() + WAIT;
        loop {
            let Err(error) = self.try_press(css).await else { return };
            assert!(Instant::now() < deadline, "{css} cannot be pressed: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn try_press(&self, css: &str) -> Result<(), CmdError> {
        let element = self.client.find(Locator::Css(css)).await?;
        // Not below the banner, which stays in place.
        let middle = "arguments[0].scrollIntoView({block: 'center'})";
        self.client.execute(middle, vec![serde_json::to_value(&element)?]).await?;
        element.click().await
    }

    /// Types into a field, in place of what is there.
    ///
    /// # Panics
    /// It is not there.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("an empty field");
        field.send_keys(text).await.expect("a filled field");
    }

    /// The text of an element as a person sees it; empty while it is not there.
    pub async fn text(&self, css: &str) -> String {
        let Ok(element) = self.client.find(Locator::Css(css)).await else { return String::new() };
        element.text().await.unwrap_or_default()
    }

    /// Runs a script in the page.
    ///
    /// # Panics
    /// It fails.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.expect("a script")
    }

    /// Waits until an element's text contains something.
    ///
    /// # Panics
    /// It does not within [`WAIT`].
    pub async fn until_text(&self, css: &str, part: &str) {
        let last = std::cell::RefCell::new(String::new());
        let deadline = Instant::now() + WAIT;
        while !last.borrow().contains(part) {
            assert!(Instant::now() < deadline, "{css} does not show {part:?} but {:?}", last.borrow());
            tokio::time::sleep(Duration::from_millis(50)).await;
            last.replace(self.text(css).await);
        }
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// It does not within [`WAIT`].
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + WAIT;
        while !holds().await {
            assert!(Instant::now() < deadline, "waited until {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn cdp(&self, command: &'static str, parameters: Value) -> Result<Value, CmdError> {
        self.client.issue_cmd(Cdp { command, parameters }).await
    }

    /// Makes the page as wide as this, and light or dark.
    ///
    /// # Panics
    /// The browser refuses.
    pub async fn appear(&self, width: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await.expect("a width");
        self.cdp("Emulation.setScrollbarsHidden", json!({"hidden": true})).await.expect("no scroll bars");
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.cdp("Emulation.setEmulatedMedia", media).await.expect("a colour scheme");
    }

    /// Writes a picture to `target/screenshots`, of the whole page or of what the window shows.
    ///
    /// # Panics
    /// The browser does not give one.
    pub async fn picture(&self, name: &str, is_whole: bool) -> PathBuf {
        self.run("window.scrollTo(0, 0)").await;
        let shot = json!({"captureBeyondViewport": is_whole, "format": "png"});
        let answer = self.cdp("Page.captureScreenshot", shot).await.expect("a picture");
        let base64 = answer["data"].as_str().expect("a picture").to_owned();
        let bytes = base64_decoded(&base64);
        let dir = crate::cell::programs().parent().expect("target").join("screenshots");
        fs::create_dir_all(&dir).expect("target/screenshots");
        let path = dir.join(format!("{name}.png"));
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// How wide the page is, and how wide the window: a page wider than its window must be scrolled sideways.
    ///
    /// # Panics
    /// The page does not answer.
    pub async fn width_of_page(&self) -> (i64, i64) {
        let widths = self.run("return [document.documentElement.scrollWidth, window.innerWidth]").await;
        (widths[0].as_i64().expect("a width"), widths[1].as_i64().expect("a width"))
    }
}

fn base64_decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver leaves its browser behind, which is in the driver's own group.
        if let Some(pid) = i32::try_from(self.driver.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _gone = self.driver.wait();
    }
}
