//! Connects to a Redis over TLS or plain, as a sensible app does.
//!
//! The redis crate speaks the protocol. The TLS stream is made here: an app on a hosted Redis has
//! to accept an unknown self-signed certificate, which the crate does not do by default.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// How long connecting, TLS handshake and login may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The Redis that a `redis://` or `rediss://` URL names.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    login: RedisConnectionInfo,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection that is closed when it is dropped, whatever is still in flight on it.
pub struct Connection {
    pub commands: MultiplexedConnection,
    driver: JoinHandle<()>,
}

/// A type with a Drop of its own cannot be taken apart: nobody moves `commands` out of it.
impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Target {
    /// With `authority` (PEM) a `rediss` server must prove itself; else any certificate will do.
    pub fn parse(url: &str, authority: Option<&str>) -> Result<Self> {
        // The URL carries a password: no message may quote it.
        let information = url
            .into_connection_info()
            .context("read the Redis URL (want rediss://:password@host:port)")?;
        let (host, port, tls) = match information.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port, false),
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port, true),
            _ => bail!("read the Redis URL: only redis:// and rediss:// addresses are supported"),
        };
        let tls = if tls {
            Some(Arc::new(tls_configuration(authority)?))
        } else {
            None
        };
        Ok(Self {
            host,
            port,
            login: information.redis_settings().clone(),
            tls,
        })
    }

    /// Returns `host:port`, without anything secret.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Connects and logs in. `response_timeout` is for each command afterwards.
    pub async fn connect(&self, database: i64, response_timeout: Duration) -> RedisResult<Connection> {
        tokio::time::timeout(
            CONNECT_TIMEOUT,
            self.connect_without_deadline(database, response_timeout),
        )
        .await
        .map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))?
    }

    async fn connect_without_deadline(&self, database: i64, response_timeout: Duration) -> RedisResult<Connection> {
        let login = self.login.clone().set_db(database);
        let settings = AsyncConnectionConfig::new().set_response_timeout(Some(response_timeout));
        let stream = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => {
                let (commands, driver) = MultiplexedConnection::new_with_config(&login, stream, settings).await?;
                Ok(Connection {
                    commands,
                    driver: tokio::spawn(driver),
                })
            }
            Some(configuration) => {
                let name = ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned())
                    .map_err(|error| RedisError::from(std::io::Error::other(error)))?;
                let stream = TlsConnector::from(Arc::clone(configuration))
                    .connect(name, stream)
                    .await?;
                let (commands, driver) = MultiplexedConnection::new_with_config(&login, stream, settings).await?;
                Ok(Connection {
                    commands,
                    driver: tokio::spawn(driver),
                })
            }
        }
    }
}

fn tls_configuration(authority: Option<&str>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("set up TLS")?;
    let Some(pem) = authority else {
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.context("read the certificates that the Redis server must be signed by")?;
        roots
            .add(certificate)
            .context("trust the certificate that the Redis server must be signed by")?;
    }
    if roots.is_empty() {
        bail!("read the certificates that the Redis server must be signed by: there is no PEM certificate in them");
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Trusts whoever answers, as users of a hosted Redis do if it publishes no authority.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
