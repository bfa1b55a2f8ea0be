//! Compares some keys of one database.
//!
//! Most keys are short strings. So the first look asks for each key's expiry and first bytes in one
//! round trip. That compares short strings, finds other types and needs little memory. Longer
//! values and other types follow. For few keys the first look asks for types and sizes too. A
//! second round trip then compares all small values.

use super::collections::{self, Shaped};
use super::difference::{Later, Reason};
use super::expiry::{Expiry, Standing, standing, time};
use super::pair::{Pair, Side};
use super::replies::moved;
use super::verdicts::{BUDGET, Verdicts, settle};
use super::windows;
use crate::model::error::{Error, Result};
use ::redis::{Pipeline, Value, cmd};
use wire::reply::{array, bytes, integer, text_lossy};

/// Bytes of each string in the first look. This alone compares shorter strings.
pub(super) const START: usize = 4096;

/// Longer strings are compared in windows.
const SMALL_STRING: i64 = 64 * 1024;

pub(super) async fn compare(pair: &Pair, keys: &[Vec<u8>]) -> Result<Verdicts> {
    look(pair, keys, false).await
}

/// Compares few keys in as few round trips as possible: two if none of them is large.
pub(super) async fn compare_quickly(pair: &Pair, keys: &[Vec<u8>]) -> Result<Verdicts> {
    look(pair, keys, true).await
}

async fn look(pair: &Pair, keys: &[Vec<u8>], shapes: bool) -> Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    if keys.is_empty() {
        return Ok(verdicts);
    }
    pair.turn(1 + keys.len() * if shapes { 7 } else { 2 }).await;
    let (source, target) = tokio::try_join!(
        first_look(&pair.source, keys, shapes),
        first_look(&pair.target, keys, shapes)
    )?;
    let (mut longer, mut others, mut shaped) = (Vec::new(), Vec::new(), Vec::new());
    for ((name, here), there) in keys.iter().zip(source.keys).zip(target.keys) {
        let stands = standing(here.expiry, there.expiry, source.now, target.now, pair.tolerance);
        verdicts.compared += u64::from(stands != Standing::Neither);
        if let Standing::Later(by) = stands {
            let most_ms = by.unsigned_abs();
            verdicts.later.add(Later { keys: 1, most_ms });
        }
        match stands {
            Standing::Neither => {}
            Standing::Expiring => verdicts.expired += 1,
            Standing::Differs(reason) => verdicts.differs(pair, name, reason),
            Standing::Both | Standing::Later(_) => match (&here.start, &there.start) {
                (Some(start), Some(other)) if start.len() == START || other.len() == START => {
                    longer.push((name, here.shape.and_then(|shape| shape.length)));
                }
                (Some(here), Some(there)) if here == there => {}
                (Some(here), Some(there)) => verdicts.differs(pair, name, string_reason(here, there)),
                _ => match (here.shape, there.shape) {
                    (Some(here), Some(there)) => shaped.push(Shaped {
                        name,
                        source: here.kind,
                        target: there.kind,
                        bytes: here.bytes,
                        // If the lengths differ, the difference is the lengths themselves.
                        elements: here.elements.filter(|_| here.elements == there.elements),
                    }),
                    _ => others.push(name),
                },
            },
        }
    }
    let (more, (rest, unlike)) =
        tokio::try_join!(collections::compare_shaped(pair, shaped), longer_strings(pair, &longer))?;
    verdicts.add(more);
    verdicts.add(rest);
    others.extend(unlike);
    collections::compare(pair, &others, &mut verdicts).await?;
    Ok(verdicts)
}

struct FirstLook {
    /// The server's time in milliseconds since 1970.
    now: i64,
    keys: Vec<AtFirst>,
}

struct AtFirst {
    expiry: Expiry,
    /// The first bytes of a string; `None` for other types.
    start: Option<Vec<u8>>,
    /// `None` if it was not asked for.
    shape: Option<Shape>,
}

struct Shape {
    kind: String,
    length: Option<i64>,
    /// Number of elements of a list or a sorted set.
    elements: Option<i64>,
    /// Size by the server's own estimate; `None` if it has none.
    bytes: Option<i64>,
}

