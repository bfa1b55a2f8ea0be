//! The copy: follows a source that lets nobody replicate. It reads keys by ordinary commands and
//! writes them to the master, again and again, until it is told to stop.
//!
//! A [`sweep`] makes a [`walk`] through all keys of the [`source`] and writes to the [`target`] what is
//! new or other than it was; [`deletions`] removes what the source no longer has. [`remembered`] knows
//! what the target got, [`journal`] where a sweep stood, [`pace`] how fast the source may be asked,
//! [`control`] who wants a sweep now. [`link`] speaks the protocol over any stream, and [`answers`]
//! reads what comes back.
//!
//! A key is copied in one of four ways. A walk reads short [`strings`] together. For all else [`keys`]
//! chooses: as DUMP gives it ([`reads`]), by its type if the target does not know that format
//! ([`by_type`]), or in [`parts`] if it is large. What is not written by one command is built under a
//! temporary name ([`building`]).
//!
//! One thread and one connection do all writes to the target, so two copies of a key are never
//! under way at once. Any failure ends the process's connections; the next attempt first disconnects
//! what an earlier one left at the target, and begins where the journal says.
//!
//! Where the source allows MONITOR, [`watch`] tells which keys were written, and [`marked`] copies
//! them again at once: a large hash or set by its [`members`]. Once a sweep that began within a watch has ended, no further one is needed.
//!
//! Deliberately not here: TLS (the tunnel has it), and any promise about writes that come while a
//! sweep runs without a watch. The cutover fences the source then, asks for one more sweep, and
//! compares everything.

mod answers;
mod assembling;
mod building;
mod by_type;
mod control;
mod deletions;
mod journal;
mod keys;
mod kind;
mod left_out;
mod link;
mod login;
mod marked;
mod members;
mod pace;
mod parts;
mod reads;
mod remembered;
mod shared;
mod source;
mod strings;
mod sweep;
mod target;
mod walk;
mod watch;
mod work;

pub use control::{Request, Wish, ask};
pub use left_out::Prefix;
pub use link::{Dial, Stream};
pub use login::{CLIENT_NAME, Login};
pub use watch::Connect;

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
use watch::{Ground, Token, Watch};

