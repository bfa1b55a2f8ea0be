//! Connections that can be cut off before an answer, as networks do at the worst moment.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Who is at the other end, and the means to cut the connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub local: Option<SocketAddr>,
    severed: Arc<AtomicBool>,
}

impl Peer {
    /// Nothing more is sent: the answer that is under way ends in a closed connection.
    pub fn sever(&self) {
        self.severed.store(true, Ordering::Relaxed);
    }
}

pub struct SeverableListener(pub TcpListener);

pub struct Severable {
    stream: TcpStream,
    severed: Arc<AtomicBool>,
}

impl Listener for SeverableListener {
    type Io = Severable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Severable, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (
            Severable {
                stream,
                severed: Arc::default(),
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, SeverableListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, SeverableListener>) -> Self {
        let severable = stream.io();
        Self {
            address: *stream.remote_addr(),
            local: severable.stream.local_addr().ok(),
            severed: Arc::clone(&severable.severed),
        }
    }
}

impl Severable {
    fn check(&self) -> io::Result<()> {
        if self.severed.load(Ordering::Relaxed) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for Severable {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Severable {
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
