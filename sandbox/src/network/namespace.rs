//! One machine's network namespace: a veth pair to the bridge, its addresses, its firewall.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, anyhow};

use super::firewall::{self, Rule};
use super::{Acl, BRIDGE, PREFIX};
use crate::command::ip;

/// A namespace that stands until `remove`.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Interface names have at most 15 characters: the prefix and the last seven of the id.
    fn name_for(instance: &str) -> String {
        let skipped = instance.chars().count().saturating_sub(7);
        PREFIX.chars().chain(instance.chars().skip(skipped)).collect()
    }

    /// Returns a namespace of this name, whether it stands or not.
    pub fn named(name: String) -> Self {
        Self { name }
    }

    /// Makes it, empty and without the kernel's own link-local addresses.
    pub async fn add(&self) -> Result<()> {
        ip(&["netns", "add", &self.name], "").await?;
        self.inside("sysctl", &["-q", "-w", "net.ipv6.conf.all.disable_ipv6=1"])
            .await
            .map(drop)
    }

    /// Makes the namespace with its link up and without addresses; all that comes in is refused.
    pub async fn create(instance: &str, mac: &str) -> Result<Self> {
        let name = Self::name_for(instance);
        let namespace = Self { name: name.clone() };
        let made = async {
            // The supervisor gives the addresses; the kernel must not add link-local ones.
            namespace.add().await?;
            let inside = format!(
                "link add {name} type veth peer name eth0 address {mac} netns {name}\n\
                 link set {name} master {BRIDGE} up\n"
            );
            ip(&["-batch", "-"], &inside).await?;
            namespace.firewall(&[], None).await?;
            // A connection begins with its first packet alone: a later one is of an unknown connection.
            namespace
                .inside("sysctl", &["-q", "-w", "net.netfilter.nf_conntrack_tcp_loose=0"])
                .await?;
            namespace
                .batch("link set lo up\naddr add 169.254.169.254/32 dev lo\nlink set eth0 up\n")
                .await
        };
        made.await.with_context(|| format!("make the network of {instance}"))?;
        Ok(namespace)
    }

    /// Returns the path where nspawn finds it.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Gives eth0 exactly these addresses, the first with the network's route.
    pub async fn set_addresses(&self, private: &str, others: &[String]) -> Result<()> {
        let shown = ip(&["-n", &self.name, "-j", "-4", "addr", "show", "dev", "eth0"], "").await?;
        let present = addresses_in(&shown).context("read the machine's addresses")?;
        let script = address_changes(&present, private, others);
        if script.is_empty() {
            return Ok(());
        }
        self.batch(&script)
            .await
            .with_context(|| format!("give addresses {private} {others:?} to {}", self.name))
    }

    /// Replaces the machine's ingress rules and its subnet's ACL in one transaction.
    pub async fn firewall(&self, rules: &[Rule], acl: Option<&Acl>) -> Result<()> {
        let chains = acl.map(Acl::chains).unwrap_or_default();
        let script = firewall::ruleset(rules, &chains);
        let set = ip(&["netns", "exec", &self.name, "nft", "-f", "-"], &script).await;
        set.map(drop).with_context(|| format!("set the rules of {}", self.name))
    }

    /// Returns whether the rules still stand. The machine's own root can flush them.
    pub async fn has_firewall(&self) -> bool {
        self.inside("nft", &["list", "table", "inet", firewall::TABLE])
            .await
            .is_ok()
    }

    /// Forgets who had an address, after it moved to another machine.
    pub async fn forget_neighbours(&self) {
        let flushed = ip(&["-n", &self.name, "neigh", "flush", "dev", "eth0"], "").await;
        if let Err(error) = flushed {
            tracing::debug!("{}: {error:#}", self.name);
        }
    }

    /// Returns a listener on an address of the namespace. Its socket stays in the namespace.
    pub async fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        let path = self.path();
        in_namespace(path.clone(), move || {
            let listener = TcpListener::bind(address).with_context(|| format!("listen on {address} in {path}"))?;
            listener
                .set_nonblocking(true)
                .context("make the listener non-blocking")?;
            Ok(listener)
        })
        .await
    }

    /// Removes the namespace with its veth pair.
    pub async fn remove(&self) -> Result<()> {
        // The outer end first: the inner one stays until the namespace's last process ends.
        let _ = ip(&["link", "del", &self.name], "").await;
        ip(&["netns", "del", &self.name], "").await.map(drop)
    }

    /// Runs `ip` commands in it.
    pub async fn batch(&self, script: &str) -> Result<()> {
        ip(&["-n", &self.name, "-batch", "-"], script).await.map(drop)
    }

    async fn inside(&self, tool: &str, arguments: &[&str]) -> Result<String> {
        ip(&[&["netns", "exec", &self.name, tool], arguments].concat(), "").await
    }
}

/// Runs `work` in the network namespace of the file `path`. Its sockets and devices stay there.
pub async fn in_namespace<T: Send + 'static>(
    path: String,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let entered = path.clone();
    let done = tokio::task::spawn_blocking(move || {
        // A thread of its own, since it stays in the namespace.
        std::thread::spawn(move || {
            let file = std::fs::File::open(&entered).with_context(|| format!("open {entered}"))?;
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("enter {entered}"))?;
            work()
        })
        .join()
    });
    done.await
        .with_context(|| format!("wait for the thread in {path}"))?
        .map_err(|_| anyhow!("work in {path}: its thread failed"))?
}

fn addresses_in(json: &str) -> Result<Vec<(String, u64)>> {
    let parsed: serde_json::Value = serde_json::from_str(json)?;
    let infos = parsed[0]["addr_info"].as_array().into_iter().flatten();
    let address = |info: &serde_json::Value| Some((info["local"].as_str()?.to_owned(), info["prefixlen"].as_u64()?));
    Ok(infos.filter_map(address).collect())
}

/// Returns the `ip` commands from the present to the wanted addresses.
fn address_changes(present: &[(String, u64)], private: &str, others: &[String]) -> String {
    let mut wanted = vec![(private.to_owned(), 16)];
    for other in others.iter().filter(|other| *other != private) {
        wanted.push((other.clone(), 32));
    }
    let removed = present.iter().filter(|address| !wanted.contains(address));
    let added = wanted.iter().filter(|address| !present.contains(address));
    let removals = removed.map(|(address, bits)| format!("addr del {address}/{bits} dev eth0\n"));
    removals
        .chain(added.map(|(address, bits)| format!("addr add {address}/{bits} dev eth0\n")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_an_interface_and_keep_the_prefix() {
        let name = Namespace::name_for("i-0123456789abcdef0");
        assert_eq!(name, "infra-sbabcdef0");
        assert!(name.len() <= 15);
    }

    #[test]
    fn only_differences_of_addresses_are_applied() {
        let present = [("10.77.16.4".to_owned(), 16), ("10.77.128.2".to_owned(), 32)];
        let changes = address_changes(&present, "10.77.16.4", &["10.77.144.2".into()]);
        assert_eq!(
            changes,
            "addr del 10.77.128.2/32 dev eth0\naddr add 10.77.144.2/32 dev eth0\n"
        );
        assert_eq!(address_changes(&present, "10.77.16.4", &["10.77.128.2".into()]), "");
    }
}
