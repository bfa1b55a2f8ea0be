//! The values that are built on the target under temporary names.
//!
//! The names begin with random digits that are chosen once and kept in the journal: no key of the
//! app has such a name, and what a killed process left is found and removed.

use super::parts::Part;
use std::hash::{BuildHasher, RandomState};

/// So many values are built at once.
pub const AT_ONCE: usize = 500;

/// The values that are being built.
#[derive(Default)]
pub struct Building {
    /// How the temporary names begin.
    pub prefix: Vec<u8>,
    /// Parts whose answers have not been read.
    pub parts: usize,
    /// The target's words about the first part that it refused.
    pub refused: Option<String>,
    /// A pending entry was claimed, and its stream has no such entry.
    pub lacks_a_claim: bool,
}

/// Returns a beginning of names that nobody else has.
pub fn new_prefix() -> String {
    // Each state is made of random numbers of the system.
    let digits = [0_u8, 1].map(|word| RandomState::new().hash_one(word));
    format!("infra:copying:{:016x}{:016x}:", digits[0], digits[1])
}

/// A value that was read by its type.
pub struct Typed {
    pub key: Vec<u8>,
    pub parts: Vec<Part>,
    /// Milliseconds since 1970; `None` for never.
    pub expires: Option<i64>,
}

impl Typed {
    /// Returns the value if it is a string, which one command writes.
    pub fn string(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [part] => part.string(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_copies_have_the_same_temporary_names() {
        let (one, other) = (new_prefix(), new_prefix());
        assert_ne!(one, other);
        assert_eq!(one.len(), "infra:copying::".len() + 32);
    }
}
