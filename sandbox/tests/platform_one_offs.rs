//! Dynos beside the formation: one-offs by hand and by the Scheduler, logs, restarts by turns.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use std::time::{Duration, Instant};

use reqwest::Method;
use rig::PATIENCE;
use rig::platform::Platform;
use serde_json::{Value, json};

const NOWHERE: &str = "redis://:secret@127.0.0.1:1";

async fn serve(folder: &tempfile::TempDir, time_scale: f64, formation: Value) -> Platform {
    let platform = Platform::serve(folder.path(), time_scale).await;
    platform
        .create_app(formation, json!({"COLOUR": "red", "SHAPE": "round"}), NOWHERE)
        .await;
    platform
}

async fn run(platform: &Platform, body: Value) -> Value {
    let (status, dyno) = platform.send(Method::POST, "/apps/demo/dynos", Some(body)).await;
    assert_eq!(status, 201, "{dyno}");
    dyno
}

async fn names(platform: &Platform) -> Vec<String> {
    let dynos = platform.get("/apps/demo/dynos").await;
    let names = dynos.as_array().unwrap().iter();
    names.map(|dyno| dyno["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the whole log of a dyno as a client gets it: by a session's URL, without a key.
async fn log(platform: &Platform, selection: Value) -> String {
    let (status, session) = platform
        .send(Method::POST, "/apps/demo/log-sessions", Some(selection))
        .await;
    assert_eq!(status, 201, "{session}");
    let url = session["logplex_url"].as_str().unwrap();
    platform.client.get(url).send().await.unwrap().text().await.unwrap()
}

async fn text(platform: &Platform, path: &str) -> String {
    let response = platform.try_send(Method::GET, path, None).await.unwrap();
    response.text().await.unwrap()
}

async fn wait_for_log(platform: &Platform, dyno: &str, wanted: &str) -> String {
    let started = Instant::now();
    loop {
        let log = log(platform, json!({"dyno": dyno})).await;
        if log.contains(wanted) {
            return log;
        }
        assert!(started.elapsed() < PATIENCE, "{wanted:?} is not in the log: {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_one_off_has_the_variables_of_its_start_and_goes_from_the_list_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let platform = serve(&folder, 0.0, json!({})).await;
    let fifo = folder.path().join("go");
    let command = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; echo \"$COLOUR $SHAPE $DYNO\"; exit 3",
        fifo.display()
    );
    let dyno = run(&platform, json!({"command": command, "env": {"SHAPE": "square"}})).await;
    let name = dyno["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("run."), "{dyno}");
    assert_eq!(
        (&dyno["type"], &dyno["attach_url"], &dyno["command"]),
        (&json!("run"), &Value::Null, &json!(command))
    );
    platform
        .wait_for_processes("it is up", |all| all[0]["state"] == "up")
        .await;
    // A change of configuration does not touch it.
    platform
        .done(Method::PATCH, "/apps/demo/config-vars", json!({"COLOUR": "blue"}))
        .await;
    assert_eq!(platform.get(&format!("/apps/demo/dynos/{name}")).await["state"], "up");
    assert_eq!(names(&platform).await, [name.as_str()]);

    std::fs::write(&fifo, "").unwrap();
    let log = wait_for_log(&platform, &name, "Process exited with status 3").await;
    assert!(
        log.contains(&format!("app[{name}]: red square {name}\n")),
        "the variables of its start, its own over them: {log}"
    );
    assert!(names(&platform).await.is_empty());
    let (status, _) = platform
        .send(Method::GET, &format!("/apps/demo/dynos/{name}"), None)
        .await;
    assert_eq!(status, 404);
    assert_eq!(
        text(&platform, &format!("/_sandbox/apps/demo/logs/{name}")).await,
        format!("red square {name}\n")
    );
    platform.end().await;
}

#[tokio::test]
async fn a_one_off_is_stopped_by_either_call_and_killed_if_it_does_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let platform = serve(&folder, 0.02, json!({})).await;
    let ways = [(Method::DELETE, ""), (Method::POST, "/actions/stop")];
    for (number, (method, action)) in ways.into_iter().enumerate() {
        let stubborn = "trap 'echo heard' TERM; echo ready; while :; do sleep 0.02; done";
        let dyno = run(&platform, json!({"command": stubborn, "attach": true, "size": "Basic"})).await;
        let name = dyno["name"].as_str().unwrap().to_owned();
        assert!(dyno["attach_url"].as_str().unwrap().starts_with("rendezvous://"));
        // The line that quotes the command does not count.
        wait_for_log(&platform, &name, "]: ready").await;
        let (status, _) = platform
            .send(method, &format!("/apps/demo/dynos/{name}{action}"), None)
            .await;
        assert_eq!(status, 202);
        let log = wait_for_log(&platform, &name, "Process exited with status 137").await;
        assert!(log.contains("]: heard"), "it was asked first: {log}");
        let processes = platform.processes().await;
        assert_eq!(processes[number]["state"], "ended");
    }
    platform.end().await;
}

#[tokio::test]
async fn a_one_off_ends_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let platform = serve(&folder, 0.02, json!({})).await;
    let dyno = run(
        &platform,
        json!({"command": "exec sleep 600", "time_to_live": 1, "type": "rehearsal"}),
    )
    .await;
    let name = dyno["name"].as_str().unwrap();
    assert!(name.starts_with("rehearsal."), "{name}");
    wait_for_log(&platform, name, "Process exited with status 143").await;
    let (status, refusal) = platform
        .send(Method::POST, "/apps/demo/dynos", Some(json!({"command": ""})))
        .await;
    assert_eq!((status, &refusal["id"]), (422, &json!("invalid_params")));
    platform.end().await;
}

#[tokio::test]
async fn logs_are_given_by_dyno_source_and_number_of_lines() {
    let folder = tempfile::tempdir().unwrap();
    let platform = serve(&folder, 0.0, json!({})).await;
    let first = run(&platform, json!({"command": "echo one; echo two; echo three"})).await;
    let other = run(&platform, json!({"command": "echo other"})).await;
    let (first, other) = (first["name"].as_str().unwrap(), other["name"].as_str().unwrap());
    wait_for_log(&platform, first, "exited").await;
    wait_for_log(&platform, other, "exited").await;
    let lines = |text: &str| text.lines().count();
    let own = log(&platform, json!({"dyno": first, "source": "app"})).await;
    assert!(lines(&own) == 3 && own.ends_with("three\n"), "{own}");
    let last = log(&platform, json!({"dyno": first, "source": "app", "lines": 1})).await;
    assert!(lines(&last) == 1 && last.ends_with("three\n"), "{last}");
    assert_eq!(lines(&log(&platform, json!({"source": "app"})).await), 4);
    let (status, _) = platform.send(Method::GET, "/_logs/0123", None).await;
    assert_eq!(status, 404);
    platform.end().await;
}

#[tokio::test]
async fn the_scheduler_starts_dynos_in_maintenance_too_until_it_is_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let platform = serve(&folder, 0.01, json!({"web": {"command": ["sleep", "600"]}})).await;
    platform
        .done(Method::PATCH, "/apps/demo", json!({"maintenance": true}))
        .await;
    platform
        .behave(json!({"scheduler": {"every_seconds": 10.0, "command": "echo tick"}}))
        .await;
    let ended = |all: &[Value]| all.iter().filter(|process| process["state"] == "ended").count();
    let processes = platform.wait_for_processes("it ran twice", |all| ended(all) >= 2).await;
    assert!(
        processes
            .iter()
            .all(|process| process["name"].as_str().unwrap().starts_with("scheduler."))
    );
    assert!(
        log(&platform, json!({"dyno": "scheduler", "source": "app"}))
            .await
            .contains("tick")
    );
    platform.behave(json!({"scheduler": null})).await;
    let quiet = platform
        .wait_for_processes("all ended", |all| ended(all) == all.len())
        .await
        .len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(platform.processes().await.len(), quiet, "none is started any more");
    platform.end().await;
}

#[tokio::test]
async fn in_a_private_space_old_dynos_run_until_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::serve(folder.path(), 0.1).await;
    let formation = json!({"web": {"command": ["sleep", "600"], "quantity": 4}});
    let app = json!({"name": "demo", "region": "us", "formation": formation, "space": "hidden"});
    platform.done(Method::POST, "/_sandbox/apps", app).await;
    assert_eq!(platform.get("/apps/demo").await["space"]["name"], "hidden");
    assert_eq!(
        platform.get("/spaces/hidden/nat").await["sources"],
        json!(["10.77.0.1"])
    );
    let count = |all: &[Value], state: &str, release: u64| {
        let of = all
            .iter()
            .filter(|process| process["state"] == state && process["release"] == release);
        of.count()
    };
    platform
        .wait_for_processes("all are up", |all| count(all, "up", 1) == 4)
        .await;
    // Slow boots let the test see each turn.
    platform.behave(json!({"boot_seconds": 5.0})).await;
    platform
        .done(Method::PATCH, "/apps/demo/config-vars", json!({"COLOUR": "blue"}))
        .await;
    let processes = platform
        .wait_for_processes("all are of the new release", |all| {
            let starting = count(all, "starting", 2);
            assert!(starting <= 1, "a quarter of four at a time: {all:#?}");
            let (old, new) = (count(all, "up", 1), count(all, "up", 2));
            assert_eq!(old + starting + new, 4, "{all:#?}");
            new == 4
        })
        .await;
    let at =
        |process: &Value, name: &str| -> jiff::Timestamp { process["timing"][name].as_str().unwrap().parse().unwrap() };
    let mut new: Vec<&Value> = processes.iter().filter(|process| process["release"] == 2).collect();
    new.sort_by_key(|process| at(process, "created_at"));
    for turn in new.windows(2) {
        assert!(
            at(turn[1], "created_at") >= at(turn[0], "started_at"),
            "the next waits until the one before is up: {turn:#?}"
        );
    }
    platform.end().await;
}
