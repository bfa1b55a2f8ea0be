//! A bucket that locks its objects: what `down` removes of it, what it leaves and says.

use infra::decide::cloud::plan;
use infra::decide::teardown::teardown as plan_teardown;
use infra::effects::cloud::s3::{Bucket, If};
use infra::effects::cloud::{Cloud, find, teardown};
use infra::effects::state::{Lock, Store};
use infra::model::cloud::{LockMode, ObjectLock, TeardownPlan, Wanted};
use infra::model::state::State;
use infra::ui::Ui;
use testkit::aws::{Aws, up, wanted};

const BACKUP: &str = "backups/production/hourly/1";

/// An environment whose bucket was locked with an object in it, and one backup after that.
async fn locked(cloud: &Cloud, mode: LockMode) -> (Wanted, Store) {
    let mut wanted = wanted(cloud, "production");
    up(cloud, &wanted).await.unwrap();
    let store = Store::new(cloud, wanted.names.bucket(), "production");
    store.save(&State::begin(jiff::Timestamp::now()), None).await.unwrap();
    wanted.object_lock = Some(ObjectLock { mode, days: 30 });
    let (first, _) = up(cloud, &wanted).await.unwrap();
    assert_eq!(first.actions.len(), 1, "{first}");
    let again = plan(&wanted, &find::find(cloud, &wanted).await.unwrap()).unwrap();
    assert!(again.is_empty(), "{again}");
    let bucket = Bucket::new(cloud, wanted.names.bucket());
    bucket.put(BACKUP, b"x", &If::Absent).await.unwrap();
    (wanted, store)
}

async fn down(cloud: &Cloud, wanted: &Wanted, store: &Store) -> (TeardownPlan, teardown::Removed) {
    let standing = teardown::find(cloud, &wanted.names).await.unwrap();
    let plan = plan_teardown(&wanted.names, &standing, true);
    let held = Lock::acquire(store, &Ui::silent(), "infra down").await.unwrap();
    let removed = teardown::apply(cloud, &wanted.names, &plan, Some(&held), &Ui::silent()).await;
    held.release().await.unwrap();
    (plan, removed.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn governed_backups_are_removed_when_they_are_named() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let (wanted, store) = locked(&cloud, LockMode::Governance).await;
    let (plan, removed) = down(&cloud, &wanted, &store).await;
    assert!(plan.governed);
    assert_eq!(removed.kept, [] as [&str; 0]);
    assert!(find::find(&cloud, &wanted).await.unwrap().bucket.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn compliance_backups_stay_and_the_report_says_until_when() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let (wanted, store) = locked(&cloud, LockMode::Compliance).await;
    let (_, removed) = down(&cloud, &wanted, &store).await;
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(30 * 24);
    let day = until.to_string()[..10].to_string();
    assert!(
        removed.kept[0].contains("compliance") && removed.kept[0].contains(&day),
        "{:?}",
        removed.kept
    );
    let bucket = Bucket::new(&cloud, wanted.names.bucket());
    assert!(bucket.get(BACKUP).await.unwrap().is_some(), "none of it is half gone");
    assert!(store.state().await.unwrap().is_none(), "the state is marked as deleted");

    // `down` leaves only locked objects, and the environment can be made again beside them.
    let standing = teardown::find(&cloud, &wanted.names).await.unwrap();
    let rest = plan_teardown(&wanted.names, &standing, true);
    assert!(rest.is_empty(), "{rest}");
    up(&cloud, &wanted).await.unwrap();
    store.save(&State::begin(jiff::Timestamp::now()), None).await.unwrap();
}
