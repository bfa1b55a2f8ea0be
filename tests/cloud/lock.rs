//! One command at a time, and what happens to the lock of a command that died.

use super::store;
use infra::effects::cloud::s3::If;
use infra::effects::state::{Held, LOCK_TERM, Lock, LockRecord, ProcessIdentity, Store};
use infra::model::error::{Error, Kind};
use infra::ui::Ui;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use testkit::aws::Aws;

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_is_refused_with_its_holders_name_and_free_after_its_release() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let ui = Ui::silent();
    let held = Lock::acquire(&store, &ui, "infra up").await.unwrap();
    held.check(Duration::from_secs(30)).unwrap();
    let error = Lock::acquire(&store, &ui, "infra promote").await.err().unwrap();
    assert_eq!(error.kind(), Kind::Locked);
    let chain = error.chain().join(": ");
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert!(chain.contains("runs `infra up`") && chain.contains(&host), "{chain}");
    assert_eq!(Lock::holder(&store).await.unwrap(), Some(held.record()));
    held.release().await.unwrap();
    assert_eq!(Lock::holder(&store).await.unwrap(), None);
    Lock::acquire(&store, &ui, "infra promote")
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_exactly_one_gets_the_lock() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let ui = Ui::silent();
    let all = futures_util::future::join_all((0..12).map(|_| Lock::acquire(&store, &ui, "infra up"))).await;
    let kinds: Vec<Kind> = all
        .iter()
        .filter_map(|taken| taken.as_ref().err().map(Error::kind))
        .collect();
    assert_eq!(kinds, vec![Kind::Locked; 11]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holders_lock_lapses_and_is_taken_over_but_a_living_ones_is_renewed() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let (dead, living) = (store(&cloud, "dead").await, store(&cloud, "living").await);
    let ui = Ui::silent();
    let renewed = Lock::acquire(&living, &ui, "infra up").await.unwrap();
    // Dropped without release: all that a killed process leaves.
    drop(Lock::acquire(&dead, &ui, "infra up").await.unwrap());
    let begun = Instant::now();
    let taken = loop {
        match Lock::acquire(&dead, &ui, "infra status").await {
            Ok(taken) => break taken,
            Err(error) => assert_eq!(error.kind(), Kind::Locked, "{error:?}"),
        }
        assert!(
            begun.elapsed() < LOCK_TERM + Duration::from_secs(15),
            "the lock never lapsed"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(
        begun.elapsed() >= LOCK_TERM,
        "it was taken over after {:?} already",
        begun.elapsed()
    );
    taken.check(Duration::from_secs(50)).unwrap();
    renewed.check(Duration::from_secs(40)).unwrap();
    assert!(renewed.record().renewals >= 3, "{:?}", renewed.record());
    assert_eq!(
        Lock::acquire(&living, &ui, "infra up").await.err().unwrap().kind(),
        Kind::Locked
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_removed_is_noticed_and_never_taken_back() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let held = Lock::acquire(&store, &Ui::silent(), "infra up").await.unwrap();
    store
        .bucket()
        .delete("state/production/lock.json", &If::Always)
        .await
        .unwrap();
    let other = Lock::acquire(&store, &Ui::silent(), "infra promote").await.unwrap();
    let begun = Instant::now();
    let error = loop {
        match held.check(Duration::ZERO) {
            Err(error) => break error,
            Ok(()) => assert!(begun.elapsed() < Duration::from_secs(25), "the loss was never noticed"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(error.kind(), Kind::Locked);
    assert!(error.to_string().contains("infra promote"), "{error}");
    held.release().await.unwrap();
    other.check(Duration::ZERO).unwrap();
    assert_eq!(
        Lock::holder(&store).await.unwrap().map(|record| record.id),
        Some(other.record().id)
    );
}

/// Starts a process that holds no lock until a record says so.
fn bystander() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

/// Leaves the lock in the store as a process with this identity would have left it.
async fn left_by(store: &Store, identity: ProcessIdentity) -> LockRecord {
    let held = Lock::acquire(store, &Ui::silent(), "infra up").await.unwrap();
    let record = LockRecord {
        process: identity.pid,
        identity: Some(identity),
        ..held.record()
    };
    drop(held);
    let body = serde_json::to_vec(&record).unwrap();
    let key = format!("state/{}/lock.json", store.env());
    store.bucket().put(&key, &body, &If::Always).await.unwrap();
    record
}

async fn taken(store: &Store) -> Result<Held, Kind> {
    let taken = Lock::acquire(store, &Ui::silent(), "infra promote").await;
    taken.map_err(|error| error.kind())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_of_a_dead_process_of_this_computer_is_taken_over_at_once() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let (waited_for, zombie, reused) = (
        store(&cloud, "waited-for").await,
        store(&cloud, "zombie").await,
        store(&cloud, "reused").await,
    );
    let mut process = bystander();
    let identity = ProcessIdentity::of(process.id()).unwrap();

    // The process id is in use by another process than the one that took the lock.
    let earlier = ProcessIdentity {
        started: identity.started - 1,
        ..identity.clone()
    };
    left_by(&reused, earlier).await;
    taken(&reused).await.unwrap().release().await.unwrap();

    // A killed process counts as dead, whether or not anybody has waited for it.
    left_by(&zombie, identity.clone()).await;
    left_by(&waited_for, identity).await;
    process.kill().unwrap();
    let begun = Instant::now();
    let held = loop {
        match taken(&zombie).await {
            Ok(held) => break held,
            Err(kind) => assert_eq!(kind, Kind::Locked),
        }
        assert!(begun.elapsed() < LOCK_TERM / 2, "a killed process keeps its lock");
    };
    held.check(Duration::from_secs(30)).unwrap();
    assert_eq!(
        Lock::holder(&zombie).await.unwrap().map(|record| record.id),
        Some(held.record().id)
    );
    process.wait().unwrap();
    taken(&waited_for).await.unwrap().release().await.unwrap();

    // If many commands find the holder dead, one of them gets the lock.
    let mut gone = bystander();
    left_by(&waited_for, ProcessIdentity::of(gone.id()).unwrap()).await;
    gone.kill().unwrap();
    gone.wait().unwrap();
    let all = futures_util::future::join_all((0..8).map(|_| taken(&waited_for))).await;
    assert_eq!(all.iter().filter(|taken| taken.is_ok()).count(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_left_alone_if_its_holders_death_is_not_certain() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let mut process = bystander();
    let living = ProcessIdentity::of(process.id()).unwrap();
    let mut dead = bystander();
    let gone = ProcessIdentity::of(dead.id()).unwrap();
    dead.kill().unwrap();
    dead.wait().unwrap();
    let after_a_reboot = ProcessIdentity {
        boot_id: "00000000-0000-0000-0000-000000000000".into(),
        ..gone.clone()
    };
    let in_a_container = ProcessIdentity {
        pid_namespace: "pid:[1]".into(),
        ..gone.clone()
    };
    for identity in [living, after_a_reboot, in_a_container] {
        let left = left_by(&store, identity.clone()).await;
        assert_eq!(taken(&store).await.err(), Some(Kind::Locked), "{identity:?}");
        assert_eq!(Lock::holder(&store).await.unwrap(), Some(left.clone()));
        // The same holds for a version without identities, and for a copied host with our boot id.
        for unsure in [
            LockRecord {
                identity: None,
                ..left.clone()
            },
            LockRecord {
                host: "another".into(),
                identity: Some(gone.clone()),
                ..left
            },
        ] {
            let body = serde_json::to_vec(&unsure).unwrap();
            let key = "state/production/lock.json";
            store.bucket().put(key, &body, &If::Always).await.unwrap();
            assert_eq!(taken(&store).await.err(), Some(Kind::Locked), "{unsure:?}");
        }
        store
            .bucket()
            .delete("state/production/lock.json", &If::Always)
            .await
            .unwrap();
    }
    process.kill().unwrap();
    process.wait().unwrap();
}
