//! A promotion also needs the append-only logs in force, and a lock that the bucket confirms.

use super::super::{Command, Phase};
use super::stage::{Stage, unfinished_log};
use super::{expect_moved, expect_unmoved};
use crate::effects::redis::testing::TestServer;
use crate::model::error::Kind;
use std::time::{Duration, Instant};
use wire::info::ServerRole;

/// Slows each key that the engine's child writes, by so many microseconds.
const SLOW: u32 = 3_000;

async fn slow_rewrites(server: &TestServer, microseconds: u32) {
    server
        .script(&format!("CONFIG SET rdb-key-save-delay {microseconds}"))
        .await;
}

async fn is_rewriting(server: &TestServer) -> bool {
    let info = server.connect(0).await.info().await.unwrap();
    info.persistence.log_is_rewritten()
}

/// Keys on all three servers.
async fn fill(stage: &Stage, keys: u32) {
    let lines: Vec<String> = (0..keys).map(|key| format!("SET filler:{key} 1")).collect();
    stage.at_source(&lines.join("\n")).await;
    let begun = Instant::now();
    for host in [&stage.master, &stage.replica] {
        while host.run::<u32>("DBSIZE").await < keys {
            assert!(begun.elapsed() < Duration::from_secs(60), "the keys do not arrive");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_promotion_waits_for_the_rewrite_that_follows_a_full_copy() {
    for on_the_replica in [false, true] {
        let mut stage = Stage::new(0.02).await;
        fill(&stage, 500).await;
        stage.load().await;
        stage.limits.hold = Duration::from_secs(2);
        stage.run(Command::Promote).await.unwrap();
        // The hold lapses: to promote again, the master first follows anew, which is a full copy.
        stage.more_writes(20).await;
        let slow = if on_the_replica { &stage.replica } else { &stage.master };
        slow_rewrites(slow, SLOW).await;
        stage.limits.hold = Duration::from_secs(60);
        // The stage's hosts refuse a promotion whose log is not in force.
        stage.run(Command::Promote).await.unwrap();
        assert!(!unfinished_log(&stage.master).exists() && !unfinished_log(&stage.replica).exists());
        slow_rewrites(slow, 0).await;
        stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        stage.end().await;
    }
}

#[tokio::test]
async fn a_rewrite_that_does_not_end_stops_before_the_fence_and_says_so() {
    let mut stage = Stage::new(0.02).await;
    fill(&stage, 500).await;
    stage.load().await;
    slow_rewrites(&stage.replica, 200_000).await;
    stage.replica.script("BGREWRITEAOF").await;
    stage.limits.sync = Duration::from_secs(1);
    let error = stage.run(Command::Promote).await.unwrap_err();
    let chain = error.chain().join(": ");
    assert!(
        chain.contains("append-only log") && chain.contains("replica"),
        "{chain}"
    );
    assert_eq!(stage.history().phase, Some(Phase::Following), "it was fenced");
    expect_unmoved(&stage).await;
    slow_rewrites(&stage.replica, 0).await;
    stage.end().await;
}

#[tokio::test]
async fn a_log_that_is_off_stops_before_the_fence() {
    let stage = Stage::new(0.02).await;
    stage.load().await;
    stage.master.script("CONFIG SET appendonly no").await;
    let error = stage.run(Command::Promote).await.unwrap_err();
    assert!(
        error.to_string().contains("append-only log of the master: it is off"),
        "{error:?}"
    );
    assert_eq!(stage.history().phase, Some(Phase::Following), "it was fenced");
    expect_unmoved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_plain_rewrite_that_begins_after_the_look_does_not_stop_the_promotion() {
    let stage = Stage::new(0.02).await;
    fill(&stage, 300).await;
    stage.load().await;
    let begin = async {
        // Once the journal says that the comparison has begun, the hosts were found ready.
        let begun = Instant::now();
        while stage.history().phase != Some(Phase::Fenced) {
            assert!(begun.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        slow_rewrites(&stage.master, 20_000).await;
        stage.master.script("BGREWRITEAOF").await;
    };
    let (promoted, ()) = tokio::join!(stage.run(Command::Promote), begin);
    promoted.unwrap();
    assert!(is_rewriting(&stage.master).await, "the rewrite ended before it was met");
    slow_rewrites(&stage.master, 0).await;
    // The replica comes back to its promoted master within a second.
    let begun = Instant::now();
    loop {
        let master = stage.master.connect(0).await.info().await.unwrap();
        let replica = stage.replica.connect(0).await.info().await.unwrap();
        if replica.replid == master.replid && replica.link.is_some_and(|link| link.up) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the replica lost its master");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

/// This computer's clock stands still, and another command takes the lock meanwhile.
#[tokio::test]
async fn a_clock_that_stood_still_promotes_opens_and_erases_nothing() {
    for phase in [Phase::Fenced, Phase::Switching, Phase::Returning] {
        let mut stage = Stage::new(0.02).await;
        stage.load().await;
        if phase == Phase::Returning {
            stage.limits.hold = Duration::from_secs(2);
            stage.run(Command::Promote).await.unwrap();
            stage.more_writes(5).await;
        }
        stage.clock_stands = true;
        stage.lock_ends_with = Some(phase);
        let error = stage.run(Command::SwitchApp).await.unwrap_err();
        assert!(
            [Kind::Locked, Kind::Partial].contains(&error.kind()),
            "{phase}: {:?}",
            error.chain()
        );
        assert!(
            error.chain().join(": ").contains("the lock was lost"),
            "{:?}",
            error.chain()
        );
        let info = stage.master.connect(0).await.info().await.unwrap();
        let wanted = match phase {
            Phase::Fenced => ServerRole::Replica,
            _ => ServerRole::Master,
        };
        assert_eq!(info.role, wanted, "{phase}");
        let users: Vec<String> = stage.master.run("ACL LIST").await;
        assert!(
            users.iter().any(|user| user.starts_with("user app off")),
            "{phase}: {users:?}"
        );
        assert!(stage.app_is_on(&stage.source).await, "{phase}");
        stage.end().await;
    }
}
