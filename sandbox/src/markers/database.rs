//! A connection to PostgreSQL as an app on a hosted one makes it: encrypted, with any certificate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_rustls::TlsConnector;

/// How long connecting, TLS handshake and login may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The message by which a client asks for TLS: its length and its code.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A connection that is closed when it is dropped.
pub struct Database {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Database {
    /// Connects and logs in. The URL carries a password, so no error quotes it.
    pub async fn connect(url: &str) -> Result<Self> {
        let config: Config = url
            .parse()
            .context("read the URL of PostgreSQL (want postgres://user:password@host:port/database)")?;
        tokio::time::timeout(CONNECT_TIMEOUT, Self::log_in(config))
            .await
            .context("connect to PostgreSQL: no answer in time")?
            .context("connect to PostgreSQL")
    }

    async fn log_in(mut config: Config) -> Result<Self> {
        let host = match config.get_hosts() {
            [Host::Tcp(host)] => host.clone(),
            _ => bail!("the URL names no single host"),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let mut tcp = TcpStream::connect((host.as_str(), port)).await?;
        tcp.set_nodelay(true)?;
        let is_encrypted = config.get_ssl_mode() == SslMode::Require;
        // The stream is encrypted here, if it is to be.
        config.ssl_mode(SslMode::Disable);
        if !is_encrypted {
            return Self::establish(&config, tcp).await;
        }
        tcp.write_all(&TLS_REQUEST).await?;
        let mut answer = [0];
        tcp.read_exact(&mut answer).await?;
        ensure!(answer == *b"S", "the server speaks no TLS");
        let name = ServerName::try_from(host).context("read the host's name")?;
        let connector = TlsConnector::from(Arc::new(trust::any_certificate().context("set up TLS")?));
        Self::establish(&config, connector.connect(name, tcp).await?).await
    }

    async fn establish<S>(config: &Config, stream: S) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        let driver = tokio::spawn(async move {
            // Whoever asks next gets the reason.
            let _ = connection.await;
        });
        Ok(Self { client, driver })
    }

    /// Runs statements; returns the first value of the last row, if there is one.
    pub async fn run(&self, statements: &str) -> Result<Option<String>> {
        let answers = self.client.simple_query(statements).await.context("ask PostgreSQL")?;
        let last = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        });
        Ok(last.flatten())
    }
}
