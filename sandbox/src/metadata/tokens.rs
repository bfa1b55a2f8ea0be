//! Session tokens of a metadata service, each with its end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Tokens given out and not yet ended.
#[derive(Debug, Default)]
pub struct Tokens {
    ends: HashMap<String, Instant>,
}

impl Tokens {
    /// Returns a new token, valid from `now` for `lifetime`.
    pub fn issue(&mut self, lifetime: Duration, now: Instant) -> Result<String> {
        self.ends.retain(|_, end| *end > now);
        let token = crate::random::hex(28)?;
        self.ends.insert(token.clone(), now + lifetime);
        Ok(token)
    }

    /// Returns whether the token was issued here and has not ended.
    pub fn is_valid(&self, token: &str, now: Instant) -> bool {
        self.ends.get(token).is_some_and(|end| *end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_with_its_lifetime() {
        let mut tokens = Tokens::default();
        let start = Instant::now();
        let token = tokens.issue(Duration::from_secs(60), start).unwrap();
        assert!(tokens.is_valid(&token, start + Duration::from_secs(59)));
        assert!(!tokens.is_valid(&token, start + Duration::from_secs(60)));
        assert!(!tokens.is_valid("never issued", start));
    }
}
