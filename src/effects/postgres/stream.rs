//! The bytes between us and PostgreSQL: TCP, or TLS that is asked for first.

use crate::effects::redis::Trust;
use crate::effects::redis::stream::Stream;
use crate::model::error::{Doing, Error, Result};
use ::trust::Refusal;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// For name, TCP and TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The message by which a client asks for TLS before anything else: its length and its code.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Where a stream leads, and which certificate is expected there.
pub(super) struct Peer<'a> {
    /// The server in errors.
    pub place: String,
    pub host: &'a str,
    pub port: u16,
    pub trust: Option<&'a Trust>,
}

pub(super) async fn open(peer: &Peer<'_>) -> Result<Stream> {
    match tokio::time::timeout(CONNECT_TIMEOUT, dial(peer)).await {
        Ok(opened) => opened,
        Err(_) => Err(Error::failed(format!(
            "connect to {}: no answer within {} s",
            peer.place,
            CONNECT_TIMEOUT.as_secs()
        ))
        .hint("see whether a firewall or a provider's list of allowed addresses lets this computer reach that port")),
    }
}

async fn dial(peer: &Peer<'_>) -> Result<Stream> {
    let explained = |cause: io::Error| explain(peer, cause);
    let mut tcp = TcpStream::connect((peer.host, peer.port)).await.map_err(explained)?;
    tcp.set_nodelay(true).map_err(explained)?;
    let Some(trust) = peer.trust else {
        return Ok(Box::new(tcp));
    };
    tcp.write_all(&TLS_REQUEST).await.map_err(explained)?;
    let mut answer = [0];
    tcp.read_exact(&mut answer).await.map_err(explained)?;
    if answer != *b"S" {
        return Err(Error::failed(format!("begin TLS with {}: it speaks none", peer.place))
            .hint("a server without TLS is used only if its URL ends with `?sslmode=disable`"));
    }
    let config = Arc::new(trust.client_config()?);
    let name = ServerName::try_from(peer.host.to_owned()).doing(|| format!("connect to {}", peer.place))?;
    let tls = TlsConnector::from(config).connect(name, tcp).await;
    Ok(Box::new(tls.map_err(explained)?))
}

fn explain(peer: &Peer<'_>, cause: io::Error) -> Error {
    let failed = Error::failed(format!("connect to {}", peer.place));
    if let Some(refusal) = Refusal::of(&cause).cloned() {
        let hint = match (peer.trust, &refusal) {
            (_, Refusal::WrongSignature) => {
                "somebody else may answer at this address with a copy of the certificate: find out who, before anything is sent there".into()
            }
            (Some(Trust::Pin(_)), _) => {
                "if the provider says that it changed its certificate, correct `source.tls_pin` in import.yml".to_owned()
            }
            _ => format!(
                "if the provider's certificates are its own, pin the server's: its digest, compared with what the provider says, as `source.tls_pin` in import.yml; `openssl s_client -starttls postgres -connect {}:{}` shows it",
                peer.host, peer.port
            ),
        };
        return failed.because(refusal).hint(hint);
    }
    let hint = match cause.kind() {
        io::ErrorKind::ConnectionRefused => "see whether PostgreSQL runs there and listens on that address and port",
        _ => "see whether host and port are right, and whether this computer has a way to that address",
    };
    failed.because(cause).hint(hint)
}
