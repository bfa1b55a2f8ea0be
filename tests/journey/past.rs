//! Restores, as a user makes them: all of the past, some keys of it, on an instance beside, and from a file.

use std::time::Duration;
use testkit::world::World;

/// Writes to the master, then makes a mistake there. Returns a second between the two, when the log up to it is shipped.
fn a_mistake(world: &World) -> String {
    let redis = |arguments: &[&str]| world.infra(&[&["redis-cli", "master"], arguments].concat()).exits(0);
    redis(&["SET", "marker", "before"]);
    let before = jiff::Timestamp::now().as_second() + 1;
    let before = jiff::Timestamp::from_second(before).unwrap();
    let covered = |second: jiff::Timestamp| {
        let until = world.status()["log_until"]
            .as_str()
            .map(|text| text.parse::<jiff::Timestamp>().unwrap());
        until.is_some_and(|until| until > second)
    };
    std::thread::sleep(Duration::from_secs(2));
    redis(&["SET", "marker", "after"]);
    redis(&["SET", "mistake", "1"]);
    world.until(Duration::from_secs(60), "the log to be shipped", || covered(before));
    before.to_string()
}

/// The live data becomes what it was before a mistake.
pub fn mistake_is_taken_back(world: &World) {
    let at = a_mistake(world);
    let redis = |arguments: &[&str]| world.infra(&[&["redis-cli", "master"], arguments].concat()).exits(0);
    world
        .infra(&["restore", "--at", &at, "--to", "live", "--confirm", "demo"])
        .exits(0);
    redis(&["GET", "marker"]).says("before");
    redis(&["EXISTS", "mistake"]).says("0");
}

