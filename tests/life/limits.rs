//! Measures a pair with the memory, the limit of the engine and the lasting share of the processors of each instance type.
//! Both hosts, the load and the operator share this computer, so that "with credits" is bounded by its processors too.

use crate::hosts::Hosts;
use crate::roles;
use infra::effects::host::default_maxmemory;
use redis::cmd;
use sandbox::connect::Connection;
use sandbox::machines::control_group;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::world::World;

/// How long each load lasts, once its rate is known.
const LASTS: Duration = Duration::from_secs(13);
/// Requests by which the rate becomes known.
const FIRST: u64 = 2_000;
const CLIENTS: &str = "50";
const VALUE: usize = 100;
const BATCH: u64 = 500;
/// Where nobody else has keys.
const DATABASE: i64 = 9;
/// A user of the test alone, since the load takes a password only as an argument.
const USER: &str = "limits";
const CONNECTIONS: usize = 1_000;
/// Of the keys that fit, this part stays while a base is made: a full engine takes no write that could cost memory.
const STAYING_PERCENT: u64 = 92;
/// The kernel's unit for the time of processes.
const TICKS_A_SECOND: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(180);
/// The type that the sandbox has made.
const MADE: &Kind = &KINDS[1];

struct Kind {
    name: &'static str,
    memory_mib: u64,
    /// Hundredths of one processor: the shares of all of its processors together.
    share: u64,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "t3.nano",
        memory_mib: 512,
        share: 10,
    },
    Kind {
        name: "t3.micro",
        memory_mib: 1024,
        share: 20,
    },
    Kind {
        name: "t3.small",
        memory_mib: 2048,
        share: 40,
    },
    Kind {
        name: "t3.medium",
        memory_mib: 4096,
        share: 40,
    },
];

/// The answers to the load.
struct Rate {
    writes_per_s: f64,
    p99_ms: f64,
    /// Hundredths of one processor that the master used for it.
    used: f64,
}

/// Memory at rest, in bytes.
struct Rest {
    /// All programs of the master but its engine.
    others: u64,
    /// One idle connection.
    connection: u64,
    /// The part of it that counts towards `maxmemory`.
    counted: u64,
}

struct Stage<'a> {
    world: &'a World,
    hosts: &'a Hosts,
    master: String,
    replica: String,
    address: String,
    authority: PathBuf,
}

/// On a pair that the app uses. Ends as it began.
pub fn are_measured(world: &World, hosts: &Hosts) {
    let begun = Instant::now();
    world.scale(0, 0);
    let stage = Stage::prepare(world, hosts);
    let killed = || stage.both().map(|id| control_group::killed_for_memory(id).unwrap());
    let engines = || {
        let status = world.status();
        ["master", "replica"].map(|role| status["servers"][role]["run_id"].clone())
    };
    let (killed_before, engines_before) = (killed(), engines());
    let rest = stage.rest();
    println!(
        "{}",
        json!({
            "connections": CONNECTIONS,
            "bytes_per_connection": rest.connection,
            "counted_per_connection": rest.counted,
            "other_programs_bytes": rest.others,
        })
    );
    let mut table = "| type | `redis.maxmemory` | keys that fit | writes/s, lasting | p99 | writes/s, with credits | p99 | idle connections that fit |\n|---|---|---|---|---|---|---|---|\n".to_string();
    for kind in KINDS.iter().filter(|kind| kind.is_wanted()) {
        writeln!(table, "{}", stage.measure(kind, &rest)).unwrap();
        assert_eq!(
            killed(),
            killed_before,
            "{}: the kernel ended a program for its memory",
            kind.name
        );
        assert_eq!(engines(), engines_before, "{}: an engine started anew", kind.name);
    }
    stage.end();
    world.scale(2, 1);
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("life-limits.md");
    std::fs::write(&file, &table).unwrap();
    println!(
        "{table}measured in {} s; the table is in {}",
        begun.elapsed().as_secs(),
        file.display()
    );
}

impl<'a> Stage<'a> {
    fn prepare(world: &'a World, hosts: &'a Hosts) -> Self {
        let (master, replica) = roles(world);
        let authority = world.folder().join("limits-authority.pem");
        std::fs::write(&authority, hosts.authority()).unwrap();
        let address = hosts.addresses(&master).pop().unwrap();
        let stage = Stage {
            world,
            hosts,
            master,
            replica,
            address,
            authority,
        };
        let user = "SETUSER limits on nopass ~* &* +@all";
        let mut admin = stage.admin(&stage.master);
        let _: String = hosts.ask(&mut admin, cmd("ACL").arg(user.split(' ').collect::<Vec<_>>()));
        let policy: Vec<String> = hosts.ask(&mut admin, cmd("CONFIG").arg("GET").arg("maxmemory-policy"));
        assert_eq!(policy[1], "noeviction", "the engine would never be full");
        stage
    }

