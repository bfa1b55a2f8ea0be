//! Tries a host's files with a real engine: settings load, and the role script writes what `up`
//! would.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at what it did not expect"
)]

mod endless;
mod failover;
mod grow;
mod host;
mod log;
mod only_here;
mod packages;
mod power_loss;
mod restores;
mod role;
mod units;

use host::{Host, settings, source, source_with_tls, templates};
use infra::effects::host::{AppAccess, Position, Settings, redis_conf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SCRIPTS: [&str; 10] = [
    "facts.sh",
    "grow.sh",
    "upgrade.sh",
    "apply.sh",
    "first-contact.sh",
    "infra-role.sh",
    "infra-guard.sh",
    "infra-restore.sh",
    "rehearsal.sh",
    "only-here.sh",
];

#[test]
fn every_script_passes_shellcheck() {
    for script in SCRIPTS {
        let checked = Command::new("shellcheck")
            .args(["-S", "style"])
            .arg(templates().join(script))
            .output()
            .expect("shellcheck has to be installed: .ci/tools does it");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    let there = std::fs::read_dir(templates()).unwrap();
    let scripts = there.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|end| end == "sh")
    });
    assert_eq!(
        scripts.count(),
        SCRIPTS.len(),
        "a script is not in the list of this test"
    );
}

#[test]
fn an_engine_takes_the_settings_of_every_position() {
    let replica = Position::FollowsMaster {
        address: "127.0.0.1".into(),
    };
    let positions = [
        (source(), "slave"),
        (source_with_tls(), "slave"),
        (replica, "slave"),
        (Position::Master, "master"),
    ];
    for (position, role) in positions {
        let shown = format!("{position:?}");
        assert!(!shown.contains("quotes"), "{shown}");
        let mut host = Host::with(&settings(position, AppAccess::Closed).describe().unwrap());
        host.start();
        assert!(
            host.ask(&["ROLE"]).starts_with(role),
            "{shown}: {}",
            host.ask(&["ROLE"])
        );
        assert_eq!(host.ask(&["CONFIG", "GET", "databases"]), "databases\n20");
        assert_eq!(host.ask(&["CONFIG", "GET", "maxmemory"]), "maxmemory\n419430400");
    }
}

#[test]
fn an_engine_follows_the_tunnel_plainly_and_as_a_master_speaks_tls_again() {
    let mut host = Host::with(&settings(source_with_tls(), AppAccess::Closed).describe().unwrap());
    host.start();
    assert!(
        host.ask(&["ROLE"]).starts_with("slave\n127.0.0.1\n6378\n"),
        "{}",
        host.ask(&["ROLE"])
    );
    let speaks = || host.ask(&["CONFIG", "GET", "tls-replication"]);
    assert_eq!(speaks(), "tls-replication\nno");
    for action in ["prepare", "promote", "follow"] {
        let (done, text) = host.role(&[action]);
        assert!(done, "{action}: {text}");
    }
    assert!(
        host.ask(&["ROLE"]).starts_with("slave\n127.0.0.1\n6378\n"),
        "{}",
        host.ask(&["ROLE"])
    );
    assert_eq!(speaks(), "tls-replication\nno");
}

#[test]
fn an_engine_takes_every_live_setting_after_an_interruption() {
    let mut host = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    host.start();
    let everything = redis_conf::everything(&host.text("etc/redis/redis.conf"));
    assert!(everything.live.len() > 20, "{everything:?}");
    for (name, value) in everything.live {
        // The host's script sends a line on standard input too, which no shell takes apart.
        let answer = host.say(&format!("CONFIG SET {name} {}\n", value.expose()));
        assert_eq!(answer, "OK", "CONFIG SET {name}");
    }
    let (done, text) = host.role(&["apply"]);
    assert!(done, "{text}");
}

#[test]
fn a_source_password_of_any_bytes_reaches_the_engine_unchanged() {
    let mut host = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    host.start();
    assert_eq!(
        host.ask(&["CONFIG", "GET", "masterauth"]),
        "masterauth\nwith \"quotes\" and # and é"
    );
    assert_eq!(host.ask(&["CONFIG", "GET", "masteruser"]), "masteruser\nsomeone");
}

