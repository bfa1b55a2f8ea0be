//! Builds values on the target under temporary names. A key gets its new value by one rename, so
//! that it is never there in part.

use super::building::{AT_ONCE, Typed};
use super::kind::Kind;
use super::parts::Part;
use super::source::text_of;
use super::target::{Refused, Target};
use anyhow::Result;
use redis::Value;
use wire::reply::integer;

/// Parts are sent once they have this many bytes.
const MOST_BYTES: usize = 1 << 20;
/// Answers that are waited for at once.
const MOST_PARTS: usize = 1000;

impl Target {
    /// Chooses the temporary names, and removes what was left under them.
    pub fn use_names(&mut self, prefix: &str) -> Result<()> {
        self.building.prefix = prefix.as_bytes().to_vec();
        let names: Vec<Vec<u8>> = (0..AT_ONCE).map(|at| self.name(at)).collect();
        for (database, _) in self.look()?.keys {
            self.select(database)?;
            self.delete(&names)?;
        }
        Ok(())
    }

    fn name(&self, at: usize) -> Vec<u8> {
        [self.building.prefix.as_slice(), at.to_string().as_bytes()].concat()
    }

    /// Begins to build one value from parts. Nothing else may be under way.
    pub fn begin(&mut self, database: u32) -> Result<()> {
        self.select(database)?;
        self.give_up()
    }

    /// Adds a part to the value that is being built.
    pub fn add_part(&mut self, part: &Part) -> Result<()> {
        let name = self.name(0);
        self.add_part_to(&name, part)
    }

    /// Adds a part to a key of the selected database. [`Target::accepted`] tells what came of it.
    pub fn add_part_to(&mut self, key: &[u8], part: &Part) -> Result<()> {
        self.link.add(&part.words(key));
        self.building.parts += 1;
        if self.link.batched() >= MOST_BYTES || self.building.parts >= MOST_PARTS {
            self.take_parts()?;
        }
        Ok(())
    }

    fn take_parts(&mut self) -> Result<()> {
        self.building.parts = 0;
        for answer in self.link.answers()? {
            match answer {
                Value::ServerError(_) => {
                    self.building.refused.get_or_insert_with(|| text_of(&answer));
                }
                // Only a claim is answered by what it found.
                Value::Array(found) if found.is_empty() => self.building.lacks_a_claim = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns true if a pending entry was claimed that its stream does not have.
    pub fn lacks_a_claim(&mut self) -> Result<bool> {
        self.take_parts()?;
        Ok(self.building.lacks_a_claim)
    }

    /// Returns true if the target took every part since the last time that this was asked.
    pub fn accepted(&mut self) -> Result<bool> {
        self.take_parts()?;
        let lacks = std::mem::take(&mut self.building.lacks_a_claim);
        Ok(self.building.refused.take().is_none() && !lacks)
    }

    /// Removes elements by a part of which the target says how many there were. Returns `None` if it refuses that.
    pub fn remove_by(&mut self, key: &[u8], part: &Part) -> Result<Option<u64>> {
        self.take_parts()?;
        let removed = integer(&self.link.ask(&part.words(key))?);
        Ok(removed.and_then(|removed| u64::try_from(removed).ok()))
    }

    /// Gives the key the value that was built. Returns the target's words if it refused a part.
    pub fn finish(&mut self, key: &[u8], expires: Option<i64>) -> Result<Option<String>> {
        self.take_parts()?;
        if let Some(why) = self.building.refused.take() {
            self.give_up()?;
            return Ok(Some(why));
        }
        let name = self.name(0);
        self.add_end(&name, expires);
        self.link.add(&[b"RENAME", &name, key]);
        let answers = self.link.answers()?;
        self.settle(key, answers.last())
    }

    /// Adds parts to a key of the selected database, and removes members of it. Returns false if the
    /// target refuses one. Nothing else may be under way.
    pub fn change(&mut self, kind: Kind, key: &[u8], parts: &[Part], gone: &[Vec<u8>]) -> Result<bool> {
        for part in parts {
            self.link.add(&part.words(key));
        }
        if let Some(removes) = kind.removal_command().filter(|_| !gone.is_empty()) {
            let mut words: Vec<&[u8]> = vec![removes, key];
            words.extend(gone.iter().map(Vec::as_slice));
            self.link.add(&words);
        }
        let answers = self.link.answers()?;
        Ok(!answers.iter().any(|answer| matches!(answer, Value::ServerError(_))))
    }

    fn add_end(&mut self, name: &[u8], expires: Option<i64>) {
        if let Some(end) = expires {
            self.link.add(&[b"PEXPIREAT", name, end.to_string().as_bytes()]);
        }
    }

    /// Judges the answer to a rename.
    fn settle(&mut self, key: &[u8], answer: Option<&Value>) -> Result<Option<String>> {
        match answer {
            Some(Value::Okay) => Ok(None),
            // The value ended before it was whole, or all of its fields did.
            Some(Value::ServerError(error)) if error.to_string().contains("no such key") => {
                self.delete(&[key.to_vec()])?;
                Ok(None)
            }
            other => Ok(Some(other.map(text_of).unwrap_or_default())),
        }
    }

    /// Removes what was built so far.
    pub fn give_up(&mut self) -> Result<()> {
        self.take_parts()?;
        self.building.refused = None;
        self.building.lacks_a_claim = false;
        let name = self.name(0);
        self.delete(&[name])?;
        Ok(())
    }

    /// Writes values that were read by their types, at most [`AT_ONCE`]. Nothing else may be under way.
    pub fn write_typed(&mut self, database: u32, values: &[Typed]) -> Result<Vec<Refused>> {
        self.select(database)?;
        for (at, value) in values.iter().enumerate() {
            match (value.string(), value.expires.map(|end| end.max(1).to_string())) {
                (Some(string), None) => self.link.add(&[b"SET", &value.key, string]),
                (Some(string), Some(end)) => {
                    self.link.add(&[b"SET", &value.key, string, b"PXAT", end.as_bytes()]);
                }
                (None, _) => {
                    let name = self.name(at);
                    for part in &value.parts {
                        self.link.add(&part.words(&name));
                    }
                    self.add_end(&name, value.expires);
                }
            }
        }
        self.link.send()?;
        let mut refused = Vec::new();
        let mut built = Vec::new();
        for (at, value) in values.iter().enumerate() {
            let is_string = value.string().is_some();
            let ends = usize::from(value.expires.is_some() && !is_string);
            let mut why = None;
            for _ in 0..value.parts.len() + ends {
                let answer = self.link.answer()?;
                if let Value::ServerError(_) = answer {
                    why.get_or_insert_with(|| text_of(&answer));
                }
            }
            let name = self.name(at);
            match why {
                Some(why) => {
                    if !is_string {
                        self.link.add(&[b"UNLINK", &name]);
                        built.push(None);
                    }
                    refused.push(Refused {
                        database,
                        key: value.key.clone(),
                        why,
                    });
                }
                None if is_string => {}
                None => {
                    self.link.add(&[b"RENAME", &name, &value.key]);
                    built.push(Some(&value.key));
                }
            }
        }
        let answers = self.link.answers()?;
        for (key, answer) in built.into_iter().zip(&answers) {
            if let Some(key) = key
                && let Some(why) = self.settle(key, Some(answer))?
            {
                refused.push(Refused {
                    database,
                    key: key.clone(),
                    why,
                });
            }
        }
        Ok(refused)
    }
}
