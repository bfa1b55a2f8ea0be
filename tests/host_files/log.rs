//! A host whose log is not in force: after a full copy, until a rewrite ends, the engine writes to
//! a file that a restart does not read. A master that crashes then would return with its old data.

use super::host::{Host, settings};
use infra::effects::host::{AppAccess, Position, Upstream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(15);
/// Microseconds for each key that a child writes: with [`KEYS`] a rewrite takes about 400 ms.
const SLOW: &str = "2000";
/// The same, for about 2 s: a busy computer looks at it before it has ended.
const SLOWER: &str = "10000";
const KEYS: usize = 200;
/// Promotes as soon as the host allows and has the source's last write, as the gate would.
const PROMOTING: &str = r#"
until [ "$(redis-cli -s "$1" --user admin --no-auth-warning GET round 2>/dev/null)" = "$2" ]; do sleep 0.002; done
while ! bash "$0" promote >/dev/null 2>&1; do sleep 0.002; done"#;

/// A hosted Redis that the host follows.
pub struct Source {
    engine: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Source {
    pub fn start() -> Source {
        let folder = tempfile::tempdir().unwrap();
        let port = testkit::free_port();
        let engine = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--enable-debug-command",
                "local",
                "--repl-diskless-sync-delay",
                "0",
            ])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let source = Source {
            engine,
            port,
            _folder: folder,
        };
        let begun = Instant::now();
        while source.ask(&["PING"]) != "PONG" {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in 0..KEYS {
            source.ask(&["SET", &format!("filler:{key}"), "1"]);
        }
        source
    }

    pub fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

/// A host that follows the source, with its log in force.
pub fn follower(source: &Source) -> Host {
    let position = Position::FollowsSource(Upstream {
        host: "127.0.0.1".into(),
        port: source.port,
        user: None,
        password: None,
        trust: None,
        seen_as: None,
    });
    let mut host = Host::with(&settings(position, AppAccess::Closed).describe().unwrap());
    host.start();
    until("the host to follow", || {
        host.ask(&["INFO", "replication"]).contains("master_link_status:up")
    });
    until("its log to be in force", || host.log() == "log in-force\n");
    host
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Host {
    fn log(&self) -> String {
        self.role(&["log"]).1
    }

    fn unfinished(&self) -> bool {
        self.path("data/appendonlydir/temp-appendonly.aof.incr").exists()
    }

    /// Starts the engine as its unit does: only if the guard lets it. Returns whether it did.
    fn start_guarded(&mut self) -> bool {
        if !self.guard().0 {
            return false;
        }
        self.start();
        until("the engine to load its data", || {
            !self.ask(&["INFO", "persistence"]).contains("loading:1")
        });
        true
    }

    /// Follows anew: the promotion's hold has lapsed, and the source continued.
    fn follow_anew(&mut self, source: &Source, delay: &str) {
        source.ask(&["SET", "round", "after the hold"]);
        self.ask(&["CONFIG", "SET", "rdb-key-save-delay", delay]);
        let (done, text) = self.role(&["follow"]);
        assert!(done, "{text}");
    }

    fn promote(&self) -> (bool, String) {
        let (prepared, text) = self.role(&["prepare"]);
        assert!(prepared, "{text}");
        self.role(&["promote"])
    }
}

#[test]
fn a_promotion_is_refused_until_the_rewrite_after_a_full_copy_has_ended() {
    let source = Source::start();
    let mut host = follower(&source);
    assert!(host.promote().0);
    host.follow_anew(&source, SLOWER);
    until("the copy to be written anew", || host.unfinished());
    assert_eq!(host.log(), "log waiting\n");
    let config = host.text("etc/redis/redis.conf");
    let (done, text) = host.promote();
    assert!(!done && text.contains("the append-only log is not in force"), "{text}");
    assert!(host.ask(&["ROLE"]).starts_with("slave"));
    assert_eq!(
        host.text("etc/redis/redis.conf"),
        config,
        "the role is in the file already"
    );
    until("the rewrite to end", || host.log() == "log in-force\n");
    assert!(!host.unfinished());
    assert!(host.promote().0);
}

#[test]
fn a_plain_rewrite_leaves_the_log_in_force() {
    let source = Source::start();
    let host = follower(&source);
    host.ask(&["CONFIG", "SET", "rdb-key-save-delay", SLOWER]);
    host.ask(&["BGREWRITEAOF"]);
    assert!(host.ask(&["INFO", "persistence"]).contains("aof_rewrite_in_progress:1"));
    assert_eq!(host.log(), "log in-force\n");
    assert!(host.promote().0);
}

#[test]
fn a_rewrite_that_fails_leaves_the_log_waiting() {
    let source = Source::start();
    let mut host = follower(&source);
    assert!(host.promote().0);
    host.follow_anew(&source, SLOWER);
    until("the copy to be written anew", || host.unfinished());
    let child = || {
        let files = std::fs::read_dir(host.path("data")).unwrap();
        files
            .filter_map(|file| file.unwrap().file_name().into_string().ok())
            .find_map(|name| {
                let name = name.strip_prefix("temp-rewriteaof-")?;
                name.trim_start_matches("bg-").strip_suffix(".aof").map(String::from)
            })
    };
    let mut killed = Vec::new();
    while killed.len() < 2 {
        // A child that has ended leaves its file until the engine notices.
        until("another child to write", || {
            child().is_some_and(|pid| !killed.contains(&pid))
        });
        let Some(pid) = child() else { continue };
        // Kills it as the kernel does when memory runs out.
        if Command::new("kill").args(["-KILL", &pid]).status().unwrap().success() {
            killed.push(pid);
        }
        for _ in 0..10 {
            assert_eq!(host.log(), "log waiting\n");
        }
    }
    until("the engine to notice", || {
        host.ask(&["INFO", "persistence"])
            .contains("aof_last_bgrewrite_status:err")
    });
    assert_eq!(host.log(), "log waiting\n");
}

#[test]
fn a_master_whose_log_was_not_in_force_is_not_started_and_a_follower_is() {
    let source = Source::start();
    let mut host = follower(&source);
    assert!(host.promote().0);
    host.follow_anew(&source, SLOWER);
    until("the copy to be written anew", || host.unfinished());
    // An earlier version of the script did not refuse this.
    assert!(host.role(&["prepare"]).0);
    let following = host.text("etc/redis/redis.conf");
    let promoted = host.text("etc/redis/redis.conf.promoted");
    std::fs::write(host.path("etc/redis/redis.conf"), promoted).unwrap();
    host.crash();
    assert!(host.unfinished());
    let (allowed, text) = host.guard();
    assert!(!allowed && text.contains("was not in force"), "{text}");
    assert!(host.text("refused").contains("last full copy"));
    std::fs::write(host.path("etc/redis/redis.conf"), following).unwrap();
    assert!(host.start_guarded(), "a follower copies again, so it may start");
    until("the copy to come again", || {
        host.ask(&["GET", "round"]) == "after the hold"
    });
}

/// After a lapsed hold the host follows anew, and `promote` is run again. Engine and script are
/// killed at any moment of that: a host that comes back as a master has all that the source had.
#[test]
fn a_promotion_after_a_lapsed_hold_that_is_killed_at_any_moment_brings_no_old_data_back() {
    let begun = Instant::now();
    let source = Source::start();
    let (mut masters, mut followers, mut refused) = (0, 0, 0);
    for round in 0..16_u64 {
        let mut host = follower(&source);
        // Every write is synced before the next: what a busy disk postpones is another question.
        host.ask(&["CONFIG", "SET", "appendfsync", "always"]);
        assert!(host.promote().0);
        host.follow_anew(&source, SLOW);
        let last = format!("round {round}");
        source.ask(&["SET", "round", &last]);
        let prepared = host.role(&["prepare"]).0;
        // The promotion takes a few milliseconds at the end, and waits for the copy before that.
        let mut promoting = Command::new("bash")
            .args(["-c", PROMOTING])
            .arg(host.path("bin/infra-role"))
            .arg(host.path("redis-server.sock"))
            .arg(&last)
            .env("REDISCLI_AUTH", "admin-password")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(40 * round));
        } else {
            // Right around the promotion.
            until("the promotion", || {
                host.text("etc/redis/redis.conf").contains("\n# role: master")
            });
            std::thread::sleep(Duration::from_millis(round / 2));
        }
        // The script and all that it runs end with the engine, as on a host that loses its power.
        let group = nix::unistd::Pid::from_raw(i32::try_from(promoting.id()).unwrap());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        host.crash();
        let _ = promoting.wait();
        let is_master = host.text("etc/redis/redis.conf").contains("\n# role: master");
        if !host.start_guarded() {
            assert!(is_master, "a follower was not started");
            refused += 1;
            continue;
        }
        if is_master {
            assert!(prepared);
            assert_eq!(
                host.ask(&["GET", "round"]),
                last,
                "old data came back as a master, round {round}"
            );
            assert_eq!(host.ask(&["DBSIZE"]), source.ask(&["DBSIZE"]));
            masters += 1;
        } else {
            until("the copy to come again", || host.ask(&["GET", "round"]) == last);
            followers += 1;
        }
    }
    println!(
        "{masters} masters, {followers} followers, {refused} refused in {:?}",
        begun.elapsed()
    );
    assert!(masters > 0 && followers > 0);
}
