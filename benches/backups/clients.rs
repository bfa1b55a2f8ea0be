//! Clients that write at a steady rate and report how long each command took.

use crate::Outcome;
use crate::data::connect;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Writes a second of all of them together.
pub const RATE: u32 = 5000;
const CLIENTS: u32 = 5;
/// Clients overwrite these keys, so the data keeps its size.
const KEYS: u32 = 20_000;

pub struct Clients {
    stop: Arc<AtomicBool>,
    begun: Instant,
    threads: Vec<JoinHandle<redis::RedisResult<Vec<u32>>>>,
}

/// How long each command took, in microseconds.
pub struct Times(Vec<u32>);

impl Clients {
    pub fn start(socket: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..CLIENTS)
            .map(|number| {
                let (stop, socket) = (stop.clone(), socket.to_path_buf());
                std::thread::spawn(move || write(number, &socket, &stop))
            })
            .collect();
        Clients {
            stop,
            begun: Instant::now(),
            threads,
        }
    }

    /// Returns an error if the clients did not keep their rate.
    pub fn stop(self) -> Outcome<Times> {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for thread in self.threads {
            times.extend(thread.join().map_err(|_| "a client ended badly")??);
        }
        let rate = times.len() as f64 / seconds;
        if rate < f64::from(RATE) * 0.95 {
            return Err(format!("the clients wrote {rate:.0} times a second instead of {RATE}").into());
        }
        Ok(Times(times))
    }
}

impl Times {
    /// Returns the microseconds within which this share of all commands was done.
    pub fn at(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.0.get(index).copied().map_or(0.0, f64::from)
    }
}

fn write(number: u32, socket: &Path, stop: &AtomicBool) -> redis::RedisResult<Vec<u32>> {
    let mut connection = connect(socket)?;
    let pause = Duration::from_secs(1) * CLIENTS / RATE;
    let mut times = Vec::new();
    // The clients do not all begin at the same moment.
    let mut due = Instant::now() + pause * number / CLIENTS;
    let mut free = Instant::now();
    let mut key = number;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A command that was due while the last one ran has waited since. Oversleep does not count.
        let from = if free > due { due } else { Instant::now() };
        redis::cmd("SET")
            .arg(format!("live:{key}"))
            .arg(format!("{key:064} written by client {number} at {:?}", due))
            .query::<()>(&mut connection)?;
        free = Instant::now();
        times.push(u32::try_from(free.duration_since(from).as_micros()).unwrap_or(u32::MAX));
        due += pause;
        key = (key + CLIENTS) % KEYS;
    }
    Ok(times)
}
