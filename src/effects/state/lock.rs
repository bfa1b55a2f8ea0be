//! One command at a time changes an environment.
//!
//! Each taking of the lock has an epoch, a number that only grows. Hosts remember the highest one that acted on them and refuse a lower one, so that a command
//! that slept while another took its lock over cannot act afterwards, whatever its own clock says.
//!
//! The lock is an object that is put only where there is none, says who holds it, is rewritten while it is held and lapses when it is not. Its age
//! is told by the clock of S3 alone; the holder counts its own term from before it asked, on a clock that goes on while a laptop sleeps, and so
//! always believes it ends earlier than anybody else does. A holder on this computer that is certainly dead is not waited for.

use super::Store;
use super::epoch;
use super::lock_record::{LOCK_TERM, LockRecord, until};
use crate::effects::cloud::s3::{Etag, If, Object, Written};
use crate::model::clock::Instant;
use crate::model::error::{Doing, Error, Result};
use crate::ui::{Step, Ui};
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

const RENEWAL: Duration = Duration::from_secs(15);
/// The times that S3 tells have whole seconds: an age may be told up to a second too long, at both ends.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);
/// CI systems kill some seven seconds after they ask to end.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);
/// One attempt to renew; the next one comes well before the lock lapses.
const RENEWAL_DEADLINE: Duration = Duration::from_secs(10);
/// One renewal on demand: an app may be waiting for what comes after it.
const CONFIRMATION_DEADLINE: Duration = Duration::from_secs(5);
/// In the environment's folder.
pub(crate) const FILE: &str = "lock.json";

/// Taking the lock.
pub struct Lock;

