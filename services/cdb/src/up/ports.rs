//! The cell's ports: ten in a row.

use std::net::TcpListener;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::outcome::{CONFIGURATION, Result, USAGE, end};

/// The first port when none is named.
pub const DEFAULT_BASE: u16 = 7700;
/// The console's port of a cell on the default ports.
const DEFAULT_CONSOLE: u16 = 8080;

/// Which part listens where.
pub struct Ports {
    /// Redis.
    pub redis: u16,
    /// The stand-in exchange.
    pub exchange: u16,
    /// Its admin interface.
    pub exchange_admin: u16,
    /// cdb_risk.
    pub risk: u16,
    /// cdb_execution.
    pub execution: u16,
    /// cdb_monitor.
    pub monitor: u16,
    /// PostgreSQL, in its socket's name only.
    pub postgres: u16,
    /// The operator's console.
    pub console: u16,
}

impl Ports {
    /// Ports from a base on. The console's is its own where one is named; a cell on the default ports has it where
    /// people look for it, unless somebody else is there.
    pub fn from(base: u16, console: Option<u16>) -> Result<Self> {
        if !(1_024..=65_520).contains(&base) {
            return Err(end(USAGE, "--ports must be between 1024 and 65520"));
        }
        let is_default = base == DEFAULT_BASE && is_free(DEFAULT_CONSOLE);
        let console = console.unwrap_or(if is_default { DEFAULT_CONSOLE } else { base + 7 });
        Ok(Self {
            redis: base,
            exchange: base + 1,
            exchange_admin: base + 2,
            risk: base + 3,
            execution: base + 4,
            monitor: base + 5,
            postgres: base + 6,
            console,
        })
    }

    /// Refuses ports that somebody uses.
    pub fn all_free(&self) -> Result {
        let services = [self.risk, self.execution, self.monitor, self.console];
        for port in [self.redis, self.exchange, self.exchange_admin].into_iter().chain(services) {
            if !is_free(port) {
                let text = format!("port {port} is in use; choose others with --ports, e.g. --ports 7800");
                return Err(end(CONFIGURATION, text));
            }
        }
        Ok(())
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Whether something listens.
pub async fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

/// Whether a service says that it is ready.
pub async fn is_http_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<bool, std::io::Error>(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Ok(true)))
}
