//! The way back, several apps, another platform, and writes of strangers.

use super::super::{Command, Phase, Setup};
use super::stage::Stage;
use super::{expect_moved, expect_unmoved};
use crate::effects::platform::{Hook, Platform};
use crate::effects::redis::testing::command;
use crate::model::config::AppCommands;
use crate::model::error::Kind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::info::ServerRole;

#[tokio::test]
async fn a_write_right_after_the_promotion_is_named_in_a_switch_that_promotes() {
    let mut stage = Stage::new(0.02).await;
    stage.load().await;
    stage.master_gets = Some("SET sneaked 1".into());
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unproven, "{error:?}");
    let text = error.chain().join(": ");
    assert!(
        text.contains("wrote to the master 1 times") && text.contains("sneaked"),
        "{text}"
    );
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn back_is_refused_with_a_count_once_the_new_side_was_written_to() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    let error = stage.run(Command::Back).await.unwrap_err();
    let text = error.chain().join(": ");
    assert!(text.contains("writes are at stake"), "{text}");
    // The refusal changed nothing, so the app still writes.
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn back_returns_an_app_that_did_not_write_yet() {
    let stage = Stage::new(0.02).await;
    stage
        .at_source("MSET a 1 b 1 c 1 d 1 e 1 f 1 g 1 h 1 i 1 j 1 k 1 l 1\nSET brief 1 PX 600")
        .await;
    stage.run(Command::SwitchApp).await.unwrap();
    assert!(stage.app_is_on(&stage.master).await);
    stage.run(Command::Back).await.unwrap();
    assert!(stage.app_is_on(&stage.source).await);
    let info = stage.master.connect(0).await.info().await.unwrap();
    assert_eq!(info.role, ServerRole::Replica);
    assert_eq!(stage.history().phase, Some(Phase::Following));
    let again = stage.run(Command::Back).await.unwrap();
    assert!(again.notes[0].contains("nothing to go back from"), "{again:?}");
    stage.load().await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_way_back_that_is_killed_at_any_step_is_finished_by_running_it_again() {
    let stage = Stage::new(0.02).await;
    stage.run(Command::SwitchApp).await.unwrap();
    for steps in 0..20 {
        let killed = stage.killed_after(steps, Command::Back).await;
        if stage.history().phase == Some(Phase::Following) {
            break;
        }
        let error = killed.unwrap_err();
        assert!(error.to_string().contains("killed"), "after {steps} steps: {error:?}");
    }
    stage.run(Command::Back).await.unwrap();
    stage.load().await;
    expect_unmoved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_held_promotion_is_given_up_at_once() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage.run(Command::Promote).await.unwrap();
    assert!(!stage.source_takes_writes().await);
    stage.run(Command::Back).await.unwrap();
    assert!(stage.source_takes_writes().await);
    expect_unmoved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn two_apps_move_in_one_cutover_and_come_back_in_one() {
    let mut stage = Stage::new(0.02).await;
    let second = stage.second_app().await;
    stage.load().await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    let url = second
        .config_vars()
        .await
        .unwrap()
        .get("REDIS_URL")
        .unwrap()
        .unwrap()
        .clone();
    assert!(
        url.expose().contains(&format!(":{}", stage.master.port)),
        "the second app stayed"
    );
    stage.end().await;
}

#[tokio::test]
async fn an_app_in_a_private_space_is_replaced_a_quarter_at_a_time_and_nothing_is_lost() {
    let mut stage = Stage::new(0.02).await;
    let spacious = stage.second_app_in(serde_json::json!("hidden"), 8).await;
    stage.load().await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    let newest = spacious.newest_release().await.unwrap().unwrap().version;
    let dynos = spacious.dynos().await.unwrap();
    assert_eq!(dynos.len(), 8);
    assert!(dynos.iter().all(|dyno| dyno.release == newest), "{dynos:?}");
    stage.end().await;
}

#[tokio::test]
async fn of_two_apps_the_second_ones_failed_release_leaves_no_write_behind() {
    let mut stage = Stage::new(0.02).await;
    stage.second_app().await;
    stage.load().await;
    stage
        .behave_as(
            "second",
            serde_json::json!({"release_phase": {"seconds": 5.0, "fails": true}}),
        )
        .await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(error.chain().join(": ").contains("app second"), "{error:?}");
    stage
        .behave_as("second", serde_json::json!({"release_phase": null}))
        .await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_write_of_somebody_else_before_app_access_opens_is_named_and_nothing_is_lost() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage.run(Command::Promote).await.unwrap();
    stage.master.script("3>SET by-hand 1").await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    let text = error.chain().join(": ");
    assert_eq!(error.kind(), Kind::Unproven, "{text}");
    assert!(text.contains("by-hand in database 3"), "{text}");
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_write_to_the_source_behind_the_fence_is_seen_and_nothing_is_lost() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage.run(Command::Promote).await.unwrap();
    stage.at_source("CLIENT UNPAUSE\nSET sneaked 1").await;
    // The write is on our side at the end: the master followed again before it was promoted anew.
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    let there: String = stage.master.run("GET sneaked").await;
    assert_eq!(there, "1");
    stage.end().await;
}

#[tokio::test]
async fn a_pause_that_somebody_ends_after_the_proof_leads_back_and_loses_nothing() {
    for phase in [Phase::Promoted, Phase::Switching] {
        let mut stage = Stage::new(0.02).await;
        stage.load().await;
        stage.source_gets = Some((phase, vec![command("CLIENT UNPAUSE"), command("SET sneaked 1")]));
        let error = stage.run(Command::SwitchApp).await.unwrap_err();
        assert_eq!(error.kind(), crate::model::error::Kind::Unproven, "{error:?}");
        assert!(error.to_string().contains("after the proof"), "{error:?}");
        expect_unmoved(&stage).await;
        stage.source_gets = None;
        stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        let there: String = stage.master.run("GET sneaked").await;
        assert_eq!(there, "1");
        stage.end().await;
    }
}

#[tokio::test]
async fn an_app_behind_commands_of_its_own_moves_too() {
    let stage = Stage::new(0.02).await;
    stage.at_source("SET kept 1").await;
    let folder = tempfile::tempdir().unwrap();
    let vars = folder.path().join("vars");
    let url = stage.source().url();
    std::fs::write(&vars, serde_json::json!({"REDIS_URL": url.expose()}).to_string()).unwrap();
    let script = "import json,sys; f=sys.argv[1]; v=json.load(open(f)); v.update(json.load(sys.stdin)); \
                  json.dump({k:x for k,x in v.items() if x is not None}, open(f,'w'))";
    let commands = AppCommands {
        read: format!("cat {}", vars.display()),
        set: format!("python3 -c \"{script}\" {}", vars.display()),
        verify: "true".into(),
        restart: None,
        stop: None,
        start: None,
    };
    let setup = Setup {
        apps: vec![Platform::Command(Hook::new("shop", commands))],
        ..stage.setup()
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), super::super::run(setup, Command::SwitchApp))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(outcome.phase, Some(Phase::Settled));
    let now: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&vars).unwrap()).unwrap();
    assert_eq!(now["HOSTED_REDIS_URL"], url.expose());
    assert!(
        now["REDIS_URL"]
            .as_str()
            .unwrap()
            .contains(&format!(":{}", stage.master.port))
    );
    stage.end().await;
}

