//! A queue worker that loses no job and does none twice.
//!
//! A job is moved from the queue into this worker's own list, and taken off it in the transaction
//! that counts it as done. After a broken connection the worker finishes what stands in its list. A
//! worker without a sign of life for the time of a lease counts as dead, and its list goes back to
//! the queue. If it lives after all, the WATCH on its list keeps it from completing jobs of others.
//!
//! Its first job is a long one, which it puts back when it is shut down: see [`super::long_job`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keys;
use super::ledger::{Ledger, format::Write};
use super::long_job::LongJob;
use super::settings::Settings;
use super::store::{Store, reason};

/// How long Redis holds a request for a job when there is none, in seconds.
const TAKE_TIMEOUT: u32 = 1;

/// Works until asked to stop, then finishes its job, and puts the long one back when it is time.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let own_list = keys::processing(settings.ledger.process());
    let long_job = LongJob::new(&settings, &own_list);
    let Settings {
        target,
        ledger,
        response_timeout,
        shutdown_timeout,
        lease,
        put_back_after,
        ..
    } = settings;
    let address = target.address();
    let store = Store::new(target, keys::QUEUE_DATABASE, response_timeout, Arc::clone(&ledger));
    let worker = Worker {
        ledger: &ledger,
        address: &address,
        own_list,
        long_job: &long_job,
        lease,
        stop: &stop,
    };
    let work = async {
        while !stop.is_cancelled() {
            let connection = store.connection().await;
            match worker
                .serve(&mut connection.commands.clone(), || store.succeeded())
                .await
            {
                Ok(()) => break,
                Err(error) => {
                    ledger.not_connected(store.address(), &reason(&error));
                    store.give_up(&connection).await;
                }
            }
        }
    };
    let cut_off = async {
        stop.cancelled().await;
        tokio::time::sleep(put_back_after.map_or(shutdown_timeout, |after| after.min(shutdown_timeout))).await;
    };
    let work = async {
        tokio::select! {
            () = work => {}
            () = cut_off => {}
        }
    };
    let asked_to_stop = async {
        stop.cancelled().await;
        Instant::now()
    };
    let flushing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Err(error) = ledger.flush() {
                return error;
            }
        }
    };
    let life = async {
        let (asked_to_stop, ()) = tokio::join!(asked_to_stop, work);
        // From here until the put-back the worker has no connection, and no server lists it.
        store.disconnect().await;
        long_job.put_back(asked_to_stop).await;
    };
    tokio::select! {
        () = life => {}
        error = flushing => return Err(error),
    }
    ledger.close(&address)
}

struct Worker<'run> {
    ledger: &'run Ledger,
    address: &'run str,
    own_list: String,
    long_job: &'run LongJob,
    lease: Duration,
    stop: &'run CancellationToken,
}

