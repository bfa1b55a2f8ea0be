//! What the source no longer has goes at the target, unless it is suspiciously much.

use super::rig::{Copying, Redis, until};
use infra_agent::copy::Request;
use sandbox::addon::Engine;

fn pair(keys: usize) -> (Redis, Redis, Copying) {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.fill(keys, 10);
    let copying = Copying::start(&source, &target);
    assert_eq!(copying.sweep().held, 0);
    assert_eq!(target.keys(), keys as u64);
    (source, target, copying)
}

#[test]
fn a_few_deletions_apply_at_once() {
    let (source, target, copying) = pair(5000);
    for key in 0..90 {
        source.say(&["DEL", &format!("key:{key}")]);
    }
    target.script("SET stray 1");
    let report = copying.sweep();
    assert_eq!((report.deleted, report.held), (91, 0), "{report:?}");
    assert_eq!(target.digest(), source.digest());
}

#[test]
fn what_somebody_removed_from_the_master_is_written_there_once_more() {
    let (source, target, copying) = pair(3000);
    target.script("DEL key:1 key:2");
    assert_eq!(copying.sweep().changed, 2);
    assert_eq!(target.digest(), source.digest());
    target.script("FLUSHALL");
    let report = copying.sweep();
    assert_eq!(
        (report.changed, report.deleted, report.held),
        (3000, 0, 0),
        "{report:?}"
    );
    assert_eq!(target.digest(), source.digest());
    // A key that expires on both sides is removed by nobody.
    source.script("SET ends 1 PX 300");
    assert_eq!(copying.sweep().changed, 1);
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(copying.sweep().changed, 0);
}

#[test]
fn keys_that_are_left_out_are_neither_copied_nor_deleted() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.script("SET cache:1 a\nSET cache:2 b\nSET kept c");
    target.script("SET cache:3 ours\nSET stray 1");
    let copying = Copying::without(&source, &target, &["cache:"]);
    let report = copying.sweep();
    assert_eq!((report.keys, report.left_out, report.deleted), (1, 2, 1), "{report:?}");
    assert_eq!(target.text(&["GET", "cache:3"]), "ours");
    assert_eq!((target.text(&["GET", "kept"]), target.keys()), ("c".into(), 2));
}

#[test]
fn a_source_that_was_emptied_does_not_empty_the_master() {
    let (source, target, copying) = pair(3000);
    source.script("FLUSHALL\nSET a 1");
    let report = copying.sweep();
    assert_eq!((report.deleted, report.held), (0, 3000), "{report:?}");
    assert_eq!(target.keys(), 3001);
    let accepted = Request {
        accept_deletions: true,
        ..Request::default()
    };
    let report = copying.ask(accepted).unwrap();
    assert_eq!((report.deleted, report.held), (3000, 0), "{report:?}");
    assert_eq!(target.digest(), source.digest());
}

#[test]
fn a_source_that_restarted_empty_does_not_empty_the_master() {
    let (mut source, target, copying) = pair(3000);
    let before = copying.sweep().source_run_id;
    source.restart_empty();
    until("the copy has found the source again", || {
        copying
            .ask(Request::default())
            .is_ok_and(|report| report.source_run_id != before)
    });
    let report = copying.sweep();
    assert_eq!((report.keys, report.held), (0, 3000), "{report:?}");
    assert_eq!(target.keys(), 3000);
    until("the status is written", || {
        copying.status().last_sweep.is_some_and(|last| last.held == 3000)
    });
}
