//! The memory that entries take in Redis, from a sample, as jemalloc rounds it.

use crate::model::import::{Entry, Part};

/// A slot of the dictionary of keys, its share of the table, and the object of the value.
const KEY: usize = 24 + 12 + 16;
/// A slot of the dictionary of expiries.
const EXPIRY: usize = 24 + 12;
/// Above this many elements, or bytes in one of them, a collection is no longer kept compact.
const COMPACT: (usize, usize) = (128, 64);

/// Returns the bytes of a key of its own with this value.
pub fn bytes(entry: &Entry) -> u64 {
    let expiry = if entry.expires_at.is_some() { EXPIRY } else { 0 };
    (KEY + text(entry.key.len()) + expiry + value(&entry.part)) as u64
}

/// Returns the bytes that a row adds to a key that others share.
pub fn member_bytes(part: &Part) -> u64 {
    match part {
        Part::SortedSet(members) => members
            .iter()
            .map(|(member, _)| 24 + 12 + 40 + text(member.len()))
            .sum::<usize>() as u64,
        Part::Set(members) => members.iter().map(|member| 24 + 12 + text(member.len())).sum::<usize>() as u64,
        Part::String(_) | Part::Hash(_) | Part::List(_) => value(part) as u64,
    }
}

fn value(part: &Part) -> usize {
    match part {
        Part::String(value) => text_value(value),
        Part::Hash(fields) => {
            let lengths = fields.iter().flat_map(|(field, value)| [field.len(), value.len()]);
            collection(lengths, 24 + 12)
        }
        Part::List(items) => rounded(items.iter().map(|item| item.len() + 3).sum::<usize>() + 7) + 64 + 40,
        Part::Set(members) => collection(members.iter().map(Vec::len), 24 + 12),
        Part::SortedSet(members) => collection(members.iter().map(|(member, _)| member.len() + 9), 24 + 12 + 40),
    }
}

/// Numbers are kept in the object itself, short texts behind it.
fn text_value(value: &[u8]) -> usize {
    let is_number = std::str::from_utf8(value).is_ok_and(|text| text.parse::<i64>().is_ok());
    match value.len() {
        _ if is_number => 0,
        0..=44 => rounded(16 + 3 + value.len() + 1) - 16,
        longer => text(longer),
    }
}

fn collection(lengths: impl Iterator<Item = usize> + Clone, node: usize) -> usize {
    let (count, longest) = lengths
        .clone()
        .fold((0, 0), |(count, longest), length| (count + 1, longest.max(length)));
    if count <= COMPACT.0 && longest <= COMPACT.1 {
        return rounded(lengths.map(|length| length + 2).sum::<usize>() + 7);
    }
    lengths.map(|length| node / 2 + text(length)).sum()
}

/// A text has a header and ends with a zero.
fn text(length: usize) -> usize {
    let header = if length < 32 {
        1
    } else if length < 256 {
        3
    } else {
        5
    };
    rounded(header + length + 1)
}

/// The sizes that the allocator has: four steps to each power of two.
fn rounded(bytes: usize) -> usize {
    match bytes {
        0..=8 => 8,
        9..=128 => bytes.div_ceil(16) * 16,
        _ => {
            let step = bytes.next_power_of_two() / 8;
            bytes.div_ceil(step) * step
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_allocator() {
        for (bytes, size) in [
            (1, 8),
            (9, 16),
            (17, 32),
            (129, 160),
            (161, 192),
            (257, 320),
            (1025, 1280),
        ] {
            assert_eq!(rounded(bytes), size, "{bytes}");
        }
    }
}
