//! Reads small keys by their types, many at once: for a source without DUMP, and for a target that
//! does not know the source's format.

use super::kind::Kind;
use super::parts::{Part, all_bytes, field_ends, scored};
use super::reads::{End, LONGEST_DUMP};
use super::source::{Source, milliseconds, text_of};
use anyhow::Result;
use redis::Value;
use wire::reply::bytes;

/// A key as it was read by its type.
pub enum Typed {
    Found {
        parts: Vec<Part>,
        /// Milliseconds since 1970; `None` for never.
        expires: Option<i64>,
    },
    /// It is read in parts: it is too long, a stream, or of another type by now.
    Apart,
    Gone,
    /// Source or target does not know it; holds the words.
    Refused(String),
}

/// Reads whole values of keys with their types, in their order.
pub fn read(source: &mut Source, keys: &[(Vec<u8>, Kind)]) -> Result<Vec<Typed>> {
    let end: &[u8] = if source.says_ends { b"PEXPIRETIME" } else { b"PTTL" };
    source.link.add(&[b"TIME"]);
    for (key, kind) in keys {
        source.link.add(&whole(*kind, key));
        source.link.add(&[end, key]);
    }
    source.link.send()?;
    let now = milliseconds(source.link.answer()?);
    let mut found = Vec::with_capacity(keys.len());
    for (_, kind) in keys {
        let value = source.link.answer_within(LONGEST_DUMP)?;
        let end = source.link.answer()?;
        found.push(judge(*kind, value, source.end(&end, now)));
    }
    if source.says_field_ends {
        add_field_ends(source, keys, &mut found)?;
    }
    Ok(found)
}

/// Returns the command that reads a value as a whole. A stream has none.
fn whole(kind: Kind, key: &[u8]) -> Vec<&[u8]> {
    match kind {
        Kind::String => vec![b"GET", key],
        Kind::List => vec![b"LRANGE", key, b"0", b"-1"],
        Kind::Set => vec![b"SMEMBERS", key],
        Kind::SortedSet => vec![b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
        Kind::Hash => vec![b"HGETALL", key],
        Kind::Stream => vec![b"XLEN", key],
    }
}

fn judge(kind: Kind, value: Option<Value>, end: End) -> Typed {
    let expires = match end {
        End::Gone => return Typed::Gone,
        End::At(expires) => expires,
        End::Unknown(why) => return Typed::Refused(why),
    };
    let value = match value {
        None => return Typed::Apart,
        Some(Value::ServerError(error)) if error.code() == "WRONGTYPE" => return Typed::Apart,
        Some(error @ Value::ServerError(_)) => return Typed::Refused(text_of(&error)),
        Some(_) if kind == Kind::Stream => return Typed::Apart,
        Some(value) => value,
    };
    if kind == Kind::String {
        return match bytes(value) {
            Some(value) => Typed::Found {
                parts: vec![Part::in_order(&[b"SET"], vec![value])],
                expires,
            },
            None => Typed::Gone,
        };
    }
    let Ok(elements) = all_bytes(value) else {
        return Typed::Apart;
    };
    if elements.is_empty() {
        return Typed::Gone;
    }
    let part = match kind {
        Kind::List => Part::each_in_order(&[b"RPUSH"], elements),
        Kind::Set => Part::any_order(&[b"SADD"], 1, elements),
        Kind::SortedSet => scored(elements),
        Kind::Hash | Kind::String | Kind::Stream => Part::any_order(&[b"HSET"], 2, elements),
    };
    Typed::Found {
        parts: vec![part],
        expires,
    }
}

/// Adds to each hash the moments at which its fields end.
fn add_field_ends(source: &mut Source, keys: &[(Vec<u8>, Kind)], found: &mut [Typed]) -> Result<()> {
    let is_hash = |kind: Kind, typed: &Typed| kind == Kind::Hash && matches!(typed, Typed::Found { .. });
    for ((key, kind), typed) in keys.iter().zip(found.iter()) {
        if let (true, Typed::Found { parts, .. }) = (is_hash(*kind, typed), typed) {
            let fields: Vec<&Vec<u8>> = parts.iter().flat_map(Part::firsts).collect();
            source.add_field_ends(key, &fields);
        }
    }
    source.link.send()?;
    for ((_, kind), typed) in keys.iter().zip(found.iter_mut()) {
        if !is_hash(*kind, typed) {
            continue;
        }
        let answer = source.link.answer()?;
        if let Value::ServerError(_) = answer {
            // It is of another type by now.
            *typed = Typed::Apart;
        } else if let Typed::Found { parts, .. } = typed {
            let ends = field_ends(parts.iter().flat_map(Part::firsts), answer);
            parts.extend(ends);
        }
    }
    Ok(())
}
