//! Every secret of a whole run, looked for wherever it could be read by somebody: what was printed, what was stored, what processes show, what machines and
//! computer keep in files. The one exception is the bootstrap host key in user-data; see `secrets`.

use crate::watch::Watch;
use infra::model::secret::Secret;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use testkit::access;
use testkit::secrets::{self, traces};
use testkit::world::World;

type Known = BTreeMap<String, String>;
type Places = BTreeMap<String, String>;

/// Larger files are data of the engine's package, not of ours.
const LARGEST: u64 = 32 << 20;

/// The disks of the machines that stand, by instance.
fn disks() -> Vec<(String, PathBuf)> {
    let folder = access::state_dir().join("machines");
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let disks: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(_, path)| path.join("root/etc").is_dir())
        .collect();
    assert!(!disks.is_empty(), "no machine stands");
    disks
}

fn files_below(folder: &Path, see: &mut impl FnMut(&Path, &std::fs::Metadata)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(found) = std::fs::symlink_metadata(entry.path()) else {
            continue;
        };
        if found.is_dir() {
            files_below(&entry.path(), see);
        } else if found.is_file() && found.len() <= LARGEST {
            see(&entry.path(), &found);
        }
    }
}

/// Files of the machines in which a secret has no business: those that others than root and the engine may read, and histories and logs whoever may read them.
fn files_of_machines() -> Places {
    let mut places = Places::new();
    for (id, disk) in disks() {
        let groups = std::fs::read_to_string(disk.join("root/etc/group")).unwrap();
        let engine = groups.lines().find_map(|line| {
            let words: Vec<&str> = line.split(':').collect();
            ["redis", "valkey"]
                .contains(&words[0])
                .then(|| words[2].parse::<u32>().unwrap())
        });
        // Differences from the image.
        let upper = disk.join("upper");
        files_below(&upper, &mut |path, found| {
            let shown = path.strip_prefix(&upper).unwrap().display().to_string();
            let is_log = shown.starts_with("var/log/") || shown.contains("_history");
            let is_private = found.mode() & 0o077 == 0 || (found.mode() & 0o037 == 0 && Some(found.gid()) == engine);
            if is_log || !is_private {
                let bytes = std::fs::read(path).unwrap_or_default();
                let place = format!("/{shown} of {id} (mode {:o})", found.mode() & 0o7777);
                places.insert(place, String::from_utf8_lossy(&bytes).into_owned());
            }
        });
    }
    places
}

/// Files here that a run has written or left, whoever may read them.
fn files_of_the_operator(folder: &Path) -> Places {
    let mut places = Places::new();
    files_below(folder, &mut |path, _| {
        let bytes = std::fs::read(path).unwrap_or_default();
        places.insert(path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned());
    });
    places
}

fn journals(world: &World) -> Places {
    let read = |host: &str| {
        let journal = world.infra(&["ssh", host, "sudo", "journalctl", "--no-pager", "-a", "-o", "export"]);
        let text = journal.exits(0).printed();
        assert!(text.contains("_SYSTEMD_UNIT=ssh.service"), "that is no journal");
        (format!("the journal of the {host}"), text)
    };
    ["master", "replica"].into_iter().map(read).collect()
}

/// The keys that the hosts made for themselves never leave them.
fn host_keys() -> Known {
    let mut known = Known::new();
    for (id, disk) in disks() {
        let key = std::fs::read_to_string(disk.join("root/etc/ssh/infra_host_ed25519_key")).unwrap();
        known.insert(format!("the host key of {id}"), key);
    }
    known
}

/// Returns the secrets that were found, each with its place.
fn standing(known: &Known, places: &Places) -> Vec<String> {
    let mut found = Vec::new();
    for (place, text) in places {
        let names = known
            .iter()
            .filter(|(_, secret)| traces(secret).iter().any(|trace| text.contains(trace)));
        found.extend(names.map(|(name, _)| format!("{name} stands in {place}")));
    }
    found
}

