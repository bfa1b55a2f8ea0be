use super::*;
use crate::effects::redis::testing::{TestServer, command};
use crate::model::secret::Secret;
use sandbox::addon::Engine;
use std::time::Instant;

#[test]
fn a_client_list_with_unusual_lines_is_read() {
    let text = "id=3 addr=127.0.0.1:5001 laddr=127.0.0.1:6379 fd=8 name= age=10 idle=2 flags=b db=4 sub=0 cmd=blpop user=app lib-name= lib-ver=\n\
                id=9 addr=[::1]:7 fd=9 name=job age=1 idle=0 flags=S db=0 cmd=replconf\n";
    let clients = parse_clients(text).unwrap();
    assert_eq!(
        (
            clients[0].id,
            clients[0].user.as_str(),
            clients[0].db,
            clients[0].cmd.as_str()
        ),
        (3, "app", 4, "blpop")
    );
    assert!(clients[0].is_blocked() && !clients[0].is_replication());
    assert!(clients[1].is_replication());
    assert_eq!((clients[1].addr.as_str(), clients[1].user.as_str()), ("[::1]:7", ""));
    assert!(parse_clients("addr=1\n").is_err());
}

#[tokio::test]
async fn a_pause_holds_writes_and_lets_reads_pass_until_it_is_ended() {
    let server = TestServer::start(&[]).await;
    let (mut ours, mut theirs) = (server.connect(0).await, server.connect(0).await);
    pause_writes(&mut ours, Duration::from_secs(30)).await.unwrap();
    let begun = Instant::now();
    let written = tokio::spawn(async move { theirs.query::<()>(&command("SET a 1")).await.map(|()| begun.elapsed()) });
    assert_eq!(ours.query::<Option<String>>(&command("GET a")).await.unwrap(), None);
    ours.info().await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!written.is_finished());
    unpause(&mut ours).await.unwrap();
    assert!(written.await.unwrap().unwrap() >= Duration::from_millis(150));
}

