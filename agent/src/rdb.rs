//! Reads a base's version and time from its first bytes, and checks it with the engine's program.
//! Source: Redis 7 and 8, `rdb.c`; Valkey 8 and 9.

use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u32,
    /// Seconds since 1970.
    pub created: Option<i64>,
    /// True if the file ends after these fields, so that it holds nothing.
    pub is_empty: bool,
}

/// Returns the header; `None` if the file is no base.
pub fn header(file: &mut impl Read) -> Option<Header> {
    let mut begin = Vec::new();
    // Auxiliary fields are short and come first.
    file.take(4096).read_to_end(&mut begin).ok()?;
    let (version, mut rest) = match begin.strip_prefix(b"REDIS") {
        Some(rest) => rest.split_at_checked(4)?,
        None => begin.strip_prefix(b"VALKEY")?.split_at_checked(3)?,
    };
    let version = std::str::from_utf8(version).ok()?.parse().ok()?;
    let mut created = None;
    while let Some((0xfa, after)) = rest.split_first() {
        let Some((name, after)) = string(after) else { break };
        let Some((value, after)) = string(after) else { break };
        if name == b"ctime" {
            created = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
        }
        rest = after;
    }
    Some(Header {
        version,
        created,
        is_empty: rest.first() == Some(&0xff),
    })
}

/// Reads a whole base with the engine's own program, and returns its number of keys.
pub fn count(program: &str, file: &Path) -> Result<u64> {
    let output = Command::new("nice")
        .args(["-n", "10", program])
        .arg(file)
        .output()
        .with_context(|| format!("run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let tail: Vec<&str> = text.lines().rev().take(2).collect();
        bail!("{program} finds the base damaged: {}", tail.join("; "));
    }
    text.lines()
        .find_map(|line| line.strip_prefix("[info] ")?.strip_suffix(" keys read")?.parse().ok())
        .with_context(|| format!("{program} does not say how many keys it read"))
}

/// Reads a string in one of the short encodings; an integer becomes its digits.
fn string(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let plain = |length: usize, rest: &'_ [u8]| -> Option<usize> { (length <= rest.len()).then_some(length) };
    match (first >> 6, first & 0x3f) {
        (0, length) => {
            let length = plain(length.into(), rest)?;
            Some((rest[..length].to_vec(), &rest[length..]))
        }
        (1, high) => {
            let (low, rest) = rest.split_first()?;
            let length = plain(usize::from(high) << 8 | usize::from(*low), rest)?;
            Some((rest[..length].to_vec(), &rest[length..]))
        }
        (3, 0) => {
            let (value, rest) = rest.split_first_chunk::<1>()?;
            Some((i8::from_le_bytes(*value).to_string().into_bytes(), rest))
        }
        (3, 1) => {
            let (value, rest) = rest.split_first_chunk::<2>()?;
            Some((i16::from_le_bytes(*value).to_string().into_bytes(), rest))
        }
        (3, 2) => {
            let (value, rest) = rest.split_first_chunk::<4>()?;
            Some((i32::from_le_bytes(*value).to_string().into_bytes(), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_time_are_read_from_the_fields_before_the_data() {
        let mut bytes = b"REDIS0012\xfa\x09redis-ver\x058.0.2\xfa\x0aredis-bits\xc0\x40\xfa\x05ctime\xc2".to_vec();
        bytes.extend(1_764_000_000_i32.to_le_bytes());
        bytes.extend(b"\xfa\x08used-mem\xc2\x00\x00\x10\x00\xfe\x00");
        let wanted = Header {
            version: 12,
            created: Some(1_764_000_000),
            is_empty: false,
        };
        assert_eq!(header(&mut &bytes[..]), Some(wanted));
        for cut in 0..bytes.len() {
            let _ = header(&mut &bytes[..cut]);
        }
        assert_eq!(
            header(&mut &b"VALKEY080\xff"[..]).map(|header| (header.version, header.is_empty)),
            Some((80, true))
        );
        assert_eq!(header(&mut &b"*1\r\n$4\r\nPING\r\n"[..]), None);
    }
}
