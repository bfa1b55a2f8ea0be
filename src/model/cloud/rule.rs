//! Rules of a security group: allowed incoming traffic.

use crate::model::values::Cidr;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

pub const SSH_PORT: i32 = 22;
/// The only port of Redis, with TLS.
pub const REDIS_PORT: i32 = 6379;

/// The port of a rehearsal's scratch server, with TLS; open only during the rehearsal.
pub const REHEARSAL_PORT: i32 = 6380;

/// The port of the exporter of the machine.
pub const MACHINE_EXPORTER_PORT: i32 = 9100;
/// The port of the exporter of the engine.
pub const ENGINE_EXPORTER_PORT: i32 = 9121;

/// One kind of traffic from one source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    /// `tcp`, `udp`, `icmp`, a number, or `-1` for everything.
    pub protocol: String,
    pub from_port: Option<i32>,
    pub to_port: Option<i32>,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Ipv4(String),
    Ipv6(String),
    /// The members of the group itself.
    Members,
    /// Another group, by id.
    Group(String),
    PrefixList(String),
}

impl Rule {
    pub fn tcp(port: i32, source: Source) -> Self {
        Rule {
            protocol: "tcp".into(),
            from_port: Some(port),
            to_port: Some(port),
            source,
        }
    }
}

/// Returns the rules of a pair: ssh for operators, Redis for app, operators and the pair itself, exporters for those who
/// scrape.
pub fn wanted_rules(admin_cidrs: &[Cidr], app_cidrs: &[Cidr], scrape_cidrs: &[Cidr]) -> BTreeSet<Rule> {
    let admins = admin_cidrs.iter().map(|cidr| Source::Ipv4(cidr.network()));
    let apps = app_cidrs.iter().map(|cidr| Source::Ipv4(cidr.network()));
    let ssh = admins.clone().map(|source| Rule::tcp(SSH_PORT, source));
    let redis = admins.chain(apps).map(|source| Rule::tcp(REDIS_PORT, source));
    let exporters = scrape_cidrs.iter().flat_map(|cidr| {
        [MACHINE_EXPORTER_PORT, ENGINE_EXPORTER_PORT].map(|port| Rule::tcp(port, Source::Ipv4(cidr.network())))
    });
    ssh.chain(redis)
        .chain(exporters)
        .chain([Rule::tcp(REDIS_PORT, Source::Members)])
        .collect()
}

/// Returns the rules for a rehearsal: who reaches Redis may reach the scratch server.
pub fn rehearsal_rules(admin_cidrs: &[Cidr], app_cidrs: &[Cidr]) -> BTreeSet<Rule> {
    let both = admin_cidrs.iter().chain(app_cidrs);
    both.map(|cidr| Rule::tcp(REHEARSAL_PORT, Source::Ipv4(cidr.network())))
        .collect()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol.as_str() {
            "-1" => write!(f, "everything")?,
            protocol => write!(f, "{protocol}")?,
        }
        match (self.from_port, self.to_port) {
            (Some(from), Some(to)) if from == to => write!(f, " {from}")?,
            (Some(from), Some(to)) => write!(f, " {from}-{to}")?,
            _ => {}
        }
        write!(f, " from {}", self.source)?;
        if self.to_port == Some(REHEARSAL_PORT) && self.from_port == self.to_port {
            write!(f, " (left by a rehearsal)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Ipv4(cidr) | Source::Ipv6(cidr) => f.write_str(cidr),
            Source::Members => f.write_str("its members"),
            Source::Group(id) | Source::PrefixList(id) => f.write_str(id),
        }
    }
}
