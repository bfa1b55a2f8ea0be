//! Answers that may be endless, or of more values than fit into memory. They are walked through by their lengths before a parser sees them: bytes and values are
//! counted, and what is announced beyond the bounds is refused at once.

use crate::bounds::LONGEST_HEADER;

/// Follows the bytes of an answer, and knows whether they are a line or a value.
#[derive(Debug, Default)]
pub struct Walk {
    most_bytes: u64,
    most_values: u64,
    bytes: u64,
    values: u64,
    /// Bytes left of a value whose length was announced, line end included. They have no meaning
    /// here.
    left: u64,
    /// The beginning of the line that is coming in.
    line: Vec<u8>,
}

impl Walk {
    /// Begins before an answer of at most this many bytes and values.
    pub fn within(most_bytes: u64, most_values: u64) -> Self {
        Walk {
            most_bytes,
            most_values,
            ..Walk::default()
        }
    }

    /// Counts from zero again: what comes now answers something else.
    pub fn count_anew(&mut self) {
        (self.bytes, self.values) = (0, 0);
    }

    /// Walks through more bytes. The error says what is beyond the bounds.
    pub fn go_on(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.most_bytes {
            return Err(format!("an answer of more than {} bytes", self.most_bytes));
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
                // The parser refuses texts that are no length; a negative length has no content.
                digits
                    .and_then(|digits| digits.parse::<i64>().ok())
                    .and_then(|length| u64::try_from(length).ok())
                    .unwrap_or(0)
            }
            _ => return self.few_enough(0),
        };
        match self.line.first() {
            Some(b'$' | b'=' | b'!') => {
                if announced > self.most_bytes {
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
        if self.values.saturating_add(announced) > self.most_values {
            Err(format!("an answer of more than {} values", self.most_values))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{MOST_ANSWER_BYTES, MOST_ANSWER_VALUES};

    fn walk() -> Walk {
        Walk::within(MOST_ANSWER_BYTES, MOST_ANSWER_VALUES)
    }

    #[test]
    fn values_are_counted_and_what_is_in_them_is_not() {
        let answer = b"+OK\r\n*3\r\n:1\r\n$12\r\n*9999999999\n\r\n$-1\r\n-ERR no\r\n";
        for step in 1..answer.len() {
            let mut walk = walk();
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
            assert!(walk().go_on(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let padded = format!("${}5\r\n", " ".repeat(100));
        assert!(walk().go_on(padded.as_bytes()).is_err());
    }
}
