//! What can happen to a host of the pair, one after the other, while the app writes: what the app saw of it and what was lost, as a table. Nothing here
//! moves the role of master.

use crate::clock;
use crate::hosts::Hosts;
use crate::network::{Cut, Network, OPERATOR};
use crate::roles;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::machines::control_group;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::world::World;

/// How long a network stays cut, and a disk full.
const LASTS: Duration = Duration::from_secs(8);
/// A pair is whole again within this.
const WHOLE: Duration = Duration::from_secs(180);
/// The app does not notice what happens to the replica: a busy computer alone may take so long.
const UNNOTICED_MS: f64 = 3_000.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    PoweredOff,
    Rebooted,
    DiskFull,
    OutOfMemory,
    CutFromPeer,
    CutFromOperator,
    CutFromApp,
    ClockAhead,
    ClockBehind,
    BothRebooted,
}

use Fault::{
    BothRebooted, ClockAhead, ClockBehind, CutFromApp, CutFromOperator, CutFromPeer, DiskFull, OutOfMemory, PoweredOff,
    Rebooted,
};

const FAULTS: [Fault; 9] = [
    PoweredOff,
    Rebooted,
    DiskFull,
    OutOfMemory,
    CutFromPeer,
    CutFromOperator,
    CutFromApp,
    ClockAhead,
    ClockBehind,
];
/// Those of `make test`.
const SAMPLE: [(Fault, &str); 2] = [(OutOfMemory, "master"), (CutFromPeer, "master")];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            PoweredOff => "powered off, started after 8 s",
            Rebooted => "rebooted",
            DiskFull => "disk full for 8 s",
            OutOfMemory => "memory full: a program takes all that is left",
            CutFromPeer => "network cut from the other host for 8 s",
            CutFromOperator => "network cut from the operator for 8 s",
            CutFromApp => "network cut from the app for 8 s",
            ClockAhead => "clock set an hour ahead, and back after 8 s",
            ClockBehind => "clock set an hour back, and right after 8 s",
            BothRebooted => "both rebooted at once",
        }
    }

    /// The app uses the master alone, and reaches it through all of these.
    fn is_unnoticed(self, victim: &str) -> bool {
        victim == "replica"
            || matches!(
                self,
                OutOfMemory | CutFromPeer | CutFromOperator | ClockAhead | ClockBehind
            )
    }

    fn sets_a_clock(self) -> bool {
        matches!(self, ClockAhead | ClockBehind)
    }
}

