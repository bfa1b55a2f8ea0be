//! Restoring every second of a run in which everything is killed that can be.

use crate::outages::now;
use crate::writer::{Writer, at_end_of, differs};
use infra::effects::backup::catalogue::Wish;
use jiff::Timestamp;
use std::io::Write;
use std::time::{Duration, Instant};
use testkit::backups::World;
use testkit::waiting::within;

const RPO_S: u64 = 5;

/// How long the run lasts.
fn length() -> Duration {
    let seconds = std::env::var("BACKUP_RUN_S").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(180))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_second_of_a_run_full_of_crashes_is_restored_exactly() {
    let mut world = World::new(RPO_S).await;
    world.start_shipping();
    let first = now() + 1;
    let begun = Instant::now();
    let writer = Writer::start(&world.path("s"), Duration::from_millis(2));
    // Seconds that lost an acknowledged write: a power cut takes what was not synced.
    let mut lossy = Vec::new();
    let mut round = 0;
    while begun.elapsed() < length() {
        std::thread::sleep(Duration::from_millis(4300));
        round += 1;
        match round % 5 {
            // In the middle of a second, as far as the clock of this loop knows.
            1 => {
                let made = world.base();
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            }
            2 => {
                world.kill_agent();
                std::thread::sleep(Duration::from_millis(700));
                world.start_agent();
            }
            3 => {
                world.kill_engine();
                std::thread::sleep(Duration::from_millis(300));
                world.start_engine();
            }
            4 => {
                assert!(world.ask(&["BGREWRITEAOF"]).starts_with("Background"));
            }
            _ => {
                // The machine dies: both at once, and the file's last bytes never reached the disk.
                world.kill_engine();
                world.kill_agent();
                let increment = world.increment();
                let length = std::fs::metadata(&increment).unwrap().len();
                let file = std::fs::File::options().write(true).open(&increment).unwrap();
                file.set_len(length.saturating_sub(3000)).unwrap();
                lossy.extend([now() - 2, now() - 1, now()]);
                world.start_engine();
                world.start_agent();
            }
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    // At the end everything dies at once, right after a write.
    world.kill_agent();
    let died = now();
    let diary = writer.stop();
    world.kill_engine();

    let catalogue = world.catalogue().await;
    assert!(catalogue.findings.is_empty(), "{:?}", catalogue.findings);
    assert_eq!(catalogue.holes(0), []);
    let covered = catalogue.covered();
    assert_eq!(covered.len(), 1, "{covered:?}");
    let until = covered[0].until.as_second();
    let rpo = i64::try_from(RPO_S).unwrap();
    assert!(until >= died - rpo, "the log ends {} s before the end", died - until);
    let mut wrong = Vec::new();
    let mut exact = 0;
    for second in first..=until {
        if lossy.contains(&second) {
            continue;
        }
        let wish = Wish::At(Timestamp::from_second(second).unwrap());
        let (_folder, engine) = world
            .restored(&catalogue, &wish)
            .await
            .unwrap_or_else(|error| panic!("second {second}: {error:?}"));
        match differs(&mut engine.connection(), at_end_of(&diary, second)).await {
            None => exact += 1,
            Some(what) => wrong.push(format!("second {} ({second}): {what}", second - first)),
        }
        engine.stop().await;
    }
    println!(
        "{exact} of {} seconds exact; {} writes; the log ends {} s before the end; {} bases, {} timelines",
        until - first + 1 - i64::try_from(lossy.len()).unwrap(),
        diary.values().max().unwrap(),
        died - until,
        catalogue.bases.len(),
        catalogue.timelines.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    let _ = std::io::stdout().flush();
    within(Duration::ZERO, "enough was looked at", || exact > 20);
}
