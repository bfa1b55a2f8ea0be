use crate::effects::redis::testing::{TestCertificate, TestServer, command};
use crate::effects::redis::{Digest, Server, Trust, shown_certificate};
use crate::model::secret::Secret;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire::info::Keyspace;

fn text_of(error: &crate::model::error::Error) -> String {
    format!(
        "{} | {}",
        error.chain().join(": "),
        error.next_step().unwrap_or_default()
    )
}

async fn refused(server: &Server) -> String {
    match server.connect(0).await {
        Ok(_) => panic!("{server} let us in"),
        Err(error) => text_of(&error),
    }
}

#[tokio::test]
async fn a_connection_is_in_its_database() {
    let server = TestServer::start(&["--databases", "40"]).await;
    server.script("33>SET a there").await;
    let found: String = server.connect(33).await.query(&command("GET a")).await.unwrap();
    assert_eq!(found, "there");
}

#[tokio::test]
async fn clones_for_other_databases_share_one_connection() {
    let server = TestServer::start(&["--databases", "4"]).await;
    server.script("SET a zero\n1>SET a one\n3>SET a three").await;
    let own = server.connect(1).await;
    let ask = async |database: u32| {
        let mut elsewhere = own.in_database(database);
        let (read, id): (String, u64) = tokio::join!(
            async { own.in_database(database).query(&command("GET a")).await.unwrap() },
            async { elsewhere.query(&command("CLIENT ID")).await.unwrap() }
        );
        (read, id)
    };
    let (zero, one, three) = tokio::join!(ask(0), ask(1), ask(3));
    assert_eq!(
        (zero.0.as_str(), one.0.as_str(), three.0.as_str()),
        ("zero", "one", "three")
    );
    assert!(zero.1 == one.1 && one.1 == three.1);
    let mut own = own;
    assert_eq!(own.query::<String>(&command("GET a")).await.unwrap(), "one");
    let wrong = own
        .in_database(0)
        .query::<String>(&command("LPOP a"))
        .await
        .unwrap_err();
    assert!(text_of(&wrong).contains("run LPOP"), "{}", text_of(&wrong));
    let missing = own.in_database(4).query::<String>(&command("GET a")).await.unwrap_err();
    assert!(
        text_of(&missing).contains("look into database 4"),
        "{}",
        text_of(&missing)
    );
}

#[tokio::test]
async fn a_server_without_room_is_named_and_waited_for_a_moment() {
    for arguments in [
        &["--maxclients", "3"][..],
        &["--maxclients", "3", "--requirepass", "pw"],
    ] {
        let server = TestServer::start(arguments).await;
        let held = [
            server.connect(0).await,
            server.connect(0).await,
            server.connect(0).await,
        ];
        let text = refused(&server.server()).await;
        assert!(
            text.contains("no more connections") && text.contains("maxclients"),
            "{text}"
        );
        let waiting = server.server();
        let (connected, ()) = tokio::join!(waiting.connect(0), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(held);
        });
        assert!(connected.is_ok());
    }
}

/// A second connection learns why the first was refused; a slot may become free in between.
#[tokio::test]
async fn room_that_comes_while_a_refusal_is_looked_at_is_used() {
    let server = TestServer::start(&["--maxclients", "1"]).await;
    for round in 0..150 {
        let connect = || server.server();
        let (first, second) = (connect(), connect());
        let held = first.connect(0).await;
        let (connected, held) = tokio::join!(second.connect(0), async {
            tokio::time::sleep(Duration::from_micros(100 * (round % 30))).await;
            held.map(drop)
        });
        for result in [held, connected.map(drop)] {
            if let Err(error) = result {
                panic!("in round {round}: {}", text_of(&error));
            }
        }
    }
}

