//! The lock that lets one command at a time change an environment.
//!
//! Each taking of the lock has an epoch, a number that only grows. Hosts refuse a lower epoch than
//! they have seen. So a command that slept during a takeover cannot act, whatever its clock says.
//!
//! The lock is an object that is created only if absent, names its holder, and lapses unless it is
//! renewed. The clock of S3 decides its age. The holder counts from before its request, on a clock
//! that runs in sleep, so its end comes first. A dead holder on this computer is not waited for.

use super::Store;
use super::held::{FILE, Held, Ownership, held, put, record, whose};
use super::lock_record::{LOCK_TERM, LockRecord};
use crate::effects::cloud::s3::{Etag, If, Object, Written};
use crate::model::clock::Instant;
use crate::model::error::{Doing, Error, Result};
use crate::ui::{Step, Ui};
use jiff::Timestamp;
use std::time::Duration;

/// The times of S3 have whole seconds, so an age may be a second too long at both ends.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);
/// The operations on a lock without holding it.
pub struct Lock;

impl Lock {
    /// Takes the lock for `command`, also a lapsed one. The error for a held lock names the holder.
    pub async fn acquire(store: &Store, ui: &Ui, command: &str) -> Result<Held> {
        let step = ui.step(format!("lock of {}", store.env()));
        let doing = || format!("take the lock of {}", store.env());
        let taken = async {
            let (held, from) = acquire(store, &step, LockRecord::new(command, Timestamp::now())).await?;
            match held.number().await {
                Ok(()) => Ok((held, from)),
                Err(error) => {
                    // If the release fails, the lock lapses.
                    let _ = held.release().await;
                    Err(error)
                }
            }
        };
        match taken.await {
            Ok((held, from)) => {
                match from {
                    Some(dead) => step.done(format!("held; taken over at once, since its holder is dead: {dead}")),
                    None => step.done("held"),
                }
                Ok(held)
            }
            Err(error) => {
                step.failed("not taken");
                Err(error).doing(doing)
            }
        }
    }

    /// Reads the lock, lapsed or not; `None` if there is none.
    pub async fn standing(store: &Store) -> Result<Option<Standing>> {
        let Some(object) = store.bucket().get(&store.key(FILE)).await? else {
            return Ok(None);
        };
        Ok(Some(Standing {
            record: record(store, &object)?,
            renewed_ago: age(&object),
            etag: object.etag,
        }))
    }

    /// Removes the lock with this id. Its owner fails at its next renewal, and at hosts where
    /// another command acted. Returns false, without effect, if another lock or none is there.
    pub async fn remove(store: &Store, standing: Standing) -> Result<bool> {
        let mut etag = standing.etag;
        // A concurrent renewal changes the etag, not the id.
        for _ in 0..5 {
            if store.bucket().delete(&store.key(FILE), &If::Unchanged(etag)).await? {
                return Ok(true);
            }
            match whose(store, &standing.record.id).await? {
                Ownership::Ours(renewed) => etag = renewed,
                Ownership::Lost(_) => return Ok(false),
            }
        }
        Err(Error::failed("remove the lock: its owner renews it all the time").hint("run the same command again"))
    }

    /// Returns who holds the lock now; `None` if nobody does, or the lock has lapsed.
    pub async fn holder(store: &Store) -> Result<Option<LockRecord>> {
        Ok(match store.bucket().get(&store.key(FILE)).await? {
            Some(object) if !lapsed(&object) => Some(record(store, &object)?),
            _ => None,
        })
    }
}

impl Standing {
    #[cfg(test)]
    pub fn new(record: LockRecord, renewed_ago: Option<Duration>) -> Self {
        Standing {
            record,
            renewed_ago,
            etag: Etag::default(),
        }
    }
}

pub struct Standing {
    pub record: LockRecord,
    /// By the clock of S3; `None` if the reply had no time.
    pub renewed_ago: Option<Duration>,
    etag: Etag,
}

/// Returns the lock, and the dead holder that it was taken from, if any.
async fn acquire(store: &Store, step: &Step, record: LockRecord) -> Result<(Held, Option<LockRecord>)> {
    let key = store.key(FILE);
    // Another lock vanished or changed in each failed round; a few rounds show a busy environment.
    for _ in 0..5 {
        let ends = Instant::now().after(LOCK_TERM);
        if let Written::Done(etag) = put(store, &record, &If::Absent).await? {
            return Ok((held(store, record, etag, ends), None));
        }
        let Some(object) = store.bucket().get(&key).await? else {
            continue;
        };
        let other = self::record(store, &object)?;
        if other.is_of_the_dead() {
            // The condition refuses everybody else who noticed it at the same moment.
            let ends = Instant::now().after(LOCK_TERM);
            match put(store, &record, &If::Unchanged(object.etag)).await? {
                Written::Done(etag) => return Ok((held(store, record, etag, ends), Some(other))),
                Written::Refused => continue,
            }
        }
        if !lapsed(&object) {
            return Err(Error::locked(other.to_string()).hint(format!(
                "wait until it has finished; if it died, its lock lapses {} s after its last sign of life, or `infra unlock {}` removes it",
                LOCK_TERM.as_secs(),
                other.id
            )));
        }
        step.update(format!("taking over from {other}"));
        store.bucket().delete(&key, &If::Unchanged(object.etag)).await?;
    }
    Err(Error::locked("other commands keep taking and releasing it").hint("run the same command again"))
}

/// Returns true if the lock was not renewed for its term, by the clock of S3; false without it.
fn lapsed(object: &Object) -> bool {
    age(object).is_some_and(|age| age >= LOCK_TERM + CLOCK_GRAIN)
}

/// Returns the age of an object, by the clock of S3.
fn age(object: &Object) -> Option<Duration> {
    let age = object.answered_at?.duration_since(object.written_at?);
    Some(Duration::try_from(age).unwrap_or_default())
}
