//! Sources that let nobody replicate and allow MONITOR: it tells which keys are written.

use super::super::Phase;
use super::super::gate::watched;
use super::super::pair::Pair;
use super::stage::{PLAIN, Rented, Stage};
use super::{Command, Kind, expect_moved};
use crate::effects::redis::testing::command;
use std::time::Duration;

async fn busy() -> Stage {
    let stage = idle().await;
    stage.load().await;
    stage
}

/// Returns a stage whose app does not run.
async fn idle() -> Stage {
    let rented = Rented { copied: true, ..PLAIN };
    let stage = Stage::renting(0.02, rented).await;
    let keys: Vec<String> = (0..2000).map(|key| format!("key:{key} 1")).collect();
    stage.at_source(&format!("MSET {}", keys.join(" "))).await;
    stage
}

/// Waits until the copy's watch is whole, and begins to note down which keys are written.
async fn begun(pair: &mut impl Pair) -> watched::Watched {
    for _ in 0..600 {
        if let Some((watched, _)) = watched::begin(pair).await.unwrap() {
            return watched;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there is no watch");
}

#[tokio::test]
async fn only_the_keys_written_meanwhile_are_compared_inside_the_fence() {
    for pausable in [true, false] {
        let stage = busy().await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        begun(&mut stage.setup().pair).await;
        let outcome = stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        assert_eq!(outcome.watch, Some("MONITOR"), "{outcome:?}");
        assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
        assert!(outcome.keys_compared.unwrap() > 2000, "{outcome:?}");
        assert!(outcome.keys_compared_in_fence.unwrap() < 1500, "{outcome:?}");
        stage.end().await;
    }
}

#[tokio::test]
async fn an_app_with_a_watch_waits_however_many_keys_there_are() {
    let mut stage = busy().await;
    stage.limits.unwatched = Duration::ZERO;
    begun(&mut stage.setup().pair).await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_write_inside_the_fence_is_seen_by_the_watch() {
    let stage = idle().await;
    let mut pair = stage.setup().pair;
    let mut watched = begun(&mut pair).await;
    stage.at_source("SET before 1").await;
    let report = watched.drain(&mut pair, Duration::from_secs(60)).await.unwrap();
    assert!(report.changed >= 1, "{report:?}");
    assert!(watched.written().iter().any(|key| key.name == b"before"));
    watched.still(&mut pair).await.unwrap();
    stage.at_source("EVAL return(redis.call('set','leak','1')) 0").await;
    let doubt = watched.still(&mut pair).await.unwrap_err();
    assert!(matches!(doubt, watched::Doubt::Written(_)), "{doubt:?}");
    stage.end().await;
}

#[tokio::test]
async fn a_monitor_that_was_cut_inside_the_gate_proves_nothing() {
    let stage = idle().await;
    let mut pair = stage.setup().pair;
    let mut watched = begun(&mut pair).await;
    watched.drain(&mut pair, Duration::from_secs(60)).await.unwrap();
    stage.at_source("CLIENT KILL TYPE normal\nSET unseen 1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        assert!(watched.still(&mut pair).await.is_err(), "a cut MONITOR was bridged");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.end().await;
}

#[tokio::test]
async fn a_watch_that_broke_since_the_comparison_does_not_drain() {
    let stage = idle().await;
    let mut pair = stage.setup().pair;
    let mut watched = begun(&mut pair).await;
    stage.at_source("CLIENT KILL TYPE normal\nSET unseen 1").await;
    // Another watch is whole by now, and knows nothing of that write.
    let _next = begun(&mut pair).await;
    assert!(watched.drain(&mut pair, Duration::ZERO).await.is_err());
    stage.end().await;
}

#[tokio::test]
async fn a_late_write_is_named_by_the_watch_also_if_the_app_writes_that_key_on_the_new_side() {
    let mut stage = busy().await;
    begun(&mut stage.setup().pair).await;
    stage.source_gets = Some((Phase::Switched, vec![command("SET key:7 late"), command("DEL key:8")]));
    stage.forbid_pausing().await;
    let mut setup = stage.setup();
    let error = super::super::run(stage.setup(), Command::SwitchApp).await.unwrap_err();
    let all = format!("{:?}", error.chain());
    assert!(
        error.to_string().contains("the source took 2 after the fence"),
        "{error:?}"
    );
    assert!(
        all.contains("key:7 in database 0") && all.contains("key:8 in database 0"),
        "{all}"
    );
    // The watch of before the promotion is still the same one.
    let monitored = stage.history().promotion.unwrap().monitored;
    let late = watched::since(&mut setup.pair, monitored.as_ref(), &[]).await.unwrap();
    assert_eq!(late.writes, 2);
    stage.end().await;
}

#[tokio::test]
async fn a_watch_that_was_cut_after_the_proof_tells_no_late_write_and_a_comparison_does() {
    let mut stage = busy().await;
    begun(&mut stage.setup().pair).await;
    let cut = vec![command("CLIENT KILL TYPE normal"), command("SET late 1")];
    stage.source_gets = Some((Phase::Switched, cut));
    stage.forbid_pausing().await;
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    let all = format!("{:?}", error.chain());
    assert!(
        error.to_string().contains("the source took 1 after the fence"),
        "{error:?}"
    );
    assert!(all.contains("late in database 0: "), "{all}");
    stage.end().await;
}

#[tokio::test]
async fn what_somebody_removed_from_the_master_is_copied_again_before_the_fence() {
    let stage = busy().await;
    begun(&mut stage.setup().pair).await;
    let _: u64 = stage.master.run("DEL key:1000 key:1001").await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(outcome.watch, Some("MONITOR"), "{outcome:?}");
    assert_eq!(stage.master.run::<u64>("EXISTS key:1000 key:1001").await, 2);
    stage.end().await;
}

#[tokio::test]
async fn an_early_write_to_our_side_stays_and_the_watch_tells_that_the_source_took_none() {
    let stage = busy().await;
    begun(&mut stage.setup().pair).await;
    stage.dies_once_our_side_is_open().await;
    // From here on the source's own count tells nothing.
    stage.at_source("SAVE").await;
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn a_pause_that_somebody_ended_is_seen_by_the_watch_of_a_source_that_counts_no_writes() {
    let mut stage = busy().await;
    begun(&mut stage.setup().pair).await;
    // A source that saves all the time begins its count anew.
    let sneaked = vec![command("CLIENT UNPAUSE"), command("SET sneaked 1"), command("SAVE")];
    stage.source_gets = Some((Phase::Promoted, sneaked));
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(error.to_string().contains("after the proof"), "{error:?}");
    stage.more_writes(20).await;
    assert!(stage.app_is_on(&stage.source).await);
    assert_eq!(stage.lost_on(&stage.source()).await, 0, "acknowledged writes are lost");
    stage.end().await;
}

#[tokio::test]
async fn a_monitor_that_the_source_closes_inside_the_gate_costs_a_comparison_and_not_the_switch() {
    for pausable in [true, false] {
        let mut stage = busy().await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        begun(&mut stage.setup().pair).await;
        stage.closes_monitor = true;
        let outcome = stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        assert_eq!(outcome.watch, Some("none"), "{outcome:?}");
        assert!(outcome.keys_compared_in_fence.unwrap() >= 2000, "{outcome:?}");
        assert!(outcome.late_by_comparison, "{outcome:?}");
        stage.end().await;
    }
}

#[tokio::test]
async fn a_gate_that_ends_since_the_app_would_wait_too_long_lets_app_and_copy_go_on() {
    for pausable in [true, false] {
        let mut stage = busy().await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        stage.limits.unwatched = Duration::ZERO;
        begun(&mut stage.setup().pair).await;
        stage.closes_monitor = true;
        let error = stage.run(Command::SwitchApp).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unproven, "{error:?}");
        assert!(
            error.to_string().contains("watch of the source's writes is broken"),
            "{error:?}"
        );
        stage.more_writes(20).await;
        assert!(stage.app_is_on(&stage.source).await);
        assert_eq!(stage.lost_on(&stage.source()).await, 0, "acknowledged writes are lost");
        stage.at_source("SET after 1").await;
        for look in 0.. {
            if stage.master.run::<u64>("EXISTS after").await == 1 {
                break;
            }
            assert!(look < 200, "the copy still holds");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stage.end().await;
    }
}
