//! The engine writes where the agent does not read, or not at all: no second of that is claimed.

use crate::outages::{all_seconds, begin, end, now, signal, sleep, troubles};
use crate::writer::Writer;
use serde_json::json;
use std::process::{Child, Command};
use std::time::Duration;
use testkit::backups::World;
use testkit::processes::spawn;
use testkit::waiting::{until, within};

/// A rewrite of the writer's two hundred keys then takes ten seconds.
const SLOWLY: &str = "50000";

fn set(world: &World, name: &str, value: &str) {
    assert_eq!(world.ask(&["CONFIG", "SET", name, value]), "OK", "{name}");
}

/// The log is not in force from now until a rewrite ends, as after a full copy.
fn stop_log(world: &World) {
    set(world, "rdb-key-save-delay", SLOWLY);
    set(world, "appendonly", "no");
    set(world, "appendonly", "yes");
    set(world, "rdb-key-save-delay", "0");
    assert!(world.path("data/appendonlydir/temp-appendonly.aof.incr").exists());
}

fn info(world: &World, name: &str) -> String {
    let text = world.ask(&["INFO", "everything"]);
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    found.unwrap_or_default().trim().to_string()
}

/// The agent follows a timeline other than `before`, and a base of it is in the bucket.
fn until_based(world: &World, before: &str) {
    within(Duration::from_secs(60), "a new timeline has its base", || {
        let last = std::fs::read(world.path("agent/last.json")).unwrap_or_default();
        let last: serde_json::Value = serde_json::from_slice(&last).unwrap_or_default();
        let timeline = world.status()["timeline"].clone();
        timeline != before && last["timeline"] == timeline
    });
}

