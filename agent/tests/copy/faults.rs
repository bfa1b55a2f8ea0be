//! All that can go wrong with a source, a link, a copy and a master, at each moment of a copy, while an app writes.
//! In the end the master has what the source has, with every write that the source acknowledged, or it has kept what it had.
//!
//! `COPY_FAULTS=all` makes every fault at every moment; otherwise each fault happens at one of them.

use super::contents::{self, Depth};
use super::hot::{EndsLater, seeded};
use super::interruptions::program;
use super::large::{fill, temporary};
use super::relay::Relay;
use super::rig::{QUICK, RIGHTS, Redis, places, until};
use super::streams;
use infra_agent::copy::{self, Request};
use infra_agent::record::{CopyStatus, SweepReport};
use redis::{Value, cmd};
use sandbox::addon::Engine;
use std::collections::HashMap;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    SourceRestarted,
    SourceRestartedEmpty,
    SourceSwapped,
    LinkCut,
    DatabaseFlushed,
    DatabasesSwapped,
    KeyRenamed,
    SourceStalled,
    CopyKilled,
    MasterDisconnects,
}

const FAULTS: [Fault; 10] = [
    Fault::SourceRestarted,
    Fault::SourceRestartedEmpty,
    Fault::SourceSwapped,
    Fault::LinkCut,
    Fault::DatabaseFlushed,
    Fault::DatabasesSwapped,
    Fault::KeyRenamed,
    Fault::SourceStalled,
    Fault::CopyKilled,
    Fault::MasterDisconnects,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The first walk has copied some keys.
    FirstSweep,
    /// A large key is there in part.
    WithinLargeKey,
    /// All keys were copied once.
    Following,
    /// A client waits for a sweep.
    Asked,
}

const MOMENTS: [Moment; 4] = [
    Moment::FirstSweep,
    Moment::WithinLargeKey,
    Moment::Following,
    Moment::Asked,
];

/// How many faults are tried at the same time.
const AT_ONCE: usize = 5;

/// The copy as a host runs it: a process that ends is started again.
struct Service {
    folder: tempfile::TempDir,
    child: Arc<Mutex<Option<Child>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn start(port: u16, target: Arc<Redis>, rate: u64) -> Service {
        target.script(&format!("ACL SETUSER copy on >copy-secret {RIGHTS}"));
        let folder = tempfile::tempdir().unwrap();
        let (child, ends) = (Arc::new(Mutex::new(None::<Child>)), Arc::new(AtomicBool::new(false)));
        let (slot, stop, home) = (child.clone(), ends.clone(), folder.path().to_owned());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let has_ended = match slot.lock().unwrap().as_mut() {
                    Some(child) => child.try_wait().unwrap().is_some(),
                    None => true,
                };
                if has_ended {
                    *slot.lock().unwrap() = Some(program(port, &target, &home, rate));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Service {
            folder,
            child,
            ends,
            thread: Some(thread),
        }
    }

    fn kill(&self) {
        if let Some(child) = self.child.lock().unwrap().as_mut() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn control(&self) -> std::path::PathBuf {
        places(self.folder.path()).1
    }

    fn status(&self) -> CopyStatus {
        status(self.folder.path())
    }

    /// Asks until a sweep comes to its end.
    fn sweep(&self, request: Request) -> SweepReport {
        let mut last = None;
        until("a sweep comes to its end", || {
            last = copy::ask(&self.control(), request).ok();
            last.is_some()
        });
        last.unwrap()
    }
}

fn status(folder: &Path) -> CopyStatus {
    let text = std::fs::read(places(folder).2).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
        self.kill();
    }
}

/// The app: it writes, and notes what the source acknowledged.
struct App {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<HashMap<String, i64>>,
}

impl App {
    fn start(port: u16) -> App {
        let ends = Arc::new(AtomicBool::new(false));
        let stop = ends.clone();
        let thread = std::thread::spawn(move || {
            let mut ledger = HashMap::new();
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
            let mut connection = None;
            let mut number = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
                number += 1;
                if connection.is_none() {
                    connection = client.get_connection_with_timeout(Duration::from_millis(300)).ok();
                }
                let Some(open) = connection.as_mut() else { continue };
                let key = format!("counter:{}", number % 50);
                match cmd("INCR").arg(&key).query::<i64>(open) {
                    Ok(value) => {
                        ledger.insert(key, value);
                        let field = format!("field:{}", number % 500);
                        let _ = cmd("HSET").arg("hash").arg(field).arg(number).exec(open);
                        let _ = cmd("RPUSH").arg(format!("list:{}", number % 20)).arg(number).exec(open);
                        let _ = cmd("LTRIM")
                            .arg(format!("list:{}", number % 20))
                            .arg(-40)
                            .arg(-1)
                            .exec(open);
                    }
                    Err(_) => connection = None,
                }
            }
            ledger
        });
        App { ends, thread }
    }

