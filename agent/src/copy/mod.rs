//! The copy: follows a source that lets nobody replicate. It reads keys by ordinary commands and
//! writes them to the master, again and again, until it is told to stop.
//!
//! A [`sweep`] walks through all keys of the [`source`] and writes to the [`target`] what is new or
//! other than it was; [`deletions`] removes what the source no longer has. [`remembered`] knows
//! what the target got, [`journal`] where a sweep stood, [`pace`] how fast the source may be asked,
//! [`control`] who wants a sweep now. [`link`] speaks the protocol over any stream.
//!
//! One thread and one connection do all writes to the target, so two copies of a key are never
//! under way at once. Any failure ends the process's connections; the next attempt first disconnects
//! what an earlier one left at the target, and begins where the journal says.
//!
//! Deliberately not here: TLS (the tunnel has it), and any promise about writes that come while a
//! sweep runs. The cutover fences the source, asks for one more sweep, and compares everything.

mod control;
mod deletions;
mod journal;
mod link;
mod login;
mod pace;
mod remembered;
mod shared;
mod source;
mod sweep;
mod target;

pub use control::{Request, ask};
pub use link::{Dial, Stream};
pub use login::{CLIENT_NAME, Login};

use crate::record::{CopyPhase, SweepReport};
use anyhow::{Context, Result};
use control::Asked;
use journal::Journal;
use remembered::Remembered;
use shared::Shared;
use source::Source;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use target::Target;

/// How long to wait before the next attempt after a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// How long to rest between two sweeps that nobody asked for.
const REST: Duration = Duration::from_secs(1);
/// How often the status is written.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub struct Options {
    /// Host and port of the source, for people.
    pub name: String,
    pub source: Dial,
    pub source_login: Login,
    pub target: Dial,
    pub target_login: Login,
    /// False if a failure ends the process, and whoever started it starts it again.
    pub tries_again: bool,
    /// Bytes of values that are read from the source in a second.
    pub rate: u64,
    /// Bytes that the target may use; a target that evicts would lose keys that nobody misses.
    pub memory: Option<u64>,
    /// The folder for the journal.
    pub home: PathBuf,
    /// The socket on which sweeps are asked for.
    pub control: PathBuf,
    pub status: PathBuf,
    /// Returns the seconds since 1970.
    pub now: fn() -> i64,
}

/// Copies until the process ends. Fails if it cannot begin, or may not try again.
pub fn run(options: &Options) -> Result<()> {
    let shared = Shared::new(&options.name, &options.status);
    let (sender, requests) = channel();
    let listener = control::listen(&options.control)?;
    start("control", move || control::serve(&listener, &sender))?;
    let (told, path, now) = (shared.clone(), options.status.clone(), options.now);
    start("status", move || {
        loop {
            told.tell(&path, now());
            std::thread::sleep(HEARTBEAT);
        }
    })?;
    let mut copy = Copy {
        options,
        shared,
        remembered: Remembered::default(),
        requests,
        waiting: None,
    };
    loop {
        let Err(failure) = copy.attempt();
        let why = format!("{failure:#}");
        let mut status = copy.shared.lock();
        status.connected = false;
        if status.trouble.as_deref() != Some(&why) {
            eprintln!("infra-agent: copy: {why}");
            status.trouble = Some(why.clone());
        }
        drop(status);
        // Whether the last writes arrived is not known.
        copy.remembered = Remembered::default();
        // Without connections nobody else would ever hear.
        for asked in copy.waiting.take().into_iter().chain(copy.requests.try_iter()) {
            asked.answer(Err(why.clone()));
        }
        if !options.tries_again {
            copy.shared.tell(&options.status, (options.now)());
            return Err(failure);
        }
        std::thread::sleep(AGAIN);
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .with_context(|| format!("start the thread for {name}"))?;
    Ok(())
}

struct Copy<'a> {
    options: &'a Options,
    shared: Shared,
    remembered: Remembered,
    requests: Receiver<Asked>,
    /// A request that came while a sweep ran that nobody had asked for.
    waiting: Option<Asked>,
}

