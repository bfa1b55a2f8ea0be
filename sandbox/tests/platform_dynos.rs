//! Dynos as real processes, and platform, add-on and demo app together.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use rig::platform::Platform;
use rig::{acknowledged, rent, wait_until};
use sandbox::addon::Profile;
use sandbox::connect::Target;
use sandbox::demo::ledger;
use serde_json::{Value, json};

fn count(processes: &[Value], state: &str) -> usize {
    processes.iter().filter(|process| process["state"] == state).count()
}

fn seconds_between(process: &Value, from: &str, to: &str) -> f64 {
    let at = |name: &str| {
        process["timing"][name]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    at(to).duration_since(at(from)).as_secs_f64()
}

fn pid(process: &Value) -> i32 {
    i32::try_from(process["pid"].as_i64().unwrap()).unwrap()
}

/// Returns whether the process runs and is no zombie.
fn is_running(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[tokio::test]
async fn a_config_change_restarts_all_dynos_and_kills_those_that_do_not_stop() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::serve(folder.path(), 0.05).await;
    let stubborn = "trap '' TERM; echo \"$DYNO $COLOUR\"; while :; do sleep 0.05; done";
    let formation = json!({"web": {"command": ["sh", "-c", stubborn]}});
    platform
        .create_app(formation, json!({"COLOUR": "red"}), "redis://:secret@127.0.0.1:1")
        .await;
    platform.scale("web", 2).await;
    platform
        .wait_for_processes("both are up", |all| count(all, "up") == 2)
        .await;
    let log = folder.path().join("logs/demo/web.1.log");
    let logged = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
    wait_until("the first said so", || logged("web.1 red")).await;

    platform
        .done(Method::PATCH, "/apps/demo/config-vars", json!({"COLOUR": "blue"}))
        .await;
    let together = |all: &[Value]| count(all, "up") == 2 && count(all, "retiring") == 2;
    platform
        .wait_for_processes("old and new are there together", together)
        .await;
    let listed = platform.get("/apps/demo/dynos").await;
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|dyno| dyno["release"]["version"] == 3)
    );
    wait_until("the new one said so", || logged("web.1 blue")).await;

    let processes = platform
        .wait_for_processes("the old are gone", |all| count(all, "ended") == 2)
        .await;
    for old in processes.iter().filter(|process| process["state"] == "ended") {
        assert!(seconds_between(old, "retired_at", "signalled_at") < 1.0);
        let grace = seconds_between(old, "signalled_at", "killed_at");
        assert!(
            (1.5..3.0).contains(&grace),
            "30 s at a scale of 0.05 is 1.5 s, not {grace}"
        );
    }
    let pids: Vec<i32> = processes
        .iter()
        .filter(|process| process["state"] == "up")
        .map(pid)
        .collect();
    assert!(pids.iter().all(|pid| is_running(*pid)));
    platform.end().await;
    assert!(pids.iter().all(|pid| !is_running(*pid)), "dynos end with the platform");
}

#[tokio::test]
async fn an_ended_dyno_is_started_again_and_scaling_to_zero_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::serve(folder.path(), 0.1).await;
    let formation = json!({"worker": {"command": ["sleep", "600"]}});
    platform
        .create_app(formation, json!({}), "redis://:secret@127.0.0.1:1")
        .await;
    platform.scale("worker", 1).await;
    let up = |all: &[Value]| count(all, "up") == 1;
    let first = pid(&platform.wait_for_processes("it is up", up).await[0]);
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let again = |all: &[Value]| count(all, "up") == 1 && pid(&all[0]) != first;
    assert_eq!(
        platform.wait_for_processes("it is up again", again).await[0]["crashes"],
        1
    );

    let restarted = platform.send(Method::DELETE, "/apps/demo/dynos/worker.1", None).await;
    assert_eq!(restarted.0, 202);
    let replaced = |all: &[Value]| count(all, "up") == 1 && count(all, "ended") == 1;
    platform.wait_for_processes("it is replaced", replaced).await;

    let run = platform
        .done(Method::POST, "/apps/demo/dynos", json!({"command": "exit 3"}))
        .await;
    assert_eq!(run["type"], "run");
    let one_off = platform
        .wait_for_processes("the one-off ended", |all| count(all, "ended") == 2)
        .await;
    assert!(
        one_off
            .iter()
            .any(|process| process["timing"]["exit"] == "exit status: 3")
    );
    platform.scale("worker", 0).await;
    platform
        .wait_for_processes("all ended", |all| count(all, "ended") == 3)
        .await;
    platform.end().await;
}

