//! Finds the arguments of a command that are keys which it writes, from the engine's reply to
//! COMMAND. Pure.
//!
//! New commands come every year. `effect` lists those that servers send today; for any other name the engine that will have to apply the stream, our
//! own master, is asked once, before the stream is read.

use crate::reply::{array, integer, pairs, text, words};
use crate::resp::number;
use crate::stream::Argument;
use crate::touched::{Effect, Place, Touched};
use redis::Value;
use std::collections::HashMap;

/// No engine knows this many commands; a longer reply is not read to its end.
const MOST_COMMANDS: usize = 10_000;

/// The commands of an engine by their names in lower case, `name|subcommand` for those that have subcommands. Empty by default: then nothing is known.
#[derive(Clone, Debug, Default)]
pub struct CommandTable(HashMap<String, Shape>);

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// Writes nothing.
    Reads,
    /// Writes the keys at these places and nothing else.
    Writes(Vec<KeySpec>),
    /// May write more than its arguments tell.
    Anything,
}

/// A key specification: where to begin, and how many keys stand there.
#[derive(Clone, Debug, PartialEq)]
struct KeySpec {
    begin: Begin,
    find: Find,
}

#[derive(Clone, Debug, PartialEq)]
enum Begin {
    Index(i64),
    /// After this word, looked for from an argument on; backwards from the end for a negative one.
    Keyword {
        word: String,
        from: i64,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Find {
    /// Up to a last key; a negative one counts from the end, which `limit` divides.
    Range { last: i64, step: i64, limit: i64 },
    /// An argument gives the number of keys.
    Count { at: i64, first: i64, step: i64 },
}

impl CommandTable {
    /// Reads a reply to COMMAND. What is not understood of it is left out.
    pub fn parse(reply: Value) -> CommandTable {
        let mut table = CommandTable::default();
        for entry in array(reply).unwrap_or_default().into_iter().take(MOST_COMMANDS) {
            table.add(entry);
        }
        table
    }

    /// Takes one entry: name, arity, flags, first key, last key, step, categories, tips, key specifications, subcommands.
    fn add(&mut self, entry: Value) -> Option<()> {
        let mut parts = array(entry)?.into_iter();
        let name = text(&parts.next()?)?.to_ascii_lowercase();
        let flags = words(parts.nth(1)?).unwrap_or_default();
        let positions: Vec<i64> = parts.by_ref().take(3).filter_map(|place| integer(&place)).collect();
        let specs = parts.nth(2);
        let subcommands = parts.next().and_then(array).unwrap_or_default();
        // The flags of a container say nothing of its subcommands.
        let shape = if subcommands.is_empty() {
            shape(&flags, specs, &positions)
        } else {
            Shape::Anything
        };
        self.0.insert(name, shape);
        for subcommand in subcommands {
            self.add(subcommand);
        }
        Some(())
    }

    /// Returns what a command does by this table; `None` if the engine does not know it.
    pub(crate) fn effect(&self, name: &str, arguments: &[Argument]) -> Option<Effect> {
        let name = name.to_ascii_lowercase();
        let second = arguments.get(1).and_then(Argument::bytes).unwrap_or_default();
        let second = String::from_utf8_lossy(second).to_ascii_lowercase();
        let shape = self.0.get(&format!("{name}|{second}")).or_else(|| self.0.get(&name))?;
        Some(match shape {
            Shape::Reads => Effect::Nothing,
            Shape::Anything => Effect::Everything,
            Shape::Writes(specs) => written(specs, arguments).map_or(Effect::Everything, Effect::Write),
        })
    }
}

fn shape(flags: &[String], specs: Option<Value>, positions: &[i64]) -> Shape {
    let has = |flag: &str| flags.iter().any(|word| word == flag);
    // Scripts, functions and messages: they reach replicas and are no writes by their flags.
    if has("may_replicate") {
        return Shape::Anything;
    }
    if !has("write") {
        return Shape::Reads;
    }
    let Some(specs) = specs.and_then(array) else {
        return by_position(has("movablekeys"), positions);
    };
    let mut written = Vec::new();
    for spec in specs {
        match key_spec(spec) {
            Some(Some(spec)) => written.push(spec),
            Some(None) => {}
            None => return Shape::Anything,
        }
    }
    if written.is_empty() {
        Shape::Anything
    } else {
        Shape::Writes(written)
    }
}

/// Servers before Redis 7 tell only the first key, the last one and the step between them.
fn by_position(movable: bool, positions: &[i64]) -> Shape {
    match positions {
        [first, last, step] if *first > 0 && !movable => Shape::Writes(vec![KeySpec {
            begin: Begin::Index(*first),
            find: Find::Range {
                last: if *last < 0 { *last } else { *last - *first },
                step: *step,
                limit: 0,
            },
        }]),
        _ => Shape::Anything,
    }
}

/// Reads a key specification; the inner `None` is for keys that are only read, the outer one for what cannot be relied on.
fn key_spec(spec: Value) -> Option<Option<KeySpec>> {
    let mut fields = pairs(spec)?;
    let flags = words(fields.remove("flags")?).unwrap_or_default();
    let has = |flag: &str| flags.iter().any(|word| word.eq_ignore_ascii_case(flag));
    if has("RO") || has("not_key") {
        return Some(None);
    }
    if has("incomplete") {
        return None;
    }
    let (kind, begin) = typed(fields.remove("begin_search")?)?;
    let begin = match kind.as_str() {
        "index" => Begin::Index(integer(begin.get("index")?)?),
        "keyword" => Begin::Keyword {
            word: text(begin.get("keyword")?)?,
            from: integer(begin.get("startfrom")?)?,
        },
        _ => return None,
    };
    let (kind, find) = typed(fields.remove("find_keys")?)?;
    let number = |name: &str| find.get(name).and_then(integer);
    let find = match kind.as_str() {
        "range" => Find::Range {
            last: number("lastkey")?,
            step: number("keystep")?,
            limit: number("limit")?,
        },
        "keynum" => Find::Count {
            at: number("keynumidx")?,
            first: number("firstkey")?,
            step: number("keystep")?,
        },
        _ => return None,
    };
    Some(Some(KeySpec { begin, find }))
}

/// The keys at these places; `None` where one is absent or was too long to keep.
fn written(specs: &[KeySpec], arguments: &[Argument]) -> Option<Vec<Touched>> {
    let mut keys = Vec::new();
    for spec in specs {
        for at in places(spec, arguments)? {
            keys.push(Touched {
                place: Place::Selected,
                name: arguments.get(at)?.bytes()?.to_vec(),
            });
        }
    }
    (!keys.is_empty()).then_some(keys)
}

fn places(spec: &KeySpec, arguments: &[Argument]) -> Option<Vec<usize>> {
    let count = i64::try_from(arguments.len()).ok()?;
    let begin = match &spec.begin {
        Begin::Index(at) => *at,
        Begin::Keyword { word, from } => match keyword(arguments, word, *from) {
            Some(at) => at,
            None => return Some(Vec::new()),
        },
    };
    let (first, last, step) = match spec.find {
        Find::Range { last, step, limit } => {
            let last = match (last, limit) {
                (0.., _) => begin.checked_add(last)?,
                (_, ..=1) => count.checked_add(last)?,
                (_, limit) => begin.checked_add((count - begin) / limit)?.checked_add(last)?,
            };
            (begin, last, step)
        }
        Find::Count { at, first, step } => {
            let many = arguments.get(usize::try_from(begin.checked_add(at)?).ok()?)?.bytes()?;
            let many: i64 = number(many)?;
            let first = begin.checked_add(first)?;
            let last = many.checked_sub(1)?.checked_mul(step)?.checked_add(first)?;
            (first, last, step)
        }
    };
    if first < 1 || last >= count {
        return None;
    }
    let (first, last) = (usize::try_from(first).ok()?, usize::try_from(last.max(0)).ok()?);
    Some((first..=last).step_by(usize::try_from(step).ok()?.max(1)).collect())
}

/// The place after a word.
fn keyword(arguments: &[Argument], word: &str, from: i64) -> Option<i64> {
    let is_it = |at: &usize| {
        let bytes = arguments.get(*at).and_then(Argument::bytes).unwrap_or_default();
        bytes.eq_ignore_ascii_case(word.as_bytes())
    };
    let at = match usize::try_from(from) {
        Ok(from) => (from..arguments.len()).find(is_it)?,
        Err(_) => {
            let from = arguments
                .len()
                .checked_sub(usize::try_from(from.unsigned_abs()).ok()?)?;
            (1..=from).rev().find(is_it)?
        }
    };
    i64::try_from(at + 1).ok()
}

/// The type of a part of a specification, and its numbers.
fn typed(value: Value) -> Option<(String, HashMap<String, Value>)> {
    let mut parts = pairs(value)?;
    let kind = text(&parts.remove("type")?)?;
    Some((kind, pairs(parts.remove("spec")?)?))
}

#[cfg(test)]
mod tests;