#[test]
fn only_tls_with_the_authority_gets_in_and_only_with_a_user() {
    let mut host = Host::with(&settings(Position::Master, AppAccess::Open).describe().unwrap());
    host.start();
    let ask = |user: &str, password: &str, words: &[&str]| host.ask_from_outside(user, password, words);
    assert_eq!(ask("app", "app-password", &["SET", "a", "1"]), "OK");
    assert!(ask("app", "app-password", &["CONFIG", "GET", "dir"]).contains("NOPERM"));
    assert!(ask("app", "app-password", &["REPLICAOF", "NO", "ONE"]).contains("NOPERM"));
    assert!(ask("app", "wrong", &["GET", "a"]).contains("WRONGPASS"));
    assert!(ask("default", "", &["GET", "a"]).contains("WRONGPASS"));
}

/// Uses the engines of the hosts: this computer's own may be too old to ask a module.
#[test]
fn users_of_hosts_log_in_from_hosts_alone_and_do_one_thing() {
    let paths = sandbox::paths::Paths::from_environment().unwrap();
    for engine in [sandbox::addon::Engine::Redis8, sandbox::addon::Engine::Valkey8] {
        let program = engine.ensure(&paths, &|line| eprintln!("{line}")).unwrap();
        let mut host = Host::with(&settings(Position::Master, AppAccess::Open).describe().unwrap());
        host.start_by(program.command().unwrap().into_std());
        let outside = |user: &str| host.ask_from_outside(user, &format!("{user}-password"), &["PING"]);
        let inside = |user: &str, words: &[&str]| {
            let output = host.client(user).args(words).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        };
        let refused = "NOPERM this user may not log in from this address";
        for user in ["replication", "backup"] {
            assert!(outside(user).contains(refused), "{engine:?} {user}: {}", outside(user));
            // The answer does not show whether the password is right.
            let guess = host.ask_from_outside(user, "guess", &["PING"]);
            assert!(guess.contains(refused), "{engine:?} {user}: {guess}");
            assert_eq!(inside(user, &["PING"]), "PONG", "{engine:?} {user}");
            assert!(inside(user, &["GET", "a"]).contains("NOPERM"), "{engine:?} {user}");
        }
        // CONFIG GET would show the source's password.
        assert!(inside("backup", &["CONFIG", "GET", "masterauth"]).contains("NOPERM"));
        assert!(inside("backup", &["LASTSAVE"]).parse::<u64>().is_ok());
        for user in ["app", "monitoring", "admin"] {
            assert_eq!(outside(user), "PONG", "{engine:?} {user}");
        }
        assert!(host.ask(&["ACL", "LOG"]).contains("replication"), "{engine:?}");

        // A new host replaces a lost one: the running engine takes the new addresses.
        let tell = |addresses: &str| host.say(&format!("CONFIG SET infra.replication-from \"{addresses}\"\n"));
        assert_eq!(tell("127.0.0.9 127.0.0.1"), "OK");
        assert_eq!(outside("replication"), "PONG", "{engine:?}");
        assert!(outside("backup").contains(refused), "{engine:?}");
        assert!(tell("127.0.0.0/8").contains("127.0.0.0/8 is no address"), "{engine:?}");
        let known = host.ask(&["CONFIG", "GET", "infra.replication-from"]);
        assert_eq!(known, "infra.replication-from\n127.0.0.9 127.0.0.1", "{engine:?}");
    }
}

