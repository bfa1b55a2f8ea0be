//! A key that a server expires or evicts by itself is no write, however late that happens.

use super::super::Command;
use super::expect_moved;
use super::stage::Stage;
use crate::effects::redis::Server;
use crate::effects::redis::testing::command;
use crate::model::secret::Secret;
use sandbox::addon::Engine;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Hashes with a field that stays and one that expires, one after the other over some seconds.
async fn expiring_fields(stage: &Stage) {
    let hashes: Vec<String> = (1..120)
        .flat_map(|at| {
            [
                format!("HSET hash:{at} stays 1 goes 1"),
                format!("HPEXPIRE hash:{at} {} FIELDS 1 goes", at * 100),
            ]
        })
        .collect();
    stage.at_source(&hashes.join("\n")).await;
}

/// Sets a key or field again and again on the new side, from the moment that the app may.
fn set_again(stage: &Stage, lines: Vec<String>) -> JoinHandle<()> {
    let server = Server {
        user: Some("app".into()),
        password: Some(Secret::new("app-secret")),
        ..stage.master()
    };
    tokio::spawn(async move {
        loop {
            if let Ok(mut connection) = server.connect(0).await {
                for line in &lines {
                    let _ = connection.ask(&command(line)).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

#[tokio::test]
async fn fields_that_expire_during_a_switch_are_no_writes() {
    let Some(mut stage) = Stage::of(Engine::Redis8, 0.02).await else {
        return;
    };
    stage.load().await;
    expiring_fields(&stage).await;
    // The app sets some of them again on the new side.
    let again = set_again(&stage, (1..120).map(|at| format!("HSET hash:{at} goes 2")).collect());
    stage.limits.settle = Duration::from_secs(4);
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    again.abort();
    assert_eq!(
        (outcome.late_writes, outcome.foreign_writes),
        (Some(0), 0),
        "{outcome:?}"
    );
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_promotion_whose_hold_lapsed_goes_on_though_fields_expired_on_both_sides() {
    let Some(mut stage) = Stage::of(Engine::Redis8, 0.02).await else {
        return;
    };
    expiring_fields(&stage).await;
    stage.limits.hold = Duration::from_secs(1);
    stage.run(Command::Promote).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    assert_eq!(
        (outcome.late_writes, outcome.foreign_writes),
        (Some(0), 0),
        "{outcome:?}"
    );
    stage.load().await;
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_field_that_a_client_deletes_after_the_promotion_is_a_write() {
    let Some(mut stage) = Stage::of(Engine::Redis8, 0.02).await else {
        return;
    };
    stage.at_source("HSET h a 1 b 2").await;
    stage.limits.hold = Duration::from_secs(1);
    stage.run(Command::Promote).await.unwrap();
    stage.at_source("CLIENT UNPAUSE\nHDEL h a").await;
    // The deletion leads back to following, and the same run promotes and switches again.
    stage.run(Command::SwitchApp).await.unwrap();
    assert_eq!(stage.master.run::<Vec<String>>("HKEYS h").await, ["b"]);
    stage.end().await;
}

#[tokio::test]
async fn keys_that_expire_on_a_source_that_is_not_paused_are_no_late_writes_though_the_app_set_them_again() {
    let mut stage = Stage::new(0.02).await;
    stage.forbid_pausing().await;
    stage.load().await;
    let names: Vec<String> = (1..120).map(|at| format!("brief:{at}")).collect();
    let brief = names
        .iter()
        .zip(1..)
        .map(|(name, at)| format!("SET {name} 1 PX {}", at * 100));
    stage.at_source(&brief.collect::<Vec<_>>().join("\n")).await;
    let again = set_again(&stage, names.iter().map(|name| format!("SET {name} 2")).collect());
    stage.limits.settle = Duration::from_secs(4);
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    again.abort();
    assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn the_counters_of_the_source_hold_over_reruns_and_cover_evicted_keys() {
    let stage = Stage::new(0.02).await;
    stage.forbid_pausing().await;
    let keys: Vec<String> = (0..40)
        .map(|at| format!("SET evicted:{at} {}", "x".repeat(40_000)))
        .collect();
    stage.at_source(&keys.join("\n")).await;
    stage.run(Command::Promote).await.unwrap();
    let promotion = stage.history().promotion.unwrap();
    assert!(promotion.source_removals.is_some(), "{promotion:?}");
    // Any command makes a server that is over its limit evict.
    let used: String = stage
        .source()
        .connect(0)
        .await
        .unwrap()
        .query(&command("INFO memory"))
        .await
        .unwrap();
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let limit = used.trim().parse::<u64>().unwrap() - 400_000;
    stage
        .at_source(&format!(
            "CONFIG SET maxmemory-policy allkeys-random\nCONFIG SET maxmemory {limit}\nGET x"
        ))
        .await;
    let stats = stage.source().connect(0).await.unwrap().info().await.unwrap();
    assert!(stats.own_removals.evicted_keys > 0);
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
    assert!(stage.app_is_on(&stage.master).await);
    let there: u64 = stage.master.run("EXISTS evicted:0 evicted:1 evicted:39").await;
    assert_eq!(there, 3, "what the source evicted is not lost with it");
    stage.end().await;
}