#[tokio::test]
async fn a_server_without_room_is_waited_for_with_tls_too() {
    let ours = TestCertificate::for_names(&["127.0.0.1"]);
    let server = TestServer::start_tls(&ours.certificate, &ours.key, Trust::Authority(ours.authority.clone())).await;
    server.run::<()>("CONFIG SET maxclients 1").await;
    let until_free = async || {
        let begun = Instant::now();
        loop {
            match server.server().connect(0).await {
                Ok(connection) => return connection,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{}", text_of(&error)),
            }
        }
    };
    let held = until_free().await;
    let text = refused(&server.server()).await;
    assert!(text.contains("maxclients"), "{text}");
    let waiting = server.server();
    let (connected, ()) = tokio::join!(waiting.connect(0), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(held);
    });
    if let Err(error) = connected {
        panic!("{}", text_of(&error));
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_must_name_the_address_that_was_dialled() {
    let ours = TestCertificate::for_names(&["127.0.0.1"]);
    let server = TestServer::start_tls(&ours.certificate, &ours.key, Trust::Authority(ours.authority.clone())).await;
    server.run::<String>("PING").await;

    let mut by_another_name = server.server();
    by_another_name.host = "localhost".into();
    let text = refused(&by_another_name).await;
    assert!(text.contains("localhost") && text.contains("certificate"), "{text}");

    let mut by_another_authority = server.server();
    by_another_authority.trust = Some(Trust::Authority(TestCertificate::for_names(&["127.0.0.1"]).authority));
    let text = refused(&by_another_authority).await;
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test]
async fn a_pin_accepts_that_certificate_under_any_name_and_no_other() {
    let ours = TestCertificate::for_names(&["nobody.test"]);
    let server = TestServer::start_tls(&ours.certificate, &ours.key, Trust::Pin(ours.digest)).await;
    server.run::<String>("PING").await;
    assert_eq!(
        Digest::of(&shown_certificate("127.0.0.1", server.port).await.unwrap()),
        ours.digest
    );

    let other = Digest::of(b"another certificate");
    let mut wrong = server.server();
    wrong.trust = Some(Trust::Pin(other));
    let text = refused(&wrong).await;
    assert!(
        text.contains(&ours.digest.to_string()) && text.contains(&other.to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn every_cause_of_a_failed_connection_has_its_own_hint_and_none_shows_the_password() {
    let server = TestServer::start(&["--requirepass", "right"]).await;
    let with = |password: Option<&str>| Server {
        password: password.map(Secret::new),
        ..server.server()
    };
    let nobody = Server {
        port: 1,
        ..with(Some("hunter2"))
    };
    let tls_to_plain = Server {
        trust: Some(Trust::Pin(Digest::of(b""))),
        ..with(Some("hunter2"))
    };
    let cases = [
        (refused(&nobody).await, "listens on that address"),
        (refused(&with(Some("hunter2"))).await, "do not fit"),
        (refused(&tls_to_plain).await, "speaks TLS"),
    ];
    for (text, hint) in cases {
        assert!(text.contains("test (127.0.0.1:"), "{text}");
        assert!(text.contains(hint), "{hint}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let mut without = with(None).connect(0).await.unwrap();
    let text = text_of(&without.query::<String>(&command("GET a")).await.unwrap_err());
    assert!(text.contains("wants a password"), "{text}");
}

#[tokio::test]
async fn a_denied_command_is_named_without_its_arguments() {
    let server = TestServer::start(&[]).await;
    server.script("ACL SETUSER app on >pw ~* +@all -set").await;
    let user = Server {
        user: Some("app".into()),
        password: Some(Secret::new("pw")),
        ..server.server()
    };
    let error = user
        .connect(0)
        .await
        .unwrap()
        .query::<()>(&command("SET key hunter2"))
        .await
        .unwrap_err();
    let text = text_of(&error);
    assert!(
        text.contains("run SET on test (127.0.0.1:") && text.contains("access rules"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_silent_server_is_an_error_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Server {
        label: "source".into(),
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        user: None,
        password: Some(Secret::new("hunter2")),
        trust: None,
    };
    let begun = Instant::now();
    let text = refused(&silent).await;
    assert!(text.contains("no answer within 5 s"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_dropped_connection_closes_even_with_a_command_still_waiting() {
    let server = TestServer::start(&[]).await;
    let mut waiting = server.connect(0).await;
    let blocked = tokio::time::timeout(
        Duration::from_millis(100),
        waiting.query::<()>(&command("BLPOP nothing 0")),
    )
    .await;
    assert!(blocked.is_err());
    drop(waiting);
    let mut ours = server.connect(0).await;
    let begun = Instant::now();
    while crate::effects::redis::control::clients(&mut ours).await.unwrap().len() > 1 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the connection is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Hosts close idle connections after five minutes, and a comparison may take longer.
#[tokio::test]
async fn an_idle_connection_outlives_the_server_s_idle_timeout() {
    let server = TestServer::start(&["--timeout", "1"]).await;
    let mut idle = server.connect(0).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let answer: String = idle.query(&command("ECHO here")).await.unwrap();
    assert_eq!(answer, "here");
}

#[tokio::test]
async fn a_real_master_and_its_replica_are_read() {
    let master = TestServer::start(&["--repl-diskless-sync-delay", "0"]).await;
    master.script("SET a 1\n3>SETEX b 100 1").await;
    let replica = TestServer::replica_of(&master).await;
    let keyspace = |expires| Keyspace {
        keys: 1,
        expires,
        expiring_fields: None,
    };
    let of_master = master.connect(0).await.info().await.unwrap();
    let of_replica = replica.connect(0).await.info().await.unwrap();
    assert_eq!(of_master.keyspace, BTreeMap::from([(0, keyspace(0)), (3, keyspace(1))]));
    assert_eq!(of_replica.keyspace, of_master.keyspace);
    assert_eq!((of_master.replid, of_master.replicas.len()), (of_replica.replid, 1));
    assert_ne!(of_master.run_id, of_replica.run_id);
    assert_eq!(of_replica.link.unwrap().port, master.port);
}
