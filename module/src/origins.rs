//! Decides from where a user may log in. Pure.
//!
//! Redis's own rules say what a user may do and not from where. Users of people and apps may come
//! from any address that the security group lets in. Users that only hosts need may not, whoever
//! has learnt their password.

use std::fmt;
use std::net::IpAddr;

/// Where a client is seen to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The engine's socket, which only root of the host can open.
    Socket,
    Network(IpAddr),
    /// The engine could not say.
    Unknown,
}

/// The addresses of the hosts that may replicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas(Vec<IpAddr>);

impl Replicas {
    /// Returns a list by which no host may replicate.
    pub const fn none() -> Self {
        Replicas(Vec::new())
    }

    /// Reads addresses with blanks between them.
    ///
    /// # Errors
    /// Returns the first word that is no address.
    pub fn read(text: &str) -> Result<Self, String> {
        text.split_ascii_whitespace()
            .map(|word| word.parse().map_err(|_| word.to_string()))
            .collect::<Result<_, _>>()
            .map(Replicas)
    }

    /// Returns whether a user may log in from there. The password is checked only after that.
    pub fn let_in(&self, user: &[u8], origin: Origin) -> bool {
        match (user, origin) {
            (b"replication" | b"backup" | b"copy", Origin::Socket) => true,
            (b"replication", Origin::Network(address)) => self.0.contains(&address.to_canonical()),
            (b"replication" | b"backup" | b"copy", _) => false,
            _ => true,
        }
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{address}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
mod tests {
    use super::*;

    fn network(address: &str) -> Origin {
        Origin::Network(address.parse().unwrap())
    }

    #[test]
    fn replication_is_for_the_hosts_of_the_pair_and_backup_for_the_host_itself() {
        let pair = Replicas::read("10.0.0.4 10.0.1.5").unwrap();
        for (user, origin, allowed) in [
            ("replication", network("10.0.0.4"), true),
            ("replication", network("::ffff:10.0.1.5"), true),
            ("replication", Origin::Socket, true),
            ("replication", network("10.0.0.5"), false),
            ("replication", network("127.0.0.1"), false),
            ("replication", Origin::Unknown, false),
            ("copy", Origin::Socket, true),
            ("copy", network("127.0.0.1"), false),
            ("backup", Origin::Socket, true),
            ("backup", network("10.0.0.4"), false),
            ("backup", Origin::Unknown, false),
            ("app", network("203.0.113.9"), true),
            ("admin", network("203.0.113.9"), true),
            ("monitoring", Origin::Unknown, true),
            ("", network("203.0.113.9"), true),
        ] {
            assert_eq!(pair.let_in(user.as_bytes(), origin), allowed, "{user} from {origin:?}");
        }
        assert!(!Replicas::none().let_in(b"replication", network("10.0.0.4")));
    }

    #[test]
    fn a_list_is_shown_as_it_is_read_and_a_wrong_word_is_named() {
        assert_eq!(Replicas::read(" 10.0.0.4\t::1 ").unwrap().to_string(), "10.0.0.4 ::1");
        assert_eq!(Replicas::read("").unwrap().to_string(), "");
        assert_eq!(Replicas::read("10.0.0.4 10.0.0.0/8"), Err("10.0.0.0/8".into()));
    }
}
