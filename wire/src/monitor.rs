//! Reads the lines of MONITOR: every request, in the order in which the server runs them. Pure.
//!
//! A line has a time, a database and a client in brackets, and the arguments in quotes:
//! `+1764000000.123456 [0 127.0.0.1:40312] "set" "a\x00" "1"`. Quoting is exact, also of names that
//! are no text. Values may be large and only keys matter: a long argument is counted while it is
//! read, and not kept.

use crate::bounds::{LONGEST_KEPT_ARGUMENT, LONGEST_STREAM_LINE, MOST_KEPT_ARGUMENTS, MOST_KEPT_BYTES};
use crate::resp;
use crate::stream::Argument;

/// A request, as the server ran it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Microseconds since 1970, by the server's clock.
    pub at: u64,
    pub database: u32,
    pub origin: Origin,
    /// The name first. At least one.
    pub arguments: Vec<Argument>,
}

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A client, by its address.
    Client(String),
    /// A script or a function, whoever called it.
    Script,
}

/// Reads lines, however their bytes arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// The part of the line before the first argument.
    head: Vec<u8>,
    arguments: Vec<Argument>,
    /// Bytes of the arguments that are kept.
    kept: usize,
}

#[derive(Debug, Default)]
enum State {
    /// Before the first argument.
    #[default]
    Head,
    /// Within the quotes of an argument.
    Quoted(Quoted),
    /// Behind an argument.
    Behind,
    /// After something that MONITOR does not send.
    Lost,
}

#[derive(Debug)]
struct Quoted {
    /// `None` once the argument is too long to keep.
    kept: Option<Vec<u8>>,
    length: u64,
    escape: Escape,
}

#[derive(Clone, Copy, Debug)]
enum Escape {
    None,
    /// After a backslash.
    Begun,
    /// After `\x`, with the first of its two digits once that was there.
    Hex(Option<u8>),
}

impl Quoted {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        match &mut self.kept {
            Some(kept) if kept.len() + bytes.len() <= LONGEST_KEPT_ARGUMENT => kept.extend_from_slice(bytes),
            _ => self.kept = None,
        }
    }
}

