//! A queue worker that loses no job and does none twice.
//!
//! A job is moved from the queue into this worker's own list, and taken off it in the same transaction that counts it as
//! done. Whatever a worker was doing when its connection broke stands in its list, and is finished from there. A worker
//! without a sign of life for the time of a lease is taken for dead, and its list goes back to the queue. Should it live
//! after all, the WATCH on its list keeps it from completing what is no longer its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keys;
use super::ledger::{Ledger, format::Write};
use super::settings::Settings;
use super::store::{Store, reason};

/// How long Redis holds a request for a job when there is none, in seconds.
const TAKE_TIMEOUT: u32 = 1;

/// Works until told to stop, then finishes the job in hand.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let Settings {
        target,
        ledger,
        response_timeout,
        lease,
        ..
    } = settings;
    let store = Store::new(target, keys::QUEUE_DATABASE, response_timeout, Arc::clone(&ledger));
    let own_list = keys::processing(ledger.process());
    let worker = Worker {
        ledger: &ledger,
        address: store.address(),
        own_list,
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
        tokio::time::sleep(settings.shutdown_timeout).await;
    };
    let flushing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Err(error) = ledger.flush() {
                return error;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = cut_off => {}
        error = flushing => return Err(error),
    }
    ledger.close(store.address())
}

struct Worker<'run> {
    ledger: &'run Ledger,
    address: &'run str,
    own_list: String,
    lease: Duration,
    stop: &'run CancellationToken,
}

impl Worker<'_> {
    /// Works over one connection until told to stop, or until it fails.
    async fn serve(&self, redis: &mut MultiplexedConnection, succeeded: impl Fn()) -> RedisResult<()> {
        self.give_sign_of_life(redis).await?;
        succeeded();
        let left_over: Vec<String> = redis::cmd("LRANGE")
            .arg(&self.own_list)
            .arg(0)
            .arg(-1)
            .query_async(redis)
            .await?;
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
            if let Some(job) = self.take(redis).await? {
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
            // Which job it is, nobody could write down before. Should the answer be lost, the job is in the list.
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
            // What cannot be written down must not be done.
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

    /// Whether the job was this worker's to complete.
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
