//! The role of master moves between two hosts with real engines, while an app writes.

use super::host::{Host, settings};
use super::log::until;
use infra::effects::host::{AppAccess, Position, redis_conf};
use infra::model::secret::Secret;
use sandbox::connect::Target;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A master and its replica, both with their files, scripts and engines.
pub struct Pair {
    pub old: Host,
    pub new: Host,
}

impl Pair {
    pub fn start() -> Self {
        let mut wanted = settings(Position::Master, AppAccess::Open);
        wanted.replicas = vec![[127, 0, 0, 1].into()];
        let mut old = Host::with(&wanted.describe().unwrap());
        wanted.position = Position::FollowsMaster {
            address: "127.0.0.1".into(),
        };
        let mut new = Host::with(&wanted.describe().unwrap());
        let followed = format!("replicaof 127.0.0.1 {}", old.port);
        let config = new
            .text("etc/redis/redis.conf")
            .replace("replicaof 127.0.0.1 6379", &followed);
        assert!(config.contains(&followed));
        std::fs::write(new.path("etc/redis/redis.conf"), config).unwrap();
        old.start();
        new.start();
        until("the replica to follow", || {
            new.ask(&["INFO", "replication"]).contains("master_link_status:up")
        });
        until("its log to be in force", || new.role(&["log"]).1 == "log in-force\n");
        Pair { old, new }
    }

    /// Prepares both hosts, as the steps before the pause do.
    fn prepare(&self) {
        let password = Secret::new("replication-password");
        let section = redis_conf::follower_section("127.0.0.1", &password).unwrap();
        let port = format!("replicaof 127.0.0.1 {}", self.new.port);
        let section = section.expose().replace("replicaof 127.0.0.1 6379", &port);
        std::fs::write(self.old.path("etc/redis/redis.conf.upstream"), section).unwrap();
        for (host, words) in [
            (&self.old, &["stage", "-", "7"][..]),
            (&self.new, &["prepare", "-", "7"]),
            (&self.new, &["door", "closed", "7"]),
            (&self.new, &["arm", "-", "7"]),
        ] {
            let (done, text) = host.role(words);
            assert!(done, "{words:?} {text}");
        }
    }

    fn give_role_away(&self) -> (bool, String) {
        self.old.role(&["yield", "127.0.0.1", "7"])
    }
}

/// Increments a key over one connection until that is closed.
struct Writer(JoinHandle<u64>);

impl Writer {
    fn start(host: &Host, key: &str) -> Self {
        let authority = host.text("etc/redis/tls/trusted.crt");
        let url = format!("rediss://app:app-password@127.0.0.1:{}", host.port);
        let target = Target::parse(&url, Some(&authority)).unwrap();
        let command = redis::cmd("INCR").arg(key).to_owned();
        Writer(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let connection = target.connect(0, Duration::from_secs(20)).await.unwrap();
                let mut acknowledged = 0;
                while let Ok(number) = command.query_async::<u64>(&mut connection.commands.clone()).await {
                    acknowledged = number;
                }
                acknowledged
            })
        }))
    }

    /// Returns the last number that was acknowledged before its connection was closed.
    fn closed(self) -> u64 {
        self.0.join().unwrap()
    }
}

fn number(host: &Host, key: &str) -> u64 {
    host.ask(&["GET", key]).parse().unwrap_or(0)
}