impl Lock {
    /// Takes the environment's lock for `command`. A lock that has lapsed is taken over; one that is held is an error that says by whom.
    pub async fn acquire(store: &Store, ui: &Ui, command: &str) -> Result<Held> {
        let step = ui.step(format!("lock of {}", store.env()));
        let doing = || format!("take the lock of {}", store.env());
        let taken = async {
            let (held, from) = acquire(store, &step, LockRecord::new(command, Timestamp::now())).await?;
            match held.number().await {
                Ok(()) => Ok((held, from)),
                Err(error) => {
                    // What cannot be given back lapses.
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

    /// Reads the lock as it stands, lapsed or not; `None` if there is none.
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

    /// Removes the lock with this id, whoever holds it. Its owner is refused from its next renewal on, and by the hosts once another command acted there.
    /// Returns false if the lock is gone or somebody else's by now; nothing is removed then.
    pub async fn remove(store: &Store, standing: Standing) -> Result<bool> {
        let mut etag = standing.etag;
        // A renewal that comes in between changes the etag, not the id.
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

    /// Who holds the lock now, if anybody; a lapsed one is nobody's.
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

/// A lock that is held and renewed until it is released or dropped.
pub struct Held {
    store: Store,
    shared: Arc<Shared>,
    renewing: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    grip: Mutex<Grip>,
    /// One renewal at a time: each is conditional on what the one before it wrote.
    renewal: tokio::sync::Mutex<()>,
}

/// A lock as it was read.
pub struct Standing {
    pub record: LockRecord,
    /// By the clock of S3; `None` if it told no time.
    pub renewed_ago: Option<Duration>,
    etag: Etag,
}

/// What we know of our hold.
#[derive(Clone)]
struct Grip {
    record: LockRecord,
    etag: Etag,
    ends: Instant,
    /// Why it is certainly gone.
    lost: Option<String>,
    /// Why the last renewal failed, which the next may still mend.
    trouble: Option<String>,
}

impl Shared {
    fn read(&self) -> Grip {
        self.grip.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Grip)) {
        change(&mut self.grip.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Held {
    /// Whether the lock is ours for at least `reserve` longer. Asks nobody, so that it costs nothing right before a point of no return.
    pub fn check(&self, reserve: Duration) -> Result<()> {
        let grip = self.shared.read();
        let env = self.store.env();
        if let Some(lost) = grip.lost {
            return Err(Error::locked(format!("go on: the lock of {env} was lost: {lost}"))
                .hint("see what the other command did with `infra status`, then run this one again"));
        }
        if grip.ends.remaining() <= reserve {
            let trouble = grip
                .trouble
                .unwrap_or_else(|| "this process was not running for a while".into());
            return Err(
                Error::locked(format!("go on: the lock of {env} could not be renewed in time"))
                    .because(trouble)
                    .hint("check the network, see what stands with `infra status`, then run the same command again"),
            );
        }
        Ok(())
    }

    /// Renews the lock now: S3 itself says whether it is still ours. Comes before whatever could erase or open something, since this computer's clock may
    /// have stood still while somebody else took the lock over. Costs one request.
    pub async fn confirm(&self, reserve: Duration) -> Result<()> {
        let confirming = async {
            let _turn = self.shared.renewal.lock().await;
            match renew_once(&self.store, &self.shared).await {
                // The second attempt knows the etag of the one that was written unseen.
                Renewal::Again => renew_once(&self.store, &self.shared).await,
                renewal => renewal,
            }
        };
        let renewal = tokio::time::timeout(CONFIRMATION_DEADLINE, confirming).await;
        let trouble = match renewal {
            Ok(Renewal::Done | Renewal::Lost) => return self.check(reserve),
            Ok(Renewal::Again) => "it is changed all the time".into(),
            Ok(Renewal::Failed(trouble)) => trouble,
            Err(_) => no_answer(CONFIRMATION_DEADLINE),
        };
        let doing = format!(
            "go on: it is not certain that the lock of {} is still ours",
            self.store.env()
        );
        Err(Error::locked(doing)
            .because(trouble)
            .hint("check the network, see what stands with `infra status`, then run the same command again"))
    }

    /// The epoch of this taking: hosts refuse a lower one than the highest they have seen.
    pub fn epoch(&self) -> u64 {
        self.shared.read().record.epoch
    }

    pub fn record(&self) -> LockRecord {
        self.shared.read().record
    }

    /// Gives this taking of the lock its epoch. The number is claimed first and the lock confirmed after: whoever took the lock over meanwhile has a higher one,
    /// or this taking ends here.
    async fn number(&self) -> Result<()> {
        let epoch = epoch::claim(&self.store).await?;
        self.shared.change(|grip| grip.record.epoch = epoch);
        self.confirm(Duration::ZERO).await
    }

    /// Gives the lock back. Takes five seconds at most; a lock that could not be given back lapses by itself.
    pub async fn release(self) -> Result<()> {
        // A renewal that is on its way would change the etag that the removal is conditional on.
        self.stop_renewing().await;
        let (store, shared) = (self.store.clone(), self.shared.clone());
        let give_back = async || -> Result<()> {
            let grip = shared.read();
            if grip.lost.is_some() {
                return Ok(());
            }
            let key = store.key(FILE);
            if store.bucket().delete(&key, &If::Unchanged(grip.etag)).await? {
                return Ok(());
            }
            // A renewal that was cut off on its way may have been written: then the lock is ours under another etag.
            if let Some(object) = store.bucket().get(&key).await?
                && record(&store, &object)?.id == grip.record.id
            {
                store.bucket().delete(&key, &If::Unchanged(object.etag)).await?;
            }
            Ok(())
        };
        let doing = || format!("release the lock of {}", store.env());
        match tokio::time::timeout(RELEASE_DEADLINE, give_back()).await {
            Ok(result) => result.doing(doing),
            Err(_) => Err(Error::failed(doing())
                .because(format!("S3 did not answer within {} s", RELEASE_DEADLINE.as_secs()))
                .hint("nothing to do: it lapses within a minute")),
        }
    }

    /// Stops renewing before the environment's folder is removed with the lock in it. When this returns, no renewal is on its way.
    pub(crate) async fn stop_renewing(&self) {
        if let Some(renewing) = self.take_renewing() {
            renewing.abort();
            // The only error here is that it was cut off, as it was asked to be.
            let _ = renewing.await;
        }
    }

    /// The environment's folder was removed, and the lock with it: there is nothing to give back.
    pub(crate) fn is_removed(&self) {
        self.shared
            .change(|grip| grip.lost = Some("it was removed with the environment".into()));
    }

    fn take_renewing(&self) -> Option<JoinHandle<()>> {
        self.renewing.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(renewing) = self.take_renewing() {
            renewing.abort();
        }
    }
}

/// The lock, and the dead holder that it was taken from, if there was one.
async fn acquire(store: &Store, step: &Step, record: LockRecord) -> Result<(Held, Option<LockRecord>)> {
    let key = store.key(FILE);
    // Each round that fails found somebody else's lock vanish or change; a few of them are enough to believe that the environment is busy.
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
            // Whoever else found it out at the same moment is refused by the condition.
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
    Err(Error::locked("others take and leave it all the time").hint("run the same command again"))
}

fn held(store: &Store, record: LockRecord, etag: Etag, ends: Instant) -> Held {
    let shared = Arc::new(Shared {
        grip: Mutex::new(Grip {
            record,
            etag,
            ends,
            lost: None,
            trouble: None,
        }),
        renewal: tokio::sync::Mutex::default(),
    });
    Held {
        store: store.clone(),
        renewing: Mutex::new(Some(tokio::spawn(renew(store.clone(), shared.clone())))),
        shared,
    }
}

async fn renew(store: Store, shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        let renewing = async {
            let _turn = shared.renewal.lock().await;
            renew_once(&store, &shared).await
        };
        match tokio::time::timeout(RENEWAL_DEADLINE, renewing).await {
            Ok(Renewal::Lost) => return,
            Ok(Renewal::Failed(trouble)) => shared.change(|grip| grip.trouble = Some(trouble)),
            Ok(Renewal::Done | Renewal::Again) => {}
            Err(_) => shared.change(|grip| grip.trouble = Some(no_answer(RENEWAL_DEADLINE))),
        }
    }
}

/// How one attempt to renew ended.
enum Renewal {
    Done,
    /// An earlier one that was cut off on its way was written after all, so that this one was refused.
    Again,
    Lost,
    Failed(String),
}

/// One conditional renewal, by whoever has the turn.
async fn renew_once(store: &Store, shared: &Shared) -> Renewal {
    let grip = shared.read();
    if grip.lost.is_some() {
        return Renewal::Lost;
    }
    let mut record = grip.record;
    record.until = until(Timestamp::now());
    record.renewals += 1;
    let ends = Instant::now().after(LOCK_TERM);
    let failed = |error: Error| Renewal::Failed(error.chain().join(": "));
    match put(store, &record, &If::Unchanged(grip.etag)).await {
        Ok(Written::Done(etag)) => {
            shared.change(|grip| {
                (grip.record, grip.etag, grip.ends, grip.trouble) = (record, etag, ends, None);
            });
            Renewal::Done
        }
        Ok(Written::Refused) => match whose(store, &record.id).await {
            Ok(Ownership::Ours(etag)) => {
                shared.change(|grip| grip.etag = etag);
                Renewal::Again
            }
            Ok(Ownership::Lost(by)) => {
                shared.change(|grip| grip.lost = Some(by));
                Renewal::Lost
            }
            Err(error) => failed(error),
        },
        Err(error) => failed(error),
    }
}

fn no_answer(within: Duration) -> String {
    format!("S3 did not answer within {} s", within.as_secs())
}

enum Ownership {
    Ours(Etag),
    Lost(String),
}

async fn whose(store: &Store, id: &str) -> Result<Ownership> {
    Ok(match store.bucket().get(&store.key(FILE)).await? {
        None => Ownership::Lost("somebody removed it".into()),
        Some(object) => {
            let record = record(store, &object)?;
            if record.id == id {
                Ownership::Ours(object.etag)
            } else {
                Ownership::Lost(record.to_string())
            }
        }
    })
}

async fn put(store: &Store, record: &LockRecord, when: &If) -> Result<Written> {
    let body = serde_json::to_vec_pretty(record).doing(|| "put the lock into JSON".into())?;
    store.bucket().put(&store.key(FILE), &body, when).await
}

fn record(store: &Store, object: &Object) -> Result<LockRecord> {
    serde_json::from_slice(&object.body)
        .doing(|| format!("understand {}", store.bucket().url(&store.key(FILE))))
        .map_err(|error| error.hint("no version of this program wrote this lock: remove it once nobody works here"))
}

/// Whether nobody renewed this lock for its whole term, by the clock of S3. Without that clock it counts as held.
fn lapsed(object: &Object) -> bool {
    age(object).is_some_and(|age| age >= LOCK_TERM + CLOCK_GRAIN)
}

/// How long ago an object was written, by the clock of S3.
fn age(object: &Object) -> Option<Duration> {
    let age = object.answered_at?.duration_since(object.written_at?);
    Some(Duration::try_from(age).unwrap_or_default())
}
