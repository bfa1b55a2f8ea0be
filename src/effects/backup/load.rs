//! Loads a data folder in a real engine on this computer, over a socket that nobody else can open.

use crate::effects::redis::Server;
use crate::effects::wait::Pauses;
use crate::model::error::{Doing, Error, Kind, Result};
use crate::model::secret::Secret;
use infra_agent::manifest::Manifest;
use redis::IntoConnectionInfo;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use wire::info::Fields;

/// The content that an engine found in the folder.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Loaded {
    /// Number of keys over all databases that have not expired.
    pub keys: u64,
    /// Number of keys by database.
    pub keyspace: BTreeMap<u32, u64>,
    /// Number of further keys that had expired when they were counted.
    pub expired: u64,
    /// The program and its version.
    pub engine: String,
}

/// The reason why no engine has loaded a folder.
#[derive(Debug)]
pub enum Unloaded {
    /// The data could not be judged: no engine runs here, or it is older than the one that wrote it.
    Unjudged(Error),
    Failed(Error),
}

impl From<Unloaded> for Error {
    fn from(unloaded: Unloaded) -> Error {
        match unloaded {
            Unloaded::Unjudged(error) | Unloaded::Failed(error) => error,
        }
    }
}

impl From<Error> for Unloaded {
    fn from(error: Error) -> Unloaded {
        Unloaded::Failed(error)
    }
}

/// An engine with a loaded folder; dropping it stops the engine.
pub struct Engine {
    process: Child,
    socket: tempfile::TempDir,
    connection: redis::aio::MultiplexedConnection,
    version: String,
    /// Its port and password, if it listens on this computer's own address.
    reach: Option<(u16, Secret)>,
}

/// Returns the server program: `INFRA_REDIS_SERVER`, redis-server or valkey-server.
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

/// Loads a folder, counts its keys and stops the engine.
pub async fn load(folder: &Path, patience: Duration) -> Result<Loaded> {
    let mut engine = Engine::start(folder, patience).await?;
    let loaded = engine.look().await;
    engine.stop().await;
    loaded
}

impl Engine {
    /// Starts an engine on a folder with `appendonlydir` and waits until it is loaded. The engine
    /// changes no data on the disk, and no key expires.
    pub async fn start(folder: &Path, patience: Duration) -> Result<Engine, Unloaded> {
        Engine::begin(folder, patience, None).await
    }