#[test]
fn the_role_moves_under_load_and_every_acknowledged_write_moves_with_it() {
    let pair = Pair::start();
    let writers: Vec<(String, Writer)> = (0..4)
        .map(|number| {
            let key = format!("n{number}");
            let writer = Writer::start(&pair.old, &key);
            (key, writer)
        })
        .collect();
    until("the writers to write", || {
        writers.iter().all(|(key, _)| number(&pair.old, key) > 50)
    });
    pair.prepare();
    let (done, text) = pair.give_role_away();
    assert!(done, "{text}");
    assert!(text.contains("file follows-master\nrunning slave\n"), "{text}");
    assert!(text.contains("\nclosed 4\n"), "{text}");
    let paused = text.lines().find_map(|line| line.strip_prefix("paused-ms ")).unwrap();
    println!("the role moved in {paused} ms");
    for (key, writer) in writers {
        let acknowledged = writer.closed();
        // A write that was executed has been answered: nobody was owed an answer.
        assert_eq!(number(&pair.new, &key), acknowledged, "{key}");
    }
    assert!(pair.new.ask(&["ROLE"]).starts_with("master"));
    assert!(pair.old.ask(&["ROLE"]).starts_with("slave"));
    // Nobody needed a full copy.
    let stats = pair.new.ask(&["INFO", "stats"]);
    assert!(
        stats.contains("sync_full:0") && stats.contains("sync_partial_ok:1"),
        "{stats}"
    );
    // The app may not write to either host before the new master lets it in.
    let tried = |host: &Host| host.ask_from_outside("app", "app-password", &["SET", "k", "v"]);
    assert!(tried(&pair.old).contains("READONLY"), "{}", tried(&pair.old));
    assert!(tried(&pair.new).contains("WRONGPASS"), "{}", tried(&pair.new));
    assert!(pair.new.role(&["promote", "-", "7"]).0);
    assert!(pair.new.role(&["door", "open", "7"]).0);
    assert_eq!(tried(&pair.new), "OK");
    assert!(tried(&pair.old).contains("READONLY"));
    until("the old master to follow", || pair.old.ask(&["GET", "k"]) == "v");
    // It may be asked again.
    assert!(pair.give_role_away().0);
}

#[test]
fn a_restart_of_either_host_after_the_role_moved_brings_no_second_master() {
    let mut pair = Pair::start();
    pair.prepare();
    assert!(pair.give_role_away().0);
    for _ in 0..2 {
        pair.old.crash();
        pair.new.crash();
        pair.old.start();
        pair.new.start();
        assert!(pair.old.ask(&["ROLE"]).starts_with("slave"));
        assert!(pair.new.ask(&["ROLE"]).starts_with("master"));
        let tried = pair.new.ask_from_outside("app", "app-password", &["SET", "k", "v"]);
        assert!(tried.contains("WRONGPASS"), "{tried}");
    }
}

#[test]
fn a_replica_that_stops_while_it_is_to_take_over_leaves_the_master_as_it_was() {
    let mut pair = Pair::start();
    pair.prepare();
    let config = pair.old.text("etc/redis/redis.conf");
    // The kernel answers for it, but it applies nothing more.
    let stopped = pair.new.engine.as_ref().unwrap().id().to_string();
    assert!(
        Command::new("kill")
            .args(["-STOP", &stopped])
            .status()
            .unwrap()
            .success()
    );
    pair.old.ask(&["SET", "k", "v"]);
    let begun = Instant::now();
    let (done, text) = pair.give_role_away();
    assert!(
        Command::new("kill")
            .args(["-CONT", &stopped])
            .status()
            .unwrap()
            .success()
    );
    assert!(!done, "{text}");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(pair.old.ask(&["ROLE"]).starts_with("master"));
    assert_eq!(pair.old.text("etc/redis/redis.conf"), config);
    let tried = pair.old.ask_from_outside("app", "app-password", &["SET", "k", "w"]);
    assert_eq!(tried, "OK", "the pause has ended");
    // The way back: the replica follows again, and the app may log in there.
    assert!(pair.old.role(&["prepare", "-", "7"]).0);
    assert!(pair.old.role(&["promote", "-", "7"]).0);
    assert!(pair.new.role(&["follow", "-", "7"]).0);
    assert!(pair.new.role(&["door", "open", "7"]).0);
    until("the replica to follow again", || pair.new.ask(&["GET", "k"]) == "w");
    pair.new.crash();
    pair.new.start();
    assert!(pair.new.ask(&["ROLE"]).starts_with("slave"));
}

#[test]
fn a_replica_that_lets_the_app_in_gets_no_settings_of_a_master() {
    let pair = Pair::start();
    assert!(pair.new.role(&["prepare"]).0);
    let config = pair.new.text("etc/redis/redis.conf");
    let (done, text) = pair.new.role(&["arm"]);
    assert!(!done && text.contains("the app may still log in"), "{text}");
    assert_eq!(pair.new.text("etc/redis/redis.conf"), config);
    assert_eq!(pair.new.role(&["access"]).1, "access open\n");
}