impl Decoder {
    /// Takes more bytes and gives every request that they complete. After an error the lines are
    /// lost, and every further call gives an error too.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut give: impl FnMut(Request) -> Result<(), String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            let step = match self.step(&mut bytes) {
                Ok(Some(request)) => give(request),
                Ok(None) => Ok(()),
                Err(wrong) => Err(wrong),
            };
            if let Err(wrong) = step {
                self.state = State::Lost;
                return Err(wrong);
            }
        }
        Ok(())
    }

    /// Takes some of the bytes. Returns the request that is whole with them.
    fn step(&mut self, bytes: &mut &[u8]) -> Result<Option<Request>, String> {
        if let State::Quoted(quoted) = &mut self.state
            && matches!(quoted.escape, Escape::None)
        {
            let plain = bytes
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | b'\r' | b'\n'));
            let (part, rest) = bytes.split_at(plain.unwrap_or(bytes.len()));
            if !part.is_empty() {
                quoted.add(part);
                *bytes = rest;
                return Ok(None);
            }
        }
        let Some((byte, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        *bytes = rest;
        self.byte(*byte)
    }

    fn byte(&mut self, byte: u8) -> Result<Option<Request>, String> {
        match &mut self.state {
            State::Head => match byte {
                b'"' => self.open(),
                b'\n' => return self.bare().map(|()| None),
                _ if self.head.len() < LONGEST_STREAM_LINE => self.head.push(byte),
                _ => return Err("a line that is no request".into()),
            },
            State::Quoted(quoted) => {
                let meant = match (quoted.escape, byte) {
                    (Escape::None, b'"') => {
                        self.close();
                        return Ok(None);
                    }
                    (Escape::None, b'\\') => {
                        quoted.escape = Escape::Begun;
                        return Ok(None);
                    }
                    (Escape::None, b'\r' | b'\n') => return Err("a line that ends within quotes".into()),
                    (Escape::None, plain) => plain,
                    (Escape::Begun, b'x') => {
                        quoted.escape = Escape::Hex(None);
                        return Ok(None);
                    }
                    (Escape::Begun, letter) => unescaped(letter)?,
                    (Escape::Hex(None), digit) => {
                        quoted.escape = Escape::Hex(Some(hex(digit)?));
                        return Ok(None);
                    }
                    (Escape::Hex(Some(high)), digit) => high << 4 | hex(digit)?,
                };
                quoted.escape = Escape::None;
                quoted.add(&[meant]);
            }
            State::Behind => match byte {
                b' ' | b'\r' => {}
                b'"' => self.open(),
                b'\n' => return self.whole().map(Some),
                _ => return Err("something beside the arguments of a request".into()),
            },
            State::Lost => return Err("the requests before are lost".into()),
        }
        Ok(None)
    }

    fn open(&mut self) {
        self.state = State::Quoted(Quoted {
            kept: (self.kept <= MOST_KEPT_BYTES).then(Vec::new),
            length: 0,
            escape: Escape::None,
        });
    }

    fn close(&mut self) {
        let State::Quoted(quoted) = std::mem::replace(&mut self.state, State::Behind) else {
            return;
        };
        if self.arguments.len() >= MOST_KEPT_ARGUMENTS {
            // The last one stands for all after it: a key that should be there is found skipped.
            self.arguments[MOST_KEPT_ARGUMENTS - 1] = Argument::Skipped(0);
            return;
        }
        self.arguments.push(match quoted.kept {
            Some(bytes) => {
                self.kept += bytes.len();
                Argument::Kept(bytes)
            }
            None => Argument::Skipped(quoted.length),
        });
    }

    /// Takes a line without arguments: the server's answer to MONITOR.
    fn bare(&mut self) -> Result<(), String> {
        let line = std::mem::take(&mut self.head);
        match line.trim_ascii_end() {
            b"+OK" | b"" => Ok(()),
            other => Err(format!("the server says {}", String::from_utf8_lossy(other))),
        }
    }

    fn whole(&mut self) -> Result<Request, String> {
        self.state = State::Head;
        self.kept = 0;
        let head = std::mem::take(&mut self.head);
        let arguments = std::mem::take(&mut self.arguments);
        let (at, database, origin) = parse(&head).ok_or("a request without time, database and client")?;
        Ok(Request {
            at,
            database,
            origin,
            arguments,
        })
    }
}

fn unescaped(letter: u8) -> Result<u8, String> {
    match letter {
        b'\\' | b'"' => Ok(letter),
        b'n' => Ok(b'\n'),
        b'r' => Ok(b'\r'),
        b't' => Ok(b'\t'),
        b'a' => Ok(7),
        b'b' => Ok(8),
        _ => Err("a backslash before what needs none".into()),
    }
}

fn hex(digit: u8) -> Result<u8, String> {
    let value = char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok());
    value.ok_or_else(|| "a byte whose number is none".into())
}

