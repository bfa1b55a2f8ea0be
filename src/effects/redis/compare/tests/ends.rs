//! Servers that end a comparison with an error.

use super::*;

#[tokio::test]
async fn a_target_with_fewer_databases_is_an_error_that_says_so() {
    let (source, target) = (server().await, TestServer::start(&["--databases", "4"]).await);
    source.script("20>SET a 1").await;
    let error = compare(&source.server(), &target.server(), &once(), |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("database 20"), "{error}");
    assert!(error.next_step().unwrap().contains("databases"));
}

#[tokio::test]
async fn a_command_that_the_source_forbids_ends_the_comparison_with_its_name() {
    let (source, target) = alike().await;
    source.script("ACL SETUSER bound on nopass ~* +@all -getrange").await;
    let mut bound = source.server();
    (bound.user, bound.password) = (Some("bound".into()), Some(crate::model::secret::Secret::new("x")));
    let error = compare(&bound, &target.server(), &once(), |_| {}).await.unwrap_err();
    assert!(
        error.next_step().unwrap().contains("access rules"),
        "{:?}",
        error.chain()
    );
    // Without MEMORY USAGE the comparison uses an estimate.
    source.script("ACL SETUSER bound +getrange -memory").await;
    assert!(
        compare(&bound, &target.server(), &once(), |_| {})
            .await
            .unwrap()
            .identical()
    );
}

#[tokio::test]
async fn a_lost_server_ends_the_comparison_with_an_error() {
    let (source, mut target) = alike().await;
    let mut comparator = Comparator::connect(&source.server(), &target.server()).await.unwrap();
    target.kill();
    assert!(comparator.everything(&once(), &|_| {}).await.is_err());
}