    /// Stops it, as a fence would. Returns the newest acknowledged value of each counter.
    fn stop(self) -> HashMap<String, i64> {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn wait_for(moment: Moment, service: &Service, target: &Redis) -> Option<JoinHandle<()>> {
    match moment {
        Moment::FirstSweep => until("some keys are copied", || target.keys() > 20),
        Moment::WithinLargeKey => until("a large key is there in part", || !temporary(target).is_empty()),
        Moment::Following => until("all keys were copied once", || service.status().sweeps > 0),
        Moment::Asked => {
            until("all keys were copied once", || service.status().sweeps > 0);
            let control = service.control();
            let asking = std::thread::spawn(move || drop(copy::ask(&control, Request::default())));
            std::thread::sleep(Duration::from_millis(30));
            return Some(asking);
        }
    }
    None
}

/// Returns true if the source lost keys, so that the master must keep its own until somebody says otherwise.
fn happens(fault: Fault, source: &mut Redis, target: &Redis, relay: &Relay, service: &Service) -> bool {
    match fault {
        Fault::SourceRestarted => source.restart(),
        Fault::SourceRestartedEmpty => source.restart_empty(),
        Fault::SourceSwapped => {
            let other = Redis::start(Engine::Redis7);
            other.script("SET other 1");
            relay.cut_and_lead_to(other.port);
            std::thread::sleep(Duration::from_millis(2500));
            relay.cut_and_lead_to(source.port);
        }
        Fault::LinkCut => relay.cut_and_lead_to(source.port),
        Fault::DatabaseFlushed => drop(source.say(&["FLUSHDB"])),
        Fault::DatabasesSwapped => drop(source.say(&["SWAPDB", "0", "1"])),
        Fault::KeyRenamed => drop(source.say(&["RENAME", "string", "renamed"])),
        Fault::SourceStalled => {
            source.freeze(true);
            std::thread::sleep(Duration::from_secs(5));
            source.freeze(false);
        }
        Fault::CopyKilled => service.kill(),
        Fault::MasterDisconnects => drop(target.say(&["CLIENT", "KILL", "USER", "copy"])),
    }
    matches!(
        fault,
        Fault::SourceRestartedEmpty | Fault::DatabaseFlushed | Fault::DatabasesSwapped
    )
}

fn try_out(fault: Fault, moment: Moment) {
    let what = format!("{fault:?} at {moment:?}");
    let mut source = Redis::start(Engine::Redis7);
    let target = Arc::new(Redis::start(Engine::Redis7));
    fill(&source, 4);
    source.fill(3000, 200);
    source.script("SELECT 1\nSET elsewhere 1\nRPUSH few a b");
    let relay = Relay::to(source.port);
    let app = App::start(source.port);
    let service = Service::start(relay.port, target.clone(), 16 << 20);
    let asking = wait_for(moment, &service, &target);
    let had = target.keys();
    let loses = happens(fault, &mut source, &target, &relay, &service);
    std::thread::sleep(Duration::from_millis(300));
    if let Some(asking) = asking {
        asking.join().unwrap();
    }
    let ledger = app.stop();
    let mut report = service.sweep(Request::default());
    assert_eq!((report.refused, report.unsettled), (0, 0), "{what}: {report:?}");
    // A watch that saw the line knows that a database was emptied on purpose.
    let is_explained = fault == Fault::DatabaseFlushed && report.held == 0;
    if loses && had > 1000 && !is_explained {
        assert!(report.held > 0, "{what}: {report:?}");
        assert!(
            target.keys() >= had.min(3000),
            "{what}: the master lost keys with the source"
        );
    }
    if report.held > 0 {
        report = service.sweep(Request {
            accept_deletions: true,
            ..Request::default()
        });
    }
    assert_eq!(report.held, 0, "{what}: {report:?}");
    contents::assert_same(&source, &target, Depth::Whole, &what);
    let keeps = !matches!(fault, Fault::SourceRestartedEmpty | Fault::DatabaseFlushed);
    let database = if fault == Fault::DatabasesSwapped { 1 } else { 0 };
    let mut connection = target.connection();
    cmd("SELECT").arg(database).exec(&mut connection).unwrap();
    for (key, value) in ledger {
        let there: Option<i64> = cmd("GET").arg(&key).query(&mut connection).unwrap();
        // After a swap the app goes on in the other database, from what it finds there.
        let is_right = if database == 1 { true } else { there == Some(value) };
        assert!(
            !keeps || is_right,
            "{what}: {key} is {there:?}, and {value} was acknowledged"
        );
    }
    let left = temporary(&target);
    assert!(left.is_empty(), "{what}: {left:?} is left");
}

#[test]
fn a_fault_at_any_moment_loses_nothing() {
    let all = std::env::var("COPY_FAULTS").is_ok_and(|faults| faults == "all");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let start = now.subsec_nanos() as usize / 1000;
    let mut chosen = Vec::new();
    for (at, fault) in FAULTS.into_iter().enumerate() {
        for (number, moment) in MOMENTS.into_iter().enumerate() {
            if all || (start + at) % MOMENTS.len() == number {
                chosen.push((fault, moment));
            }
        }
    }
    // They mostly wait, so some run at once.
    for some in chosen.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            for (fault, moment) in some {
                eprintln!("{fault:?} at {moment:?}");
                scope.spawn(|| try_out(*fault, *moment));
            }
        });
    }
    eprintln!("{0} of {0} faults lost nothing", chosen.len());
}

