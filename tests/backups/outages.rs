//! Everything around the agent fails and heals: restores are exact, or a gap is declared.

use crate::writer::{Diary, Writer, at_end_of, differs};
use infra::effects::backup::catalogue::Wish;
use infra::effects::backup::restore;
use jiff::Timestamp;
use serde_json::json;
use std::process::Command;
use std::time::Duration;
use testkit::backups::{ENV, World};
use testkit::waiting::{until, within};

pub fn sleep(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

pub fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Restores every covered second from `first` on. Returns the number of exact and the refused ones.
pub async fn all_seconds(world: &World, first: i64, diary: &Diary) -> (u64, Vec<i64>) {
    let catalogue = world.catalogue().await;
    assert_eq!(catalogue.findings, []);
    let end = catalogue.covered().last().unwrap().until.as_second();
    let (mut exact, mut refused) = (0, Vec::new());
    for second in first..=end {
        let wish = Wish::At(Timestamp::from_second(second).unwrap());
        if restore::choose(&catalogue, &wish).is_err() {
            refused.push(second);
            continue;
        }
        let (_folder, engine) = world.restored(&catalogue, &wish).await.unwrap();
        let number = at_end_of(diary, second);
        let wrong = differs(&mut engine.connection(), number).await;
        assert_eq!(wrong, None, "second {second}, {} after the first", second - first);
        engine.stop().await;
        exact += 1;
    }
    (exact, refused)
}

/// Expects that every second restores exactly, or that a gap is declared.
async fn all_seconds_or_a_gap(world: &World, first: i64, diary: &Diary) {
    let (exact, refused) = all_seconds(world, first, diary).await;
    let declared = world.catalogue().await.declared_gaps().len();
    assert!(
        refused.is_empty() || declared > 0,
        "{refused:?} refused and no gap declared"
    );
    println!(
        "{exact} seconds exact, {} refused, {declared} gaps declared",
        refused.len()
    );
}

pub async fn begin(rpo_s: u64, more: &str) -> (World, Writer, i64) {
    let mut world = World::with(rpo_s, more).await;
    world.start_shipping();
    let first = now() + 1;
    let writer = Writer::start(&world.path("s"), Duration::from_millis(5));
    (world, writer, first)
}

pub async fn end(world: &World, writer: Writer) -> Diary {
    let diary = writer.stop();
    let last = *diary.keys().max().unwrap();
    within(Duration::from_secs(60), "all of it is shipped", || {
        world.shipped_until() > last
    });
    diary
}

pub fn troubles(world: &World) -> String {
    world.status()["troubles"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_refuses_fails_dawdles_or_hangs_costs_nothing_but_time() {
    let (world, writer, first) = begin(1, "").await;
    for (fault, said) in [
        (
            json!({"service": "s3", "operation": "PutObject", "status": 403}),
            "403 AccessDenied",
        ),
        (
            json!({"service": "s3", "operation": "PutObject", "status": 503}),
            "503 SlowDown",
        ),
        (
            json!({"service": "s3", "operation": "PutObject", "status": 200, "delay_s": 1.5}),
            "",
        ),
    ] {
        sleep(2);
        world.fail(fault);
        until("it is reported", || troubles(&world).contains(said));
        sleep(3);
        // A passing failure is waited for. A refusal is reported at once.
        if said.starts_with("403") {
            let made = world.base();
            assert!(!made.status.success(), "a base that was refused is no base");
            let text = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(text.contains("403"), "{text}");
        }
        world.heal();
    }
    // A final refusal is tried again after 15 s.
    let diary = end(&world, writer).await;
    until("nothing is wrong any more", || {
        troubles(&world) == "[]" || troubles(&world).contains("base:")
    });
    let (exact, refused) = all_seconds(&world, first, &diary).await;
    assert!(refused.is_empty() && exact > 10, "{exact} exact, {refused:?} refused");
    println!("{exact} seconds exact, 0 refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_over_the_limit_is_a_declared_gap_and_a_new_base_begins() {
    let (world, writer, first) = begin(1, "INFRA_BACKLOG_KB=20\n").await;
    sleep(3);
    world.fail(json!({"service": "s3", "operation": "PutObject", "status": 503}));
    until("it is declared", || world.agent_said().contains("the log has a gap"));
    world.heal();
    // Writing continues, so that the new timeline has something to cover.
    until("the new timeline has its base", || {
        let last = std::fs::read(world.path("agent/last.json")).unwrap_or_default();
        let last: serde_json::Value = serde_json::from_slice(&last).unwrap_or_default();
        last["timeline"] == world.status()["timeline"] && world.agent_said().matches("timeline 2").count() > 1
    });
    sleep(6);
    let diary = end(&world, writer).await;
    let catalogue = world.catalogue().await;
    let gaps = catalogue.declared_gaps();
    assert!(!gaps.is_empty(), "{}", world.agent_said());
    assert!(
        gaps[0].gap.as_ref().unwrap().why.contains("S3 did not take the log"),
        "{gaps:?}"
    );
    let (exact, refused) = all_seconds(&world, first, &diary).await;
    assert!(exact > 3, "{exact} exact, {refused:?} refused");
    println!("{exact} seconds exact, {} refused", refused.len());
}

pub fn signal(world: &World, name: &str) {
    let process = world.agent_pid().to_string();
    let done = Command::new("kill").args([name, &process]).status();
    assert!(done.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stood_still_through_a_rewrite_goes_on_or_declares_what_it_missed() {
    let (world, writer, first) = begin(1, "").await;
    sleep(3);
    signal(&world, "-STOP");
    sleep(2);
    for _ in 0..2 {
        assert!(world.ask(&["BGREWRITEAOF"]).starts_with("Background"));
        sleep(2);
    }
    signal(&world, "-CONT");
    sleep(3);
    let diary = end(&world, writer).await;
    all_seconds_or_a_gap(&world, first, &diary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_copy_from_another_master_is_no_continuation() {
    let (world, writer, first) = begin(1, "").await;
    sleep(3);
    let diary = end(&world, writer).await;
    let switched = now();
    // Another engine has other data. Ours follows it, so its next increment begins with that.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let port = testkit::free_port();
    let mut other = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--repl-diskless-sync-delay",
            "0",
        ])
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ask_other = |words: &[&str]| {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(&socket)
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    until("the other engine answers", || ask_other(&["PING"]) == "PONG");
    ask_other(&["SET", "counter", "424242"]);
    world.ask(&["CONFIG", "SET", "masterauth", ""]);
    assert_eq!(world.ask(&["REPLICAOF", "127.0.0.1", &port.to_string()]), "OK");
    until("it has the other data", || world.ask(&["GET", "counter"]) == "424242");
    sleep(4);
    let stop = now();
    world.ask(&["REPLICAOF", "NO", "ONE"]);
    until("the newest state is shipped", || world.shipped_until() > stop);
    let _ = other.kill();
    let _ = other.wait();

    let catalogue = world.catalogue().await;
    let (_folder, engine) = world.restored(&catalogue, &Wish::Latest).await.unwrap();
    let counter: u64 = redis::cmd("GET")
        .arg("counter")
        .query_async(&mut engine.connection())
        .await
        .unwrap();
    assert_eq!(counter, 424_242, "the newest state is the other engine's");
    engine.stop().await;
    let before = diary.clone();
    let last = *before.keys().max().unwrap();
    let mut exact = 0;
    for second in first..=last {
        let wish = Wish::At(Timestamp::from_second(second).unwrap());
        let (_folder, engine) = world.restored(&catalogue, &wish).await.unwrap();
        let number = at_end_of(&before, second);
        assert_eq!(differs(&mut engine.connection(), number).await, None, "second {second}");
        engine.stop().await;
        exact += 1;
    }
    println!("{exact} seconds before the change exact; it was at {switched}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_and_nothing_is_lost_once_there_is_room() {
    let mut world = World::new(1).await;
    world.start_agent_on_small_disk();
    until("the first base is in the bucket", || {
        world.path("agent/mounted").exists() || world.agent_said().contains("base backups")
    });
    let first = now() + 1;
    let writer = Writer::start(&world.path("s"), Duration::from_millis(1));
    sleep(2);
    world.fail(json!({"service": "s3", "operation": "PutObject", "status": 503}));
    within(Duration::from_secs(40), "the full disk is reported", || {
        world.agent_said().contains("No space left")
    });
    world.heal();
    let last = now();
    let diary = writer.stop();
    until("it goes on", || world.agent_said().contains("log: all is well again"));
    // The agent's folder is in a mount of its own, so the bucket is asked what was shipped.
    let mut shipped = 0;
    for _ in 0..100 {
        shipped = infra::effects::backup::log(&world.bucket, ENV)
            .await
            .unwrap()
            .unwrap()
            .until
            .unwrap()
            .as_second();
        if shipped > last {
            break;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(shipped > last, "{shipped} is not after {last}");
    all_seconds_or_a_gap(&world, first, &diary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_descriptors_are_reported_and_nothing_is_lost_once_there_are_enough() {
    let (mut world, writer, first) = begin(1, "").await;
    sleep(2);
    let limit = |count: &str| {
        let done = Command::new("prlimit")
            .args([
                "--pid",
                &world.agent_pid().to_string(),
                &format!("--nofile={count}:1024"),
            ])
            .status()
            .unwrap();
        assert!(done.success());
    };
    limit("4");
    until("it is reported", || {
        world.agent_said().contains("Too many open files") || troubles(&world) != "[]"
    });
    sleep(3);
    limit("1024");
    sleep(2);
    let diary = end(&world, writer).await;
    let (exact, refused) = all_seconds(&world, first, &diary).await;
    assert!(refused.is_empty(), "{refused:?}");
    println!("{exact} seconds exact");
    world.kill_agent();
}
