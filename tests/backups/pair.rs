//! A master and its replica on loopback, and the agent beside the replica. No bucket, no cloud.

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use testkit::backups::agent;
use testkit::processes::{kill, spawn};
use testkit::waiting::until;

/// All keys with their values.
pub type Data = BTreeMap<String, String>;

pub struct Pair {
    folder: tempfile::TempDir,
    port: u16,
    pub master: Option<Child>,
    pub replica: Option<Child>,
    pub agent: Option<Child>,
}

const COMMON: &str = "bind 127.0.0.1\nsave \"\"\nappendfilename appendonly.aof\nenable-debug-command yes\nrepl-diskless-sync-delay 0\nrdbcompression no\n";

impl Pair {
    pub fn new(more: &str) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let port = testkit::free_port();
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts another run of the master, without data.
    pub fn start_master(&mut self) {
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

    pub fn start_replica(&mut self) {
        self.replica = Some(spawn(
            Command::new("redis-server").arg(self.path("replica.conf")),
            &self.path("replica.out"),
        ));
    }

    pub fn start_agent(&mut self) {
        self.agent = Some(spawn(
            Command::new(agent())
                .arg("--settings")
                .arg(self.path("agent.env"))
                .arg("run"),
            &self.path("agent.out"),
        ));
    }

    pub fn ask(&self, socket: &str, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(self.path(socket))
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    pub fn info(&self, name: &str) -> String {
        let text = self.ask("s", &["INFO", "everything"]);
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        found.unwrap_or_default().trim().to_string()
    }

    /// Waits until the replica has all that the master has, and its log is in force again.
    pub fn until_linked(&self) {
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

    /// Writes keys on the master; [`keys`] returns the same.
    pub fn write(&self, numbers: std::ops::Range<u64>) {
        let mut connection = connect(&self.path("m"));
        let mut pipe = redis::pipe();
        for number in numbers {
            pipe.set(format!("key:{number}"), value(number)).ignore();
        }
        pipe.query::<()>(&mut connection).unwrap();
    }

    pub fn rewrite(&self) {
        assert!(self.ask("s", &["BGREWRITEAOF"]).starts_with("Background"));
        self.until_linked();
    }

    /// Makes every replica copy the master's data anew.
    pub fn full_copy(&self) {
        let before = self.current_engine_files();
        assert_eq!(self.ask("m", &["DEBUG", "CHANGE-REPL-ID"]), "OK");
        self.ask("m", &["CLIENT", "KILL", "TYPE", "replica"]);
        until("the log begins anew", || self.current_engine_files() != before);
        self.until_linked();
    }

    /// Returns the inodes of what the engine lists.
    pub fn current_engine_files(&self) -> Vec<u64> {
        files(&self.path("data/appendonlydir"))
    }

    pub fn until_followed(&self) {
        until("the agent has linked what the engine lists", || {
            let live = self.current_engine_files();
            !live.is_empty() && files(&self.path("agent/kept/current/appendonlydir")) == live
        });
    }

    /// Returns the names in the folder of kept AOF sets.
    pub fn kept(&self) -> Vec<String> {
        names(&self.path("agent/kept"))
    }

    /// Returns the newest kept set; an older one may still be there.
    pub fn last(&self) -> Option<PathBuf> {
        let kept = self.kept();
        let last = kept.iter().rfind(|name| name.starts_with("last-"))?;
        Some(self.path("agent/kept").join(last))
    }

    pub fn status(&self) -> Value {
        let text = std::fs::read(self.path("agent/status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub fn said(&self) -> String {
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

/// Returns keys as [`Pair::write`] writes them.
pub fn keys(numbers: std::ops::Range<u64>) -> Data {
    numbers.map(|number| (format!("key:{number}"), value(number))).collect()
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Returns the inodes of what a folder's manifest lists.
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

/// Returns what an engine loads from a copy of a folder that holds an `appendonlydir`.
pub fn load(folder: &Path) -> Data {
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