#[test]
fn what_the_engine_learns_live_is_what_the_file_says() {
    let pair = Pair::start();
    pair.prepare();
    assert!(pair.give_role_away().0);
    let old = pair.old.text("etc/redis/redis.conf");
    let section = |text: &str| text.split_once("# role: ").unwrap().1.to_string();
    let port = |text: String, port: u16| text.replace(&port.to_string(), "PORT");
    // The replica's own file was made by `up` alone; both say the same of their masters.
    assert_eq!(
        port(section(&old), pair.new.port),
        port(section(&pair.new.text("etc/redis/redis.conf.following")), pair.old.port)
    );
}

#[test]
fn a_master_that_was_replaced_while_it_was_away_is_not_started() {
    let mut pair = Pair::start();
    pair.old.crash();
    // The guard asks the other host at the port of its own file.
    let file = pair.old.path("etc/redis/redis.conf");
    let own = format!("tls-port {}", pair.old.port);
    let text = pair
        .old
        .text("etc/redis/redis.conf")
        .replace(&own, &format!("tls-port {}", pair.new.port));
    std::fs::write(&file, text).unwrap();
    let (starts, said) = pair.old.guard();
    assert!(starts, "the other host follows it: {said}");
    assert!(pair.new.role(&["prepare"]).0 && pair.new.role(&["promote"]).0);
    let (starts, said) = pair.old.guard();
    assert!(!starts && said.contains("127.0.0.1 is the master by now"), "{said}");
    // While the app is kept out it may start: that is so in the middle of a planned failover.
    let users = pair.old.text("etc/redis/users.acl");
    std::fs::write(
        pair.old.path("etc/redis/users.acl"),
        users.replace("user app on ", "user app off "),
    )
    .unwrap();
    assert!(pair.old.guard().0);
    std::fs::write(pair.old.path("etc/redis/users.acl"), users).unwrap();
    // The other host is away too, and this one was set up before it knew the endpoint's address.
    pair.new.crash();
    assert!(pair.old.guard().0);
}

/// Answers as the metadata service of a host that has this public address; `None`: that has none.
fn metadata(address: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let has_token = head.iter().any(|line| line == "X-aws-ec2-metadata-token: abc");
            let answer = match head[0].split(' ').collect::<Vec<_>>()[..] {
                ["PUT", "/latest/api/token", "HTTP/1.1"] => Some("abc"),
                ["GET", "/latest/meta-data/public-ipv4", "HTTP/1.1"] if has_token => address,
                _ => None,
            };
            let status = if answer.is_some() { "200 OK" } else { "404 Not Found" };
            let body = answer.unwrap_or("not found");
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    format!("{}/{}", place.ip(), place.port())
}

#[test]
fn a_master_without_the_other_host_starts_only_if_the_endpoint_leads_to_it() {
    let mut pair = Pair::start();
    let own = format!("tls-port {}", pair.old.port);
    let config = pair.old.text("etc/redis/redis.conf");
    let config = config.replace(&own, &format!("tls-port {}", pair.new.port));
    std::fs::write(pair.old.path("etc/redis/redis.conf"), config).unwrap();
    pair.old.crash();
    let environment = pair.old.text("etc/infra/host.env");
    let known = environment.replace("INFRA_ENDPOINT=\n", "INFRA_ENDPOINT=192.0.2.7\n");
    assert_ne!(known, environment);
    std::fs::write(pair.old.path("etc/infra/host.env"), known).unwrap();
    // A replica that answers is enough, whatever the address.
    pair.old.metadata = metadata(Some("192.0.2.8"));
    assert!(pair.old.guard().0);
    pair.new.crash();
    let (starts, said) = pair.old.guard();
    assert!(
        !starts && said.contains("192.0.2.7 leads to another host (this one has 192.0.2.8)"),
        "{said}"
    );
    assert!(pair.old.text("refused").contains("infra up"));
    pair.old.metadata = metadata(None);
    let (starts, said) = pair.old.guard();
    assert!(
        !starts && said.contains("no address that the metadata service names"),
        "{said}"
    );
    pair.old.metadata = "127.0.0.1/1".into();
    assert!(!pair.old.guard().0, "nobody answers at all");
    // Both hosts were rebooted, and this one comes first.
    pair.old.metadata = metadata(Some("192.0.2.7"));
    assert!(pair.old.guard().0);
}
