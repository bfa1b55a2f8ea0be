//! A writer that knows exactly what the data was at the end of each second.

use redis::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Values rotate over this many keys.
pub const KEYS: u64 = 200;
/// No write begins near the turn of a second, so that everybody puts it into the same second.
const APART_MS: u128 = 60;

/// The last number that was acknowledged in each second.
pub type Diary = BTreeMap<i64, u64>;

/// The number that the data had at the end of a second.
pub fn at_end_of(diary: &Diary, second: i64) -> u64 {
    diary.range(..=second).map(|(_, number)| *number).max().unwrap_or(0)
}

pub struct Writer {
    stop: Arc<AtomicBool>,
    diary: Arc<Mutex<Diary>>,
    thread: JoinHandle<()>,
}

/// Returns a binary value with line ends, fake annotations and fake commands in it.
pub fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number}\r\n#TS:{}\r\n*1\r\n$5\r\nMULTI\r\n\0", 4_000_000_000 + number).into_bytes();
    value.extend((0..number % 40).map(|byte| (byte * 7) as u8));
    value
}

impl Writer {
    pub fn start(socket: &Path, pause: Duration) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let diary = Arc::new(Mutex::new(Diary::new()));
        let thread = {
            let (stop, diary, socket) = (stop.clone(), diary.clone(), socket.to_path_buf());
            std::thread::spawn(move || write(&socket, pause, &stop, &diary))
        };
        Writer { stop, diary, thread }
    }

    pub fn stop(self) -> Diary {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.diary.lock().unwrap())
    }
}

fn write(socket: &Path, pause: Duration, stop: &AtomicBool, diary: &Mutex<Diary>) {
    let client = redis::Client::open(format!("unix://{}", socket.display())).unwrap();
    let mut connection = None;
    let mut number = 0;
    // A write without an answer may have been done: the engine says so when it is back.
    let mut open_since: Option<i64> = None;
    while !stop.load(Ordering::Relaxed) {
        if connection.is_none() {
            match client.get_connection() {
                Ok(fresh) => connection = Some(fresh),
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
            }
        }
        let Some(there) = connection.as_mut() else { continue };
        let asked: redis::RedisResult<Option<u64>> = redis::cmd("GET").arg("counter").query(there);
        let Ok(found) = asked else {
            connection = None;
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let found = found.unwrap_or(0);
        let mut diary_now = diary.lock().unwrap();
        if let Some(second) = open_since.take()
            && found > diary_now.values().copied().max().unwrap_or(0)
        {
            diary_now.insert(second, found);
        }
        // Removes what a crash of the machine took.
        diary_now.retain(|_, last| *last <= found);
        drop(diary_now);
        number = found;
        while !stop.load(Ordering::Relaxed) {
            let second = away_from_the_turn();
            number += 1;
            // The write may have taken long, so the engine says which second it came to.
            let done: redis::RedisResult<(Value, Value, Value, (i64, u64))> =
                transaction(number).cmd("TIME").query(there);
            match done {
                Ok((.., (done_in, _))) => {
                    diary.lock().unwrap().insert(done_in, number);
                }
                Err(_) => {
                    open_since = Some(second);
                    connection = None;
                    break;
                }
            }
            std::thread::sleep(pause);
        }
    }
    let _ = number;
}

/// Returns the transaction that writes a number.
pub fn transaction(number: u64) -> redis::Pipeline {
    let mut pipe = redis::pipe();
    pipe.atomic()
        .cmd("SET")
        .arg(format!("value:{}", number % KEYS))
        .arg(value(number))
        .cmd("RPUSH")
        .arg(format!("list:{}", number % 7))
        .arg(number)
        .cmd("SET")
        .arg("counter")
        .arg(number);
    pipe
}

/// Waits until the clock is well within a second, and returns that second.
fn away_from_the_turn() -> i64 {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let milliseconds = u128::from(now.subsec_millis());
        if (APART_MS..1000 - APART_MS).contains(&milliseconds) {
            return i64::try_from(now.as_secs()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Compares a restored engine with the state after this write, and returns what differs.
pub async fn differs(connection: &mut redis::aio::MultiplexedConnection, number: u64) -> Option<String> {
    let found: Option<u64> = redis::cmd("GET").arg("counter").query_async(connection).await.unwrap();
    if found.unwrap_or(0) != number {
        return Some(format!("the counter is {found:?} instead of {number}"));
    }
    for slot in 0..KEYS {
        // The last number before `number` that wrote this key.
        let last = (number + KEYS - slot) / KEYS * KEYS + slot;
        let last = if last > number {
            last.checked_sub(KEYS)
        } else {
            Some(last)
        };
        let wanted = last.filter(|last| *last > 0).map(value);
        let found: Option<Vec<u8>> = redis::cmd("GET")
            .arg(format!("value:{slot}"))
            .query_async(connection)
            .await
            .unwrap();
        if found != wanted {
            return Some(format!("value:{slot} is not that of {last:?}"));
        }
    }
    let mut listed = 0;
    for list in 0..7 {
        let length: u64 = redis::cmd("LLEN")
            .arg(format!("list:{list}"))
            .query_async(connection)
            .await
            .unwrap();
        listed += length;
    }
    (listed != number).then(|| format!("{listed} entries in the lists instead of {number}"))
}
