//! The demo app against a real Redis, and the checker against damage that is done on purpose.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rig::relay::Relay;
use rig::{acknowledged, connect, dyno, dyno_with, end, rent, wait_until};
use sandbox::addon::{Addon, Profile};
use sandbox::children::Launcher;
use sandbox::connect::Target;
use sandbox::demo::keys;
use sandbox::demo::ledger::{self, FindingKind, Verdict};

async fn verdict(ledgers: &Path, addon: &Addon) -> Verdict {
    let expectations = ledger::read_folder(ledgers).unwrap();
    let target = Target::parse(addon.url(), addon.certificate()).unwrap();
    let observed = ledger::observe(&target, &expectations).await.unwrap();
    ledger::judge(&expectations, &expectations, &observed)
}

/// Runs the standard formation until so many writes are acknowledged, then ends it properly.
async fn run_until(ledgers: &Path, addon: &Addon, writes: u64) {
    let launcher = Launcher::new().unwrap();
    let mut dynos = Vec::new();
    for (role, name) in [("web", "web.1"), ("web", "web.2"), ("worker", "worker.1")] {
        dynos.push(dyno(&launcher, ledgers, addon, role, name).await);
    }
    wait_until("enough was written", || acknowledged(ledgers) >= writes).await;
    for child in &mut dynos {
        end(child, Signal::SIGTERM).await;
    }
}

#[tokio::test]
async fn two_thousand_writes_a_second_are_acknowledged_and_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let start = Instant::now();
    run_until(&ledgers, &addon, 6000).await;
    let seconds = start.elapsed().as_secs_f64();
    let report = ledger::report(&ledger::read_folder(&ledgers).unwrap());
    assert!(seconds > 2.0, "{report:?} in {seconds} s: faster than asked");
    assert_eq!((report.client_errors, report.unanswered), (0, 0));
    let verdict = verdict(&ledgers, &addon).await;
    assert!(verdict.is_clean(), "{verdict:?}");
    assert!(verdict.checked > 1000);
}

#[tokio::test]
async fn killed_processes_and_broken_connections_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let launcher = Launcher::new().unwrap();
    let mut web = dyno(&launcher, &ledgers, &addon, "web", "web.1").await;
    let mut doomed = dyno(&launcher, &ledgers, &addon, "web", "web.2").await;
    let mut worker = dyno(&launcher, &ledgers, &addon, "worker", "worker.1").await;
    let mut doomed_worker = dyno(&launcher, &ledgers, &addon, "worker", "worker.2").await;
    let mut redis = connect(&addon, 0).await;
    for round in 1..=5 {
        wait_until("the app went on", || acknowledged(&ledgers) >= round * 1500).await;
        redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .arg("SKIPME")
            .arg("yes")
            .exec_async(&mut redis.commands)
            .await
            .unwrap();
    }
    end(&mut doomed, Signal::SIGKILL).await;
    end(&mut doomed_worker, Signal::SIGKILL).await;
    wait_until("the app went on", || acknowledged(&ledgers) >= 9000).await;
    end(&mut web, Signal::SIGTERM).await;
    end(&mut worker, Signal::SIGTERM).await;
    let report = ledger::report(&ledger::read_folder(&ledgers).unwrap());
    assert!(
        report.client_errors + report.connection_errors > 0,
        "nothing was cut: {report:?}"
    );
    let verdict = verdict(&ledgers, &addon).await;
    assert!(verdict.is_clean(), "{verdict:?}");
}

#[tokio::test]
async fn a_write_pause_makes_the_app_wait_and_fails_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", false, Profile::Default).await;
    let launcher = Launcher::new().unwrap();
    let mut web = dyno(&launcher, &ledgers, &addon, "web", "web.1").await;
    wait_until("the app wrote", || acknowledged(&ledgers) >= 500).await;
    let mut redis = connect(&addon, 0).await;
    redis::cmd("CLIENT")
        .arg("PAUSE")
        .arg(1500)
        .arg("WRITE")
        .exec_async(&mut redis.commands)
        .await
        .unwrap();
    let so_far = acknowledged(&ledgers);
    wait_until("the app went on", || acknowledged(&ledgers) >= so_far + 1000).await;
    end(&mut web, Signal::SIGTERM).await;
    let report = ledger::report(&ledger::read_folder(&ledgers).unwrap());
    assert_eq!((report.client_errors, report.connection_errors), (0, 0));
    assert!((1400.0..3000.0).contains(&report.longest_gap_ms), "{report:?}");
    assert!(verdict(&ledgers, &addon).await.is_clean());
}

