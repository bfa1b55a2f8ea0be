//! Listeners that can be shut for a while, and connections that can be ended before an answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// The client's address, and the means to disconnect it.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub local: Option<SocketAddr>,
    disconnected: Arc<AtomicBool>,
}

impl Peer {
    /// Disconnects: nothing more is sent, not even the rest of an answer.
    pub fn disconnect(&self) {
        self.disconnected.store(true, Ordering::Relaxed);
    }
}

/// A time in which nobody gets an answer.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub until: Instant,
    pub form: OutageForm,
}

/// The form in which clients meet an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum OutageForm {
    /// New connections are refused, and existing ones are ended at their next request.
    #[default]
    #[serde(rename = "refused")]
    Refused,
    #[serde(rename = "503")]
    Unavailable,
}

impl Outage {
    pub fn is_on(&self) -> bool {
        Instant::now() < self.until
    }
}

/// How often to try to reopen a port that something else has taken.
const REOPEN_EVERY: Duration = Duration::from_millis(20);
const BACKLOG: u32 = 1024;

pub struct SeverableListener {
    address: SocketAddr,
    /// None while it is shut.
    listener: Option<TcpListener>,
    outage: watch::Receiver<Option<Outage>>,
}

impl SeverableListener {
    pub fn bind(address: SocketAddr, outage: watch::Receiver<Option<Outage>>) -> io::Result<Self> {
        let listener = listen(address)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(listener),
            outage,
        })
    }

    /// Returns the end of the outage that refuses connections, if there is one.
    fn shut_until(&mut self) -> Option<Instant> {
        let outage = (*self.outage.borrow_and_update())?;
        (outage.form == OutageForm::Refused && outage.is_on()).then_some(outage.until)
    }

    async fn stay_shut(&mut self, until: Instant) {
        self.listener = None;
        // A bound socket that does not listen keeps the port and refuses. A free port refuses too.
        let _placeholder = bound(self.address).ok();
        sleep_until(until).await;
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bound(address)?.listen(BACKLOG)
}

pub struct Closable {
    stream: TcpStream,
    disconnected: Arc<AtomicBool>,
}

impl Listener for SeverableListener {
    type Io = Closable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Closable, SocketAddr) {
        loop {
            if let Some(until) = self.shut_until() {
                self.stay_shut(until).await;
                continue;
            }
            let Some(listener) = &mut self.listener else {
                match listen(self.address) {
                    Ok(listener) => self.listener = Some(listener),
                    Err(error) => {
                        tracing::warn!("the platform cannot listen on {} again yet: {error}", self.address);
                        sleep(REOPEN_EVERY).await;
                    }
                }
                continue;
            };
            let changed = async {
                if self.outage.changed().await.is_err() {
                    // The sender is gone, so no outage can begin any more.
                    std::future::pending::<()>().await;
                }
            };
            let (stream, address) = tokio::select! {
                accepted = Listener::accept(listener) => accepted,
                () = changed => continue,
            };
            let disconnected = Arc::default();
            return (Closable { stream, disconnected }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, SeverableListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, SeverableListener>) -> Self {
        let closable = stream.io();
        Self {
            address: *stream.remote_addr(),
            local: closable.stream.local_addr().ok(),
            disconnected: Arc::clone(&closable.disconnected),
        }
    }
}

impl Closable {
    fn check(&self) -> io::Result<()> {
        if self.disconnected.load(Ordering::Relaxed) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for Closable {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Closable {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
