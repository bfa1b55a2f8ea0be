//! Has a real engine on this computer load a data folder, over a socket that nobody else can open.

use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// What an engine found in the folder.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Loaded {
    /// Over all databases.
    pub keys: u64,
    /// By database.
    pub keyspace: BTreeMap<u32, u64>,
    /// How many had reached the end of their time while it was loaded.
    pub expired: u64,
    /// The program and its version.
    pub engine: String,
}

/// An engine that holds a folder; it is stopped when dropped.
pub struct Engine {
    process: Child,
    socket: tempfile::TempDir,
    connection: redis::aio::MultiplexedConnection,
    version: String,
}

/// The server program at hand: `INFRA_REDIS_SERVER`, redis-server or valkey-server.
pub fn server() -> Option<String> {
    if let Ok(named) = std::env::var("INFRA_REDIS_SERVER") {
        return Some(named);
    }
    let path = std::env::var_os("PATH")?;
    ["redis-server", "valkey-server"]
        .iter()
        .find(|name| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        .map(|name| (*name).to_string())
}

/// Loads and stops again.
pub async fn load(folder: &Path, patience: Duration) -> Result<Loaded> {
    let mut engine = Engine::start(folder, patience).await?;
    let loaded = engine.look().await;
    engine.stop().await;
    loaded
}

impl Engine {
    /// Starts it on a folder that holds `appendonlydir` and waits until all is loaded. What it holds is not changed on the disk.
    pub async fn start(folder: &Path, patience: Duration) -> Result<Engine> {
        let doing = || format!("have an engine load {}", folder.display());
        let program = server().ok_or_else(|| {
            Error::failed(format!("{}: there is no redis-server or valkey-server here", doing()))
                .hint("install one, name it by INFRA_REDIS_SERVER, or leave the proof out with --without-load")
        })?;
        let socket = tempfile::tempdir().map_err(|error| Error::failed(doing()).because(error))?;
        let path = socket.path().join("s");
        let log = socket.path().join("log");
        let mut process = Command::new(&program)
            .args(["--port", "0", "--unixsocket"])
            .arg(&path)
            .args([
                "--unixsocketperm",
                "700",
                "--appendonly",
                "yes",
                "--appendfilename",
                "appendonly.aof",
            ])
            .args([
                "--aof-load-truncated",
                "no",
                "--save",
                "",
                "--auto-aof-rewrite-percentage",
                "0",
                "--databases",
                "1024",
                "--dir",
            ])
            .arg(folder)
            .arg("--logfile")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Error::failed(format!("{}: start {program}", doing())).because(error))?;
        let end = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = process.try_wait() {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().filter(|line| line.contains('#')).take(3).collect();
                if said.contains("Can't handle RDB format version") {
                    return Err(Error::failed(format!(
                        "{}: {program} is older than the engine that wrote it",
                        doing()
                    ))
                    .hint("install the version that the hosts have, or name it by INFRA_REDIS_SERVER"));
                }
                return Err(Error::unproven(format!("{}: {program} ended with {status}", doing()))
                    .because(tail.join("; "))
                    .hint("the data is damaged: `infra backup verify` names what is, and another base may serve"));
            }
            if let Some((connection, version)) = loaded(&path).await {
                return Ok(Engine {
                    process,
                    socket,
                    connection,
                    version: format!("{program} {version}"),
                });
            }
            if Instant::now() > end {
                return Err(Error::failed(format!(
                    "{}: not done after {} s",
                    doing(),
                    patience.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn connection(&self) -> redis::aio::MultiplexedConnection {
        self.connection.clone()
    }

    /// Of the folder that holds its socket, for as long as it lives.
    pub fn socket(&self) -> std::path::PathBuf {
        self.socket.path().join("s")
    }

    pub async fn look(&mut self) -> Result<Loaded> {
        let text: String = redis::cmd("INFO")
            .arg("everything")
            .query_async(&mut self.connection)
            .await
            .map_err(|error| Error::failed("ask the engine what it loaded").because(error))?;
        let mut keyspace = BTreeMap::new();
        let mut expired = 0;
        for (name, value) in text.lines().filter_map(|line| line.trim().split_once(':')) {
            if let Some(database) = name.strip_prefix("db").and_then(|number| number.parse().ok()) {
                let keys = value.strip_prefix("keys=").and_then(|rest| rest.split(',').next());
                keyspace.insert(database, keys.and_then(|keys| keys.parse().ok()).unwrap_or(0));
            } else if name == "rdb_last_load_keys_expired" {
                expired = value.parse().unwrap_or(0);
            }
        }
        Ok(Loaded {
            keys: keyspace.values().sum(),
            keyspace,
            expired,
            engine: self.version.clone(),
        })
    }

    pub async fn stop(mut self) {
        let _ = self.process.kill().await;
    }
}

/// A connection to an engine that has loaded everything, and its version.
async fn loaded(socket: &Path) -> Option<(redis::aio::MultiplexedConnection, String)> {
    let client = redis::Client::open(format!("unix://{}", socket.display())).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let text: String = redis::cmd("INFO")
        .arg("everything")
        .query_async(&mut connection)
        .await
        .ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_string())
    };
    if field("loading")? != "0" || field("async_loading").is_some_and(|loading| loading != "0") {
        return None;
    }
    let version = field("valkey_version").or_else(|| field("redis_version"))?;
    Some((connection, version))
}