impl Copy<'_> {
    /// Copies over one pair of connections, until one of them fails.
    fn attempt(&mut self) -> Result<Infallible> {
        let (mut source, mut target, mut journal) = self.connect()?;
        loop {
            self.next(&mut source, &mut target, &mut journal)?;
        }
    }

    fn connect(&mut self) -> Result<(Source, Target, Journal)> {
        // The target first: what an earlier connection left there is ended before anything is read.
        let target = Target::connect(&self.options.target, &self.options.target_login)?;
        let source = Source::connect(&self.options.source, &self.options.source_login)?;
        let mut journal = Journal::load(&self.options.home)?;
        if journal.source_run_id != source.run_id() {
            // Keys of another process have nothing to do with the place in the old one.
            journal = Journal::of(source.run_id());
        }
        let mut status = self.shared.lock();
        status.source_run_id = source.run_id().into();
        status.sweeps = journal.sweeps;
        status.connected = true;
        status.trouble = None;
        drop(status);
        Ok((source, target, journal))
    }

    /// Takes the next request, or makes a sweep that nobody asked for.
    fn next(&mut self, source: &mut Source, target: &mut Target, journal: &mut Journal) -> Result<()> {
        if self.waiting.is_none() {
            // Right after a start nobody waits for a rest.
            let rest = if journal.is_between_sweeps() {
                REST
            } else {
                Duration::ZERO
            };
            match self.requests.recv_timeout(rest) {
                Ok(asked) => self.waiting = Some(asked),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the control socket ended"),
            }
        }
        if self.waiting.is_none() {
            self.shared.lock().phase = CopyPhase::of(journal.sweeps);
            self.sweep(source, target, journal, None)?;
            return Ok(());
        }
        let Some(request) = self.waiting.as_ref().map(|asked| asked.request) else {
            return Ok(());
        };
        self.shared.lock().phase = CopyPhase::Asked;
        // The requested sweep begins now: it reads every key anew.
        journal.begin_again();
        let report = self.sweep(source, target, journal, Some(request))?;
        let (Some(asked), Some(report)) = (self.waiting.take(), report) else {
            return Ok(());
        };
        asked.answer(Ok(report));
        self.hold(request.hold)
    }

    /// Writes nothing for a while, so that the master's replication offset stays where it is.
    fn hold(&mut self, length: Duration) -> Result<()> {
        self.shared.lock().phase = CopyPhase::Holding;
        match self.requests.recv_timeout(length) {
            Ok(asked) => self.waiting = Some(asked),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the control socket ended"),
        }
        Ok(())
    }

    /// Makes one sweep. Returns its report; `None` if a request interrupted it.
    fn sweep(
        &mut self,
        source: &mut Source,
        target: &mut Target,
        journal: &mut Journal,
        request: Option<Request>,
    ) -> Result<Option<SweepReport>> {
        let begun = Instant::now();
        let mut sweep = sweep::Sweep {
            source,
            target,
            journal,
            remembered: &mut self.remembered,
            shared: &self.shared,
            // A sweep inside the fence is as quick as it can be: the app waits for it.
            pace: pace::Pace::new(request.is_none().then_some(self.options.rate)),
            home: &self.options.home,
            memory: self.options.memory,
        };
        let requests = &self.requests;
        let waiting = &mut self.waiting;
        let mut interrupted = || {
            if request.is_none() && waiting.is_none() {
                *waiting = requests.try_recv().ok();
            }
            request.is_none() && waiting.is_some()
        };
        let Some(mut report) = sweep.run(
            request.is_some_and(|request| request.accept_deletions),
            &mut interrupted,
        )?
        else {
            return Ok(None);
        };
        report.ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut status = self.shared.lock();
        status.sweeps = journal.sweeps;
        status.last_sweep = Some(report.clone());
        status.last_sweep_at = (self.options.now)();
        Ok(Some(report))
    }
}
