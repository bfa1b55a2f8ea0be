//! The engine on this host, over its socket, as a user that may ask how it is and begin a base, and no more.

use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::info::Fields;

/// The engine answers from memory, so a longer wait means that it hangs.
const ANSWER: Duration = Duration::from_secs(5);

pub struct Engine {
    client: redis::Client,
    connection: Option<redis::Connection>,
}

/// Describes itself by INFO.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub run_id: String,
    /// `master` or `slave`.
    pub role: String,
    pub version: String,
    pub replication_id: String,
    pub offset: u64,
    pub used_memory: u64,
    pub loading: bool,
    /// A full copy from the server that it follows is coming in.
    pub copying: bool,
    pub log_enabled: bool,
    /// A base is being written, by whomever it was asked for.
    pub forked: bool,
    /// A rewrite of the log runs.
    pub rewriting: bool,
    /// A rewrite of the log waits for its turn.
    pub scheduled: bool,
    /// A child writes an RDB file.
    pub saving: bool,
    /// The last write to the log succeeded. After a failure the engine holds writes back in memory.
    pub log_written: bool,
    pub last_rewrite_ok: bool,
    pub keyspace: BTreeMap<String, u64>,
}

impl Engine {
    pub fn new(settings: &Settings) -> Result<Self> {
        let password = std::fs::read_to_string(&settings.password_file)
            .with_context(|| format!("read {}", settings.password_file.display()))?;
        let login = RedisConnectionInfo::default()
            .set_username(&settings.user)
            .set_password(password.trim());
        let info: ConnectionInfo = ConnectionAddr::Unix(settings.socket.clone())
            .into_connection_info()
            .context("name the engine's socket")?
            .set_redis_settings(login);
        let client = redis::Client::open(info).context("name the engine's socket")?;
        Ok(Engine {
            client,
            connection: None,
        })
    }

    fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> Result<T> {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let connection = self
                    .client
                    .get_connection_with_timeout(ANSWER)
                    .context("connect to the engine")?;
                connection.set_read_timeout(Some(ANSWER)).context("set a deadline")?;
                connection.set_write_timeout(Some(ANSWER)).context("set a deadline")?;
                self.connection.insert(connection)
            }
        };
        let answer = command.query(connection);
        if answer.is_err() {
            // The connection may hold half an answer.
            self.connection = None;
        }
        answer.with_context(|| format!("ask the engine for {}", words.join(" ")))
    }

    pub fn look(&mut self) -> Result<Look> {
        let known = self.connection.is_some();
        let info = ["INFO", "server", "memory", "persistence", "replication", "keyspace"];
        let text: String = match self.ask(&info) {
            // The engine may have restarted since it was last asked.
            Err(_) if known => self.ask(&info)?,
            answer => answer?,
        };
        let info = Fields::read(&text);
        let get = |name: &str| info.said(name).unwrap_or_default();
        let number = |name: &str| info.number(name).unwrap_or(0);
        let databases = info.databases().into_iter();
        let keyspace = databases
            .filter_map(|(database, counts)| Some((database.to_string(), counts.number("keys").ok()?)))
            .collect();
        let look = Look {
            run_id: get("run_id").into(),
            role: get("role").into(),
            version: match get("valkey_version") {
                "" => get("redis_version").into(),
                version => version.into(),
            },
            replication_id: get("master_replid").into(),
            offset: number("master_repl_offset"),
            used_memory: number("used_memory"),
            loading: get("loading") != "0",
            copying: get("master_sync_in_progress") == "1",
            log_enabled: get("aof_enabled") == "1",
            forked: get("aof_rewrite_in_progress") != "0"
                || get("aof_rewrite_scheduled") != "0"
                || get("rdb_bgsave_in_progress") != "0",
            rewriting: get("aof_rewrite_in_progress") != "0",
            scheduled: get("aof_rewrite_scheduled") != "0",
            saving: get("rdb_bgsave_in_progress") != "0",
            log_written: get("aof_last_write_status") == "ok",
            last_rewrite_ok: get("aof_last_bgrewrite_status") == "ok",
            keyspace,
        };
        if look.run_id.is_empty() || look.role.is_empty() {
            bail!("the engine's answer to INFO is not understood");
        }
        Ok(look)
    }

    /// Begins a base.
    pub fn rewrite(&mut self) -> Result<()> {
        let answer: String = self.ask(&["BGREWRITEAOF"])?;
        if !answer.starts_with("Background append only file rewriting") {
            bail!("the engine answers BGREWRITEAOF with: {answer}");
        }
        Ok(())
    }
}