impl Worker<'_> {
    /// Works over one connection until asked to stop, or until it fails.
    async fn serve(&self, redis: &mut MultiplexedConnection, succeeded: impl Fn()) -> RedisResult<()> {
        self.give_sign_of_life(redis).await?;
        succeeded();
        let left_over: Vec<String> = redis::cmd("LRANGE")
            .arg(&self.own_list)
            .arg(0)
            .arg(-1)
            .query_async(redis)
            .await?;
        self.long_job.look_back(&left_over);
        for job in left_over {
            self.finish(redis, job).await?;
        }
        let mut sign_of_life_due = Instant::now();
        while !self.stop.is_cancelled() {
            if Instant::now() >= sign_of_life_due {
                self.give_sign_of_life(redis).await?;
                self.take_over_from_the_dead(redis).await?;
                sign_of_life_due = Instant::now() + self.lease / 6;
            }
            if let Some(job) = self.take(redis).await?
                && !self.long_job.hold(redis, &job).await?
            {
                self.finish(redis, job).await?;
            }
        }
        let process = self.ledger.process();
        let mut leave = redis::pipe();
        leave
            .atomic()
            .del(keys::lease(process))
            .ignore()
            .srem(keys::WORKERS, process)
            .ignore();
        leave.query_async(redis).await
    }

    async fn give_sign_of_life(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        let process = self.ledger.process();
        let mut sign = redis::pipe();
        sign.atomic().sadd(keys::WORKERS, process).ignore();
        sign.set_ex(keys::lease(process), 1, self.lease.as_secs()).ignore();
        sign.query_async(redis).await
    }

    async fn take_over_from_the_dead(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        let workers: Vec<String> = redis::cmd("SMEMBERS").arg(keys::WORKERS).query_async(redis).await?;
        for worker in workers.iter().filter(|worker| *worker != self.ledger.process()) {
            let alive: bool = redis::cmd("EXISTS").arg(keys::lease(worker)).query_async(redis).await?;
            if alive {
                continue;
            }
            let mut back = redis::cmd("LMOVE");
            back.arg(keys::processing(worker))
                .arg(keys::QUEUE)
                .arg("RIGHT")
                .arg("RIGHT");
            while back.query_async::<Option<String>>(redis).await?.is_some() {}
            redis::cmd("SREM")
                .arg(keys::WORKERS)
                .arg(worker)
                .exec_async(redis)
                .await?;
        }
        Ok(())
    }

    async fn take(&self, redis: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
        let mut take = redis::cmd("BLMOVE");
        take.arg(keys::QUEUE)
            .arg(&self.own_list)
            .arg("RIGHT")
            .arg("LEFT")
            .arg(TAKE_TIMEOUT);
        let job: Option<String> = take.query_async(redis).await?;
        if let Some(job) = &job {
            // The ledger has no entry of the job yet. If the answer was lost, the job stays in the
            // list.
            let operation = self.ledger.attempt(Write::Take { job: job.clone() });
            self.ledger.acknowledged(operation, self.address, None);
        }
        Ok(job)
    }

    async fn finish(&self, redis: &mut MultiplexedConnection, job: String) -> RedisResult<()> {
        let Some((producer, number)) = keys::parse_job(&job) else {
            return Ok(());
        };
        let operation = self.ledger.attempt(Write::Done { job: job.clone() });
        if let Err(error) = self.ledger.flush() {
            // A write that the ledger cannot note must not be sent.
            return Err(std::io::Error::other(error).into());
        }
        match self.complete(redis, &job, producer, number).await {
            Ok(true) => self.ledger.acknowledged(operation, self.address, None),
            Ok(false) => self.ledger.failed(operation, self.address, "taken_over"),
            Err(error) => {
                self.ledger.failed(operation, self.address, &reason(&error));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Completes a job. Returns whether the job was still this worker's.
    async fn complete(
        &self,
        redis: &mut MultiplexedConnection,
        job: &str,
        producer: &str,
        number: u64,
    ) -> RedisResult<bool> {
        let mut look = redis::pipe();
        look.cmd("WATCH")
            .arg(&self.own_list)
            .ignore()
            .cmd("LPOS")
            .arg(&self.own_list)
            .arg(job);
        let (position,): (Option<i64>,) = look.query_async(redis).await?;
        if position.is_none() {
            redis::cmd("UNWATCH").exec_async(redis).await?;
            return Ok(false);
        }
        let mut completion = redis::pipe();
        completion.atomic();
        completion.cmd("LREM").arg(&self.own_list).arg(1).arg(job);
        let mut count = redis::cmd("BITFIELD");
        count
            .arg(keys::done(producer))
            .arg("OVERFLOW")
            .arg("SAT")
            .arg("INCRBY")
            .arg("u2")
            .arg(format!("#{number}"))
            .arg(1);
        completion
            .add_command(count)
            .ignore()
            .cmd("INCR")
            .arg(keys::FINISHED)
            .ignore();
        // No answer at all: the list changed between WATCH and EXEC.
        let removed: Option<(i64,)> = completion.query_async(redis).await?;
        Ok(removed.is_some())
    }
}