#[test]
fn a_promotion_by_the_host_leaves_the_file_that_up_would_write() {
    let follower = settings(source(), AppAccess::Closed);
    let promoted = Settings {
        position: Position::Master,
        ..follower.clone()
    };
    let config = |settings: &Settings| {
        let description = settings.describe().unwrap();
        let file = description
            .files
            .iter()
            .find(|file| file.path == "/etc/redis/redis.conf");
        file.unwrap().content.text().to_string()
    };
    let mut host = Host::with(&follower.describe().unwrap());
    host.start();
    let (prepared, text) = host.role(&["prepare"]);
    assert!(prepared, "{text}");
    assert_eq!(
        host.text("etc/redis/redis.conf"),
        host.moved(&config(&follower)),
        "prepare changed what is in force"
    );
    for _ in 0..2 {
        let (done, text) = host.role(&["promote"]);
        assert!(done && text.starts_with("file master\nrunning master\n"), "{text}");
        assert_eq!(host.text("etc/redis/redis.conf"), host.moved(&config(&promoted)));
    }
    for _ in 0..2 {
        let (done, text) = host.role(&["follow"]);
        assert!(
            done && text.starts_with("file follows-source\nrunning slave\n"),
            "{text}"
        );
        assert_eq!(host.text("etc/redis/redis.conf"), host.moved(&config(&follower)));
    }
    assert_eq!(
        host.ask(&["CONFIG", "GET", "masterauth"]),
        "masterauth\nwith \"quotes\" and # and é"
    );
}

#[test]
fn a_promotion_that_was_not_prepared_is_refused() {
    let mut host = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    host.start();
    let (done, text) = host.role(&["promote"]);
    assert!(!done && text.contains("not prepared"), "{text}");
    assert!(host.ask(&["ROLE"]).starts_with("slave"));
}

#[test]
fn app_access_opens_and_closes_as_up_would_write_it_and_closing_ends_connections() {
    let closed = settings(Position::Master, AppAccess::Closed);
    let open = Settings {
        app_access: AppAccess::Open,
        ..closed.clone()
    };
    let users = |settings: &Settings| {
        let description = settings.describe().unwrap();
        let file = description
            .files
            .iter()
            .find(|file| file.path == "/etc/redis/users.acl");
        file.unwrap().content.text().to_string()
    };
    let mut host = Host::with(&closed.describe().unwrap());
    host.start();
    let app_is = |word: &str| host.ask(&["ACL", "LIST"]).contains(&format!("user app {word} "));
    assert!(app_is("off"));
    for (word, state, wanted) in [("open", "on", &open), ("open", "on", &open), ("closed", "off", &closed)] {
        let (done, text) = host.role(&["door", word]);
        assert!(done && text == format!("door {word}\n"), "{text}");
        assert!(app_is(state));
        assert_eq!(host.text("etc/redis/users.acl"), users(wanted));
        if word == "open" {
            let mut waiting = host.client("app");
            waiting
                .args(["BLPOP", "nothing", "20"])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut waiting = waiting.spawn().unwrap();
            std::thread::spawn(move || waiting.wait());
            let begun = Instant::now();
            while !host.ask(&["CLIENT", "LIST"]).contains("user=app") {
                assert!(
                    begun.elapsed() < Duration::from_secs(5),
                    "the app's client did not come"
                );
            }
        }
    }
    assert!(!host.ask(&["CLIENT", "LIST"]).contains("user=app"));
}

#[test]
fn a_master_without_its_data_is_not_started_and_a_follower_is() {
    let guard = Host::guard;
    let follower = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    assert!(guard(&follower).0);
    assert!(follower.path("started").exists());
    let mut master = Host::with(&settings(Position::Master, AppAccess::Closed).describe().unwrap());
    // A master that was never started has nothing to lose; after its start it has.
    assert!(guard(&master).0);
    let (allowed, text) = guard(&master);
    assert!(!allowed && text.contains("appendonly.aof.manifest"), "{text}");
    let config = follower.text("etc/redis/redis.conf");
    let config = config.replace("infra-module-", "lost-module-");
    std::fs::write(follower.path("etc/redis/redis.conf"), config).unwrap();
    let (allowed, text) = guard(&follower);
    assert!(!allowed && text.contains("`infra up` puts it back"), "{text}");
    master.start();
    let (allowed, text) = guard(&master);
    assert!(allowed, "{text}");
    let log = master.path("data/appendonlydir");
    let base = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
    let base = base
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with("base.rdb"))
        .unwrap();
    std::fs::remove_file(base).unwrap();
    let (allowed, text) = guard(&master);
    assert!(!allowed && text.contains("base.rdb, which is missing"), "{text}");
    assert!(master.text("refused").contains("which is missing"));
}
