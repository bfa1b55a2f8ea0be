//! Differences that vanish in later rounds, and those that last.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

#[tokio::test]
async fn a_lagging_target_converges_in_later_rounds_which_look_only_at_what_differed() {
    let (source, target) = (server().await, server().await);
    let mut keys = String::new();
    (0..500).for_each(|at| keys.push_str(&format!("SET key:{at} {at}\n")));
    tokio::join!(source.script(&keys), target.script(&keys));
    target.script("SET key:7 old\n DEL key:8\n SET new x").await;
    let mended = AtomicU32::new(0);
    let (one, two) = (source.server(), target.server());
    let options = Options {
        pause: Duration::from_millis(200),
        rounds: 10,
        ..Options::default()
    };
    let comparing = compare(&one, &two, &options, |progress| {
        mended.store(progress.round, Ordering::SeqCst)
    });
    let mending = async {
        while mended.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        target.script("SET key:7 7\n SET key:8 8").await;
        source.script("SET new x").await;
    };
    let (comparison, ()) = tokio::join!(comparing, mending);
    let comparison = comparison.unwrap();
    assert!(comparison.identical(), "{comparison:?}");
    assert_eq!(
        (
            comparison.compared,
            comparison.rounds[0].differing,
            comparison.rounds[0].full
        ),
        (501, 3, true)
    );
    assert!(comparison.rounds.len() >= 2);
    assert!(
        comparison.rounds[1..]
            .iter()
            .all(|round| !round.full && round.compared <= 3),
        "{:?}",
        comparison.rounds
    );
}

#[tokio::test]
async fn lasting_differences_are_counted_by_kind_after_the_last_round() {
    let (source, target) = (server().await, server().await);
    source.script("SET a 1\n SET b 1\n SET c 1").await;
    target.script("SET b 2\n SET c 1\n SET d 1\n SET e 1").await;
    let options = Options {
        rounds: 3,
        pause: Duration::from_millis(1),
        first: 2,
        ..Options::default()
    };
    let comparison = compared(&source, &target, &options).await;
    assert!(!comparison.identical());
    assert_eq!((comparison.missing, comparison.different, comparison.extra), (1, 1, 2));
    assert_eq!(
        (
            comparison.rounds.len(),
            comparison.first.len(),
            comparison.counts_are_approximate
        ),
        (3, 2, false)
    );
}

#[tokio::test]
async fn more_differing_keys_than_are_kept_make_the_next_round_full() {
    let (source, target) = (server().await, server().await);
    let mut keys = String::new();
    (0..50).for_each(|at| keys.push_str(&format!("SET key:{at} {at}\n")));
    source.script(&keys).await;
    let options = Options {
        rounds: 2,
        pause: Duration::from_millis(1),
        keep: 10,
        ..Options::default()
    };
    let comparison = compared(&source, &target, &options).await;
    assert_eq!((comparison.missing, comparison.counts_are_approximate), (50, true));
    assert!(
        comparison
            .rounds
            .iter()
            .all(|round| round.full && round.differing == 50)
    );
}

#[tokio::test]
async fn a_target_that_follows_a_busy_source_becomes_identical_in_rounds() {
    let source = TestServer::start(&["--repl-diskless-sync-delay", "0"]).await;
    let target = TestServer::replica_of(&source).await;
    let (mut writer, stop) = (source.connect(0).await, std::sync::Arc::new(AtomicU32::new(0)));
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        let mut written = 0u64;
        while stopped.load(Ordering::SeqCst) == 0 {
            let mut commands = ::redis::pipe();
            commands
                .cmd("INCR")
                .arg("counter")
                .cmd("SET")
                .arg(format!("key:{written}"))
                .arg(written);
            commands
                .cmd("LPUSH")
                .arg("queue")
                .arg(written)
                .cmd("ZADD")
                .arg("ranks")
                .arg(written)
                .arg(written % 50);
            commands
                .cmd("SET")
                .arg(format!("brief:{written}"))
                .arg(1)
                .arg("PX")
                .arg(20);
            commands
                .cmd("RPOP")
                .arg("queue")
                .cmd("DEL")
                .arg(format!("key:{}", written.saturating_sub(500)));
            assert!(
                writer
                    .ask_all(&commands)
                    .await
                    .unwrap()
                    .iter()
                    .all(|answer| !matches!(answer, ::redis::Value::ServerError(_)))
            );
            written += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        written
    });
    let mut watcher = source.connect(0).await;
    let begun = std::time::Instant::now();
    while watcher.query::<u64>(&::redis::cmd("DBSIZE")).await.unwrap() < 100 {
        assert!(begun.elapsed().as_secs() < 20, "the writer does not write");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = watcher.query::<u64>(::redis::cmd("GET").arg("counter")).await.unwrap();
    let options = Options {
        rounds: 10,
        pause: Duration::from_millis(100),
        ..Options::default()
    };
    let comparison = compared(&source, &target, &options).await;
    stop.store(1, Ordering::SeqCst);
    // The comparison ran during the writes, not before or after them.
    assert!(writing.await.unwrap() > before);
    assert!(comparison.identical(), "{comparison:?}");
}
