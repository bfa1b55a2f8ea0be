//! The ids of a stream's entries.

use std::fmt;

/// Two numbers: milliseconds since 1970 mostly, and a count within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u64, u64);

impl Id {
    /// Reads an id as a server gives it.
    pub fn read(text: &[u8]) -> Option<Id> {
        let (time, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Id(time.parse().ok()?, number.parse().ok()?))
    }

    /// Reads the id of an entry as a request names it: the second number may be absent.
    pub fn named(text: &[u8]) -> Option<Id> {
        if text.contains(&b'-') {
            return Id::read(text);
        }
        Some(Id(std::str::from_utf8(text).ok()?.parse().ok()?, 0))
    }

    pub fn next(self) -> Option<Id> {
        match self.1.checked_add(1) {
            Some(number) => Some(Id(self.0, number)),
            None => Some(Id(self.0.checked_add(1)?, 0)),
        }
    }

    pub fn bytes(self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_next_one_until_the_last() {
        assert_eq!(Id::read(b"5-7"), Some(Id(5, 7)));
        assert_eq!(Id::read(b"5"), None);
        assert_eq!((Id::named(b"5"), Id::named(b"5-7")), (Some(Id(5, 0)), Some(Id(5, 7))));
        assert_eq!((Id::named(b"5-*"), Id::named(b"")), (None, None));
        assert_eq!(Id(5, 7).next(), Some(Id(5, 8)));
        assert_eq!(Id(5, u64::MAX).next(), Some(Id(6, 0)));
        assert_eq!(Id(u64::MAX, u64::MAX).next(), None);
    }
}