fn timeline(world: &World) -> String {
    world.status()["timeline"].as_str().unwrap_or_default().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn seconds_before_the_first_rewrite_after_a_full_copy_are_not_claimed() {
    let (world, writer, first) = begin(1, "").await;
    sleep(3);
    let before = timeline(&world);
    let stopped = now();
    stop_log(&world);
    sleep(7);
    assert_eq!(
        info(&world, "aof_rewrite_in_progress"),
        "1",
        "it was too fast for this test"
    );
    let claimed = world.shipped_until();
    assert!(claimed <= stopped, "{} s of no log are claimed", claimed - stopped);
    assert!(troubles(&world).contains("not in force"), "{}", troubles(&world));
    assert!(world.status()["gap"]["after"].as_i64().unwrap() <= stopped);
    until_based(&world, &before);
    sleep(3);
    let diary = end(&world, writer).await;
    let catalogue = world.catalogue().await;
    let gap = catalogue.declared_gaps()[0].gap.clone().unwrap();
    assert!(gap.why.contains("append-only log"), "{gap:?}");
    assert!(
        (stopped - 4..=stopped).contains(&gap.after),
        "{gap:?}, stopped at {stopped}"
    );
    let (exact, refused) = all_seconds(&world, first, &diary).await;
    assert!(
        exact > 4 && refused.contains(&(stopped + 5)),
        "{exact} exact, {refused:?} refused"
    );
    println!("{exact} seconds exact, {} refused", refused.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_off_while_the_agent_was_dead_is_a_gap() {
    let (mut world, writer, first) = begin(1, "").await;
    sleep(3);
    let before = timeline(&world);
    world.kill_agent();
    let stopped = now();
    set(&world, "appendonly", "no");
    sleep(4);
    set(&world, "appendonly", "yes");
    within(Duration::from_secs(20), "the log is in force again", || {
        info(&world, "aof_rewrite_in_progress") == "0" && info(&world, "aof_rewrite_scheduled") == "0"
    });
    world.start_agent();
    until_based(&world, &before);
    sleep(3);
    let diary = end(&world, writer).await;
    let (exact, refused) = all_seconds(&world, first, &diary).await;
    assert!(
        exact > 4 && refused.contains(&(stopped + 2)),
        "{exact} exact, {refused:?} refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_the_log_is_not_in_force_declares_a_gap() {
    for watched in [true, false] {
        let mut world = World::new(1).await;
        world.start_shipping();
        let keys = "for i = 1, 200 do redis.call('SET', 'key:' .. i, i) end";
        world.ask(&["EVAL", keys, "0"]);
        sleep(3);
        if !watched {
            world.kill_agent();
        }
        stop_log(&world);
        let lost = now() + 2;
        for _ in 0..4 {
            world.ask(&["INCR", "unlogged"]);
            sleep(1);
        }
        world.kill_engine();
        world.start_engine();
        assert_eq!(world.ask(&["EXISTS", "unlogged"]), "0");
        if !watched {
            world.start_agent();
        }
        sleep(4);
        world.ask(&["SET", "after", "1"]);
        let after = now();
        until("it is shipped", || world.shipped_until() >= after);
        let catalogue = world.catalogue().await;
        let covered = catalogue.covered();
        let claims = |range: &infra::effects::backup::catalogue::Range| {
            (range.from.as_second()..=range.until.as_second()).contains(&lost)
        };
        assert!(
            !covered.iter().any(claims),
            "watched: {watched}, {lost} is lost: {covered:?}"
        );
        assert!(covered.last().unwrap().from.as_second() > lost, "{covered:?}");
        assert_eq!(catalogue.declared_gaps().len(), 1, "watched: {watched}");
        // The file that the crash left behind is reported once.
        world.kill_agent();
        world.start_agent();
        sleep(3);
        assert_eq!(world.catalogue().await.declared_gaps().len(), 1, "watched: {watched}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_the_engine_holds_back_are_not_claimed() {
    let mut world = World::new(1).await;
    world.kill_engine();
    world.engine_under = vec!["env", "--ignore-signal=XFSZ"];
    world.start_engine();
    world.start_shipping();
    // Its second is still to be closed.
    world.ask(&["SET", "a", "1"]);
    sleep(1);
    let limit = |bytes: &str| {
        let done = Command::new("prlimit")
            .args(["--pid", &world.engine_pid().to_string(), &format!("--fsize={bytes}")])
            .status();
        assert!(done.unwrap().success());
    };
    limit("20:unlimited");
    let held = now();
    assert_eq!(world.ask(&["SET", "b", "2"]), "OK");
    assert_eq!(info(&world, "aof_last_write_status"), "err");
    sleep(11);
    assert_eq!(info(&world, "aof_last_write_status"), "err");
    let claimed = world.shipped_until();
    assert!(claimed < held, "{} s after the write are claimed", claimed - held);
    assert!(troubles(&world).contains("cannot write"), "{}", troubles(&world));
    limit("unlimited:unlimited");
    within(Duration::from_secs(20), "it is claimed once it is written", || {
        world.shipped_until() >= held
    });
    until("nothing is wrong any more", || troubles(&world) == "[]");
    assert_eq!(world.catalogue().await.declared_gaps().len(), 0);
}

/// A second engine, which ends with the test.
struct Other {
    folder: tempfile::TempDir,
    port: String,
    engine: Option<Child>,
}

impl Other {
    fn start() -> Other {
        let port = testkit::free_port();
        let mut other = Other {
            folder: tempfile::tempdir().unwrap(),
            port: port.to_string(),
            engine: None,
        };
        other.engine = Some(spawn(
            Command::new("redis-server")
                .args(["--port", &other.port, "--bind", "127.0.0.1", "--save", ""])
                .args(["--repl-diskless-sync-delay", "0", "--dir"])
                .arg(other.folder.path()),
            &other.folder.path().join("out"),
        ));
        until("the other engine answers", || other.ask(&["PING"]) == "PONG");
        other
    }

    fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port]).args(words).output();
        String::from_utf8_lossy(&output.unwrap().stdout).trim().to_string()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        testkit::processes::kill(&mut self.engine);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_a_change_of_role_overtakes_serves_its_seconds() {
    let mut world = World::new(1).await;
    let other = Other::start();
    other.ask(&["EVAL", "for i = 1, 200 do redis.call('SET', 'key:' .. i, i) end", "0"]);
    set(&world, "masterauth", "");
    assert_eq!(world.ask(&["REPLICAOF", "127.0.0.1", &other.port]), "OK");
    until("it has the other data", || world.ask(&["DBSIZE"]) == "200");
    until("its log is in force", || info(&world, "aof_rewrite_in_progress") == "0");
    world.start_shipping();
    other.ask(&["SET", "followed", "1"]);
    sleep(2);
    set(&world, "rdb-key-save-delay", "30000");
    let base = std::thread::scope(|scope| {
        let made = scope.spawn(|| world.base());
        until("the base is being written", || {
            info(&world, "aof_rewrite_in_progress") == "1"
        });
        other.ask(&["SET", "followed", "2"]);
        sleep(2);
        let before = timeline(&world);
        assert_eq!(world.ask(&["REPLICAOF", "NO", "ONE"]), "OK");
        until("the change of role is seen", || timeline(&world) != before);
        assert_eq!(
            info(&world, "aof_rewrite_in_progress"),
            "1",
            "it was too fast for this test"
        );
        world.ask(&["SET", "own", "3"]);
        made.join().unwrap()
    });
    assert!(base.status.success(), "{}", String::from_utf8_lossy(&base.stderr));
    world.ask(&["SET", "own", "4"]);
    let written = now();
    until("what was written since is shipped", || world.shipped_until() >= written);
    let catalogue = world.catalogue().await;
    let newest = catalogue.bases.last().unwrap();
    assert!(newest.keys >= 201, "{} keys", newest.keys);
    let line = catalogue.line(newest);
    assert!(
        line.until >= written,
        "the base is at {:?} of {} and serves {} to {}, of timelines that begin at {:?}",
        newest.start,
        newest.timeline,
        line.from,
        line.until,
        catalogue
            .timelines
            .values()
            .filter_map(|log| log.record.as_ref().map(|record| record.start))
            .collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_known_of_a_folder_is_forgotten_when_it_is_replaced() {
    let mut world = World::new(1).await;
    world.start_shipping();
    world.ask(&["SET", "old", "1"]);
    // An ordinary rewrite leads from the first increment to the second.
    assert!(world.base().status.success());
    let live = world.path("data/appendonlydir");
    world.kill_engine();
    std::fs::rename(&live, world.path("data/aside")).unwrap();
    let before = timeline(&world);
    std::fs::create_dir(&live).unwrap();
    std::fs::copy(
        world.path("data/aside/appendonly.aof.2.base.rdb"),
        live.join("appendonly.aof.1.base.rdb"),
    )
    .unwrap();
    std::fs::write(live.join("appendonly.aof.1.incr.aof"), "").unwrap();
    let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
    std::fs::write(live.join("appendonly.aof.manifest"), manifest).unwrap();
    world.start_engine();
    until_based(&world, &before);
    world.ask(&["SET", "restored", "1"]);
    sleep(1);
    let restored = timeline(&world);
    // The log goes from the first increment to the second once more, but now it does not continue.
    // The agent is stopped meanwhile, so that it sees only the result.
    signal(&world, "-STOP");
    set(&world, "appendonly", "no");
    world.ask(&["SET", "unlogged", "1"]);
    set(&world, "appendonly", "yes");
    until("the log is in force again", || {
        let idle = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"].map(|name| info(&world, name));
        idle == ["0", "0"] && live.join("appendonly.aof.2.incr.aof").exists()
    });
    signal(&world, "-CONT");
    until_based(&world, &restored);
    let written = now();
    world.ask(&["SET", "after", "1"]);
    until("it is shipped", || world.shipped_until() >= written);
    let catalogue = world.catalogue().await;
    let wish = infra::effects::backup::catalogue::Wish::Latest;
    let (_folder, engine) = world.restored(&catalogue, &wish).await.unwrap();
    let mut connection = engine.connection();
    for key in ["old", "restored", "unlogged", "after"] {
        let found: Option<u64> = redis::cmd("GET").arg(key).query_async(&mut connection).await.unwrap();
        assert_eq!(found, Some(1), "{key}");
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_after_segments_that_were_dropped_claims_none_of_them() {
    let (mut world, writer, _) = begin(1, "INFRA_BACKLOG_KB=20\n").await;
    sleep(2);
    let diary = writer.stop();
    let last = *diary.keys().max().unwrap();
    until("nothing waits", || {
        world.shipped_until() > last && world.status()["backlog_pieces"] == json!(0)
    });
    let shipped = world.shipped_until();
    world.fail(json!({"service": "s3", "operation": "PutObject", "status": 503}));
    // The oldest that waits is the record of the timeline that now begins.
    let before = timeline(&world);
    world.kill_engine();
    world.start_engine();
    until("a timeline begins", || timeline(&world) != before);
    let writer = Writer::start(&world.path("s"), Duration::from_millis(5));
    until("it is declared", || world.agent_said().contains("the log has a gap"));
    let after = world.status()["gap"]["after"].as_i64().unwrap_or(0);
    let said = world.agent_said();
    let said = said.lines().rfind(|line| line.contains("the log has a gap")).unwrap();
    writer.stop();
    assert!(
        said.contains(&format!("after second {shipped}:")),
        "{said}; shipped until {shipped}, reported {after}"
    );
}
