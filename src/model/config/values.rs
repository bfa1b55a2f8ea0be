//! The forms of single values that stay texts: vars, patterns, domains, commands.

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
