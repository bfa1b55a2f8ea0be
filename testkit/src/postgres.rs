//! A real PostgreSQL on loopback, of Debian's package, that ends with the test.

use sandbox::addon::Tls;
use sandbox::postgres::{Cluster, Options};
use std::net::Ipv4Addr;
use tempfile::TempDir;

/// The user that owns the database of the same name. It is no superuser.
pub const USER: &str = "app";

/// A server with TLS (a leaf below a self-signed root), SCRAM and `wal_level = logical`.
pub struct Postgres {
    cluster: Cluster,
    _folder: TempDir,
}

impl Postgres {
    /// Raises a server whose user may make replication slots. Takes one to two seconds, and blocks.
    pub fn start() -> Self {
        Self::with(true, &[])
    }

    /// Raises a server whose user may not replicate, as with many hosted ones.
    pub fn without_replication() -> Self {
        Self::with(false, &[])
    }

    /// Raises a server with further lines of `postgresql.conf`.
    pub fn with(replication: bool, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The server's user must get through to its own folder.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(folder.path(), permissions).unwrap();
        let options = Options {
            folder: folder.path().join("postgres"),
            listen: vec![Ipv4Addr::LOCALHOST.into()],
            port: 0,
            tls: Tls::On,
            authority: None,
            user: USER.into(),
            password: "Secret1Of2The3App4".into(),
            replication,
            settings: settings.iter().map(|&line| line.to_owned()).collect(),
        };
        Postgres {
            cluster: Cluster::start(options).unwrap(),
            _folder: folder,
        }
    }

    /// Returns `postgres://app:password@127.0.0.1:port/app?sslmode=require`.
    pub fn url(&self) -> String {
        self.cluster.url()
    }

    /// Returns the root (PEM) that the server's certificate is below.
    pub fn authority(&self) -> &str {
        self.cluster.authority().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// Runs statements as the user; returns rows as lines, values parted by `|`. Blocks.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        self.cluster.sql(statements).unwrap()
    }

    /// Runs statements as the superuser, as the provider does. Blocks.
    #[track_caller]
    pub fn superuser_sql(&self, statements: &str) -> String {
        self.cluster.superuser_sql(statements).unwrap()
    }

    /// Ends the server in order; `resume` starts it again on its data and port.
    pub fn stop(&mut self) {
        self.cluster.stop().unwrap();
    }

    /// Ends the server as a crash does; committed data is recovered by `resume`.
    pub fn crash(&mut self) {
        self.cluster.crash().unwrap();
    }

    pub fn resume(&mut self) {
        self.cluster.resume().unwrap();
    }
}
