//! A security group's ingress rules as nftables rules of the machine's namespace. Pure.

use serde::{Deserialize, Serialize};

/// The table that stands for the machine's security groups, in its namespace.
pub const TABLE: &str = "infra_sandbox";

/// One ingress permission, with group references already resolved to addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `tcp`, `udp`, `icmp`, another protocol's number, or `-1` for all.
    pub protocol: String,
    /// First port; for ICMP the type, -1 for any.
    #[serde(default)]
    pub from: Option<i64>,
    /// Last port; for ICMP the code, -1 for any.
    #[serde(default)]
    pub to: Option<i64>,
    /// Networks in CIDR notation.
    pub sources: Vec<String>,
}

/// Returns the whole table as one transaction that replaces the old one. A packet of a connection that
/// the machine never saw begin is dropped without an answer, as AWS does after an address has moved.
/// `before` are chains that every packet passes first.
pub fn ruleset(rules: &[Rule], before: &str) -> String {
    let accepts: String = rules
        .iter()
        .flat_map(accepts)
        .map(|line| format!("\t\t{line}\n"))
        .collect();
    format!(
        "table inet {TABLE}\n\
         delete table inet {TABLE}\n\
         table inet {TABLE} {{\n\
         {before}\
         \tchain input {{\n\
         \t\ttype filter hook input priority filter; policy drop;\n\
         \t\tct state established,related accept\n\
         \t\tct state invalid drop\n\
         \t\tiifname \"lo\" accept\n\
         {accepts}\
         \t}}\n\
         }}\n"
    )
}

/// Returns nothing for an unknown source or protocol, since a firewall fails closed.
fn accepts(rule: &Rule) -> Vec<String> {
    let Some(what) = protocol_match(rule) else {
        return Vec::new();
    };
    let sources = rule.sources.iter().filter(|source| is_network(source));
    sources
        .map(|source| {
            let family = if source.contains(':') { "ip6" } else { "ip" };
            format!("{family} saddr {source} {what}accept")
        })
        .collect()
}

pub(super) fn protocol_match(rule: &Rule) -> Option<String> {
    let from = rule.from.unwrap_or(-1);
    let to = rule.to.unwrap_or(-1);
    match rule.protocol.as_str() {
        "-1" | "all" => Some(String::new()),
        "tcp" | "6" => Some(ports("tcp", from, to)),
        "udp" | "17" => Some(ports("udp", from, to)),
        "icmp" | "1" => Some(match (from, to) {
            (-1, _) => "ip protocol icmp ".to_owned(),
            (kind, -1) => format!("icmp type {kind} "),
            (kind, code) => format!("icmp type {kind} icmp code {code} "),
        }),
        number => number
            .parse::<u8>()
            .ok()
            .map(|number| format!("meta l4proto {number} ")),
    }
}

fn ports(protocol: &str, from: i64, to: i64) -> String {
    match (from, to) {
        (-1, _) | (0, 65535) => format!("meta l4proto {protocol} "),
        (from, to) if from == to => format!("{protocol} dport {from} "),
        (from, to) => format!("{protocol} dport {from}-{to} "),
    }
}

pub(super) fn is_network(source: &str) -> bool {
    let (address, bits) = source.split_once('/').unwrap_or((source, "32"));
    address.parse::<std::net::IpAddr>().is_ok() && bits.parse::<u8>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(protocol: &str, from: i64, to: i64, sources: &[&str]) -> Rule {
        Rule {
            protocol: protocol.into(),
            from: Some(from),
            to: Some(to),
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        }
    }

    #[test]
    fn ports_ranges_and_protocols_are_told_apart() {
        for (given, expected) in [
            (
                rule("tcp", 22, 22, &["10.77.0.1/32"]),
                "ip saddr 10.77.0.1/32 tcp dport 22 accept",
            ),
            (
                rule("udp", 5000, 6000, &["0.0.0.0/0"]),
                "ip saddr 0.0.0.0/0 udp dport 5000-6000 accept",
            ),
            (
                rule("tcp", 0, 65535, &["::/0"]),
                "ip6 saddr ::/0 meta l4proto tcp accept",
            ),
            (
                rule("icmp", -1, -1, &["10.77.0.0/16"]),
                "ip saddr 10.77.0.0/16 ip protocol icmp accept",
            ),
            (
                rule("icmp", 8, 0, &["10.77.0.0/16"]),
                "ip saddr 10.77.0.0/16 icmp type 8 icmp code 0 accept",
            ),
            (rule("-1", -1, -1, &["10.77.16.4/32"]), "ip saddr 10.77.16.4/32 accept"),
            (
                rule("50", -1, -1, &["10.77.16.4/32"]),
                "ip saddr 10.77.16.4/32 meta l4proto 50 accept",
            ),
        ] {
            assert_eq!(accepts(&given), [expected]);
        }
    }

    #[test]
    fn an_unknown_source_or_protocol_opens_nothing() {
        assert!(accepts(&rule("tcp", 22, 22, &[])).is_empty());
        assert!(accepts(&rule("tcp", 22, 22, &["sg-1234", "10.0.0.1/32; flush ruleset"])).is_empty());
        assert!(accepts(&rule("telepathy", 22, 22, &["10.77.0.1/32"])).is_empty());
    }

    #[test]
    fn a_machine_without_rules_accepts_only_answers() {
        let text = ruleset(&[], "");
        assert!(text.contains("policy drop") && text.contains("established"), "{text}");
        assert_eq!(text.matches("accept").count(), 2, "{text}");
    }
}
