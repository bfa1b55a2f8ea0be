//! Compares many keys quickly: it finds the plainly equal ones, and those that need a closer look.
//!
//! Most keys are short strings, and nearly all are equal, so moving replies costs most of the time.
//! Both servers get the same commands, several batches ahead, and replies are compared as bytes. It
//! finds only equal keys; `batch` looks at all others again.

use super::super::Server;
use super::super::bare::Bare;
use super::super::connection::own_name;
use super::super::stream::Stream;
use super::batch::{self, START};
use super::collections;
use super::expiry::Clock;
use super::pair::{ANSWER_TIMEOUT, Pair, both};
use super::verdicts::Verdicts;
use crate::model::error::{Doing, Error, Result};
use ::redis::pipe;
use futures_util::{Stream as Many, StreamExt, TryStreamExt, stream};
use std::collections::VecDeque;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use wire::resp::{encode, end_of_reply};

/// Commands for each key: one for its expiry, one for its first bytes.
const REPLIES: usize = 2;

/// Bytes to read at once.
const CHUNK: usize = 64 * 1024;

/// The first bytes of a string that a reply may be short of and still show the whole string.
const WHOLE: usize = START + b"$4096\r\n".len() + b"\r\n".len();

/// Bare connections to both sides of a pair, in its database.
pub(super) struct Quick {
    source: Wire,
    target: Wire,
    absolute: bool,
    pair: Pair,
}

/// Holds what was found in a batch.
pub(super) struct Looked {
    keys: Vec<Vec<u8>>,
    /// Number of short strings that are equal, also in their expiry.
    equal: u64,
    /// Places in `keys` of values that are no strings and expire at the same time on both sides.
    others: Vec<usize>,
    /// Places in `keys` of all others.
    unclear: Vec<usize>,
}

impl Quick {
    pub async fn open(pair: &Pair) -> Result<Quick> {
        // A side without this database says so here, in plain words.
        let mut there = pipe();
        there.cmd("PING");
        both(pair, &there).await?;
        let (source, target) = tokio::try_join!(
            Wire::open(&pair.source.server, pair.database, pair.source.clock),
            Wire::open(&pair.target.server, pair.database, pair.target.clock)
        )?;
        Ok(Quick {
            absolute: pair.source.clock == Clock::Absolute && pair.target.clock == Clock::Absolute,
            pair: pair.clone(),
            source,
            target,
        })
    }

    /// Compares the keys of all these batches, in their order.
    pub fn through<'a>(
        self,
        batches: impl Many<Item = Result<Vec<Vec<u8>>>> + Unpin + Send + 'a,
    ) -> impl Many<Item = Result<Looked>> + Send + 'a {
        let start = (self, batches, VecDeque::new(), false);
        stream::try_unfold(start, |(mut quick, mut batches, mut asked, mut all)| async move {
            while !all && asked.len() < quick.pair.at_once() {
                match batches.try_next().await? {
                    Some(keys) => {
                        quick.pair.turn(keys.len() * REPLIES).await;
                        tokio::try_join!(quick.source.ask(&keys), quick.target.ask(&keys))?;
                        asked.push_back(keys);
                    }
                    None => all = true,
                }
            }
            let Some(keys) = asked.pop_front() else { return Ok(None) };
            let looked = quick.look(keys).await?;
            Ok(Some((looked, (quick, batches, asked, all))))
        })
        .boxed()
    }

    async fn look(&mut self, keys: Vec<Vec<u8>>) -> Result<Looked> {
        let count = keys.len() * REPLIES;
        tokio::try_join!(self.source.await_replies(count), self.target.await_replies(count))?;
        let mut looked = Looked {
            equal: 0,
            others: Vec::new(),
            unclear: Vec::new(),
            keys,
        };
        for at in 0..looked.keys.len() {
            let both = |number| (self.source.reply(number), self.target.reply(number));
            match judge(both(at * REPLIES), both(at * REPLIES + 1), self.absolute) {
                Judgement::Equal => looked.equal += 1,
                Judgement::NoString => looked.others.push(at),
                Judgement::Unclear => looked.unclear.push(at),
            }
        }
        self.source.forget_replies();
        self.target.forget_replies();
        Ok(looked)
    }
}