/// A secret that was put into each kind of place is found there, or the look is no look.
pub fn a_planted_one_is_found(world: &World) {
    let planted = Secret::generate().expose().to_string();
    let known = Known::from([("planted".to_string(), planted.clone())]);
    for (_, disk) in disks() {
        std::fs::write(disk.join("root/root/planted"), &planted).unwrap();
    }
    let watch = Watch::begin();
    let script = "'p=$(cat /root/planted); PLANTED=$p sleep 1; sh -c \"sleep 1; true\" $p; echo $p | systemd-cat; echo $p >/etc/planted; chmod 644 /etc/planted; \
                  (umask 077; echo $p >/var/log/planted; echo $p >>/root/.bash_history); rm /root/planted'";
    world.infra(&["ssh", "replica", "sudo", "sh", "-c", script]).exits(0);
    world.infra(&["ssh", "replica", "true", &planted]).exits(0);
    world
        .infra(&["redis-cli", "replica", "-r", "5", "-i", "0.2", "PING", &planted])
        .exits(0);
    let mut places = watch.end();
    places.extend(files_of_machines());
    places.extend(journals(world));
    std::fs::write(world.folder().join("planted"), &planted).unwrap();
    places.extend(files_of_the_operator(world.folder()));
    let found = standing(&known, &places).join("\n");
    for place in [
        "arguments of sh on a machine",
        "environment of sleep on a machine",
        "arguments of infra on this computer",
        "arguments of ssh on this computer",
        "arguments of redis-cli on this computer",
        "/etc/planted of",
        "/var/log/planted of",
        "/root/.bash_history of",
        "the journal of the replica",
        "/planted",
    ] {
        assert!(found.contains(place), "not found in {place}:\n{found}");
    }
    std::fs::remove_file(world.folder().join("planted")).unwrap();
}

#[test]
fn no_secret_of_a_whole_run_is_to_be_read_anywhere() {
    let world = World::raise(500);
    let temporary = tempfile::tempdir().unwrap();
    let tmpdir = format!("TMPDIR={}", temporary.path().display());
    let infra = |arguments: &[&str]| world.infra_with(&[&tmpdir], arguments).exits(0);
    let watch = Watch::begin();
    infra(&["-vv", "check"]);
    infra(&["-vv", "up", "--yes"]);
    infra(&["up", "--yes", "--json"]);
    infra(&["-vv", "status"]);
    infra(&["status", "--json"]);
    infra(&["-vv", "verify"]);
    let mut known = secrets::known(&world.vars());
    infra(&["-vv", "switch-app", "--confirm", "demo"]);
    infra(&["backup", "now", "--json"]);
    infra(&["redis-cli", "master", "PING"]).says("PONG");
    infra(&["ssh", "master", "true"]);
    infra(&[
        "-vv",
        "restore",
        "--latest",
        "--to",
        "file",
        "./restored",
        "--without-load",
    ]);
    infra(&["-vv", "status"]);
    known.extend(secrets::known(&world.vars()));
    known.extend(host_keys());
    // A server shows its certificate to everybody.
    known.retain(|name, _| !name.contains("/tls-cert/"));
    assert!(
        secrets::MUST_BE_KNOWN.iter().all(|name| known.contains_key(*name)),
        "{:?}",
        known.keys()
    );
    assert!(
        known.keys().any(|name| name.contains("tls-key")) && known.len() >= 12,
        "{:?}",
        known.keys()
    );
    let mut places = files_of_machines();
    places.extend(journals(&world));
    // Stored secrets are gone with `down`.
    let stored = secrets::places();
    let inventory = std::fs::read_to_string(world.inventory()).unwrap();

    // The app goes back to its add-on, so that the pair may go.
    world.scale(0, 0);
    world.set_var("REDIS_URL", &world.vars()["HOSTED_REDIS_URL"].clone());
    infra(&["-vv", "down", "--confirm", "demo"]);
    places.extend(watch.end());
    let restored = files_of_the_operator(world.folder());
    assert!(
        restored.keys().any(|file| file.contains("appendonlydir")),
        "{:?}",
        restored.keys()
    );
    places.extend(restored);
    places.insert("what was printed".into(), world.printed());
    places.insert("the inventory".into(), inventory);
    let mut found = standing(&known, &places);
    found.extend(secrets::shown(&known, &stored));
    assert!(found.is_empty(), "{found:#?}");
    let left: Vec<_> = files_of_the_operator(temporary.path()).into_keys().collect();
    assert!(left.is_empty(), "temporary files are left: {left:?}");
}