#[tokio::test]
async fn a_source_that_lost_its_keys_after_the_promotion_is_not_followed_again() {
    let stage = Stage::new(0.02).await;
    stage
        .at_source("MSET a 1 b 1 c 1 d 1 e 1 f 1 g 1 h 1 i 1 j 1 k 1 l 1")
        .await;
    stage.run(Command::Promote).await.unwrap();
    // As after a restart without persistence, with the pause forgotten.
    stage.at_source("CLIENT UNPAUSE\nFLUSHALL\nSET only 1").await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    let text = error.chain().join(": ");
    assert!(text.contains("it has 1 keys and had 12"), "{text}");
    let there: String = stage.master.run("GET l").await;
    assert_eq!(there, "1", "the master lost what the source had lost");
    let mut setup = stage.setup();
    setup.accept_loss = true;
    super::super::run(setup, Command::SwitchApp).await.unwrap();
    assert!(stage.app_is_on(&stage.master).await);
    let only: String = stage.master.run("GET only").await;
    assert_eq!(only, "1");
    stage.end().await;
}

#[tokio::test]
async fn a_source_that_came_back_empty_is_not_followed_though_it_took_as_many_new_keys() {
    let stage = Stage::new(0.02).await;
    stage
        .at_source("MSET a 1 b 1 c 1 d 1 e 1 f 1 g 1 h 1 i 1 j 1 k 1 l 1")
        .await;
    stage.run(Command::Promote).await.unwrap();
    stage
        .at_source("CLIENT UNPAUSE\nFLUSHALL\nMSET m 1 n 1 o 1 p 1 q 1 r 1 s 1 t 1 u 1 v 1 w 1 x 1 y 1")
        .await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    let text = error.chain().join(": ");
    assert!(text.contains("of 12 keys that it had it has lost 12"), "{text}");
    let there: String = stage.master.run("GET l").await;
    assert_eq!(there, "1", "the master lost what the source had lost");
    stage.end().await;
}

