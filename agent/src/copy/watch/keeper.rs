//! Keeps a watch open for as long as it is trustworthy, and opens the next one.

use super::barrier::{Barrier, Prober};
use super::line::{Line, Shared};
use super::marks::Token;
use super::members::Members;
use crate::copy::link::Link;
use crate::copy::login::Login;
use crate::record::{RecordedKey, WatchReport};
use anyhow::{Context, Result, bail};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wire::commands::CommandTable;
use wire::info::Fields;
use wire::reply::text_lossy;
use wire::request::{Key, Requests};
use wire::rows::Rows;

/// How often a barrier is asked for.
const PERIOD: Duration = Duration::from_millis(500);
/// The pause before a watch is opened again. It doubles up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// The longest wait for the first watch.
const FIRST: Duration = Duration::from_secs(1);

/// Opens a connection to the source.
pub type Connect = Arc<dyn Fn() -> Result<TcpStream> + Send + Sync>;

/// How the source is reached.
#[derive(Clone)]
pub struct Ground {
    pub connect: Connect,
    pub login: Login,
}

/// The watch, for the thread that copies.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Shared>,
    prober: Arc<Mutex<Option<Prober>>>,
    /// The id of the source's process.
    run_id: Arc<Mutex<String>>,
    /// True once the first watch is validated, or has failed.
    tried: Arc<AtomicBool>,
}

/// Starts to watch. What fails is tried again for as long as the process runs.
pub fn start(ground: Ground) -> Result<Watch> {
    let watch = Watch {
        shared: Arc::default(),
        prober: Arc::default(),
        run_id: Arc::default(),
        tried: Arc::default(),
    };
    let keeping = watch.clone();
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || keeping.keep(&ground))
        .context("start the thread for the watch")?;
    Ok(watch)
}

impl Watch {
    fn keep(&self, ground: &Ground) {
        let mut pause = AGAIN;
        let names = RandomState::new();
        for number in 0_u64.. {
            // Unlike any id of this process or of one before.
            let id = format!("{:016x}", names.hash_one(number));
            let mut lasted = false;
            let Err(why) = self.one(ground, &id, &mut lasted);
            *lock(&self.prober) = None;
            self.shared.lock().close(&format!("{why:#}"));
            self.tried.store(true, Ordering::Release);
            pause = if lasted { AGAIN } else { (pause * 2).min(LONGEST) };
            std::thread::sleep(pause);
        }
    }

    /// Keeps one watch until it breaks. `lasted` becomes true once it is validated.
    fn one(&self, ground: &Ground, id: &str, lasted: &mut bool) -> Result<Infallible> {
        let mut link = Link::new(Box::new((ground.connect)().context("connect to the source")?), "source");
        link.log_in(&ground.login)?;
        *lock(&self.run_id) = identity(&mut link)?;
        let table = CommandTable::parse(link.demand(&[b"COMMAND"]).context("see which commands write")?);
        let line = Line::open((ground.connect)().context("connect to the source")?, &ground.login)?;
        self.shared
            .lock()
            .open(id.into(), Requests::new(Rows::default(), table));
        line.read(&self.shared, id)?;
        let mut prober = Prober::new(link, id);
        prober.find_waiters(&self.shared)?;
        // The second one validates what was shown since the first.
        prober.barrier(&self.shared)?;
        prober.barrier(&self.shared)?;
        self.shared.lock().validate();
        *lock(&self.prober) = Some(prober);
        self.tried.store(true, Ordering::Release);
        *lasted = true;
        loop {
            std::thread::sleep(PERIOD);
            if self.shared.lock().id() != id {
                bail!("{}", self.shared.lock().why());
            }
            self.barrier()?;
        }
    }

    /// Waits until it is known whether the source can be watched: a sweep that begins before counts for nothing, and
    /// another one has to follow. Once, and not for long, since a source may never answer.
    pub fn wait_for_the_first(&self) {
        let end = Instant::now() + FIRST;
        while !self.tried.load(Ordering::Acquire) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.tried.store(true, Ordering::Release);
    }

