//! Values that check themselves while they are read: names, blocks of addresses, times, amounts, pins.

use ipnet::Ipv4Net;
use jiff::SignedDuration;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

/// Parses a text where it stands, so that an error names the field that it stands in.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Lets a type be read from a text in YAML or JSON by its `FromStr`.
macro_rules! read_from_text {
    ($($type:ident $(<$limit:ident>)?),*) => {
        $(impl<'de $(, const $limit: usize)?> Deserialize<'de> for $type$(<$limit>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        })*
    };
}

read_from_text!(Name<LONGEST>, Cidr, Span, Bytes, Pin);

/// A name that fits into names of buckets, roles and tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name<const LONGEST: usize>(String);

impl<const LONGEST: usize> FromStr for Name<LONGEST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= LONGEST
            && !text.ends_with('-')
            && text.bytes().all(is_part);
        if fits {
            return Ok(Name(text.into()));
        }
        Err(format!(
            "{text:?} is not 1 to {LONGEST} lower-case letters, digits and hyphens that begin with a letter"
        ))
    }
}

impl<const LONGEST: usize> Deref for Name<LONGEST> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const LONGEST: usize> fmt::Display for Name<LONGEST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

/// A block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(Ipv4Net);

impl Cidr {
    /// All addresses.
    pub const WORLD: Cidr = Cidr(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));

    /// Returns the number of fixed bits.
    pub fn bits(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Returns the block without the bits of a host, as AWS keeps it: 10.0.0.7/24 is 10.0.0.0/24.
    pub fn network(&self) -> String {
        self.0.trunc().to_string()
    }
}

impl From<Ipv4Addr> for Cidr {
    fn from(address: Ipv4Addr) -> Self {
        Cidr(address.into())
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Other programs read 010 as eight, so a number that begins with a zero is none.
        let block = text.parse().ok().filter(|block: &Ipv4Net| block.to_string() == text);
        let wrong = || format!("{text:?} is not an IPv4 block such as 203.0.113.7/32");
        block.map(Cidr).ok_or_else(wrong)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A span of time, such as `90s`, `2m` or `1h`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse::<u32>().map(|number| format!("{number}s"));
        let span: Option<SignedDuration> = seconds.as_deref().unwrap_or(text).parse().ok();
        let span = span.and_then(|span| Duration::try_from(span).ok()).map(Span);
        span.ok_or_else(|| format!("{text:?} is not a time such as 500ms, 90s, 2m or 1h"))
    }
}

/// The SHA-256 of a certificate: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(pub trust::Digest);

impl FromStr for Pin {
    type Err = trust::Error;

    fn from_str(text: &str) -> Result<Self, trust::Error> {
        text.parse().map(Pin)
    }
}

/// An amount of memory in redis.conf's form: `400mb`, `1gb`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        let unit = lower.trim_start_matches(|c: char| c.is_ascii_digit());
        let factor: Option<u64> = match unit {
            "" | "b" => Some(1),
            "k" => Some(1000),
            "kb" => Some(1 << 10),
            "m" => Some(1_000_000),
            "mb" => Some(1 << 20),
            "g" => Some(1_000_000_000),
            "gb" => Some(1 << 30),
            _ => None,
        };
        let number = lower.strip_suffix(unit).and_then(|digits| digits.parse::<u64>().ok());
        let bytes = number
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor));
        let bytes = bytes.filter(|bytes| *bytes > 0).map(Bytes);
        bytes.ok_or_else(|| format!("{text:?} is not an amount such as 400mb"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read_as_redis_reads_them() {
        assert_eq!("400mb".parse(), Ok(Bytes(400 << 20)));
        assert_eq!("1GB".parse(), Ok(Bytes(1 << 30)));
        assert_eq!("10k".parse(), Ok(Bytes(10_000)));
        for wrong in ["mb", "0", "-1mb", "4 00mb", "99999999999999999999gb", "17179869184gb"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit_and_a_bare_number_is_seconds() {
        for (text, milliseconds) in [("90", 90_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(milliseconds))), "{text}");
        }
        for wrong in ["", "soon", "-1h", "3 days", "99999999999999999h"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_block_keeps_its_address_and_knows_its_network() {
        let block: Cidr = "203.0.113.7/24".parse().unwrap();
        assert_eq!((block.to_string().as_str(), block.bits()), ("203.0.113.7/24", 24));
        assert_eq!(block.network(), "203.0.113.0/24");
        assert_eq!(Cidr::WORLD.to_string(), "0.0.0.0/0");
        for wrong in [
            "everyone",
            "203.0.113.7",
            "203.0.113.7/33",
            "203.0.113.007/32",
            "2001:db8::/32",
        ] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_begins_with_a_letter_and_does_not_end_with_a_hyphen() {
        assert_eq!(&*"demo-1".parse::<Name<6>>().unwrap(), "demo-1");
        for wrong in ["", "Demo", "1demo", "demo-", "demo_1", "demo-12"] {
            assert!(wrong.parse::<Name<6>>().is_err(), "{wrong}");
        }
    }
}
