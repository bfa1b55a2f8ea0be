//! Copies one key in parts: into a temporary key of the target, which gets the key's name at the
//! end. Neither side is held up, and one window is in memory, however large the value is.
//!
//! A value that changed while it was read is read anew. What shows a change is cheap: type, length
//! and expiry before and after, the watch's mark, and, if nothing watches and the key was used
//! meanwhile, a second reading. A hash, a set or a stream whose members are marked one by one is not read
//! anew for them: they are copied after it.

mod followed;
mod ids;
mod part;
mod reading;
mod streams;
mod windows;

pub use followed::Followed;
pub use part::{Digest, Part};
pub use streams::Held;
pub use windows::{LONGEST, Trouble, all_bytes, field_ends, scored};

use super::kind::Kind;
use super::reads::Shape;
use super::remembered::Remembered;
use super::source::Source;
use super::target::Target;
use super::watch::Watch;
use std::time::Instant;
use windows::Outcome;

/// How often a value that changes all the time is read. The last reading stands, and the next sweep
/// copies the key again.
const READINGS: u32 = 3;

/// How a key was copied in parts.
#[derive(Debug, PartialEq, Eq)]
pub enum Copied {
    /// The target has it already.
    Same,
    Written,
    /// It changed during each reading, so what was written is a mixture.
    Unsettled,
    /// It was deleted, or has expired.
    Gone,
    /// Its type has no parts that every engine knows.
    OtherType,
    /// Source or target refused it; holds the words.
    Refused(String),
}

/// A key that is copied in parts.
pub struct Large<'a> {
    pub source: &'a mut Source,
    pub target: &'a mut Target,
    pub remembered: &'a mut Remembered,
    pub database: u32,
    pub key: &'a [u8],
    /// Marks the keys that are written meanwhile.
    pub watch: Option<&'a Watch>,
    /// False if an app waits: everything is compared afterwards in any case.
    pub looks_twice: bool,
}

impl Large<'_> {
    /// Copies the key. Both sides must have nothing under way.
    pub fn copy(mut self) -> anyhow::Result<Copied> {
        let copied = self.readings();
        // A target that did not get every member may not be given some.
        if let Some(watch) = self.watch
            && !matches!(copied, Ok(Copied::Same | Copied::Written))
        {
            watch.unfollow(self.database, self.key);
        }
        match copied {
            Ok(copied) => Ok(copied),
            Err(Trouble::Moved) => Ok(Copied::Gone),
            Err(Trouble::OtherType) => Ok(Copied::OtherType),
            Err(Trouble::Refused(why)) => Ok(Copied::Refused(why)),
            Err(Trouble::Broken(error)) => Err(error),
        }
    }

    fn readings(&mut self) -> Outcome<Copied> {
        if let Some(shape) = self.source.shape(self.key)?
            && self.remembered.knows(self.database, self.key)
        {
            let digest = self.digest(&shape)?;
            if self
                .remembered
                .saw_digest(self.database, self.key, digest, shape.expires)
            {
                return Ok(Copied::Same);
            }
        }
        for reading in 1..=READINGS {
            // A mark of before this reading says nothing about it.
            self.is_marked();
            let begun = Instant::now();
            let Some(before) = self.source.shape(self.key)? else {
                return Ok(Copied::Gone);
            };
            let by_members = self.is_followed(&before);
            let (digest, held) = match self.build(&before) {
                // It vanished, or is another one by now.
                Err(Trouble::Moved) if reading < READINGS => {
                    self.target.give_up()?;
                    continue;
                }
                Err(trouble) => {
                    self.target.give_up()?;
                    return Err(trouble);
                }
                Ok(built) => built,
            };
            let changed = self.changed(&before, digest, begun, by_members)? || self.target.lacks_a_claim()?;
            if changed && reading < READINGS {
                self.target.give_up()?;
                continue;
            }
            if let Some(why) = self.target.finish(self.key, before.expires)? {
                self.remembered.forget(self.database, self.key);
                return Ok(Copied::Refused(why));
            }
            if changed {
                self.remembered.forget(self.database, self.key);
                return Ok(Copied::Unsettled);
            }
            self.remembered.note(self.database, self.key, digest, before.expires);
            if let Some(held) = held.filter(|_| by_members) {
                self.remembered.hold(self.database, self.key, held);
            }
            return Ok(Copied::Written);
        }
        Ok(Copied::Unsettled)
    }

    /// Reads the value for its digest alone.
    fn digest(&mut self, shape: &Shape) -> Outcome<u64> {
        let mut digest = self.remembered.digest();
        let (kind, size) = (kind(shape)?, (shape.size, shape.length));
        reading::read(self.source, self.key, kind, size, &mut |part| {
            digest.add(&part);
            Ok(())
        })?;
        Ok(digest.finish())
    }

    /// Reads the value into a temporary key. Returns its digest, and what the target has then of a stream.
    fn build(&mut self, shape: &Shape) -> Outcome<(u64, Option<Held>)> {
        let mut digest = self.remembered.digest();
        let (kind, size) = (kind(shape)?, (shape.size, shape.length));
        let target = &mut *self.target;
        target.begin(self.database)?;
        let held = reading::read(self.source, self.key, kind, size, &mut |part| {
            digest.add(&part);
            target.add_part(&part)
        })?;
        Ok((digest.finish(), held))
    }

    /// Takes the mark off the key. Returns true if it had one.
    fn is_marked(&self) -> bool {
        self.watch.is_some_and(|watch| watch.unmark(self.database, self.key))
    }

    /// Has the watch mark members of the key from now on, if that is enough. Returns true if it does. A key that
    /// ends is not followed so: it could end and begin anew without a request that says so.
    fn is_followed(&self, shape: &Shape) -> bool {
        let has_members = matches!(
            Kind::named(&shape.kind),
            Some(Kind::Hash | Kind::Set | Kind::SortedSet | Kind::Stream)
        );
        let Some(watch) = self.watch else { return false };
        if has_members && shape.expires.is_none() {
            return watch.follow(self.database, self.key);
        }
        watch.unfollow(self.database, self.key);
        false
    }

    /// Returns whether the value may have changed since the reading began, but for marked members.
    fn changed(&mut self, before: &Shape, digest: u64, begun: Instant, by_members: bool) -> Outcome<bool> {
        let took = begun.elapsed();
        let after = self.source.shape(self.key)?;
        let is_like = |after: &Shape| {
            if by_members {
                after.kind == before.kind && after.expires.is_none()
            } else {
                after.is_like(before)
            }
        };
        let Some(after) = after.filter(is_like) else {
            return Ok(true);
        };
        if self.is_marked() {
            return Ok(true);
        }
        if !self.looks_twice || after.unused_for(took) {
            return Ok(false);
        }
        // The key may have been used by another client, perhaps for reading alone.
        match self.digest(&after) {
            Ok(again) => Ok(again != digest),
            Err(Trouble::Moved) => Ok(true),
            Err(trouble) => Err(trouble),
        }
    }
}

fn kind(shape: &Shape) -> Outcome<Kind> {
    Kind::named(&shape.kind).ok_or(Trouble::OtherType)
}
