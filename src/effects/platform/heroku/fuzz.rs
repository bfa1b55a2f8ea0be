//! Fuzzes every request with replies that no platform should give.

use super::{ConfigVars, Heroku};
use crate::fuzz;
use crate::fuzz::held_by;
use crate::model::secret::Secret;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The status line with headers, and the body, of every reply; without a body, endless bytes.
type Reply = Arc<Mutex<(String, Option<Vec<u8>>)>>;

async fn serve(mut stream: TcpStream, reply: Reply) {
    let (mut seen, mut block) = (Vec::new(), [0; 4096]);
    loop {
        while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut block).await {
                Ok(read) if read > 0 => seen.extend_from_slice(&block[..read]),
                _ => return,
            }
        }
        seen.clear();
        let (head, body) = reply.lock().unwrap().clone();
        let sent = match body {
            Some(body) => {
                let whole = [
                    format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes(),
                    body,
                ]
                .concat();
                stream.write_all(&whole).await
            }
            None => {
                let _ = stream
                    .write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())
                    .await;
                let chunk = format!("10000\r\n{}\r\n", "[".repeat(0x10000));
                while stream.write_all(chunk.as_bytes()).await.is_ok() {}
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

struct Liar {
    heroku: Heroku,
    reply: Reply,
}

impl Liar {
    async fn new() -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let reply: Reply = Arc::default();
        let shared = reply.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Liar {
            heroku: Heroku::new(&api, Secret::new("key"), "demo").unwrap(),
            reply,
        }
    }

    fn say(&self, head: &str, body: Option<&[u8]>) {
        *self.reply.lock().unwrap() = (format!("HTTP/1.1 {head}\r\n"), body.map(<[u8]>::to_vec));
    }

    /// Sends the request of this number. Its result does not matter here.
    async fn ask(&self, which: usize) {
        let heroku = &self.heroku;
        match which % 11 {
            0 => drop(heroku.app().await),
            1 => drop(heroku.config_vars().await),
            2 => drop(heroku.attachments().await),
            3 => drop(heroku.formation().await),
            4 => drop(heroku.dynos().await),
            5 => drop(heroku.newest_release().await),
            6 => drop(heroku.preboot().await),
            7 => drop(heroku.egress().await),
            8 => drop(heroku.aws_region().await),
            9 => drop(heroku.log_of("web.1").await),
            _ => {
                let places = [("192.0.2.1".into(), 6379)];
                let (vars, known) = (ConfigVars::default(), BTreeMap::new());
                drop(heroku.consumers(&places, &vars, &[], &known).await);
            }
        }
    }
}

const REPLIES: [&str; 8] = [
    r#"{"name":"demo","region":{"name":"us"},"space":{"name":"s"},"maintenance":false,"sources":["192.0.2.1"],"state":"enabled","enabled":true,"provider":{"region":"a"}}"#,
    r#"{"REDIS_URL":"rediss://:p@192.0.2.1:6379","B":"***","C":null}"#,
    r#"[{"id":"1","name":"REDIS","app":{"name":"demo"},"addon":{"id":"2","name":"redis-1"}}]"#,
    r#"[{"name":"REDIS_URL","value":"redis://:p@192.0.2.1:1"}]"#,
    r#"[{"type":"web","quantity":18446744073709551615,"size":"x"},{"type":"run","quantity":2}]"#,
    r#"[{"name":"web.1","type":"web","state":"up","release":{"version":7}}]"#,
    r#"[{"version":9,"status":"succeeded","description":"d"},{"version":8,"status":"pending"}]"#,
    r#"{"logplex_url":"http://127.0.0.1:1/"}"#,
];

#[test]
fn replies_of_every_request() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let liar = runtime.block_on(Liar::new());
    let inputs = fuzz::inputs(
        &REPLIES,
        &["\"name\":", "\"version\":", "\"quantity\":", "[{\"id\":", "{\"name\":"],
    );
    let mut runner = TestRunner::deterministic();
    for case in 0..fuzz::CASES as usize {
        let body = inputs.new_tree(&mut runner).unwrap().current();
        // 429 and 5xx are repeated with pauses; other tests cover them.
        let heads = [
            "200 OK",
            "200 OK",
            "200 OK",
            "404 Not Found",
            "422 No",
            "302 Found\r\nLocation: http://127.0.0.1:1/",
        ];
        liar.say(heads[case % heads.len()], Some(&body));
        let began = Instant::now();
        let held = held_by(|| runtime.block_on(liar.ask(case / heads.len())));
        assert!(
            held < (8 << 20) + 512 * body.len(),
            "held {held} for {}",
            body.escape_ascii()
        );
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "took {:?} for {}",
            began.elapsed(),
            body.escape_ascii()
        );
    }
}

#[tokio::test]
async fn endless_pages_and_bodies_are_errors() {
    let liar = Liar::new().await;
    for body in [&b"[]"[..], &[&b"["[..], &b"0,".repeat(1_900_000)[..], b"0]"].concat()] {
        liar.say("206 Partial Content\r\nNext-Range: id ]a..", Some(body));
        let error = liar.heroku.http.list::<u64>("/apps", "list apps").await.unwrap_err();
        assert!(error.to_string().contains("has no end"), "{error:?}");
    }
    liar.say("200 OK", None);
    let error = liar.heroku.app().await.unwrap_err();
    assert!(error.chain().join(": ").contains("more than"), "{error:?}");
    // The limit holds even if only the status of the reply matters.
    liar.say("403 No", None);
    assert!(liar.heroku.app().await.unwrap_err().to_string().contains("403"));
    assert!(liar.heroku.log_of("web.1").await.unwrap_or_default().is_empty());
}

/// A JSON parser may quote its input in an error, and the input may be a password.
#[tokio::test]
async fn a_reply_that_is_not_understood_is_not_quoted() {
    let liar = Liar::new().await;
    for body in [
        r#""redis://:hunter2@192.0.2.1:1""#,
        r#"["redis://:hunter2@192.0.2.1:1"]"#,
        r#"{"name":["hunter2"],"region":"hunter2"}"#,
        "hunter2",
    ] {
        liar.say("200 OK", Some(body.as_bytes()));
        for error in [
            liar.heroku.config_vars().await.err(),
            liar.heroku.attachments().await.err(),
            liar.heroku.app().await.err(),
        ] {
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