impl Looked {
    /// Looks closer at the keys that need it.
    pub async fn settle(mut self, pair: &Pair) -> Result<Verdicts> {
        let mut verdicts = Verdicts::default();
        if !self.unclear.is_empty() {
            let unclear: Vec<Vec<u8>> = self
                .unclear
                .iter()
                .map(|at| std::mem::take(&mut self.keys[*at]))
                .collect();
            verdicts = batch::compare(pair, &unclear).await?;
        }
        verdicts.compared += self.equal + self.others.len() as u64;
        let others: Vec<&Vec<u8>> = self.others.iter().map(|at| &self.keys[*at]).collect();
        collections::compare(pair, &others, &mut verdicts).await?;
        Ok(verdicts)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Equal,
    NoString,
    Unclear,
}

/// Compares the replies about one key. `absolute`: both sides sent times, not the time left.
fn judge(expiries: (&[u8], &[u8]), starts: (&[u8], &[u8]), absolute: bool) -> Judgement {
    let never = expiries.0 == b":-1\r\n";
    let at_a_time = absolute && expiries.0.first() == Some(&b':') && expiries.0.get(1) != Some(&b'-');
    if expiries.0 != expiries.1 || !(never || at_a_time) {
        return Judgement::Unclear;
    }
    let both = |sign: &[u8]| starts.0.starts_with(sign) && starts.1.starts_with(sign);
    if both(b"$") && starts.0 == starts.1 && starts.0.len() < WHOLE {
        Judgement::Equal
    } else if both(b"-WRONGTYPE ") {
        Judgement::NoString
    } else {
        Judgement::Unclear
    }
}

/// The connection to one side: commands and replies as bytes.
struct Wire {
    place: String,
    clock: Clock,
    writer: WriteHalf<Stream>,
    reader: ReadHalf<Stream>,
    commands: Vec<u8>,
    received: Vec<u8>,
    /// Where each whole reply in `received` ends.
    ends: Vec<usize>,
}

impl Wire {
    async fn open(server: &Server, database: u32, clock: Clock) -> Result<Wire> {
        let mut bare = Bare::open(server, format!("compare with {server}")).await?;
        // If a host forbids names, this connection only counts as a stranger.
        bare.ask("CLIENT SETNAME", &[&b"CLIENT"[..], b"SETNAME", own_name().as_bytes()])
            .await?;
        if database > 0 {
            bare.expect_ok(
                "SELECT",
                &[&b"SELECT"[..], database.to_string().as_bytes()],
                "try again",
            )
            .await?;
        }
        let (reader, writer) = tokio::io::split(bare.into_stream());
        Ok(Wire {
            place: server.to_string(),
            clock,
            writer,
            reader,
            commands: Vec::new(),
            received: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// Asks for expiry and start of each key together, while the server has it in its cache.
    async fn ask(&mut self, keys: &[Vec<u8>]) -> Result<()> {
        let last = (START - 1).to_string();
        self.commands.clear();
        for key in keys {
            encode(&mut self.commands, &[self.clock.command().as_bytes(), key]);
            encode(&mut self.commands, &[&b"GETRANGE"[..], key, b"0", last.as_bytes()]);
        }
        let sending = async {
            self.writer.write_all(&self.commands).await?;
            self.writer.flush().await
        };
        within(&self.place, sending).await
    }

    /// Waits until this many replies have arrived.
    async fn await_replies(&mut self, count: usize) -> Result<()> {
        let (reader, received, ends) = (&mut self.reader, &mut self.received, &mut self.ends);
        let receiving = async {
            loop {
                while ends.len() < count {
                    // Only the start of a string is asked for; a longer reply is no reply to that.
                    let end = end_of_reply(received, ends.last().copied().unwrap_or(0), START);
                    match end.map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))? {
                        Some(end) => ends.push(end),
                        None => break,
                    }
                }
                if ends.len() == count {
                    return Ok(());
                }
                received.reserve(CHUNK);
                if reader.read_buf(received).await? == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server closed the connection",
                    ));
                }
            }
        };
        within(&self.place, receiving).await
    }

    fn reply(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.received[start..self.ends[number]]
    }

    /// Drops the replies that were read. The next ones may have arrived already.
    fn forget_replies(&mut self) {
        self.received.drain(..self.ends.last().copied().unwrap_or(0));
        self.ends.clear();
    }
}

async fn within<T>(place: &str, doing: impl Future<Output = io::Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER_TIMEOUT, doing).await {
        Ok(done) => done.doing(|| format!("compare keys of {place}")),
        Err(_) => Err(Error::failed(format!(
            "compare keys of {place}: no answer within {} s",
            ANSWER_TIMEOUT.as_secs()
        ))
        .hint("see whether it is overloaded, paused or cut off, and run the same command again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_and_identical_replies_are_equal() {
        let never: (&[u8], &[u8]) = (b":-1\r\n", b":-1\r\n");
        let whole: (&[u8], &[u8]) = (b"$2\r\nab\r\n", b"$2\r\nab\r\n");
        assert_eq!(judge(never, whole, false), Judgement::Equal);
        let at: (&[u8], &[u8]) = (b":1700000000000\r\n", b":1700000000000\r\n");
        assert_eq!(judge(at, whole, true), Judgement::Equal);
        for (expiries, starts, absolute) in [
            // The time left shows nothing, since the two sides were asked at different times.
            (at, whole, false),
            (
                (&b":-2\r\n"[..], &b":-2\r\n"[..]),
                (&b"$0\r\n\r\n"[..], &b"$0\r\n\r\n"[..]),
                true,
            ),
            ((b":-1\r\n", b":1700000000000\r\n"), whole, true),
            (never, (b"$2\r\nab\r\n", b"$2\r\nac\r\n"), true),
            (never, (b"$2\r\nab\r\n", b"-WRONGTYPE x\r\n"), true),
            (never, (b"-NOPERM x\r\n", b"-NOPERM x\r\n"), true),
            ((b"-NOPERM x\r\n", b"-NOPERM x\r\n"), whole, true),
        ] {
            assert_eq!(
                judge(expiries, starts, absolute),
                Judgement::Unclear,
                "{expiries:?} {starts:?}"
            );
        }
        let other: (&[u8], &[u8]) = (b"-WRONGTYPE one's words\r\n", b"-WRONGTYPE another's\r\n");
        assert_eq!(judge(never, other, false), Judgement::NoString);
    }

    #[test]
    fn a_string_that_may_be_longer_than_its_start_is_not_called_equal() {
        let reply = |length: usize| format!("${length}\r\n{}\r\n", "x".repeat(length)).into_bytes();
        let never: (&[u8], &[u8]) = (b":-1\r\n", b":-1\r\n");
        for (length, judgement) in [
            (0, Judgement::Equal),
            (START - 1, Judgement::Equal),
            (START, Judgement::Unclear),
        ] {
            let reply = reply(length);
            assert_eq!(judge(never, (&reply, &reply), true), judgement, "{length}");
        }
    }
}