async fn first_look(side: &Side, keys: &[Vec<u8>], shapes: bool) -> Result<FirstLook> {
    let mut commands = Pipeline::with_capacity(1 + 7 * keys.len());
    commands.cmd("TIME");
    for key in keys {
        // Both commands about one key stand together, while the server has it in its cache.
        commands.cmd(side.clock.command()).arg(key);
        commands.cmd("GETRANGE").arg(key).arg(0).arg(START - 1);
        if shapes {
            commands.cmd("TYPE").arg(key).cmd("STRLEN").arg(key);
            commands.cmd("LLEN").arg(key).cmd("ZCARD").arg(key);
            commands.cmd("MEMORY").arg("USAGE").arg(key);
        }
    }
    let mut connection = side.connection.clone();
    let mut answers = connection.ask_all(&commands).await?.into_iter();
    let unreadable = || Error::failed(format!("read when keys of {} expire", connection.place()));
    let next = |answers: &mut std::vec::IntoIter<Value>| match answers.next() {
        Some(Value::ServerError(error)) if !moved(&error) => {
            Err(connection.explain("TIME, PEXPIRETIME, PTTL or GETRANGE", error.into()))
        }
        Some(answer) => Ok(answer),
        None => Err(unreadable()),
    };
    let now = time(&next(&mut answers)?).ok_or_else(unreadable)?;
    let mut found = Vec::with_capacity(keys.len());
    for _ in keys {
        let expiry = side.clock.read(&next(&mut answers)?, now).ok_or_else(unreadable)?;
        let start = bytes(next(&mut answers)?);
        let shape = if shapes {
            Some(Shape {
                kind: text_lossy(&next(&mut answers)?).unwrap_or_default(),
                length: integer(&next(&mut answers)?),
                elements: {
                    let (list, sorted_set) = (integer(&next(&mut answers)?), integer(&next(&mut answers)?));
                    list.or(sorted_set)
                },
                // A host may forbid this command.
                bytes: answers.next().as_ref().and_then(integer),
            })
        } else {
            None
        };
        found.push(AtFirst { expiry, start, shape });
    }
    Ok(FirstLook { now, keys: found })
}

/// Compares strings with a known start. Also returns the keys that are no strings any more.
async fn longer_strings<'a>(pair: &Pair, names: &[(&'a Vec<u8>, Option<i64>)]) -> Result<(Verdicts, Vec<&'a Vec<u8>>)> {
    let mut verdicts = Verdicts::default();
    let mut unlike = Vec::new();
    let mut sorted = Sorted::default();
    let mut commands = Pipeline::new();
    let mut unknown = Vec::new();
    for (name, length) in names {
        match length {
            Some(length) => sorted.put(name, *length),
            None => {
                unknown.push(*name);
                commands.cmd("STRLEN").arg(name);
            }
        }
    }
    let mut source = pair.source.connection.clone();
    for (name, answer) in unknown.iter().zip(source.ask_all(&commands).await?) {
        match answer {
            Value::ServerError(error) if !moved(&error) => return Err(source.explain("STRLEN", error.into())),
            answer => match integer(&answer) {
                Some(length) => sorted.put(name, length),
                None => unlike.push(*name),
            },
        }
    }
    for group in &sorted.small {
        unlike.extend(small_strings(pair, group, &mut verdicts).await?);
    }
    for name in sorted.large {
        let found = windows::long_string(pair, name).await;
        settle(pair, name, found, &mut verdicts)?;
    }
    Ok((verdicts, unlike))
}

/// Holds strings by the way they are to be compared.
#[derive(Default)]
struct Sorted<'a> {
    /// Groups of strings that fit the budget.
    small: Vec<Vec<&'a Vec<u8>>>,
    budget_left: i64,
    large: Vec<&'a Vec<u8>>,
}

impl<'a> Sorted<'a> {
    fn put(&mut self, name: &'a Vec<u8>, length: i64) {
        if length > SMALL_STRING {
            self.large.push(name);
            return;
        }
        match self.small.last_mut() {
            Some(group) if self.budget_left >= length => group.push(name),
            _ => {
                self.small.push(vec![name]);
                self.budget_left = BUDGET;
            }
        }
        self.budget_left -= length;
    }
}

/// Compares strings by their values. Returns those that are not strings on the target.
async fn small_strings<'a>(pair: &Pair, names: &[&'a Vec<u8>], verdicts: &mut Verdicts) -> Result<Vec<&'a Vec<u8>>> {
    let get = async |side: &Side| {
        let mut connection = side.connection.clone();
        let values: Value = connection.query(cmd("MGET").arg(names)).await?;
        array(values)
            .filter(|values| values.len() == names.len())
            .ok_or_else(|| Error::failed(format!("read the answer to MGET of {}", connection.place())))
    };
    let (source, target) = tokio::try_join!(get(&pair.source), get(&pair.target))?;
    let mut unlike = Vec::new();
    for ((name, source), target) in names.iter().zip(source).zip(target) {
        match (source, target) {
            (Value::BulkString(source), Value::BulkString(target)) if source == target => {}
            (Value::BulkString(source), Value::BulkString(target)) => {
                verdicts.differs(pair, name, string_reason(&source, &target));
            }
            _ => unlike.push(*name),
        }
    }
    Ok(unlike)
}

fn string_reason(source: &[u8], target: &[u8]) -> Reason {
    if source.len() != target.len() {
        return Reason::Length {
            source: source.len() as u64,
            target: target.len() as u64,
        };
    }
    let at = source.iter().zip(target).position(|(a, b)| a != b).unwrap_or(0);
    Reason::Content(format!("byte {at} of the string"))
}
