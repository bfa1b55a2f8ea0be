//! A Redis server as an address: host, port, user, and the certificate to expect.

use super::connection::{Connection, is_broken};
use super::stream::{self, CONNECT_TIMEOUT, FULL, Stream, is_closed, is_full};
use super::trust::Trust;
use crate::effects::wait::Pauses;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use ::redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::time::Duration;

/// How long to wait for a server that takes no more connections.
const ROOM: Duration = Duration::from_secs(2);
/// How often a login is tried again that ended without a reason.
const UNEXPLAINED: u32 = 3;

#[derive(Clone, Debug)]
pub struct Server {
    /// The name for people: `source`, `master`, `replica`.
    pub label: String,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    /// The user of its URL; `None` means the default user.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// `None`: plain TCP.
    pub trust: Option<Trust>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.label, self.address())
    }
}

impl Server {
    /// Returns the host as a URL has it: an IPv6 address stands in brackets.
    fn host_of_url(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    /// Returns host and port as a URL has them.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host_of_url(), self.port)
    }

    /// Returns the host and port of a URL and ignores the rest.
    pub fn place_of(url: &Secret) -> Result<(String, u16)> {
        let parsed = url
            .expose()
            .trim()
            .into_connection_info()
            .map_err(|_| Error::usage("read a Redis URL: it is not of the form redis://user:password@host:port"))?;
        match parsed.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Ok((host.clone(), *port)),
            _ => Err(Error::usage("read a Redis URL: it names no host")),
        }
    }

    /// Returns the password of a URL as a client sends it; `None` if there is none.
    pub fn password_of(url: &Secret) -> Option<Secret> {
        let parsed = url.expose().trim().into_connection_info().ok()?;
        let password = parsed.redis_settings().password()?;
        Some(password).filter(|password| !password.is_empty()).map(Secret::new)
    }

    /// Reads a `redis://` URL without trust or a `rediss://` URL with it. Ignores databases.
    pub fn from_url(label: &str, url: &Secret, trust: Option<Trust>) -> Result<Server> {
        // The parser's own error may quote the URL, which holds a password.
        let parsed = url.expose().trim().into_connection_info().map_err(|_| {
            Error::usage(format!("read the URL of {label}: it is not of the form redis://user:password@host:port"))
                .hint("look at the variable that holds it; characters such as @ / : # in a password are written %40 %2F %3A %23")
        })?;
        let (host, port, tls) = match parsed.addr() {
            ConnectionAddr::Tcp(host, port) => (host, *port, false),
            ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
            _ => return Err(Error::usage(format!("read the URL of {label}: it names no host"))),
        };
        match (tls, &trust) {
            (true, None) => Err(Error::usage(format!(
                "trust the certificate of {label}: the URL asks for TLS and no certificate is pinned"
            ))
            .hint("run `infra check --pin` and compare what it writes with what the provider says")),
            (false, Some(_)) => Err(Error::usage(format!(
                "trust the certificate of {label}: one is pinned, but the URL asks for no TLS"
            ))
            .hint("use the rediss:// URL, or remove the pin")),
            _ => Ok(()),
        }?;
        let settings = parsed.redis_settings();
        Ok(Server {
            label: label.into(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            user: settings.username().filter(|user| !user.is_empty()).map(str::to_owned),
            // A server without a password refuses every login, also one with an empty password.
            password: settings
                .password()
                .filter(|password| !password.is_empty())
                .map(Secret::new),
            trust,
        })
    }

    /// Returns the user to log in as; `None` if the password alone is the login. That means the
    /// default user on every server, and servers before Redis 6 take nothing else.
    pub fn login_user(&self) -> Option<&str> {
        self.user.as_deref().filter(|user| *user != "default")
    }

    /// Returns the URL that an app would be given, password included.
    pub fn url(&self) -> Secret {
        let scheme = if self.trust.is_some() { "rediss" } else { "redis" };
        let user = self.user.as_deref().map(escaped).unwrap_or_default();
        let credentials = match &self.password {
            Some(password) => format!("{user}:{}@", escaped(password.expose())),
            None if user.is_empty() => String::new(),
            None => format!("{user}@"),
        };
        let host = self.host_of_url();
        Secret::new(format!("{scheme}://{credentials}{host}:{}", self.port))
    }

    /// Opens the stream within 5 s, TLS handshake included. No Redis command is sent.
    pub async fn dial(&self) -> Result<Stream> {
        stream::open(&self.to_string(), &self.host, self.port, self.trust.as_ref()).await
    }

    /// Logs in and selects a database. Commands fail after 10 s: [`Connection::answer_within`].
    /// Waits a moment for a server that has no room: a connection may be about to close. With TLS such a server
    /// closes without a word.
    pub async fn connect(&self, database: u32) -> Result<Connection> {
        tracing::info!("connect to {self}");
        let mut pauses = Pauses::even(ROOM, Duration::from_millis(50));
        let mut unexplained = 0;
        loop {
            let refused = match self.log_in(database).await {
                Ok(connection) => return Ok(connection),
                Err(refused) => refused,
            };
            let full = says_full(&refused) || is_broken(&refused) && is_full(self.dial().await?).await;
            if is_broken(&refused) && !full {
                // A slot may have become free between the two connections, or ours has taken it for a moment.
                unexplained += 1;
            }
            let is_worth_another = full || is_closed(&refused) || is_broken(&refused) && unexplained <= UNEXPLAINED;
            if !is_worth_another || !pauses.again().await {
                return Err(if full { self.without_room() } else { refused });
            }
        }
    }

    async fn log_in(&self, database: u32) -> Result<Connection> {
        Connection::establish(self.to_string(), &self.settings(database), self.dial().await?).await
    }

    fn without_room(&self) -> Error {
        Error::failed(format!("log in to {self}: it takes no more connections")).hint(
            "its plan allows so many and no more (maxclients): stop a process of the app that is not needed, make the app's pools smaller, or take a larger plan",
        )
    }

    fn settings(&self, database: u32) -> RedisConnectionInfo {
        // Every server speaks RESP2, and each of its replies has only one form.
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_lib_name("infra", env!("CARGO_PKG_VERSION"))
            .set_db(i64::from(database));
        if let Some(user) = self.login_user() {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose());
        }
        settings
    }
}

