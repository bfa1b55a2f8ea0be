//! Reads an increment of the append-only log as it grows: where a command ends, whether a transaction is open, and which second it is.
//!
//! With `aof-timestamp-enabled yes` the engine writes a line `#TS:<seconds>` before the first command of each second. The same bytes inside a value mean nothing, so
//! every command is walked by its lengths. Source of the format: Redis 7 and 8, `aof.c`.

use wire::bounds::{LONGEST_LOG_ARGUMENT, LONGEST_LOG_LINE};
use wire::resp;

/// A place in an increment: everything before it is whole commands and whole transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    pub offset: u64,
    /// The last annotation before it, seconds since 1970; nothing where there was none.
    pub second: Option<i64>,
}

/// The log is no log from here on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the append-only log cannot be read at byte {offset}: {what}")]
pub struct Malformed {
    pub offset: u64,
    pub what: &'static str,
}

/// An incremental reader: takes bytes in pieces of any size and keeps no value.
#[derive(Clone, Debug)]
pub struct Scanner {
    offset: u64,
    state: State,
    line: Vec<u8>,
    /// Where the item that is being read began.
    item_start: u64,
    arguments_left: u64,
    is_first_argument: bool,
    /// The command's name, as far as it can be `MULTI` or `EXEC`.
    name: Vec<u8>,
    transaction_start: Option<Boundary>,
    boundary: Boundary,
    second: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of a command or an annotation, or within its first line.
    Item,
    /// Within the line that gives the length of an argument.
    Length,
    /// Within an argument and the line end behind it.
    Argument(u64),
}

impl Scanner {
    /// Begins at an offset of an increment that is a boundary; `second` is the one that was in force there.
    pub fn at(boundary: Boundary) -> Self {
        Scanner {
            offset: boundary.offset,
            state: State::Item,
            line: Vec::new(),
            item_start: boundary.offset,
            arguments_left: 0,
            is_first_argument: false,
            name: Vec::new(),
            transaction_start: None,
            boundary,
            second: boundary.second,
        }
    }

    /// How far it has read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The last place up to which everything is whole.
    pub fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// The last annotation that was read, also beyond the boundary.
    pub fn second(&self) -> Option<i64> {
        self.second
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.feed_until(bytes, None).map(drop)
    }

    /// Reads on up to the first annotation of a later second than `last`; true when it was met. The boundary is then the end of all that `last` has.
    pub fn feed_until(&mut self, mut bytes: &[u8], last: Option<i64>) -> Result<bool, Malformed> {
        while !bytes.is_empty() {
            match self.state {
                State::Argument(left) => {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    if self.is_first_argument && self.name.len() < 6 {
                        let room = 6 - self.name.len();
                        self.name.extend_from_slice(&bytes[..step.min(room)]);
                    }
                    bytes = &bytes[step..];
                    self.offset += step as u64;
                    self.state = State::Argument(left - step as u64);
                    if left == step as u64 {
                        self.argument_ended();
                    }
                }
                State::Item | State::Length => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let step = end.map_or(bytes.len(), |end| end + 1);
                    if self.line.len() + step > LONGEST_LOG_LINE {
                        return Err(self.malformed("a line is too long"));
                    }
                    self.line.extend_from_slice(&bytes[..step]);
                    bytes = &bytes[step..];
                    self.offset += step as u64;
                    if end.is_some() && self.line_ended(last)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn line_ended(&mut self, last: Option<i64>) -> Result<bool, Malformed> {
        let line = std::mem::take(&mut self.line);
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(self.malformed("a line does not end as lines do"));
        };
        match (self.state, text.first()) {
            (State::Item, Some(b'#')) => {
                if let Some(second) = text.strip_prefix(b"#TS:").and_then(resp::number::<i64>) {
                    if last.is_some_and(|last| second > last) {
                        return Ok(true);
                    }
                    self.second = Some(second.max(self.second.unwrap_or(i64::MIN)));
                }
                self.item_ended();
            }
            (State::Item, Some(b'*')) => {
                self.arguments_left = match resp::length(&text[1..]) {
                    Some(count @ 1..) => count,
                    _ => return Err(self.malformed("a command has no number of arguments")),
                };
                self.is_first_argument = true;
                self.name.clear();
                self.state = State::Length;
            }
            (State::Length, Some(b'$')) => match resp::length(&text[1..]) {
                Some(length) if length <= LONGEST_LOG_ARGUMENT => self.state = State::Argument(length + 2),
                _ => return Err(self.malformed("an argument has no length")),
            },
            _ => return Err(self.malformed("neither a command nor an annotation begins here")),
        }
        Ok(false)
    }

    fn argument_ended(&mut self) {
        let first = std::mem::replace(&mut self.is_first_argument, false);
        self.arguments_left -= 1;
        if first {
            // Only the line end follows the name, if the name is one of the two.
            if self.name.eq_ignore_ascii_case(b"EXEC\r\n") {
                self.transaction_start = None;
            } else if self.name.len() == 6 && self.name[..5].eq_ignore_ascii_case(b"MULTI") && self.name[5] == b'\r' {
                self.transaction_start = Some(self.boundary);
            }
        }
        if self.arguments_left == 0 {
            self.item_ended();
        } else {
            self.state = State::Length;
        }
    }

    fn item_ended(&mut self) {
        self.state = State::Item;
        self.item_start = self.offset;
        if self.transaction_start.is_none() {
            self.boundary = Boundary {
                offset: self.offset,
                second: self.second,
            };
        }
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed {
            offset: self.item_start,
            what,
        }
    }
}

#[cfg(test)]
mod tests;
