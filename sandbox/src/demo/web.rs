//! A web process: markers, counters, scores and new jobs, at a steady rate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use redis::{Arg, Cmd};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::keys;
use super::ledger::Operation;
use super::ledger::format::{Origin, Write};
use super::settings::Settings;
use super::store::{Answer, Store};

/// Writes are sent in small bursts, which costs far less than waking up for each.
const TICK: Duration = Duration::from_millis(10);
/// Number of requests at once, like the threads of a web server. When all of them wait for Redis,
/// no further request is served.
const CONCURRENCY: usize = 64;
/// Two web processes make four fifths of all writes; the worker does their jobs, the last fifth.
const SHARE: f64 = 0.4;
/// How often a process looks for what an ended one got no answer to.
const TAKE_OVER: Duration = Duration::from_millis(200);
/// The answers of so many writes are kept: far more than are under way at once. It is a multiple of
/// 16, after which a write of the same kind goes to the same database.
const REMEMBERED: u64 = 1_600;

/// Writes until the process is asked to stop, then waits for what is in flight.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let Settings { target, ledger, .. } = &settings;
    let stores = keys::DATABASES.map(|database| {
        let store = Store::new(target.clone(), database, settings.response_timeout, Arc::clone(ledger));
        Arc::new(store.repeating(settings.repeats))
    });
    let threads = Arc::new(Semaphore::new(CONCURRENCY));
    let rate = settings.writes_per_second * SHARE;
    let mut in_flight = JoinSet::new();
    let mut next = 0;
    let mut pace = Pace::new(rate);
    let mut take_over_due = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        while in_flight.try_join_next().is_some() {}
        let mut burst: Vec<(Operation, Origin, Write, _)> = Vec::new();
        if settings.repeats && Instant::now() >= take_over_due {
            for left in ledger.take_over()? {
                let (operation, origin) = ledger.attempt_of(left.write.clone(), Some(left.origin));
                burst.push((operation, origin, left.write, None));
            }
            take_over_due = Instant::now() + TAKE_OVER;
        }
        for _ in 0..pace.due(Instant::now()) {
            let Ok(thread) = Arc::clone(&threads).try_acquire_owned() else {
                break;
            };
            let write = write(ledger.process(), next, settings.databases);
            next += 1;
            let (operation, origin) = ledger.attempt_of(write.clone(), None);
            burst.push((operation, origin, write, Some(thread)));
        }
        // Flushes without new writes too, for the acknowledgements since the last tick.
        ledger.flush()?;
        for (operation, origin, write, thread) in burst {
            let (database, mut command) = command(&write);
            let counts = matches!(write, Write::Counter { .. });
            let mut answer = if counts { Answer::Number } else { Answer::Any };
            if settings.repeats && write.rising().is_none() {
                (command, answer) = (once(&command, &origin), Answer::Once { counts });
            }
            let store = Arc::clone(&stores[database]);
            in_flight.spawn(async move {
                store.send(operation, &command, answer).await;
                drop(thread);
            });
        }
    }
    let _ = tokio::time::timeout(settings.shutdown_timeout, async {
        while in_flight.join_next().await.is_some() {}
    })
    .await;
    if settings.repeats {
        ledger.hand_over(stores[0].address())
    } else {
        ledger.close(stores[0].address())
    }
}

/// Returns the process's writes in order: of eight, three are markers, two counters, one a score, one a field and
/// one a job. The first `databases` alternate.
fn write(process: &str, number: u64, databases: usize) -> Write {
    let round = number / 8;
    let is_second = databases > 1 && round % 2 == 1;
    let database = keys::DATABASES[usize::from(is_second)];
    // Later rounds in the same database use the same slots again, with higher values.
    let slot = |offset: u64| (round / 2 * 3 + offset) % keys::SLOTS;
    match number % 8 {
        kind @ 0..=2 => Write::Marker {
            database,
            key: keys::marker(process, slot(kind)),
            value: round + 1,
        },
        kind @ 3..=4 => Write::Counter {
            database,
            key: keys::counter((round / 2 * 2 + kind) % keys::COUNTERS),
        },
        5 => {
            let slot = slot(5);
            let (key, member) = (keys::scores(slot % keys::SCORES), format!("{process}:{slot}"));
            Write::Score {
                database,
                key,
                member,
                score: number + 1,
            }
        }
        6 => {
            let slot = slot(6);
            Write::Field {
                database,
                key: keys::fields(slot % keys::SCORES),
                field: format!("{process}:{slot}"),
                value: number + 1,
            }
        }
        _ => Write::Push {
            job: keys::job(process, round),
        },
    }
}

