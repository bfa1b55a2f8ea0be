//! Whole cutovers against real servers, while an app's real processes write.

mod copied;
mod elsewhere;
mod expiry;
mod gate;
mod lock_and_log;
mod others;
mod platform_fence;
mod preview;
mod refusals;
mod several_vars;
mod small_plan;
mod source;
mod sources;
mod stage;
mod watched;

use super::{Command, Phase};
use crate::model::error::Kind;
use serde_json::json;
use stage::Stage;
use std::time::Duration;
use wire::info::ServerRole;

/// The app runs on the master, and whatever it was ever acknowledged is there.
async fn expect_moved(stage: &Stage) {
    stage.more_writes(20).await;
    assert!(stage.app_is_on(&stage.master).await);
    assert_eq!(stage.lost_on(&stage.master()).await, 0, "acknowledged writes are lost");
    assert_eq!(stage.history().phase, Some(Phase::Settled));
}

/// The app runs on the source as before, and the pair follows it.
async fn expect_unmoved(stage: &Stage) {
    stage.more_writes(20).await;
    assert!(stage.app_is_on(&stage.source).await);
    assert_eq!(stage.lost_on(&stage.source()).await, 0, "acknowledged writes are lost");
    let info = stage.master.connect(0).await.info().await.unwrap();
    assert_eq!(info.role, ServerRole::Replica);
}

#[tokio::test]
async fn switch_app_alone_moves_a_writing_app_without_loss() {
    let stage = Stage::new(0.05).await;
    stage.load().await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(outcome.late_writes, Some(0));
    // A busy computer changes both figures, so no exact value is expected.
    assert!(outcome.fenced_ms.is_some(), "{outcome:?}");
    assert!(outcome.keys_compared.unwrap() > 20, "{outcome:?}");
    let hosted = stage.var("HOSTED_REDIS_URL").await.unwrap();
    assert_eq!(hosted, stage.source().url().expose(), "the old URL is not kept");
    assert!(stage.source_takes_writes().await, "the pause was not ended");
    let again = stage.run(Command::SwitchApp).await.unwrap();
    assert!(again.notes[0].contains("done"), "{again:?}");
    stage.end().await;
}

#[tokio::test]
async fn promote_holds_the_source_and_switch_app_takes_over_in_time() {
    let stage = Stage::new(0.05).await;
    stage.load().await;
    let outcome = stage.run(Command::Promote).await.unwrap();
    assert_eq!(outcome.phase, Some(Phase::Promoted));
    assert!(outcome.held_until.is_some() && !stage.source_takes_writes().await);
    assert!(stage.app_is_on(&stage.source).await);
    let promoted = stage.master.connect(0).await.info().await.unwrap();
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(outcome.late_writes, Some(0));
    let now = stage.master.connect(0).await.info().await.unwrap();
    assert_eq!(now.replid, promoted.replid, "it was promoted twice");
    stage.end().await;
}

#[tokio::test]
async fn a_hold_that_ended_gives_the_app_back_and_switch_app_follows_again() {
    let mut stage = Stage::new(0.05).await;
    stage.load().await;
    stage.limits.hold = Duration::from_secs(4);
    stage.run(Command::Promote).await.unwrap();
    stage.more_writes(20).await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(outcome.late_writes, Some(0));
    stage.end().await;
}

#[tokio::test]
async fn promote_again_makes_a_running_hold_longer() {
    let stage = Stage::new(0.05).await;
    stage.load().await;
    let first = stage.run(Command::Promote).await.unwrap();
    let second = stage.run(Command::Promote).await.unwrap();
    assert!(second.held_until > first.held_until);
    assert!(!stage.source_takes_writes().await);
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_tool_that_is_killed_at_any_step_is_finished_by_running_it_again() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    for steps in 0..60 {
        let killed = stage.killed_after(steps, Command::SwitchApp).await;
        if stage.history().phase == Some(Phase::Settled) {
            break;
        }
        // A pause that ended since makes the proof fail, as it should.
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

#[tokio::test]
async fn a_tool_that_is_killed_around_the_change_goes_forward() {
    // These are the steps from before app access opens to the end of the pause.
    for steps in 12..20 {
        let stage = Stage::new(0.02).await;
        stage.load().await;
        let error = stage.killed_after(steps, Command::SwitchApp).await.unwrap_err();
        assert!(error.to_string().contains("killed"), "after {steps} steps: {error:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        stage.end().await;
    }
}

#[tokio::test]
async fn a_release_that_fails_leaves_the_app_on_the_source() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    // The detachment's own releases succeed.
    let error = stage.killed_after(1, Command::SwitchApp).await.unwrap_err();
    assert!(error.to_string().contains("killed"), "{error:?}");
    stage
        .behave(json!({"release_phase": {"seconds": 10.0, "fails": true}}))
        .await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(error.to_string().contains("failed"), "{error:?}");
    expect_unmoved(&stage).await;
    stage.behave(json!({"release_phase": null})).await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_slow_release_phase_is_waited_for() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage.behave(json!({"release_phase": {"seconds": 60.0}})).await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn answers_of_the_platform_that_get_lost_change_nothing() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage
        .behave(json!({"drop_after_commit": 5, "api_failures": {"status": 503, "count": 4}}))
        .await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn preboot_is_off_for_the_switch_and_on_again_after_it() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage.heroku.set_preboot(true).await.unwrap();
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert!(stage.heroku.preboot().await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn a_key_that_only_the_master_has_stops_the_promotion() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage
        .master
        .script("CONFIG SET replica-read-only no\nSET stray 1\nCONFIG SET replica-read-only yes")
        .await;
    let error = stage.run(Command::Promote).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unproven);
    assert!(format!("{:?}", error.chain()).contains("stray"), "{error:?}");
    assert!(stage.source_takes_writes().await);
    expect_unmoved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_lock_that_was_lost_stops_before_the_promotion_and_touches_nothing() {
    let mut stage = Stage::new(0.02).await;
    stage.load().await;
    stage.lock_ends_with = Some(Phase::Fenced);
    let error = stage.run(Command::Promote).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    expect_unmoved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_master_that_was_written_to_is_never_made_to_follow_again() {
    let mut stage = Stage::new(0.02).await;
    stage.load().await;
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
    let info = stage.master.connect(0).await.info().await.unwrap();
    assert_eq!(info.role, ServerRole::Master);
    let there: String = stage.master.run("GET by-hand").await;
    assert_eq!(there, "1");
    stage.end().await;
}
