//! A key of a database, and its form for people.

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub database: u32,
    pub name: Vec<u8>,
}

/// Returns bytes as text for people: printable characters unchanged, others escaped, at most 120.
pub fn printable(bytes: &[u8]) -> String {
    const LONGEST: usize = 120;
    let mut text = String::new();
    for chunk in bytes[..bytes.len().min(4 * LONGEST)].utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                printable if !printable.is_control() => text.push(printable),
                control => text.extend(control.escape_default()),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_with_their_length() {
        let shown = printable("é".repeat(300).as_bytes());
        assert!(
            shown.starts_with(&"é".repeat(120)) && shown.ends_with("… (600 bytes)"),
            "{shown}"
        );
        assert_eq!(printable(b"plain:key\\"), "plain:key\\\\");
    }

    proptest::proptest! {
        #[test]
        fn shown_names_have_no_control_characters(name: Vec<u8>) {
            assert!(!printable(&name).chars().any(char::is_control));
        }
    }
}
