//! A lock that is held: it is renewed, confirmed before what cannot be undone, and released.

use super::Store;
use super::epoch;
use super::lock_record::{LOCK_TERM, LockRecord, until};
use crate::effects::cloud::s3::{Etag, If, Object, Written};
use crate::model::clock::Instant;
use crate::model::error::{Doing, Error, Result};
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

const RENEWAL: Duration = Duration::from_secs(15);
/// CI systems kill a process some seven seconds after they ask it to end.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);
/// Time limit of one renewal; the next one comes well before the lock lapses.
const RENEWAL_DEADLINE: Duration = Duration::from_secs(10);
/// Time limit of one renewal on demand, since an app may be waiting for the next step.
const CONFIRMATION_DEADLINE: Duration = Duration::from_secs(5);
/// The name of the object in the environment's folder.
pub(crate) const FILE: &str = "lock.json";

/// A lock that is held, and renewed until it is released or dropped.
pub struct Held {
    store: Store,
    shared: Arc<Shared>,
    renewing: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    grip: Mutex<Grip>,
    /// Allows one renewal at a time, since each is conditional on the object of the one before.
    renewal: tokio::sync::Mutex<()>,
}

/// Holds what is known of our lock.
#[derive(Clone)]
struct Grip {
    record: LockRecord,
    etag: Etag,
    ends: Instant,
    /// The reason why it is certainly lost.
    lost: Option<String>,
    /// The reason why the last renewal failed; the next one may still succeed.
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
    /// Checks, without a request, that the lock is ours for at least `reserve` longer.
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

    /// Renews the lock now, so that S3 confirms it: this computer may have slept while another took
    /// it over. Must come before anything that erases data or opens access. Costs one request.
    pub async fn confirm(&self, reserve: Duration) -> Result<()> {
        let confirming = async {
            let _turn = self.shared.renewal.lock().await;
            match renew_once(&self.store, &self.shared).await {
                // The second attempt knows the etag of the write whose answer was lost.
                Renewal::Again => renew_once(&self.store, &self.shared).await,
                renewal => renewal,
            }
        };
        let renewal = tokio::time::timeout(CONFIRMATION_DEADLINE, confirming).await;
        let trouble = match renewal {
            Ok(Renewal::Done | Renewal::Lost) => return self.check(reserve),
            Ok(Renewal::Again) => "another process keeps changing it".into(),
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

    /// Returns the epoch of this taking; hosts refuse a lower one than they have seen.
    pub fn epoch(&self) -> u64 {
        self.shared.read().record.epoch
    }

    pub fn record(&self) -> LockRecord {
        self.shared.read().record
    }

    /// Gives this taking its epoch: claims the number first, then confirms the lock. If another
    /// took it over meanwhile, the other has a higher epoch or this taking ends here.
    pub(super) async fn number(&self) -> Result<()> {
        let epoch = epoch::claim(&self.store).await?;
        self.shared.change(|grip| grip.record.epoch = epoch);
        self.confirm(Duration::ZERO).await
    }

    /// Releases the lock within five seconds. A lock that could not be released lapses by itself.
    pub async fn release(self) -> Result<()> {
        // A renewal in flight would change the etag, which the removal depends on.
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
            // A renewal that was cut off may have been written, under another etag.
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

    /// Stops renewals before the folder is removed. None is in flight when it returns.
    pub(crate) async fn stop_renewing(&self) {
        if let Some(renewing) = self.take_renewing() {
            renewing.abort();
            // The only error is the abort that was asked for.
            let _ = renewing.await;
        }
    }

    /// Marks the lock as removed with the environment's folder: there is nothing to release.
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

pub(super) fn held(store: &Store, record: LockRecord, etag: Etag, ends: Instant) -> Held {
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

enum Renewal {
    Done,
    /// Refused, since an earlier renewal was written after all though its answer was lost.
    Again,
    Lost,
    Failed(String),
}

/// Renews once, under the condition of the last etag; the caller has the turn.
async fn renew_once(store: &Store, shared: &Shared) -> Renewal {
    let grip = shared.read();
    if grip.lost.is_some() {
        return Renewal::Lost;
    }
    let mut record = grip.record;
    record.until = until(Timestamp::now());
    record.renewals += 1;
    let ends = Instant::now().after(LOCK_TERM);
    let failed = |error: Error| Renewal::Failed(format!("{error:#}"));
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

pub(super) enum Ownership {
    Ours(Etag),
    Lost(String),
}

pub(super) async fn whose(store: &Store, id: &str) -> Result<Ownership> {
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

pub(super) async fn put(store: &Store, record: &LockRecord, when: &If) -> Result<Written> {
    let body = serde_json::to_vec_pretty(record).doing(|| "put the lock into JSON".into())?;
    store.bucket().put(&store.key(FILE), &body, when).await
}

pub(super) fn record(store: &Store, object: &Object) -> Result<LockRecord> {
    serde_json::from_slice(&object.body)
        .doing(|| format!("understand {}", store.bucket().url(&store.key(FILE))))
        .map_err(|error| {
            error.hint("infra did not write this lock. When nobody works on this environment, delete that object with `aws s3 rm`, then run the same command again")
        })
}
