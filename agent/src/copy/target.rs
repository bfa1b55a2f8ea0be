//! The target: our master, while nobody else writes to it.

use super::link::{Dial, Link};
use super::login::Login;
use super::source::{milliseconds, scanned, text_of};
use anyhow::{Context, Result, bail};
use redis::Value;
use wire::info::Fields;
use wire::reply::{integer, text_lossy};

/// Requests are sent once they have this many bytes, or are this many.
const MOST_BYTES: usize = 4 << 20;
const MOST_WRITES: usize = 512;
/// How often the connections of an earlier copy are ended before that is given up.
const ATTEMPTS: u32 = 50;

pub struct Target {
    link: Link,
    selected: u32,
    /// The keys whose writes are under way, in order.
    under_way: Vec<(u32, Vec<u8>)>,
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
            under_way: Vec::new(),
        })
    }

    /// Adds the write of a key. Returns the refused writes of the batches that this sent.
    pub fn write(&mut self, database: u32, key: &[u8], payload: &[u8], expires: Option<i64>) -> Result<Vec<Refused>> {
        let mut refused = Vec::new();
        if self.selected != database {
            refused = self.flush()?;
            self.select(database)?;
        }
        self.add(database, key, payload, expires);
        if self.link.batched() >= MOST_BYTES || self.under_way.len() >= MOST_WRITES {
            refused.extend(self.flush()?);
        }
        Ok(refused)
    }

    fn add(&mut self, database: u32, key: &[u8], payload: &[u8], expires: Option<i64>) {
        // Zero means never. A key that ended in 1970 has ended.
        let end = expires.map_or(0, |end| end.max(1)).to_string();
        self.link
            .add(&[b"RESTORE", key, end.as_bytes(), payload, b"REPLACE", b"ABSTTL"]);
        self.under_way.push((database, key.to_vec()));
    }

    /// Sends the batch and waits for its answers.
    pub fn flush(&mut self) -> Result<Vec<Refused>> {
        if self.under_way.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.link.answers()?;
        let mut refused = Vec::new();
        for ((database, key), answer) in self.under_way.drain(..).zip(answers) {
            if answer != Value::Okay {
                let why = text_of(&answer);
                refused.push(Refused { database, key, why });
            }
        }
        Ok(refused)
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
        })
    }
}

pub struct Look {
    pub keys: Vec<(u32, u64)>,
    pub used_memory: u64,
}
