//! The bytes between us and a server: TCP, or TLS over it.

use super::trust::{self, Trust};
use crate::model::error::{Doing, Error, Result};
use ::trust::Refusal;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time limit of name, TCP and TLS handshake together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The abilities of both kinds of stream.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// An open connection before any Redis was spoken.
pub type Stream = Box<dyn Duplex>;

/// Opens a stream. `place` names the server in errors.
pub(super) async fn open(place: &str, host: &str, port: u16, trust: Option<&Trust>) -> Result<Stream> {
    let config = trust.map(Trust::client_config).transpose()?;
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let tcp = tcp(place, host, port, deadline).await?;
    Ok(match config {
        None => Box::new(tcp),
        Some(config) => Box::new(tls(place, tcp, host, config, trust, deadline).await?),
    })
}

/// The words in which every engine says that it takes no more connections.
pub(super) const FULL: &str = "max number of clients";

/// Returns true if the server says that it takes no more connections, which is its first answer.
pub(super) async fn is_full(mut stream: Stream) -> bool {
    let asking = async {
        stream.write_all(b"PING\r\n").await?;
        stream.flush().await?;
        let mut answer = [0; 64];
        let read = stream.read(&mut answer).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer[..read]).into_owned())
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, asking).await {
        Ok(Ok(answer)) => answer.contains(FULL),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Returns the certificates that a server shows in DER form, leaf first, without trust in them: nothing is sent after the handshake.
pub(super) async fn shown_chain(place: &str, host: &str, port: u16) -> Result<Vec<CertificateDer<'static>>> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let tcp = tcp(place, host, port, deadline).await?;
    let stream = tls(place, tcp, host, trust::any_certificate()?, None, deadline).await?;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    if chain.is_empty() {
        return Err(Error::failed(format!(
            "read the certificate of {place}: it showed none"
        )));
    }
    Ok(chain.iter().cloned().map(CertificateDer::into_owned).collect())
}

async fn tcp(place: &str, host: &str, port: u16, deadline: Instant) -> Result<TcpStream> {
    let opening = async {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(15))
            .with_interval(Duration::from_secs(5))
            .with_retries(3);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(stream)
    };
    match timeout_at(deadline, opening).await {
        Ok(opened) => opened.map_err(|cause| explain(place, cause, None)),
        Err(_) => Err(no_answer("connect to", place).hint(
            "see whether a firewall, a security group or a provider's list of allowed addresses lets this computer reach that port, and whether the server is up",
        )),
    }
}

async fn tls(
    place: &str,
    stream: TcpStream,
    host: &str,
    config: ClientConfig,
    trust: Option<&Trust>,
    deadline: Instant,
) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).doing(|| format!("connect to {place}"))?;
    match timeout_at(deadline, TlsConnector::from(Arc::new(config)).connect(name, stream)).await {
        Ok(opened) => opened.map_err(|cause| explain(place, cause, trust)),
        Err(_) => Err(no_answer("begin TLS with", place).hint("see whether the server speaks TLS on this port")),
    }
}

fn no_answer(doing: &str, place: &str) -> Error {
    Error::failed(format!(
        "{doing} {place}: no answer within {} s",
        CONNECT_TIMEOUT.as_secs()
    ))
}

const CLOSED: &str = "see whether the server speaks TLS on this port, allows this computer's address, and takes as many connections (maxclients)";

/// Returns true if the server closed the connection during the TLS handshake, as one without room does.
pub(super) fn is_closed(error: &Error) -> bool {
    error.next_step() == Some(CLOSED)
}

fn explain(place: &str, cause: io::Error, trust: Option<&Trust>) -> Error {
    let failed = Error::failed(format!("connect to {place}"));
    if let Some(refusal) = Refusal::of(&cause).cloned() {
        let hint = trust::remedy(trust, &refusal);
        return failed.because(refusal).hint(hint);
    }
    let is_tls = cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let hint = match cause.kind() {
        _ if is_tls => "see whether the server speaks TLS on this port",
        io::ErrorKind::ConnectionRefused => "see whether Redis runs there and listens on that address and port",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => CLOSED,
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "see whether this computer has a way to that address"
        }
        _ => "see whether host and port are right",
    };
    failed.because(cause).hint(hint)
}
