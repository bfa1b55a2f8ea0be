//! A stream on which no answer is endless, and none makes more of itself than it is.
//!
//! The client's parser keeps what it reads until an answer is whole, and a value of four bytes on the wire takes sixty in memory. So what comes is walked through by
//! its lengths before the parser sees it: bytes and values are counted since something was last said, and what is announced beyond the bounds is refused at once.

use super::stream::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// No value is larger than 512 MiB, and a comparison asks for a batch of small ones at once.
const MOST_BYTES: u64 = if cfg!(test) { 16 << 20 } else { 768 << 20 };
/// Values in one answer, or in those to one batch of commands.
const MOST_VALUES: u64 = if cfg!(test) { 1 << 18 } else { 1 << 22 };
/// A line that announces a length has a sign and some digits.
const LONGEST_HEADER: usize = 64;

pub(super) struct Bounded {
    stream: Stream,
    walk: Walk,
}

/// Where in an answer the bytes are.
#[derive(Debug, Default)]
struct Walk {
    bytes: u64,
    values: u64,
    /// Of a value whose length was announced, with its line end; these mean nothing here.
    left: u64,
    /// The beginning of the line that is coming in.
    line: Vec<u8>,
    refused: Option<String>,
}

impl Bounded {
    pub(super) fn new(stream: Stream) -> Self {
        Bounded {
            stream,
            walk: Walk::default(),
        }
    }
}

impl Walk {
    fn go_on(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST_BYTES {
            return Err(format!("an answer of more than {MOST_BYTES} bytes"));
        }
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[step..];
                self.left -= step as u64;
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            let room = (LONGEST_HEADER + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            bytes = rest;
            if end.is_some() {
                self.whole_line()?;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn whole_line(&mut self) -> Result<(), String> {
        self.values += 1;
        let announced = match self.line.first() {
            Some(b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|') => {
                if self.line.len() > LONGEST_HEADER {
                    return Err("a length that is no number".into());
                }
                let digits = std::str::from_utf8(&self.line[1..]).ok().map(str::trim);
                // What is no length the parser refuses, and nothing is there for the negative ones.
                digits
                    .and_then(|digits| digits.parse::<i64>().ok())
                    .and_then(|length| u64::try_from(length).ok())
                    .unwrap_or(0)
            }
            _ => return self.few_enough(0),
        };
        match self.line.first() {
            Some(b'$' | b'=' | b'!') => {
                if announced > MOST_BYTES {
                    return Err(format!("an answer of {announced} bytes"));
                }
                let is_there = !self.line[1..].trim_ascii_start().starts_with(b"-");
                self.left = if is_there { announced + 2 } else { 0 };
                self.few_enough(0)
            }
            Some(b'%' | b'|') => self.few_enough(announced.saturating_mul(2)),
            _ => self.few_enough(announced),
        }
    }

    fn few_enough(&self, announced: u64) -> Result<(), String> {
        match self.values.saturating_add(announced) > MOST_VALUES {
            true => Err(format!("an answer of more than {MOST_VALUES} values")),
            false => Ok(()),
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(why) = &self.walk.refused {
            return Poll::Ready(Err(io::Error::other(why.clone())));
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        if let Err(why) = self.walk.go_on(&into.filled()[before..]) {
            into.set_filled(before);
            self.walk.refused = Some(why.clone());
            return Poll::Ready(Err(io::Error::other(why)));
        }
        polled
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        (self.walk.bytes, self.walk.values) = (0, 0);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_what_is_in_them_is_not() {
        let answer = b"+OK\r\n*3\r\n:1\r\n$12\r\n*9999999999\n\r\n$-1\r\n-ERR no\r\n";
        for step in 1..answer.len() {
            let mut walk = Walk::default();
            answer.chunks(step).for_each(|part| walk.go_on(part).unwrap());
            assert_eq!(
                (walk.values, walk.left, walk.line.len()),
                (6, 0, 0),
                "in steps of {step}"
            );
        }
    }

    #[test]
    fn what_is_announced_beyond_the_bounds_is_refused_before_it_comes() {
        for wrong in [
            "$999999999999\r\n",
            "*2147483647\r\n",
            "%1073741823\r\n",
            "* 2147483647\r\n",
        ] {
            assert!(Walk::default().go_on(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let padded = format!("${}5\r\n", " ".repeat(100));
        assert!(Walk::default().go_on(padded.as_bytes()).is_err());
    }
}
