//! Clients that reach the endpoint's port but must not get in: without a password, with a wrong
//! one, with a user's own rights only, or with a client that expects another server.

use crate::machine::Machine;
use infra::effects::redis::{Server, Trust};
use infra::model::role::Role;
use infra::model::secret::Secret;
use infra::model::secrets::RedisUser;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::pair::Pair;
use testkit::world::World;

/// Commands that the app never runs on a server that others depend on.
const DENIED: [&str; 14] = [
    "CONFIG GET masterauth",
    "CONFIG SET dir /tmp",
    "DEBUG SLEEP 0",
    "ACL LIST",
    "ACL SETUSER app allcommands",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "MODULE LIST",
    "KEYS *",
    "FLUSHALL",
    "MONITOR",
    "CLIENT LIST",
    "MIGRATE 10.77.0.1 6379 key 0 100",
    "PSYNC ? -1",
];

pub fn nobody_gets_further_than_their_own(world: &World) {
    let pair = Pair::of(world);
    for role in Role::ALL {
        without_a_password(&pair, role);
        let wrong = Secret::new("0".repeat(64));
        for user in RedisUser::ALL {
            let refusal = pair
                .refusal(&pair.server_with(role, user.name(), &wrong))
                .unwrap_or_default();
            assert!(refusal.contains("do not fit"), "{role} {user}: {refusal}");
        }
        let default = pair.refusal(&pair.server_with(role, "default", &wrong));
        assert!(default.is_some_and(|why| why.contains("do not fit")), "{role} default");
    }
    let app = pair.server(Role::Master, RedisUser::App);
    for command in DENIED {
        let answer = pair.answer(&app, command);
        // DEBUG is off in the engine, for everybody, before any rules are asked.
        let refused = answer.contains("NOPERM") || answer.contains("DEBUG command not allowed");
        assert!(refused, "app: {command}: {answer}");
    }
    assert_eq!(pair.answer(&app, "SET security:probe 1"), "ok");
    // Each of the others may do its one thing, and read nobody's data.
    for user in [RedisUser::Replication, RedisUser::Backup] {
        for role in Role::ALL {
            let refusal = pair.refusal(&pair.server(role, user));
            let refusal = refusal.unwrap_or_else(|| panic!("{user} got into the {role} from outside"));
            assert!(refusal.contains("may not come from here"), "{role} {user}: {refusal}");
        }
    }
    let master = Machine::of_role(world, "master");
    for user in [RedisUser::Replication, RedisUser::Backup, RedisUser::Monitoring] {
        for command in [
            "GET security:probe",
            "SET security:probe 2",
            "KEYS *",
            "CONFIG GET *",
            "ACL LIST",
            "SCAN 0",
        ] {
            let answer = master.engine_as(user.name(), &pair.password(user), command);
            assert!(answer.contains("NOPERM"), "{user}: {command}: {answer}");
        }
    }
    impostors(&pair, &app);
    old_protocols(&pair);
}

fn without_a_password(pair: &Pair, role: Role) {
    let nobody = Server {
        user: None,
        password: None,
        ..pair.server_with(role, "", &Secret::new(""))
    };
    for command in [
        "PING",
        "GET security:probe",
        "INFO",
        "CONFIG GET *",
        "SHUTDOWN NOSAVE",
        "PSYNC ? -1",
    ] {
        let answer = pair.answer(&nobody, command);
        assert!(answer.contains("NOAUTH"), "{role}: {command}: {answer}");
    }
    // Without TLS the server answers nothing.
    let mut plain = TcpStream::connect((pair.addresses[&role].as_str(), 6379)).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    plain.write_all(b"PING\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(
        !said.windows(4).any(|window| window == b"PONG"),
        "{role} answers without TLS"
    );
}

/// A client refuses a server with another authority's certificate, and one whose certificate names somebody else.
fn impostors(pair: &Pair, app: &Server) {
    let key = infra::effects::host::tls::authority_key().unwrap();
    let other = infra::effects::host::tls::make_authority("another", &key, jiff::Timestamp::now()).unwrap();
    let refusal = pair.refusal(&Server {
        trust: Some(Trust::Authority(other)),
        ..app.clone()
    });
    let why = refusal.expect("a certificate of another authority was accepted");
    assert!(
        why.contains("certificate") && why.contains("find out who changed it"),
        "{why}"
    );

    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = relay.local_addr().unwrap().port();
    let endpoint = (app.host.clone(), app.port);
    std::thread::spawn(move || {
        let (client, _) = relay.accept().unwrap();
        let server = TcpStream::connect(endpoint).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut from, mut to) = (server, client);
        let _ = std::io::copy(&mut from, &mut to);
    });
    let refusal = pair.refusal(&Server {
        host: "127.0.0.1".into(),
        port,
        ..app.clone()
    });
    let why = refusal.expect("a certificate for another address was accepted");
    assert!(why.contains("its certificate is not for 127.0.0.1 but for"), "{why}");
}

/// Tries old protocols with OpenSSL's client, which has to be told to speak them.
fn old_protocols(pair: &Pair) {
    let address = format!("{}:6379", pair.addresses[&Role::Master]);
    let handshake = |version: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &address, version, "-cipher", "ALL:@SECLEVEL=0"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        said.contains("Cipher is (NONE)") || said.contains("Cipher    : 0000")
    };
    for version in ["-tls1", "-tls1_1"] {
        assert!(handshake(version), "{version} was spoken");
    }
    assert!(!handshake("-tls1_2"), "the look itself finds nothing");
}