    /// As `start`, and listens on this computer's own address, behind a password.
    pub async fn start_reachable(folder: &Path, patience: Duration) -> Result<Engine, Unloaded> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).doing(|| "find a free port".into())?;
        let port = listener.local_addr().doing(|| "find a free port".into())?.port();
        drop(listener);
        Engine::begin(folder, patience, Some((port, Secret::generate()))).await
    }

    async fn begin(folder: &Path, patience: Duration, reach: Option<(u16, Secret)>) -> Result<Engine, Unloaded> {
        let program = server().ok_or_else(|| {
            let message = format!("{}: there is no redis-server or valkey-server here", doing(folder));
            Unloaded::Unjudged(
                Error::failed(message)
                    .hint("install one of the version that the hosts have, or name it by INFRA_REDIS_SERVER"),
            )
        })?;
        Engine::run(program, folder, patience, reach).await
    }

    async fn run(
        program: String,
        folder: &Path,
        patience: Duration,
        reach: Option<(u16, Secret)>,
    ) -> Result<Engine, Unloaded> {
        let socket = tempfile::tempdir().map_err(|error| Error::failed(doing(folder)).because(error))?;
        let path = socket.path().join("s");
        let words = Words {
            log: socket.path().join("log"),
            complaints: socket.path().join("complaints"),
        };
        let mut process = spawn(&program, folder, &path, &words)?;
        if let Some(mut stdin) = process.stdin.take() {
            let settings = match &reach {
                Some((port, password)) => format!("port {port}\nrequirepass {}\n", password.expose()),
                None => "port 0\n".into(),
            };
            // A program that has ended already does not read them, which is found below.
            let _ = stdin.write_all(settings.as_bytes()).await;
        }
        let mut pauses = Pauses::even(patience, Duration::from_millis(20));
        loop {
            if let Ok(Some(status)) = process.try_wait() {
                return Err(ended(&program, folder, status, &words));
            }
            if let Some((connection, version)) = loaded(&path, reach.as_ref().map(|(_, password)| password)).await {
                return Ok(Engine {
                    process,
                    socket,
                    connection,
                    version: format!("{program} {version}"),
                    reach,
                });
            }
            if !pauses.again().await {
                let message = format!("{}: not done after {} s", doing(folder), patience.as_secs());
                return Err(Error::failed(message).into());
            }
        }
    }

    /// Returns the address of the engine, if it listens.
    pub fn server(&self) -> Result<Server> {
        let (port, password) = self
            .reach
            .as_ref()
            .ok_or_else(|| Error::failed("reach an engine that listens to nobody"))?;
        Ok(Server {
            label: "restored".into(),
            host: "127.0.0.1".into(),
            port: *port,
            user: None,
            password: Some(password.clone()),
            trust: None,
        })
    }

    pub fn connection(&self) -> redis::aio::MultiplexedConnection {
        self.connection.clone()
    }

    /// Returns the path of its socket, which exists as long as the engine.
    pub fn socket(&self) -> std::path::PathBuf {
        self.socket.path().join("s")
    }

    pub async fn look(&mut self) -> Result<Loaded> {
        let look = count(&mut self.connection).await;
        let (keyspace, expired) =
            look.map_err(|error| Error::failed("ask the engine what it loaded").because(error))?;
        Ok(Loaded {
            keys: keyspace.values().sum(),
            keyspace,
            expired,
            engine: self.version.clone(),
        })
    }

    /// Makes the engine replace the loaded data with all of it as commands. Returns their file.
    pub async fn write_commands(&mut self, folder: &Path, patience: Duration) -> Result<PathBuf> {
        let doing = || format!("have an engine write {} as commands", folder.display());
        let failed = |error: redis::RedisError| Error::failed(doing()).because(error);
        redis::cmd("BGREWRITEAOF")
            .exec_async(&mut self.connection)
            .await
            .map_err(failed)?;
        let mut pauses = Pauses::even(patience, Duration::from_millis(50));
        loop {
            let text: String = redis::cmd("INFO")
                .arg("persistence")
                .query_async(&mut self.connection)
                .await
                .map_err(failed)?;
            let info = Fields::read(&text);
            let is = |name: &str, value: &str| info.said(name) == Some(value);
            if is("aof_rewrite_in_progress", "0") && is("aof_rewrite_scheduled", "0") {
                if is("aof_last_bgrewrite_status", "ok") {
                    break;
                }
                return Err(Error::failed(doing())
                    .because("it failed")
                    .hint("see that the disk has room for the data once more"));
            }
            if !pauses.again().await {
                return Err(Error::failed(format!(
                    "{}: not done after {} s",
                    doing(),
                    patience.as_secs()
                )));
            }
        }
        let base = Manifest::base_of(folder).doing(doing)?;
        base.ok_or_else(|| Error::failed(doing()).because("its manifest names no base"))
    }

    pub async fn stop(mut self) {
        let _ = self.process.kill().await;
    }
}

fn doing(folder: &Path) -> String {
    format!("have an engine load {}", folder.display())
}

/// The files with what an engine says.
struct Words {
    log: PathBuf,
    /// Its words before it can open its log, such as that a library is missing.
    complaints: PathBuf,
}

fn spawn(program: &str, folder: &Path, socket: &Path, words: &Words) -> Result<Child, Unloaded> {
    let stderr = std::fs::File::create(&words.complaints).doing(|| doing(folder))?;
    let unstarted = |error: std::io::Error| {
        let error = Error::failed(format!("{}: start {program}", doing(folder))).because(error);
        Unloaded::Unjudged(error.hint("see that it runs here, or name another by INFRA_REDIS_SERVER"))
    };
    Command::new(program)
        .args(["--bind", "127.0.0.1", "--unixsocket"])
        .arg(socket)
        .args(["--unixsocketperm", "700"])
        .args(["--appendonly", "yes", "--appendfilename", "appendonly.aof"])
        .args(["--aof-load-truncated", "no", "--save", ""])
        .args(["--auto-aof-rewrite-percentage", "0", "--databases", "1024"])
        .args(["--aof-use-rdb-preamble", "no"])
        // As a replica of nothing it keeps expired keys, so that all keys can be counted.
        .args(["--replicaof", "127.0.0.1", "1", "--dir"])
        .arg(folder)
        .arg("--logfile")
        .arg(&words.log)
        // The password goes through standard input, since everybody can read arguments.
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .map_err(unstarted)
}