    fn end(&self) {
        self.give(MADE);
        let mut admin = self.admin(&self.master);
        let _: u64 = self.hosts.ask(&mut admin, cmd("ACL").arg("DELUSER").arg(USER));
    }

    fn both(&self) -> [&str; 2] {
        [&self.master, &self.replica]
    }

    fn admin(&self, id: &str) -> Connection {
        self.hosts.administer(id, DATABASE, PATIENCE)
    }

    /// Gives both hosts the memory of a type, its limit of the engine, and all processors.
    fn give(&self, kind: &Kind) {
        for id in self.both() {
            // Cached files have to go first where the limit falls.
            self.world.until(PATIENCE, "the kernel to take the new limit", || {
                control_group::limit_memory(id, kind.memory_mib).is_ok()
            });
            control_group::limit_processors(id, None).unwrap();
            let mut set = cmd("CONFIG");
            set.arg("SET").arg("maxmemory").arg(kind.maxmemory());
            let _: String = self.hosts.ask(&mut self.admin(id), &set);
        }
    }

    /// Measures what idle connections and the other programs have, before there is any data.
    fn rest(&self) -> Rest {
        let mut admin = self.admin(&self.master);
        // The engine keeps less for a connection that has been idle for two seconds.
        let settled = |admin: &mut Connection| {
            std::thread::sleep(Duration::from_secs(4));
            (engine_bytes(&self.master), self.hosts.memory(admin).0)
        };
        let (resident, used) = settled(&mut admin);
        let others = control_group::memory_of_programs(&self.master)
            .unwrap()
            .saturating_sub(resident);
        let connections = self.hosts.connect_often(&self.master, CONNECTIONS, PATIENCE);
        let (more_resident, more_used) = settled(&mut admin);
        let each = |more: u64, before: u64| more.saturating_sub(before) / connections.len() as u64;
        let rest = Rest {
            others,
            connection: each(more_resident, resident),
            counted: each(more_used, used),
        };
        assert!(rest.connection > 0, "connections cost no memory");
        rest
    }

    /// Returns the line of a type.
    fn measure(&self, kind: &Kind, rest: &Rest) -> String {
        self.give(kind);
        let credits = self.load();
        let before = control_group::throttled(&self.master).unwrap();
        for id in self.both() {
            control_group::limit_processors(id, Some(kind.share)).unwrap();
        }
        let lasting = self.load();
        assert!(
            control_group::throttled(&self.master).unwrap() > before,
            "{}: the load did not use up the share",
            kind.name
        );
        for id in self.both() {
            control_group::limit_processors(id, None).unwrap();
        }
        self.empty();
        let keys = self.fill();
        self.back_up_while_written(keys);
        self.empty();
        let maxmemory = kind.maxmemory();
        // A fork may copy as much again while a base is made.
        let connections = kind.programs().saturating_sub(rest.others + 2 * maxmemory) / rest.connection;
        println!(
            "{}",
            json!({
                "type": kind.name,
                "memory_mib": kind.memory_mib,
                "maxmemory_mib": maxmemory >> 20,
                "share_percent_of_one_processor": kind.share,
                "keys_of_100_bytes": keys,
                "writes_per_s_lasting": lasting.writes_per_s.round(),
                "p99_ms_lasting": lasting.p99_ms,
                "used_percent_lasting": lasting.used.round(),
                "writes_per_s_with_credits": credits.writes_per_s.round(),
                "p99_ms_with_credits": credits.p99_ms,
                "used_percent_with_credits": credits.used.round(),
                "idle_connections_that_fit": connections,
            })
        );
        format!(
            "| `{}` | {} MiB | {keys} | {:.0} | {:.1} ms | {:.0} | {:.1} ms | {connections} |",
            kind.name,
            maxmemory >> 20,
            lasting.writes_per_s,
            lasting.p99_ms,
            credits.writes_per_s,
            credits.p99_ms
        )
    }

    /// Writes for some seconds over TLS at the endpoint.
    fn load(&self) -> Rate {
        let first = self.write(FIRST);
        let requests = (first.writes_per_s * LASTS.as_secs_f64()) as u64;
        self.write(requests.max(FIRST))
    }

