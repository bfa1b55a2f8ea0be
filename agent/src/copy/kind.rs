//! The types of values that can be copied element by element.

/// A type of value that every engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
}

impl Kind {
    /// Returns the type by its name in the answer to TYPE; `None` for one that only some engines have.
    pub fn named(name: &str) -> Option<Kind> {
        Some(match name {
            "string" => Kind::String,
            "list" => Kind::List,
            "set" => Kind::Set,
            "zset" => Kind::SortedSet,
            "hash" => Kind::Hash,
            "stream" => Kind::Stream,
            _ => return None,
        })
    }

    /// Returns the command for the number of elements; of a string, of its bytes.
    pub fn length_command(self) -> &'static [u8] {
        match self {
            Kind::String => b"STRLEN",
            Kind::List => b"LLEN",
            Kind::Set => b"SCARD",
            Kind::SortedSet => b"ZCARD",
            Kind::Hash => b"HLEN",
            Kind::Stream => b"XLEN",
        }
    }

    /// Returns the command that removes members by their names; `None` for a type without names.
    pub fn removal_command(self) -> Option<&'static [u8]> {
        match self {
            Kind::Hash => Some(b"HDEL"),
            Kind::Set => Some(b"SREM"),
            Kind::SortedSet => Some(b"ZREM"),
            Kind::String | Kind::List | Kind::Stream => None,
        }
    }

    /// Returns a guess of the bytes of so many elements, where the source does not say them.
    pub fn guess(self, length: u64) -> u64 {
        match self {
            Kind::String => length,
            Kind::Stream => length.saturating_mul(256),
            _ => length.saturating_mul(64),
        }
    }
}
