//! A real Prometheus of its own: its own directory and port, ended by its process id.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cell::{Cell, WAIT, free_ports};

/// A running Prometheus that scrapes a cell's three services every second; ends when it is dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    http: reqwest::Client,
    dir: TempDir,
}

/// Why there is no Prometheus here, after trying to install one; `None` = there is.
#[must_use]
pub fn missing() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let installed = Command::new(root.join("scripts/install-tools")).arg("prometheus").output().expect("a script");
    (!installed.status.success()).then(|| String::from_utf8_lossy(&installed.stderr).into_owned())
}

impl Prometheus {
    /// Starts one.
    ///
    /// # Panics
    /// It does not start.
    pub async fn of(cell: &Cell) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let services = cell.description()["services"].clone();
        let targets: Vec<&str> = services.as_object().expect("services").values().map(address).collect();
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: cdb\n    static_configs: [{{targets: {}}}]\n",
            serde_json::to_string(&targets).expect("JSON")
        );
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, config).expect("its configuration");
        let port = free_ports(1);
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("prometheus");
        let http = cdb_mexc::http::builder().expect("TLS").timeout(Duration::from_secs(10));
        let http = http.build().expect("an HTTP client");
        let prometheus = Self { child, url: format!("http://127.0.0.1:{port}"), http, dir };
        let deadline = Instant::now() + WAIT;
        while !prometheus.ask("sum(up{job=\"cdb\"}) == 3").await.is_ok_and(|series| !series.is_empty()) {
            assert!(Instant::now() < deadline, "Prometheus does not scrape: {}", prometheus.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        prometheus
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The series that an expression gives.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    pub async fn ask(&self, expression: &str) -> Result<Vec<Value>, String> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", expression)]);
        let answer = self.http.get(url.map_err(|error| error.to_string())?).send().await;
        let answer: Value =
            answer.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
        match answer["data"]["result"].as_array() {
            Some(series) if answer["status"] == "success" => Ok(series.clone()),
            Some(_) | None => Err(answer["error"].to_string()),
        }
    }
}

fn address(service: &Value) -> &str {
    service["url"].as_str().expect("a service").trim_start_matches("http://")
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _gone = self.child.wait();
    }
}