/// A mistake is taken back: the live data is again what it was a moment before, and the log is shipped on.
pub fn comes_back(world: &World) {
    let redis = |arguments: &[&str]| world.infra(&[&["redis-cli", "master"], arguments].concat()).exits(0);
    let at = a_mistake(world);
    // A second that is not covered is refused, and so is the wrong name.
    world
        .infra(&[
            "restore",
            "--at",
            "2001-01-01T00:00:00Z",
            "--to",
            "live",
            "--confirm",
            "demo",
        ])
        .exits(1)
        .says("the first second that is covered");
    world
        .infra(&["restore", "--at", &at, "--to", "live", "--confirm", "someone"])
        .exits(64);
    world
        .infra(&["restore", "--at", &at, "--to", "live", "--confirm", "demo"])
        .exits(0);
    redis(&["GET", "marker"]).says("before");
    redis(&["EXISTS", "mistake"]).says("0");
    let status = world.status();
    assert_eq!(status["servers"]["replica"]["link_up"], true, "{status}");
    // The replica took a full copy of that, and keeps what it had.
    world.until(Duration::from_secs(30), "status to say what is kept", || {
        world.status()["kept"]["replica"]["bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0)
    });
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
    let listed = world.infra(&["backup", "list", "--json"]).exits(0).json();
    assert!(listed["bases"].as_array().unwrap().len() > 2, "{listed}");
    let why = listed["gaps"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("the data was replaced by a restore"), "{why}");
    world.infra(&["backup", "now"]).exits(0);
    let first = listed["covered"][0]["from"].as_str().unwrap().to_string();
    let folder = world.folder().join("restored");
    let folder = folder.to_str().unwrap();
    world
        .infra(&["restore", "--at", &first, "--to", "file", folder, "--without-load"])
        .exits(0)
        .says("not proven: that an engine loads it");
    // A file that is there already is never overwritten.
    world
        .infra(&["restore", "--latest", "--to", "file", folder, "--without-load"])
        .exits(64)
        .says("not empty");
}

/// No engine here can judge the data, as on most laptops: the replica's does.
pub fn is_proven_on_the_replica(world: &World) {
    let infra = |arguments: &[&str]| world.infra_under(&[("INFRA_REDIS_SERVER", "false")], arguments);
    // The restore before is a gap, which is a finding; the newest state is tried all the same.
    infra(&["backup", "verify"]).exits(21);
    let folder = world.folder().join("proven");
    let folder = folder.to_str().unwrap();
    let restored = infra(&["restore", "--latest", "--to", "file", folder, "--json"])
        .exits(0)
        .json();
    assert_eq!(restored["loaded_on"], "the replica", "{restored}");
    assert_eq!(restored["not_proven"], serde_json::json!([]), "{restored}");
    let keys = restored["restored"]["loaded"]["keys"].as_u64().unwrap();
    assert!(keys > 1_000, "{restored}");
    let drill = infra(&["backup", "drill", "--local", "--json"]).exits(0).json();
    assert_eq!(drill["drill"]["place"], "the replica", "{drill}");
    let data = format!("/var/lib/{}", world.engine());
    let left = world.infra(&["ssh", "replica", "sudo", "ls", &data]).exits(0);
    assert!(!left.printed().contains("restore-"), "{}", left.printed());
    world
        .infra(&["ssh", "replica", "systemctl", "list-units", "--all", "infra-proof*"])
        .exits(0)
        .says("0 loaded units");

    // The files come even if the replica is down, and the command says what it could not prove.
    let folder = world.folder().join("unproven");
    let folder = folder.to_str().unwrap();
    world
        .infra(&[
            "ssh",
            "replica",
            "sudo",
            "mv",
            "/usr/local/sbin/infra-restore",
            "/root/",
        ])
        .exits(0);
    let unproven = infra(&["restore", "--latest", "--to", "file", folder, "--json"]);
    world
        .infra(&[
            "ssh",
            "replica",
            "sudo",
            "mv",
            "/root/infra-restore",
            "/usr/local/sbin/",
        ])
        .exits(0);
    let unproven = unproven.exits(1);
    unproven.says("all of its files are in");
    let first: serde_json::Value = serde_json::from_str(unproven.output().lines().next().unwrap()).unwrap();
    assert_eq!(first["not_proven"][0], "that an engine loads it: none has", "{first}");
    assert!(std::path::Path::new(folder).join("appendonlydir").is_dir());
}

/// A provider's file is looked at on an instance of its own, and the pair keeps what it has.
pub fn file_goes_onto_an_instance(world: &World, file: &str) {
    world
        .infra(&["restore", "--from", file, "--to", "instance"])
        .exits(0)
        .says("1 keys");
    world
        .infra(&["redis-cli", "restored", "GET", "first"])
        .exits(0)
        .says("data");
    world.infra(&["restore", "--remove", "--confirm", "demo"]).exits(0);
}

/// The life of a key that has ended when it is restored, and that outlives the look at it if it gets its life anew.
const SHORT_LIFE_S: i64 = 12;

/// Some keys come back beside what was written since, with the life that they had; all of it on an instance beside the pair; and data from a file.
pub fn comes_back_in_parts(world: &World) {
    let on = |host: &str, arguments: &[&str]| {
        world
            .infra(&[&["redis-cli", host, "-n", "7"], arguments].concat())
            .exits(0)
    };
    let redis = |arguments: &[&str]| on("master", arguments);
    redis(&["SET", "user:1", "before", "EX", "3600"]);
    redis(&["HSET", "user:h", "a", "1", "b", "2"]);
    // Valkey 8 has no fields that expire.
    if world.engine() == "redis" {
        redis(&["HEXPIRE", "user:h", "3600", "FIELDS", "1", "a"]);
    }
    redis(&["XADD", "user:s", "*", "f", "v"]);
    redis(&["XGROUP", "CREATE", "user:s", "readers", "0"]);
    redis(&["SET", "other", "before"]);
    redis(&["SET", "user:short", "before", "EX", &SHORT_LIFE_S.to_string()]);
    std::thread::sleep(Duration::from_secs(1));
    let second = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    redis(&["SET", "user:1", "after"]);
    redis(&["DEL", "user:h", "user:s"]);
    redis(&["SET", "other", "after"]);
    world.until(Duration::from_secs(60), "the log to be shipped", || {
        let until = world.status()["log_until"]
            .as_str()
            .map(|text| text.parse::<jiff::Timestamp>().unwrap());
        until.is_some_and(|until| until > second)
            && jiff::Timestamp::now().as_second() > second.as_second() + SHORT_LIFE_S
    });
    let at = second.to_string();
    let some = [
        "restore",
        "--at",
        &at,
        "--to",
        "live",
        "--keys",
        "user:*",
        "--confirm",
        "demo",
        "--json",
    ];
    let told = world.infra(&some).exits(0).json();
    assert_eq!(told["picked"], serde_json::json!({"keys": 3, "expired": 1}), "{told}");
    redis(&["GET", "user:1"]).says("before");
    redis(&["GET", "other"]).says("after");
    redis(&["XINFO", "GROUPS", "user:s"]).says("readers");
    redis(&["HGET", "user:h", "a"]).says("1");
    on("replica", &["GET", "user:1"]).says("before");
    let told = world.infra(&[&some[..], &["--shift-ttl"]].concat()).exits(0).json();
    assert_eq!(told["picked"], serde_json::json!({"keys": 4, "expired": 0}), "{told}");
    redis(&["GET", "user:short"]).says("before");

    let drill = world.infra(&["backup", "drill", "--at", &at, "--json"]).exits(0).json();
    assert!(drill["drill"]["sampled"]["same"].as_u64().unwrap() > 20, "{drill}");
    assert!(drill["drill"]["keys"].as_u64().unwrap() > 1_000, "{drill}");
    assert_eq!(world.status()["beside"], serde_json::json!([]));
    let made = world
        .infra(&["restore", "--at", &at, "--to", "instance", "--json"])
        .exits(0)
        .json();
    on("restored", &["GET", "user:1"]).says("before");
    on("restored", &["GET", "other"]).says("before");
    world.infra(&["ssh", "restored", "hostname"]).exits(0).says("restored");
    let status = world.status();
    assert_eq!(status["beside"][0]["instance"], made["instance"], "{status}");
    assert_eq!(status["drift"], serde_json::json!([]), "{status}");
    world.infra(&["restore", "--remove", "--confirm", "demo"]).exits(0);
    world
        .infra(&["restore", "--remove", "--confirm", "demo"])
        .exits(0)
        .says("no instance");

    let file = &rdb_file(world, "import", "done");
    world
        .infra(&["restore", "--from", file, "--confirm", "demo"])
        .exits(0)
        .says("1 keys");
    world
        .infra(&["redis-cli", "replica", "GET", "import"])
        .exits(0)
        .says("done");
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() - 12]).unwrap();
    world
        .infra(&["restore", "--from", file, "--confirm", "demo"])
        .exits(5)
        .says("no whole RDB file");
    world
        .infra(&["redis-cli", "master", "GET", "import"])
        .exits(0)
        .says("done");
    // All of it once more, with the life that its keys had.
    world
        .infra(&[
            "restore",
            "--at",
            &at,
            "--to",
            "live",
            "--shift-ttl",
            "--confirm",
            "demo",
        ])
        .exits(0);
    let left = redis(&["TTL", "user:1"]).printed();
    let left: i64 = left.lines().find_map(|line| line.trim().parse().ok()).unwrap();
    assert!((3_560..3_600).contains(&left), "{left} s are left of an hour");
    redis(&["GET", "other"]).says("before");
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
}

/// A file as Redis 5 writes it, with one key: a host of a newer version reads it.
pub fn rdb_file(world: &World, key: &str, value: &str) -> String {
    let mut bytes = b"REDIS0009\xfa\x09redis-ver\x055.0.0\xfe\x00".to_vec();
    bytes.push(0);
    for text in [key, value] {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes.push(0xff);
    // A checksum of zero stands for none.
    bytes.extend([0; 8]);
    let path = world.folder().join("dump.rdb");
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().into()
}
