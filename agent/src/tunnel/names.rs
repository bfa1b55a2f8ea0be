//! Finds the addresses of a name: the hosts file first, then the name servers of resolv.conf.
//!
//! Both files are read anew for each search, and no answer is kept. Deliberately not here: other
//! sources of names that a distribution may list in nsswitch.conf; they need its libraries.

use super::question::{self, Family, Silence};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The limits of resolv.conf's manual page.
const MOST_SERVERS: usize = 3;
const MOST_ATTEMPTS: u32 = 5;
const LONGEST_PATIENCE: u64 = 5;
const PORT: u16 = 53;

/// A second family is asked for only this long, since the first one has already an address.
const SECOND_FAMILY: Duration = Duration::from_secs(1);

pub struct Resolver {
    pub hosts: PathBuf,
    pub resolv_conf: PathBuf,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

impl Resolver {
    /// Returns at least one address, IPv4 first, or the reason why there is none.
    pub fn addresses(&self, host: &str, deadline: Instant) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let listed = in_hosts(&std::fs::read_to_string(&self.hosts).unwrap_or_default(), host);
        if !listed.is_empty() {
            return Ok(listed);
        }
        // As the manual page says, a missing file means the name server of this computer.
        let settings = Settings::parse(&std::fs::read_to_string(&self.resolv_conf).unwrap_or_default());
        let mut why = String::new();
        for name in settings.names(host) {
            match settings.ask(&name, deadline) {
                Ok(addresses) => return Ok(addresses),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    let mut found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

/// The settings of resolv.conf that matter to one search.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    patience: Duration,
    attempts: u32,
}

impl Settings {
    fn parse(text: &str) -> Self {
        let mut settings = Settings {
            servers: Vec::new(),
            search: Vec::new(),
            patience: Duration::from_secs(2),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => settings.servers.extend(words.next().and_then(server)),
                Some("search" | "domain") => {
                    settings.search = words.take(6).map(|word| word.trim_matches('.').to_string()).collect();
                }
                Some("options") => words.for_each(|word| settings.option(word)),
                _ => {}
            }
        }
        settings.servers.truncate(MOST_SERVERS);
        if settings.servers.is_empty() {
            settings.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        settings
    }

    fn option(&mut self, word: &str) {
        match word.split_once(':') {
            Some(("timeout", value)) => {
                if let Ok(seconds) = value.parse::<u64>() {
                    self.patience = Duration::from_secs(seconds.clamp(1, LONGEST_PATIENCE));
                }
            }
            Some(("attempts", value)) => {
                if let Ok(attempts) = value.parse::<u32>() {
                    self.attempts = attempts.clamp(1, MOST_ATTEMPTS);
                }
            }
            _ => {}
        }
    }

    /// Returns the names to ask for: one without a dot is tried in the search domains first.
    fn names(&self, host: &str) -> Vec<String> {
        let whole = host.trim_end_matches('.').to_string();
        if host.contains('.') {
            return vec![whole];
        }
        let within = self.search.iter().filter(|domain| !domain.is_empty());
        within
            .map(|domain| format!("{whole}.{domain}"))
            .chain([whole.clone()])
            .collect()
    }

    fn ask(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, String> {
        let mut silent = String::new();
        for _ in 0..self.attempts {
            for server in &self.servers {
                match self.ask_one(*server, name, deadline) {
                    Ok(addresses) if addresses.is_empty() => {
                        return Err(format!("the name server {} knows no address of it", server.ip()));
                    }
                    Ok(addresses) => return Ok(addresses),
                    Err(Silence::NoSuchName) => {
                        return Err(format!(
                            "the name server {} says that there is no such name",
                            server.ip()
                        ));
                    }
                    Err(Silence::Useless(why)) => silent = format!("the name server {} {why}", server.ip()),
                }
            }
        }
        Err(silent)
    }

    fn ask_one(&self, server: SocketAddr, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, Silence> {
        let ask = |family, patience: Duration| {
            let left = deadline.saturating_duration_since(Instant::now());
            question::ask(server, name, family, patience.min(left))
        };
        let mut addresses = ask(Family::V4, self.patience)?;
        if addresses.is_empty() {
            return ask(Family::V6, self.patience);
        }
        addresses.extend(ask(Family::V6, SECOND_FAMILY).unwrap_or_default());
        Ok(addresses)
    }
}

/// Reads a name server's address; `[ADDRESS]:PORT` names another port, as OpenBSD writes it.
fn server(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some((address, PORT).into());
    }
    let (address, port) = word.strip_prefix('[')?.split_once("]:")?;
    Some((address.parse::<IpAddr>().ok()?, port.parse().ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_gives_all_addresses_of_a_name_and_ignores_case_and_comments() {
        let text = "127.0.0.1 localhost\n192.0.2.1 # a.test\n::1 b.test a.test\n192.0.2.2\tA.Test x\nbroken a.test\n";
        let found: Vec<String> = in_hosts(text, "a.test.").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.2", "::1"]);
        assert!(in_hosts(text, "c.test").is_empty());
    }

    #[test]
    fn resolv_conf_is_read_within_its_limits() {
        let text = "# x\nnameserver 192.0.2.1\nnameserver [127.0.0.1]:5353\nnameserver 2001:db8::1\nnameserver 192.0.2.9\n\
                    search one.test two.test.\noptions timeout:60 attempts:0 ndots:1\n";
        let settings = Settings::parse(text);
        let servers: Vec<String> = settings.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "127.0.0.1:5353", "[2001:db8::1]:53"]);
        assert_eq!((settings.patience, settings.attempts), (Duration::from_secs(5), 1));
        assert_eq!(settings.names("redis"), ["redis.one.test", "redis.two.test", "redis"]);
        assert_eq!(settings.names("redis.test"), ["redis.test"]);
        assert_eq!(settings.names("redis."), ["redis"]);
        assert_eq!(Settings::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn an_address_needs_no_file_and_no_server() {
        let nowhere = Resolver {
            hosts: "/nonexistent".into(),
            resolv_conf: "/nonexistent".into(),
        };
        for address in ["192.0.2.7", "2001:db8::7"] {
            let found = nowhere.addresses(address, Instant::now()).unwrap();
            assert_eq!(found, [address.parse::<IpAddr>().unwrap()]);
        }
    }
}
