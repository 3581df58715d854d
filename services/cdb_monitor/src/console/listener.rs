//! The console's connections: bounded in number and in what is kept for each. A browser that does not read what is sent to
//! it is cut off.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at one time; more wait.
const CONNECTIONS_MAX: usize = 128;
/// Longest that a connection may take nothing.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// What the system keeps for a connection that does not read, bytes.
const SEND_BUFFER: u32 = 64 * 1_024;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;
/// Pause after an accept that failed (no file descriptors, for example).
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// Listens for browsers.
pub struct Connections {
    inner: TcpListener,
    free: Arc<Semaphore>,
}

impl Connections {
    /// On this address.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn on(address: SocketAddr) -> anyhow::Result<Self> {
        let listen = || -> io::Result<TcpListener> {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            // Accepted sockets have it from the listening one.
            socket.set_send_buffer_size(SEND_BUFFER)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        let inner = listen().with_context(|| format!("listening on CONSOLE_LISTEN {address}"))?;
        Ok(Self { inner, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)) })
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // The semaphore is never closed; without a permit nothing is accepted.
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else { continue };
            match self.inner.accept().await {
                Ok((stream, peer)) => return (Connection { stream, stalled: None, _permit: permit }, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection to the console could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// One browser's connection.
pub struct Connection {
    stream: TcpStream,
    /// Runs while the browser takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Fails what has been pending for too long.
    fn watch<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_MAX)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => {
                // A reset: otherwise the system would keep what it could not send.
                let _kept_a_little_longer = self.stream.set_zero_linger();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
