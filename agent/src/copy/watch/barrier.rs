//! The barrier: a read with a nonce. What the source ran before it stands before it in MONITOR. In one
//! transaction with it the source tells its own count of every command, which must be that of the
//! requests that MONITOR showed. A proxy, a cluster or several servers behind one address are found
//! out by it.

use super::line::Shared;
use super::marks::Echo;
use super::waiters;
use crate::copy::link::Link;
use anyhow::{Context, Result, bail};
use redis::Value;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};
use wire::info::Fields;
use wire::reply::{array, text_lossy};

/// A barrier that is read later means that the source holds the rest in its memory.
const LAG: Duration = Duration::from_secs(1);
/// Headroom below this is the app's, or below a tenth of the limit if that is less.
const HEADROOM: u64 = 64 << 20;

/// Commands that servers hide from MONITOR in part, and that change no key.
const HIDDEN: &[&str] = &[
    "acl",
    "auth",
    "bgrewriteaof",
    "bgsave",
    "client",
    "cluster",
    "config",
    "failover",
    "hello",
    "lastsave",
    "latency",
    "memory",
    "monitor",
    "psync",
    "replconf",
    "role",
    "save",
    "slowlog",
    "sync",
];
/// `infra` asks whether these are allowed by a call that cannot succeed, and MONITOR hides them. One that succeeds
/// replaces all keys.
const PROBED: &[&str] = &["replicaof", "slaveof"];
/// Newer servers count these when their client is served, and show them when they arrive.
const WAITING: &[&str] = &[
    "blmove",
    "blmpop",
    "blpop",
    "brpop",
    "brpoplpush",
    "bzmpop",
    "bzpopmax",
    "bzpopmin",
    "wait",
    "waitaof",
    "xread",
    "xreadgroup",
];

/// Both counts at one moment.
struct Counted {
    shown: HashMap<String, u64>,
    ran: HashMap<String, u64>,
}

/// Asks for barriers over a connection of its own.
pub struct Prober {
    link: Link,
    /// Makes nonces that no other watch uses.
    id: String,
    asked: u64,
    first: Option<Counted>,
    evicted: Option<u64>,
}

/// The findings of a barrier.
pub struct Barrier {
    /// Requests before it that may have changed something.
    pub writes: u64,
    /// The source evicted keys since the barrier before, which MONITOR does not show.
    pub evicted: bool,
}

impl Prober {
    pub fn new(link: Link, id: &str) -> Self {
        Prober {
            link,
            id: id.into(),
            asked: 0,
            first: None,
            evicted: None,
        }
    }

    /// Asks for the clients that wait to move an element since before the watch.
    pub fn find_waiters(&mut self, shared: &Shared) -> Result<()> {
        let clients = waiters::ask(&mut self.link)?;
        shared.lock().wait_unseen(clients);
        Ok(())
    }

    /// Asks for a barrier, waits until it is read, and compares the counts since the first one.
    pub fn barrier(&mut self, shared: &Shared) -> Result<Barrier> {
        self.asked += 1;
        // Asked before the barrier, so that every push that served one of them is read by then.
        let waiting = if shared.lock().has_unseen() {
            Some(waiters::ask(&mut self.link)?)
        } else {
            None
        };
        // Valkey 8.1.1 shows quotes and backslashes as they are: a name could be taken for another one.
        let nonce = format!("infra-watch:{}:{}\"\\", self.id, self.asked);
        shared.lock().expect(nonce.as_bytes());
        let begun = Instant::now();
        for words in [
            &[&b"MULTI"[..]][..],
            &[b"ECHO", nonce.as_bytes()],
            &[b"INFO", b"commandstats"],
            &[b"EXEC"],
            &[b"INFO", b"memory"],
            &[b"INFO", b"stats"],
        ] {
            self.link.add(words);
        }
        let mut answers = self.link.answers().context("ask for a barrier")?;
        let (stats, memory) = (said(answers.pop()), said(answers.pop()));
        let ran = counts(answers.pop())?;
        let echo = self.wait(shared, begun)?;
        if let Some(waiting) = waiting {
            shared.lock().still_wait(&waiting);
        }
        shared.lock().barrier_us = u64::try_from(begun.elapsed().as_micros()).ok();
        headroom(&Fields::read(&memory))?;
        let evicted = Fields::read(&stats).number("evicted_keys").ok();
        let before = std::mem::replace(&mut self.evicted, evicted);
        let now = Counted {
            shown: echo.counts,
            ran,
        };
        match &self.first {
            None => self.first = Some(now),
            Some(first) => compare(first, &now)?,
        }
        Ok(Barrier {
            writes: echo.writes,
            evicted: before.is_some() && before != evicted,
        })
    }

