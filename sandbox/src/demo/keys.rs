//! The names of the demo's keys, in one place for the app and the checker.

/// Both databases take markers, counters and scores; the queue lives in the first.
pub const DATABASES: [i64; 2] = [0, 1];
/// The database of everything that has to do with jobs.
pub const QUEUE_DATABASE: i64 = 0;
/// Job ids: pushed on the left, taken from the right.
pub const QUEUE: &str = "demo:queue";
/// The workers that may hold jobs, as a set of process names.
pub const WORKERS: &str = "demo:workers";
/// How many jobs were done, for people who look.
pub const FINISHED: &str = "demo:finished";

/// Each process has this many markers in each database, and as many members in the scores.
pub const SLOTS: u64 = 200;
/// Counters and sorted sets are shared by all processes.
pub const COUNTERS: u64 = 20;
pub const SCORES: u64 = 10;
const FIELDS: &str = "demo:fields:";

/// Returns the key of a string that only this process writes, with ever rising values.
pub fn marker(process: &str, slot: u64) -> String {
    format!("demo:marker:{process}:{slot}")
}

/// Returns the key of a number that all processes raise by one.
pub fn counter(number: u64) -> String {
    format!("demo:counter:{number}")
}

/// Returns the key of a sorted set; each member belongs to one process, with rising scores.
pub fn scores(number: u64) -> String {
    format!("demo:scores:{number}")
}

/// Returns the key of a hash; each field belongs to one process, with rising values, and ends by itself where the
/// engine has that.
pub fn fields(number: u64) -> String {
    format!("{FIELDS}{number}")
}

/// Returns whether the key is one of [`fields`].
pub fn has_fields(key: &str) -> bool {
    key.starts_with(FIELDS)
}

/// Returns the key of a hash with the answers to a process's last writes, by which a repeated one is recognised.
pub fn answers(process: &str) -> String {
    format!("demo:answers:{process}")
}

/// Returns the key of the jobs that a worker took and did not finish yet.
pub fn processing(worker: &str) -> String {
    format!("demo:processing:{worker}")
}

/// Returns a key that lives as long as the worker. Its jobs may be taken over afterwards.
pub fn lease(worker: &str) -> String {
    format!("demo:lease:{worker}")
}

/// Returns the key that counts how often each job of a producer was done, two bits a job.
pub fn done(producer: &str) -> String {
    format!("demo:done:{producer}")
}

pub fn job(producer: &str, number: u64) -> String {
    format!("{producer}-{number}")
}

/// Returns the producer and the number in a job's id.
pub fn parse_job(job: &str) -> Option<(&str, u64)> {
    let (producer, number) = job.rsplit_once('-')?;
    Some((producer, number.parse().ok()?))
}

/// Returns a job's count from the value of [`done`]: `BITFIELD u2` puts the first job highest.
pub fn done_count(counts: &[u8], number: u64) -> u8 {
    let byte = usize::try_from(number / 4)
        .ok()
        .and_then(|index| counts.get(index))
        .copied()
        .unwrap_or(0);
    (byte >> (6 - 2 * (number % 4))) & 0b11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_names_its_producer_and_number() {
        assert_eq!(parse_job(&job("web.1.m3x", 42)), Some(("web.1.m3x", 42)));
        assert_eq!(parse_job("nonsense"), None);
    }

    #[test]
    fn done_counts_lie_two_bits_each_from_the_highest() {
        let counts = [0b01_10_11_00, 0b01_00_00_00];
        let read: Vec<u8> = (0..6).map(|number| done_count(&counts, number)).collect();
        assert_eq!(read, [1, 2, 3, 0, 1, 0]);
        assert_eq!(done_count(&counts, 1000), 0);
    }
}
