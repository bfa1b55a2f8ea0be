//! The exporters on both hosts: they answer on loopback alone, show no secret, and are stopped again.

use serde_json::json;
use testkit::world::World;

const ASK: &str = "curl -sf 127.0.0.1:9100/metrics && curl -sf 127.0.0.1:9121/metrics";
const ACTIVE: &str = "systemctl is-active prometheus-node-exporter prometheus-redis-exporter || true";

/// Returns what a command says on a host.
fn said(world: &World, host: &str, command: &str) -> String {
    world.infra(&["ssh", host, "--", command]).exits(0).output().to_string()
}

/// On a sandbox whose pair stands. Ends as it began.
pub fn answer_on_loopback_and_are_stopped_again(world: &World) {
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
    world.configure("");
    world.infra(&["up", "--yes"]).exits(0);
    for host in ["master", "replica"] {
        assert_eq!(said(world, host, ACTIVE), "inactive\ninactive\n");
    }
    world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
    world.no_secret_was_shown();
}