/// Returns the certificate that a server shows, in DER form, to look at or to pin. Sends no data.
pub async fn shown_certificate(host: &str, port: u16) -> Result<Vec<u8>> {
    Ok(shown_chain(host, port).await?.swap_remove(0).to_vec())
}

/// Returns all certificates that a server shows, in DER form, leaf first; there is at least one. Sends no data.
pub async fn shown_chain(host: &str, port: u16) -> Result<Vec<CertificateDer<'static>>> {
    stream::shown_chain(&format!("{host}:{port}"), host, port).await
}

/// Returns true if somebody takes connections there. Sends no data.
pub async fn takes_connections(host: &str, port: u16) -> bool {
    let connecting = tokio::net::TcpStream::connect((host, port));
    matches!(tokio::time::timeout(CONNECT_TIMEOUT, connecting).await, Ok(Ok(_)))
}

/// Returns true if the server answered the login with the words that it has no room.
fn says_full(refused: &Error) -> bool {
    refused.chain().iter().any(|part| part.contains(FULL))
}

/// Percent-encodes all characters but those that RFC 3986 calls unreserved.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::trust::Digest;
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn only_a_port_at_which_somebody_listens_takes_connections() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(takes_connections("127.0.0.1", port).await);
        drop(listener);
        assert!(!takes_connections("127.0.0.1", port).await);
    }

    fn read(url: &str) -> Result<Server> {
        Server::from_url("source", &Secret::new(url), None)
    }

    proptest! {
        #[test]
        fn credentials_written_into_a_url_are_read_back(user in "[a-z]{1,8}|", password in "\\PC{1,20}", port in 1u16..) {
            let server = Server {
                label: "source".into(),
                host: "redis.test".into(),
                port,
                user: Some(user).filter(|user| !user.is_empty()),
                password: Some(Secret::new(password)),
                trust: None,
            };
            let back = read(server.url().expose()).unwrap();
            prop_assert_eq!((&back.host, back.port), (&server.host, server.port));
            prop_assert_eq!(back.user, server.user);
            prop_assert_eq!(back.password, server.password);
        }
    }

    #[test]
    fn a_hosted_url_with_an_empty_user_means_the_default_user() {
        let server = read("redis://:pa%40ss@host.test:6390/0").unwrap();
        assert_eq!(
            (server.host.as_str(), server.port, server.user),
            ("host.test", 6390, None)
        );
        assert_eq!(server.password.unwrap().expose(), "pa@ss");
    }

    #[test]
    fn an_ipv6_address_keeps_its_brackets_only_in_text() {
        let server = read("redis://[::1]:6390").unwrap();
        assert_eq!(server.host, "::1");
        assert_eq!(server.url().expose(), "redis://[::1]:6390");
        assert_eq!(server.to_string(), "source ([::1]:6390)");
    }

    #[test]
    fn tls_without_a_pin_and_a_pin_without_tls_are_refused() {
        let pin = Some(Trust::Pin(Digest::of(b"")));
        for (url, trust) in [("rediss://:x@h.test:1", None), ("redis://:x@h.test:1", pin)] {
            let error = Server::from_url("source", &Secret::new(url), trust).unwrap_err();
            assert_eq!(error.kind(), crate::model::error::Kind::Usage);
            assert!(error.next_step().is_some());
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated_in_the_error() {
        for url in [
            "http://u:hunter2@h.test",
            "redis://u:hunter2@h.test:99999",
            "hunter2",
            "redis+unix:///hunter2",
        ] {
            let error = read(url).unwrap_err();
            let text = format!("{:?} {error:?}", error.chain());
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
