//! Reads answers of RESP2. An answer that is longer than its reader wants is read to its end and
//! dropped on the way, so that no answer takes more memory than was meant for it.

use redis::{Value, parse_redis_value};
use std::io::{self, BufRead, Read};

/// Longer lines are no protocol: a line is a number, a state or an error.
const LONGEST_LINE: u64 = 64 << 10;
/// Arrays in arrays in arrays: no answer goes deeper.
const DEEPEST: u32 = 16;
/// Room that one value takes besides its bytes.
const OVERHEAD: usize = 56;
/// A count that a server announces is believed up to this many.
const BELIEVED: usize = 4096;

/// Reads one answer. Returns `None` if it takes more than `most` bytes of memory.
pub fn read(stream: &mut impl BufRead, most: usize) -> io::Result<Option<Value>> {
    let mut reader = Reader {
        stream,
        left: most,
        is_over: false,
        line: Vec::new(),
    };
    let value = reader.value(0)?;
    Ok((!reader.is_over).then_some(value))
}

/// Reads the beginning of an array. Returns how many values follow, or another answer as a whole.
pub fn begin(stream: &mut impl BufRead) -> io::Result<Result<usize, Value>> {
    let mut reader = Reader {
        stream,
        left: LONGEST_LINE as usize,
        is_over: false,
        line: Vec::new(),
    };
    reader.line()?;
    match reader.line.split_first() {
        Some((b'*', count)) => Ok(usize::try_from(number(count)?).map_err(|_| Value::Nil)),
        _ => reader.read_line(0).map(Err),
    }
}

struct Reader<'a, S> {
    stream: &'a mut S,
    /// Bytes that may still be kept.
    left: usize,
    is_over: bool,
    line: Vec<u8>,
}

impl<S: BufRead> Reader<'_, S> {
    fn value(&mut self, depth: u32) -> io::Result<Value> {
        self.line()?;
        self.read_line(depth)
    }

    /// Reads the value that begins with the line that was read.
    fn read_line(&mut self, depth: u32) -> io::Result<Value> {
        self.spend(OVERHEAD);
        let (sign, rest) = self.line.split_first().ok_or_else(|| wrong("an empty line"))?;
        match sign {
            b'+' if rest == b"OK" => Ok(Value::Okay),
            b'+' => Ok(Value::SimpleString(String::from_utf8_lossy(rest).into_owned())),
            b':' => Ok(Value::Int(number(rest)?)),
            b'-' => {
                let line = [self.line.as_slice(), b"\r\n"].concat();
                parse_redis_value(&line).map_err(io::Error::other)
            }
            b'$' => match usize::try_from(number(rest)?) {
                Ok(length) => self.bytes(length),
                Err(_) => Ok(Value::Nil),
            },
            b'*' if depth < DEEPEST => match usize::try_from(number(rest)?) {
                Ok(count) => self.array(count, depth),
                Err(_) => Ok(Value::Nil),
            },
            _ => Err(wrong("an answer of another protocol")),
        }
    }

    fn array(&mut self, count: usize, depth: u32) -> io::Result<Value> {
        let mut values = Vec::with_capacity(count.min(BELIEVED));
        for _ in 0..count {
            let value = self.value(depth + 1)?;
            if self.is_over {
                values = Vec::new();
            } else {
                values.push(value);
            }
        }
        Ok(Value::Array(values))
    }

    fn bytes(&mut self, length: usize) -> io::Result<Value> {
        self.spend(length);
        if self.is_over {
            let skipped = io::copy(&mut self.stream.by_ref().take(length as u64), &mut io::sink())?;
            if skipped < length as u64 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.end_of_line()?;
            return Ok(Value::Nil);
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        self.end_of_line()?;
        Ok(Value::BulkString(bytes))
    }

    fn end_of_line(&mut self) -> io::Result<()> {
        let mut end = [0; 2];
        self.stream.read_exact(&mut end)?;
        if end == *b"\r\n" {
            Ok(())
        } else {
            Err(wrong("a value without its end"))
        }
    }

    /// Reads a line without its end.
    fn line(&mut self) -> io::Result<()> {
        self.line.clear();
        self.stream
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut self.line)?;
        if self.line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(line) = self.line.strip_suffix(b"\r\n") else {
            return Err(wrong("a line without its end"));
        };
        self.line.truncate(line.len());
        Ok(())
    }

    fn spend(&mut self, bytes: usize) {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => self.is_over = true,
        }
    }
}

fn number(digits: &[u8]) -> io::Result<i64> {
    wire::resp::number(digits).ok_or_else(|| wrong("a length that is no number"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_answer_is_read() {
        let mut answers =
            &b"+OK\r\n+QUEUED\r\n:-7\r\n$-1\r\n*-1\r\n*3\r\n$2\r\n\r\n\r\n:1\r\n*0\r\n-ERR no such key\r\n"[..];
        let mut next = || read(&mut answers, 1 << 20).unwrap().unwrap();
        assert_eq!(next(), Value::Okay);
        assert_eq!(next(), Value::SimpleString("QUEUED".into()));
        assert_eq!(next(), Value::Int(-7));
        assert_eq!((next(), next()), (Value::Nil, Value::Nil));
        let inner = Value::Array(Vec::new());
        let parts = vec![Value::BulkString(b"\r\n".into()), Value::Int(1), inner];
        assert_eq!(next(), Value::Array(parts));
        let Value::ServerError(error) = next() else {
            panic!("an error is an error")
        };
        assert!(error.to_string().contains("no such key"), "{error}");
        assert!(read(&mut answers, 100).is_err(), "the end is no answer");
    }

    #[test]
    fn an_answer_that_is_too_long_is_left_out_and_the_next_one_is_read() {
        let long = "x".repeat(1000);
        let text = format!("*2\r\n$1000\r\n{long}\r\n$1000\r\n{long}\r\n$1000\r\n{long}\r\n:5\r\n");
        let mut answers = text.as_bytes();
        assert_eq!(read(&mut answers, 1500).unwrap(), None);
        assert_eq!(read(&mut answers, 100).unwrap(), None);
        assert_eq!(read(&mut answers, 100).unwrap(), Some(Value::Int(5)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = read(&mut bytes.as_slice(), 1 << 16);
        }

        #[test]
        fn it_reads_what_the_parser_of_the_library_reads(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let mut text = format!("*{}\r\n", values.len()).into_bytes();
            for value in &values {
                text.extend(format!("${}\r\n", value.len()).bytes());
                text.extend(value);
                text.extend(b"\r\n");
            }
            prop_assert_eq!(read(&mut text.as_slice(), 1 << 16).unwrap(), Some(parse_redis_value(&text).unwrap()));
        }
    }
}
