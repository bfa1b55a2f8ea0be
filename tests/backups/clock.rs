//! The host's clock is set while everything runs: every covered second is restored exactly.
//!
//! Engine and agent have a clock of their own. A write belongs to the second of the engine's clock,
//! or to an earlier reading if that was higher: this is how the engine annotates its log.

use crate::outages::sleep;
use crate::writer::{Diary, at_end_of, differs, transaction};
use infra::effects::backup::catalogue::{Catalogue, Wish};
use infra::effects::backup::restore;
use jiff::Timestamp;
use redis::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testkit::backups::{Environment, World};
use testkit::waiting::{until, within};

/// The microseconds in which writes happen: the engine reads its clock several times for one.
const APART: std::ops::Range<u64> = 60_000..940_000;

/// A clock that runs as the machine's, some seconds off, and can be set.
struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    fn new() -> Clock {
        let clock = Clock {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(clock.path("clock"), [0; 8]).unwrap();
        std::fs::write(clock.path("clock.c"), include_str!("clock.c")).unwrap();
        let built = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .args([clock.path("clock.so"), clock.path("clock.c")])
            .status();
        assert!(built.unwrap().success());
        clock
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets the clock of every process under it at once.
    fn set(&self, off: i64) {
        let file = std::fs::File::options().write(true).open(self.path("clock")).unwrap();
        file.write_all_at(&off.to_ne_bytes(), 0).unwrap();
    }

    /// Returns the variables that put a process under it.
    fn environment(&self) -> Environment {
        let path = |name: &str| self.path(name).display().to_string();
        vec![("LD_PRELOAD", path("clock.so")), ("FAKE_CLOCK", path("clock"))]
    }
}

/// Writes what [`crate::writer::Writer`] writes, and notes it by the engine's own clock.
struct Witness {
    stop: Arc<AtomicBool>,
    /// No write is under way as long as this is held.
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    diary: Diary,
    /// Seconds at whose turn something was written.
    unsure: BTreeSet<i64>,
}

impl Witness {
    fn start(socket: PathBuf) -> Witness {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let thread = {
            let (stop, seen) = (stop.clone(), seen.clone());
            let client = redis::Client::open(format!("unix://{}", socket.display())).unwrap();
            std::thread::spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A waiting thread has to get its turn too.
                    std::thread::sleep(Duration::from_millis(4));
                    let mut seen = seen.lock().unwrap();
                    // The engine may have restarted.
                    let mut there = client.get_connection().unwrap();
                    let (before, micro): (i64, u64) = redis::cmd("TIME").query(&mut there).unwrap();
                    if !APART.contains(&micro) {
                        continue;
                    }
                    number += 1;
                    let mut pipe = transaction(number);
                    pipe.cmd("TIME");
                    let answer: (Value, Value, Value, (i64, u64)) = pipe.query(&mut there).unwrap();
                    let second = answer.3.0;
                    if second != before {
                        seen.unsure.extend(before..second);
                    }
                    let last = seen.diary.keys().max().copied().unwrap_or(0);
                    seen.diary.insert(second.max(last), number);
                }
            })
        };
        Witness { stop, seen, thread }
    }

    /// No write happens while this is held.
    fn pause(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Restores each second; fails on a wrong one. Returns the exact ones and the refused ones.
async fn restored(
    world: &World,
    catalogue: &Catalogue,
    seconds: std::ops::RangeInclusive<i64>,
    seen: &Seen,
) -> (Vec<i64>, Vec<i64>) {
    let (mut exact, mut refused) = (Vec::new(), Vec::new());
    let (from, end) = (*seconds.start(), *seconds.end());
    for second in seconds.filter(|second| !seen.unsure.contains(second)) {
        let wish = Wish::At(Timestamp::from_second(second).unwrap());
        if restore::choose(catalogue, &wish).is_err() {
            refused.push(second);
            continue;
        }
        let (_folder, engine) = world.restored(catalogue, &wish).await.unwrap();
        let number = at_end_of(&seen.diary, second);
        let wrong = differs(&mut engine.connection(), number).await;
        engine.stop().await;
        assert_eq!(
            wrong,
            None,
            "second {second}, {} after {from}, {} before {end}",
            second - from,
            end - second
        );
        exact.push(second);
    }
    (exact, refused)
}

/// `of_engine`: more of the engine's environment.
async fn begin(clock: &Clock, of_engine: Environment) -> (World, Witness) {
    let environments = [[clock.environment(), of_engine].concat(), clock.environment()];
    let mut world = World::under(1, "", environments).await;
    world.start_agent();
    within(Duration::from_secs(60), "the first base is in the bucket", || {
        world.path("agent/last.json").exists()
    });
    // The second of the base has to be over.
    sleep(2);
    let witness = Witness::start(world.path("s"));
    (world, witness)
}

/// Ends the writing and restores every second of it.
async fn all_of_it(world: &World, witness: Witness) -> (Vec<i64>, Vec<i64>) {
    let seen = witness.stop();
    let (first, last) = (*seen.diary.keys().min().unwrap(), *seen.diary.keys().max().unwrap());
    within(Duration::from_secs(60), "all of it is shipped", || {
        world.shipped_until() > last
    });
    let catalogue = world.catalogue().await;
    assert_eq!(catalogue.findings, []);
    let (exact, refused) = restored(world, &catalogue, first - 1..=last, &seen).await;
    println!(
        "{} seconds exact, {refused:?} refused, of {first} to {last}",
        exact.len()
    );
    let beyond = Wish::At(Timestamp::from_second(last + 1000).unwrap());
    assert!(restore::choose(&catalogue, &beyond).is_err());
    (exact, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ahead_leaves_seconds_without_writes_and_no_wrong_one() {
    let clock = Clock::new();
    let (mut world, witness) = begin(&clock, Vec::new()).await;
    for (off, base) in [(5, false), (10, true), (15, false)] {
        sleep(3);
        {
            let _still = witness.pause();
            clock.set(off);
        }
        sleep(1);
        if base {
            let made = world.base();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        } else {
            world.kill_agent();
            world.start_agent();
        }
    }
    sleep(4);
    let (exact, refused) = all_of_it(&world, witness).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert!(exact.len() > 20, "{exact:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_stands_still_until_time_has_caught_up() {
    let clock = Clock::new();
    let (mut world, witness) = begin(&clock, Vec::new()).await;
    sleep(4);
    for (round, off) in [-5, -10, -15, -20].into_iter().enumerate() {
        if round == 2 {
            // By the clock, the timeline after the step is earlier than the one before it.
            let _still = witness.pause();
            world.kill_engine();
            world.start_engine();
            let before = world.status()["timeline"].clone();
            until("another timeline begins", || world.status()["timeline"] != before);
        }
        {
            let _still = witness.pause();
            clock.set(off);
        }
        std::thread::sleep(Duration::from_millis(1200));
        // This happens in the repeated seconds.
        match round {
            0 => {
                let made = world.base();
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            }
            1 => {
                world.kill_agent();
                world.start_agent();
            }
            2 => {
                let _still = witness.pause();
                world.kill_engine();
                world.start_engine();
            }
            _ => assert!(world.ask(&["BGREWRITEAOF"]).starts_with("Background")),
        }
        sleep(7);
    }
    let (exact, refused) = all_of_it(&world, witness).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert!(exact.len() > 12, "{exact:?}");
}

/// The disk holds writes back while the clock jumps ahead: an agent that trusts the clock covers
/// seconds too early. The engine looks for held-back writes once a second, or at a command.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_while_the_disk_is_slow_covers_no_second_early() {
    let clock = Clock::new();
    let slow = vec![("SLOW_SYNC_US", "1800000".into())];
    let (world, witness) = begin(&clock, slow).await;
    assert_eq!(world.ask(&["CONFIG", "SET", "hz", "1"]), "OK");
    let first = *witness.pause().diary.keys().max().unwrap_or(&0);
    let mut said = Vec::new();
    for off in [5, 10, 15, 20] {
        sleep(3);
        until_held_back(&world);
        {
            let _still = witness.pause();
            clock.set(off);
            std::thread::sleep(Duration::from_millis(600));
        }
        for _ in 0..4 {
            let catalogue = world.catalogue().await;
            let covered = catalogue.covered().last().unwrap().until.as_second();
            said.push((covered, catalogue));
            std::thread::sleep(Duration::from_millis(250));
        }
    }
    sleep(3);
    let seen = witness.stop();
    assert!(said.iter().any(|(covered, _)| *covered > first), "nothing was claimed");
    let mut exact = 0;
    for (covered, catalogue) in &said {
        exact += restored(&world, catalogue, covered - 4..=*covered, &seen).await.0.len();
    }
    println!("{exact} restores exact");
    assert!(exact > 20, "{exact}");
}

/// Waits until the engine has just written what it held back, and holds back the next.
fn until_held_back(world: &World) {
    let length = || std::fs::metadata(world.increment()).unwrap().len();
    let (mut last, mut since) = (length(), Instant::now());
    until("the engine holds writes back", || {
        let now = length();
        let quiet = since.elapsed();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        now != 0 && quiet > Duration::from_millis(900) && since.elapsed() < Duration::from_millis(50)
    });
    std::thread::sleep(Duration::from_millis(120));
}
