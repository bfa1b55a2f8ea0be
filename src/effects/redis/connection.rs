//! A connection that sends commands. Its errors name the server, the command and what to try.

use super::bounded::Bounded;
use super::stream::{CONNECT_TIMEOUT, Stream};
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{
    Arg, AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError, Value,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use wire::info::Info;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection sends a PING.
const ALIVE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 20_000 });

/// The sections of INFO that are asked for one by one if a server refuses all at once.
const SECTIONS: [&str; 8] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "keyspace",
    "commandstats",
];

/// Clones share one connection, which closes when the last clone is dropped.
#[derive(Clone)]
pub struct Connection {
    inner: MultiplexedConnection,
    place: Arc<str>,
    own_database: i64,
    /// The database for requests of this clone.
    database: i64,
    /// Requests by command; `None` if nobody wants to know.
    sent: Option<Arc<Mutex<BTreeMap<String, u64>>>>,
    _driver: Arc<Driver>,
}

/// Moves bytes while a clone exists, so that no blocked command keeps it open longer.
struct Driver {
    moving: JoinHandle<()>,
    keeping: JoinHandle<()>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.moving.abort();
        self.keeping.abort();
    }
}

/// Sends a PING now and then. Hosts close connections that are idle for some minutes (often
/// `timeout 300`), and connections for later steps may wait longer than that during a comparison.
async fn keep_alive(mut connection: MultiplexedConnection) {
    loop {
        tokio::time::sleep(ALIVE).await;
        let said = ::redis::cmd("PING").exec_async(&mut connection).await;
        if said.is_err_and(|cause| cause.is_io_error() && !cause.is_timeout()) {
            return;
        }
    }
}

/// Returns the name of all connections of this process in CLIENT LIST; nobody else can guess it.
pub fn own_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| format!("infra-{}", &Secret::generate().expose()[..16]))
}

impl Connection {
    pub(super) async fn establish(place: String, settings: &RedisConnectionInfo, stream: Stream) -> Result<Connection> {
        let stream = Bounded::new(stream);
        let greeting = MultiplexedConnection::new_with_config(settings, stream, AsyncConnectionConfig::new());
        let greeting = tokio::time::timeout(CONNECT_TIMEOUT, greeting);
        let (mut inner, driver) = match greeting.await {
            Ok(Ok(established)) => established,
            Ok(Err(cause)) => return Err(explain(format!("log in to {place}"), cause)),
            Err(_) => {
                let message = format!("log in to {place}: no answer within {} s", CONNECT_TIMEOUT.as_secs());
                return Err(Error::failed(message).hint("see whether that port is Redis, and whether it wants TLS"));
            }
        };
        inner.set_response_timeout(ANSWER_TIMEOUT);
        let driver = Arc::new(Driver {
            moving: tokio::spawn(driver),
            keeping: tokio::spawn(keep_alive(inner.clone())),
        });
        // If a host forbids names, our connections only count as strangers.
        let naming = ::redis::cmd("CLIENT")
            .arg("SETNAME")
            .arg(own_name())
            .exec_async(&mut inner)
            .await;
        if let Err(cause) = naming
            && cause.is_io_error()
        {
            return Err(explain(format!("log in to {place}"), cause));
        }
        Ok(Connection {
            inner,
            place: place.into(),
            own_database: settings.db(),
            database: settings.db(),
            sent: None,
            _driver: driver,
        })
    }

    /// Returns the label and address of the server, for errors.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Limits the time of a command, or of a whole pipeline.
    pub fn answer_within(&mut self, timeout: Duration) {
        self.inner.set_response_timeout(timeout);
    }

    /// Returns a clone for another database. It shares the connection: each of its requests selects
    /// that database and, when done, the connection's own one again.
    pub fn in_database(&self, database: u32) -> Connection {
        Connection {
            database: database.into(),
            ..self.clone()
        }
    }

    /// Begins to count the commands of this clone, and of those that are made from it.
    pub fn count_commands(&mut self) {
        self.sent = Some(Arc::default());
    }

