//! A PostgreSQL server as an address: host, port, user, database, and the certificate to expect.

use super::session::Session;
use super::stream::{self, Peer};
use crate::effects::redis::Trust;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use percent_encoding::percent_decode_str;
use std::fmt;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

#[derive(Clone, Debug)]
pub struct Postgres {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    /// `None`: plain TCP, if the URL says `sslmode=disable`.
    pub trust: Option<Trust>,
    /// How long the server may work on one statement.
    pub statement_timeout: Duration,
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PostgreSQL ({}:{}, database {})",
            self.host, self.port, self.database
        )
    }
}

impl Postgres {
    /// Reads a `postgres://` URL. Of its parameters only `sslmode=disable` counts: any other mode
    /// is TLS with a verified certificate.
    pub fn from_url(url: &Secret, trust: Trust, statement_timeout: Duration) -> Result<Postgres> {
        let wrong = || {
            Error::usage("read the URL of PostgreSQL: it is not of the form postgres://user:password@host:port/database")
                .hint("look at the variable that `source` in import.yml names; characters such as @ / : # in a password are written %40 %2F %3A %23")
        };
        let text = url.expose().trim();
        let rest = text
            .strip_prefix("postgres://")
            .or(text.strip_prefix("postgresql://"))
            .ok_or_else(wrong)?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        let (host, port) = host_and_port(place).ok_or_else(wrong)?;
        let decoded = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(std::borrow::Cow::into_owned).map_err(|_| wrong())
        };
        let user = decoded(user)?;
        if user.is_empty() {
            return Err(wrong());
        }
        let database = decoded(database)?;
        let is_plain = parameters.split('&').any(|parameter| parameter == "sslmode=disable");
        Ok(Postgres {
            host,
            port,
            password: password.map(decoded).transpose()?.map(Secret::new),
            database: if database.is_empty() { user.clone() } else { database },
            user,
            trust: Some(trust).filter(|_| !is_plain),
            statement_timeout,
        })
    }

    /// Logs in. The session can read and cannot change anything.
    pub async fn connect(&self) -> Result<Session> {
        let session = self.connect_for_changes().await?;
        session.run("SET default_transaction_read_only = on").await?;
        Ok(session)
    }

    /// Logs in with the right to make changes, such as a slot and a publication of our own.
    pub async fn connect_for_changes(&self) -> Result<Session> {
        tracing::info!("connect to {self}");
        let peer = Peer {
            place: self.to_string(),
            host: &self.host,
            port: self.port,
            trust: self.trust.as_ref(),
        };
        let stream = stream::open(&peer).await?;
        let mut config = Config::new();
        config
            .user(self.user.as_str())
            .dbname(self.database.as_str())
            .application_name("infra")
            // The stream is encrypted already, if it is to be.
            .ssl_mode(SslMode::Disable);
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        Session::establish(peer.place, &config, stream, self.statement_timeout).await
    }
}

fn host_and_port(place: &str) -> Option<(String, u16)> {
    const STANDARD: u16 = 5432;
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => STANDARD,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Postgres> {
        Postgres::from_url(&Secret::new(url), Trust::Public, Duration::from_secs(1))
    }

    #[test]
    fn a_url_gives_host_user_and_database() {
        let server = read("postgres://ada:p%40ss@db.test:5433/shop?sslmode=require&x=y").unwrap();
        assert_eq!(
            (server.host.as_str(), server.port, server.database.as_str()),
            ("db.test", 5433, "shop")
        );
        assert_eq!(server.password.as_ref().map(Secret::expose), Some("p@ss"));
        assert!(server.trust.is_some());
        let plain = read("postgresql://ada@[::1]?sslmode=disable").unwrap();
        assert_eq!(
            (plain.host.as_str(), plain.port, plain.database.as_str()),
            ("::1", 5432, "ada")
        );
        assert!(plain.trust.is_none());
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated_in_the_error() {
        for url in [
            "mysql://u:hunter2@h",
            "postgres://u:hunter2@h:99999/d",
            "hunter2",
            "postgres://:hunter2@/d",
        ] {
            let error = read(url).unwrap_err();
            let text = format!("{:?} {error:?}", error.chain());
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
