//! A job that outlasts its worker, treated as Sidekiq, Resque and RQ treat one when they shut down.
//! The job is out of Redis while it is at work. After SIGTERM the worker disconnects and continues
//! the job. Shortly before the platform would kill it, it puts the job back over a new connection,
//! by its old URL. A put-back that a Redis acknowledged and the app's Redis lacks is a loss.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use super::keys;
use super::ledger::{Ledger, format::Write};
use super::settings::Settings;
use super::store::{Answer, Store, reason};
use crate::connect::Target;

pub struct LongJob {
    target: Target,
    ledger: Arc<Ledger>,
    address: String,
    own_list: String,
    response_timeout: Duration,
    put_back_after: Option<Duration>,
    job: Mutex<Hand>,
}

/// The worker's memory of its long job.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hand {
    Empty,
    /// The answer to the removal from Redis is not there yet, or was lost.
    Reaching(String),
    Full(String),
}

impl LongJob {
    /// Holds no job until [`LongJob::hold`], and none if the settings leave no time for a put-back.
    pub fn new(settings: &Settings, own_list: &str) -> Self {
        Self {
            target: settings.target.clone(),
            ledger: Arc::clone(&settings.ledger),
            address: settings.target.address(),
            own_list: own_list.to_owned(),
            response_timeout: settings.response_timeout,
            put_back_after: settings.put_back_after,
            job: Mutex::new(Hand::Empty),
        }
    }

    /// Takes a job off the worker's list in Redis if none is held. Returns whether this one is
    /// held.
    pub async fn hold(&self, redis: &mut MultiplexedConnection, job: &str) -> RedisResult<bool> {
        if self.put_back_after.is_none() || *self.hand() != Hand::Empty {
            return Ok(false);
        }
        let operation = self.ledger.attempt(Write::Hold { job: job.to_owned() });
        self.ledger.flush().map_err(std::io::Error::other)?;
        *self.hand() = Hand::Reaching(job.to_owned());
        let mut removal = redis::cmd("LREM");
        removal.arg(&self.own_list).arg(1).arg(job);
        match removal.query_async::<u64>(redis).await {
            Ok(removed) => {
                self.ledger.acknowledged(operation, &self.address, None);
                let is_held = removed > 0;
                *self.hand() = if is_held {
                    Hand::Full(job.to_owned())
                } else {
                    Hand::Empty
                };
                Ok(is_held)
            }
            Err(error) => {
                self.ledger.failed(operation, &self.address, &reason(&error));
                Err(error)
            }
        }
    }

    /// Settles a lost answer by what a new connection finds in the worker's list.
    pub fn look_back(&self, own_list: &[String]) {
        let mut hand = self.hand();
        if let Hand::Reaching(job) = &*hand {
            *hand = if own_list.contains(job) {
                Hand::Empty
            } else {
                Hand::Full(job.clone())
            };
        }
    }

    /// Puts a held job back at its time after `asked_to_stop`; returns at once without one.
    pub async fn put_back(&self, asked_to_stop: Instant) {
        let hand = self.hand().clone();
        let (Hand::Full(job), Some(after)) = (hand, self.put_back_after) else {
            return;
        };
        tokio::time::sleep_until(asked_to_stop + after).await;
        let operation = self.ledger.attempt(Write::PutBack { job: job.clone() });
        if let Err(error) = self.ledger.flush() {
            // A put-back that the ledger does not have must not be sent.
            eprintln!("demo-app: {error:#}");
            return;
        }
        let store = Store::new(
            self.target.clone(),
            keys::QUEUE_DATABASE,
            self.response_timeout,
            Arc::clone(&self.ledger),
        );
        let mut back = redis::cmd("RPUSH");
        back.arg(keys::QUEUE).arg(job);
        store.send(operation, &back, Answer::Any).await;
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
