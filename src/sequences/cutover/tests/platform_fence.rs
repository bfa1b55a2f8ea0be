//! A source that cannot be paused: the app is stopped, and the change of its vars is the fence.

use super::super::{Command, Phase};
use super::stage::Stage;
use super::{expect_moved, expect_unmoved};
use crate::effects::redis::testing::command;
use crate::model::error::Kind;
use serde_json::json;
use std::time::Duration;

async fn unpausable() -> Stage {
    let stage = Stage::new(0.02).await;
    stage.forbid_pausing().await;
    stage.load().await;
    stage
}

/// Expects the app's processes and its maintenance as before.
async fn expect_as_it_stood(stage: &Stage) {
    let formation = stage.heroku.formation().await.unwrap();
    assert_eq!((formation["web"], formation["worker"]), (2, 1));
    assert!(!stage.heroku.app().await.unwrap().maintenance);
    assert_eq!(stage.history().stopped, None);
}

#[tokio::test]
async fn the_app_is_stopped_moved_and_started_as_it_stood() {
    let stage = unpausable().await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    expect_as_it_stood(&stage).await;
    assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
    assert!(
        outcome.fenced_ms.is_some() && outcome.keys_compared.unwrap() > 20,
        "{outcome:?}"
    );
    stage.end().await;
}

#[tokio::test]
async fn promote_alone_leaves_the_app_stopped_until_the_switch() {
    let mut stage = unpausable().await;
    let outcome = stage.run(Command::Promote).await.unwrap();
    assert_eq!(outcome.phase, Some(Phase::Promoted));
    assert!(outcome.notes.iter().any(|note| note.contains("--back")), "{outcome:?}");
    assert!(stage.heroku.dynos().await.unwrap().is_empty());
    // A second promotion has nothing to do.
    stage.run(Command::Promote).await.unwrap();
    // Stragglers were waited for already; waiting again would only keep the app down.
    stage.limits.grace = Duration::from_secs(3600);
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    expect_as_it_stood(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn two_apps_are_stopped_moved_and_started_in_one_cutover() {
    let mut stage = unpausable().await;
    let second = stage.second_app_in(json!("hidden"), 3).await;
    stage.more_writes(20).await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    expect_as_it_stood(&stage).await;
    assert_eq!(second.formation().await.unwrap()["web"], 3);
    assert!(!second.app().await.unwrap().maintenance);
    stage.end().await;
}

#[tokio::test]
async fn a_promotion_alone_can_be_given_up() {
    let stage = unpausable().await;
    stage.run(Command::Promote).await.unwrap();
    stage.run(Command::Back).await.unwrap();
    expect_unmoved(&stage).await;
    expect_as_it_stood(&stage).await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_tool_that_is_killed_at_any_step_is_finished_by_running_it_again() {
    let stage = unpausable().await;
    for steps in 0..60 {
        let killed = stage.killed_after(steps, Command::SwitchApp).await;
        if stage.history().phase == Some(Phase::Settled) {
            break;
        }
        let error = killed.unwrap_err();
        assert!(error.to_string().contains("killed"), "after {steps} steps: {error:?}");
    }
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    expect_as_it_stood(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_release_that_fails_starts_the_app_again_on_the_source() {
    let stage = unpausable().await;
    // The detachment's own releases succeed.
    stage.killed_after(1, Command::SwitchApp).await.unwrap_err();
    stage
        .behave(json!({"release_phase": {"seconds": 5.0, "fails": true}}))
        .await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(error.to_string().contains("failed"), "{error:?}");
    expect_unmoved(&stage).await;
    expect_as_it_stood(&stage).await;
    stage.behave(json!({"release_phase": null})).await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_client_that_comes_back_stops_the_cutover_and_is_named_by_its_address() {
    let stage = unpausable().await;
    let source = stage.source();
    // A process that no change of the app stops: it reconnects and writes.
    let stranger = tokio::spawn(async move {
        loop {
            if let Ok(mut connection) = source.connect(0).await {
                while connection.ask(&command("SET stranger 1")).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unproven, "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:"), "{error:?}");
    expect_unmoved(&stage).await;
    expect_as_it_stood(&stage).await;
    stranger.abort();
    let _ = stranger.await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn keys_that_expire_while_the_app_is_stopped_are_no_writes() {
    let stage = unpausable().await;
    // Some of them expire at any moment of the cutover.
    let brief: Vec<String> = (1..80).map(|at| format!("SET brief:{at} 1 PX {}", at * 100)).collect();
    stage.at_source(&brief.join("\n")).await;
    stage.run(Command::Promote).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    assert_eq!(
        (outcome.late_writes, outcome.foreign_writes),
        (Some(0), 0),
        "{outcome:?}"
    );
    expect_moved(&stage).await;
    stage.end().await;
}