/// The variables of an app that repeats what was not acknowledged.
const REPEATS: (&str, &str) = ("DEMO_REPEATS", "1");

#[tokio::test]
async fn an_app_that_repeats_does_nothing_twice_when_answers_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", false, Profile::Default).await;
    let (before, place) = addon.url().rsplit_once('@').unwrap();
    let relay = Relay::before(place.trim_end_matches('/').parse().unwrap()).await;
    let url = format!("{before}@{}", relay.address);
    let variables = [REPEATS, ("REDIS_URL", url.as_str())];
    let launcher = Launcher::new().unwrap();
    let mut web = dyno_with(&launcher, &ledgers, &addon, "web", "web.1", &variables).await;
    for round in 1..=5 {
        wait_until("the app went on", || acknowledged(&ledgers) >= round * 500).await;
        relay.lose_answers();
    }
    wait_until("the app went on", || acknowledged(&ledgers) >= 3500).await;
    end(&mut web, Signal::SIGTERM).await;
    let report = ledger::report(&ledger::read_folder(&ledgers).unwrap());
    assert_eq!((report.client_errors, report.unanswered), (0, 0), "{report:?}");
    assert!(
        report.repeated > 0 && report.found_done > 0,
        "no answer was lost: {report:?}"
    );
    let verdict = verdict(&ledgers, &addon).await;
    assert!(verdict.is_clean(), "{verdict:?}");
}

#[tokio::test]
async fn a_process_repeats_what_the_one_before_it_got_no_answer_to() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let launcher = Launcher::new().unwrap();
    let variables = [REPEATS, ("DEMO_SHUTDOWN_SECONDS", "0")];
    let mut web = dyno_with(&launcher, &ledgers, &addon, "web", "web.1", &variables).await;
    wait_until("the app wrote", || acknowledged(&ledgers) >= 500).await;
    let mut redis = connect(&addon, 0).await;
    let pause = redis::cmd("CLIENT").arg("PAUSE").arg(10_000).arg("WRITE").to_owned();
    pause.exec_async(&mut redis.commands).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    end(&mut web, Signal::SIGTERM).await;
    let errors = || ledger::report(&ledger::read_folder(&ledgers).unwrap()).client_errors;
    assert!(errors() > 0, "its writes waited when it ended");
    let resume = redis::cmd("CLIENT").arg("UNPAUSE").to_owned();
    resume.exec_async(&mut redis.commands).await.unwrap();
    let mut next = dyno_with(&launcher, &ledgers, &addon, "web", "web.1", &variables).await;
    wait_until("the next process had them confirmed", || errors() == 0).await;
    end(&mut next, Signal::SIGTERM).await;
    let verdict = verdict(&ledgers, &addon).await;
    assert!(verdict.is_clean(), "{verdict:?}");
}

/// Returns the place of a value that stands in a key of its own.
fn marker(expectations: &ledger::Expectations) -> (i64, String, Option<String>) {
    let mut risings = expectations.risings.keys();
    risings.find(|place| place.2.is_none()).unwrap().clone()
}

