//! Copies single keys, and chooses the way for each: as a whole, by its type, or in parts.

use super::building::{AT_ONCE, Typed};
use super::by_type;
use super::kind::Kind;
use super::parts::{Copied, Digest, Large};
use super::reads::{LONGEST_DUMP, Read, Weighed};
use super::source::Source;
use super::target::{Dumped, Refused};
use super::work::{BATCH, LARGE, Sweep};
use crate::record::SweepReport;
use anyhow::Result;
use std::collections::VecDeque;

/// A value of a type that only some engines have cannot be read in parts. A larger one is refused.
const LONGEST_WHOLE: usize = 256 << 20;

/// Returns true if the target said that it knows no value of the source's format.
pub fn is_other_format(why: &str) -> bool {
    why.contains("payload version")
}

/// Returns true if the target said that it does not know this value.
fn is_unknown_value(why: &str) -> bool {
    why.contains("Bad data format")
}

/// The values that came of one batch.
#[derive(Default)]
pub(super) struct Taken {
    pub bytes: u64,
    looked_at: usize,
    found: u64,
    /// The places of keys that were asked for as strings, and are none.
    pub no_strings: Vec<usize>,
}

/// Takes the answers of one batch key by key.
pub(super) type Taking =
    fn(&mut Source, &[Vec<u8>], bool, usize, &mut dyn FnMut(&[u8], Read) -> Result<()>) -> Result<()>;

