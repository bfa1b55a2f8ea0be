//! The epochs of the environment's lock, as a host keeps them.

use super::host::{Host, settings, source};
use super::log::{Source, follower, until};
use infra::effects::host::{AppAccess, Copied, Position};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn an_action_under_an_older_lock_is_refused_and_changes_nothing() {
    let mut host = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    host.start();
    // No epoch is given, as by hand or by an earlier version.
    assert!(host.role(&["prepare"]).0);
    assert!(host.role(&["prepare", "-", "17"]).0);
    let config = host.text("etc/redis/redis.conf");
    let users = host.text("etc/redis/users.acl");
    for words in [
        &["prepare", "-", "16"][..],
        &["promote", "-", "16"],
        &["follow", "-", "16"],
        &["door", "open", "16"],
        &["epoch", "-", "16"],
    ] {
        let (done, text) = host.role(words);
        assert!(!done, "{words:?}");
        assert!(
            text.contains("another command took over the lock") && text.contains("17"),
            "{text}"
        );
    }
    assert!(host.ask(&["ROLE"]).starts_with("slave"));
    assert_eq!(host.text("etc/redis/redis.conf"), config);
    assert_eq!(host.text("etc/redis/users.acl"), users);
    for words in ["promote nonsense", "promote -1", "promote 99999999999999999999"] {
        let words: Vec<&str> = words.split(' ').collect();
        assert!(!host.role(&[words[0], "-", words[1]]).0, "{words:?}");
    }
    let (done, text) = host.role(&["promote", "-", "18"]);
    assert!(done, "{text}");
    assert!(!host.role(&["follow", "-", "17"]).0);
    assert!(host.ask(&["ROLE"]).starts_with("master"));
}

