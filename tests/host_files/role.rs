//! The epochs of the environment's lock, as a host keeps them.

use super::host::{Host, settings, source};
use infra::effects::host::{AppAccess, Position};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn an_action_under_an_older_lock_is_refused_and_changes_nothing() {
    let mut host = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    host.start();
    // Without an epoch, as by hand or by an earlier version.
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
