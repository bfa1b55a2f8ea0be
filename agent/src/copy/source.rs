//! The source, asked only for what leaves it as it is.

use super::link::{Dial, Link};
use super::login::Login;
use super::pace::Pace;
use anyhow::{Context, Result, bail};
use redis::Value;
use std::time::{Duration, Instant};
use wire::info::Fields;
use wire::reply::{array, bytes, integer, text_lossy};

/// Databases that are tried if the source does not say which have keys.
const MOST_DATABASES: u32 = 16;

pub struct Source {
    pub(super) link: Link,
    run_id: String,
    selected: u32,
    /// False before Redis 7: then ends are computed from what is left and the source's clock.
    pub(super) says_ends: bool,
    pub(super) says_sizes: bool,
    pub(super) says_field_ends: bool,
    says_functions: bool,
    /// False if a read counts as a use of the key.
    pub(super) reads_unseen: bool,
    /// True if strings are told from other types by the scan, and many can be asked for at once.
    pub(super) says_strings: bool,
    /// The command that tells how a key was used, where the source evicts by it.
    pub(super) usage: Option<UseKind>,
    /// False if keys are read by their types: DUMP is not allowed, or the target does not know its format.
    pub dumps: bool,
    pub(super) pace: Pace,
}

/// How the source tells what it would evict first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// Seconds since a key was used last.
    Idle,
    /// How often a key is used.
    Frequency,
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
            says_field_ends: true,
            says_functions: true,
            reads_unseen: true,
            says_strings: true,
            usage: None,
            dumps: true,
            pace: Pace::new(None),
        };
        source.run_id = source.identity()?;
        // Without this every sweep would make all keys look as if the app had just used them.
        source.reads_unseen = source.knows(&[b"CLIENT", b"NO-TOUCH", b"ON"])?;
        source.says_ends = source.knows(&[b"PEXPIRETIME", b"infra:none"])?;
        source.says_sizes = source.knows(&[b"MEMORY", b"USAGE", b"infra:none"])?;
        source.says_field_ends = source.knows(&[b"HPEXPIRETIME", b"infra:none", b"FIELDS", b"1", b"a"])?;
        source.dumps = source.knows(&[b"DUMP", b"infra:none"])?;
        source.usage = source.usage_kind()?;
        source.says_strings = source.knows_strings()?;
        source.says_functions = source.knows(&[b"FUNCTION", b"DUMP"])?;
        Ok(source)
    }

    /// Asks how the source chooses what it evicts. Where nothing is evicted, or everything at random, use means nothing.
    fn usage_kind(&mut self) -> Result<Option<UseKind>> {
        let text = text_lossy(&self.link.ask(&[b"INFO", b"memory"])?).unwrap_or_default();
        let policy = Fields::read(&text).said("maxmemory_policy").map(str::to_owned);
        Ok(match policy.as_deref() {
            Some(policy) if policy.ends_with("lru") => Some(UseKind::Idle),
            Some(policy) if policy.ends_with("lfu") => Some(UseKind::Frequency),
            _ => None,
        })
    }

    pub(super) fn knows(&mut self, words: &[&[u8]]) -> Result<bool> {
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

    /// Asks how many keys of each database have an end. [`Source::take_no_key_ends`] reads the answer.
    pub fn ask_whether_keys_end(&mut self) {
        self.link.add(&[b"INFO", b"keyspace"]);
    }

    /// Returns true if no key of the selected database has an end.
    pub fn take_no_key_ends(&mut self) -> Result<bool> {
        let text = text_lossy(&self.link.answer()?).unwrap_or_default();
        let databases = Fields::read(&text).databases();
        let selected = databases.get(&self.selected);
        Ok(selected.is_some_and(|counts| counts.number("expires") == Ok(0)))
    }

    /// Returns how many keys the selected database has; 0 if the source does not say.
    pub fn keys(&mut self) -> Result<u64> {
        let keys = integer(&self.link.ask(&[b"DBSIZE"])?);
        Ok(keys.and_then(|keys| u64::try_from(keys).ok()).unwrap_or(0))
    }

    /// Takes one step of a scan of the selected database, which looks at about so many keys. Returns
    /// the next cursor, 0 at the end.
    pub fn scan(&mut self, cursor: u64, count: usize) -> Result<(u64, Vec<Vec<u8>>)> {
        self.ask_scan(cursor, count);
        self.link.send()?;
        self.take_scan()
    }

    pub fn ask_scan(&mut self, cursor: u64, count: usize) {
        let (cursor, count) = (cursor.to_string(), count.to_string());
        self.link.add(&[b"SCAN", cursor.as_bytes(), b"COUNT", count.as_bytes()]);
    }

    /// Asks for the same step once more, and for its strings alone.
    pub fn ask_scan_of_strings(&mut self, cursor: u64, count: usize) {
        let (cursor, count) = (cursor.to_string(), count.to_string());
        let words: [&[u8]; 6] = [
            b"SCAN",
            cursor.as_bytes(),
            b"COUNT",
            count.as_bytes(),
            b"TYPE",
            b"string",
        ];
        self.link.add(&words);
    }

    /// Returns the strings of the step; none if the source does not tell them.
    pub fn take_strings_of_scan(&mut self) -> Result<Vec<Vec<u8>>> {
        match self.link.answer()? {
            Value::ServerError(_) => {
                self.says_strings = false;
                Ok(Vec::new())
            }
            answer => Ok(scanned(answer)?.1),
        }
    }

    pub fn take_scan(&mut self) -> Result<(u64, Vec<Vec<u8>>)> {
        match self.link.answer()? {
            answer @ Value::ServerError(_) => bail!("ask the source for SCAN: {}", text_of(&answer)),
            answer => scanned(answer),
        }
    }

    /// Returns for each group of keys whether all of them exist, and how many they are. Mostly one number shows it.
    pub fn counts<'a>(&mut self, groups: impl Iterator<Item = &'a [Vec<u8>]> + Clone) -> Result<Vec<(bool, usize)>> {
        for keys in groups.clone() {
            let mut words: Vec<&[u8]> = vec![b"EXISTS"];
            words.extend(keys.iter().map(Vec::as_slice));
            self.link.add(&words);
        }
        let answers = self.link.answers()?;
        // A host may refuse a question about several keys; then each is asked for alone.
        let is_whole = |answer: &Value, keys: &[Vec<u8>]| integer(answer) == i64::try_from(keys.len()).ok();
        let groups = groups.zip(&answers);
        Ok(groups
            .map(|(keys, answer)| (is_whole(answer, keys), keys.len()))
            .collect())
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

    /// Asks one thing. An error that the source says is a value.
    pub fn ask(&mut self, words: &[&[u8]]) -> Result<Value> {
        self.link.ask(words)
    }

    /// As `ask`; `None` if the answer takes more than so many bytes.
    pub fn ask_within(&mut self, words: &[&[u8]], most: usize) -> Result<Option<Value>> {
        self.link.add(words);
        self.link.send()?;
        self.link.answer_within(most)
    }

    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Leaves the source alone for as long as it costs to read so many bytes. It must have nothing under way.
    pub fn rest(&mut self, bytes: u64) -> Result<()> {
        if self.pace.is_gentle() {
            let latency = self.latency()?;
            std::thread::sleep(self.pace.after(bytes, latency));
        }
        Ok(())
    }

    /// Returns how long a PING takes.
    pub(super) fn latency(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.link.demand(&[b"PING"])?;
        Ok(begun.elapsed())
    }

    /// Returns the source's clock, milliseconds since 1970; `None` if it does not say.
    pub fn clock(&mut self) -> Result<Option<i64>> {
        Ok(milliseconds(self.link.ask(&[b"TIME"])?))
    }

    /// Returns the code of every library of functions; `None` if the source does not give it.
    pub fn libraries(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(libraries) = array(self.link.ask(&[b"FUNCTION", b"LIST", b"WITHCODE"])?) else {
            return Ok(None);
        };
        let code = |library| bytes(wire::reply::pairs(library)?.remove("library_code")?);
        Ok(libraries.into_iter().map(code).collect())
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
