//! Sources that let nobody replicate and deny MONITOR: their keys are copied, and everything is
//! compared inside the fence.

use super::super::{Command, Phase};
use super::stage::{PLAIN, Rented, Stage};
use super::{Kind, expect_moved};
use crate::effects::redis::testing::command;
use std::time::Duration;

const COPIED: Rented = Rented {
    copied: true,
    monitored: false,
    ..PLAIN
};

async fn copied() -> Stage {
    let stage = Stage::renting(0.02, COPIED).await;
    stage.load().await;
    stage
}

/// Returns true if the copy may write to the master.
async fn copies(stage: &Stage) -> bool {
    let mut master = stage.master.connect(0).await;
    let is_on = crate::effects::redis::control::user_is_on(&mut master, "copy");
    is_on.await.unwrap().unwrap()
}

/// The app runs on the source as before, and the master copies it.
async fn expect_unmoved(stage: &Stage) {
    stage.more_writes(20).await;
    assert!(stage.app_is_on(&stage.source).await);
    assert_eq!(stage.lost_on(&stage.source()).await, 0, "acknowledged writes are lost");
    assert!(copies(stage).await);
}

/// Writes values of every type to the source, in two databases.
async fn every_type(stage: &Stage) {
    stage
        .at_source(
            "RPUSH list a b c\nSADD set 1 2 3\nZADD scores 1.5 one\nHSET hash field value\nXADD stream 5-1 a 1\n\
             XGROUP CREATE stream readers 0\nSET ends 1 PX 3600000\nPFADD visitors a",
        )
        .await;
}

