//! Keys that stay on the source because of their names.

use anyhow::{Context, Result};
use std::str::FromStr;

/// The beginning of a name, written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Vec<u8>);

impl FromStr for Prefix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Prefix(hex::decode(text).context("read the beginning of a name")?))
    }
}

impl Prefix {
    pub fn new(bytes: &[u8]) -> Prefix {
        Prefix(bytes.to_vec())
    }
}

/// Removes the keys that are left out. Returns how many they were.
pub fn remove(keys: &mut Vec<Vec<u8>>, left_out: &[Prefix]) -> u64 {
    let before = keys.len();
    if !left_out.is_empty() {
        keys.retain(|key| !left_out.iter().any(|prefix| key.starts_with(&prefix.0)));
    }
    (before - keys.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_left_out_by_the_beginning_of_its_name_alone() {
        let mut keys = ["cache:1", "cache", "my cache:1", "session:\u{e9}"]
            .map(|key| key.as_bytes().to_vec())
            .to_vec();
        let left_out = ["63616368653a", "73657373696f6e3ac3"].map(|text| text.parse().unwrap());
        assert_eq!(remove(&mut keys, &left_out), 2);
        assert_eq!(keys, [b"cache".to_vec(), b"my cache:1".to_vec()]);
        assert!("6".parse::<Prefix>().is_err());
    }
}
