//! Damages every kind of object: damage is found and named, and no wrong restore is called right.

use crate::writer::{Diary, Writer, at_end_of, differs};
use infra::effects::backup::catalogue::{Catalogue, Finding, Wish, Wrong};
use infra::effects::backup::prove;
use infra::effects::cloud::s3::If;
use infra::ui::Ui;
use jiff::Timestamp;
use std::time::Duration;
use testkit::backups::{ENV, World};
use testkit::waiting::until;

/// Returns everything that is found wrong, as `backup verify` would.
async fn findings(world: &World, catalogue: &Catalogue) -> Vec<Finding> {
    let step = Ui::silent().step("prove");
    let proof = prove::everything(&world.bucket, ENV, catalogue, &step).await.unwrap();
    let mut found = proof.findings;
    found.extend(catalogue.findings.iter().cloned());
    found.extend(catalogue.holes(0));
    found
}

/// Restores and compares: `None` if it is right, the error if it is refused. A wrong one fails.
async fn restore(world: &World, catalogue: &Catalogue, second: i64, diary: &Diary) -> Option<String> {
    let wish = Wish::At(Timestamp::from_second(second).unwrap());
    let (_folder, engine) = match world.restored(catalogue, &wish).await {
        Ok(restored) => restored,
        Err(error) => return Some(error.chain().join(": ")),
    };
    let number = at_end_of(diary, second);
    let wrong = differs(&mut engine.connection(), number).await;
    engine.stop().await;
    assert_eq!(wrong, None, "a wrong restore of second {second} that says it is right");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_object_that_is_gone_or_changed_is_found_and_no_wrong_restore_is_called_right() {
    let mut world = World::new(2).await;
    world.start_shipping();
    let writer = Writer::start(&world.path("s"), Duration::from_millis(3));
    std::thread::sleep(Duration::from_secs(4));
    assert!(world.base().status.success());
    std::thread::sleep(Duration::from_secs(5));
    let diary = writer.stop();
    let last = *diary.keys().max().unwrap();
    until("all of it is shipped", || world.shipped_until() > last);
    world.kill_agent();

    let whole = world.catalogue().await;
    assert_eq!(findings(&world, &whole).await, []);
    assert_eq!(restore(&world, &whole, last, &diary).await, None);
    let (base, earlier) = (whole.bases.last().unwrap(), whole.bases.first().unwrap());
    assert_ne!(base.place, earlier.place);
    let (id, log) = whole.timelines.iter().next().unwrap();
    let middle = &log.pieces[log.pieces.len() / 2];
    let piece = |piece: &infra::effects::backup::catalogue::Piece| format!("backups/{ENV}/log/{id}/{}", piece.segment);
    // Damages that state. The newest second may still come from another base, or not at all.
    let objects = [
        ("a base's part", format!("{}/{}", base.place, base.parts[0].name)),
        ("a commit record", format!("{}/commit.json", base.place)),
        ("a piece of the log", piece(middle)),
        ("a log's first piece", piece(&log.pieces[0])),
        ("a timeline's record", format!("backups/{ENV}/log/{id}/timeline.json")),
    ];
    for (what, key) in &objects {
        let body = world.bucket.get(key).await.unwrap().unwrap().body;
        world.bucket.delete(key, &If::Always).await.unwrap();
        let catalogue = world.catalogue().await;
        let found = findings(&world, &catalogue).await;
        // Without its record the newest base counts as unfinished, and the one before it serves.
        let uncommitted = key.ends_with("commit.json");
        assert!(
            uncommitted || found.iter().any(|finding| finding.kind == Wrong::Gap),
            "{what} is gone, found: {found:?}"
        );
        let outcome = restore(&world, &catalogue, last, &diary).await;
        assert!(!uncommitted || outcome.is_none(), "{outcome:?}");
        println!(
            "{what} is gone: {}; restore: {}",
            found
                .first()
                .map_or("nothing else depends on it", |first| first.what.as_str()),
            outcome.as_deref().unwrap_or("right")
        );

        for at in [0, body.len() / 2, body.len() - 1] {
            let mut changed = body.clone();
            changed[at] ^= 0x20;
            put(&world, key, &changed).await;
            let catalogue = world.catalogue().await;
            let found = findings(&world, &catalogue).await;
            // Another blank in a record is no damage: the record reads as before.
            let same = serde_json::from_slice::<serde_json::Value>(&changed).ok()
                == serde_json::from_slice::<serde_json::Value>(&body).ok()
                && body[0] == b'{';
            assert!(
                same || !found.is_empty(),
                "{what} with another byte at {at} is not found"
            );
            let outcome = restore(&world, &catalogue, last, &diary).await;
            println!(
                "{what} changed at {at}: {}; restore: {}",
                found.first().map_or("the same record", |first| first.what.as_str()),
                outcome.as_deref().unwrap_or("right")
            );
        }
        put(&world, key, &body).await;
    }
    assert_eq!(findings(&world, &world.catalogue().await).await, []);
}

/// Replaces an object. The bucket takes no second object under a key, so the first is deleted.
async fn put(world: &World, key: &str, body: &[u8]) {
    world.bucket.delete(key, &If::Always).await.unwrap();
    world.bucket.put(key, body, &If::Absent).await.unwrap();
}
