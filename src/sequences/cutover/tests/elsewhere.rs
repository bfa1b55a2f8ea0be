//! An app that was switched, and whose var names another server by now.

use super::super::Command;
use super::expect_moved;
use super::stage::Stage;
use crate::effects::redis::testing::TestServer;
use crate::model::secret::Secret;
use crate::sequences::move_app::first::leads_to_nobody;

/// The endpoint as it was made anew, which the app's var does not name.
const ANEW: &str = "203.0.113.7";

async fn leads_nowhere(stage: &Stage) -> bool {
    let url = stage.var("REDIS_URL").await.map(Secret::new);
    let source = (stage.source().host, stage.source.port);
    leads_to_nobody(url.as_ref(), Some(&source), &[ANEW.into()])
        .await
        .unwrap()
}

async fn point_the_app_at(stage: &Stage, url: Secret) {
    let vars = [("REDIS_URL".to_string(), Some(url))].into();
    stage.heroku.set_config_vars(&vars).await.unwrap();
}

#[tokio::test]
async fn an_app_that_uses_a_third_server_is_left_there_as_long_as_that_lives() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    let mut third = TestServer::start(&[]).await;
    point_the_app_at(&stage, third.server().url()).await;
    assert!(
        !leads_nowhere(&stage).await,
        "the third server may have the app's writes"
    );
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(
        format!("{:?}", error.chain()).contains("its var names something else by now"),
        "{error:?}"
    );
    assert!(stage.app_is_on(&third).await, "the app was taken off the third server");
    third.kill();
    assert!(leads_nowhere(&stage).await, "nobody is there any more");
    stage.end().await;
}

#[tokio::test]
async fn only_a_source_and_a_living_server_may_have_the_writes_of_an_app() {
    let stage = Stage::new(0.02).await;
    stage.run(Command::SwitchApp).await.unwrap();
    point_the_app_at(&stage, stage.source().url()).await;
    assert!(!leads_nowhere(&stage).await, "the app is on its source");
    point_the_app_at(&stage, Secret::new(format!("rediss://:old@{ANEW}:6379"))).await;
    assert!(leads_nowhere(&stage).await, "only the password is another one");
    assert!(leads_to_nobody(None, None, &[]).await.unwrap(), "there is no var");
    stage.end().await;
}
