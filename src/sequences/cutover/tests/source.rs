//! Checks that no command that can hold up a source is sent to it.

use super::super::{Command, Phase};
use super::expect_moved;
use super::stage::Stage;
use crate::effects::redis::compare;
use crate::effects::redis::compare::Options;
use crate::effects::redis::{Survey, survey};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// More elements than may be asked for at once.
const MANY: usize = 20_000;

/// Makes one value of each type that is too large to be got whole, and one that is not.
async fn fill(stage: &Stage) {
    let mut connection = stage.source().connect(0).await.unwrap();
    for first in (0..MANY).step_by(1_000) {
        let mut commands = ::redis::pipe();
        for at in first..first + 1_000 {
            let element = format!("element-{at:08}");
            commands.cmd("RPUSH").arg("large:list").arg(&element);
            commands.cmd("SADD").arg("large:set").arg(&element);
            commands.cmd("HSET").arg("large:hash").arg(&element).arg(at);
            commands.cmd("ZADD").arg("large:zset").arg(at).arg(&element);
            commands
                .cmd("XADD")
                .arg("large:stream")
                .arg(format!("{}-1", at + 1))
                .arg("f")
                .arg("v");
            commands.cmd("APPEND").arg("large:string").arg(element.repeat(20));
        }
        connection.ask_all(&commands).await.unwrap();
    }
    stage
        .at_source(
            "RPUSH list a b\nSADD set a b\nHSET hash a 1\nZADD zset 1 a\nXADD stream * f v\nSET brief 1 PX 60000",
        )
        .await;
}

/// Collects the commands that the source gets from now on, in lower case, words with spaces.
async fn monitor(stage: &Stage) -> (Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let server = stage.source();
    let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await.unwrap();
    let password = server.password.unwrap();
    let asked = format!("AUTH {}\r\nMONITOR\r\n", password.expose());
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    for _ in 0..2 {
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "+OK");
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let watching = tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
            sink.lock().unwrap().push(words.join(" ").to_ascii_lowercase());
        }
    });
    (seen, watching)
}

/// Returns why a command may hold up a server, by its words in lower case.
fn objection(words: &[&str]) -> Option<&'static str> {
    let large = words.get(1).is_some_and(|key| key.starts_with("large:"));
    let last = words.last().copied().unwrap_or_default();
    match words.first().copied().unwrap_or_default() {
        "randomkey" => Some("loops for ever where writes are paused and all keys have expired"),
        "keys" | "sort" | "debug" | "save" | "flushall" | "flushdb" => Some("goes through everything at once"),
        "smembers" | "hgetall" | "hkeys" | "hvals" | "dump" | "get" | "sunion" if large => {
            Some("gets a large value whole")
        }
        "lrange" | "zrange" | "getrange" if words.get(3) == Some(&"-1") => {
            Some("gets a value whole, however large it is")
        }
        "xrange" | "xpending"
            if large && !words.contains(&"count") && words.len() < 6 && words.get(2) != words.get(3) =>
        {
            Some("gets a stream whole")
        }
        "scan" | "hscan" | "sscan" | "zscan" => match last.parse::<u64>() {
            Ok(count) if count <= 10_000 => None,
            _ => Some("walks without a bound"),
        },
        _ => None,
    }
}

#[test]
fn what_holds_up_a_server_is_known() {
    for line in [
        "randomkey",
        "keys *",
        "hgetall large:hash",
        "lrange list 0 -1",
        "xrange large:stream - +",
        "scan 0 count 1000000",
    ] {
        assert!(objection(&line.split(' ').collect::<Vec<_>>()).is_some(), "{line}");
    }
    for line in [
        "hgetall hash",
        "lrange list 0 1",
        "xrange large:stream - + count 1000",
        "scan 0 count 1000",
    ] {
        assert_eq!(objection(&line.split(' ').collect::<Vec<_>>()), None, "{line}");
    }
}

#[tokio::test]
async fn no_command_of_ours_can_hold_up_a_source() {
    let mut stage = Stage::new(0.02).await;
    fill(&stage).await;
    let (seen, watching) = monitor(&stage).await;
    // The questions of `check` and `up`.
    let mut connection = stage.source().connect(0).await.unwrap();
    Survey::read(&mut connection, Duration::ZERO).await.unwrap();
    survey::followed_settings(&mut connection).await.unwrap();
    // `status` and `verify`.
    connection.info().await.unwrap();
    let options = Options::default();
    let compared = compare::compare(&stage.source(), &stage.master(), &options, |_| {})
        .await
        .unwrap();
    assert!(compared.identical() && compared.compared >= 12, "{compared:?}");
    // A promotion that lapses, one that is taken back, and the switch.
    stage.load().await;
    stage.limits.hold = Duration::from_millis(500);
    stage.run(Command::Promote).await.unwrap();
    stage.run(Command::Back).await.unwrap();
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    watching.abort();
    let seen = seen.lock().unwrap().clone();
    assert!(
        seen.iter().any(|line| line.starts_with("hscan large:hash")),
        "{} lines",
        seen.len()
    );
    let wrong: Vec<_> = seen
        .iter()
        .filter_map(|line| Some((line, objection(&line.split(' ').collect::<Vec<_>>())?)))
        .take(10)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    stage.end().await;
}

#[tokio::test]
async fn a_source_that_cuts_its_replicas_off_all_the_time_holds_nobody_up() {
    let mut stage = Stage::new(0.05).await;
    stage.load().await;
    // Each replica and each tap is cut off a second after it connects.
    let mut limit = ::redis::cmd("CONFIG");
    limit.arg("SET").arg("client-output-buffer-limit").arg("replica 1 1 1");
    stage.source_gets = Some((Phase::Fenced, vec![limit]));
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
    assert!(outcome.fenced_ms.unwrap() < 5_000, "{outcome:?}");
    stage.end().await;
}
