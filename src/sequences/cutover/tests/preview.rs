//! The output of `--dry-run` before a cutover: the steps, for each kind of fence.

use super::super::{Command, preview};
use super::stage::Stage;
use wire::info::ServerRole;

async fn shown(stage: &Stage, command: Command) -> String {
    preview(&mut stage.setup(), command).await.unwrap().join("\n")
}

async fn expect_untouched(stage: &Stage) {
    assert!(stage.entries.lock().unwrap().is_empty(), "something was journaled");
    assert!(stage.app_is_on(&stage.source).await && stage.source_takes_writes().await);
    assert_eq!(stage.var("HOSTED_REDIS_URL").await, None);
    let info = stage.master.connect(0).await.info().await.unwrap();
    assert_eq!(info.role, ServerRole::Replica);
}

#[tokio::test]
async fn a_dry_run_shows_a_source_that_pauses_itself_and_touches_nothing() {
    let stage = Stage::new(0.02).await;
    insta::assert_snapshot!("switch by pause", shown(&stage, Command::SwitchApp).await);
    insta::assert_snapshot!("promote by pause", shown(&stage, Command::Promote).await);
    expect_untouched(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_dry_run_shows_that_the_app_is_stopped_where_the_source_cannot_be_paused() {
    let stage = Stage::new(0.02).await;
    stage.forbid_pausing().await;
    insta::assert_snapshot!("switch by platform", shown(&stage, Command::SwitchApp).await);
    insta::assert_snapshot!("promote by platform", shown(&stage, Command::Promote).await);
    expect_untouched(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_dry_run_says_why_there_is_nothing_to_do() {
    let stage = Stage::new(0.02).await;
    insta::assert_snapshot!("back before anything", shown(&stage, Command::Back).await);
    stage.end().await;
}