    /// Returns how often each command was sent since the count began, as INFO commandstats of
    /// Redis 7 names them: `get`, `config|get`.
    pub fn sent(&self) -> BTreeMap<String, u64> {
        let sent = self.sent.as_ref();
        sent.map(|sent| sent.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }

    fn count<'a>(&self, commands: impl Iterator<Item = &'a Cmd>) {
        if let Some(sent) = &self.sent {
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            for command in commands {
                *sent.entry(counted_name(command)).or_default() += 1;
            }
        }
    }

    /// Sends one command and converts its reply.
    pub async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T> {
        let explained = match self.ask(command).await? {
            Value::ServerError(error) => Err(error.into()),
            reply => ::redis::from_redis_value(reply).map_err(RedisError::from),
        };
        explained.map_err(|cause| self.explain(&name(command), cause))
    }

    /// Sends one command. Returns an error of the server as a value, which the caller judges.
    pub async fn ask(&mut self, command: &Cmd) -> Result<Value> {
        if self.is_elsewhere() {
            let mut alone = Pipeline::with_capacity(1);
            alone.add_command(command.clone());
            let answers = self.ask_elsewhere(&alone).await?;
            return Ok(answers.into_iter().next().unwrap_or(Value::Nil));
        }
        self.count(std::iter::once(command));
        match self.inner.send_packed_command(command).await {
            Ok(value) => Ok(value),
            Err(cause) => Err(self.explain(&name(command), cause)),
        }
    }

    /// Sends several commands at once. Errors of the server are values among the replies.
    pub async fn ask_all(&mut self, commands: &Pipeline) -> Result<Vec<Value>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        if self.is_elsewhere() {
            return self.ask_elsewhere(commands).await;
        }
        self.count(commands.cmd_iter());
        match self.inner.req_packed_commands(commands, 0, commands.len()).await {
            Ok(values) => Ok(values),
            Err(cause) => {
                let first = commands.cmd_iter().next().map(name).unwrap_or_default();
                Err(self.explain(&format!("{} commands, {first} first,", commands.len()), cause))
            }
        }
    }

    fn is_elsewhere(&self) -> bool {
        self.database != self.own_database
    }

    /// Sends commands to a database that the connection has not selected. The client sends a
    /// pipeline as a whole, so that no command of another clone comes between the two SELECT commands.
    async fn ask_elsewhere(&mut self, commands: &Pipeline) -> Result<Vec<Value>> {
        let mut all = Pipeline::with_capacity(commands.len() + 2);
        all.cmd("SELECT").arg(self.database);
        for command in commands.cmd_iter() {
            all.add_command(command.clone());
        }
        all.cmd("SELECT").arg(self.own_database);
        self.count(all.cmd_iter());
        let mut answers = match self.inner.req_packed_commands(&all, 0, all.len()).await {
            Ok(answers) => answers.into_iter(),
            Err(cause) => {
                let first = commands.cmd_iter().next().map(name).unwrap_or_default();
                return Err(self.explain(&format!("{} commands, {first} first,", commands.len()), cause));
            }
        };
        if let Some(Value::ServerError(refused)) = answers.next() {
            let refused = self.explain("SELECT", refused.into());
            return Err(
                Error::failed(format!("look into database {} of {}", self.database, self.place))
                    .because(refused)
                    .hint(
                        "both servers must allow as many databases as the source uses: see `databases` in redis.conf",
                    ),
            );
        }
        let mut answers: Vec<Value> = answers.collect();
        answers.pop();
        Ok(answers)
    }

    /// Returns true if the connection still works.
    pub async fn answers(&mut self) -> bool {
        self.ask(&::redis::cmd("PING")).await.is_ok()
    }

    /// Asks the server for INFO.
    pub async fn info(&mut self) -> Result<Info> {
        let reply = self.ask(&::redis::cmd("INFO")).await?;
        if !matches!(reply, Value::ServerError(_)) {
            return self.info_of(reply);
        }
        match self.parts_of_info().await? {
            Some(text) => Info::parse_parts(&text)
                .map_err(|missing| Error::failed(format!("read INFO of {}: {missing}", self.place()))),
            None => self.info_of(reply),
        }
    }

    /// Returns the sections of INFO that the server gives, if it refuses INFO as a whole; `None` if
    /// it gives none.
    pub(super) async fn parts_of_info(&mut self) -> Result<Option<String>> {
        let mut sections = ::redis::pipe();
        for section in SECTIONS {
            sections.cmd("INFO").arg(section);
        }
        let answers = self.ask_all(&sections).await?.into_iter();
        let texts: Vec<String> = answers.filter_map(|answer| wire::reply::text(&answer)).collect();
        Ok((!texts.is_empty()).then(|| texts.join("\r\n")))
    }

    /// Reads a reply to INFO that came over this connection.
    pub(super) fn info_of(&self, reply: Value) -> Result<Info> {
        let text: String = match reply {
            Value::ServerError(error) => return Err(self.explain("INFO", error.into())),
            reply => ::redis::from_redis_value(reply).map_err(|cause| self.explain("INFO", cause.into()))?,
        };
        Info::parse(&text).map_err(|missing| {
            Error::failed(format!("read INFO of {}: {missing}", self.place()))
                .hint("the provider may hide a part of INFO: without it nothing can be proven about this server")
        })
    }

    pub(super) fn explain(&self, command: &str, cause: RedisError) -> Error {
        explain(format!("run {command} on {}", self.place), cause)
    }
}