struct Stage<'a> {
    world: &'a World,
    hosts: &'a Hosts,
    /// By role.
    instances: [(&'static str, String); 2],
}

/// All with LIFE=all; returns the table, which is in a file too.
pub fn table(world: &World, hosts: &Hosts) {
    let (master, replica) = roles(world);
    let stage = Stage {
        world,
        hosts,
        instances: [("master", master), ("replica", replica)],
    };
    let all = crate::all();
    let only = std::env::var("LIFE_FAULT").ok();
    let chosen: Vec<(Fault, &str)> = if all {
        let each = FAULTS
            .iter()
            .flat_map(|fault| [(*fault, "master"), (*fault, "replica")]);
        each.chain([(BothRebooted, "both")]).collect()
    } else {
        SAMPLE.to_vec()
    };
    let mut table =
        "| what happens | to the | app's longest gap | lost | pair whole after |\n|---|---|---|---|---|\n".to_string();
    let is_meant = |fault: Fault| only.as_ref().is_none_or(|only| format!("{fault:?}").starts_with(only));
    for (fault, victim) in chosen.into_iter().filter(|(fault, _)| is_meant(*fault)) {
        let line = stage.play(fault, victim);
        println!("{line}");
        writeln!(table, "{line}").unwrap();
    }
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("life-matrix.md");
    std::fs::write(&file, table).unwrap();
    println!("the table is in {}", file.display());
}

impl Stage<'_> {
    fn play(&self, fault: Fault, victim: &str) -> String {
        if fault == DiskFull {
            self.on(victim, SMALL_DISK);
            self.wait_until_whole();
        }
        if fault.sets_a_clock() {
            clock::bring(self.instance(victim));
            self.on(victim, clock::BEGIN);
            self.wait_until_whole();
        }
        self.world.wait_for_more_writes(200);
        let lost = |since| self.world.ledger_since(since)["lost"].as_u64().unwrap();
        let before = lost(0);
        let since = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        // A gap is between two writes, so the window has some from before.
        let since = since - 500_000;
        let begun = Instant::now();
        match victim {
            "both" => self.reboot(&["master", "replica"]),
            victim => self.strike(fault, victim),
        }
        self.wait_until_whole();
        let whole = begun.elapsed();
        self.world.wait_for_more_writes(200);
        let ledger = self.world.ledger_since(since);
        let gap = ledger["longest_gap_ms"].as_f64().unwrap();
        let lost = ledger["lost"].as_u64().unwrap() - before;
        assert_eq!(lost, 0, "{fault:?} of the {victim}: {ledger:#}");
        assert!(!self.hosts.both_take_writes(), "{fault:?} of the {victim}");
        if fault.is_unnoticed(victim) {
            assert!(gap < UNNOTICED_MS, "{fault:?} of the {victim}: the app waited {gap} ms");
        }
        if fault.sets_a_clock() {
            self.backups_go_on(victim);
            self.on(victim, clock::END);
            self.wait_until_whole();
        }
        if fault == DiskFull {
            self.on(victim, LARGE_DISK);
            self.wait_until_whole();
        }
        format!(
            "| {} | {victim} | {gap:.0} ms | {lost} | {:.0} s |",
            fault.name(),
            whole.as_secs_f64()
        )
    }

    fn instance(&self, role: &str) -> &str {
        let found = self.instances.iter().find(|(name, _)| *name == role);
        &found.unwrap().1
    }

    fn strike(&self, fault: Fault, victim: &str) {
        let id = self.instance(victim);
        let network = Network::of(id);
        let other = if victim == "master" { "replica" } else { "master" };
        match fault {
            PoweredOff => {
                for process in control_group::processes(Some(id)) {
                    let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
                }
                std::thread::sleep(LASTS);
                self.world.until(Duration::from_secs(60), "EC2 to see it stopped", || {
                    self.hosts.state(id) == "stopped"
                });
                self.hosts.start(id);
                if victim == "replica" {
                    // It has no address of its own to keep: EC2 gives it another one, which its certificate
                    // does not name, and `status` asks for this.
                    self.world
                        .until(Duration::from_secs(60), "up to give it a certificate", || {
                            self.world.infra(&["up", "--yes"]).code() == Some(0)
                        });
                }
            }
            Rebooted | BothRebooted => self.reboot(&[victim]),
            DiskFull => {
                self.on(victim, "dd if=/dev/zero of=/var/lib/redis/full bs=1M 2>/dev/null; true");
                std::thread::sleep(LASTS);
                self.on(victim, "rm -f /var/lib/redis/full");
            }
            OutOfMemory => {
                let killed = || control_group::killed_for_memory(id).unwrap();
                let before = killed();
                // It writes to all that it takes, so that it has it.
                self.on(victim, "systemd-run --quiet python3 -c 'import time; taken = bytearray(b\"x\") * (2 << 30); time.sleep(60)'");
                self.world
                    .until(Duration::from_secs(60), "the kernel to end it", || killed() > before);
            }
            CutFromPeer => self.cut(&network, &Cut::From(&self.hosts.addresses(self.instance(other)))),
            CutFromOperator => self.cut(&network, &Cut::Port(22, OPERATOR)),
            CutFromApp => self.cut(&network, &Cut::Port(6379, OPERATOR)),
            ClockAhead => self.set_clock(victim, 3600),
            ClockBehind => self.set_clock(victim, -3600),
        }
    }

    /// Sets a machine's clock, and sets it right again.
    fn set_clock(&self, victim: &str, off: i64) {
        let id = self.instance(victim);
        let now = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        clock::set(id, off);
        let said = self.on(victim, clock::LOOK);
        let mut lines = said.lines();
        let second: i64 = lines.next().unwrap().trim().parse().unwrap();
        assert!(
            (second - now() - off).abs() < 60,
            "the machine says {said}, and it is {}",
            now()
        );
        let programs: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(programs, ["redis-server", "infra-agent"]);
        std::thread::sleep(LASTS);
        clock::set(id, 0);
    }

    /// A base is made with the clock that is right again, and all that is in the bucket proves good.
    fn backups_go_on(&self, victim: &str) {
        self.world.infra(&["backup", "now"]).exits(0);
        let listed = self.world.infra(&["backup", "list", "--json"]).exits(0).json();
        println!("the clock of the {victim} was set: backups cover {}", listed["covered"]);
        self.world.until(WHOLE, "the backups to be whole", || {
            let answer = self.world.infra(&["backup", "verify"]);
            if answer.code() != Some(0) {
                println!("{}", answer.printed());
            }
            answer.code() == Some(0)
        });
    }

    fn cut(&self, network: &Network, from: &Cut<'_>) {
        assert!(network.cut(from));
        std::thread::sleep(LASTS);
        network.heal();
    }

    /// Until the engines run anew. A host that still goes down would look whole.
    fn reboot(&self, roles: &[&str]) {
        let before: Vec<_> = roles.iter().map(|role| self.run_id(role)).collect();
        for role in roles {
            // The connection ends with the machine, so that the command's exit code says nothing.
            self.world.infra(&["ssh", role, "sudo", "systemctl", "reboot"]);
        }
        for (role, before) in roles.iter().zip(before) {
            self.world.until(WHOLE, "the engine to start again", || {
                let now = self.run_id(role);
                now.is_some() && now != before
            });
        }
    }

    fn run_id(&self, role: &str) -> Option<String> {
        let answer = self.world.infra(&["status", "--json"]);
        let id = (answer.code() == Some(0)).then(|| answer.json()["servers"][role]["run_id"].clone())?;
        id.as_str().map(String::from)
    }

    fn on(&self, role: &str, script: &str) -> String {
        let answer = self
            .world
            .infra(&[
                "ssh",
                role,
                "--",
                "sudo",
                "bash",
                "-c",
                &format!("'{}'", script.replace('\'', "'\\''")),
            ])
            .exits(0);
        answer.output().to_owned()
    }

    fn wait_until_whole(&self) {
        let begun = Instant::now();
        self.world.until(WHOLE, "the pair to be whole", || {
            let answer = self.world.infra(&["status", "--json"]);
            if begun.elapsed() + LASTS > WHOLE {
                println!("the pair is not whole yet: {}", answer.printed());
            }
            if answer.code() != Some(0) {
                return false;
            }
            let servers = &answer.json()["servers"];
            servers["master"]["role"] == "master" && servers["replica"]["link_up"] == true
        });
    }
}

/// Puts the data onto a file system of a few megabytes more than it needs. Engine and agent are down meanwhile.
const SMALL_DISK: &str = "set -e; systemctl stop infra-agent redis-server; mkdir -p /var/lib/redis-large; cp -a /var/lib/redis/. /var/lib/redis-large/; \
    size=$(($(du -sm /var/lib/redis | cut -f 1) + 48)); mount -t tmpfs -o size=${size}m,mode=750,uid=$(id -u redis),gid=$(id -g redis) tmpfs /var/lib/redis; \
    cp -a /var/lib/redis-large/. /var/lib/redis/; systemctl start redis-server infra-agent";
const LARGE_DISK: &str = "set -e; systemctl stop infra-agent redis-server; rm -rf /var/lib/redis-large; mkdir /var/lib/redis-large; cp -a /var/lib/redis/. /var/lib/redis-large/; \
    umount /var/lib/redis; rm -rf /var/lib/redis/appendonlydir; cp -a /var/lib/redis-large/. /var/lib/redis/; rm -rf /var/lib/redis-large; systemctl start redis-server infra-agent";
