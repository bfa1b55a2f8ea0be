//! The app's Redis as it is rented, and the processes that write to it.

use super::SOURCE_PASSWORD;
use crate::model::secret::Secret;
use std::net::Ipv4Addr;

/// Notes each acknowledged write in the ledger. Ignores SIGTERM, so it lives until it is killed.
pub(super) const WRITER: &str = r#"trap '' TERM; i=0; mkdir -p "$SANDBOX_LEDGER_DIR"; url=$(printf %s "$REDIS_URL" | sed -E 'CLIENT');
while :; do i=$((i+1)); key="$DYNO:$$:$i";
[ "$(redis-cli -u "$url" --no-auth-warning SET "$key" "$i" 2>/dev/null)" = OK ] && echo "$key" >> "$SANDBOX_LEDGER_DIR/$$"; sleep PAUSE; done"#;

/// Rewrites what other clients take and redis-cli does not: a user that is none, `?db=2`, IPv6.
pub(super) const CLIENT: &str =
    r"s#//[hx]?:#//default:#; s#:@#@#; s#[?]db=([0-9]+)#/\1#; s#[?].*##; s#\[::1\]#127.0.0.1#";

/// Seconds between two writes of a process.
pub(super) const BUSY: &str = "0.005";

/// How the app's Redis is rented, and which vars its processes read.
#[derive(Clone, Copy)]
pub struct Rented {
    pub attachment: &'static str,
    /// The add-on gives `TLS_URL` too, which names the source at another port.
    pub second_port: bool,
    /// The app has REDIS_URL as a plain copy of the add-on's URL, with this behind it.
    pub copy: Option<&'static str>,
    /// `app.config_var` of infra.yml.
    pub config_var: &'static str,
    pub web_reads: &'static str,
    pub worker_reads: &'static str,
    /// Further arguments of the source's server.
    pub server: &'static [&'static str],
    /// The source's password; empty for none.
    pub password: &'static str,
    /// The parts of the add-on's URL before and behind the port.
    pub before_port: &'static str,
    pub behind_port: &'static str,
    /// The database that the processes use.
    pub database: u32,
    /// The source lets nobody replicate, so its keys are copied.
    pub copied: bool,
    /// The source allows MONITOR, which tells the copy which keys are written.
    pub monitored: bool,
}

/// One var, a plain URL with user and password, and room for as many connections as wanted.
pub const PLAIN: Rented = Rented {
    attachment: "REDIS",
    second_port: false,
    copy: None,
    config_var: "REDIS_URL",
    web_reads: "REDIS_URL",
    worker_reads: "REDIS_URL",
    server: &[],
    password: SOURCE_PASSWORD,
    before_port: "default:hosted-secret@127.0.0.1",
    behind_port: "",
    database: 0,
    copied: false,
    monitored: true,
};

impl Rented {
    /// Returns the add-on's URL.
    pub(super) fn url(&self, port: u16) -> Secret {
        Secret::new(format!("redis://{}:{port}{}", self.before_port, self.behind_port))
    }
}

/// Returns a script that writes to the URL in this var.
pub(super) fn reading(writer: &str, var: &str) -> String {
    writer.replace("REDIS_URL", var)
}

/// Returns the usual script, with so many seconds between two writes.
pub(super) fn writer(pace: &str) -> String {
    WRITER.replace("PAUSE", pace).replace("CLIENT", CLIENT)
}

/// Relays a second port of loopback to the first.
pub(super) async fn relay(to: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut to) = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await {
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    port
}
