//! The bucket decides who holds the lock: epochs, and the removal of a lock whose owner is gone.

use super::store;
use infra::effects::cloud::s3::If;
use infra::effects::state::{Held, Lock, Store};
use infra::model::error::Kind;
use infra::ui::Ui;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use testkit::aws::{Aws, call};

const LOCK: &str = "state/production/lock.json";

async fn take(store: &Store) -> Held {
    Lock::acquire(store, &Ui::silent(), "infra up").await.unwrap()
}

/// Removes the lock as `infra unlock` does.
async fn remove_lock(store: &Store) {
    let standing = Lock::standing(store).await.unwrap().unwrap();
    assert!(Lock::remove(store, standing).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_taking_has_a_higher_epoch_than_every_one_before() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let mut last = 0;
    let mut higher = |held: &Held| {
        assert!(held.epoch() > last, "{} after {last}", held.epoch());
        last = held.epoch();
    };
    let held = take(&store).await;
    higher(&held);
    assert_eq!(Lock::holder(&store).await.unwrap().unwrap().epoch, held.epoch());
    held.release().await.unwrap();
    // A holder that died did not give the lock back.
    let dead = take(&store).await;
    higher(&dead);
    drop(dead);
    remove_lock(&store).await;
    // A lock of a version that had no epochs.
    let held = take(&store).await;
    higher(&held);
    let mut before = serde_json::to_value(held.record()).unwrap();
    before.as_object_mut().unwrap().remove("epoch").unwrap();
    drop(held);
    let body = serde_json::to_vec(&before).unwrap();
    store.bucket().put(LOCK, &body, &If::Always).await.unwrap();
    assert_eq!(Lock::holder(&store).await.unwrap().unwrap().epoch, 0);
    remove_lock(&store).await;
    let held = take(&store).await;
    higher(&held);
    // A holder died after it claimed its number and before it wrote that into the lock.
    drop(held);
    store.bucket().delete(LOCK, &If::Always).await.unwrap();
    higher(&take(&store).await);
}

/// The holder and its clock slept while somebody else took the lock over.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_clock_stood_still_believes_the_bucket_and_not_its_clock() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let held = take(&store).await;
    held.confirm(Duration::from_secs(50)).await.unwrap();
    remove_lock(&store).await;
    let other = Lock::acquire(&store, &Ui::silent(), "infra promote").await.unwrap();
    held.check(Duration::from_secs(30))
        .expect("its own clock still says that the lock is its own");
    let error = held.confirm(Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(error.to_string().contains("infra promote"), "{error}");
    held.check(Duration::ZERO).unwrap_err();
    assert!(held.epoch() < other.epoch());
    held.release().await.unwrap();
    other.confirm(Duration::from_secs(50)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_that_come_at_once_take_turns() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let held = take(&store).await;
    let before = held.record().renewals;
    let all = futures_util::future::join_all((0..12).map(|_| held.confirm(Duration::from_secs(30)))).await;
    all.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
    assert_eq!(held.record().renewals, before + 12);
    // A renewal is interrupted, before or after it is written.
    for milliseconds in 0..8 {
        let _ = tokio::time::timeout(Duration::from_millis(milliseconds), held.confirm(Duration::ZERO)).await;
        held.confirm(Duration::from_secs(30)).await.unwrap();
    }
    held.release().await.unwrap();
    assert!(Lock::standing(&store).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_answer_proves_nothing() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let held = take(&store).await;
    drop(aws);
    let begun = Instant::now();
    let error = held.confirm(Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(error.to_string().contains("not certain"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    held.check(Duration::from_secs(20)).expect("it may still be ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_removed_by_its_id_even_during_renewals_and_no_other_lock_with_it() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let held = take(&store).await;
    let shown = Lock::standing(&store).await.unwrap().unwrap();
    held.confirm(Duration::ZERO).await.unwrap();
    assert!(Lock::remove(&store, shown).await.unwrap());
    held.confirm(Duration::ZERO).await.unwrap_err();

    let first = take(&store).await;
    let shown = Lock::standing(&store).await.unwrap().unwrap();
    first.release().await.unwrap();
    assert!(Lock::standing(&store).await.unwrap().is_none());
    let second = take(&store).await;
    assert!(
        !Lock::remove(&store, shown).await.unwrap(),
        "another one's lock was removed"
    );
    second.confirm(Duration::ZERO).await.unwrap();
}

/// `infra unlock` as people run it.
fn unlock(aws: &Aws, folder: &std::path::Path, arguments: &[&str]) -> Output {
    let keys = call(aws.address, "GET", "/_hv/operator", None).unwrap();
    Command::new(env!("CARGO_BIN_EXE_infra"))
        .arg("unlock")
        .args(arguments)
        .env_clear()
        .env("HEROKU_API_KEY", "not-a-key")
        .env("AWS_ACCESS_KEY_ID", keys["access_key_id"].as_str().unwrap())
        .env("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"].as_str().unwrap())
        .env("AWS_ENDPOINT_URL", format!("http://{}", aws.address))
        .current_dir(folder)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unlock_names_the_owner_and_removes_its_lock_alone() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let folder = tempfile::tempdir().unwrap();
    let config = "name: demo\nregion: us-east-1\nsource: {config_var: REDIS_URL}\napp: {name: demo}\n";
    std::fs::write(folder.path().join("infra.yml"), config).unwrap();
    let run = |arguments: &[&str]| {
        let output = unlock(&aws, folder.path(), arguments);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), said)
    };
    let held = take(&store).await;
    let (id, host) = (held.record().id, held.record().host);

    let (code, said) = run(&["ffff", "--yes"]);
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains(&id) && said.contains(&host) && said.contains("`infra up` since"),
        "{said}"
    );
    // There is no terminal, so the question cannot be answered.
    let (code, said) = run(&[&id]);
    assert_eq!(code, 64, "{said}");
    held.confirm(Duration::ZERO).await.unwrap();

    let (code, said) = run(&[&id, "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains(&id) && said.contains(&host) && said.contains("`infra up` since"),
        "{said}"
    );
    assert!(Lock::standing(&store).await.unwrap().is_none());
    assert_eq!(held.confirm(Duration::ZERO).await.unwrap_err().kind(), Kind::Locked);

    let (code, said) = run(&[&id, "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nobody holds the lock"), "{said}");
}
