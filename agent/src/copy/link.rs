//! A connection that speaks Redis's protocol in batches: all requests are written, then every
//! answer is read. One answer is in memory at a time, unless the caller keeps them.

use super::answers;
use super::login::{CLIENT_NAME, Login};
use anyhow::{Context, Result, bail};
use redis::Value;
use std::io::{BufReader, Read, Write};
use wire::resp;

/// Anything that carries bytes both ways. Reads and writes on it have a time limit of their own.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Opens a connection to a server.
pub type Dial = Box<dyn Fn() -> Result<Box<dyn Stream>> + Send>;

const BUFFER: usize = 256 << 10;

pub struct Link {
    stream: BufReader<Box<dyn Stream>>,
    requests: Vec<u8>,
    asked: usize,
    name: &'static str,
}

impl Link {
    pub fn new(stream: Box<dyn Stream>, name: &'static str) -> Self {
        Link {
            stream: BufReader::with_capacity(BUFFER, stream),
            requests: Vec::new(),
            asked: 0,
            name,
        }
    }

    /// Logs in, and gives the connection its name where the server lets it.
    pub fn log_in(&mut self, login: &Login) -> Result<()> {
        if let Some(password) = &login.password {
            let words: Vec<&[u8]> = match &login.user {
                Some(user) => vec![&b"AUTH"[..], user.as_bytes(), password.as_bytes()],
                None => vec![&b"AUTH"[..], password.as_bytes()],
            };
            if let Value::ServerError(error) = self.ask(&words)? {
                bail!("log in to the {}: {error}", self.name);
            }
        }
        self.ask(&[b"CLIENT", b"SETNAME", CLIENT_NAME.as_bytes()])?;
        Ok(())
    }

    /// Adds a request to the batch.
    pub fn add(&mut self, words: &[&[u8]]) {
        resp::encode(&mut self.requests, words);
        self.asked += 1;
    }

    /// Returns the bytes of the batch so far.
    pub fn batched(&self) -> usize {
        self.requests.len()
    }

    /// Sends the batch. Its answers are read by [`Link::answer`], as many as were asked for.
    pub fn send(&mut self) -> Result<()> {
        let name = self.name;
        let stream = self.stream.get_mut();
        stream
            .write_all(&self.requests)
            .and_then(|()| stream.flush())
            .with_context(|| format!("send to the {name}"))?;
        self.requests.clear();
        // One huge value must not be kept as room for the small ones that follow.
        self.requests.shrink_to(BUFFER);
        Ok(())
    }

    /// Reads one answer of the batch. An error that the server says is a value.
    pub fn answer(&mut self) -> Result<Value> {
        self.answer_within(usize::MAX)?
            .with_context(|| format!("hear from the {}: the answer is endless", self.name))
    }

    /// As `answer`; `None` if it takes more than so many bytes of memory. It is read to its end then.
    pub fn answer_within(&mut self, most: usize) -> Result<Option<Value>> {
        self.asked = self
            .asked
            .checked_sub(1)
            .context("read an answer that nobody asked for")?;
        answers::read(&mut self.stream, most).with_context(|| format!("hear from the {}", self.name))
    }

    /// Begins to read an answer that has several in it. Returns how many follow, each by [`Link::answer`]; or the
    /// whole answer, if it is no array.
    pub fn begin_many(&mut self) -> Result<Result<usize, Value>> {
        self.asked = self
            .asked
            .checked_sub(1)
            .context("read an answer that nobody asked for")?;
        let begun = answers::begin(&mut self.stream).with_context(|| format!("hear from the {}", self.name))?;
        self.asked += begun.as_ref().copied().unwrap_or(0);
        Ok(begun)
    }

    /// Sends the batch and returns all answers.
    pub fn answers(&mut self) -> Result<Vec<Value>> {
        self.send()?;
        (0..self.asked).map(|_| self.answer()).collect()
    }

    /// Asks one thing. Fails if answers of a batch are still to be read: one of them would be taken for this one.
    pub fn ask(&mut self, words: &[&[u8]]) -> Result<Value> {
        if self.asked > 0 {
            bail!("ask the {} one thing: {} answers come before it", self.name, self.asked);
        }
        self.add(words);
        self.send()?;
        self.answer()
    }

    /// Asks one thing, and fails on an error that the server says.
    pub fn demand(&mut self, words: &[&[u8]]) -> Result<Value> {
        match self.ask(words)? {
            Value::ServerError(error) => bail!(
                "ask the {} for {}: {error}",
                self.name,
                String::from_utf8_lossy(words.first().copied().unwrap_or_default())
            ),
            answer => Ok(answer),
        }
    }
}
