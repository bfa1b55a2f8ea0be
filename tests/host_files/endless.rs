//! A follower whose engine cannot load what it copies: the data of a module that it does not have,
//! or of more databases. The engine ends by itself, and its unit starts it again and again.

use super::host::{Host, settings};
use infra::effects::host::{AppAccess, Position, Upstream};
use sandbox::addon::Engine;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const END: &[u8] = b"\xff\0\0\0\0\0\0\0\0";

/// The id of a module's type as an RDB file has it: nine characters of six bits, and a version.
fn module_id() -> Vec<u8> {
    const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = |letter: &u8| CHARACTERS.iter().position(|other| other == letter).unwrap() as u64;
    let name = b"graphdata".iter().fold(0, |id, letter| (id << 6) | value(letter));
    let id: u64 = (name << 10) | 4;
    [&b"\x81"[..], &id.to_be_bytes()].concat()
}

/// RDB files that an engine without modules and with 20 databases does not load, and what it says.
fn refused() -> Vec<(Vec<u8>, &'static str)> {
    let file = |parts: &[&[u8]]| [&[&b"REDIS0009"[..]], parts, &[END]].concat().concat();
    vec![
        (
            file(&[b"\xf7", &module_id(), b"\x02\x02\x02\x07\x00"]),
            "no matching module",
        ),
        (
            file(&[b"\xfe\x00\x07\x01k", &module_id(), b"\x02\x07\x00"]),
            "no matching module",
        ),
        (file(&[b"\xfe\x20\x00\x01a\x011"]), "more than 20 databases"),
    ]
}

/// A source that answers each wish to follow with a full copy of this file.
struct Source {
    port: u16,
    copies: Arc<AtomicUsize>,
}

impl Source {
    fn with(file: Vec<u8>) -> Source {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let copies = Arc::new(AtomicUsize::new(0));
        let counted = copies.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (file, counted) = (file.clone(), counted.clone());
                std::thread::spawn(move || answer(client, &file, &counted));
            }
        });
        Source { port, copies }
    }

    fn copies(&self) -> usize {
        self.copies.load(Ordering::SeqCst)
    }
}

fn answer(mut client: TcpStream, file: &[u8], copies: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
        let mut words = Vec::new();
        for _ in 0..count {
            let mut length = String::new();
            reader.read_line(&mut length).ok()?;
            let mut word = vec![0; length.trim().strip_prefix('$')?.parse::<usize>().ok()? + 2];
            reader.read_exact(&mut word).ok()?;
            words.push(word);
        }
        match words.first()?.to_ascii_uppercase().as_slice() {
            b"PING\r\n" => client.write_all(b"+PONG\r\n").ok()?,
            b"PSYNC\r\n" => {
                copies.fetch_add(1, Ordering::SeqCst);
                let header = format!("+FULLRESYNC {} 0\r\n${}\r\n", "a".repeat(40), file.len());
                client.write_all(&[header.as_bytes(), file].concat()).ok()?;
            }
            _ => client.write_all(b"+OK\r\n").ok()?,
        }
    }
}

fn follower(port: u16) -> Host {
    let position = Position::FollowsSource(Upstream {
        host: "127.0.0.1".into(),
        port,
        user: None,
        password: None,
        trust: None,
        seen_as: None,
    });
    Host::with(&settings(position, AppAccess::Closed).describe().unwrap())
}

/// Runs the engine until it ends by itself; what it says is added to the journal.
fn run_to_its_end(host: &Host, engine: Engine) {
    let paths = sandbox::paths::Paths::from_environment().unwrap();
    let program = engine.ensure(&paths, &|line| eprintln!("{line}")).unwrap();
    let mut journal = std::fs::File::options();
    let journal = journal.append(true).create(true).open(host.path("journal")).unwrap();
    let mut server = program.command().unwrap().into_std();
    let mut engine = server
        .arg(host.path("etc/redis/redis.conf"))
        .stdin(Stdio::null())
        .stdout(journal)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while engine.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            engine.kill().unwrap();
            engine.wait().unwrap();
            panic!("the engine runs on: {}", host.text("journal"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_engine_that_cannot_load_its_copy_stays_down_after_the_second_time() {
    for engine in [Engine::Redis8, Engine::Valkey8] {
        for (file, words) in refused() {
            let source = Source::with(file);
            let host = follower(source.port);
            for _ in 0..2 {
                assert!(host.guard().0, "{engine:?}");
                run_to_its_end(&host, engine);
            }
            for _ in 0..3 {
                let (allowed, said) = host.guard();
                assert!(!allowed && said.contains("ended twice"), "{engine:?}: {said}");
            }
            assert!(host.text("refused").contains(words), "{}", host.text("refused"));
            assert_eq!(source.copies(), 2, "{engine:?}");
            // The journal of before `infra up` is not read any more.
            std::fs::remove_file(host.path("copy-refused")).unwrap();
            std::fs::write(host.path("journal"), "").unwrap();
            assert!(host.guard().0, "{engine:?}");
        }
    }
}

#[test]
fn a_follower_that_ended_for_other_reasons_is_started() {
    let loading = "1:S x * MASTER <-> REPLICA sync: Loading DB in memory";
    let start = "1:C x * oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo";
    let wrong = "1:S x # The RDB file contains AUX module data I can't load";
    let loaded = "1:S x * MASTER <-> REPLICA sync: Finished with success";
    let stopped = "1:S x # Received shutdown signal during loading, exiting now.";
    let host = follower(1);
    for (journal, allowed) in [
        (vec![start, loading, wrong, start, loading, wrong], false),
        (vec![start, loading, wrong], true),
        (vec![start, loading, stopped, start, loading, stopped], true),
        (vec![start, loading, start, loading, start, loading], true),
        (
            vec![start, loading, wrong, start, loading, loaded, start, loading, wrong],
            true,
        ),
        (vec![start, loading, loaded, wrong, start, loading, loaded, wrong], true),
        (vec![start, loading, wrong, start, start, loading, wrong], false),
    ] {
        std::fs::write(host.path("journal"), journal.join("\n")).unwrap();
        assert_eq!(host.guard().0, allowed, "{journal:#?}");
        let _ = std::fs::remove_file(host.path("copy-refused"));
    }
}
