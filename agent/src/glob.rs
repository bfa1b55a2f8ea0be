//! Patterns for keys, with the meaning that the engine gives them: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`, and `\` before a character that means itself. Source: Redis 7 and 8,
//! `util.c`.

/// Whether a key's name is one of the pattern's.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: it then stands for one byte more.
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

/// How long the item at the pattern's beginning is, if it stands for this byte.
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

/// Whether the class at the pattern's beginning has this byte, and how long it is. One that does not end goes up to the pattern's end.
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
    fn patterns_mean_what_the_engine_takes_them_for() {
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