/// Sets a key that no caller declares.
const SET_UNDECLARED: &str = "return redis.call('SET', 'demo:' .. ARGV[1], ARGV[2])";
/// Sets a field that ends after an hour, on engines that know this.
const SET_FIELD: &str = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.pcall('HPEXPIRE', KEYS[1], 3600000, 'FIELDS', 1, ARGV[1])
return 1";

/// Does a command once: it keeps the answer, and gives it to whoever sends the same write again.
const ONCE: &str = "local told = redis.call('HGET', KEYS[2], ARGV[1])
if told then return {1, tonumber(told)} end
told = redis.call(ARGV[3], KEYS[1], unpack(ARGV, 4))
redis.call('HSET', KEYS[2], ARGV[1], told)
redis.call('HDEL', KEYS[2], ARGV[2])
return {0, told}";

/// Returns the command in a form that is done only once, however often it is sent: its first attempt names it.
fn once(command: &Cmd, origin: &Origin) -> Cmd {
    let mut words = command.args_iter().filter_map(|word| match word {
        Arg::Simple(word) => Some(word),
        _ => None,
    });
    let (name, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut script = redis::cmd("EVAL");
    script.arg(ONCE).arg(2).arg(key).arg(keys::answers(&origin.process));
    script
        .arg(origin.operation)
        .arg(origin.operation.saturating_sub(REMEMBERED));
    script.arg(name);
    for word in words {
        script.arg(word);
    }
    script
}

/// Returns the index of a write's database, and its command.
fn command(write: &Write) -> (usize, Cmd) {
    let index = |database: &i64| keys::DATABASES.iter().position(|known| known == database).unwrap_or(0);
    match write {
        // Every second marker is set by a script, whose keys nobody can know before.
        Write::Marker { database, key, value } if value % 2 == 0 => {
            let name = key.strip_prefix("demo:").unwrap_or(key);
            let script = redis::cmd("EVAL")
                .arg(SET_UNDECLARED)
                .arg(0)
                .arg(name)
                .arg(*value)
                .take();
            (index(database), script)
        }
        Write::Marker { database, key, value } => (index(database), redis::cmd("SET").arg(key).arg(*value).take()),
        Write::Field {
            database,
            key,
            field,
            value,
        } => {
            let mut script = redis::cmd("EVAL");
            script.arg(SET_FIELD).arg(1).arg(key).arg(field).arg(*value);
            (index(database), script)
        }
        Write::Counter { database, key } => (index(database), redis::cmd("INCR").arg(key).take()),
        Write::Score {
            database,
            key,
            member,
            score,
        } => (
            index(database),
            redis::cmd("ZADD").arg(key).arg(*score).arg(member).take(),
        ),
        Write::Push { job }
        | Write::Take { job }
        | Write::Done { job }
        | Write::Hold { job }
        | Write::PutBack { job } => (0, redis::cmd("LPUSH").arg(keys::QUEUE).arg(job).take()),
    }
}

/// Counts the writes that are due. A stall is not made up for: its users are gone.
struct Pace {
    per_second: f64,
    last: Option<Instant>,
    owed: f64,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        Self {
            per_second,
            last: None,
            owed: 0.0,
        }
    }

    fn due(&mut self, now: Instant) -> u64 {
        let since = self.last.replace(now).map_or(TICK, |last| now - last);
        self.owed += self.per_second * since.min(10 * TICK).as_secs_f64();
        let due = self.owed.floor();
        self.owed -= due;
        due as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn markers_and_scores_only_rise_and_jobs_are_unique() {
        expect_rising(2);
        expect_rising(1);
    }

    fn expect_rising(databases: usize) {
        let mut highest: HashMap<(i64, String), u64> = HashMap::new();
        let mut jobs = std::collections::HashSet::new();
        for number in 0..100_000 {
            let (place, value) = match write("web.1", number, databases) {
                Write::Marker { database, key, value } => ((database, key), value),
                Write::Score {
                    database,
                    key,
                    member,
                    score,
                } => ((database, format!("{key} {member}")), score),
                Write::Field {
                    database,
                    key,
                    field,
                    value,
                } => ((database, format!("{key} {field}")), value),
                Write::Push { job } => {
                    assert!(jobs.insert(job));
                    continue;
                }
                _ => continue,
            };
            assert!(
                highest.insert(place.clone(), value).is_none_or(|before| before < value),
                "{place:?}"
            );
        }
        assert!(highest.len() as u64 <= 6 * keys::SLOTS, "{}", highest.len());
        assert_eq!(jobs.len(), 12_500);
    }

    #[test]
    fn the_pace_is_kept_and_a_stall_is_not_made_up_for() {
        let mut pace = Pace::new(800.0);
        let start = Instant::now();
        let steady: u64 = (0..100).map(|tick| pace.due(start + TICK * tick)).sum();
        assert_eq!(steady, 800);
        assert_eq!(pace.due(start + Duration::from_secs(60)), 80);
    }
}
