//! The exporters on both hosts: they answer on loopback or to the blocks that are named, show no secret, and are stopped again.

use serde_json::json;
use std::process::Command;
use testkit::access;
use testkit::world::World;

const ASK: &str = "curl -sf 127.0.0.1:9100/metrics && curl -sf 127.0.0.1:9121/metrics";
const ACTIVE: &str = "systemctl is-active prometheus-node-exporter prometheus-redis-exporter || true";

/// Returns what a command says on a host.
fn said(world: &World, host: &str, command: &str) -> String {
    world.infra(&["ssh", host, "--", command]).exits(0).output().to_string()
}

/// This computer is let in, and neither a neighbour in the subnet nor loopback is.
fn answer_to_the_named_block_alone(world: &World) {
    world.configure("monitoring: {exporters: true, scrape_cidrs: [10.77.0.1/32]}\n");
    world.infra(&["up", "--yes"]).exits(0);
    world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
    let addresses: Vec<String> = access::instances()
        .iter()
        .filter(|instance| instance["state"] == "running")
        .map(|instance| instance["private_ip"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for (port, line) in [("9100", "node_memory_MemTotal_bytes "), ("9121", "redis_up 1")] {
        for address in &addresses {
            let url = format!("http://{address}:{port}/metrics");
            let asked = Command::new("curl")
                .args(["-sf", "--max-time", "10", &url])
                .output()
                .unwrap();
            let answer = String::from_utf8_lossy(&asked.stdout);
            assert!(answer.lines().any(|found| found.starts_with(line)), "{url}: {asked:?}");
        }
        for host in ["master", "replica"] {
            let own = said(world, host, "hostname -I");
            let other = addresses.iter().find(|address| !own.contains(*address)).unwrap();
            for address in [other, "127.0.0.1"] {
                let knock = format!("curl -s --max-time 3 http://{address}:{port}/metrics >/dev/null; echo $?");
                let code = said(world, host, &knock);
                // Refused on loopback, and never answered by the security group.
                assert!(
                    ["7\n", "28\n"].contains(&code.as_str()),
                    "{host} to {address}:{port}: {code}"
                );
            }
        }
    }
    assert_eq!(world.status()["drift"], json!([]));
}

/// On a sandbox whose pair stands. Ends as it began.
pub fn answer_where_they_should_and_are_stopped_again(world: &World) {
    world.configure("monitoring: {exporters: true}\n");
    world.infra(&["up", "--yes"]).exits(0);
    world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
    let figures = world.infra(&["status", "--metrics"]).exits(0).output().to_string();
    let figures = figures
        .lines()
        .find(|line| line.starts_with("infra_findings{"))
        .unwrap();
    let put = format!("printf '%s\\n' '{figures}' | sudo tee /var/lib/prometheus/node-exporter/infra.prom");
    for host in ["master", "replica"] {
        said(world, host, &put);
        let answer = said(world, host, ASK);
        for line in [
            "redis_up 1",
            "redis_connected_clients ",
            "node_memory_MemTotal_bytes ",
            "infra_findings{",
        ] {
            assert!(
                answer.lines().any(|found| found.starts_with(line)),
                "{host}: no {line} in {answer}"
            );
        }
        let listens = said(world, host, "sudo ss -Hltn 'sport = :9100 or sport = :9121'");
        let addresses: Vec<&str> = listens
            .lines()
            .filter_map(|line| line.split_whitespace().nth(3))
            .collect();
        assert_eq!(addresses.len(), 2, "{listens}");
        assert!(
            addresses.iter().all(|address| address.starts_with("127.0.0.1:")),
            "{listens}"
        );
    }
    assert_eq!(world.status()["drift"], json!([]));
    world.infra(&["rotate", "monitoring", "--yes"]).exits(0);
    assert!(said(world, "master", ASK).contains("\nredis_up 1\n"));
    answer_to_the_named_block_alone(world);
    world.configure("");
    world.infra(&["up", "--yes"]).exits(0);
    for host in ["master", "replica"] {
        assert_eq!(said(world, host, ACTIVE), "inactive\ninactive\n");
    }
    world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
    world.no_secret_was_shown();
}
