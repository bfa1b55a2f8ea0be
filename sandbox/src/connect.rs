//! Connects to a Redis over TLS or plain, as a sensible app does.
//!
//! The redis crate speaks the protocol. The TLS stream is made here: an app on a hosted Redis has
//! to accept an unknown self-signed certificate, which the crate does not do by default.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use trust::{Authorities, Trust};

use crate::names;

/// How long connecting, TLS handshake and login may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The Redis that a `redis://` or `rediss://` URL names.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    login: RedisConnectionInfo,
    /// The URL's database: the app's own databases are counted from it.
    first_database: i64,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection that is closed when it is dropped, even with requests in flight.
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
            first_database: information.redis_settings().db() + query_database(url),
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
        let login = self.login.clone().set_db(self.first_database + database);
        let settings = AsyncConnectionConfig::new().set_response_timeout(Some(response_timeout));
        let host = self.host.trim_matches(['[', ']']);
        let stream = match names::address(host) {
            Some(address) => TcpStream::connect((address, self.port)).await?,
            None => TcpStream::connect((host, self.port)).await?,
        };
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

/// Returns the database of a URL such as `redis://host:6379?db=2`; 0 without one.
fn query_database(url: &str) -> i64 {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let named = query.split('&').find_map(|pair| pair.strip_prefix("db="));
    named.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Without an authority every server is trusted, as users of a hosted Redis do if it publishes
/// none.
fn tls_configuration(authority: Option<&str>) -> Result<ClientConfig> {
    let Some(pem) = authority else {
        return trust::any_certificate().context("set up TLS");
    };
    let authorities =
        Authorities::from_pem(pem).context("read the certificates that the Redis server must be signed by")?;
    let trust = Trust::Authority(authorities);
    trust
        .client_config()
        .context("trust the certificate that the Redis server must be signed by")
}