    fn write(&self, requests: u64) -> Rate {
        let (begun, before) = (Instant::now(), processor_seconds(&self.master));
        let output = Command::new("redis-benchmark")
            .args([
                "-h",
                &self.address,
                "--tls",
                "--cacert",
                self.authority.to_str().unwrap(),
            ])
            .args(["--user", USER, "-a", "none", "--dbnum", &DATABASE.to_string()])
            .args(["-t", "set", "-d", &VALUE.to_string(), "-r", "100000", "-c", CLIENTS])
            .args(["-n", &requests.to_string(), "--csv"])
            .output()
            .unwrap();
        let used = (processor_seconds(&self.master) - before) / begun.elapsed().as_secs_f64() * 100.0;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut lines = said
            .lines()
            .rev()
            .map(|line| line.split(',').map(|field| field.trim_matches('"')));
        let figures: Vec<&str> = lines
            .find_map(|mut fields| (fields.next()? == "SET").then(|| fields.collect()))
            .unwrap();
        // The rate, then the mean, the shortest, and the percentiles 50, 95 and 99 of the latency.
        Rate {
            writes_per_s: figures[0].parse().unwrap(),
            p99_ms: figures[5].parse().unwrap(),
            used,
        }
    }

    /// Writes keys until the engine refuses; returns how many there are, on both hosts.
    fn fill(&self) -> u64 {
        let mut master = self.admin(&self.master);
        for first in (0..).step_by(usize::try_from(BATCH).unwrap()) {
            match self.set(&mut master, first..first + BATCH, b'x') {
                Ok(()) => {}
                Err(error) if error.code() == Some("OOM") => break,
                Err(error) => panic!("{error}"),
            }
            if first % (BATCH * 100) == 0 {
                self.replica_has_all(&mut master);
            }
        }
        self.replica_has_all(&mut master);
        let keys = |id| self.hosts.ask::<u64>(&mut self.admin(id), &cmd("DBSIZE"));
        assert_eq!(keys(&self.master), keys(&self.replica), "the hosts differ");
        keys(&self.master)
    }

    fn set(&self, connection: &mut Connection, keys: std::ops::Range<u64>, byte: u8) -> redis::RedisResult<()> {
        let mut batch = cmd("MSET");
        for key in keys {
            batch.arg(name(key)).arg([byte; VALUE].as_slice());
        }
        self.hosts.try_to_ask(connection, &batch)
    }

    fn replica_has_all(&self, master: &mut Connection) {
        let has: u64 = self.hosts.ask(master, cmd("WAIT").arg(1).arg(170_000));
        assert_eq!(has, 1, "the replica does not follow");
    }

    /// Makes a base while all of its pages are written again.
    fn back_up_while_written(&self, keys: u64) {
        let mut master = self.admin(&self.master);
        let staying = keys * STAYING_PERCENT / 100;
        for first in (staying..keys).step_by(usize::try_from(BATCH).unwrap()) {
            let names: Vec<String> = (first..keys.min(first + BATCH)).map(name).collect();
            let _: u64 = self.hosts.ask(&mut master, cmd("UNLINK").arg(names));
        }
        let mut backup = self.world.begin(&["backup", "now"]);
        let mut at = 0;
        let ended = loop {
            // A step that meets another page each time.
            at = (at + 97 * BATCH) % (staying - BATCH);
            self.set(&mut master, at..at + BATCH, b'y').unwrap();
            if let Some(ended) = backup.try_wait().unwrap() {
                break ended;
            }
        };
        assert!(ended.success(), "a backup failed: {ended}");
    }

    /// Removes all keys of the test, on both hosts.
    fn empty(&self) {
        let mut master = self.admin(&self.master);
        let _: String = self.hosts.ask(&mut master, cmd("FLUSHDB").arg("ASYNC"));
        self.replica_has_all(&mut master);
    }
}

impl Kind {
    /// Returns true if LIFE_TYPES names this type. Without that the largest one is left out, which takes minutes.
    fn is_wanted(&self) -> bool {
        let wanted = std::env::var("LIFE_TYPES").unwrap_or_else(|_| "t3.nano,t3.micro,t3.small".into());
        wanted.split(',').any(|name| name == self.name)
    }

    fn maxmemory(&self) -> u64 {
        default_maxmemory(self.memory_mib << 20)
    }

    /// Returns what programs of such an instance may have.
    fn programs(&self) -> u64 {
        control_group::usable_bytes(self.memory_mib)
    }
}

fn name(key: u64) -> String {
    format!("limits:{key:010}")
}

/// Returns the seconds of a processor that the programs of a machine have used.
fn processor_seconds(instance: &str) -> f64 {
    let ticks = control_group::processes(Some(instance))
        .into_iter()
        .filter_map(|process| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // Behind the name, which may have blanks, the state is the first field; these are the 12th and 13th.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
            Some(ticks(11)? + ticks(12)?)
        });
    ticks.sum::<f64>() / TICKS_A_SECOND
}

/// Returns what the engine of a machine has for itself in memory, without the pages of its program.
fn engine_bytes(instance: &str) -> u64 {
    let status = control_group::processes(Some(instance))
        .into_iter()
        .find_map(|process| {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            status.starts_with("Name:\tredis-server").then_some(status)
        });
    let status = status.expect("the engine runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}
