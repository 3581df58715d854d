//! A bare Redis of its own, on a free port, without users: for the scripts alone.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cdb_core::secret::Secret;
use cdb_io::bus::Bus;
use cdb_io::config::RedisConfig;
use tempfile::TempDir;

/// A running Redis; ends when it is dropped.
pub struct RedisServer {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// redis-server is not installed or does not start.
    pub async fn start() -> Self {
        Self::start_with(&["--appendonly", "no"]).await
    }

    /// Starts one that is as durable as a cell's.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await
    }

    /// Starts one whose users are those of an ACL file.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_with_users(acl_file: &Path) -> Self {
        Self::start_with(&["--appendonly", "no", "--aclfile", acl_file.to_str().expect("a readable path")]).await
    }

    async fn start_with(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = super::cell::free_ports(1);
        let mut child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(options)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed");
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().expect("its state").is_none(), "redis-server ended");
            assert!(Instant::now() < deadline, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { child, port, _dir: dir }
    }

    /// Connects to it.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn bus(&self) -> Bus {
        let config = RedisConfig { host: "127.0.0.1".into(), port: self.port, user: "default".into(), password: None };
        Bus::connect(&config).await.expect("the test's Redis answers")
    }
}

impl RedisServer {
    /// Connects to it as one of its users.
    ///
    /// # Errors
    /// It refuses that user.
    pub async fn bus_as(&self, user: &str, password: Secret) -> anyhow::Result<Bus> {
        let (host, password) = ("127.0.0.1".into(), Some(password));
        Bus::connect(&RedisConfig { host, port: self.port, user: user.into(), password }).await
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
