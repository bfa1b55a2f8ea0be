//! A source as a host tries to reach it, before its engine is told to follow. Pure.

use crate::model::error::{Error, Result};
use std::fmt;
use trust::Policy;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub host: String,
    pub port: u16,
    /// `None`: it speaks no TLS.
    pub trust: Option<Policy>,
    /// The address of the host that the source sees, if it is known.
    seen_as: Option<String>,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Reach {
    pub fn new(host: &str, port: u16, trust: Option<Policy>, seen_as: Option<String>) -> Result<Self> {
        // Neither a shell nor systemd finds anything to replace in such a name.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if host.is_empty() || host.starts_with('-') || !host.bytes().all(is_plain) {
            return Err(Error::usage(format!("lead the master to {host:?}: it is no host name")));
        }
        Ok(Reach {
            host: host.into(),
            port,
            trust,
            seen_as,
        })
    }

    /// Returns the words that follow the action in the list for the host's script.
    pub fn words(&self) -> String {
        let trust = self.trust.map(|trust| format!(" {trust}")).unwrap_or_default();
        format!("{} {}{trust}", self.host, self.port)
    }

    /// Returns what to do if this computer reaches the source and the host does not.
    pub fn hint(&self) -> String {
        let from = match &self.seen_as {
            Some(address) => format!("the master's address {address}"),
            None => "the master's address".into(),
        };
        format!(
            "if the provider has a list of allowed addresses, add {from} to it; see whether the host's subnet has a way \
             to the internet; then run the same command again"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_a_shell_or_systemd_would_change_is_refused() {
        for host in ["redis.test", "192.0.2.7", "2001:db8::7", "a_b-c.test"] {
            assert!(Reach::new(host, 1, None, None).is_ok(), "{host}");
        }
        for host in ["", "-x", "a b", "a;b", "$(x)", "%n", "a\nb", "'", "é.test"] {
            assert!(Reach::new(host, 1, None, None).is_err(), "{host}");
        }
    }

    #[test]
    fn the_hint_names_the_address_that_the_provider_has_to_allow() {
        let reach = Reach::new("redis.test", 6380, Some(Policy::Verify), Some("203.0.113.9".into())).unwrap();
        assert!(
            reach.hint().contains("add the master's address 203.0.113.9"),
            "{}",
            reach.hint()
        );
        assert_eq!(reach.words(), "redis.test 6380 verify");
    }
}
