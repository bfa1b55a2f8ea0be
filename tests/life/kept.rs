//! A forced failover that loses writes: what only the old master had is listed key by key and kept, and nothing else.

use crate::hosts::Hosts;
use crate::network::{Cut, Network};
use crate::{answer_of, is_whole, roles};
use sandbox::addon::Engine;
use sandbox::connect::Target;
use sandbox::demo::ledger::{self, Expectations, Observed};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::access;
use testkit::world::World;

/// How long the master takes writes that the replica does not hear of.
const CUT: Duration = Duration::from_millis(1500);
const LIST: &str = "/var/lib/infra/only-here";

/// A key by its database, as the ledger and the list name it.
type Key = (i64, String);

/// Returns the keys of which a Redis has not all that was acknowledged. Jobs are left out: they move
/// through keys of which the ledger does not tell.
fn lacking(expected: &Expectations, found: &Observed) -> BTreeSet<Key> {
    let risings = expected.risings.iter().filter(|(place, rising)| {
        let value = found.risings.get(*place).copied().flatten();
        rising.acknowledged.is_some() && value < rising.acknowledged
    });
    let counters = expected.counters.iter().filter(|(place, count)| {
        let value = found.counters.get(*place).copied().flatten().unwrap_or(0);
        value < count.highest
    });
    risings
        .map(|((database, key, _), _)| (*database, key.clone()))
        .chain(counters.map(|(place, _)| place.clone()))
        .collect()
}

/// Returns the keys of the list on a host, without those through which jobs move and those with the
/// answers by which the app recognises a repeated write.
fn listed(text: &str) -> BTreeSet<Key> {
    const OTHERS: [&str; 7] = [
        "queue",
        "processing:",
        "done:",
        "finished",
        "lease:",
        "workers",
        "answers:",
    ];
    let keys = text.lines().filter(|line| *line != "more").map(|line| {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let key = words[3].trim_matches('"');
        (words[0].parse().unwrap(), key.to_string())
    });
    keys.filter(|(_, key)| {
        let name = key.strip_prefix("demo:").unwrap_or(key);
        !OTHERS.iter().any(|of| name.starts_with(of))
    })
    .collect()
}

/// An engine on this computer, of the hosts' version, with a copy of an AOF set.
struct Look {
    engine: Child,
    target: Target,
}

impl Look {
    fn at(set: &Path, folder: &Path) -> Self {
        let copied = Command::new("cp").arg("-r").arg(set).arg(folder).status().unwrap();
        assert!(copied.success());
        let port = testkit::free_port().to_string();
        let program = Engine::Redis8
            .ensure(&access::paths(), &|line| println!("{line}"))
            .unwrap();
        let mut command = program.command().unwrap();
        let engine = command
            .as_std_mut()
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "yes",
            ])
            .args([
                "--appendfilename",
                "appendonly.aof",
                "--aof-timestamp-enabled",
                "yes",
                "--dir",
            ])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let target = Target::parse(&format!("redis://127.0.0.1:{port}"), None).unwrap();
        Look { engine, target }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

/// Returns the newest set that a full copy replaced on a machine, read past its network.
fn newest_kept(id: &str) -> PathBuf {
    let kept = access::state_dir()
        .join("machines")
        .join(id)
        .join("upper/var/lib/infra/agent/kept");
    let sets = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path());
    let newest = sets
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("last-"))
        .max();
    newest.unwrap().join("appendonlydir")
}

/// The last part of a test: the ledger has a loss from here on.
pub fn exactly_what_was_lost_is_listed_and_kept(world: &World, hosts: &Hosts) {
    let before = roles(world);
    let (master, replica) = &before;
    world.wait_for_more_writes(200);
    let network = Network::of(master);
    assert!(network.cut(&Cut::From(&hosts.addresses(replica))));
    let cut = Instant::now();
    std::thread::sleep(CUT);
    // Every write is answered before the app has ended, so the ledger knows of all.
    world.scale(0, 0);
    world.until(Duration::from_secs(30), "the app to end", || {
        !world.report().to_string().contains("\"retiring\"")
    });
    let lasted = cut.elapsed().as_secs() + 1;
    let force = ["promote", "--force", "--confirm", "demo", "--json"];
    let answer = world.infra(&force).exits(0).json();

    let folder = access::state_dir().join("ledger/demo");
    let expected = ledger::read_folder(&folder).unwrap();
    let observed = hosts.observe(&expected);
    let lost = lacking(&expected, &observed);
    let verdict = ledger::judge(&expected, &expected, &observed);
    let bound = answer["missing_s"].as_u64().unwrap();
    println!(
        "a forced failover lost {} writes of {lasted} s in {} keys; it said {bound} s",
        verdict.lost,
        lost.len()
    );
    assert!(!lost.is_empty(), "the cut lost nothing: {answer}");
    assert!(bound >= lasted, "lost writes of {lasted} s: {answer}");

    hosts.start(master);
    let up = world.infra(&["up", "--yes"]).exits(0);
    let printed = [up.output(), up.errors()].concat();
    let list = listed(&hosts.file(master, LIST));
    let (missing, more): (Vec<_>, Vec<_>) = (lost.difference(&list).collect(), list.difference(&lost).collect());
    assert!(
        missing.is_empty() && more.is_empty(),
        "not listed: {missing:?}; listed: {more:?}; it printed {printed}"
    );
    let shown = list
        .iter()
        .filter(|(database, key)| printed.contains(&format!("\"{key}\" in database {database}")));
    assert!(shown.count() > 0, "{printed}");

    let copy = tempfile::tempdir().unwrap();
    let look = Look::at(&newest_kept(master), copy.path());
    let mut kept = None;
    world.until(Duration::from_secs(30), "an engine to load what was kept", || {
        kept = hosts.observe_at(&look.target, &expected);
        kept.is_some()
    });
    let kept = ledger::judge(&expected, &expected, &kept.unwrap());
    assert!(kept.is_clean(), "kept/ lacks something, or has too much: {kept:?}");
    world.scale(2, 1);
    is_whole(world, &answer_of(&before), &before);
}
