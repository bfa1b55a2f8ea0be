//! Connections that break, processes that are killed, and a sweep that somebody waits for.

use super::rig::{Copying, QUICK, RIGHTS, Redis, places, until};
use infra_agent::copy::{self, Request};
use sandbox::addon::Engine;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts the program as a host does: the engine's socket is its standard input.
pub fn program(port: u16, target: &Redis, folder: &Path, rate: u64) -> Child {
    let (home, control, status) = places(folder);
    fs::write(folder.join("source"), "").unwrap();
    fs::write(folder.join("master"), "copy\ncopy-secret").unwrap();
    let engine = UnixStream::connect(target.socket()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_infra-agent"))
        .args(["copy", "--host", "127.0.0.1", "--port", &port.to_string()])
        .args(["--rate", &rate.to_string(), "--logins"])
        .arg(folder)
        .arg("--home")
        .arg(home)
        .arg("--control")
        .arg(control)
        .arg("--status")
        .arg(status)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(engine)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_copy_that_is_killed_again_and_again_goes_on_where_it_was() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    target.script(&format!("ACL SETUSER copy on >copy-secret {RIGHTS}"));
    source.fill(60_000, 100);
    let folder = tempfile::tempdir().unwrap();
    let journal = places(folder.path()).0.join("copy.json");
    let place = || fs::read(&journal).unwrap_or_default();
    let mut kills = 0;
    // A sweep takes about seven seconds at this rate, and no process lives for longer than its first note.
    loop {
        let before = place();
        let mut child = program(source.port, &target, folder.path(), 1 << 20);
        until("the place is noted, or all keys are there", || {
            place() != before || target.keys() == 60_000
        });
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 40, "it begins again and again: {} keys", target.keys());
        if target.keys() == 60_000 {
            break;
        }
    }
    assert!(kills > 1, "it was never killed in the middle");
    let mut child = program(source.port, &target, folder.path(), QUICK);
    let control = places(folder.path()).1;
    until("the copy answers", || {
        copy::ask(&control, Request::default()).is_ok_and(|report| report.keys == 60_000)
    });
    assert_eq!(target.digest(), source.digest());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_new_copy_ends_what_an_older_one_left_at_the_master() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.script("SET a new");
    target.script(&format!("ACL SETUSER copy on >copy-secret {RIGHTS}"));
    let url = format!("redis://copy:copy-secret@127.0.0.1:{}", target.port);
    let mut stale = redis::Client::open(url).unwrap().get_connection().unwrap();
    redis::cmd("PING").exec(&mut stale).unwrap();
    let copying = Copying::start(&source, &target);
    copying.sweep();
    assert!(
        redis::cmd("PING").exec(&mut stale).is_err(),
        "the older connection stands"
    );
}

#[test]
fn a_copy_whose_access_was_shut_writes_nothing_more() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.script("SET a 1");
    let copying = Copying::start(&source, &target);
    copying.sweep();
    target.script("ACL SETUSER copy off\nCLIENT KILL USER copy");
    source.script("SET a 2");
    assert!(copying.ask(Request::default()).is_err());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(target.text(&["GET", "a"]), "1");
    until("the status says why", || {
        copying
            .status()
            .trouble
            .is_some_and(|why| why.contains("log in to the master"))
    });
    target.script("ACL SETUSER copy on");
    until("the copy goes on", || target.text(&["GET", "a"]) == "2");
}

#[test]
fn a_sweep_that_somebody_waits_for_is_not_gentle() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.fill(20_000, 100);
    // At this rate a sweep takes more than three minutes.
    let copying = Copying::with(&source, &target, 10 << 10, None);
    std::thread::sleep(Duration::from_millis(300));
    assert!(target.keys() < 10_000, "the first sweep is not gentle");
    let begun = Instant::now();
    let report = copying.sweep();
    assert_eq!(report.keys, 20_000, "{report:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{report:?}");
    assert_eq!(target.digest(), source.digest());
}

#[test]
fn nothing_is_written_for_as_long_as_it_was_asked() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.script("SET a 1");
    let copying = Copying::start(&source, &target);
    let held = Request {
        hold: Duration::from_secs(3),
        ..Request::default()
    };
    copying.ask(held).unwrap();
    source.script("SET a 2");
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(target.text(&["GET", "a"]), "1");
    until("the copy goes on by itself", || target.text(&["GET", "a"]) == "2");
}

#[test]
fn a_master_that_may_evict_keys_is_not_copied_to() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.fill(100, 10);
    target.script("CONFIG SET maxmemory-policy allkeys-lru\nCONFIG SET maxmemory 20mb");
    let copying = Copying::start(&source, &target);
    let error = copying.ask(Request::default()).unwrap_err();
    assert!(format!("{error:#}").contains("may evict"), "{error:#}");
    target.script("CONFIG SET maxmemory 0");
    until("the copy goes on", || target.keys() == 100);
}

#[test]
fn a_full_master_stops_the_copy_and_says_so() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.fill(5000, 1000);
    let copying = Copying::with(&source, &target, QUICK, Some(1));
    let error = copying.ask(Request::default()).unwrap_err();
    assert!(format!("{error:#}").contains("may use 0 MB"), "{error:#}");
    assert_eq!(target.keys(), 0);
}
