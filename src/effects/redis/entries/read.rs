//! Reads the values under the keys of entries.

use super::Entries;
use crate::model::error::Result;
use crate::model::import::{Entry, Held, Part};
use ::redis::{Pipeline, Value};
use jiff::Timestamp;

impl Entries {
    /// Returns what is under the key of each entry. Of a shared key only the entry's own members
    /// are read.
    pub async fn held(&mut self, entries: &[&Entry], shared: bool) -> Result<Vec<Held>> {
        let mut commands = Pipeline::with_capacity(2 * entries.len());
        for entry in entries {
            add_read(&mut commands, &entry.key, &entry.part, shared);
            commands
                .cmd(if self.says_when { "PEXPIRETIME" } else { "PTTL" })
                .arg(&entry.key);
        }
        let now = Timestamp::now().as_millisecond();
        let mut answers = self.pipeline.ask_all(&commands).await?.into_iter();
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let wanted = reads(&entry.part, shared);
            let found: Vec<Value> = answers.by_ref().take(wanted).collect();
            let expiry = match self.accepted(answers.next().unwrap_or(Value::Nil))? {
                Value::Int(at) if at >= 0 && self.says_when => Some(at),
                Value::Int(left) if left >= 0 => Some(now.saturating_add(left)),
                _ => None,
            };
            let mut values = Vec::with_capacity(found.len());
            for value in found {
                values.push(self.accepted(value)?);
            }
            all.push(match part(&entry.part, values, shared) {
                Found::Nothing => Held::Nothing,
                Found::Other => Held::OtherType("value of another type".into()),
                Found::Part(part) => Held::Part(part, expiry),
            });
        }
        Ok(all)
    }

    /// Returns all members of shared keys, each with its score if it has one; empty if there is no
    /// such key.
    pub async fn members(&mut self, keys: &[&[u8]], scored: bool) -> Result<Vec<Vec<Vec<u8>>>> {
        let mut commands = Pipeline::with_capacity(keys.len());
        for key in keys {
            if scored {
                commands.cmd("ZRANGE").arg(*key).arg(0).arg(-1);
            } else {
                commands.cmd("SMEMBERS").arg(*key);
            }
        }
        let answers = self.pipeline.ask_all(&commands).await?;
        answers
            .into_iter()
            .map(|answer| Ok(items(self.accepted(answer)?).unwrap_or_default()))
            .collect()
    }
}

enum Found {
    Nothing,
    Other,
    Part(Part),
}

/// Returns how many commands `add_read` adds.
fn reads(part: &Part, shared: bool) -> usize {
    match part {
        Part::Set(members) if shared => members.len(),
        Part::SortedSet(members) => members.len(),
        Part::String(_) | Part::Hash(_) | Part::List(_) | Part::Set(_) => 1,
    }
}

fn add_read(commands: &mut Pipeline, key: &[u8], part: &Part, shared: bool) {
    match part {
        Part::String(_) => {
            commands.cmd("GET").arg(key);
        }
        Part::Hash(_) => {
            commands.cmd("HGETALL").arg(key);
        }
        Part::List(_) => {
            commands.cmd("LRANGE").arg(key).arg(0).arg(-1);
        }
        Part::Set(members) if shared => {
            for member in members {
                commands.cmd("SISMEMBER").arg(key).arg(member);
            }
        }
        Part::Set(_) => {
            commands.cmd("SMEMBERS").arg(key);
        }
        Part::SortedSet(members) => {
            for (member, _) in members {
                commands.cmd("ZSCORE").arg(key).arg(member);
            }
        }
    }
}

fn part(wanted: &Part, values: Vec<Value>, shared: bool) -> Found {
    if values.iter().any(|value| matches!(value, Value::ServerError(_))) {
        return Found::Other;
    }
    let mut values = values.into_iter();
    let found = match wanted {
        Part::String(_) => match values.next() {
            Some(Value::BulkString(value)) => Part::String(value),
            _ => return Found::Nothing,
        },
        Part::Hash(_) => {
            let mut texts = values.next().and_then(items).unwrap_or_default().into_iter();
            let mut fields = Vec::new();
            while let (Some(field), Some(value)) = (texts.next(), texts.next()) {
                fields.push((field, value));
            }
            Part::Hash(fields)
        }
        Part::List(_) => Part::List(values.next().and_then(items).unwrap_or_default()),
        Part::Set(members) if shared => {
            let there = members.iter().zip(values).filter(|(_, found)| *found == Value::Int(1));
            Part::Set(there.map(|(member, _)| member.clone()).collect())
        }
        Part::Set(_) => Part::Set(values.next().and_then(items).unwrap_or_default()),
        Part::SortedSet(members) => {
            let there = members
                .iter()
                .zip(values)
                .filter_map(|((member, _), found)| match found {
                    Value::BulkString(text) => Some((member.clone(), score(&text)?)),
                    _ => None,
                });
            Part::SortedSet(there.collect())
        }
    };
    if found.is_empty() {
        Found::Nothing
    } else {
        Found::Part(found)
    }
}

fn items(value: Value) -> Option<Vec<Vec<u8>>> {
    match value {
        Value::Array(items) | Value::Set(items) => Some(
            items
                .into_iter()
                .filter_map(|item| match item {
                    Value::BulkString(text) => Some(text),
                    _ => None,
                })
                .collect(),
        ),
        Value::Map(pairs) => Some(
            pairs
                .into_iter()
                .flat_map(|(field, value)| [field, value])
                .filter_map(|item| match item {
                    Value::BulkString(text) => Some(text),
                    _ => None,
                })
                .collect(),
        ),
        _ => None,
    }
}

/// Reads a score as Redis prints it.
pub(super) fn score(text: &[u8]) -> Option<f64> {
    match text {
        b"inf" => Some(f64::INFINITY),
        b"-inf" => Some(f64::NEG_INFINITY),
        text => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}
