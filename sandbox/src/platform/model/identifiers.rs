//! Ids that look random and come from a seed, so that the model needs no source of randomness.

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

#[derive(Clone)]
pub(super) struct Identifiers {
    seed: String,
    given: u64,
}

impl Identifiers {
    pub fn new(seed: &str) -> Self {
        Self {
            seed: seed.to_owned(),
            given: 0,
        }
    }

    pub fn next(&mut self) -> Uuid {
        self.given += 1;
        let digest = Sha256::digest(format!("{} {}", self.seed, self.given));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