#[tokio::test]
async fn all_are_disconnected_but_ourselves_the_spared_and_the_replicas() {
    let master = TestServer::start(&["--repl-diskless-sync-delay", "0"]).await;
    let replica = TestServer::replica_of(&master).await;
    let (mut ours, mut spared, mut victim) = (
        master.connect(0).await,
        master.connect(0).await,
        master.connect(2).await,
    );
    let spared_id = own_id(&mut spared).await.unwrap();
    let victim_id = own_id(&mut victim).await.unwrap();
    let listed = clients(&mut ours).await.unwrap();
    let others = listed.iter().filter(|client| !client.is_replication());
    let databases: Vec<(u64, u32)> = others.map(|client| (client.id, client.db)).collect();
    assert!(
        databases.contains(&(victim_id, 2)) && databases.contains(&(spared_id, 0)),
        "{databases:?}"
    );
    assert_eq!(kill_clients(&mut ours, &[victim_id]).await.unwrap(), 1);
    assert!(victim.query::<()>(&command("PING")).await.is_err());
    spared.query::<()>(&command("PING")).await.unwrap();
    assert!(replica.connect(0).await.info().await.unwrap().link.unwrap().up);
    assert_eq!(kill_clients(&mut ours, &[victim_id]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_unlimited_user_may_run_everything_and_probing_changes_nothing() {
    let server = TestServer::start(&[]).await;
    server.script("SET a 1").await;
    let mut connection = server.connect(0).await;
    let before = connection.info().await.unwrap();
    let allowed = permissions(&mut connection).await.unwrap();
    for permission in [
        &allowed.info,
        &allowed.psync,
        &allowed.pause_writes,
        &allowed.client_list,
        &allowed.client_kill,
        &allowed.replicaof,
        &allowed.config_get,
    ] {
        assert_eq!(permission, &Permission::Allowed, "{allowed:?}");
    }
    let after = connection.info().await.unwrap();
    assert_eq!(
        (after.role, after.replid, after.keyspace),
        (before.role, before.replid, before.keyspace)
    );
    assert!(after.replicas.is_empty() && !after.backlog_active);
    // Probing leaves no pause behind: a write is served at once.
    let begun = Instant::now();
    server.script("SET a 2").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn probing_disconnects_nobody_on_any_engine() {
    for engine in [
        Engine::Redis6,
        Engine::Redis62,
        Engine::Redis7,
        Engine::Redis8,
        Engine::Valkey8,
    ] {
        let Some(server) = TestServer::start_engine(engine, &[]).await else {
            continue;
        };
        let mut app = server.connect(0).await;
        let id: u64 = app.query(&command("CLIENT ID")).await.unwrap();
        let found = permissions(&mut server.connect(0).await).await.unwrap();
        assert_eq!(found.client_kill, Permission::Allowed, "{engine:?}");
        let still: u64 = app.query(&command("CLIENT ID")).await.unwrap();
        assert_eq!(still, id, "{engine:?}");
    }
}

#[tokio::test]
async fn each_denied_command_is_named_with_the_server_s_answer() {
    let server = TestServer::start(&[]).await;
    let mut bound = server.server();
    (bound.user, bound.password) = (Some("app".into()), Some(Secret::new("pw")));
    for (rule, pick) in [
        ("-info", (|p| &p.info) as fn(&Permissions) -> &Permission),
        ("-psync", |p| &p.psync),
        ("-client|pause", |p| &p.pause_writes),
        ("-client|list", |p| &p.client_list),
        ("-client|kill", |p| &p.client_kill),
        ("-replicaof", |p| &p.replicaof),
        ("-config", |p| &p.config_get),
    ] {
        server
            .script(&format!("ACL SETUSER app reset on >pw ~* &* +@all {rule}"))
            .await;
        let found = permissions(&mut bound.connect(0).await.unwrap()).await.unwrap();
        assert!(
            matches!(pick(&found), Permission::Denied(reason) if reason.contains("NOPERM")),
            "{rule}: {found:?}"
        );
        let everything = [
            &found.info,
            &found.psync,
            &found.pause_writes,
            &found.client_list,
            &found.client_kill,
            &found.replicaof,
            &found.config_get,
        ];
        assert_eq!(
            everything
                .iter()
                .filter(|found| ***found == Permission::Allowed)
                .count(),
            6,
            "{rule}: {found:?}"
        );
    }
    // A renamed command counts as a denied one.
    let renamed = TestServer::start(&["--rename-command", "PSYNC", ""]).await;
    let found = permissions(&mut renamed.connect(0).await).await.unwrap();
    assert!(matches!(found.psync, Permission::Denied(_)), "{found:?}");
}

#[tokio::test]
async fn a_server_says_which_commands_it_refuses_to_a_user() {
    let server = TestServer::start(&[]).await;
    server
        .script("ACL SETUSER app off >pw ~* &* +@all -@admin -@dangerous +info")
        .await;
    let asked = [
        "get",
        "set",
        "keys",
        "info",
        "evalsha",
        "client|list",
        "client|setname",
        "sort",
        "flushdb",
        "xadd",
        "json.set",
        "zadd",
    ];
    let refused = refused_to(&mut server.connect(0).await, "app", &asked).await.unwrap();
    assert_eq!(refused.unwrap(), ["keys", "client|list", "sort", "flushdb", "json.set"]);
}

#[tokio::test]
async fn a_user_is_on_or_off_or_does_not_exist() {
    let server = TestServer::start(&[]).await;
    server.script("ACL SETUSER open on\nACL SETUSER closed off").await;
    let mut connection = server.connect(0).await;
    for (user, expected) in [("open", Some(true)), ("closed", Some(false)), ("nobody", None)] {
        assert_eq!(user_is_on(&mut connection, user).await.unwrap(), expected, "{user}");
    }
}
