//! A replica whose master comes up empty takes that over within a second: what it had before is kept, and loads.

use crate::world::{agent, kill, spawn, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// All keys with their values.
type Data = BTreeMap<String, String>;

/// A master and its replica on loopback, and the agent beside the replica. No bucket.
struct Pair {
    folder: tempfile::TempDir,
    port: u16,
    master: Option<Child>,
    replica: Option<Child>,
    agent: Option<Child>,
}

const COMMON: &str = "bind 127.0.0.1\nsave \"\"\nappendfilename appendonly.aof\nenable-debug-command yes\nrepl-diskless-sync-delay 0\nrdbcompression no\n";

impl Pair {
    fn new(more: &str) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut pair = Pair {
            folder,
            port,
            master: None,
            replica: None,
            agent: None,
        };
        let path = |name: &str| pair.path(name).display().to_string();
        std::fs::create_dir(path("data")).unwrap();
        std::fs::write(
            path("users.acl"),
            "user default on nopass ~* &* +@all\nuser backup on >secret -@all +ping +info\n",
        )
        .unwrap();
        std::fs::write(path("password"), "secret").unwrap();
        std::fs::write(
            path("replica.conf"),
            format!(
                "{COMMON}port 0\nunixsocket {}\ndir {}\nappendonly yes\nappendfsync everysec\naof-timestamp-enabled yes\nauto-aof-rewrite-percentage 0\n\
                 aclfile {}\nreplicaof 127.0.0.1 {port}\n",
                path("s"),
                path("data"),
                path("users.acl")
            ),
        )
        .unwrap();
        std::fs::write(
            path("agent.env"),
            format!(
                "INFRA_LABEL=replica\nINFRA_SHIPS=no\nINFRA_BUCKET_URL=http://127.0.0.1:1/none\nINFRA_REGION=us-east-1\nINFRA_PREFIX=backups/x\nINFRA_DATA={}\n\
                 INFRA_SOCKET={}\nINFRA_CONFIG={}\nINFRA_USERS={}\nINFRA_RDB_CHECK=redis-check-rdb\nINFRA_PASSWORD_FILE={}\nINFRA_AGENT_HOME={}\n{more}",
                path("data"),
                path("s"),
                path("replica.conf"),
                path("users.acl"),
                path("password"),
                path("agent"),
            ),
        )
        .unwrap();
        pair.start_master();
        pair.start_replica();
        pair.until_linked();
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Another run of it, without data.
    fn start_master(&mut self) {
        let conf = self.path("master.conf");
        let (socket, folder) = (self.path("m"), self.folder.path());
        let text = format!(
            "{COMMON}port {}\nunixsocket {}\ndir {}\nappendonly no\n",
            self.port,
            socket.display(),
            folder.display()
        );
        std::fs::write(&conf, text).unwrap();
        self.master = Some(spawn(Command::new("redis-server").arg(conf), &self.path("master.out")));
        until("the master answers", || self.ask("m", &["PING"]) == "PONG");
    }

    fn start_replica(&mut self) {
        self.replica = Some(spawn(
            Command::new("redis-server").arg(self.path("replica.conf")),
            &self.path("replica.out"),
        ));
    }

    fn start_agent(&mut self) {
        self.agent = Some(spawn(
            Command::new(agent())
                .arg("--settings")
                .arg(self.path("agent.env"))
                .arg("run"),
            &self.path("agent.out"),
        ));
    }

    fn ask(&self, socket: &str, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(self.path(socket))
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    fn info(&self, name: &str) -> String {
        let text = self.ask("s", &["INFO", "everything"]);
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        found.unwrap_or_default().trim().to_string()
    }

    /// The replica has all that the master has, and its log is its own again.
    fn until_linked(&self) {
        until("the replica has it all", || {
            let of_master = self.ask("m", &["INFO", "replication"]);
            let offset = of_master
                .lines()
                .find_map(|line| line.strip_prefix("master_repl_offset:"))
                .map(|text| text.trim().to_string());
            self.info("master_link_status") == "up"
                && Some(self.info("slave_repl_offset")) == offset
                && of_master.contains(&self.info("master_replid"))
                && self.info("aof_rewrite_in_progress") == "0"
                && self.info("aof_rewrite_scheduled") == "0"
        });
    }

    /// Writes keys on the master, as one would see them again.
    fn write(&self, numbers: std::ops::Range<u64>) {
        let mut connection = connect(&self.path("m"));
        let mut pipe = redis::pipe();
        for number in numbers {
            pipe.set(format!("key:{number}"), value(number)).ignore();
        }
        pipe.query::<()>(&mut connection).unwrap();
    }

    fn rewrite(&self) {
        assert!(self.ask("s", &["BGREWRITEAOF"]).starts_with("Background"));
        self.until_linked();
    }

    /// The master's data stays, and every replica has to take it anew.
    fn full_copy(&self) {
        let before = self.current_engine_files();
        assert_eq!(self.ask("m", &["DEBUG", "CHANGE-REPL-ID"]), "OK");
        self.ask("m", &["CLIENT", "KILL", "TYPE", "replica"]);
        until("the log begins anew", || self.current_engine_files() != before);
        self.until_linked();
    }

    /// Inodes of what the engine lists.
    fn current_engine_files(&self) -> Vec<u64> {
        files(&self.path("data/appendonlydir"))
    }

    fn until_followed(&self) {
        until("the agent has linked what the engine lists", || {
            let live = self.current_engine_files();
            !live.is_empty() && files(&self.path("agent/kept/current/appendonlydir")) == live
        });
    }

    /// What is in the folder of kept generations.
    fn kept(&self) -> Vec<String> {
        names(&self.path("agent/kept"))
    }

    /// The newest, while an older one is on its way out.
    fn last(&self) -> Option<PathBuf> {
        let kept = self.kept();
        let last = kept.iter().rfind(|name| name.starts_with("last-"))?;
        Some(self.path("agent/kept").join(last))
    }

    fn status(&self) -> Value {
        let text = std::fs::read(self.path("agent/status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.path("agent.out")).unwrap_or_default()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "--- the agent\n{}\n--- kept: {:?}\n{}",
                self.said(),
                self.kept(),
                self.status()
            );
        }
        for child in [&mut self.agent, &mut self.replica, &mut self.master] {
            kill(child);
        }
    }
}

fn value(number: u64) -> String {
    format!("the value of {number}, with some more to it")
}

/// Keys as [`Pair::write`] writes them.
fn keys(numbers: std::ops::Range<u64>) -> Data {
    numbers.map(|number| (format!("key:{number}"), value(number))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Inodes of what a folder's manifest lists.
fn files(folder: &Path) -> Vec<u64> {
    let manifest = std::fs::read_to_string(folder.join("appendonly.aof.manifest")).unwrap_or_default();
    let listed = manifest.lines().filter(|line| !line.ends_with("type h"));
    let inode = |line: &str| Some(std::fs::metadata(folder.join(line.split(' ').nth(1)?)).ok()?.ino());
    listed.filter_map(inode).collect()
}

fn connect(socket: &Path) -> redis::Connection {
    let client = redis::Client::open(format!("unix://{}", socket.display())).unwrap();
    client.get_connection().unwrap()
}

/// What an engine makes of a folder that holds an `appendonlydir`, as it is; a copy, since an engine writes on.
fn load(folder: &Path) -> Data {
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(folder.join("appendonlydir"))
        .arg(copy.path())
        .status();
    assert!(copied.unwrap().success());
    let socket = copy.path().join("s");
    let mut engine = Some(spawn(
        Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfilename",
                "appendonly.aof",
            ])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(copy.path()),
        &copy.path().join("out"),
    ));
    let loaded = || {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(&socket)
            .arg("PING")
            .output()
            .unwrap();
        output.stdout.starts_with(b"PONG")
    };
    until("an engine loads it", loaded);
    let mut connection = connect(&socket);
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let value = |name: &String| redis::cmd("GET").arg(name).query(&mut connection).unwrap();
    let values: Vec<String> = names.iter().map(value).collect();
    kill(&mut engine);
    names.into_iter().zip(values).collect()
}

#[test]
fn a_master_that_comes_up_empty_does_not_take_the_last_copy_with_it() {
    let mut pair = Pair::new("");
    pair.write(0..500);
    pair.start_agent();
    pair.until_followed();
    pair.rewrite();
    // In the increment, also what came after the links were made.
    pair.until_followed();
    pair.write(300..700);
    pair.until_linked();
    until("one set is left", || pair.kept() == ["current"]);
    assert_eq!(pair.status()["kept"], Value::Null);

    let run_id = pair.info("master_replid");
    kill(&mut pair.master);
    pair.start_master();
    until("the replica is as empty as its master", || {
        pair.ask("s", &["DBSIZE"]) == "0"
    });
    pair.until_linked();
    assert_ne!(pair.info("master_replid"), run_id);
    until("its own log has nothing left", || load(&pair.path("data")).is_empty());

    until("it is kept and told", || pair.status()["kept"].is_object());
    let last = pair.last().unwrap();
    assert_eq!(load(&last), keys(0..700));
    let told = pair.status()["kept"].clone();
    assert_eq!(told["folder"], last.display().to_string());
    assert!(told["bytes"].as_u64().unwrap() > 30_000, "{told}");
    assert!(pair.said().contains("a full copy replaced"), "{}", pair.said());

    // It is started again and again: once as empty as before, once with next to nothing.
    pair.until_followed();
    let again = |pair: &mut Pair| {
        let before = pair.current_engine_files();
        kill(&mut pair.master);
        pair.start_master();
        until("the log begins anew", || pair.current_engine_files() != before);
        pair.until_linked();
        pair.until_followed();
    };
    again(&mut pair);
    pair.write(0..5);
    pair.until_linked();
    again(&mut pair);
    assert!(pair.said().contains("is kept on instead"), "{}", pair.said());
    assert_eq!(pair.last().as_ref(), Some(&last));
    assert_eq!(load(&last), keys(0..700));
}

#[test]
fn ordinary_rewrites_leave_one_set_that_costs_nothing() {
    let mut pair = Pair::new("");
    pair.start_agent();
    for round in 0..8 {
        pair.write(round * 50..(round + 1) * 50);
        pair.rewrite();
        // Two in a row come faster than the agent looks.
        if round % 2 == 0 {
            pair.rewrite();
        }
        pair.until_followed();
        // What it replaced is on its way out for a moment.
        until("one set is left", || pair.kept() == ["current"]);
        let folder = pair.path("agent/kept/current/appendonlydir");
        for name in names(&folder).iter().filter(|name| !name.ends_with("manifest")) {
            let links = std::fs::metadata(folder.join(name)).unwrap().nlink();
            assert!(links > 1, "{name} is a copy, or the engine has removed it");
        }
    }
    pair.until_linked();
    until("all of it can be loaded", || {
        load(&pair.path("agent/kept/current")) == keys(0..400)
    });
    assert_eq!(pair.status()["kept"], Value::Null);
}

#[test]
fn an_agent_that_is_killed_at_any_time_leaves_nothing_wrong() {
    let mut pair = Pair::new("");
    pair.write(0..100);
    pair.until_linked();
    let mut written = 100;
    for round in 0..24 {
        pair.start_agent();
        if round % 3 == 0 {
            pair.until_followed();
        }
        pair.write(written..written + 10);
        written += 10;
        let asked = match round % 2 {
            0 => {
                pair.ask("m", &["DEBUG", "CHANGE-REPL-ID"]);
                pair.ask("m", &["CLIENT", "KILL", "TYPE", "replica"])
            }
            _ => pair.ask("s", &["BGREWRITEAOF"]),
        };
        assert!(!asked.is_empty());
        std::thread::sleep(Duration::from_millis(round * 53 % 700));
        kill(&mut pair.agent);
        pair.until_linked();
        // Whatever looks like a generation is one.
        for name in pair
            .kept()
            .iter()
            .filter(|name| !name.starts_with("gone-") && *name != "new")
        {
            let found = load(&pair.path("agent/kept").join(name));
            let count = u64::try_from(found.len()).unwrap();
            assert!(
                count >= 100 && found == keys(0..count),
                "round {round}, {name}: {count} keys, {:?}",
                found.keys().last()
            );
        }
    }
    // Nothing of all that is in the way.
    pair.start_agent();
    pair.until_followed();
    until("nothing is half done", || {
        let kept = pair.kept();
        kept.len() <= 2 && kept.iter().all(|name| name == "current" || name.starts_with("last-"))
    });
    let before = pair.last();
    pair.full_copy();
    until("the newest is kept", || {
        pair.last().is_some_and(|last| Some(last) != before)
    });
    assert_eq!(load(&pair.last().unwrap()), keys(0..written));
    pair.until_followed();
    until("only two are left", || pair.kept().len() == 2);
}

#[test]
fn a_first_copy_replaces_nothing_that_is_kept() {
    let mut pair = Pair::new("");
    kill(&mut pair.replica);
    std::fs::remove_dir_all(pair.path("data/appendonlydir")).unwrap();
    kill(&mut pair.master);
    pair.start_replica();
    until("it answers", || pair.ask("s", &["PING"]) == "PONG");
    pair.start_agent();
    pair.until_followed();
    let before = pair.current_engine_files();
    pair.start_master();
    until("the log begins anew", || pair.current_engine_files() != before);
    pair.until_linked();
    pair.until_followed();
    until("one set is left", || pair.kept() == ["current"]);
}

#[test]
fn what_the_disk_has_no_room_for_is_let_go_and_told() {
    // No disk has that much free.
    let mut pair = Pair::new("INFRA_KEEP_FREE_PERCENT=101\n");
    pair.write(0..100);
    pair.start_agent();
    pair.until_linked();
    pair.until_followed();
    pair.full_copy();
    until("it is told", || {
        pair.status()["troubles"].to_string().contains("was removed early")
    });
    pair.until_followed();
    until("one set is left", || pair.kept() == ["current"]);
    assert_eq!(pair.status()["kept"], Value::Null);
}