fn kills() -> u64 {
    if std::env::var("COPY_FAULTS").is_ok() { 200 } else { 12 }
}

#[test]
fn a_copy_that_is_killed_at_any_moment_goes_on() {
    let source = Redis::start(Engine::Redis7);
    let target = Arc::new(Redis::start(Engine::Redis7));
    fill(&source, 3);
    source.fill(5000, 200);
    let app = App::start(source.port);
    let service = Service::start(source.port, target.clone(), QUICK);
    for kill in 0..kills() {
        // Other moments each time, from before the login to after a whole sweep.
        std::thread::sleep(Duration::from_millis(20 + kill * 37 % 400));
        service.kill();
    }
    let ledger = app.stop();
    let report = service.sweep(Request::default());
    assert_eq!((report.refused, report.held), (0, 0), "{report:?}");
    contents::assert_same(&source, &target, Depth::Whole, "after all kills");
    for (key, value) in ledger {
        assert_eq!(target.text(&["GET", &key]), value.to_string());
    }
    assert_eq!(temporary(&target), Vec::<Vec<u8>>::new());
}

/// Its entries, groups and pending entries are copied in parts, which a kill may leave half done.
#[test]
fn a_copy_that_is_killed_while_it_follows_streams_goes_on() {
    let (mut dice, seed, _) = seeded();
    let source = Redis::start(Engine::Redis7);
    let target = Arc::new(Redis::start(Engine::Redis7));
    ["first", "second"].iter().for_each(|name| streams::fill(&source, name));
    let service = Service::start(source.port, target.clone(), QUICK);
    let mut app = source.connection();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                let line = streams::write(&mut dice);
                let words: Vec<&str> = line.split(' ').collect();
                // Some streams and groups are gone at times.
                let _: Result<Value, _> = cmd(words[0]).arg(&words[1..]).query(&mut app);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let _end = EndsLater(&ends);
        for kill in 0..kills() {
            until("it follows", || service.status().sweeps > 0);
            std::thread::sleep(Duration::from_millis(kill * 37 % 300));
            service.kill();
            // The status of the one that is gone.
            let _ = std::fs::remove_file(places(service.folder.path()).2);
        }
    });
    // Keys that end shortly have ended on both sides.
    std::thread::sleep(Duration::from_millis(200));
    let report = service.sweep(Request::default());
    assert_eq!((report.refused, report.held), (0, 0), "HOT_SEED={seed}: {report:?}");
    let what = format!("HOT_SEED={seed}, after all kills");
    contents::assert_same(&source, &target, Depth::Whole, &what);
    assert_eq!(temporary(&target), Vec::<Vec<u8>>::new());
}
