//! Matches keys against patterns as the engine does: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`, and `\`
//! for a character that means itself. Source: Redis 7 and 8, `util.c`.

/// Returns whether the pattern matches a key's name.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    // If the rest does not match, the search goes on from here, and the last `*` takes one byte
    // more.
    let mut again: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            again = Some((at + 1, here));
            at += 1;
            continue;
        }
        let fits = match name.get(here) {
            Some(byte) => one(&pattern[at..], *byte),
            None if at == pattern.len() => return true,
            None => None,
        };
        match (fits, again) {
            (Some(length), _) => (at, here) = (at + length, here + 1),
            (None, Some((from, skipped))) if skipped < name.len() => {
                again = Some((from, skipped + 1));
                (at, here) = (from, skipped + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Returns the length of the pattern's first item if it matches this byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let (fits, length) = class(pattern, byte);
            fits.then_some(length)
        }
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        plain => (plain == byte).then_some(1),
    }
}

/// Returns whether the first class has this byte, and its length. Without `]` it takes the rest.
fn class(pattern: &[u8], byte: u8) -> (bool, usize) {
    let not = pattern.get(1) == Some(&b'^');
    let mut at = 1 + usize::from(not);
    let mut has = false;
    loop {
        match &pattern[at.min(pattern.len())..] {
            [] => return (has != not, pattern.len()),
            [b']', ..] => return (has != not, at + 1),
            [b'\\', escaped, ..] => {
                has |= *escaped == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                has |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                has |= *plain == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_the_engine() {
        let fitting = [
            ("*", ""),
            ("user:*", "user:"),
            ("user:*:name", "user:1:name:name"),
            ("h?llo", "hallo"),
            ("h[ae]llo", "hello"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("a\\*b", "a*b"),
            ("[\\]]", "]"),
            ("**a", "bba"),
            ("a[b", "ab"),
        ];
        for (pattern, name) in fitting {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        let others = [
            ("", "a"),
            ("user:*", "users"),
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("a\\*b", "aab"),
            ("a*b", "abc"),
            ("[", ""),
        ];
        for (pattern, name) in others {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        assert!(matches(b"\xff*", b"\xff\x00\r\n"));
    }

    #[test]
    fn many_stars_take_no_more_time_than_few() {
        let pattern = [b"*a".repeat(200), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &b"a".repeat(100_000)));
    }
}