#[test]
fn a_conversation_takes_the_epoch_of_each_line() {
    let mut host = Host::with(&settings(Position::Master, AppAccess::Closed).describe().unwrap());
    host.start();
    let mut serving = Command::new("bash")
        .arg(host.path("bin/infra-role"))
        .arg("serve")
        .env("INFRA_EPOCH", host.path("epoch"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = "door open 5\nshow\nepoch - 7\ndoor closed 6\ndoor closed\nlog\n";
    serving.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let said = String::from_utf8(serving.wait_with_output().unwrap().stdout).unwrap();
    let answers: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("= ") || line.starts_with("door"))
        .collect();
    assert_eq!(
        answers,
        ["door open", "= 0", "= 0", "= 0", "= 1", "door closed", "= 0", "= 0"],
        "{said}"
    );
    assert_eq!(host.text("epoch"), "7\n");
}

/// Returns a field of the host's INFO.
fn info(host: &Host, name: &str) -> String {
    let text = host.ask(&["INFO", "replication"]);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().trim().to_string()
}

#[test]
fn a_source_with_another_history_than_was_proven_is_not_promoted() {
    let source = Source::start();
    let host = follower(&source);
    assert!(host.role(&["prepare"]).0);
    let (id, offset) = (info(&host, "master_replid"), info(&host, "slave_repl_offset"));
    let proven = format!("{id}:{offset}");
    // The master copies the source anew, and its log is in force again before the promotion.
    source.ask(&["DEBUG", "CHANGE-REPL-ID"]);
    source.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    until("the host to have the new history", || {
        info(&host, "master_replid") != id
    });
    until("its log to be in force", || host.role(&["log"]).1 == "log in-force\n");
    let config = host.text("etc/redis/redis.conf");
    let now = info(&host, "master_replid");
    for (proof, why) in [
        (proven.as_str(), "proven was the replication id"),
        (&*format!("{now}:999999999"), "proven was the offset"),
        ("nonsense", "is no replication id with an offset"),
        (&*format!("{now}:-1"), "is no replication id with an offset"),
    ] {
        for words in [&["promote", proof][..], &["promote", proof, "7"]] {
            let (done, text) = host.role(words);
            assert!(!done && text.contains(why), "{words:?} {text}");
        }
    }
    assert!(host.ask(&["ROLE"]).starts_with("slave"));
    assert_eq!(host.text("etc/redis/redis.conf"), config);
    let proof = format!("{now}:{}", info(&host, "slave_repl_offset"));
    // A promotion may be repeated. The engine has a new id then, and the proven one before it.
    for _ in 0..2 {
        let (done, text) = host.role(&["promote", &proof, "7"]);
        assert!(done && text.contains("running master"), "{text}");
    }
    assert_ne!(info(&host, "master_replid"), now);
    let (done, text) = host.role(&["promote", &proven, "7"]);
    assert!(!done && text.contains("proven was the replication id"), "{text}");
    // The form of an earlier version of the program.
    assert!(host.role(&["promote", "-", "7"]).0);
}

#[test]
fn a_promotion_without_an_engine_is_refused_at_once() {
    let host = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    let begun = Instant::now();
    for proof in ["-", "ab:1"] {
        let (done, text) = host.role(&["promote", proof]);
        assert!(!done && text.contains("the engine does not answer"), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(host.text("etc/redis/redis.conf").contains("# role: follows-source"));
}

/// Returns a source that is copied.
fn copied() -> Position {
    let Position::FollowsSource(upstream) = source() else {
        panic!("the source of the tests is followed");
    };
    Position::CopiesSource(Copied {
        upstream,
        rate: 8 << 20,
        leave_out: vec!["cache:".into()],
    })
}

#[test]
fn a_promotion_shuts_the_copy_out_and_following_lets_it_in_again() {
    let mut host = Host::with(&settings(copied(), AppAccess::Closed).describe().unwrap());
    host.start();
    let setting = |host: &Host| {
        host.ask(&["CONFIG", "GET", "maxmemory"])
            .lines()
            .nth(1)
            .unwrap()
            .to_string()
    };
    let copy_is_on = |host: &Host| host.ask(&["ACL", "LIST"]).contains("user copy on ");
    let (done, text) = host.role(&["show"]);
    assert!(
        done && text.contains("file copies-source") && text.contains("running master"),
        "{text}"
    );
    assert!(copy_is_on(&host));
    assert_eq!(setting(&host), "0", "a master that copies may evict");
    assert!(host.role(&["prepare"]).0);
    let (ended, text) = host.role(&["end-copy", "-", "7"]);
    assert!(!ended && text.contains("copies its source"), "{text}");
    let proof = format!("{}:{}", info(&host, "master_replid"), info(&host, "master_repl_offset"));
    for _ in 0..2 {
        let (done, text) = host.role(&["promote", &proof, "7"]);
        assert!(done && text.contains("file master"), "{text}");
        assert!(!copy_is_on(&host), "the copy may still write");
        assert_eq!(setting(&host), (400 << 20).to_string());
    }
    assert!(host.text("etc/redis/users.acl").contains("user copy off "));
    assert!(host.role(&["door", "open"]).0);
    assert!(host.ask(&["ACL", "LIST"]).contains("user app on ") && !copy_is_on(&host));
    let (ended, text) = host.role(&["end-copy", "-", "7"]);
    assert!(ended && text.contains("file master"), "{text}");
    assert!(host.role(&["door", "closed"]).0);
    let (done, text) = host.role(&["follow"]);
    assert!(done && text.contains("file copies-source"), "{text}");
    assert!(copy_is_on(&host));
    assert_eq!(setting(&host), "0");
    assert!(host.text("etc/redis/users.acl").contains("user copy on "));
}

#[test]
fn a_promotion_that_died_before_the_engine_knew_is_finished_by_the_next() {
    let mut host = Host::with(&settings(copied(), AppAccess::Closed).describe().unwrap());
    host.start();
    assert!(host.role(&["prepare"]).0);
    // The files of a promotion are in their places, and the engine was not told.
    let config = host.text("etc/redis/redis.conf.promoted");
    host.write("etc/redis/redis.conf", &config);
    let users = host
        .text("etc/redis/users.acl")
        .replace("user copy on ", "user copy off ");
    host.write("etc/redis/users.acl", &users);
    assert!(host.ask(&["ACL", "LIST"]).contains("user copy on "));
    let (done, text) = host.role(&["promote", "-", "7"]);
    assert!(done, "{text}");
    assert!(
        !host.ask(&["ACL", "LIST"]).contains("user copy on "),
        "the copy may still write"
    );
}
