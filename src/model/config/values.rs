//! The forms of single values: names, amounts, periods, addresses.

/// Returns the bytes of an amount in redis.conf's form: `400mb`, `1gb`, `1048576`.
pub fn parse_memory(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|bytes| *bytes > 0)
}

/// Returns the seconds of a period such as `1h` or `30m`, from five minutes to a day.
pub(super) fn period(text: &str) -> Option<u64> {
    let (digits, factor) = match text.chars().last()? {
        'h' => (&text[..text.len() - 1], 3600),
        'm' => (&text[..text.len() - 1], 60),
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|seconds| (300..=86_400).contains(seconds))
}

/// Returns true if the text fits into names of buckets, roles and tags.
pub fn is_name(text: &str, longest: usize) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    first
        && text.len() <= longest
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

pub(super) fn is_var(text: &str) -> bool {
    !text.is_empty()
        && !text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Returns true if the pattern is one word of users.acl.
pub(super) fn is_pattern(pattern: &str) -> bool {
    let rule = pattern.strip_prefix("%R~").or(pattern.strip_prefix("%W~"));
    let rule = rule.unwrap_or(pattern);
    !rule.is_empty() && rule.len() <= 512 && rule.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

/// Returns true for a name of several labels, as certificates have it; no address, no wildcard.
pub(super) fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = text.len() <= 253 && text.contains('.') && text.split('.').all(label);
    is_name && text.parse::<std::net::IpAddr>().is_err()
}

pub(super) fn is_command(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'|' | b'-' | b'_' | b'.'))
}

pub(super) fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        address.parse::<std::net::Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read_as_redis_reads_them() {
        assert_eq!(parse_memory("400mb"), Some(400 << 20));
        assert_eq!(parse_memory("1GB"), Some(1 << 30));
        assert_eq!(parse_memory("10k"), Some(10_000));
        assert_eq!(parse_memory("mb"), None);
        assert_eq!(parse_memory("99999999999999999999gb"), None);
    }
}