    fn wait(&self, shared: &Shared, begun: Instant) -> Result<Echo> {
        let mut marks = shared.lock();
        loop {
            if let Some(echo) = marks.echo() {
                return Ok(echo);
            }
            if marks.id() != self.id {
                bail!("{}", marks.why());
            }
            let left = LAG.saturating_sub(begun.elapsed());
            if left.is_zero() {
                bail!("MONITOR lags more than {LAG:?}: what it does not send fills the source's memory");
            }
            let waited = shared.bell.wait_timeout(marks, left);
            marks = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

fn said(answer: Option<Value>) -> String {
    answer.as_ref().and_then(text_lossy).unwrap_or_default()
}

/// Reads the answer to EXEC: how often each command ran, subcommands together.
fn counts(answer: Option<Value>) -> Result<HashMap<String, u64>> {
    let text = match answer {
        Some(Value::ServerError(error)) => bail!("have the source count its commands: {error}"),
        answer => answer.and_then(array).and_then(|parts| text_lossy(parts.get(1)?)),
    };
    let mut counts = HashMap::new();
    for line in text.unwrap_or_default().lines() {
        let Some((name, values)) = line
            .trim()
            .strip_prefix("cmdstat_")
            .and_then(|line| line.split_once(':'))
        else {
            continue;
        };
        let number = |label: &str| {
            let mut values = values.split(',');
            values.find_map(|value| value.strip_prefix(label)?.strip_prefix('=')?.parse::<u64>().ok())
        };
        let name = name.split('|').next().unwrap_or(name).to_ascii_lowercase();
        let mut calls = number("calls").unwrap_or(0);
        if PROBED.contains(&name.as_str()) {
            calls = calls.saturating_sub(number("failed_calls").unwrap_or(0));
        }
        *counts.entry(name).or_default() += calls;
    }
    if counts.is_empty() {
        bail!("the source does not tell how often each command ran (INFO commandstats)");
    }
    Ok(counts)
}

/// Fails if another number of requests was shown than ran.
fn compare(first: &Counted, now: &Counted) -> Result<()> {
    let names: BTreeSet<&String> = now.shown.keys().chain(now.ran.keys()).collect();
    for name in names {
        if HIDDEN.contains(&name.as_str()) || WAITING.contains(&name.as_str()) {
            continue;
        }
        let of = |counts: &HashMap<String, u64>| counts.get(name).copied().unwrap_or(0);
        let since = |before, now| u64::checked_sub(of(now), of(before));
        let (shown, ran) = (since(&first.shown, &now.shown), since(&first.ran, &now.ran));
        if shown != ran {
            let number = |count: Option<u64>| count.map_or("fewer than before".to_owned(), |count| count.to_string());
            bail!(
                "MONITOR does not show all: {name} ran {} times by the source's own count, and was shown {} times",
                number(ran),
                number(shown)
            );
        }
    }
    Ok(())
}

fn headroom(memory: &Fields<'_>) -> Result<()> {
    let (Ok(limit @ 1..), Ok(used)) = (memory.number::<u64>("maxmemory"), memory.number::<u64>("used_memory")) else {
        return Ok(());
    };
    let left = limit.saturating_sub(used);
    if left < HEADROOM.min(limit / 10) {
        bail!(
            "the source has {} MB of memory left: MONITOR could take it from the app",
            left >> 20
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shown: &[(&str, u64)], ran: &[(&str, u64)]) -> Counted {
        let map = |counts: &[(&str, u64)]| {
            counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        Counted {
            shown: map(shown),
            ran: map(ran),
        }
    }

    #[test]
    fn each_command_must_have_been_shown_as_often_as_it_ran() {
        let first = counted(&[("get", 1)], &[("get", 7), ("set", 3)]);
        for (shown, ran, fits) in [
            (&[("get", 3), ("set", 1)][..], &[("get", 9), ("set", 4)][..], true),
            (&[("get", 3)], &[("get", 9), ("set", 4)], false),
            (&[("get", 3), ("set", 2)], &[("get", 9), ("set", 4)], false),
            // Another server behind the address, or counters that were reset.
            (&[("get", 2)], &[("get", 1), ("set", 3)], false),
            (
                &[("get", 1), ("debug", 0)],
                &[("get", 7), ("set", 3), ("debug", 1)],
                false,
            ),
            (
                &[("get", 1)],
                &[("get", 7), ("set", 3), ("config", 1), ("blpop", 2)],
                true,
            ),
        ] {
            assert_eq!(compare(&first, &counted(shown, ran)).is_ok(), fits, "{shown:?} {ran:?}");
        }
    }

    #[test]
    fn a_probe_that_failed_is_no_change_of_the_source() {
        let answer = |stats: &str| {
            let stats = Value::BulkString(stats.into());
            counts(Some(Value::Array(vec![Value::Okay, stats]))).unwrap()
        };
        let found = answer(
            "cmdstat_replicaof:calls=3,usec=1,rejected_calls=0,failed_calls=3\r\ncmdstat_set:calls=2,failed_calls=1\r\n",
        );
        assert_eq!((found["replicaof"], found["set"]), (0, 2));
        assert_eq!(answer("cmdstat_replicaof:calls=3,failed_calls=2\r\n")["replicaof"], 1);
    }

    #[test]
    fn a_source_without_room_for_what_monitor_sends_is_left_alone() {
        for (used, limit, fits) in [
            (1 << 30, 0, true),
            (20 << 20, 25 << 20, true),
            (24 << 20, 25 << 20, false),
            (10_u64 << 30, (10_u64 << 30) + (63 << 20), false),
        ] {
            let text = format!("used_memory:{used}\r\nmaxmemory:{limit}\r\n");
            assert_eq!(headroom(&Fields::read(&text)).is_ok(), fits, "{text}");
        }
    }
}
