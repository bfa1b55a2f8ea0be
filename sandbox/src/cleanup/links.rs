//! The sandbox's parts of this computer's network, found by the prefix of their names.

use std::fs;
use std::path::Path;

use tokio::process::Command;
use tokio::task::JoinSet;

use crate::command::{ip, run};
use crate::network::{HOST_TABLE, PREFIX};

const NAMESPACES: &str = "/run/netns";
const INTERFACES: &str = "/sys/class/net";

/// Removes namespaces, interfaces and the table of rules. `left_over` shows what failed.
pub async fn remove_all() {
    let mut removals = JoinSet::new();
    for name in named(NAMESPACES) {
        removals.spawn(async move {
            let _ = ip(&["netns", "del", &name], "").await;
            // An interrupted creation leaves a namespace that is a file without a mount.
            let _ = fs::remove_file(Path::new(NAMESPACES).join(name));
        });
    }
    removals.join_all().await;
    // A veth pair goes with its inner end, so this interface may be gone already.
    for name in named(INTERFACES) {
        let _ = ip(&["link", "del", &name], "").await;
    }
    let _ = run(Command::new("nft").args(["delete", "table", "inet", HOST_TABLE]), "").await;
    remove_container_traces();
}

/// Returns what is still there, as text for people.
pub async fn left_over() -> Vec<String> {
    let namespaces = named(NAMESPACES)
        .into_iter()
        .map(|name| format!("network namespace {name}"));
    let interfaces = named(INTERFACES)
        .into_iter()
        .map(|name| format!("network interface {name}"));
    let table = run(Command::new("nft").args(["list", "table", "inet", HOST_TABLE]), "").await;
    let table = table.is_ok().then(|| format!("nftables table inet {HOST_TABLE}"));
    namespaces.chain(interfaces).chain(table).collect()
}

/// Removes nspawn's folders by machine name, which a killed nspawn leaves below /run.
fn remove_container_traces() {
    for folder in [
        "/run/systemd/nspawn/propagate",
        "/run/systemd/nspawn/unix-export",
        "/run/systemd/nspawn/locks",
    ] {
        for name in named(folder) {
            let trace = Path::new(folder).join(name);
            let _ = crate::files::remove_tree(&trace);
            let _ = fs::remove_file(&trace);
        }
    }
}

fn named(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}
