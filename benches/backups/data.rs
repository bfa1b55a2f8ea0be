//! Data as an app has it: short texts, hashes, lists and sorted sets, which compress as usual.

use crate::Outcome;
use std::path::Path;
use std::time::Duration;
use testkit::backups::World;
use testkit::waiting::within;

const WORDS: [&str; 24] = [
    "about", "after", "again", "because", "before", "between", "could", "every", "first", "friend", "great", "house",
    "never", "night", "other", "people", "place", "right", "should", "thing", "today", "where", "world", "write",
];
/// Keys that are sent at once.
const BATCH: u64 = 500;

/// Grows from one measurement to the next, and is the same in every run.
pub struct Data {
    next: u64,
    random: u64,
}

impl Data {
    pub fn new() -> Self {
        Data {
            next: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Fills until the engine uses so many bytes for data, and has it write a base of that.
    pub fn grow(&mut self, world: &World, bytes: u64) -> Outcome<()> {
        let mut connection = connect(&world.path("s"))?;
        while used(world)? < bytes {
            for _ in 0..40 {
                self.batch().query::<()>(&mut connection)?;
            }
        }
        // A rewrite that began by itself has to end first.
        let is_idle = || {
            let info = world.ask(&["INFO", "persistence"]);
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        };
        within(Duration::from_secs(120), "an earlier base is written", is_idle);
        world.ask(&["BGREWRITEAOF"]);
        within(Duration::from_secs(120), "the base is written", is_idle);
        println!("  {} keys, {} MB used", self.next, used(world)? >> 20);
        Ok(())
    }

    fn batch(&mut self) -> redis::Pipeline {
        let mut commands = redis::pipe();
        for at in self.next..self.next + BATCH {
            match at % 10 {
                6 | 7 => {
                    let command = commands.cmd("HSET").arg(format!("user:{at}"));
                    for field in ["name", "mail", "seen", "token", "about"] {
                        command.arg(field).arg(self.text(20));
                    }
                }
                8 => {
                    let command = commands.cmd("RPUSH").arg(format!("timeline:{at}"));
                    for _ in 0..12 {
                        command.arg(self.number() % 10_000_000);
                    }
                }
                9 => {
                    let command = commands.cmd("ZADD").arg(format!("rank:{at}"));
                    for _ in 0..8 {
                        command.arg(self.number() % 100_000).arg(self.text(10));
                    }
                }
                _ => {
                    let bytes = 60 + usize::try_from(self.number() % 340).unwrap_or_default();
                    commands.cmd("SET").arg(format!("entry:{at}")).arg(self.text(bytes));
                }
            }
        }
        self.next += BATCH;
        commands
    }

    /// Returns words, with some text in between that does not compress.
    fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 20);
        while text.len() < bytes {
            let number = self.number();
            match number % 4 {
                0 => text.push_str(&format!("{:x}", number >> 24)),
                _ => text.push_str(WORDS[usize::try_from(number >> 8).unwrap_or_default() % WORDS.len()]),
            }
            text.push(' ');
        }
        text
    }

    /// Xorshift, which is good enough for test data.
    fn number(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

pub fn connect(socket: &Path) -> redis::RedisResult<redis::Connection> {
    redis::Client::open(format!("unix://{}", socket.display()))?.get_connection()
}

fn used(world: &World) -> Outcome<u64> {
    let info = world.ask(&["INFO", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(line
        .ok_or("the engine does not say how much memory it uses")?
        .trim()
        .parse()?)
}
