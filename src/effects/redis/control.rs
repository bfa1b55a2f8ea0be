//! Pauses writes, lists and disconnects clients, and finds which commands a server forbids.

use super::connection::Connection;
use crate::model::clock::milliseconds;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use ::redis::{Cmd, Value, cmd};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;
use wire::info::Info;
use wire::reply::{pairs, words};

/// Makes all writes wait, also EVAL and PUBLISH (`CLIENT PAUSE … WRITE`, Redis 6.2). Keys do not
/// expire meanwhile. The pause ends by itself; a shorter one does not shorten a longer one.
pub async fn pause_writes(connection: &mut Connection, duration: Duration) -> Result<()> {
    connection
        .query(cmd("CLIENT").arg("PAUSE").arg(milliseconds(duration)).arg("WRITE"))
        .await
}

/// Pauses writes, and reads INFO right after it in the same round trip.
pub async fn pause_writes_and_read(connection: &mut Connection, duration: Duration) -> Result<Info> {
    let mut commands = ::redis::pipe();
    commands
        .cmd("CLIENT")
        .arg("PAUSE")
        .arg(milliseconds(duration))
        .arg("WRITE")
        .cmd("INFO");
    let mut answers = connection.ask_all(&commands).await?.into_iter();
    if let Some(Value::ServerError(error)) = answers.next() {
        return Err(connection.explain("CLIENT PAUSE", error.into()));
    }
    match answers.next().unwrap_or(Value::Nil) {
        // A host that gives only parts of it is asked for those.
        Value::ServerError(_) => connection.info().await,
        reply => connection.info_of(reply),
    }
}

/// Ends a pause at once. The waiting commands are served.
pub async fn unpause(connection: &mut Connection) -> Result<()> {
    connection.query(cmd("CLIENT").arg("UNPAUSE")).await
}

/// Returns the user that this connection is logged in as.
pub async fn whoami(connection: &mut Connection) -> Result<String> {
    connection.query(cmd("ACL").arg("WHOAMI")).await
}

/// Returns true if a user may log in; `None` if the server has no such user.
pub async fn user_is_on(connection: &mut Connection, user: &str) -> Result<Option<bool>> {
    let reply = connection.query(cmd("ACL").arg("GETUSER").arg(user)).await?;
    let flags = pairs(reply).and_then(|mut fields| words(fields.remove("flags")?));
    Ok(flags.map(|flags| flags.iter().any(|flag| flag == "on")))
}

pub async fn own_id(connection: &mut Connection) -> Result<u64> {
    connection.query(cmd("CLIENT").arg("ID")).await
}

/// One line of CLIENT LIST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Client {
    pub id: u64,
    /// `address:port` as the server sees it.
    pub addr: String,
    pub name: String,
    /// Empty before Redis 6.
    pub user: String,
    /// The last command, such as `get` or `client|list`.
    pub cmd: String,
    pub flags: String,
    /// The client's library, if it reports one (Redis 7.2 and later).
    pub lib: String,
    pub db: u32,
    pub idle_seconds: u64,
}

impl Client {
    /// Returns an idle client, for tests that compare clients.
    #[cfg(test)]
    pub(crate) fn idle(id: u64, addr: &str, user: &str, name: &str) -> Self {
        Client {
            id,
            addr: addr.into(),
            name: name.into(),
            user: user.into(),
            cmd: "get".into(),
            flags: "N".into(),
            lib: String::new(),
            db: 0,
            idle_seconds: 0,
        }
    }

    /// Returns true for a replica, the server's master or a monitor: they stay connected.
    pub fn is_replication(&self) -> bool {
        self.flags.contains(['S', 'M', 'O'])
    }

    /// Returns true if it waits in a blocking command such as BLPOP, served after a pause.
    pub fn is_blocked(&self) -> bool {
        self.flags.contains('b')
    }
}