    /// Asks for a barrier. After a failure this watch is over.
    pub fn barrier(&self) -> Result<Barrier> {
        let mut prober = lock(&self.prober);
        let Some(asking) = prober.as_mut() else {
            bail!("there is no watch: {}", self.shared.lock().why());
        };
        match asking.barrier(&self.shared) {
            Ok(barrier) => {
                if barrier.evicted {
                    self.shared.lock().everything();
                }
                Ok(barrier)
            }
            Err(why) => {
                *prober = None;
                self.shared.lock().close(&format!("{why:#}"));
                Err(why)
            }
        }
    }

    /// Returns true if every key that was written and not copied is marked, on this process of the
    /// source.
    pub fn is_whole(&self, run_id: &str) -> bool {
        let same = *lock(&self.run_id) == run_id;
        same && self.shared.lock().is_whole()
    }

    pub fn marked(&self) -> usize {
        self.shared.lock().marked()
    }

    pub fn some(&self, most: usize) -> Option<(u32, Vec<Vec<u8>>)> {
        self.shared.lock().some(most)
    }

    pub fn unmark(&self, database: u32, key: &[u8]) -> bool {
        self.shared.lock().unmark(database, key)
    }

    /// Follows a large key by its members from now on. Returns false if it cannot.
    pub fn follow(&self, database: u32, key: &[u8]) -> bool {
        self.shared.lock().follow(database, key)
    }

    /// Marks the whole key at its next write.
    pub fn unfollow(&self, database: u32, key: &[u8]) {
        self.shared.lock().unfollow(database, key);
    }

    /// Returns the keys that have marked members.
    pub fn with_members(&self) -> Vec<Key> {
        self.shared.lock().with_members()
    }

    /// Takes the marked members of a key.
    pub fn members(&self, key: &Key) -> Members {
        self.shared.lock().members(key)
    }

    pub fn functions(&self) -> bool {
        self.shared.lock().functions()
    }

    /// Any key may differ from now on, until a sweep ends that begins after this.
    pub fn everything(&self) {
        self.shared.lock().everything();
    }

    pub fn again(&self, database: u32, keys: Vec<Vec<u8>>) {
        self.shared.lock().again(database, keys);
    }

    /// Notes that a sweep of this process of the source begins.
    pub fn sweep_begins(&self, run_id: &str) -> Option<Token> {
        let same = *lock(&self.run_id) == run_id;
        same.then(|| self.shared.lock().sweep_begins())?
    }

    /// Returns true if the watch of this token goes on, and saw databases being emptied.
    pub fn explains_deletions(&self, token: &Token) -> bool {
        token.flushed && self.barrier().is_ok() && self.shared.lock().id() == token.id
    }

    /// Returns true if the watch of this token goes on, and has told of all that was deleted since.
    pub fn stands(&self, token: &Token) -> bool {
        self.barrier().is_ok() && self.shared.lock().stands(token)
    }

    pub fn sweep_ended(&self, token: &Token) {
        self.shared.lock().sweep_ended(token);
    }

    pub fn record(&self) {
        self.shared.lock().record();
    }

    pub fn recorded(&self) -> Option<Vec<RecordedKey>> {
        self.shared.lock().recorded()
    }

    /// Returns the report with the number of writes up to a barrier.
    pub fn report(&self, writes: u64) -> WatchReport {
        self.shared.lock().report(writes)
    }

    /// Returns the report of now, as it is read.
    pub fn now(&self) -> WatchReport {
        self.shared.lock().now()
    }
}

/// Returns the id of the source's process. Fails if it is no single server that takes writes.
fn identity(link: &mut Link) -> Result<String> {
    let text = text_lossy(&link.demand(&[b"INFO"])?).unwrap_or_default();
    let info = Fields::read(&text);
    if info.flag("cluster_enabled") || info.said("redis_mode").is_some_and(|mode| mode != "standalone") {
        bail!("the source is a cluster: MONITOR shows the requests of one of its servers");
    }
    if info.said("role").is_some_and(|role| role != "master") {
        bail!("the source follows another server");
    }
    let run_id = info.said("run_id").unwrap_or_default();
    if run_id.is_empty() {
        bail!("the source does not tell which process it is");
    }
    Ok(run_id.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
