//! A replica copies a master that came up empty within a second: its old data is kept, and loads.

use crate::pair::{Pair, keys, load, names};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use testkit::processes::kill;
use testkit::waiting::until;

#[test]
fn a_master_that_comes_up_empty_does_not_take_the_last_copy_with_it() {
    let mut pair = Pair::new("");
    pair.write(0..500);
    pair.start_agent();
    pair.until_followed();
    pair.rewrite();
    // These writes reach the increment after the links were made.
    pair.until_followed();
    pair.write(300..700);
    pair.until_linked();
    until("one set is left", || pair.kept() == ["current"]);
    assert_eq!(pair.status()["kept"], Value::Null);

    let run_id = pair.info("master_replid");
    kill(&mut pair.master);
    pair.start_master();
    until("the replica is as empty as its master", || {
        pair.ask("s", &["DBSIZE"]) == "0"
    });
    pair.until_linked();
    assert_ne!(pair.info("master_replid"), run_id);
    until("its own log has nothing left", || load(&pair.path("data")).is_empty());

    until("it is kept and reported", || pair.status()["kept"].is_object());
    let last = pair.last().unwrap();
    assert_eq!(load(&last), keys(0..700));
    let reported = pair.status()["kept"].clone();
    assert_eq!(reported["folder"], last.display().to_string());
    assert!(reported["bytes"].as_u64().unwrap() > 30_000, "{reported}");
    assert!(pair.said().contains("a full copy replaced"), "{}", pair.said());

    // The master restarts: once as empty as before, once with next to nothing.
    pair.until_followed();
    let again = |pair: &mut Pair| {
        let before = pair.current_engine_files();
        kill(&mut pair.master);
        pair.start_master();
        until("the log begins anew", || pair.current_engine_files() != before);
        pair.until_linked();
        pair.until_followed();
    };
    again(&mut pair);
    pair.write(0..5);
    pair.until_linked();
    again(&mut pair);
    assert!(pair.said().contains("is kept on instead"), "{}", pair.said());
    assert_eq!(pair.last().as_ref(), Some(&last));
    assert_eq!(load(&last), keys(0..700));
}

#[test]
fn ordinary_rewrites_leave_one_set_that_costs_nothing() {
    let mut pair = Pair::new("");
    pair.start_agent();
    for round in 0..8 {
        pair.write(round * 50..(round + 1) * 50);
        pair.rewrite();
        // Two rewrites in a row come faster than the agent looks.
        if round % 2 == 0 {
            pair.rewrite();
        }
        pair.until_followed();
        // The replaced set is being removed for a moment.
        until("one set is left", || pair.kept() == ["current"]);
        let folder = pair.path("agent/kept/current/appendonlydir");
        for name in names(&folder).iter().filter(|name| !name.ends_with("manifest")) {
            let links = std::fs::metadata(folder.join(name)).unwrap().nlink();
            assert!(links > 1, "{name} is a copy, or the engine has removed it");
        }
    }
    pair.until_linked();
    until("all of it can be loaded", || {
        load(&pair.path("agent/kept/current")) == keys(0..400)
    });
    assert_eq!(pair.status()["kept"], Value::Null);
}

#[test]
fn an_agent_that_is_killed_at_any_time_leaves_nothing_wrong() {
    let mut pair = Pair::new("");
    pair.write(0..100);
    pair.until_linked();
    let mut written = 100;
    for round in 0..24 {
        pair.start_agent();
        if round % 3 == 0 {
            pair.until_followed();
        }
        pair.write(written..written + 10);
        written += 10;
        let asked = match round % 2 {
            0 => {
                pair.ask("m", &["DEBUG", "CHANGE-REPL-ID"]);
                pair.ask("m", &["CLIENT", "KILL", "TYPE", "replica"])
            }
            _ => pair.ask("s", &["BGREWRITEAOF"]),
        };
        assert!(!asked.is_empty());
        std::thread::sleep(Duration::from_millis(round * 53 % 700));
        kill(&mut pair.agent);
        pair.until_linked();
        // Every folder that is named like an AOF set is listed.
        for name in pair
            .kept()
            .iter()
            .filter(|name| !name.starts_with("gone-") && *name != "new")
        {
            let found = load(&pair.path("agent/kept").join(name));
            let count = u64::try_from(found.len()).unwrap();
            assert!(
                count >= 100 && found == keys(0..count),
                "round {round}, {name}: {count} keys, {:?}",
                found.keys().last()
            );
        }
    }
    // None of that hinders the agent.
    pair.start_agent();
    pair.until_followed();
    until("nothing is half done", || {
        let kept = pair.kept();
        kept.len() <= 2 && kept.iter().all(|name| name == "current" || name.starts_with("last-"))
    });
    let before = pair.last();
    pair.full_copy();
    until("the newest is kept", || {
        pair.last().is_some_and(|last| Some(last) != before)
    });
    assert_eq!(load(&pair.last().unwrap()), keys(0..written));
    pair.until_followed();
    until("only two are left", || pair.kept().len() == 2);
}

#[test]
fn a_first_copy_replaces_nothing_that_is_kept() {
    let mut pair = Pair::new("");
    kill(&mut pair.replica);
    std::fs::remove_dir_all(pair.path("data/appendonlydir")).unwrap();
    kill(&mut pair.master);
    pair.start_replica();
    until("it answers", || pair.ask("s", &["PING"]) == "PONG");
    pair.start_agent();
    pair.until_followed();
    let before = pair.current_engine_files();
    pair.start_master();
    until("the log begins anew", || pair.current_engine_files() != before);
    pair.until_linked();
    pair.until_followed();
    until("one set is left", || pair.kept() == ["current"]);
}

#[test]
fn a_kept_set_without_room_on_the_disk_is_removed_and_reported() {
    // No disk has that much free.
    let mut pair = Pair::new("INFRA_KEEP_FREE_PERCENT=101\n");
    pair.write(0..100);
    pair.start_agent();
    pair.until_linked();
    pair.until_followed();
    pair.full_copy();
    until("it is reported", || {
        pair.status()["troubles"].to_string().contains("was removed early")
    });
    pair.until_followed();
    until("one set is left", || pair.kept() == ["current"]);
    assert_eq!(pair.status()["kept"], Value::Null);
}