/// Returns all connected clients, ourselves included.
pub async fn clients(connection: &mut Connection) -> Result<Vec<Client>> {
    let text: String = connection.query(cmd("CLIENT").arg("LIST")).await?;
    parse_clients(&text).map_err(|wrong| Error::failed(format!("read CLIENT LIST of {}: {wrong}", connection.place())))
}

pub(super) fn parse_clients(text: &str) -> Result<Vec<Client>, String> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(parse_client)
        .collect()
}

fn parse_client(line: &str) -> Result<Client, String> {
    let fields: HashMap<&str, &str> = line.split(' ').filter_map(|pair| pair.split_once('=')).collect();
    let text = |name: &str| fields.get(name).copied().unwrap_or_default();
    let number = |name: &str| text(name).parse::<u64>();
    Ok(Client {
        id: number("id").map_err(|_| format!("a line has no id: {line:?}"))?,
        addr: text("addr").into(),
        name: text("name").into(),
        user: text("user").into(),
        cmd: text("cmd").into(),
        flags: text("flags").into(),
        lib: text("lib-name").into(),
        db: text("db").parse().unwrap_or(0),
        idle_seconds: number("idle").unwrap_or(0),
    })
}

/// Returns a setting, as a secret since some are; `None` if the server does not show it.
pub async fn setting(connection: &mut Connection, name: &str) -> Result<Option<Secret>> {
    let pair = match connection.ask(cmd("CONFIG").arg("GET").arg(name)).await? {
        Value::Array(pair) => pair,
        _ => return Ok(None),
    };
    Ok(match pair.into_iter().nth(1) {
        Some(Value::BulkString(value)) => String::from_utf8(value).ok().map(Secret::new),
        Some(Value::SimpleString(value)) => Some(Secret::new(value)),
        _ => None,
    })
}

/// Disconnects these clients. Returns how many were still connected.
pub async fn kill_clients(connection: &mut Connection, ids: &[u64]) -> Result<usize> {
    let mut commands = ::redis::pipe();
    for id in ids {
        commands.cmd("CLIENT").arg("KILL").arg("ID").arg(*id);
    }
    let mut killed = 0;
    for answer in connection.ask_all(&commands).await? {
        match answer {
            Value::Int(count) => killed += usize::try_from(count).unwrap_or(0),
            Value::ServerError(error) => return Err(connection.explain("CLIENT KILL", error.into())),
            _ => {}
        }
    }
    Ok(killed)
}

/// Returns the commands that a user may not run, by `ACL DRYRUN`, unknown commands included; `None`
/// if the server has no `ACL DRYRUN` (before Redis 7).
pub async fn refused_to(connection: &mut Connection, user: &str, commands: &[&str]) -> Result<Option<Vec<String>>> {
    let mut arities = ::redis::pipe();
    for command in commands {
        arities.cmd("COMMAND").arg("INFO").arg(*command);
    }
    let arities = connection.ask_all(&arities).await?;
    let mut dry_runs = ::redis::pipe();
    for (command, answer) in commands.iter().zip(&arities) {
        let words: Vec<&str> = command.split('|').collect();
        let run = dry_runs.cmd("ACL").arg("DRYRUN").arg(user).arg(&words);
        // The server checks the number of arguments before the access rules.
        for _ in words.len()..arity(answer).unwrap_or(1) {
            run.arg("1");
        }
    }
    let mut refused = Vec::new();
    for (command, answer) in commands.iter().zip(connection.ask_all(&dry_runs).await?) {
        match answer {
            Value::Okay => {}
            Value::ServerError(error) if error.details().is_some_and(|text| text.contains("DRYRUN")) => {
                return Ok(None);
            }
            _ => refused.push((*command).to_string()),
        }
    }
    Ok(Some(refused))
}

/// Returns the least number of words of a command, by COMMAND INFO.
fn arity(answer: &Value) -> Option<usize> {
    let Value::Array(commands) = answer else { return None };
    let Some(Value::Array(command)) = commands.first() else {
        return None;
    };
    match command.get(1) {
        Some(Value::Int(words)) => usize::try_from(words.unsigned_abs()).ok(),
        _ => None,
    }
}

