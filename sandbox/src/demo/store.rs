//! One database as the app sees it: a connection that is replaced when it breaks or is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::ledger::{Ledger, Operation};
use crate::connect::{Connection, Target};

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// The form of a write's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Any answer confirms the write.
    Any,
    /// A number that the ledger notes.
    Number,
    /// Of a command that is done only once: whether an attempt before had done it, and what that was told. The ledger
    /// notes the number where it `counts`.
    Once { counts: bool },
}

impl Answer {
    /// Returns whether the write was found done, and the number to be noted.
    fn read(self, value: &Value) -> (bool, Option<i64>) {
        match (self, value) {
            (Self::Number, Value::Int(number)) => (false, Some(*number)),
            (Self::Once { counts }, Value::Array(pair)) => match pair.as_slice() {
                [Value::Int(found), Value::Int(number)] => (*found == 1, counts.then_some(*number)),
                _ => (false, None),
            },
            (Self::Any | Self::Number | Self::Once { .. }, _) => (false, None),
        }
    }
}

/// A database of a Redis, with the ledger in which its answers are noted.
pub struct Store {
    target: Target,
    address: String,
    database: i64,
    response_timeout: Duration,
    /// A write whose answer was lost is sent once more.
    repeats: bool,
    ledger: Arc<Ledger>,
    current: Mutex<Option<Arc<Connection>>>,
    failures: AtomicU32,
}

impl Store {
    pub fn new(target: Target, database: i64, response_timeout: Duration, ledger: Arc<Ledger>) -> Self {
        let address = target.address();
        let (current, failures) = (Mutex::new(None), AtomicU32::new(0));
        Self {
            target,
            address,
            database,
            response_timeout,
            repeats: false,
            ledger,
            current,
            failures,
        }
    }

    /// With `repeats`, a write whose answer was lost is sent once more: its command must be safe to be sent twice.
    pub fn repeating(self, repeats: bool) -> Self {
        Self { repeats, ..self }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a write that the ledger has as attempted, and notes the result.
    ///
    /// A refusal (a replica, a user without rights, a loading server) proves that nothing was done:
    /// the write is sent again over a new connection until its time is up. A write whose answer was
    /// lost may have been done: it is sent again once, and only by a store that repeats.
    pub async fn send(&self, operation: Operation, command: &Cmd, answer: Answer) {
        let deadline = Instant::now() + self.response_timeout;
        let mut may_repeat = self.repeats;
        loop {
            let Ok(connection) = timeout_at(deadline, self.connection()).await else {
                self.ledger.failed(operation, &self.address, "no_connection");
                return;
            };
            match command.query_async::<Value>(&mut connection.commands.clone()).await {
                Ok(value) => {
                    self.succeeded();
                    match answer.read(&value) {
                        (true, number) => self.ledger.found_done(operation, &self.address, number),
                        (false, number) => self.ledger.acknowledged(operation, &self.address, number),
                    }
                    return;
                }
                Err(error) => {
                    self.give_up(&connection).await;
                    let in_time = Instant::now() < deadline;
                    if is_refusal(&error) && in_time {
                        self.ledger.not_connected(&self.address, &reason(&error));
                    } else if may_repeat && in_time {
                        may_repeat = false;
                        self.ledger.repeated(operation, &self.address, &reason(&error));
                    } else {
                        self.ledger.failed(operation, &self.address, &reason(&error));
                        return;
                    }
                }
            }
        }
    }

    /// Returns the connection; reconnects as often as it takes.
    pub async fn connection(&self) -> Arc<Connection> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &*current {
            return Arc::clone(connection);
        }
        loop {
            tokio::time::sleep(delay(self.failures.load(Ordering::Relaxed))).await;
            match self.target.connect(self.database, self.response_timeout).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    *current = Some(Arc::clone(&connection));
                    return connection;
                }
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    self.ledger.not_connected(&self.address, &reason(&error));
                }
            }
        }
    }

    /// Drops this connection, so that nobody gets it again.
    pub async fn give_up(&self, connection: &Arc<Connection>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = None;
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes the connection, if there is one.
    pub async fn disconnect(&self) {
        *self.current.lock().await = None;
    }

    /// Notes that the server works: the next reconnection need not wait.
    pub fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }
}

/// Returns no delay before the first failure, then one that doubles.
fn delay(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        more => FIRST_DELAY.saturating_mul(1 << (more - 1).min(10)).min(LONGEST_DELAY),
    }
}

/// Returns whether the server refused the command. After another error it may have been done.
fn is_refusal(error: &RedisError) -> bool {
    const REFUSALS: [&str; 8] = [
        "READONLY",
        "NOAUTH",
        "NOPERM",
        "WRONGPASS",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "EXECABORT",
    ];
    error.code().is_some_and(|code| REFUSALS.contains(&code))
}

/// Returns one word for the ledger.
pub fn reason(error: &RedisError) -> String {
    if error.is_timeout() {
        return "timeout".to_owned();
    }
    if error.is_connection_refusal() {
        return "refused".to_owned();
    }
    match (error.kind(), error.code()) {
        (_, Some(code)) => code.to_lowercase(),
        (ErrorKind::Io, None) => "connection_lost".to_owned(),
        (ErrorKind::AuthenticationFailed, None) => "login_refused".to_owned(),
        _ => error.category().replace(' ', "_").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnecting_waits_longer_each_time_up_to_a_second() {
        let waits: Vec<u128> = [0, 1, 2, 3, 5, 6, 1000]
            .map(|failures| delay(failures).as_millis())
            .to_vec();
        assert_eq!(waits, [0, 50, 100, 200, 800, 1000, 1000]);
    }
}
