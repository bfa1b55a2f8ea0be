//! The gate alone, against three real servers.

use super::super::gate;
use super::super::sides::Sides;
use super::super::watch::READING;
use super::stage::Stage;
use crate::effects::redis::Key;
use crate::effects::redis::testing::command;
use crate::ui::Ui;
use std::time::Duration;

#[tokio::test]
async fn keys_of_a_database_that_is_new_since_the_comparison_are_compared_again() {
    let stage = Stage::new(0.02).await;
    // The stream has selected database 7, which has no keys, and does not select it again.
    let mut seventh = stage.source().connect(7).await.unwrap();
    for line in ["SET a 1", "DEL a"] {
        seventh.ask(&command(line)).await.unwrap();
    }
    let mut sides = Sides::connect(&stage.source(), &stage.master(), &stage.replica())
        .await
        .unwrap();
    let ui = Ui::silent();
    let step = ui.step("compare");
    let mut baseline = gate::compare(&stage.source(), &stage.master(), &mut sides, 5, &step)
        .await
        .unwrap();
    let before = baseline.watch().position();
    seventh.ask(&command("SET a 1")).await.unwrap();
    let until = sides.source.info().await.unwrap().master_repl_offset;
    baseline.watch().reach(until, READING).await.unwrap();
    assert_eq!(
        baseline.watch().dirty_since(before).unwrap().in_some_database,
        [b"a".to_vec()],
        "the stream told the database: nothing is tried here"
    );
    // The master must not get the source's value after its own.
    let mut master = stage.master.connect(0).await;
    while master.info().await.unwrap().applied_offset < Some(until) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stage
        .master
        .script("CONFIG SET replica-read-only no\n7>SET a other")
        .await;
    baseline.shrink().await.unwrap();
    let dirty = baseline.watch().dirty_since(before).unwrap();
    let key = Key {
        database: 7,
        name: b"a".to_vec(),
    };
    assert!(dirty.within(&[0, 7]).unwrap().contains(&key), "{dirty:?}");
    stage.end().await;
}
