//! The network of one machine, cut from outside it: its own programs notice only silence.

use std::io::Write;
use std::process::{Command, Stdio};

/// The operator, and everything that runs on this computer.
pub const OPERATOR: &str = "10.77.0.1";

/// Who no longer gets through to a machine, nor it to them.
pub enum Cut<'a> {
    /// All packets of these addresses.
    From(&'a [String]),
    /// ssh, and new connections to Redis: whoever is connected stays. The other addresses as above.
    AllButConnected(&'a [String]),
    /// What an address sends to a port, and gets from it.
    Port(u16, &'a str),
}

/// A cut that lasts until it is healed or the machine stops.
pub struct Network {
    namespace: String,
}

impl Network {
    pub fn of(instance: &str) -> Self {
        Network {
            namespace: format!("infra-sb{}", &instance[instance.len() - 7..]),
        }
    }

    /// Cuts, and returns whether the machine has a network to be cut.
    pub fn cut(&self, from: &Cut<'_>) -> bool {
        let all = |end: &str, addresses: &[String]| match addresses.join(", ") {
            set if set.is_empty() => set,
            set => format!("ip {end} {{ {set} }} drop\n"),
        };
        let (incoming, outgoing) = match from {
            Cut::From(addresses) => (all("saddr", addresses), all("daddr", addresses)),
            Cut::AllButConnected(addresses) => (
                format!(
                    "tcp dport 22 drop\ntcp dport 6379 tcp flags & (fin | syn | rst | ack) == syn drop\n{}",
                    all("saddr", addresses)
                ),
                all("daddr", addresses),
            ),
            Cut::Port(port, address) => (
                format!("ip saddr {address} tcp dport {port} drop\n"),
                format!("ip daddr {address} tcp sport {port} drop\n"),
            ),
        };
        self.load(&format!(
            "table inet test_cut\ndelete table inet test_cut\ntable inet test_cut {{\n\
             chain input {{ type filter hook input priority filter - 5; policy accept; iifname \"lo\" accept\n{incoming}}}\n\
             chain output {{ type filter hook output priority filter - 5; policy accept; oifname \"lo\" accept\n{outgoing}}}\n}}\n"
        ))
    }

    pub fn heal(&self) {
        self.load("table inet test_cut\ndelete table inet test_cut\n");
    }

    fn load(&self, rules: &str) -> bool {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = nft.stdin.take().unwrap().write_all(rules.as_bytes());
        nft.wait().unwrap().success()
    }
}
