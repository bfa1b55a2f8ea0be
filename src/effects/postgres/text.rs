//! The text form of COPY, and how names and values are quoted in statements.

use super::failure::explain;
use crate::model::error::{Error, Result};
use crate::model::import::{Row, Text};
use bytes::Bytes;
use futures_util::StreamExt;
use std::pin::Pin;
use tokio_postgres::CopyOutStream;

/// Longer rows are refused: PostgreSQL's own limit of a value is 1 GB.
const LONGEST_ROW: usize = 64 << 20;

/// Rows as COPY sends them.
pub struct CopyRows {
    stream: Pin<Box<CopyOutStream>>,
    place: String,
    /// The beginning of a row whose end has not come.
    begun: Vec<u8>,
    message: Bytes,
}

impl CopyRows {
    pub(super) fn new(stream: CopyOutStream, place: String) -> Self {
        CopyRows {
            stream: Box::pin(stream),
            place,
            begun: Vec::new(),
            message: Bytes::new(),
        }
    }

    /// Returns the next row; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(end) = self.message.iter().position(|byte| *byte == b'\n') {
                let line = self.message.split_to(end + 1);
                let row = if self.begun.is_empty() {
                    decode(&line[..end])
                } else {
                    self.begun.extend_from_slice(&line[..end]);
                    let row = decode(&self.begun);
                    self.begun.clear();
                    row
                };
                return row.map(Some).ok_or_else(|| {
                    Error::failed(format!("read a row of {}: it is not UTF-8", self.place)).hint(
                        "a database with the encoding SQL_ASCII may hold such texts: use a `query` that converts them",
                    )
                });
            }
            self.begun.extend_from_slice(&self.message);
            if self.begun.len() > LONGEST_ROW {
                return Err(
                    Error::failed(format!("read a row of {}: it is longer than 64 MiB", self.place))
                        .hint("leave the large column out of import.yml"),
                );
            }
            match self.stream.next().await {
                Some(Ok(message)) => self.message = message,
                Some(Err(cause)) => return Err(explain(format!("read rows from {}", self.place), cause)),
                None => return Ok(None),
            }
        }
    }
}

/// Decodes one line of COPY; `None` if it is not UTF-8.
pub fn decode(line: &[u8]) -> Option<Row> {
    let values = line
        .split(|byte| *byte == b'\t')
        .map(value)
        .collect::<Option<Vec<Text>>>()?;
    Some(Row { values })
}

fn value(field: &[u8]) -> Option<Text> {
    if field == b"\\N" {
        return Some(None);
    }
    let text = std::str::from_utf8(field).ok()?;
    if !text.contains('\\') {
        return Some(Some(text.to_owned()));
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        plain.push(match letters.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            other => other,
        });
    }
    Some(Some(plain))
}

/// Returns a name as SQL takes it, whatever letters it has.
pub fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a value as SQL takes it.
pub fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the server writes a value.
    fn escaped(value: &Text) -> String {
        let Some(value) = value else {
            return "\\N".into();
        };
        let mut text = String::new();
        for letter in value.chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                other => text.push(other),
            }
        }
        text
    }

    proptest! {
        #[test]
        fn rows_are_decoded_as_they_were_written(values in prop::collection::vec(any::<Option<String>>(), 1..6)) {
            let line: Vec<String> = values.iter().map(escaped).collect();
            prop_assert_eq!(decode(line.join("\t").as_bytes()), Some(Row { values }));
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(line: Vec<u8>) {
            let _ = decode(&line);
        }
    }

    #[test]
    fn names_and_values_cannot_end_their_quotes() {
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b\\"), "'a''b\\'");
    }
}
