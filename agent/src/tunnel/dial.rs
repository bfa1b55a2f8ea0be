//! Opens one connection to the source: its name, TCP, TLS, and the certificate. Sends no data.

use super::names::Resolver;
use infra_agent::record::Obstacle;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};
use trust::{Authorities, Policy, Refusal};

/// Time limit of name, TCP and TLS together. Redis itself waits longer than this.
const PATIENCE: Duration = Duration::from_secs(15);
/// Time limit of the search for the name.
const NAME: Duration = Duration::from_secs(8);
/// Time limit of the connection to one address.
const CONNECT: Duration = Duration::from_secs(4);
/// Time limit of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(6);

#[derive(Clone, Debug)]
pub struct Source {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An open connection whose certificate was accepted.
pub struct Dialled {
    pub address: SocketAddr,
    pub stream: TcpStream,
    pub tls: ClientConnection,
}

/// Why the source was not reached, as a word for programs and a sentence for people.
#[derive(Debug)]
pub struct Failure {
    pub obstacle: Obstacle,
    pub why: String,
}

impl Failure {
    fn new(obstacle: Obstacle, why: impl Into<String>) -> Self {
        Failure {
            obstacle,
            why: why.into(),
        }
    }
}

/// Connects and lets `policy` judge the certificate.
pub fn dial(source: &Source, resolver: &Resolver, policy: Policy) -> Result<Dialled, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let (stream, address) = connect(source, resolver, deadline)?;
    let set_up = |error: &dyn fmt::Display| Failure::new(Obstacle::Tls, format!("TLS cannot be set up: {error}"));
    // The authorities are read at each connection, since they change while the tunnel runs.
    let authorities = || Ok(Authorities::of(rustls_native_certs::load_native_certs().certs));
    let trust = policy.with(authorities).map_err(|error| set_up(&error))?;
    let config = trust.client_config().map_err(|error| set_up(&error))?;
    let name = ServerName::try_from(source.host.clone()).map_err(|error| set_up(&error))?;
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(|error| set_up(&error))?;
    let end = deadline.min(Instant::now() + HANDSHAKE);
    shake_hands(&stream, &mut tls, end).map_err(|error| unfit(address, &error))?;
    let ready = (|| {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)
    })();
    ready.map_err(|error| unfit(address, &error))?;
    Ok(Dialled { address, stream, tls })
}

/// Connects to the first address that answers.
pub fn connect(source: &Source, resolver: &Resolver, deadline: Instant) -> Result<(TcpStream, SocketAddr), Failure> {
    let addresses = resolver
        .addresses(&source.host, deadline.min(Instant::now() + NAME))
        .map_err(|why| {
            Failure::new(
                Obstacle::Name,
                format!("the name {} does not resolve: {why}", source.host),
            )
        })?;
    let mut failure = None;
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&(address, source.port).into(), CONNECT.min(left)) {
            Ok(stream) => return Ok((stream, (address, source.port).into())),
            // The first reason is kept: the other addresses may be of a family without a route.
            Err(error) => failure = failure.or(Some(unreached(address, source.port, &error))),
        }
    }
    Err(failure.unwrap_or_else(|| Failure::new(Obstacle::NoAnswer, "there was no time left to connect")))
}

fn unreached(address: IpAddr, port: u16, error: &io::Error) -> Failure {
    let address = SocketAddr::from((address, port));
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Failure::new(Obstacle::Refused, format!("{address} refuses the connection"))
        }
        io::ErrorKind::TimedOut => Failure::new(
            Obstacle::NoAnswer,
            format!("{address} does not answer within {} s", CONNECT.as_secs()),
        ),
        _ => Failure::new(Obstacle::NoAnswer, format!("there is no way to {address}: {error}")),
    }
}

/// Completes the handshake until `deadline`, however slowly the bytes come.
fn shake_hands(stream: &TcpStream, tls: &mut ClientConnection, deadline: Instant) -> io::Result<()> {
    let mut stream = stream;
    while tls.is_handshaking() || tls.wants_write() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        if tls.wants_write() {
            tls.write_tls(&mut stream)?;
            continue;
        }
        if tls.read_tls(&mut stream)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = tls.process_new_packets() {
            // The server gets to know why it was left, if it still listens.
            let _ = tls.write_tls(&mut stream);
            return Err(io::Error::other(error));
        }
    }
    Ok(())
}

fn unfit(address: SocketAddr, error: &io::Error) -> Failure {
    if let Some(refusal) = Refusal::of(error) {
        return Failure::new(obstacle(refusal), refusal.to_string());
    }
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::new(
            Obstacle::Tls,
            format!("{address} accepts the connection and does not answer in TLS"),
        ),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::new(
            Obstacle::Refused,
            format!("{address} closes the connection before TLS has begun"),
        ),
        _ => Failure::new(Obstacle::Tls, format!("TLS with {address} fails: {error}")),
    }
}

fn obstacle(refusal: &Refusal) -> Obstacle {
    match refusal {
        Refusal::PinDiffers { .. } => Obstacle::CertificateChanged,
        Refusal::AuthorityUnknown { .. } => Obstacle::AuthorityUnknown,
        Refusal::NameDiffers { .. } => Obstacle::NameDiffers,
        Refusal::Expired { .. } | Refusal::NotYetValid { .. } => Obstacle::Expired,
        Refusal::KeySize { .. } => Obstacle::KeySize,
        Refusal::WrongSignature | Refusal::Unverifiable { .. } => Obstacle::CertificateRefused,
    }
}