#[tokio::test]
async fn sigterm_can_be_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::serve(folder.path(), 0.02).await;
    let formation = json!({"web": {"command": ["sleep", "600"]}});
    platform
        .create_app(formation, json!({}), "redis://:secret@127.0.0.1:1")
        .await;
    platform.behave(json!({"sigterm_ignored": true})).await;
    platform.scale("web", 1).await;
    platform
        .wait_for_processes("it is up", |all| count(all, "up") == 1)
        .await;
    platform.scale("web", 0).await;
    let ended = platform
        .wait_for_processes("it is killed", |all| count(all, "ended") == 1)
        .await;
    assert!(ended[0]["timing"]["exit"].as_str().unwrap().contains('9'), "{ended:?}");
    platform.end().await;
}

/// Waits until the running app has made so many more writes.
async fn more_writes(ledgers: &Path, writes: u64) {
    let so_far = acknowledged(ledgers);
    wait_until("the app went on writing", || acknowledged(ledgers) >= so_far + writes).await;
}

#[tokio::test]
async fn the_demo_app_loses_nothing_over_restarts_crashes_and_a_move_of_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = folder.path().join("ledger/demo");
    let addon = rent(folder.path(), "redis", true, Profile::Default).await;
    let platform = Platform::serve(folder.path(), 0.1).await;
    let app = env!("CARGO_BIN_EXE_demo-app");
    let formation = json!({"web": {"command": [app, "web"]}, "worker": {"command": [app, "worker"]}});
    platform.create_app(formation, json!({}), addon.url()).await;
    platform.scale("web", 2).await;
    platform.scale("worker", 1).await;
    more_writes(&ledgers, 2000).await;

    // Detaches the variable, which then names the same Redis as a plain one.
    let attachment = json!({"addon": "redis-oval-1", "app": "demo", "name": "HOSTED_REDIS"});
    platform.done(Method::POST, "/addon-attachments", attachment).await;
    more_writes(&ledgers, 1000).await;
    let attachments = platform.get("/apps/demo/addon-attachments").await;
    let redis = attachments
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["name"] == "REDIS")
        .unwrap();
    let detach = format!("/addon-attachments/{}", redis["id"].as_str().unwrap());
    assert_eq!(platform.send(Method::DELETE, &detach, None).await.0, 200);
    platform
        .done(
            Method::PATCH,
            "/apps/demo/config-vars",
            json!({"REDIS_URL": addon.url()}),
        )
        .await;
    more_writes(&ledgers, 2000).await;

    let up = platform
        .wait_for_processes("all are up", |all| count(all, "up") == 3)
        .await;
    for process in up.iter().filter(|process| process["state"] == "up") {
        kill(Pid::from_raw(pid(process)), Signal::SIGKILL).unwrap();
    }
    more_writes(&ledgers, 2000).await;
    platform.scale("web", 0).await;
    platform.scale("worker", 0).await;
    let quiet = |all: &[Value]| all.iter().all(|process| process["state"] == "ended");
    platform.wait_for_processes("all ended", quiet).await;

    let expectations = ledger::read_folder(&ledgers).unwrap();
    assert!(expectations.processes.len() >= 9, "{:?}", expectations.processes);
    // Each worker that was stopped had a long job; the killed one could not put its own back.
    let traffic = ledger::report(&expectations).acknowledged_by_kind;
    assert!(traffic["job_put_back"] >= 2, "{traffic:?}");
    let target = Target::parse(addon.url(), addon.certificate()).unwrap();
    let observed = ledger::observe(&target, &expectations).await.unwrap();
    let verdict = ledger::judge(&expectations, &expectations, &observed);
    assert!(
        verdict.is_clean() && expectations.acknowledgements() > 7000,
        "{verdict:?}"
    );
    tokio::time::timeout(Duration::from_secs(20), platform.end())
        .await
        .unwrap();
}
