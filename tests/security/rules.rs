//! By the rules of the pair's security group the operator's own address gets in, and the app's Private
//! Space, and nobody that somebody added by hand.

use infra::effects::cloud::{Cloud, ec2};
use infra::model::cloud::{Rule, Source};
use infra::model::names::Names;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use testkit::access;
use testkit::world::World;
use tokio::runtime::Runtime;

const OPERATOR: &str = "10.77.0.1/32";
const ELSEWHERE: &str = "198.51.100.9/32";

fn tcp(port: i32, cidr: &str) -> Rule {
    Rule::tcp(port, Source::Ipv4(cidr.into()))
}

/// The pair's group as EC2 has it.
struct Group {
    runtime: Runtime,
    cloud: Cloud,
    names: Names,
}

impl Group {
    fn of_the_pair() -> Group {
        let runtime = Runtime::new().unwrap();
        let (cloud, names) = runtime.block_on(access::environment());
        Group { runtime, cloud, names }
    }

    fn rules(&self) -> BTreeSet<Rule> {
        let found = self.runtime.block_on(ec2::group(&self.cloud, &self.names));
        found.unwrap().unwrap().rules
    }

    fn change(&self, add: &[Rule], remove: &[Rule]) {
        self.runtime.block_on(async {
            let id = ec2::group(&self.cloud, &self.names).await.unwrap().unwrap().id;
            for rule in add {
                ec2::authorize(&self.cloud, &id, rule).await.unwrap();
            }
            for rule in remove {
                ec2::revoke(&self.cloud, &id, rule).await.unwrap();
            }
        });
    }
}

/// Returns the findings of `check` under these ids, with how bad each is.
fn findings(world: &World, ids: &[&str]) -> Vec<(String, String)> {
    let checked: Value = world.infra(&["check", "--json"]).json();
    let all = checked["findings"].as_array().unwrap();
    let told = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_string();
    all.iter()
        .filter(|finding| ids.contains(&finding["id"].as_str().unwrap()))
        .map(|finding| (told(finding, "id"), told(finding, "severity")))
        .collect()
}

fn drift(world: &World) -> Vec<String> {
    let status = world.status();
    let lines = status["drift"].as_array().unwrap_or_else(|| panic!("{status}"));
    lines.iter().map(|line| line.as_str().unwrap().to_string()).collect()
}

/// Tells everybody that they come from elsewhere, for as long as the test runs.
fn elsewhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 2048]);
            let address = ELSEWHERE.trim_end_matches("/32");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{address}",
                address.len()
            );
        }
    });
    url
}

#[test]
fn only_who_is_named_or_looked_up_gets_in_and_a_rule_by_hand_does_not_stay() {
    let world = World::raise(10);
    let ids = ["admin-cidrs", "admin-nobody", "admin-world", "app-cidrs", "app-nobody"];
    let found = |id: &str, severity: &str| (id.to_string(), severity.to_string());

    world.configure_hosts("");
    assert_eq!(
        findings(&world, &ids),
        [found("admin-cidrs", "ok"), found("app-cidrs", "ok")]
    );
    let plan = world.infra(&["up", "--dry-run"]).exits(0);
    plan.says("allow tcp 22 from 10.77.0.1/32 (your own address)");
    plan.says("allow tcp 6379 from 0.0.0.0/0");

    world.configure_hosts("hosts: {admin_cidrs: [0.0.0.0/0]}\n");
    assert_eq!(findings(&world, &ids)[0], found("admin-world", "warning"));
    world.infra(&["up", "--dry-run"]).exits(0).says("admin-world");
    world.configure_hosts("hosts: {admin_cidrs: [], app_cidrs: []}\n");
    assert_eq!(
        findings(&world, &ids),
        [found("admin-nobody", "warning"), found("app-nobody", "warning")]
    );
    let nobody = world.infra(&["up", "--dry-run"]).exits(0);
    nobody.says("admin-nobody");
    assert!(!nobody.printed().contains("allow tcp 22"), "{}", nobody.printed());
    // If nobody can tell the operator's own address, `infra` opens ssh to nobody.
    world.configure_hosts("");
    world
        .infra_with(&["INFRA_CHECKIP_URL="], &["up", "--dry-run"])
        .exits(64)
        .says("hosts.admin_cidrs");

    // The same app, moved into a Private Space with two addresses.
    let url = &world.vars()["REDIS_URL"];
    world.platform(
        "POST",
        "/_sandbox/spaces/quiet",
        &json!({"sources": ["192.0.2.10", "192.0.2.11"]}).to_string(),
    );
    world.platform(
        "POST",
        "/_sandbox/apps",
        &json!({"name": "inside", "region": "us", "space": "quiet", "config": {"REDIS_URL": url}}).to_string(),
    );
    world.configure_hosts("");
    world.edit("app: {name: demo}", "app: {name: inside, also: [demo]}");
    world
        .infra(&["up", "--dry-run"])
        .exits(0)
        .says("allow tcp 6379 from 0.0.0.0/0");
    world.edit("app: {name: inside, also: [demo]}", "app: {name: inside}");
    assert_eq!(findings(&world, &["app-cidrs"]), [found("app-cidrs", "ok")]);
    world.infra(&["up", "--yes"]).exits(0);
    let group = Group::of_the_pair();
    let wanted = BTreeSet::from([
        tcp(22, OPERATOR),
        tcp(6379, OPERATOR),
        tcp(6379, "192.0.2.10/32"),
        tcp(6379, "192.0.2.11/32"),
        Rule::tcp(6379, Source::Members),
    ]);
    assert_eq!(group.rules(), wanted);
    assert_eq!(drift(&world), [""; 0]);

    // An administrator adds rules by hand.
    let by_hand = [
        tcp(22, "0.0.0.0/0"),
        tcp(9000, "0.0.0.0/0"),
        Rule::tcp(22, Source::Ipv6("::/0".into())),
    ];
    group.change(&by_hand, &[]);
    let seen = drift(&world).join("\n");
    for rule in ["tcp 22 from 0.0.0.0/0", "tcp 9000 from 0.0.0.0/0", "tcp 22 from ::/0"] {
        assert!(seen.contains(&format!("no longer allow {rule}")), "{seen}");
    }
    world.infra(&["up", "--yes"]).exits(0);
    assert_eq!(group.rules(), wanted);

    // The operator is elsewhere now, and is told; nothing is let in by looking.
    let told = world.infra_with(&[&format!("INFRA_CHECKIP_URL={}", elsewhere())], &["status", "--json"]);
    let told = told.exits(0).json()["drift"].to_string();
    assert!(
        told.contains("allow tcp 22 from 198.51.100.9/32 (your own address, no longer 10.77.0.1/32)"),
        "{told}"
    );
    assert_eq!(group.rules(), wanted);
    // As if the pair had been made from there: from here `up` finds the way in again.
    group.change(
        &[tcp(22, ELSEWHERE), tcp(6379, ELSEWHERE)],
        &[tcp(22, OPERATOR), tcp(6379, OPERATOR)],
    );
    let mended = world.infra(&["up", "--yes"]).exits(0);
    mended.says("your own address, no longer 198.51.100.9/32");
    assert_eq!(group.rules(), wanted);
    assert_eq!(drift(&world), [""; 0]);
}
