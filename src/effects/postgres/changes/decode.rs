//! Reads pgoutput's messages, version 1 of its protocol, as PostgreSQL 10 and later give them.
//!
//! A length is never believed before its bytes are there, so a message can hold no more memory than it has bytes.

use super::message::{Change, Event, Lsn, Relation, RelationColumn, Tuple, Value};
use crate::model::error::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Makes changes of messages. It remembers the tables that were described.
#[derive(Default)]
pub struct Decoder {
    relations: HashMap<u32, Arc<Relation>>,
}

impl Decoder {
    /// Reads one message; `None` if it says nothing of rows.
    pub fn read(&mut self, message: &[u8]) -> Result<Option<Event>> {
        let mut input = Input { rest: message };
        let event = self.event(&mut input)?;
        if !input.rest.is_empty() {
            return Err(malformed("bytes follow its end"));
        }
        Ok(event)
    }

    fn event(&mut self, input: &mut Input<'_>) -> Result<Option<Event>> {
        let change = match input.byte()? {
            b'B' => {
                input.take(8 + 8 + 4)?;
                return Ok(None);
            }
            b'C' => {
                input.take(1 + 8)?;
                let end = Lsn(input.u64()?);
                input.take(8)?;
                return Ok(Some(Event::Committed(end)));
            }
            b'R' => {
                let relation = relation(input)?;
                self.relations.insert(relation.id, Arc::new(relation));
                return Ok(None);
            }
            // A type, an origin and a message of the app: rows are read without them.
            b'Y' | b'O' | b'M' => {
                input.rest = &[];
                return Ok(None);
            }
            b'I' => {
                let relation = self.relation(input)?;
                input.expect(b'N')?;
                let new = tuple(input, &relation)?;
                Change::Insert { relation, new }
            }
            b'U' => {
                let relation = self.relation(input)?;
                let old = match input.byte()? {
                    b'N' => None,
                    b'K' | b'O' => {
                        let old = tuple(input, &relation)?;
                        input.expect(b'N')?;
                        Some(old)
                    }
                    other => return Err(malformed(format!("an update has a part {other}"))),
                };
                let new = tuple(input, &relation)?;
                Change::Update { relation, old, new }
            }
            b'D' => {
                let relation = self.relation(input)?;
                match input.byte()? {
                    b'K' | b'O' => {}
                    other => return Err(malformed(format!("a deletion has a part {other}"))),
                }
                let old = tuple(input, &relation)?;
                Change::Delete { relation, old }
            }
            b'T' => self.truncate(input)?,
            other => return Err(malformed(format!("its kind is {other}"))),
        };
        Ok(Some(Event::Change(change)))
    }

    fn truncate(&self, input: &mut Input<'_>) -> Result<Change> {
        let count = input.u32()?;
        input.byte()?;
        let mut relations = Vec::new();
        for _ in 0..count {
            relations.push(self.relation(input)?);
        }
        Ok(Change::Truncate { relations })
    }

    fn relation(&self, input: &mut Input<'_>) -> Result<Arc<Relation>> {
        let id = input.u32()?;
        let known = self.relations.get(&id).cloned();
        known.ok_or_else(|| malformed(format!("the table with the number {id} was never described")))
    }
}

fn relation(input: &mut Input<'_>) -> Result<Relation> {
    let id = input.u32()?;
    let schema = input.text()?;
    let name = input.text()?;
    // How the table identifies rows; each column says it for itself.
    input.byte()?;
    let count = input.u16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let identifies = input.byte()? & 1 == 1;
        let name = input.text()?;
        let type_id = input.u32()?;
        // The type's modifier, such as the length of a varchar.
        input.take(4)?;
        columns.push(RelationColumn {
            name,
            type_id,
            identifies,
        });
    }
    Ok(Relation {
        id,
        // The server leaves out the name of its own schema.
        schema: if schema.is_empty() { "pg_catalog".into() } else { schema },
        name,
        columns,
    })
}

fn tuple(input: &mut Input<'_>, relation: &Relation) -> Result<Tuple> {
    let count = usize::from(input.u16()?);
    if count != relation.columns.len() {
        return Err(malformed(format!(
            "a row of {}.{} has {count} values, the table {} columns",
            relation.schema,
            relation.name,
            relation.columns.len()
        )));
    }
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(match input.byte()? {
            b'n' => Value::Null,
            b'u' => Value::Unchanged,
            b't' => {
                let length = usize::try_from(input.u32()?).unwrap_or(usize::MAX);
                Value::Text(utf8(input.take(length)?)?)
            }
            other => return Err(malformed(format!("a value is of the form {other}"))),
        });
    }
    Ok(values)
}

fn utf8(bytes: &[u8]) -> Result<String> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| malformed("a text is not UTF-8"))
}

fn malformed(found: impl std::fmt::Display) -> Error {
    Error::failed("read a message of PostgreSQL's log of changes")
        .because(found.to_string())
        .hint("follow by a column that grows instead: no other form of these messages is known here")
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| malformed(format!("it ends {} bytes too early", length - self.rest.len())))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| malformed("it ends too early"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        match self.byte()? {
            found if found == byte => Ok(()),
            found => Err(malformed(format!("a part is {found}, not {byte}"))),
        }
    }

    /// Reads a text that a zero byte ends.
    fn text(&mut self) -> Result<String> {
        let length = self.rest.iter().position(|byte| *byte == 0);
        let length = length.ok_or_else(|| malformed("a name has no end"))?;
        let text = utf8(self.take(length)?)?;
        self.byte()?;
        Ok(text)
    }
}
