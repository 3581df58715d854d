//! `<service> healthcheck`: asks the running service whether it is ready, so that an image without a shell can be
//! watched. It is the progress of the loop that is asked for (`/readyz`), not whether something listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest wait for the whole answer; shorter than any container's healthcheck timeout.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More of an answer is not read.
const ANSWER_MAX: u64 = 16 * 1_024;

/// The outcome, when the command line asks for this and nothing else; a service calls it before it reads any secret.
pub async fn asked(default_port: u16) -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("healthcheck"), None) => {}
        (None, _) => return None,
        (Some(_), _) => {
            eprintln!("the only argument known is: healthcheck");
            return Some(ExitCode::from(2));
        }
    }
    let listen = std::env::var("HTTP_LISTEN").ok().filter(|text| !text.is_empty());
    Some(match check(listen.as_deref(), default_port).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

async fn check(listen: Option<&str>, default_port: u16) -> anyhow::Result<()> {
    let listen = match listen {
        Some(text) => text.parse().context("HTTP_LISTEN cannot be read")?,
        None => SocketAddr::from((Ipv4Addr::LOCALHOST, default_port)),
    };
    let answer = tokio::time::timeout(TIMEOUT, ask(from_inside(listen)));
    let answer = answer.await.context("no answer within 2 s")??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    bail!("not ready: {}", body.trim().replace('\n', "; "))
}

/// Where a service that listens everywhere is reached from its own host.
const fn from_inside(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::health::{self, Health};
    use crate::supervise::Tasks;

    #[tokio::test]
    async fn ready_is_well_trouble_is_named_and_silence_is_a_failure() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(check(Some(&address.to_string()), 0).await.is_err(), "nothing listens");
        let health = Health::default();
        let mut tasks = Tasks::default();
        let shutdown = tasks.shutdown();
        tasks.spawn("http", health::serve(address, health.clone(), Registry::new(), axum::Router::new(), shutdown));
        health.progress();
        let everywhere = format!("0.0.0.0:{}", address.port());
        while check(Some(&everywhere), 0).await.is_err() {
            tokio::task::yield_now().await;
        }
        check(None, address.port()).await.unwrap();
        health.trouble("redis", "away");
        let text = check(Some(&everywhere), 0).await.unwrap_err().to_string();
        assert_eq!(text, "not ready: redis: away");
        assert!(check(Some("nonsense"), 0).await.is_err());
    }
}
