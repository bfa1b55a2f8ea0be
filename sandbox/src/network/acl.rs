//! A subnet's network ACL as nftables chains of the machine's namespace. Pure.
//!
//! An ACL keeps no connections: it judges each packet, in both directions, also those of a
//! connection that stood before. So its chains come before those that know connections. Packets
//! between two machines of the subnet are never judged.

use serde::Deserialize;

use super::firewall::{self, Rule};

/// The ACL of a machine's subnet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Acl {
    /// The subnet in CIDR notation.
    pub subnet: String,
    /// In their order: the first that fits a packet decides.
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The entry is for packets that leave the subnet.
    pub egress: bool,
    pub allow: bool,
    /// As in a security group's rule.
    pub protocol: String,
    #[serde(default)]
    pub from: Option<i64>,
    #[serde(default)]
    pub to: Option<i64>,
    /// The other end of the packets: where they come from, or go to.
    pub network: String,
}

impl Acl {
    /// Returns true if the first entry of each direction lets everything through.
    fn lets_all_through(&self) -> bool {
        [true, false].iter().all(|egress| {
            let first = self.entries.iter().find(|entry| entry.egress == *egress);
            first.is_some_and(|entry| entry.allow && entry.protocol == "-1" && entry.network == "0.0.0.0/0")
        })
    }

    /// Returns the two chains; empty if all may pass.
    pub fn chains(&self) -> String {
        if self.lets_all_through() {
            return String::new();
        }
        let chain = |hook: &str, egress: bool| {
            let (device, end) = if egress {
                ("oifname", "daddr")
            } else {
                ("iifname", "saddr")
            };
            let lines: String = self
                .entries
                .iter()
                .filter(|entry| entry.egress == egress)
                .filter_map(|entry| entry.line(end))
                .map(|line| format!("\t\t{line}\n"))
                .collect();
            format!(
                "\tchain acl_{hook} {{\n\
                 \t\ttype filter hook {hook} priority filter - 10; policy drop;\n\
                 \t\t{device} \"lo\" accept\n\
                 \t\tip saddr {0} ip daddr {0} accept\n\
                 {lines}\
                 \t}}\n",
                self.subnet
            )
        };
        chain("input", false) + &chain("output", true)
    }
}

impl Entry {
    /// `None` for a protocol or network that is not understood: the chain drops what no entry fits.
    fn line(&self, end: &str) -> Option<String> {
        let rule = Rule {
            protocol: self.protocol.clone(),
            from: self.from,
            to: self.to,
            sources: Vec::new(),
        };
        let ports = firewall::protocol_match(&rule)?;
        let verdict = if self.allow { "accept" } else { "drop" };
        firewall::is_network(&self.network).then(|| format!("ip {end} {} {ports}{verdict}", self.network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(egress: bool, allow: bool, protocol: &str, ports: Option<i64>) -> Entry {
        Entry {
            egress,
            allow,
            protocol: protocol.into(),
            from: ports,
            to: ports,
            network: "0.0.0.0/0".into(),
        }
    }

    fn acl(entries: Vec<Entry>) -> Acl {
        Acl {
            subnet: "10.77.16.0/20".into(),
            entries,
        }
    }

    #[test]
    fn an_acl_that_lets_all_through_has_no_chains() {
        let open = [false, true].map(|egress| entry(egress, true, "-1", None));
        assert_eq!(acl(open.to_vec()).chains(), "");
    }

    #[test]
    fn an_acl_that_denies_all_drops_both_ways_and_leaves_the_subnet_itself_alone() {
        let shut = [false, true].map(|egress| entry(egress, false, "-1", None));
        let chains = acl(shut.to_vec()).chains();
        for line in [
            "type filter hook input priority filter - 10; policy drop;",
            "type filter hook output priority filter - 10; policy drop;",
            "ip saddr 10.77.16.0/20 ip daddr 10.77.16.0/20 accept",
            "ip saddr 0.0.0.0/0 drop",
            "ip daddr 0.0.0.0/0 drop",
        ] {
            assert!(chains.contains(line), "{line}\n{chains}");
        }
        assert!(!chains.contains("established"), "{chains}");
    }

    #[test]
    fn entries_decide_in_their_order_and_an_unknown_one_lets_nothing_through() {
        let entries = vec![
            entry(false, false, "6", Some(6379)),
            entry(false, true, "-1", None),
            entry(false, true, "telepathy", None),
        ];
        let chains = acl(entries).chains();
        let (deny, allow) = (
            chains.find("ip saddr 0.0.0.0/0 tcp dport 6379 drop").unwrap(),
            chains.find("ip saddr 0.0.0.0/0 accept").unwrap(),
        );
        assert!(deny < allow && !chains.contains("telepathy"), "{chains}");
    }
}