/// How long to wait before the next attempt after a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// How long to rest between two sweeps that nobody asked for.
const REST: Duration = Duration::from_secs(1);
/// How often marked keys are copied.
const FOLLOW: Duration = Duration::from_millis(100);
/// How often marked keys are copied for a request, if more are marked meanwhile.
const ROUNDS: u32 = 4;
/// How often the status is written.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub struct Options {
    /// Host and port of the source, for people.
    pub name: String,
    pub source: Dial,
    pub source_login: Login,
    pub target: Dial,
    pub target_login: Login,
    /// Opens a connection for MONITOR; `None` to watch nothing.
    pub watch: Option<Connect>,
    /// False if a failure ends the process, and whoever started it starts it again.
    pub tries_again: bool,
    /// Bytes of values that are read from the source in a second.
    pub rate: u64,
    /// Bytes that the target may use; a target that evicts would lose keys that nobody misses.
    pub memory: Option<u64>,
    /// Keys whose names begin so are not copied, and not deleted.
    pub left_out: Vec<Prefix>,
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
    let watch = match &options.watch {
        Some(connect) => Some(watch::start(Ground {
            connect: connect.clone(),
            login: options.source_login.clone(),
        })?),
        None => None,
    };
    let (told, path, now) = (shared.clone(), options.status.clone(), options.now);
    let watched = watch.clone();
    start("status", move || {
        loop {
            told.lock().watch = watched.as_ref().map(Watch::now);
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
        watch,
        token: None,
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
        copy.token = None;
        if let Some(watch) = &copy.watch {
            watch.everything();
        }
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
    watch: Option<Watch>,
    /// Shows that the sweep which is under way began within a watch.
    token: Option<Token>,
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
        let mut target = Target::connect(&self.options.target, &self.options.target_login)?;
        let source = Source::connect(&self.options.source, &self.options.source_login)?;
        self.remembered.near_ms = source.near_ms();
        let mut journal = Journal::load(&self.options.home)?;
        if journal.source_run_id != source.run_id() {
            // Keys of another process have nothing to do with the place in the old one.
            journal = Journal::of(source.run_id(), journal.temporary);
        }
        if journal.temporary.is_empty() {
            journal.temporary = building::new_prefix();
        }
        // The names are known before the first of them is used.
        journal.save(&self.options.home)?;
        target.use_names(&journal.temporary)?;
        let mut status = self.shared.lock();
        status.source_run_id = source.run_id().into();
        status.sweeps = journal.sweeps;
        status.connected = true;
        status.trouble = None;
        drop(status);
        Ok((source, target, journal))
    }

    /// Takes the next request, copies what was written, or makes a sweep that nobody asked for.
    fn next(&mut self, source: &mut Source, target: &mut Target, journal: &mut Journal) -> Result<()> {
        let follows = journal.is_between_sweeps() && self.is_whole(source);
        if self.waiting.is_none() {
            // Right after a start nobody waits for a rest.
            let rest = match (follows, journal.is_between_sweeps()) {
                (true, _) => FOLLOW,
                (false, true) => REST,
                (false, false) => Duration::ZERO,
            };
            self.wait(rest)?;
        }
        let Some(request) = self.waiting.as_ref().map(|asked| asked.request) else {
            self.shared.lock().phase = CopyPhase::of(journal.sweeps);
            if follows {
                return self.follow(source, target, journal);
            }
            self.sweep(source, target, journal, None)?;
            return Ok(());
        };
        let report = match request.wish {
            // Answered while it was waited for.
            Wish::Look => None,
            Wish::Marked => {
                self.shared.lock().phase = CopyPhase::Asked;
                Some(self.drain(source, target, journal, &request)?)
            }
            Wish::Sweep => {
                self.shared.lock().phase = CopyPhase::Asked;
                // The requested sweep begins now: it reads every key anew.
                journal.begin_again();
                self.sweep(source, target, journal, Some(request))?.map(Ok)
            }
        };
        let (Some(asked), Some(report)) = (self.waiting.take(), report) else {
            return Ok(());
        };
        let is_done = report.is_ok();
        asked.answer(report);
        if is_done { self.hold(request.hold) } else { Ok(()) }
    }

    fn is_whole(&self, source: &Source) -> bool {
        let watch = self.watch.as_ref();
        watch.is_some_and(|watch| watch.is_whole(source.run_id()))
    }

    /// Copies what was marked since the last time.
    fn follow(&mut self, source: &mut Source, target: &mut Target, journal: &mut Journal) -> Result<()> {
        if self.watch.as_ref().is_some_and(|watch| watch.marked() == 0) {
            return Ok(());
        }
        let mut report = SweepReport::default();
        let rate = Some(self.options.rate);
        self.parts(source, target, journal, rate).marked(&mut report)
    }

    /// Copies what is marked after a barrier. The inner error says why there is no whole watch.
    fn drain(
        &mut self,
        source: &mut Source,
        target: &mut Target,
        journal: &mut Journal,
        request: &Request,
    ) -> Result<Result<SweepReport, String>> {
        let begun = Instant::now();
        let Some(watch) = self.watch.clone() else {
            return Ok(Err("nothing watches the source".into()));
        };
        source.is_the_same()?;
        if request.record {
            watch.record();
        }
        let barrier = match watch.barrier() {
            Ok(barrier) if watch.is_whole(source.run_id()) => barrier,
            Ok(_) => {
                return Ok(Err(format!(
                    "the watch is not whole: {}",
                    watch.now().why.unwrap_or_default()
                )));
            }
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        let mut report = SweepReport {
            source_run_id: source.run_id().into(),
            ..SweepReport::default()
        };
        let mut parts = self.parts(source, target, journal, None);
        for _ in 0..ROUNDS {
            parts.marked(&mut report)?;
            if watch.marked() == 0 {
                break;
            }
        }
        report.clock_ms = parts.clocks()?;
        report.ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut watched = watch.report(barrier.writes);
        watched.recorded = watch.recorded();
        report.watch = Some(watched);
        Ok(Ok(report))
    }

    /// Writes nothing for a while, so that the master's replication offset stays where it is.
    fn hold(&mut self, length: Duration) -> Result<()> {
        self.shared.lock().phase = CopyPhase::Holding;
        self.wait(length)
    }

    /// Waits for a request. Looks are answered meanwhile, and neither end the wait nor make it longer.
    fn wait(&mut self, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        loop {
            match self
                .requests
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(asked) if asked.request.wish == Wish::Look => {
                    let report = look(self.watch.as_ref(), &asked.request);
                    asked.answer(report);
                }
                Ok(asked) => {
                    self.waiting = Some(asked);
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the control socket ended"),
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// Returns what a sweep works with. `rate` is `None` for as fast as it goes.
    fn parts<'b>(
        &'b mut self,
        source: &'b mut Source,
        target: &'b mut Target,
        journal: &'b mut Journal,
        rate: Option<u64>,
    ) -> work::Sweep<'b> {
        source.set_pace(pace::Pace::new(rate));
        work::Sweep {
            source,
            target,
            journal,
            remembered: &mut self.remembered,
            shared: &self.shared,
            rate,
            later: work::Later::default(),
            left_out: &self.options.left_out,
            home: &self.options.home,
            memory: self.options.memory,
            watch: self.watch.as_ref(),
            token: self.token.as_ref(),
        }
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
        if journal.is_between_sweeps() {
            let watch = self.watch.as_ref();
            if let Some(watch) = watch {
                watch.wait_for_the_first();
            }
            self.token = watch.and_then(|watch| watch.sweep_begins(source.run_id()));
            self.remembered.sweep_begins();
        }
        let mut sweep = work::Sweep {
            source,
            target,
            journal,
            remembered: &mut self.remembered,
            shared: &self.shared,
            // A sweep inside the fence is as quick as it can be: the app waits for it.
            rate: request.is_none().then_some(self.options.rate),
            later: work::Later::default(),
            left_out: &self.options.left_out,
            home: &self.options.home,
            memory: self.options.memory,
            watch: self.watch.as_ref(),
            token: self.token.as_ref(),
        };
        let (requests, watch) = (&self.requests, self.watch.as_ref());
        let waiting = &mut self.waiting;
        let mut interrupted = || {
            if request.is_none() && waiting.is_none() {
                *waiting = requests.try_recv().ok();
            }
            if let Some(asked) = waiting.take_if(|asked| request.is_none() && asked.request.wish == Wish::Look) {
                let report = look(watch, &asked.request);
                asked.answer(report);
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
        if let Some(watch) = &self.watch {
            // A key that was left out would never be looked at again.
            let is_all = report.refused == 0 && report.held == 0;
            if let Some(token) = self.token.take().filter(|_| is_all) {
                watch.sweep_ended(&token);
            }
            report.watch = Some(watch.now());
        }
        let mut status = self.shared.lock();
        status.sweeps = journal.sweeps;
        status.last_sweep = Some(report.clone());
        status.last_sweep_at = (self.options.now)();
        Ok(Some(report))
    }
}

/// Makes a barrier, and reports what the watch knows. Without a watch the report says why.
fn look(watch: Option<&Watch>, request: &Request) -> Result<SweepReport, String> {
    let Some(watch) = watch else {
        return Ok(SweepReport::default());
    };
    if request.record {
        watch.record();
    }
    let watched = match watch.barrier() {
        Ok(barrier) => {
            let mut watched = watch.report(barrier.writes);
            watched.recorded = watch.recorded();
            watched
        }
        Err(_) => watch.now(),
    };
    Ok(SweepReport {
        watch: Some(watched),
        ..SweepReport::default()
    })
}