/// Says if a command may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", content = "reason", rename_all = "lowercase")]
pub enum Permission {
    Allowed,
    /// Holds the server's answer.
    Denied(String),
    /// Only running the command would show it.
    Unknown(String),
}

/// Holds which commands the host permits, found without changing anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permissions {
    pub info: Permission,
    /// Replicas of ours can follow: REPLICAOF on our side needs it on this server.
    pub psync: Permission,
    /// CLIENT PAUSE with its WRITE mode.
    pub pause_writes: Permission,
    pub client_list: Permission,
    pub client_kill: Permission,
    pub replicaof: Permission,
    pub config_get: Permission,
}

/// Finds which commands the host permits. Commands that only read are run. Others get an argument
/// that cannot be right: the server checks the access rules and then refuses it. A wrong *number*
/// of arguments would be refused before the rules are checked.
pub async fn permissions(connection: &mut Connection) -> Result<Permissions> {
    Ok(Permissions {
        info: probe(connection, &cmd("INFO")).await?,
        psync: probe_psync(connection).await?,
        pause_writes: probe(connection, cmd("CLIENT").arg("PAUSE").arg("probe").arg("WRITE")).await?,
        client_list: probe(connection, cmd("CLIENT").arg("LIST")).await?,
        // No client has this id. Before Redis 7 the id 0 means every client.
        client_kill: probe(connection, cmd("CLIENT").arg("KILL").arg("ID").arg(i64::MAX)).await?,
        replicaof: probe(connection, cmd("REPLICAOF").arg("probe").arg("probe")).await?,
        config_get: probe(connection, cmd("CONFIG").arg("GET").arg("maxmemory")).await?,
    })
}

/// Finds if the host lets a replica follow, without changing anything.
pub async fn psync(connection: &mut Connection) -> Result<Permission> {
    probe_psync(connection).await
}

async fn probe(connection: &mut Connection, command: &Cmd) -> Result<Permission> {
    Ok(judge(&connection.ask(command).await?))
}

/// Redis 7 refuses an offset that is no number. An older one would start a copy, so the command is
/// only queued there, and the queue is discarded.
async fn probe_psync(connection: &mut Connection) -> Result<Permission> {
    let mut queued = ::redis::pipe();
    queued.cmd("MULTI").cmd("PSYNC").arg("?").arg(-1).cmd("DISCARD");
    let answers = connection.ask_all(&queued).await?;
    if answers.first() != Some(&Value::Okay) {
        return Ok(Permission::Unknown(
            "PSYNC could not be tried, since MULTI is not allowed".into(),
        ));
    }
    match answers.get(1) {
        // Redis 7 refuses PSYNC in a transaction before it checks the access rules.
        Some(Value::ServerError(error))
            if error
                .details()
                .is_some_and(|text| text.contains("inside a transaction")) =>
        {
            probe(connection, cmd("PSYNC").arg("?").arg("probe")).await
        }
        Some(answer) => Ok(judge(answer)),
        None => Ok(Permission::Unknown("no answer".into())),
    }
}

fn judge(answer: &Value) -> Permission {
    let Value::ServerError(error) = answer else {
        return Permission::Allowed;
    };
    let details = error.details().unwrap_or_default();
    let text = details.to_lowercase();
    let refused = [
        "unknown",
        "unsupported",
        "not supported",
        "disabled",
        "not allowed",
        "no permission",
        "denied",
        "restricted",
        "forbidden",
    ];
    // Before 6.2 CLIENT PAUSE answers `syntax error` to its WRITE mode.
    if error.code() == "NOPERM" || text.contains("syntax error") || refused.iter().any(|word| text.contains(word)) {
        return Permission::Denied(format!("{} {details}", error.code()));
    }
    Permission::Allowed
}

#[cfg(test)]
mod tests;