#[tokio::test]
async fn a_source_that_was_demoted_is_never_fenced() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    // The replica keeps its ids until it has copied its new master, and no server listens there.
    stage.at_source("REPLICAOF 127.0.0.1 1").await;
    let error = stage.run(Command::Promote).await.unwrap_err();
    // Its stream ended when it was demoted, so that even the comparison cannot begin.
    assert_eq!(error.kind(), Kind::Unproven, "{error:?}");
    let fence = super::super::fence::Fence::raise(&stage.source(), None)
        .await
        .err()
        .unwrap();
    assert!(fence.to_string().contains("follows another server"), "{fence:?}");
    let info = stage.master.connect(0).await.info().await.unwrap();
    assert_eq!(info.role, ServerRole::Replica);
    stage.end().await;
}

/// A process that is asked to stop, disconnects, and writes its work back before it is killed.
const RETURNING: &str = r#"mkdir -p "$SANDBOX_LEDGER_DIR"; i=0; stop=; trap 'stop=1' TERM; put() { [ "$(redis-cli -u "$REDIS_URL" --no-auth-warning SET "$1" 1 2>/dev/null)" = OK ] && echo "$1" >> "$SANDBOX_LEDGER_DIR/$$"; };
while [ -z "$stop" ]; do i=$((i+1)); put "$DYNO:$$:$i"; sleep 0.02; done; sleep 2.5; put "$DYNO:$$:put-back""#;

#[tokio::test]
async fn a_stopping_process_that_reconnects_cannot_write_to_the_source() {
    // Processes are killed 3 s after they were asked to stop.
    let mut stage = Stage::with_writer(0.1, RETURNING).await;
    stage.limits.grace = Duration::from_millis(3200);
    stage.load().await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    assert_eq!(outcome.late_writes, Some(0));
    // A process that is still alive has come back by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_client_that_did_no_more_than_its_ready_check_is_disconnected_before_the_pause_ends() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    // Every client library connects like this: one look, and then nothing for a long time.
    let mut idle = tokio::net::TcpStream::connect(("127.0.0.1", stage.source.port))
        .await
        .unwrap();
    idle.write_all(b"AUTH default hosted-secret\r\nCLIENT SETNAME console\r\nINFO\r\n")
        .await
        .unwrap();
    stage.run(Command::SwitchApp).await.unwrap();
    let mut said = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(5), idle.read_to_end(&mut said)).await;
    assert!(end.is_ok(), "a client that may write was taken for an onlooker");
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn two_apps_left_between_two_sides_never_both_write_however_long_nobody_comes_back() {
    // Between the moment that both changes were sent and the opening of app access.
    for steps in 13..16 {
        let mut stage = Stage::new(0.02).await;
        stage.second_app().await;
        stage.load().await;
        stage.limits.long_pause = Duration::from_secs(2);
        // The second app's change is taken, and its release fails: it stays where it was.
        let fails = serde_json::json!({"release_phase": {"seconds": 1.0, "fails": true}});
        stage.behave_as("second", fails).await;
        let error = stage.killed_after(steps, Command::SwitchApp).await.unwrap_err();
        assert!(error.to_string().contains("killed"), "after {steps} steps: {error:?}");
        tokio::time::sleep(Duration::from_secs(4)).await;
        // An early pause ends by itself; the one right before access opens ends by no clock.
        let shut = steps >= 14;
        assert_ne!(stage.source_takes_writes().await, shut, "after {steps} steps");
        stage
            .behave_as("second", serde_json::json!({"release_phase": null}))
            .await;
        stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        stage.end().await;
    }
}