#[tokio::test]
async fn the_checker_finds_each_kind_of_damage() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    run_until(&ledgers, &addon, 3000).await;
    assert!(verdict(&ledgers, &addon).await.is_clean());

    let expectations = ledger::read_folder(&ledgers).unwrap();
    let (database, marker, _) = marker(&expectations);
    let (_, counter) = expectations
        .counters
        .keys()
        .find(|place| place.0 == database)
        .unwrap()
        .clone();
    let mut risings = expectations.risings.keys();
    let score = risings.find(|place| place.0 == database && place.2.is_some() && !keys::has_fields(&place.1));
    let (_, scores, member) = score.unwrap().clone();
    let (job, _) = expectations
        .jobs
        .iter()
        .find(|(_, job)| job.done_acknowledged == 1)
        .unwrap();
    let (producer, number) = keys::parse_job(job).unwrap();
    let mut redis = connect(&addon, database).await;
    let redis = &mut redis.commands;

    redis::cmd("DEL").arg(&marker).exec_async(redis).await.unwrap();
    assert_eq!(verdict(&ledgers, &addon).await.by_kind[&FindingKind::LostMarker], 1);
    redis::cmd("DECR").arg(&counter).exec_async(redis).await.unwrap();
    assert_eq!(
        verdict(&ledgers, &addon).await.by_kind[&FindingKind::CounterWentBack],
        1
    );
    redis::cmd("ZINCRBY")
        .arg(&scores)
        .arg(-1)
        .arg(&member)
        .exec_async(redis)
        .await
        .unwrap();
    assert_eq!(verdict(&ledgers, &addon).await.by_kind[&FindingKind::LostScore], 1);

    let again = |by: i64| {
        redis::cmd("BITFIELD")
            .arg(keys::done(producer))
            .arg("INCRBY")
            .arg("u2")
            .arg(format!("#{number}"))
            .arg(by)
            .take()
    };
    again(1).exec_async(redis).await.unwrap();
    let red = verdict(&ledgers, &addon).await;
    assert_eq!((red.by_kind[&FindingKind::DoubledJob], red.duplicated), (1, 1));
    again(-2).exec_async(redis).await.unwrap();
    let red = verdict(&ledgers, &addon).await;
    assert_eq!((red.by_kind[&FindingKind::LostCompletion], red.duplicated), (1, 0));
    assert_eq!(red.lost, 4);
    assert!(
        red.findings
            .iter()
            .any(|finding| finding.key == marker && finding.found == "missing")
    );
}

#[tokio::test]
async fn an_orphaned_job_is_taken_over_when_its_workers_lease_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", false, Profile::Default).await;
    let mut redis = connect(&addon, 0).await;
    let orphan = keys::job("web.0", 7);
    redis::cmd("RPUSH")
        .arg(keys::processing("dead"))
        .arg(&orphan)
        .exec_async(&mut redis.commands)
        .await
        .unwrap();
    redis::cmd("SADD")
        .arg(keys::WORKERS)
        .arg("dead")
        .exec_async(&mut redis.commands)
        .await
        .unwrap();
    let launcher = Launcher::new().unwrap();
    let mut worker = dyno(&launcher, &ledgers, &addon, "worker", "worker.1").await;
    let started = Instant::now();
    loop {
        let counts: Option<Vec<u8>> = redis::cmd("GET")
            .arg(keys::done("web.0"))
            .query_async(&mut redis.commands)
            .await
            .unwrap();
        if keys::done_count(&counts.unwrap_or_default(), 7) == 1 {
            break;
        }
        assert!(started.elapsed() < rig::PATIENCE, "the job was not taken over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    end(&mut worker, Signal::SIGTERM).await;
    let left: Vec<String> = redis::cmd("SMEMBERS")
        .arg(keys::WORKERS)
        .query_async(&mut redis.commands)
        .await
        .unwrap();
    assert!(left.is_empty(), "{left:?}");
}

fn acknowledged_of(ledgers: &Path, kind: &str) -> u64 {
    if !ledgers.exists() {
        return 0;
    }
    let report = ledger::report(&ledger::read_folder(ledgers).unwrap());
    report.acknowledged_by_kind.get(kind).copied().unwrap_or(0)
}

async fn names_of_clients(redis: &mut redis::aio::MultiplexedConnection) -> usize {
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.unwrap();
    list.lines().count()
}

#[tokio::test]
async fn a_worker_puts_its_long_job_back_over_a_fresh_connection_shortly_before_it_would_be_killed() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let launcher = Launcher::new().unwrap();
    let mut web = dyno(&launcher, &ledgers, &addon, "web", "web.1").await;
    let farewell = [("SANDBOX_KILL_AFTER_SECONDS", "2.4")];
    let mut worker = dyno_with(&launcher, &ledgers, &addon, "worker", "worker.1", &farewell).await;
    wait_until("a job is held", || acknowledged_of(&ledgers, "job_held") == 1).await;
    wait_until("jobs are done", || acknowledged_of(&ledgers, "job_done") > 20).await;
    end(&mut web, Signal::SIGTERM).await;
    assert!(verdict(&ledgers, &addon).await.is_clean());

    let mut redis = connect(&addon, 0).await;
    let asked = Instant::now();
    let ending = async {
        end(&mut worker, Signal::SIGTERM).await;
        asked.elapsed()
    };
    let looking = async {
        // Well after the worker has dropped its connection, and before it reconnects.
        tokio::time::sleep(Duration::from_millis(1600)).await;
        let others = names_of_clients(&mut redis.commands).await - 1;
        (others, acknowledged_of(&ledgers, "job_put_back"))
    };
    let (took, seen) = tokio::join!(ending, looking);
    assert_eq!(seen, (0, 0), "clients and put-backs in between");
    assert!((2.0..2.4).contains(&took.as_secs_f64()), "{took:?}");
    assert_eq!(acknowledged_of(&ledgers, "job_put_back"), 1);
    assert!(verdict(&ledgers, &addon).await.is_clean());

    let queue: Vec<String> = redis::cmd("LRANGE")
        .arg(keys::QUEUE)
        .arg(-1)
        .arg(-1)
        .query_async(&mut redis.commands)
        .await
        .unwrap();
    let mut removal = redis::cmd("LREM");
    removal.arg(keys::QUEUE).arg(1).arg(&queue);
    removal.exec_async(&mut redis.commands).await.unwrap();
    assert_eq!(verdict(&ledgers, &addon).await.by_kind[&FindingKind::LostJob], 1);
}

