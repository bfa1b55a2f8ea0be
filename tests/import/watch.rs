//! The comparison is repeated, and a history of it is kept: in the bucket, or beside the file as long as there is none.

use super::rig::{Answer, Rig};
use infra::decide::cloud::plan;
use infra::effects::cloud::{apply, find};
use infra::ui::Ui;
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};
use testkit::aws::{Aws, call, wanted};
use testkit::waiting;

const ROWS: &str = "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text);
INSERT INTO markers SELECT n, 'status ' || n FROM generate_series(1, 500) n;";

const WATCH: [&str; 5] = ["verify", "--watch", "3s", "--every", "1s"];
/// A look that finds a difference does not wait for it to go.
const AT_ONCE: [&str; 4] = ["--rounds", "1", "--pause", "10ms"];

fn imported() -> Rig {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    let ran = rig.infra(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.text);
    rig
}

fn history(rig: &Rig) -> Value {
    let text = std::fs::read_to_string(rig.path("import.yml.history")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn looks(history: &Value, watch: usize) -> usize {
    history["watches"][watch]["looks"].as_array().map_or(0, Vec::len)
}

fn answer_of(child: std::process::Child) -> Answer {
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    Answer {
        code: output.status.code().unwrap_or(-1),
        json: serde_json::from_str(&stdout).unwrap_or_default(),
        text: format!("{stdout}{}", String::from_utf8(output.stderr).unwrap()),
    }
}

fn watching(rig: &Rig, lasts: &str) -> std::process::Child {
    let watch = ["verify", "--watch", lasts, "--every", "1s", "--json"];
    let mut command = rig.command(&[&watch[..], &AT_ONCE].concat(), &[]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_watch_without_a_difference_ends_with_one_sentence_that_status_and_finish_repeat() {
    let rig = imported();
    let status = rig.infra(&["status", "--json"]);
    assert_eq!(status.json["watch"], Value::Null, "{}", status.text);
    let watched = rig.infra(&WATCH);
    assert_eq!(watched.code, 0, "{}", watched.text);
    assert!(
        watched.text.contains("identical in 4 of 4 looks over 3 s"),
        "{}",
        watched.text
    );
    assert!(
        watched.text.contains("compared 500 rows and 500 keys"),
        "{}",
        watched.text
    );
    assert!(
        watched.text.contains("the history is kept in") && watched.text.contains("since the bucket cannot be reached"),
        "{}",
        watched.text
    );
    let look = &history(&rig)["watches"][0]["looks"][0];
    assert_eq!(
        (&look["rows"], &look["keys"], &look["differing"], &look["rounds"]),
        (&500.into(), &500.into(), &0.into(), &1.into())
    );
    let status = rig.infra(&["status", "--json"]);
    assert_eq!(status.json["watch"]["identical"], 4, "{}", status.text);
    let finished = rig.infra(&["finish", "--rounds", "1"]);
    assert_eq!(finished.code, 0, "{}", finished.text);
    assert!(
        finished.text.contains("identical in 4 of 4 looks over 3 s"),
        "{}",
        finished.text
    );
}

#[test]
fn one_look_that_differs_is_counted_and_ends_the_watch_with_5() {
    let rig = imported();
    let child = watching(&rig, "3s");
    waiting::until("one look is noted", || looks(&history(&rig), 0) == 1);
    rig.redis("SET marker:17 other");
    waiting::until("a look has differed", || {
        history(&rig)["watches"][0]["looks"][1]["differing"] == 1
    });
    rig.redis_query::<()>(&redis::Cmd::set("marker:17", "status 17"));
    let watched = answer_of(child);
    assert_eq!(watched.code, 5, "{}", watched.text);
    assert!(watched.text.contains("marker:17"), "the key is named: {}", watched.text);
    let watch = &watched.json["watch"];
    assert_eq!(
        (&watch["looks"], &watch["differing"]),
        (&4.into(), &1.into()),
        "{watch}"
    );
    assert_eq!(watched.json["looks"].as_array().unwrap().len(), 4);
    assert!(watched.text.contains("identical in 3 of 4 looks"), "{}", watched.text);
    // The result was reported, so the next command begins another watch.
    let watched = rig.infra(&WATCH);
    assert_eq!(watched.code, 0, "{}", watched.text);
    assert_eq!(looks(&history(&rig), 1), 4);
}

#[test]
fn a_watch_that_is_killed_goes_on_counting_wherever_that_was() {
    let rig = imported();
    let seen = rig.path("seen");
    let variables = [("INFRA_FAULT_NEW", seen.to_str().unwrap())];
    let mut killed = 0;
    let watched = loop {
        let watched = rig.infra_with(&WATCH, &variables);
        if watched.code != -1 {
            break watched;
        }
        killed += 1;
        assert!(killed < 10, "{}", watched.text);
    };
    assert_eq!(killed, 3, "within the comparison, before and after a look is noted");
    assert_eq!(watched.code, 0, "{}", watched.text);
    assert!(watched.text.contains("going on with the watch"), "{}", watched.text);
    let history = history(&rig);
    assert_eq!(history["watches"].as_array().unwrap().len(), 1, "{history}");
    assert!(looks(&history, 0) >= 4, "{history}");
    assert!(watched.text.contains("looks over 3 s"), "{}", watched.text);
}

#[test]
fn a_look_that_cannot_be_made_is_said_and_does_not_end_the_watch() {
    let mut rig = imported();
    let child = watching(&rig, "3s");
    waiting::until("one look is noted", || looks(&history(&rig), 0) == 1);
    rig.postgres.crash();
    waiting::until("a look has failed", || {
        history(&rig)["watches"][0]["looks"][1]["failure"].is_string()
    });
    rig.postgres.resume();
    let watched = answer_of(child);
    assert_eq!(watched.code, 0, "{}", watched.text);
    assert!(watched.text.contains("could not be made"), "{}", watched.text);
    assert!(
        watched.json["watch"]["failed"].as_u64().unwrap() >= 1,
        "{}",
        watched.text
    );
}

#[test]
fn a_changed_mapping_begins_another_watch_and_so_does_restart() {
    let rig = imported();
    for (number, change) in [false, true].into_iter().enumerate() {
        let child = watching(&rig, "1h");
        waiting::until("a look is noted", || looks(&history(&rig), number) > 0);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id().cast_signed()),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
        let stopped = answer_of(child);
        assert_eq!(stopped.code, 130, "{}", stopped.text);
        if !change {
            rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status} # changed");
        }
    }
    assert_eq!(history(&rig)["watches"].as_array().unwrap().len(), 2);
    let restarted = rig.infra(&[&WATCH[..], &["--restart"]].concat());
    assert_eq!(restarted.code, 0, "{}", restarted.text);
    assert_eq!(history(&rig)["watches"].as_array().unwrap().len(), 3);
}

#[test]
fn the_timeout_is_for_one_look_and_not_for_the_watch_or_the_following() {
    let rig = imported();
    let watched = rig.infra(&["verify", "--watch", "4s", "--every", "2s", "--timeout", "2s"]);
    assert_eq!(watched.code, 0, "{}", watched.text);
    let begun = Instant::now();
    let followed = rig.infra(&["follow", "--for", "4s", "--timeout", "2s"]);
    assert_eq!(followed.code, 0, "{}", followed.text);
    assert!(begun.elapsed() >= Duration::from_secs(4));
    let refused = rig.infra(&["verify", "--watch", "48h", "--every", "1s"]);
    assert_eq!(refused.code, 64, "{}", refused.text);
    assert!(refused.text.contains("--every"), "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_a_bucket_the_history_is_there_with_what_was_beside_the_file() {
    let aws = Aws::start();
    let keys = call(aws.address, "GET", "/_hv/operator", None).unwrap();
    let endpoint = format!("http://{}", aws.address);
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", keys["access_key_id"].as_str().unwrap()),
        ("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"].as_str().unwrap()),
    ];
    let rig = imported();
    let infra = std::fs::read_to_string(rig.path("infra.yml")).unwrap();
    std::fs::write(rig.path("infra.yml"), infra.replace("eu-west-1", "us-east-1")).unwrap();
    let before = rig.infra_with(&WATCH, &variables);
    assert_eq!(before.code, 0, "{}", before.text);
    assert!(before.text.contains("there is no bucket yet"), "{}", before.text);

    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let found = find::find(&cloud, &wanted).await.unwrap();
    let plan = plan(&wanted, &found).unwrap();
    apply::make_bucket(&cloud, &wanted, &plan, &Ui::silent()).await.unwrap();
    let watched = rig.infra_with(&[&WATCH[..], &["--json"]].concat(), &variables);
    assert_eq!(watched.code, 0, "{}", watched.text);
    let kept_in = watched.json["watch"]["kept_in"].as_str().unwrap().to_owned();
    assert!(
        kept_in.starts_with("s3://") && kept_in.ends_with("/state/production/import-history.json"),
        "{kept_in}"
    );
    let bucket = infra::effects::cloud::s3::Bucket::new(&cloud, wanted.names.bucket());
    let object = bucket
        .get("state/production/import-history.json")
        .await
        .unwrap()
        .unwrap();
    let history: Value = serde_json::from_slice(&object.body).unwrap();
    assert_eq!((looks(&history, 0), looks(&history, 1)), (4, 4), "{history}");
    assert!(!rig.path("import.yml.history").exists());
    let status = rig.infra_with(&["status"], &variables);
    assert!(
        status.text.contains("identical in 4 of 4 looks over 3 s") && status.text.contains(&kept_in),
        "{}",
        status.text
    );
}