impl Sweep<'_> {
    /// Copies these keys of the selected database. The source must have nothing under way.
    pub fn keys(&mut self, database: u32, keys: Vec<Vec<u8>>, report: &mut SweepReport) -> Result<()> {
        let by_type = !self.source.dumps || !self.source.says_sizes;
        let weighed = self.source.weigh(keys, by_type)?;
        self.weighed(database, weighed, report)?;
        if !self.later.is_empty() {
            self.do_later(database, report)?;
        }
        Ok(())
    }

    /// Copies keys batch by batch, and large ones alone.
    fn weighed(&mut self, database: u32, keys: Vec<Weighed>, report: &mut SweepReport) -> Result<()> {
        let mut rest: VecDeque<Weighed> = keys.into();
        while let Some(first) = rest.pop_front() {
            report.largest = report.largest.max(first.size);
            if first.size > LARGE {
                self.large(database, &first.key, report)?;
                continue;
            }
            let (mut bytes, mut batch) = (first.size, vec![first]);
            while let Some(next) = rest.pop_front_if(|next| next.size <= LARGE && bytes + next.size <= BATCH) {
                bytes += next.size;
                report.largest = report.largest.max(next.size);
                batch.push(next);
            }
            let read = if batch.iter().any(|key| key.kind.is_none()) {
                let keys: Vec<Vec<u8>> = batch.into_iter().map(|weighed| weighed.key).collect();
                self.source.ask_for(&keys, true);
                self.source.link.send()?;
                self.take(Source::take, database, &keys, true, report)?.bytes
            } else {
                self.typed(database, batch, report)?
            };
            self.source.rest(read)?;
        }
        Ok(())
    }

    /// Takes the values of one batch by [`Source::take`] or [`Source::take_strings`], and writes what is other than it was.
    /// `ends` tells whether the ends of keys were asked for.
    pub(super) fn take(
        &mut self,
        take: Taking,
        database: u32,
        keys: &[Vec<u8>],
        ends: bool,
        report: &mut SweepReport,
    ) -> Result<Taken> {
        let (target, remembered, shared) = (&mut *self.target, &mut *self.remembered, self.shared);
        let mut taken = Taken::default();
        let mut refused: Vec<Refused> = Vec::new();
        let in_parts = &mut self.later.in_parts;
        take(self.source, keys, ends, LONGEST_DUMP, &mut |key, read| {
            match read {
                Read::Found { payload, expires, used } => {
                    taken.bytes += payload.len() as u64;
                    taken.found += 1;
                    if !remembered.saw(database, key, &payload, expires) {
                        report.changed += 1;
                        remembered.wrote(database, key, &payload, expires);
                        let payload = payload.as_slice();
                        let value = Dumped { payload, expires, used };
                        refused.extend(target.write(database, key, &value)?);
                    }
                }
                // The walk through the target removes it there.
                Read::Gone => remembered.forget(database, key),
                Read::Long => in_parts.push(key.to_vec()),
                Read::NoString => taken.no_strings.push(taken.looked_at),
                Read::Refused(why) => refused.push(Refused {
                    database,
                    key: key.to_vec(),
                    why,
                }),
            }
            taken.looked_at += 1;
            Ok(())
        })?;
        report.keys += taken.found;
        self.judge(refused, report);
        let mut status = shared.lock();
        status.keys_read += (keys.len() - taken.no_strings.len()) as u64;
        status.bytes += taken.bytes;
        drop(status);
        Ok(taken)
    }

    /// Waits until all that was sent is in the target.
    pub(super) fn written(&mut self, database: u32, report: &mut SweepReport) -> Result<()> {
        let refused = self.target.flush()?;
        self.judge(refused, report);
        if !self.later.is_empty() {
            self.do_later(database, report)?;
        }
        Ok(())
    }

    /// Copies the keys that were put off. The source must have nothing under way.
    pub(super) fn do_later(&mut self, database: u32, report: &mut SweepReport) -> Result<()> {
        while !self.later.is_empty() {
            let refused = self.target.flush()?;
            self.judge(refused, report);
            for key in std::mem::take(&mut self.later.in_parts) {
                self.large(database, &key, report)?;
            }
            let keys = std::mem::take(&mut self.later.by_type);
            // They were counted when they were read as a whole.
            report.keys = report.keys.saturating_sub(keys.len() as u64);
            report.changed = report.changed.saturating_sub(keys.len() as u64);
            let weighed = self.source.weigh(keys, true)?;
            self.weighed(database, weighed, report)?;
        }
        Ok(())
    }

    /// Copies keys by their types. Returns the bytes that were read.
    fn typed(&mut self, database: u32, keys: Vec<Weighed>, report: &mut SweepReport) -> Result<u64> {
        let mut known = Vec::with_capacity(keys.len());
        let mut apart = Vec::new();
        for Weighed { key, kind, .. } in keys {
            match kind.as_deref().and_then(Kind::named) {
                Some(Kind::Stream) => apart.push(key),
                Some(kind) => known.push((key, kind)),
                None if kind.as_deref() == Some("none") => {}
                None => {
                    let kind = kind.unwrap_or_default();
                    let why = format!("the master does not know the type {kind}, or not in the source's format");
                    self.refuse(&Refused { database, key, why }, report);
                }
            }
        }
        let mut bytes = 0;
        for keys in known.chunks(AT_ONCE) {
            let (mut values, mut read) = (Vec::new(), 0);
            for ((key, _), typed) in keys.iter().zip(by_type::read(self.source, keys)?) {
                match typed {
                    by_type::Typed::Found { parts, expires } => {
                        read += parts.iter().map(super::parts::Part::bytes).sum::<u64>();
                        let digest = parts.iter().fold(self.remembered.digest(), Digest::with).finish();
                        report.keys += 1;
                        report.by_type += 1;
                        if !self.remembered.saw_digest(database, key, digest, expires) {
                            report.changed += 1;
                            self.remembered.note(database, key, digest, expires);
                            let key = key.clone();
                            values.push(Typed { key, parts, expires });
                        }
                    }
                    by_type::Typed::Apart => apart.push(key.clone()),
                    by_type::Typed::Gone => {}
                    by_type::Typed::Refused(why) => {
                        let key = key.clone();
                        self.refuse(&Refused { database, key, why }, report);
                    }
                }
            }
            let sent = self.target.flush()?;
            self.judge(sent, report);
            for refused in self.target.write_typed(database, &values)? {
                self.refuse(&refused, report);
            }
            bytes += read;
            let mut status = self.shared.lock();
            status.keys_read += keys.len() as u64;
            status.bytes += read;
        }
        for key in apart {
            self.large(database, &key, report)?;
        }
        Ok(bytes)
    }

    /// Copies a key in parts. The source must have nothing under way.
    pub(super) fn large(&mut self, database: u32, key: &[u8], report: &mut SweepReport) -> Result<()> {
        let sent = self.target.flush()?;
        self.judge(sent, report);
        let large = Large {
            source: self.source,
            target: self.target,
            remembered: self.remembered,
            database,
            key,
            watch: self.watch,
            // The watch tells what was written, and inside the fence everything is compared afterwards.
            looks_twice: self.rate.is_some() && self.watch.is_none(),
        };
        let copied = large.copy()?;
        self.shared.lock().keys_read += 1;
        match copied {
            Copied::Gone => return Ok(()),
            Copied::Refused(why) => {
                let key = key.to_vec();
                self.refuse(&Refused { database, key, why }, report);
                return Ok(());
            }
            Copied::OtherType => return self.whole(database, key, report),
            Copied::Same => {}
            Copied::Written => report.changed += 1,
            Copied::Unsettled => {
                report.changed += 1;
                report.unsettled += 1;
                if let Some(watch) = self.watch {
                    watch.again(database, vec![key.to_vec()]);
                }
            }
        }
        report.keys += 1;
        report.in_parts += 1;
        Ok(())
    }

    /// Copies a large value of a type that only some engines have: it has no parts.
    fn whole(&mut self, database: u32, key: &[u8], report: &mut SweepReport) -> Result<()> {
        let keys = [key.to_vec()];
        self.source.ask_for(&keys, true);
        self.source.link.send()?;
        let mut refused = Vec::new();
        let (target, remembered) = (&mut *self.target, &mut *self.remembered);
        self.source.take(&keys, true, LONGEST_WHOLE, &mut |key, read| {
            let why = match read {
                Read::Gone => return Ok(()),
                Read::Found { payload, expires, used } => {
                    report.keys += 1;
                    if !remembered.saw(database, key, &payload, expires) {
                        report.changed += 1;
                        remembered.wrote(database, key, &payload, expires);
                        let payload = payload.as_slice();
                        let value = Dumped { payload, expires, used };
                        refused.extend(target.write(database, key, &value)?);
                    }
                    return Ok(());
                }
                Read::Long | Read::NoString => "its type can only be copied whole, and it is too large for that".into(),
                Read::Refused(why) => why,
            };
            let key = key.to_vec();
            refused.push(Refused { database, key, why });
            Ok(())
        })?;
        refused.extend(self.target.flush()?);
        for refused in refused {
            self.refuse(&refused, report);
        }
        Ok(())
    }

    /// Puts off what can be copied by its type, and notes the rest as refused.
    pub(super) fn judge(&mut self, refused: Vec<Refused>, report: &mut SweepReport) {
        for refused in refused {
            let is_other_format = is_other_format(&refused.why);
            if is_other_format {
                self.source.dumps = false;
            }
            if is_other_format || is_unknown_value(&refused.why) {
                self.remembered.forget(refused.database, &refused.key);
                self.later.by_type.push(refused.key);
            } else {
                self.refuse(&refused, report);
            }
        }
    }

    fn refuse(&mut self, refused: &Refused, report: &mut SweepReport) {
        self.remembered.forget(refused.database, &refused.key);
        report.refused += 1;
        report.first_refused.get_or_insert_with(|| {
            format!(
                "database {} key {}: {}",
                refused.database,
                String::from_utf8_lossy(&refused.key),
                refused.why
            )
        });
    }
}
