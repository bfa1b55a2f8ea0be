//! Puts a base into the bucket: its parts, and then its commit record.

use super::{Bases, json};
use crate::bucket::Refusal;
use crate::{clock, parts};
use anyhow::{Result, bail};
use infra_agent::digest;
use infra_agent::name::{self, COMMIT, Class};
use infra_agent::pauses::Pauses;
use infra_agent::record::{Commit, Part};
use jiff::Timestamp;
use std::path::Path;
use std::time::{Duration, Instant};

/// The parts of a base that were put.
pub(super) struct Put {
    pub(super) parts: Vec<Part>,
    pub(super) plain_sha256: String,
}

impl Bases {
    /// Puts the previous base again, under a class that never expires.
    pub(super) fn keep_for_ever(&self, last: &Commit, end: Instant) -> Result<()> {
        let file = self.settings.home.join("previous.rdb");
        if last.class == Class::Kept.name() || !file.exists() {
            return Ok(());
        }
        let place = self.place(Class::Kept, &last.timeline, &last.generation);
        let put = self.put(&place, &file, end)?;
        if put.plain_sha256 != last.plain_sha256 {
            bail!("{} is not the base that was put before", file.display());
        }
        let kept = Commit {
            place,
            class: Class::Kept.name().into(),
            bytes: put.parts.iter().map(|part| part.bytes).sum(),
            parts: put.parts,
            ..last.clone()
        };
        self.commit(kept, end).map(drop)
    }

    pub(super) fn place(&self, class: Class, timeline: &str, generation: &str) -> String {
        format!("{}/{}/{timeline}/{generation}", self.settings.prefix, class.name())
    }

    pub(super) fn put(&self, place: &str, file: &Path, end: Instant) -> Result<Put> {
        let mut parts = Vec::new();
        let plain_sha256 = parts::each(file, |body, plain_bytes| {
            let part = Part {
                name: name::part(parts.len()),
                sha256: digest::of(body),
                bytes: body.len() as u64,
                plain_bytes,
            };
            self.put_one(&format!("{place}/{}", part.name), body, end)?;
            parts.push(part);
            Ok(())
        })?;
        Ok(Put { parts, plain_sha256 })
    }

    /// Puts the commit record, after all parts.
    pub(super) fn commit(&self, mut commit: Commit, end: Instant) -> Result<Commit> {
        commit.finished = clock::text(Timestamp::now());
        self.put_one(&format!("{}/{COMMIT}", commit.place), &json(&commit)?, end)?;
        Ok(commit)
    }

    fn put_one(&self, key: &str, body: &[u8], end: Instant) -> Result<()> {
        let mut pauses = Pauses::doubling(Duration::from_millis(200), Duration::from_secs(15)).until(end);
        loop {
            match self.bucket.put(key, body) {
                Ok(()) => return Ok(()),
                Err(Refusal::Final(why)) => bail!("{why}"),
                Err(Refusal::Passing(why)) => {
                    self.shared.trouble("base", Some(why.clone()));
                    if !pauses.again() {
                        bail!("{why}, until the time was over");
                    }
                }
            }
        }
    }
}
