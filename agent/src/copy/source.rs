//! The source, asked only for what leaves it as it is.

use super::link::{Dial, Link};
use super::login::Login;
use anyhow::{Context, Result, bail};
use redis::Value;
use std::time::{Duration, Instant};
use wire::info::Fields;
use wire::reply::{array, bytes, integer, text_lossy};

/// How many keys a step of SCAN looks at.
const COUNT: &[u8] = b"512";
/// Databases that are tried if the source does not say which have keys.
const MOST_DATABASES: u32 = 16;

pub struct Source {
    link: Link,
    run_id: String,
    selected: u32,
    /// False before Redis 7: then ends are computed from what is left and the source's clock.
    says_ends: bool,
    says_sizes: bool,
    says_functions: bool,
}

/// A key as it was read in one batch.
pub enum Read {
    Found {
        payload: Vec<u8>,
        /// Milliseconds since 1970; `None` for never.
        expires: Option<i64>,
    },
    /// The key was deleted, or has expired.
    Gone,
    /// The source does not give it; holds its words.
    Refused(String),
}

impl Source {
    pub fn connect(dial: &Dial, login: &Login) -> Result<Source> {
        let mut link = Link::new(dial().context("connect to the source")?, "source");
        link.log_in(login)?;
        let mut source = Source {
            link,
            run_id: String::new(),
            selected: 0,
            says_ends: true,
            says_sizes: true,
            says_functions: true,
        };
        source.run_id = source.identity()?;
        source.says_ends = source.knows(&[b"PEXPIRETIME", b"infra:none"])?;
        source.says_sizes = source.knows(&[b"MEMORY", b"USAGE", b"infra:none"])?;
        source.says_functions = source.knows(&[b"FUNCTION", b"DUMP"])?;
        Ok(source)
    }

    fn knows(&mut self, words: &[&[u8]]) -> Result<bool> {
        Ok(!matches!(self.link.ask(words)?, Value::ServerError(_)))
    }

    /// Returns the id of the source's process; empty if it does not say.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Fails if the source is another process than at the beginning, or takes no writes of the app.
    pub fn is_the_same(&mut self) -> Result<()> {
        let now = self.identity()?;
        if now != self.run_id {
            bail!("go on with the copy: the source was restarted, or is another server by now");
        }
        Ok(())
    }

    fn identity(&mut self) -> Result<String> {
        let mut answer = self.link.ask(&[b"INFO"])?;
        if matches!(answer, Value::ServerError(_)) {
            // Some hosts give a part of it alone.
            answer = self.link.ask(&[b"INFO", b"server"])?;
        }
        let Some(text) = text_lossy(&answer) else {
            return Ok(String::new());
        };
        let info = Fields::read(&text);
        if info.said("role").is_some_and(|role| role != "master") {
            bail!("copy the source: it follows another server, which takes the app's writes now or soon");
        }
        if info.flag("loading") {
            bail!("copy the source: it is loading its data");
        }
        Ok(info.said("run_id").unwrap_or_default().into())
    }

    /// Returns the databases that have keys, as the source says or as it lets them be selected.
    pub fn databases(&mut self) -> Result<Vec<u32>> {
        if let Some(text) = text_lossy(&self.link.ask(&[b"INFO", b"keyspace"])?)
            && text.contains("Keyspace")
        {
            return Ok(Fields::read(&text).databases().into_keys().collect());
        }
        let mut databases = Vec::new();
        for database in 0..MOST_DATABASES {
            if self.select(database)? {
                databases.push(database);
            }
        }
        Ok(databases)
    }

    /// Returns false if the source has no such database.
    pub fn select(&mut self, database: u32) -> Result<bool> {
        if self.selected == database {
            return Ok(true);
        }
        let answer = self.link.ask(&[b"SELECT", database.to_string().as_bytes()])?;
        if matches!(answer, Value::ServerError(_)) {
            return Ok(false);
        }
        self.selected = database;
        Ok(true)
    }

    /// Returns how many keys the selected database has; 0 if the source does not say.
    pub fn keys(&mut self) -> Result<u64> {
        let keys = integer(&self.link.ask(&[b"DBSIZE"])?);
        Ok(keys.and_then(|keys| u64::try_from(keys).ok()).unwrap_or(0))
    }

    /// Takes one step of a scan of the selected database. Returns the next cursor, 0 at the end.
    pub fn scan(&mut self, cursor: u64) -> Result<(u64, Vec<Vec<u8>>)> {
        scanned(
            self.link
                .demand(&[b"SCAN", cursor.to_string().as_bytes(), b"COUNT", COUNT])?,
        )
    }

