//! RESP, the protocol: commands as they go over the wire and into a log, and the numbers, lengths and replies that come back.

use crate::bounds::LONGEST_ANSWER_LINE;
use std::io::{self, Write};
use std::str::FromStr;

/// Adds a command, as it goes over the wire.
pub fn encode(bytes: &mut Vec<u8>, words: &[&[u8]]) {
    // A vector refuses nothing.
    let _ = write(bytes, words);
}

/// Writes the same into a file or another writer.
pub fn write(sink: &mut (impl Write + ?Sized), words: &[&[u8]]) -> io::Result<()> {
    header(sink, b'*', words.len())?;
    for word in words {
        header(sink, b'$', word.len())?;
        sink.write_all(word)?;
        sink.write_all(b"\r\n")?;
    }
    Ok(())
}

/// Formatting machinery costs more than the digits where this is done a million times.
fn header(sink: &mut (impl Write + ?Sized), sign: u8, mut number: usize) -> io::Result<()> {
    let mut line = *b"......................\r\n";
    let mut start = line.len() - 2;
    loop {
        start -= 1;
        line[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    start -= 1;
    line[start] = sign;
    sink.write_all(&line[start..])
}

/// Returns a count or a length that was announced; `None` if it is not made of digits alone.
#[inline]
pub fn length(digits: &[u8]) -> Option<u64> {
    let (first, rest) = digits.split_first()?;
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    rest.iter().try_fold(digit(first)?, |number, byte| {
        number.checked_mul(10)?.checked_add(digit(byte)?)
    })
}

/// Returns the number that an argument is; `None` if it is none of that type.
pub fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Returns where the reply ends that begins at `start`: an integer, an error, or a string of at most `longest` bytes; `None` if not all of it is there yet.
#[inline]
pub fn end_of_reply(received: &[u8], start: usize, longest: usize) -> Result<Option<usize>, String> {
    let wrong = || "the server's reply is none of Redis".to_owned();
    let rest = &received[start..];
    let Some(line) = rest.iter().position(|byte| *byte == b'\n') else {
        return if rest.len() > LONGEST_ANSWER_LINE {
            Err(wrong())
        } else {
            Ok(None)
        };
    };
    let end = start + line + 1;
    match rest.first() {
        Some(b':' | b'-') => Ok(Some(end)),
        Some(b'$') => {
            let length = length(rest[1..line].trim_ascii_end()).and_then(|length| usize::try_from(length).ok());
            let length = length.filter(|length| *length <= longest).ok_or_else(wrong)?;
            let end = end + length + 2;
            Ok((end <= received.len()).then_some(end))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_is_encoded_with_the_lengths_of_its_words_in_bytes() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &[b"SET", b"", "\u{e9}\r\n789012".as_bytes()]);
        assert_eq!(
            bytes,
            "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$10\r\n\u{e9}\r\n789012\r\n".as_bytes()
        );
        bytes.clear();
        header(&mut bytes, b'*', usize::MAX).unwrap();
        assert_eq!(bytes, format!("*{}\r\n", usize::MAX).into_bytes());
    }

    #[test]
    fn a_length_is_made_of_digits_alone_and_no_larger_than_it_can_be() {
        for (digits, wanted) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1 ", None),
        ] {
            assert_eq!(length(digits.as_bytes()), wanted, "{digits:?}");
        }
    }

    proptest! {
        #[test]
        fn replies_are_cut_where_they_end_however_many_bytes_are_there(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
        ) {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for (at, value) in values.iter().enumerate() {
                match at % 3 {
                    0 => bytes.extend_from_slice(format!(":-{}\r\n", value.len()).as_bytes()),
                    1 => bytes.extend_from_slice(b"-ERR no\r\n"),
                    _ => {
                        bytes.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
                        bytes.extend_from_slice(value);
                        bytes.extend_from_slice(b"\r\n");
                    }
                }
                ends.push(bytes.len());
            }
            for there in 0..=bytes.len() {
                let mut found = Vec::new();
                while let Some(end) = end_of_reply(&bytes[..there], found.last().copied().unwrap_or(0), 40).unwrap() {
                    found.push(end);
                }
                let whole: Vec<usize> = ends.iter().copied().filter(|end| *end <= there).collect();
                prop_assert_eq!(found, whole);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = end_of_reply(&bytes, 0, 40);
        }
    }
}