/// Words of an engine that is older than the one that wrote the data, or of another kind.
const OF_ANOTHER_ENGINE: [&str; 3] = [
    "Can't handle RDB format version",
    "Unknown command",
    "no matching module",
];

/// Returns true if the base begins as those of Valkey 9 do. To other engines it is no base at all.
fn is_of_valkey(folder: &Path) -> bool {
    let base = Manifest::base_of(folder).ok().flatten();
    let mut file = base.and_then(|base| std::fs::File::open(base).ok());
    let mut begin = [0; 6];
    file.as_mut().is_some_and(|file| file.read_exact(&mut begin).is_ok()) && &begin == b"VALKEY"
}

/// Says why an engine ended before it had loaded a folder.
fn ended(program: &str, folder: &Path, status: std::process::ExitStatus, words: &Words) -> Unloaded {
    let said = std::fs::read_to_string(&words.log).unwrap_or_default();
    let error = || Error::failed(format!("{}: {program} ended with {status}", doing(folder)));
    // Only an engine that began to load and gave up by itself has judged the data.
    if !said.contains("Server initialized") || status.code().is_none() {
        let complaints = std::fs::read_to_string(&words.complaints).unwrap_or_default();
        let last = said.lines().chain(complaints.lines()).last().unwrap_or_default();
        return Unloaded::Unjudged(error().because(last).hint(format!(
            "nothing is known of the data: see that `{program}` runs here and has memory enough, or name another by INFRA_REDIS_SERVER"
        )));
    }
    let warnings = said
        .lines()
        .filter(|line| line.contains('#') && !line.contains("WARNING"));
    let warnings: Vec<&str> = warnings.collect();
    let last = warnings[warnings.len().saturating_sub(3)..].join("; ");
    let is_another = OF_ANOTHER_ENGINE.iter().any(|words| said.contains(words));
    if is_another || (is_of_valkey(folder) && said.contains("Bad file format")) {
        let message = format!(
            "{}: {program} is older than the engine that wrote it, or of another kind",
            doing(folder)
        );
        return Unloaded::Unjudged(
            Error::failed(message)
                .because(last)
                .hint("install the version that the hosts have, or name it by INFRA_REDIS_SERVER"),
        );
    }
    Unloaded::Failed(
        error()
            .with_kind(Kind::Unproven)
            .because(last)
            .hint("the data is damaged: `infra backup verify` names what is, and another base may serve"),
    )
}

/// Counts live keys by database, and expired ones, which a replica counts but does not show.
async fn count(connection: &mut redis::aio::MultiplexedConnection) -> redis::RedisResult<(BTreeMap<u32, u64>, u64)> {
    let text: String = redis::cmd("INFO").arg("keyspace").query_async(connection).await?;
    let (mut keyspace, mut expired) = (BTreeMap::new(), 0);
    for (database, counts) in Fields::read(&text).databases() {
        let all = counts.number("keys").unwrap_or(0_u64);
        let mut alive = all;
        if counts.number("expires").unwrap_or(0_u64) > 0 {
            redis::cmd("SELECT").arg(database).exec_async(connection).await?;
            alive = 0;
            let mut cursor = 0_u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                let (next, names): (u64, Vec<redis::Value>) =
                    scan.arg(cursor).arg("COUNT").arg(1000).query_async(connection).await?;
                alive += names.len() as u64;
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        keyspace.insert(database, alive);
        expired += all.saturating_sub(alive);
    }
    Ok((keyspace, expired))
}

/// Returns a connection to an engine that has loaded everything, and its version.
async fn loaded(socket: &Path, password: Option<&Secret>) -> Option<(redis::aio::MultiplexedConnection, String)> {
    let mut login = redis::RedisConnectionInfo::default();
    if let Some(password) = password {
        login = login.set_password(password.expose());
    }
    let info = redis::ConnectionAddr::Unix(socket.into()).into_connection_info().ok()?;
    let client = redis::Client::open(info.set_redis_settings(login)).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let text: String = redis::cmd("INFO")
        .arg("everything")
        .query_async(&mut connection)
        .await
        .ok()?;
    let info = Fields::read(&text);
    if info.said("loading")? != "0" || info.flag("async_loading") {
        return None;
    }
    let version = info.said("valkey_version").or_else(|| info.said("redis_version"))?;
    Some((connection, version.to_owned()))
}

#[cfg(test)]
mod tests;
