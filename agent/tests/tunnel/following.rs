//! An engine that follows a source through the tunnel, while its own replica follows it by TLS.

use super::redis::{Redis, write_keys};
use super::rig::{Tunnel, pin, shown, until};
use sandbox::addon::{Engine, Tls};

fn caught_up(source: &Redis, follower: &Redis) {
    until("the follower has all of the source", || {
        follower.info("master_link_status") == "up" && follower.keys() == source.keys()
    });
}

/// A master that first follows the source directly is moved over, and a tunnel that dies is
/// replaced: neither costs a full copy, at the source or at the master.
fn moves_over_and_survives(engine: Engine) {
    let (of_source, of_pair) = (shown(Tls::On), shown(Tls::SelfSigned));
    let source = Redis::tls(engine, &of_source, &of_source.chain, &[]);
    write_keys(&source, 0, 200);
    let authorities = format!("{}{}", of_source.chain, of_pair.chain);
    let follower = |port: u16| {
        let words = [
            "--tls-replication",
            "yes",
            "--replicaof",
            "127.0.0.1",
            &port.to_string(),
        ];
        Redis::tls(engine, &of_pair, &authorities, &words)
    };
    let master = follower(source.port);
    caught_up(&source, &master);
    let replica = follower(master.port);
    caught_up(&source, &replica);
    let full = || (source.number("sync_full"), master.number("sync_full"));
    assert_eq!(full(), (1, 1), "{engine:?}");

    let mut tunnel = Tunnel::start("127.0.0.1", source.port, &pin(&of_source));
    // The order of the host's own script: how to speak comes before whom to follow.
    master.say(&["CONFIG", "SET", "tls-replication", "no"]);
    master.say(&["REPLICAOF", "127.0.0.1", &tunnel.port.to_string()]);
    write_keys(&source, 200, 400);
    caught_up(&source, &master);
    caught_up(&source, &replica);
    assert_eq!(master.info("master_port"), tunnel.port.to_string());
    assert_eq!(full(), (1, 1), "{engine:?}: moving over cost a full copy");

    tunnel.kill();
    write_keys(&source, 400, 600);
    until("the master notices", || master.info("master_link_status") == "down");
    tunnel.again();
    caught_up(&source, &master);
    caught_up(&source, &replica);
    assert_eq!(full(), (1, 1), "{engine:?}: the tunnel's death cost a full copy");
    assert_eq!(source.number("sync_partial_ok"), 2, "{engine:?}");
}

#[test]
fn redis_7_follows_without_another_full_copy() {
    moves_over_and_survives(Engine::Redis7);
}

#[test]
fn redis_6_follows_without_another_full_copy() {
    moves_over_and_survives(Engine::Redis6);
}

#[test]
fn redis_8_follows_without_another_full_copy() {
    moves_over_and_survives(Engine::Redis8);
}

#[test]
fn valkey_8_follows_without_another_full_copy() {
    moves_over_and_survives(Engine::Valkey8);
}
