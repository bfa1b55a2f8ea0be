//! Replies that no server should give, to everything that reads one.

use super::bare::Bare;
use super::connection::Connection;
use super::server::Server;
use super::survey::Survey;
use super::{clients, control};
use crate::fuzz::{self, held_by, text};
use ::redis::{RedisConnectionInfo, cmd};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const INFO: &str = "# Server\r\nredis_version:7.2.4\r\nrun_id:ab\r\nuptime_in_seconds:7\r\n# Replication\r\nrole:slave\r\nmaster_host:192.0.2.1\r\nmaster_port:6379\r\n\
                    master_link_status:up\r\nmaster_sync_in_progress:1\r\nmaster_sync_total_bytes:9\r\nslave_repl_offset:41\r\nmaster_replid:ab\r\nmaster_repl_offset:42\r\n\
                    second_repl_offset:7\r\nrepl_backlog_active:1\r\nrepl_backlog_first_byte_offset:1\r\nslave0:ip=192.0.2.2,port=6379,state=online,offset=42,lag=0\r\n\
                    # Memory\r\nused_memory:1000\r\nmaxmemory:0\r\n# Modules\r\nmodule:name=a,ver=1\r\n# Commandstats\r\ncmdstat_get:calls=7,usec=1\r\n\
                    # Keyspace\r\ndb0:keys=5,expires=1,subexpiry=2\r\ndb9:keys=18446744073709551615,expires=0,subexpiry=18446744073709551615\r\n";

#[test]
fn what_is_read_from_info() {
    text(&[INFO], &["db1:keys=", "cmdstat_", "subexpiry="], |input| {
        drop(Survey::parse(input));
    });
}

#[test]
fn lists_of_clients() {
    let line = "id=3 addr=192.0.2.1:5000 laddr=a fd=8 name= age=7 idle=0 flags=N db=0 cmd=client|list user=app lib-name=x lib-ver=1\n";
    text(&[line], &["id=", "addr=", "addr=[::1]:", "flags=b"], |input| {
        if let Ok(found) = control::parse_clients(input) {
            let baseline = clients::Baseline::of(&found);
            assert!(baseline.strangers(&found).is_empty());
        }
    });
}

/// A stream whose other end says these bytes, whatever it is asked, and hangs up.
fn answering(answer: Vec<u8>) -> super::stream::Stream {
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let _ = theirs.write_all(&answer).await;
        let _ = theirs.shutdown().await;
        let mut asked = [0; 1024];
        while theirs.read(&mut asked).await.is_ok_and(|read| read > 0) {}
    });
    Box::new(ours)
}

/// Ten thousand conversations, on one thread, whose memory is counted.
fn converse(valid: &[&str], words: &[&str], talk: impl AsyncFn(super::stream::Stream)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let inputs = fuzz::inputs(valid, words);
    let mut runner = TestRunner::deterministic();
    for _ in 0..fuzz::CASES {
        let answer = inputs.new_tree(&mut runner).unwrap().current();
        let (length, shown) = (answer.len(), answer.escape_ascii().to_string());
        let began = Instant::now();
        let held = held_by(|| runtime.block_on(async { talk(answering(answer)).await }));
        // A hundred levels of nesting are as many states of the parser.
        assert!(held < (32 << 20) + 512 * length, "held {held} bytes for {shown:.400}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "took {:?} for {shown:.400}",
            began.elapsed()
        );
    }
}

#[test]
fn replies_to_commands() {
    let info = format!("+OK\r\n+OK\r\n${}\r\n{INFO}\r\n", INFO.len());
    let nested = "+OK\r\n+OK\r\n*3\r\n*2\r\n:1\r\n$-1\r\n%1\r\n+a\r\n,1.5\r\n~1\r\n#t\r\n*0\r\n";
    let words = [
        "+OK\r\n",
        "-ERR no\r\n",
        "-NOAUTH\r\n",
        "*1\r\n",
        "*2147483647\r\n",
        "*-1\r\n",
        "$999999999999\r\n",
        "$-2\r\n",
        "%9223372036854775807\r\n",
        "~1\r\n",
        "|0\r\n",
        ">1\r\n",
        "(1\r\n",
        "=4\r\ntxt:\r\n",
        "!3\r\nERR\r\n",
        "_\r\n",
    ];
    converse(&[&info, nested], &words, async |stream| {
        let settings = RedisConnectionInfo::default();
        if let Ok(mut connection) = Connection::establish("a server".into(), &settings, stream).await {
            let _ = connection.info().await;
            let _ = connection.ask(&cmd("PING")).await;
        }
    });
}

#[test]
fn first_words() {
    converse(
        &["+OK\r\n+CONTINUE ab\r\n"],
        &["+OK\r\n", "+FULLRESYNC a 1\r\n"],
        async |stream| {
            let mut bare = Bare::over(stream, "try".into());
            let _ = bare.expect_ok("AUTH", &[b"AUTH", b"x"], "").await;
            let _ = bare.ask("PSYNC", &[b"PSYNC", b"?", b"-1"]).await;
        },
    );
}

/// However long an answer goes on: the client lets go of it.
#[test]
fn an_answer_without_an_end_is_let_go() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for begin in [
        "+OK\r\n+OK\r\n$999999999999\r\n",
        "+OK\r\n+OK\r\n*2147483647\r\n",
        "+OK\r\n+OK\r\n*200000\r\n",
        "+OK\r\n+OK\r\n+",
    ] {
        let more: &[u8] = if begin.contains('*') { b":1\r\n" } else { b"xxxxxx" };
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        let held = held_by(|| {
            runtime.block_on(async {
                tokio::spawn(async move {
                    let block = more.repeat(4_000);
                    let _ = theirs.write_all(begin.as_bytes()).await;
                    while theirs.write_all(&block).await.is_ok() {}
                });
                let settings = RedisConnectionInfo::default();
                let error = match Connection::establish("a server".into(), &settings, Box::new(ours)).await {
                    Ok(mut connection) => connection.query::<String>(&cmd("INFO")).await.unwrap_err(),
                    Err(error) => error,
                };
                assert!(!error.chain().is_empty());
            });
        });
        assert!(held < 96 << 20, "held {held} for {begin:?}");
    }
}

#[test]
fn no_url_harms() {
    text(
        &["rediss://app:pa%20ss@[2001:db8::1]:6379/3?protocol=resp3"],
        &["redis://", "://", "@", "%", "%zz", "unix://", "/-1"],
        |input| {
            let url = crate::model::secret::Secret::new(input);
            let _ = Server::place_of(&url);
            if let Ok(server) = Server::from_url("a", &url, None) {
                assert!(Server::place_of(&server.url()).is_ok(), "{}", server.url().expose());
            }
        },
    );
}
