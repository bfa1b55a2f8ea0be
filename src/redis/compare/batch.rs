//! What is to be said about some keys of one database.
//!
//! Most keys of most data sets are small strings: they are got with one MGET for many. STRLEN comes first, because a batch of large ones must not
//! fill the memory, and because it tells strings from all else.

use super::collections;
use super::difference::{Key, Reason};
use super::expiry::{Expiry, Standing, standing};
use super::pair::{Pair, Side};
use super::replies::{Trouble, array, ask, integer, moved};
use crate::error::{Error, Result};
use ::redis::{Value, cmd, pipe};

/// Longer strings are compared in windows.
const SMALL_STRING: i64 = 64 * 1024;

/// Bytes of values to have in memory at once, per side and batch.
pub(super) const BUDGET: i64 = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Keys that were on either side.
    pub compared: u64,
    /// Gone on one side, about to go on the other.
    pub expired: u64,
    pub differing: Vec<(Key, Reason)>,
}

impl Verdicts {
    pub fn differs(&mut self, pair: &Pair, name: &[u8], reason: Reason) {
        let key = Key {
            database: pair.database,
            name: name.to_vec(),
        };
        self.differing.push((key, reason));
    }
}

/// Looks at these keys on both sides.
pub(super) async fn compare(pair: &Pair, keys: &[Vec<u8>]) -> Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    if keys.is_empty() {
        return Ok(verdicts);
    }
    let (source, target) = tokio::try_join!(
        first_look(&pair.source, keys, true),
        first_look(&pair.target, keys, false)
    )?;
    let mut sorted = Sorted::default();
    for (index, name) in keys.iter().enumerate() {
        let stands = standing(
            source.expiries[index],
            target.expiries[index],
            source.now,
            target.now,
            pair.tolerance_ms,
        );
        verdicts.compared += u64::from(stands != Standing::Neither);
        match stands {
            Standing::Neither => {}
            Standing::Expiring => verdicts.expired += 1,
            Standing::Differs(reason) => verdicts.differs(pair, name, reason),
            Standing::Both => sorted.put(name, source.lengths[index]),
        }
    }
    for group in &sorted.small {
        let unlike = small_strings(pair, group, &mut verdicts).await?;
        sorted.others.extend(unlike);
    }
    for name in sorted.large {
        let found = collections::long_string(pair, name).await;
        settle(pair, name, found, &mut verdicts)?;
    }
    collections::compare(pair, &sorted.others, &mut verdicts).await?;
    Ok(verdicts)
}

/// Turns what came of looking at one value into a verdict.
pub(super) fn settle(
    pair: &Pair,
    name: &[u8],
    found: Result<Option<Reason>, Trouble>,
    verdicts: &mut Verdicts,
) -> Result<()> {
    match found {
        Ok(None) => {}
        Ok(Some(reason)) => verdicts.differs(pair, name, reason),
        Err(Trouble::Moved) => verdicts.differs(pair, name, Reason::Moving),
        Err(Trouble::Failed(error)) => return Err(error),
    }
    Ok(())
}

struct FirstLook {
    /// The server's time in milliseconds since 1970.
    now: i64,
    expiries: Vec<Expiry>,
    /// Bytes of each string; none for other types. Empty where not asked for.
    lengths: Vec<Option<i64>>,
}

async fn first_look(side: &Side, keys: &[Vec<u8>], lengths: bool) -> Result<FirstLook> {
    let mut commands = pipe();
    side.clock.ask(&mut commands, keys);
    if lengths {
        for key in keys {
            commands.cmd("STRLEN").arg(key);
        }
    }
    let mut connection = side.connection.clone();
    let answers = connection.ask_all(&commands).await?;
    let refused = answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) if !moved(error) => Some(error.clone()),
        _ => None,
    });
    if let Some(error) = refused {
        return Err(connection.explain("TIME, PEXPIRETIME, PTTL or STRLEN", error.into()));
    }
    let mut answers = answers.into_iter();
    let Some((now, expiries)) = side.clock.read(&mut answers, keys.len()) else {
        return Err(Error::failed(format!(
            "read when keys of {} expire",
            connection.place()
        )));
    };
    let lengths = answers.map(|answer| integer(&answer)).collect();
    Ok(FirstLook { now, expiries, lengths })
}

/// Keys by how they are to be compared.
#[derive(Default)]
struct Sorted<'a> {
    /// In groups that fit the budget.
    small: Vec<Vec<&'a Vec<u8>>>,
    budget_left: i64,
    large: Vec<&'a Vec<u8>>,
    others: Vec<&'a Vec<u8>>,
}

impl<'a> Sorted<'a> {
    fn put(&mut self, name: &'a Vec<u8>, length: Option<i64>) {
        match length {
            None => self.others.push(name),
            Some(length) if length > SMALL_STRING => self.large.push(name),
            Some(length) => {
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
    }
}

/// Compares strings by their values; gives back those that are not strings on the target.
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

/// The types of these keys on one side, `none` for what is not there.
pub(super) async fn types(side: &Side, names: &[&Vec<u8>]) -> Result<Vec<String>> {
    let mut commands = pipe();
    for name in names {
        commands.cmd("TYPE").arg(name);
    }
    let mut connection = side.connection.clone();
    match ask(&mut connection, &commands).await {
        Ok(answers) => Ok(answers
            .iter()
            .map(|answer| super::replies::text(answer).unwrap_or_default())
            .collect()),
        Err(Trouble::Failed(error)) => Err(error),
        Err(Trouble::Moved) => Err(Error::failed(format!(
            "read the types of keys of {}",
            connection.place()
        ))),
    }
}