#[tokio::test]
async fn an_app_leaves_a_source_that_lets_nobody_replicate_without_loss() {
    let stage = copied().await;
    every_type(&stage).await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
    assert!(outcome.late_by_comparison, "{outcome:?}");
    assert_eq!(outcome.watch, Some("none"));
    assert!(outcome.keys_compared_in_fence.unwrap() > 20, "{outcome:?}");
    assert!(!copies(&stage).await, "the copy may still write to the master");
    assert!(stage.source_takes_writes().await, "the pause was not ended");
    let groups: Vec<::redis::Value> = stage.master.run("XINFO GROUPS stream").await;
    assert_eq!(groups.len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_source_that_cannot_be_paused_either_is_left_by_stopping_the_app() {
    let stage = copied().await;
    stage.forbid_pausing().await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
    let formation = stage.heroku.formation().await.unwrap();
    assert_eq!((formation["web"], formation["worker"]), (2, 1));
    stage.end().await;
}

#[tokio::test]
async fn a_pause_that_somebody_ends_after_the_proof_of_a_copy_leads_back_and_loses_nothing() {
    for phase in [Phase::Promoted, Phase::Switching] {
        let mut stage = copied().await;
        stage.source_gets = Some((phase, vec![command("CLIENT UNPAUSE"), command("SET sneaked 1")]));
        let error = stage.run(Command::SwitchApp).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unproven, "{error:?}");
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
async fn a_promotion_of_a_copy_is_taken_over_in_time() {
    let stage = copied().await;
    let outcome = stage.run(Command::Promote).await.unwrap();
    assert_eq!(outcome.phase, Some(Phase::Promoted));
    assert!(!stage.source_takes_writes().await && !copies(&stage).await);
    let promoted = stage.history().promotion.unwrap();
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(
        stage.history().promotion.unwrap().offset,
        promoted.offset,
        "it was promoted twice"
    );
    stage.end().await;
}

#[tokio::test]
async fn a_hold_that_ended_lets_the_master_copy_again() {
    let mut stage = copied().await;
    stage.limits.hold = Duration::from_secs(4);
    stage.run(Command::Promote).await.unwrap();
    stage.more_writes(20).await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_promotion_of_a_copy_can_be_given_up() {
    let stage = copied().await;
    stage.run(Command::Promote).await.unwrap();
    stage.run(Command::Back).await.unwrap();
    expect_unmoved(&stage).await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_master_with_writes_of_its_own_never_copies_over_them() {
    let mut stage = copied().await;
    stage.limits.hold = Duration::from_secs(3);
    stage.run(Command::Promote).await.unwrap();
    stage.master.script("SET by-hand 1").await;
    stage.more_writes(5).await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(
        format!("{:?}", error.chain()).contains("follow the source again"),
        "{:?}",
        error.chain()
    );
    assert!(!copies(&stage).await);
    let there: String = stage.master.run("GET by-hand").await;
    assert_eq!(there, "1");
    stage.end().await;
}

#[tokio::test]
async fn a_tool_that_is_killed_at_any_step_of_a_copied_cutover_is_finished_by_running_it_again() {
    for pausable in [true, false] {
        let stage = copied().await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        for steps in 0..60 {
            let killed = stage.killed_after(steps, Command::SwitchApp).await;
            if stage.history().phase == Some(Phase::Settled) {
                break;
            }
            let error = killed.unwrap_err();
            assert!(
                error.to_string().contains("killed") || error.kind() == Kind::Unproven,
                "after {steps} steps: {error:?}"
            );
        }
        stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        stage.end().await;
    }
}

#[tokio::test]
async fn an_early_write_to_our_side_stays_and_the_source_counts_that_it_took_none() {
    let stage = copied().await;
    stage.dies_once_our_side_is_open().await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    let early: String = stage.master.run("GET early").await;
    assert_eq!(early, "1");
    stage.end().await;
}

#[tokio::test]
async fn an_early_write_to_our_side_is_not_passed_over_if_the_source_took_one_too() {
    let stage = copied().await;
    stage.dies_once_our_side_is_open().await;
    stage.at_source("CLIENT UNPAUSE\nSET key:7 late").await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(
        error.to_string().contains("was written to after the promotion"),
        "{error:?}"
    );
    stage.end().await;
}

#[tokio::test]
async fn a_source_that_lost_its_keys_is_not_taken_over_without_a_word() {
    let stage = copied().await;
    let keys: Vec<String> = (0..400).map(|key| format!("old:{key}")).collect();
    for some in keys.chunks(100) {
        let pairs: Vec<String> = some.iter().map(|key| format!("{key} 1")).collect();
        stage.at_source(&format!("MSET {}", pairs.join(" "))).await;
    }
    // The copy has them before they go.
    let there = async || stage.master.run::<u64>(&format!("EXISTS {}", keys.join(" "))).await;
    for _ in 0..200 {
        if there().await == 400 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(there().await, 400);
    stage.at_source(&format!("DEL {}", keys.join(" "))).await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unproven, "{error:?}");
    assert!(format!("{error}").contains("more than a tenth"), "{error}");
    assert_eq!(there().await, 400, "the last copy of these keys is gone");
    expect_unmoved(&stage).await;
    let mut setup = stage.setup();
    setup.accept_loss = true;
    super::super::run(setup, Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(there().await, 0);
    stage.end().await;
}

#[tokio::test]
async fn an_app_does_not_wait_for_long_without_being_asked() {
    let mut stage = copied().await;
    stage.limits.unwatched = Duration::ZERO;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(error.next_step().unwrap().contains("--without-watch"), "{error:?}");
    expect_unmoved(&stage).await;
    let mut setup = stage.setup();
    setup.without_watch = true;
    super::super::run(setup, Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_write_on_the_source_after_the_switch_is_found_by_comparing() {
    let mut stage = copied().await;
    let late = vec![crate::effects::redis::testing::command("SET late 1")];
    stage.source_gets = Some((Phase::Switched, late));
    stage.forbid_pausing().await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(
        error.to_string().contains("the source took 1 after the fence"),
        "{error:?}"
    );
    assert!(
        format!("{:?}", error.chain()).contains("late in database 0"),
        "{error:?}"
    );
    stage.end().await;
}

#[tokio::test]
async fn a_source_that_hides_its_clients_and_says_little_is_left_with_what_the_platform_says() {
    for pausable in [true, false] {
        let stage = copied().await;
        stage
            .at_source("ACL SETUSER default -client|list -client|kill -info +info|server +info|memory +info|keyspace")
            .await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        let outcome = stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
        let said = outcome
            .notes
            .iter()
            .any(|note| note.contains("does not show its clients"));
        assert!(said, "{outcome:?}");
        stage.end().await;
    }
}