    /// Returns the bytes that each key takes there; 0 if the source does not say.
    pub fn sizes(&mut self, keys: &[Vec<u8>]) -> Result<Vec<u64>> {
        if !self.says_sizes {
            return Ok(vec![0; keys.len()]);
        }
        for key in keys {
            self.link.add(&[b"MEMORY", b"USAGE", key]);
        }
        let answers = self.link.answers()?;
        let size = |answer: &Value| integer(answer).and_then(|size| u64::try_from(size).ok());
        Ok(answers.iter().map(|answer| size(answer).unwrap_or(0)).collect())
    }

    /// Reads keys with their ends, and hands each to `take` as it comes: one value is in memory.
    pub fn read(&mut self, keys: &[Vec<u8>], take: &mut dyn FnMut(&[u8], Read) -> Result<()>) -> Result<()> {
        let end: &[u8] = if self.says_ends { b"PEXPIRETIME" } else { b"PTTL" };
        self.link.add(&[b"TIME"]);
        for key in keys {
            self.link.add(&[b"DUMP", key]);
            self.link.add(&[end, key]);
        }
        self.link.send()?;
        let now = milliseconds(self.link.answer()?);
        for key in keys {
            let payload = self.link.answer()?;
            let end = self.link.answer()?;
            take(key, self.judge(payload, &end, now))?;
        }
        Ok(())
    }

    fn judge(&self, payload: Value, end: &Value, now: Option<i64>) -> Read {
        let payload = match payload {
            Value::BulkString(payload) => payload,
            Value::Nil => return Read::Gone,
            other => return Read::Refused(text_of(&other)),
        };
        let expires = match (integer(end), now) {
            // It was deleted, or expired, after its value was read.
            (Some(-2), _) => return Read::Gone,
            (Some(-1), _) => None,
            (Some(end), _) if self.says_ends => Some(end),
            (Some(left), Some(now)) => Some(now.saturating_add(left)),
            _ => return Read::Refused(format!("the end of a key is not told: {}", text_of(end))),
        };
        Read::Found { payload, expires }
    }

    /// Returns for each key whether it exists.
    pub fn has(&mut self, keys: &[Vec<u8>]) -> Result<Vec<bool>> {
        for key in keys {
            self.link.add(&[b"EXISTS", key]);
        }
        self.link
            .answers()?
            .iter()
            .map(|answer| match answer {
                Value::Int(there) => Ok(*there > 0),
                // Without an answer nothing may be deleted.
                other => bail!("ask the source whether a key exists: {}", text_of(other)),
            })
            .collect()
    }

    /// Returns how long a PING takes.
    pub fn latency(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.link.demand(&[b"PING"])?;
        Ok(begun.elapsed())
    }

    /// Returns the source's clock, milliseconds since 1970; `None` if it does not say.
    pub fn clock(&mut self) -> Result<Option<i64>> {
        Ok(milliseconds(self.link.ask(&[b"TIME"])?))
    }

    /// Returns all functions as one value; `None` if the source does not give them.
    pub fn functions(&mut self) -> Result<Option<Vec<u8>>> {
        if !self.says_functions {
            return Ok(None);
        }
        Ok(match self.link.ask(&[b"FUNCTION", b"DUMP"])? {
            Value::BulkString(functions) => Some(functions),
            _ => None,
        })
    }
}

/// Reads an answer to TIME.
pub fn milliseconds(answer: Value) -> Option<i64> {
    let parts: Vec<i64> = array(answer)?.iter().filter_map(integer).collect();
    let [seconds, micros] = parts[..] else { return None };
    seconds.checked_mul(1000)?.checked_add(micros / 1000)
}

/// Reads an answer to SCAN.
pub fn scanned(answer: Value) -> Result<(u64, Vec<Vec<u8>>)> {
    let mut parts = array(answer).unwrap_or_default().into_iter();
    let (Some(cursor), Some(keys)) = (parts.next(), parts.next().and_then(array)) else {
        bail!("scan keys: the answer is not understood");
    };
    let cursor = bytes(cursor).and_then(|digits| wire::resp::number(&digits));
    Ok((
        cursor.context("scan keys: the cursor is no number")?,
        keys.into_iter().filter_map(bytes).collect(),
    ))
}

pub fn text_of(value: &Value) -> String {
    match value {
        Value::ServerError(error) => error.to_string(),
        other => text_lossy(other).unwrap_or_else(|| "an answer of another kind".into()),
    }
}