/// Reads `+1764000000.123456 [0 127.0.0.1:40312] `.
fn parse(head: &[u8]) -> Option<(u64, u32, Origin)> {
    let head = head.strip_prefix(b"+")?.trim_ascii_end();
    let text = std::str::from_utf8(head).ok()?;
    let (time, rest) = text.split_once(" [")?;
    let (database, client) = rest.strip_suffix(']')?.split_once(' ')?;
    let (seconds, micros) = time.split_once('.')?;
    let seconds: u64 = resp::number(seconds.as_bytes())?;
    let micros: u64 = resp::number(micros.as_bytes())?;
    let origin = match client {
        "lua" => Origin::Script,
        address => Origin::Client(address.into()),
    };
    let at = seconds.checked_mul(1_000_000)?.checked_add(micros)?;
    Some((at, resp::number(database.as_bytes())?, origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Request>, String> {
        let mut requests = Vec::new();
        Decoder::default().feed(bytes, |request| {
            requests.push(request);
            Ok(())
        })?;
        Ok(requests)
    }

    /// Quotes as the server does.
    fn quoted(bytes: &[u8]) -> Vec<u8> {
        let mut text = vec![b'"'];
        for byte in bytes {
            match byte {
                b'\\' | b'"' => text.extend([b'\\', *byte]),
                b'\n' => text.extend(b"\\n"),
                b'\r' => text.extend(b"\\r"),
                b'\t' => text.extend(b"\\t"),
                7 => text.extend(b"\\a"),
                8 => text.extend(b"\\b"),
                0x20..0x7f => text.push(*byte),
                _ => text.extend(format!("\\x{byte:02x}").bytes()),
            }
        }
        text.push(b'"');
        text
    }

    #[test]
    fn a_line_is_a_request_with_its_database_and_client() {
        let lines =
            b"+OK\r\n+1764000000.000007 [3 127.0.0.1:40312] \"set\" \"a b\" \"\"\r\n+1764000000.5 [0 lua] \"ping\"\r\n";
        let requests = read(lines).unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!((requests[0].at, requests[0].database), (1_764_000_000_000_007, 3));
        assert_eq!(requests[0].origin, Origin::Client("127.0.0.1:40312".into()));
        let kept: Vec<&[u8]> = requests[0].arguments.iter().filter_map(Argument::bytes).collect();
        assert_eq!(kept, [&b"set"[..], b"a b", b""]);
        assert_eq!(requests[1].origin, Origin::Script);
    }

    #[test]
    fn what_is_no_request_is_an_error_and_nothing_is_read_after_it() {
        for wrong in [
            &b"-ERR unknown command\r\n"[..],
            b"+1764000000.1 [0 a:1] \"set\r\n",
            b"+1764000000.1 [0 a:1] \"\\q\"\r\n",
            b"+1764000000.1 [0 a:1] \"\\xg0\"\r\n",
            b"+1764000000.1 \"set\"\r\n",
            b"+1764000000.1 [0 a:1] \"set\" x\r\n",
        ] {
            assert!(read(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        let mut decoder = Decoder::default();
        assert!(decoder.feed(b"-ERR\r\n", |_| Ok(())).is_err());
        assert!(decoder.feed(b"+OK\r\n", |_| Ok(())).is_err());
    }

    #[test]
    fn a_value_of_any_length_is_read_in_bounded_memory() {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        let mut feed = |bytes: &[u8]| {
            decoder
                .feed(bytes, |request| {
                    found.push(request.arguments);
                    Ok(())
                })
                .unwrap();
            match &decoder.state {
                State::Quoted(quoted) => quoted.kept.as_ref().map_or(0, Vec::capacity),
                _ => 0,
            }
        };
        feed(b"+1.1 [0 a:1] \"set\" \"a\" \"");
        let part = vec![b'v'; 1 << 20];
        for _ in 0..64 {
            assert!(feed(&part) <= LONGEST_KEPT_ARGUMENT);
        }
        feed(b"\"\r\n");
        assert_eq!(found[0][2], Argument::Skipped(64 << 20));
    }

    #[test]
    fn a_key_behind_too_many_arguments_is_not_taken_for_another() {
        let mut line = b"+1.1 [0 a:1] \"del\"".to_vec();
        for _ in 0..MOST_KEPT_ARGUMENTS + 10 {
            line.extend(b" \"a\"");
        }
        line.extend(b"\r\n");
        let arguments = &read(&line).unwrap()[0].arguments;
        assert_eq!(arguments.len(), MOST_KEPT_ARGUMENTS);
        assert_eq!(arguments.last(), Some(&Argument::Skipped(0)));
    }

    #[test]
    fn a_long_argument_is_counted_and_not_kept() {
        let long = vec![0xff; LONGEST_KEPT_ARGUMENT + 5];
        let line = [&b"+1.1 [0 a:1] "[..], &quoted(&long), b"\r\n"].concat();
        let requests = read(&line).unwrap();
        assert_eq!(requests[0].arguments, [Argument::Skipped(long.len() as u64)]);
    }

    proptest! {
        #[test]
        fn every_argument_is_read_as_it_was_whatever_its_bytes(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in 1_usize..50,
        ) {
            let mut line = b"+1764000000.123456 [0 127.0.0.1:1]".to_vec();
            for argument in &arguments {
                line.push(b' ');
                line.extend(quoted(argument));
            }
            line.extend(b"\r\n");
            let mut found = Vec::new();
            let mut decoder = Decoder::default();
            for part in line.chunks(cut) {
                decoder.feed(part, |request| { found.push(request); Ok(()) }).unwrap();
            }
            let expected: Vec<Argument> = arguments.into_iter().map(Argument::Kept).collect();
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(&found[0].arguments, &expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