#[derive(clap::Parser)]
struct Line {
    #[command(subcommand)]
    command: sandbox::demo::Command,
}

async fn run(line: &[&str]) -> anyhow::Result<ExitCode> {
    let words = ["sandbox"].iter().chain(line);
    <Line as clap::Parser>::try_parse_from(words)
        .unwrap()
        .command
        .run()
        .await
}

#[tokio::test]
async fn the_check_command_tells_clean_damaged_and_unproven_apart() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    run_until(&ledgers, &addon, 1000).await;
    let certificate = folder.path().join("ca.pem");
    std::fs::write(&certificate, addon.certificate().unwrap()).unwrap();
    let (folder_text, certificate_text) = (ledgers.to_string_lossy(), certificate.to_string_lossy());
    let check = [
        "ledger",
        "check",
        "--url",
        addon.url(),
        "--ca",
        &certificate_text,
        "--json",
        "--ledgers",
        &folder_text,
    ];
    assert_eq!(run(&check).await.unwrap(), ExitCode::SUCCESS);
    let expectations = ledger::read_folder(&ledgers).unwrap();
    let (database, marker, _) = marker(&expectations);
    let mut redis = connect(&addon, database).await;
    redis::cmd("DEL")
        .arg(marker)
        .exec_async(&mut redis.commands)
        .await
        .unwrap();
    assert_eq!(run(&check).await.unwrap(), ExitCode::from(5));

    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let nothing = run(&[
        "ledger",
        "check",
        "--url",
        addon.url(),
        "--ledgers",
        &empty.to_string_lossy(),
    ])
    .await;
    assert!(nothing.unwrap_err().to_string().contains("nothing is proven"));
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure_of_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger");
    let addon = rent(folder.path(), "redis", false, Profile::Default).await;
    run_until(&ledgers, &addon, 200).await;
    for form in [None, Some("--json")] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandbox"));
        command
            .args(["ledger", "check", "--url", addon.url(), "--ledgers"])
            .arg(&ledgers)
            .args(form);
        let output = command
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{form:?}: {} {said}", output.status);
    }
}
