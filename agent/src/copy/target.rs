//! The target: our master, while nobody else writes to it.

use super::building::Building;
use super::link::{Dial, Link};
use super::login::Login;
use super::reads::Used;
use super::source::{UseKind, milliseconds, scanned, text_of};
use anyhow::{Context, Result, bail};
use redis::Value;
use std::collections::VecDeque;
use wire::info::Fields;
use wire::reply::{integer, text_lossy};

/// Requests are sent once they have this many bytes, or are this many.
const MOST_BYTES: usize = 1 << 20;
const MOST_WRITES: usize = 1000;
/// How often the connections of an earlier copy are ended before that is given up.
const ATTEMPTS: u32 = 50;

pub struct Target {
    pub(super) link: Link,
    selected: u32,
    /// The keys whose writes are under way, in order.
    under_way: VecDeque<(u32, Vec<u8>)>,
    /// How many of them were sent with the batch before.
    sent: usize,
    pub(super) building: Building,
}

/// A value as DUMP gave it.
pub struct Dumped<'a> {
    pub payload: &'a [u8],
    /// Milliseconds since 1970; `None` for never.
    pub expires: Option<i64>,
    pub used: Option<Used>,
}

/// A write that the target refused, with its words.
pub struct Refused {
    pub database: u32,
    pub key: Vec<u8>,
    pub why: String,
}

impl Target {
    /// Connects, and ends what an earlier connection of this user left behind. A write of it that
    /// came late would put an old value over a new one.
    pub fn connect(dial: &Dial, login: &Login) -> Result<Target> {
        let mut link = Link::new(dial().context("connect to the master")?, "master");
        link.log_in(login)?;
        let user = login.user.as_deref().unwrap_or("default");
        let mut attempts = 0;
        loop {
            let killed = link.demand(&[b"CLIENT", b"KILL", b"USER", user.as_bytes(), b"SKIPME", b"yes"])?;
            if integer(&killed) == Some(0) {
                break;
            }
            attempts += 1;
            if attempts == ATTEMPTS {
                bail!("begin the copy: another one writes to the master");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(Target {
            link,
            selected: 0,
            under_way: VecDeque::new(),
            sent: 0,
            building: Building::default(),
        })
    }

    /// Adds the write of a key. Returns the refused writes whose answers came meanwhile.
    pub fn write(&mut self, database: u32, key: &[u8], value: &Dumped) -> Result<Vec<Refused>> {
        let mut refused = Vec::new();
        if self.selected != database {
            refused = self.flush()?;
            self.select(database)?;
        }
        self.add(database, key, value);
        if self.link.batched() >= MOST_BYTES || self.under_way.len() >= self.sent + MOST_WRITES {
            refused.extend(self.push()?);
        }
        Ok(refused)
    }

    fn add(&mut self, database: u32, key: &[u8], value: &Dumped) {
        // Zero means never. A key that ended in 1970 has ended.
        let end = value.expires.map_or(0, |end| end.max(1)).to_string();
        let mut words: Vec<&[u8]> = vec![b"RESTORE", key, end.as_bytes(), value.payload, b"REPLACE", b"ABSTTL"];
        let number = value.used.map(|used| used.number.to_string());
        if let (Some(used), Some(number)) = (value.used, &number) {
            words.push(match used.kind {
                UseKind::Idle => b"IDLETIME",
                UseKind::Frequency => b"FREQ",
            });
            words.push(number.as_bytes());
        }
        self.link.add(&words);
        self.under_way.push_back((database, key.to_vec()));
    }

    /// Sends the batch, and takes the answers to the batch before: the target works while the next keys are read.
    fn push(&mut self) -> Result<Vec<Refused>> {
        self.link.send()?;
        let refused = self.take(self.sent)?;
        self.sent = self.under_way.len();
        Ok(refused)
    }

    fn take(&mut self, writes: usize) -> Result<Vec<Refused>> {
        let mut refused = Vec::new();
        for _ in 0..writes {
            let answer = self.link.answer()?;
            if let Some((database, key)) = self.under_way.pop_front()
                && answer != Value::Okay
            {
                let why = text_of(&answer);
                refused.push(Refused { database, key, why });
            }
        }
        Ok(refused)
    }

    /// Sends the batch and waits for all answers.
    pub fn flush(&mut self) -> Result<Vec<Refused>> {
        self.link.send()?;
        self.sent = 0;
        self.take(self.under_way.len())
    }

    pub fn select(&mut self, database: u32) -> Result<()> {
        if self.selected != database {
            self.link.demand(&[b"SELECT", database.to_string().as_bytes()])?;
            self.selected = database;
        }
        Ok(())
    }

    pub fn scan(&mut self, cursor: u64) -> Result<(u64, Vec<Vec<u8>>)> {
        scanned(
            self.link
                .demand(&[b"SCAN", cursor.to_string().as_bytes(), b"COUNT", b"1000"])?,
        )
    }

    /// Deletes keys of the selected database. Returns how many were there.
    pub fn delete(&mut self, keys: &[Vec<u8>]) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut words: Vec<&[u8]> = vec![&b"UNLINK"[..]];
        words.extend(keys.iter().map(Vec::as_slice));
        let gone = integer(&self.link.demand(&words)?).and_then(|gone| u64::try_from(gone).ok());
        Ok(gone.unwrap_or(0))
    }

    /// Replaces all functions. Returns the target's words if it refuses them.
    pub fn put_functions(&mut self, functions: &[u8]) -> Result<Option<String>> {
        let answer = self.link.ask(&[b"FUNCTION", b"RESTORE", functions, b"FLUSH"])?;
        Ok((answer != Value::Okay).then(|| text_of(&answer)))
    }

    /// Replaces all functions by these libraries. Returns the target's words if it refuses one.
    pub fn put_libraries(&mut self, libraries: &[Vec<u8>]) -> Result<Option<String>> {
        self.link.add(&[b"FUNCTION", b"FLUSH"]);
        for library in libraries {
            self.link.add(&[b"FUNCTION", b"LOAD", library]);
        }
        let answers = self.link.answers()?;
        let refused = answers.iter().find(|answer| matches!(answer, Value::ServerError(_)));
        Ok(refused.map(text_of))
    }

    pub fn clock(&mut self) -> Result<Option<i64>> {
        Ok(milliseconds(self.link.ask(&[b"TIME"])?))
    }

    /// Returns how many keys each database has, and the memory in use.
    pub fn look(&mut self) -> Result<Look> {
        let text = text_lossy(&self.link.demand(&[b"INFO"])?).unwrap_or_default();
        let info = Fields::read(&text);
        let keys = info
            .databases()
            .into_iter()
            .map(|(database, counts)| (database, counts.number("keys").unwrap_or(0)));
        Ok(Look {
            keys: keys.collect(),
            used_memory: info.number("used_memory").unwrap_or(0),
            limit: info.number("maxmemory").unwrap_or(0),
        })
    }
}

pub struct Look {
    pub keys: Vec<(u32, u64)>,
    pub used_memory: u64,
    /// The engine's own limit of its memory; 0 for none.
    pub limit: u64,
}
