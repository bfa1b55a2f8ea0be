//! One command at a time changes an environment.
//!
//! The lock is an object that is put only where there is none, says who holds it, is rewritten while it is held and lapses when it is not. Its age
//! is told by the clock of S3 alone; the holder counts its own term from before it asked, on a clock that goes on while a laptop sleeps, and so
//! always believes it ends earlier than anybody else does. A holder on this computer that is certainly dead is not waited for.

use super::{ProcessIdentity, Store};
use crate::cloud::s3::{Etag, If, Object, Written};
use crate::error::{Doing, Error, Result};
use crate::ui::{Step, Ui};
use crate::wait::Instant;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a lock holds without being renewed.
pub const LOCK_TERM: Duration = Duration::from_secs(60);
const RENEWAL: Duration = Duration::from_secs(15);
/// The times that S3 tells have whole seconds: an age may be told up to a second too long, at both ends.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);
/// CI systems kill some seven seconds after they ask to end.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);
/// One attempt to renew; the next one comes well before the lock lapses.
const RENEWAL_DEADLINE: Duration = Duration::from_secs(10);
/// In the environment's folder.
pub(crate) const FILE: &str = "lock.json";

/// Who holds a lock, for the person who is kept waiting.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct LockRecord {
    /// Random, and so the proof that a lock is ours.
    pub id: String,
    pub who: String,
    pub host: String,
    pub process: u32,
    pub command: String,
    pub since: Timestamp,
    /// By the holder's clock: to be shown, not to be compared.
    pub until: Timestamp,
    pub renewals: u64,
    /// By which the holder's own computer can tell that it is dead; not every system has it, nor did every version write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ProcessIdentity>,
}

impl fmt::Display for LockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} (process {}) runs `{}` since {}",
            self.who,
            self.host,
            self.process,
            self.command,
            self.since.strftime("%H:%M:%S UTC")
        )
    }
}

impl LockRecord {
    fn new(command: &str, now: Timestamp) -> Self {
        LockRecord {
            id: random_id(),
            who: user_name(),
            host: host_name(),
            process: std::process::id(),
            command: command.to_string(),
            since: now,
            until: until(now),
            renewals: 0,
            identity: ProcessIdentity::own(),
        }
    }

    /// Whether its holder ran on this computer and is certainly dead. The host's name is asked too, since a copy of a running virtual machine has the
    /// boot id of its original.
    fn is_of_the_dead(&self) -> bool {
        self.host == host_name() && self.identity.as_ref().is_some_and(ProcessIdentity::is_dead)
    }
}

/// Taking the lock.
pub struct Lock;

impl Lock {
    /// Takes the environment's lock for `command`. A lock that has lapsed is taken over; one that is held is an error that says by whom.
    pub async fn acquire(store: &Store, ui: &Ui, command: &str) -> Result<Held> {
        let step = ui.step(format!("lock of {}", store.env()));
        let doing = || format!("take the lock of {}", store.env());
        match acquire(store, &step, LockRecord::new(command, Timestamp::now())).await {
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

    /// Who holds the lock now, if anybody; a lapsed one is nobody's.
    pub async fn holder(store: &Store) -> Result<Option<LockRecord>> {
        Ok(match store.bucket().get(&store.key(FILE)).await? {
            Some(object) if !lapsed(&object) => Some(record(store, &object)?),
            _ => None,
        })
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

    pub fn record(&self) -> LockRecord {
        self.shared.read().record
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
                "wait until it has finished; if it died, its lock lapses {} s after its last sign of life",
                LOCK_TERM.as_secs()
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
        let grip = shared.read();
        let mut record = grip.record;
        record.until = until(Timestamp::now());
        record.renewals += 1;
        let ends = Instant::now().after(LOCK_TERM);
        let when = If::Unchanged(grip.etag);
        match tokio::time::timeout(RENEWAL_DEADLINE, put(&store, &record, &when)).await {
            Ok(Ok(Written::Done(etag))) => shared.change(|grip| {
                (grip.record, grip.etag, grip.ends, grip.trouble) = (record, etag, ends, None);
            }),
            Ok(Ok(Written::Refused)) => match whose(&store, &record.id).await {
                // A renewal that was cut off on its way was written after all.
                Ok(Ownership::Ours(etag)) => shared.change(|grip| grip.etag = etag),
                Ok(Ownership::Lost(by)) => {
                    shared.change(|grip| grip.lost = Some(by));
                    return;
                }
                Err(error) => shared.change(|grip| grip.trouble = Some(error.chain().join(": "))),
            },
            Ok(Err(error)) => shared.change(|grip| grip.trouble = Some(error.chain().join(": "))),
            Err(_) => shared.change(|grip| {
                grip.trouble = Some(format!("S3 did not answer within {} s", RENEWAL_DEADLINE.as_secs()));
            }),
        }
    }
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
    let (Some(written), Some(answered)) = (object.written_at, object.answered_at) else {
        return false;
    };
    let age = Duration::try_from(answered.duration_since(written)).unwrap_or_default();
    age >= LOCK_TERM + CLOCK_GRAIN
}

fn until(now: Timestamp) -> Timestamp {
    now.checked_add((LOCK_TERM.as_secs() as i64).seconds()).unwrap_or(now)
}

/// Sixteen hexadecimal digits.
pub(super) fn random_id() -> String {
    use ssh_key::rand_core::{OsRng, RngCore};
    format!("{:016x}", OsRng.next_u64())
}

fn user_name() -> String {
    let by_id = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map(|user| user.name);
    by_id
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| "somebody".into())
}

fn host_name() -> String {
    match nix::unistd::gethostname() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "an unnamed host".into(),
    }
}
