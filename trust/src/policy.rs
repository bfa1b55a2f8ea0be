//! A policy as files and command lines write it, without the authorities it may need.

use crate::authorities::Authorities;
use crate::digest::Digest;
use crate::error::Error;
use crate::verifier::Trust;
use std::fmt;
use std::str::FromStr;

/// Written `sha256:…` or `verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Exactly this leaf.
    Pin(Digest),
    /// An authority and the name that is dialled.
    Verify,
}

const VERIFY: &str = "verify";

impl Policy {
    /// Adds the authorities, which only `verify` reads.
    pub fn with(self, authorities: impl FnOnce() -> Result<Authorities, Error>) -> Result<Trust, Error> {
        Ok(match self {
            Policy::Pin(pin) => Trust::Pin(pin),
            Policy::Verify => Trust::Authority(authorities()?),
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Pin(pin) => fmt::Display::fmt(pin, f),
            Policy::Verify => f.write_str(VERIFY),
        }
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.trim() == VERIFY {
            return Ok(Policy::Verify);
        }
        text.parse().map(Policy::Pin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        for policy in [Policy::Verify, Policy::Pin(Digest::of(b""))] {
            assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        }
        assert!("Verify it".parse::<Policy>().is_err());
    }

    #[test]
    fn a_pin_needs_no_authorities() {
        let none = || Err(Error::NoAuthority);
        let pin = Digest::of(b"");
        assert_eq!(Policy::Pin(pin).with(none).unwrap(), Trust::Pin(pin));
        assert!(Policy::Verify.with(none).is_err());
    }
}
