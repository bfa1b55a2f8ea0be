//! Add-ons of other engines and versions: each available one is started and asked for its version.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use rig::{LOOPBACK, connect};
use sandbox::addon::{self, Addon, Engine, Options, Profile, Program, Tls};
use sandbox::paths::Paths;

/// Returns its program; `None`, with a message, if this computer cannot get it.
fn program(engine: Engine) -> Option<Program> {
    let paths = Paths::from_environment().unwrap();
    match engine.ensure(&paths, &|line| eprintln!("{line}")) {
        Ok(program) => Some(program),
        Err(error) => {
            eprintln!(
                "SKIPPED, an add-on of {} was not tried: {error:#}",
                sandbox::choice::name_of(&engine)
            );
            None
        }
    }
}

async fn rent(folder: &tempfile::TempDir, program: &Program, profile: Profile) -> Addon {
    let options = Options {
        name: "engine".to_owned(),
        state_dir: folder.path().to_owned(),
        host: None,
        listen: vec![LOOPBACK],
        port: 0,
        password: "hosted0secret".to_owned(),
        tls: if program.speaks_tls { Tls::default() } else { Tls::Off },
        authority: None,
        profile,
        persistent: false,
        maxmemory: None,
        connections: None,
        databases: 16,
        plain_port: None,
    };
    addon::start_engine(options, program).await.unwrap()
}

async fn run(redis: &mut MultiplexedConnection, line: &str) -> RedisResult<redis::Value> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>()).query_async(redis).await
}

async fn refusal(redis: &mut MultiplexedConnection, line: &str) -> Option<String> {
    let error = run(redis, line).await.err()?;
    error.code().map(str::to_owned)
}

/// Starts it with every profile and checks what is known of its version.
async fn try_out(engine: Engine, version_line: &str, pauses_writes_alone: bool) {
    let Some(program) = program(engine) else { return };
    let folder = tempfile::tempdir().unwrap();
    let addon = rent(&folder, &program, Profile::Default).await;
    let mut redis = connect(&addon, 0).await;
    let information: String = redis::cmd("INFO")
        .arg("server")
        .query_async(&mut redis.commands)
        .await
        .unwrap();
    let found = information.lines().any(|line| line.starts_with(version_line));
    assert!(found, "{version_line} is not in {information}");
    run(&mut redis.commands, "SET key value").await.unwrap();
    assert_eq!(
        refusal(&mut redis.commands, "CONFIG GET maxmemory").await.as_deref(),
        Some("NOPERM")
    );
    let pause = run(&mut redis.commands, "CLIENT PAUSE 1 WRITE").await;
    assert_eq!(pause.is_ok(), pauses_writes_alone, "{pause:?}");
    run(&mut redis.commands, "EVAL return(cjson.encode({1})) 0")
        .await
        .unwrap();
    addon.stop().await.unwrap();

    let addon = rent(&folder, &program, Profile::NoPause).await;
    let mut redis = connect(&addon, 0).await;
    assert_eq!(
        refusal(&mut redis.commands, "CLIENT PAUSE 1").await.as_deref(),
        Some("NOPERM")
    );
    for line in [
        "CLIENT LIST",
        "CLIENT ID",
        "CLIENT SETNAME me",
        "CLIENT KILL TYPE pubsub",
        "REPLCONF capa psync2",
    ] {
        run(&mut redis.commands, line).await.unwrap();
    }
    addon.stop().await.unwrap();

    let addon = rent(&folder, &program, Profile::NoReplication).await;
    let mut redis = connect(&addon, 0).await;
    for line in ["PSYNC ? -1", "SYNC", "REPLCONF capa psync2"] {
        assert_eq!(
            refusal(&mut redis.commands, line).await.as_deref(),
            Some("NOPERM"),
            "{line}"
        );
    }
    addon.stop().await.unwrap();
}

#[tokio::test]
async fn redis_6_can_be_rented() {
    try_out(Engine::Redis6, "redis_version:6.0.", false).await;
}

#[tokio::test]
async fn redis_6_2_can_be_rented() {
    try_out(Engine::Redis62, "redis_version:6.2.", true).await;
}

#[tokio::test]
async fn redis_7_can_be_rented() {
    try_out(Engine::Redis7, "redis_version:7.0.", true).await;
}

#[tokio::test]
async fn redis_8_can_be_rented() {
    try_out(Engine::Redis8, "redis_version:8.0.", true).await;
}

#[tokio::test]
async fn valkey_8_can_be_rented() {
    try_out(Engine::Valkey8, "valkey_version:8.1.", true).await;
}

#[tokio::test]
async fn an_engine_without_tls_is_not_rented_with_it() {
    let Some(program) = program(Engine::Redis62) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        name: "engine".to_owned(),
        state_dir: folder.path().to_owned(),
        host: None,
        listen: vec![LOOPBACK],
        port: 0,
        password: "hosted0secret".to_owned(),
        tls: Tls::On,
        authority: None,
        profile: Profile::Default,
        persistent: false,
        maxmemory: None,
        connections: None,
        databases: 16,
        plain_port: None,
    };
    let refused = addon::start_engine(options, &program).await.err().unwrap();
    assert!(refused.to_string().contains("no TLS"), "{refused:#}");
}
