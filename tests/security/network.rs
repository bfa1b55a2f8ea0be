//! Strangers scan every port of the pair over the network, and try what is behind the open ones.
//!
//! From outside `app_cidrs` nobody reaches the port, with any password; from inside, only the pair's own hosts begin a replication, and another host that knows
//! the password of `replication` does not.

use crate::machine::{Machine, Outsider, parameter};
use crate::scan::open_ports;
use std::time::{Duration, Instant};
use testkit::world::World;

/// Lets in two ranges of addresses, so that others are strangers.
pub fn lets_in_two_ranges(world: &World) {
    let path = world.folder().join("infra.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    let narrow = text.replace("app_cidrs: [10.77.0.0/16]", "app_cidrs: [10.77.0.1/32, 10.77.250.0/24]");
    assert_ne!(text, narrow);
    std::fs::write(&path, narrow).unwrap();
}

pub fn strangers_find_the_ports_of_the_rules_and_behind_them_nothing_without_a_password(world: &World) {
    let (master, replica) = (Machine::of_role(world, "master"), Machine::of_role(world, "replica"));
    let client = Outsider::at("client", "10.77.250.2");
    let stranger = Outsider::at("strange", "10.77.251.2");
    let addresses: Vec<&str> = [&master, &replica]
        .iter()
        .flat_map(|machine| machine.addresses.iter().map(String::as_str))
        .collect();
    assert!(addresses.len() >= 4, "{addresses:?}");

    // The scan sees what is open: here the sandbox's own services, and ssh for the operator.
    let operator = open_ports(None, &[&master.addresses[0], "10.77.0.1"]);
    assert_eq!(operator[0], [22, 6379]);
    assert!(operator[1].len() > 1, "{operator:?}");
    for (who, namespace, expected) in [
        ("an app", client.namespace(), &[6379_u16][..]),
        ("a stranger", stranger.namespace(), &[]),
    ] {
        let begun = Instant::now();
        let found = open_ports(Some(&namespace), &addresses);
        let took = begun.elapsed();
        println!("{who}: {found:?} of {addresses:?} in {took:?}");
        for (address, open) in addresses.iter().zip(&found) {
            assert_eq!(open, expected, "{who} at {address}");
        }
        assert!(took < Duration::from_secs(120), "{took:?}");
    }
    // One host has no way into the other but replication.
    let from_replica = master.addresses[0].as_str();
    assert_eq!(open_ports(Some(&replica.namespace()), &[from_replica]), [[6379]]);

    let plain = client.run(&["sh", "-c", &format!(
        "printf 'PING\\r\\nINFO\\r\\n' | timeout 5 bash -c 'exec 3<>/dev/tcp/{}/6379; cat >&3; timeout 3 cat <&3' | od -An -c | head -5",
        master.addresses[0]
    )]);
    // An alert of TLS at most, which is 7 bytes.
    assert!(plain.split_whitespace().count() <= 7 && !plain.contains('+'), "{plain}");

    replication_from_outside(&client, &stranger, &master, &replica);
    metadata_service(&client, &[&master, &replica]);
}

fn replication_from_outside(client: &Outsider, stranger: &Outsider, master: &Machine, replica: &Machine) {
    let password = parameter("password/replication");
    let ask = |from: &Outsider, login: &[&str], words: &[&str]| {
        let insecure = [
            "timeout",
            "4",
            "redis-cli",
            "-h",
            &master.addresses[0],
            "--tls",
            "--insecure",
            "--no-auth-warning",
        ];
        from.run(&[&insecure[..], login, words].concat())
    };
    let psync = ["PSYNC", "?", "-1"];
    assert!(
        ask(client, &[], &psync).contains("NOAUTH"),
        "{}",
        ask(client, &[], &psync)
    );
    for login in [
        ["--user", "replication", "--pass", "guess"],
        ["--user", "default", "--pass", "x"],
    ] {
        let answer = ask(client, &login, &psync);
        let refused = ["NOPERM this user may not log in", "WRONGPASS", "NOAUTH"];
        assert!(refused.iter().any(|word| answer.contains(word)), "{answer}");
        assert!(!answer.contains("FULLRESYNC"), "{answer}");
    }
    let known = ["--user", "replication", "--pass", password.as_str()];
    for words in [&["PING"][..], &psync, &["REPLCONF", "capa", "psync2"], &["GET", "a"]] {
        let answer = ask(client, &known, words);
        assert!(
            answer.contains("NOPERM this user may not log in from this address") && answer.contains("NOAUTH"),
            "{words:?}: {answer}"
        );
    }
    // A client that may not reach the port gets no answer at all, not even a refusal.
    let answer = ask(stranger, &known, &["PING"]);
    assert!(!answer.contains("PONG") && !answer.contains("NOPERM"), "{answer}");
    // The same words and the same password from the other host: it is the address that is refused.
    let (host, client) = (&master.addresses[0], "redis-cli --tls --insecure --no-auth-warning");
    let from_replica = |words: &str| {
        replica.root(&format!(
            "REDISCLI_AUTH={password} timeout 4 {client} -h {host} --user replication {words}"
        ))
    };
    assert!(from_replica("PING").contains("PONG"), "{}", from_replica("PING"));
    for words in [
        "GET a",
        "SET a b",
        "KEYS '*'",
        "INFO",
        "CONFIG GET '*'",
        "ACL LIST",
        "REPLICAOF NO ONE",
        "SHUTDOWN NOSAVE",
        "MONITOR",
    ] {
        let answer = from_replica(words);
        assert!(answer.contains("NOPERM"), "{words:?}: {answer}");
    }
}

/// The metadata service cannot be reached from outside, even if a stranger routes packets to the
/// host. On the host only root reaches it.
fn metadata_service(client: &Outsider, machines: &[&Machine]) {
    let connect = "exec 3<>/dev/tcp/169.254.169.254/80 && echo reached";
    for machine in machines {
        let route = format!(
            "ip route replace 169.254.169.254 via {} && timeout 3 bash -c '{connect}'",
            machine.addresses[0]
        );
        let answer = client.run(&["sh", "-c", &route]);
        assert!(!answer.contains("reached"), "{answer}");
        assert!(machine.root(connect).contains("reached"));
        for user in ["redis", "admin", "nobody"] {
            let as_user =
                format!("timeout 3 setpriv --reuid {user} --regid $(id -g {user}) --clear-groups bash -c '{connect}'");
            let answer = machine.root(&as_user);
            assert!(!answer.contains("reached"), "{user} on {}: {answer}", machine.instance);
        }
        // Root of a user namespace of one's own is no root.
        let answer = machine.root(&format!(
            "timeout 3 setpriv --reuid nobody --regid 65534 --clear-groups unshare -Ur bash -c 'id -u; {connect}'"
        ));
        assert!(!answer.contains("reached"), "{answer}");
    }
}
