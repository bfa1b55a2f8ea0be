//! A connection that speaks Redis: commands in, replies or errors that say which server, which command and what to try.

use super::bounded::Bounded;
use super::stream::{CONNECT_TIMEOUT, Stream};
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{
    Arg, AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError, Value,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinHandle;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection says that it is there.
const ALIVE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 20_000 });

/// Clones share one connection; it closes when the last of them is dropped.
#[derive(Clone)]
pub struct Connection {
    inner: MultiplexedConnection,
    place: Arc<str>,
    _driver: Arc<Driver>,
}

/// Moves bytes as long as somebody may ask; a blocked command must not keep the connection open after that.
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

/// Says something now and then: hosts close a connection that is idle for some minutes (`timeout 300` is usual), and a comparison may take longer than that while
/// the connections for what comes after it wait.
async fn keep_alive(mut connection: MultiplexedConnection) {
    loop {
        tokio::time::sleep(ALIVE).await;
        let said = ::redis::cmd("PING").exec_async(&mut connection).await;
        if said.is_err_and(|cause| cause.is_io_error() && !cause.is_timeout()) {
            return;
        }
    }
}

/// The name that all connections of this process have in CLIENT LIST; nobody else can guess it.
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
        // Where a host forbids names, ours are taken for strangers': nothing worse.
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
            _driver: driver,
        })
    }

    /// The label and address of the server, for errors.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How long a command, or a whole pipeline, may take.
    pub fn answer_within(&mut self, timeout: Duration) {
        self.inner.set_response_timeout(timeout);
    }

    /// Sends one command and converts its reply.
    pub async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T> {
        command
            .query_async(&mut self.inner)
            .await
            .map_err(|cause| self.explain(&name(command), cause))
    }

    /// Sends one command; an error that the server answers is a value here, for whoever wants to judge it.
    pub async fn ask(&mut self, command: &Cmd) -> Result<Value> {
        match self.inner.send_packed_command(command).await {
            Ok(value) => Ok(value),
            Err(cause) => Err(self.explain(&name(command), cause)),
        }
    }

    /// Sends several commands at once and gives their replies as they are: errors of the server are values among them.
    pub async fn ask_all(&mut self, commands: &Pipeline) -> Result<Vec<Value>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        match self.inner.req_packed_commands(commands, 0, commands.len()).await {
            Ok(values) => Ok(values),
            Err(cause) => {
                let first = commands.cmd_iter().next().map(name).unwrap_or_default();
                Err(self.explain(&format!("{} commands from {first} on", commands.len()), cause))
            }
        }
    }

    pub(super) fn explain(&self, command: &str, cause: RedisError) -> Error {
        explain(format!("run {command} on {}", self.place), cause)
    }
}

/// The command without its arguments, which may be keys, values or passwords.
fn name(command: &Cmd) -> String {
    let mut words = command.args_iter().filter_map(|arg| match arg {
        Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).to_uppercase()),
        _ => None,
    });
    let first = words.next().unwrap_or_default();
    match first.as_str() {
        "CLIENT" | "CONFIG" | "ACL" | "COMMAND" | "XINFO" => format!("{first} {}", words.next().unwrap_or_default()),
        _ => first,
    }
}

const LOGIN_REFUSED: &str = "user name and password do not fit, or this user may not come from here: see whether the password was changed since";

/// Whether this is a server that was reached and did not let us in.
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
        _ if cause.is_timeout() => "the server did not answer in time: see whether it is overloaded, paused or cut off",
        _ if cause.is_io_error() => "the connection broke: see whether the server is up, and try again",
        _ => "",
    };
    let error = Error::failed(doing).because(cause);
    if hint.is_empty() { error } else { error.hint(hint) }
}

#[cfg(test)]
mod tests;