/// Returns the command without its arguments, which may be keys, values or passwords.
fn name(command: &Cmd) -> String {
    let (first, second) = first_words(command);
    match second {
        Some(second) => format!("{first} {second}"),
        None => first,
    }
}

fn counted_name(command: &Cmd) -> String {
    let (first, second) = first_words(command);
    match second {
        Some(second) => format!("{first}|{second}").to_lowercase(),
        None => first.to_lowercase(),
    }
}

/// Returns the command, and its subcommand if it has any, in upper case.
fn first_words(command: &Cmd) -> (String, Option<String>) {
    let mut words = command.args_iter().filter_map(|arg| match arg {
        Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).to_uppercase()),
        _ => None,
    });
    let first = words.next().unwrap_or_default();
    let has_subcommands = matches!(
        first.as_str(),
        "CLIENT" | "CONFIG" | "ACL" | "COMMAND" | "XINFO" | "MEMORY" | "OBJECT"
    );
    let second = words.next().filter(|_| has_subcommands);
    (first, second)
}

const BROKEN: &str = "the connection broke: see whether the server is up, and try again";

/// Returns true if the connection ended, as it does if an answer is longer than we take.
pub fn is_broken(error: &Error) -> bool {
    error.next_step() == Some(BROKEN)
}

const UNANSWERED: &str = "the server did not answer in time: see whether it is overloaded, paused or cut off";

/// Returns true if a command was sent and no answer came in time.
pub fn is_unanswered(error: &Error) -> bool {
    error.next_step() == Some(UNANSWERED)
}

const LOGIN_REFUSED: &str = "user name and password do not fit, or this user may not come from here: see whether the password was changed since";

/// Returns true if the server was reached and refused the login.
pub fn is_refused_login(error: &Error) -> bool {
    error.next_step() == Some(LOGIN_REFUSED)
}

fn explain(doing: String, cause: RedisError) -> Error {
    let hint = match (cause.code(), cause.kind()) {
        (Some("WRONGPASS"), _) | (_, ErrorKind::AuthenticationFailed) => LOGIN_REFUSED,
        (Some("NOAUTH"), _) => "the server wants a password and none is known for it",
        (Some("NOPERM"), _) => {
            "the server's access rules forbid this to our user: ask the provider, or see what `infra check` says can do without"
        }
        (Some("LOADING"), _) => "the server is reading its data set into memory: try again when it is done",
        (Some("READONLY"), _) => "the server is a replica: its role is not what was expected",
        _ if cause.is_timeout() => UNANSWERED,
        _ if cause.is_io_error() => BROKEN,
        _ => "",
    };
    let error = Error::failed(doing).because(cause);
    if hint.is_empty() { error } else { error.hint(hint) }
}

#[cfg(test)]
mod tests;
