//! Random commands against real engines: whatever changed, by a look at all contents before and
//! after, was marked by what MONITOR showed. Every command that an engine's COMMAND calls a write
//! takes part, alone, in transactions and in scripts, and with clients that wait for lists.
//!
//! `EFFECTS_COMMANDS` is how many commands each engine gets, `EFFECTS_SEED` repeats a run.

use super::rig::{Redis, until};
use super::templates::{SETTINGS, TEMPLATES, TYPES};
use redis::{Cmd, Connection, Pipeline, Value, cmd};
use sandbox::addon::Engine;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};
use wire::commands::CommandTable;
use wire::monitor::{Decoder, Request};
use wire::request::{Change, Key, Requests};
use wire::rows::Rows;
use wire::stream::Argument;

const DATABASES: u32 = 3;
/// Writes that have no template, each with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("pfdebug", "servers hide it from MONITOR, and its count ends the watch"),
    ("restore-asking", "RESTORE within a cluster, which is not watched"),
];

/// Random numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // The constants of Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// A server, with MONITOR open.
struct Bench {
    redis: Redis,
    other: Redis,
    driver: Connection,
    looker: Connection,
    monitor: TcpStream,
    decoder: Decoder,
    table: CommandTable,
    nonce: u64,
}

impl Bench {
    fn new(engine: Engine) -> Bench {
        let (redis, other) = (Redis::start(engine), Redis::start(engine));
        let mut looker = redis.connection();
        let table = CommandTable::parse(cmd("COMMAND").query(&mut looker).unwrap());
        let mut monitor = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
        monitor.write_all(b"MONITOR\r\n").unwrap();
        Bench {
            driver: redis.connection(),
            looker,
            monitor,
            decoder: Decoder::default(),
            table,
            nonce: 0,
            other,
            redis,
        }
    }

    /// Returns the requests that were shown up to now.
    fn shown(&mut self) -> Vec<Request> {
        self.nonce += 1;
        let nonce = format!("nonce:{}", self.nonce);
        cmd("ECHO").arg(&nonce).exec(&mut self.looker).unwrap();
        let (mut requests, mut done) = (Vec::new(), false);
        let mut buffer = vec![0; 1 << 16];
        while !done {
            let length = self.monitor.read(&mut buffer).unwrap();
            let fed = self.decoder.feed(&buffer[..length], |request| {
                done |= request.arguments.get(1).and_then(Argument::bytes) == Some(nonce.as_bytes());
                if !is_look(&request) {
                    requests.push(request);
                }
                Ok(())
            });
            if let Err(wrong) = fed {
                panic!("{wrong}: {}", String::from_utf8_lossy(&buffer[..length]));
            }
        }
        requests
    }
}

/// Returns true for the looks of the test itself, which are too many to keep.
fn is_look(request: &Request) -> bool {
    let name = request.arguments.first().and_then(Argument::bytes).unwrap_or_default();
    ["DUMP", "PEXPIRETIME", "TYPE", "ZRANGE", "KEYS"]
        .iter()
        .any(|look| name.eq_ignore_ascii_case(look.as_bytes()))
}

/// Returns the names of the commands that the engine calls writes.
fn writes(table: &mut Connection) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut add = |entry: &Value| {
        let Value::Array(parts) = entry else { return };
        let Some(Value::BulkString(name)) = parts.first() else {
            return;
        };
        let flags = wire::reply::words(parts[2].clone()).unwrap();
        if flags.iter().any(|flag| flag == "write") {
            names.insert(String::from_utf8_lossy(name).into_owned());
        }
    };
    let Value::Array(all) = cmd("COMMAND").query(table).unwrap() else {
        panic!()
    };
    for entry in &all {
        add(entry);
        if let Value::Array(parts) = entry
            && let Some(Value::Array(subcommands)) = parts.get(9)
        {
            subcommands.iter().for_each(&mut add);
        }
    }
    names
}

/// Fills the places of a template. A key is mostly of the type that the command wants.
fn fill(template: &str, dice: &mut Dice, other: u16, payload: &[u8]) -> Vec<Vec<u8>> {
    let key = |kind: char, dice: &mut Dice| {
        let kind = if dice.roll(8) == 0 { *dice.one(TYPES) } else { kind };
        // Some names are no text, and some have what MONITOR quotes.
        match dice.roll(4) {
            0 => format!("{kind}\"\\\n").into_bytes(),
            1 => vec![kind as u8, 0xff, 0, 7],
            n => format!("{kind}{n}").into_bytes(),
        }
    };
    let word = |word: &str, dice: &mut Dice| {
        let mut letters = word.chars();
        match (letters.next(), letters.next(), letters.next()) {
            (Some('$'), Some(kind), None) => key(kind, dice),
            (Some('@'), None, None) => dice.roll(DATABASES as usize).to_string().into_bytes(),
            (Some('~'), None, None) => other.to_string().into_bytes(),
            (Some('^'), None, None) => payload.to_vec(),
            _ => match (word.strip_suffix('#'), word.strip_suffix('%')) {
                (Some(before), _) => format!("{before}{}", dice.roll(4)).into_bytes(),
                (_, Some(before)) => format!("{before}m{}", dice.roll(4)).into_bytes(),
                (None, None) => word.as_bytes().to_vec(),
            },
        }
    };
    template.split(' ').map(|one| word(one, dice)).collect()
}

fn command(words: &[Vec<u8>]) -> Cmd {
    let mut command = Cmd::new();
    words.iter().for_each(|word| {
        command.arg(word);
    });
    command
}

/// Sends a command in one of the ways in which clients do.
fn send(bench: &mut Bench, words: &[Vec<u8>], dice: &mut Dice) {
    let script = "return redis.pcall(unpack(ARGV))";
    let driver = &mut bench.driver;
    let sent = match dice.roll(4) {
        0 => {
            let mut both = Pipeline::new();
            both.cmd("MULTI")
                .add_command(command(words))
                .cmd("INCR")
                .arg("i2")
                .cmd("EXEC");
            both.exec(driver)
        }
        // Its keys are not declared.
        1 => cmd("EVAL").arg(script).arg(0).arg(words).exec(driver),
        _ => command(words).exec(driver),
    };
    // An error that names a key may be no text, and then the client is lost.
    if sent.is_err() && cmd("PING").query::<String>(driver).ok().as_deref() != Some("PONG") {
        bench.driver = bench.redis.connection();
    }
}

/// A step: the requests that were shown, and the keys that changed.
struct Step {
    words: Vec<Vec<u8>>,
    shown: Vec<Request>,
    changed: BTreeSet<Key>,
}

fn keys_of(requests: &mut Requests, shown: &[Request]) -> Option<BTreeSet<Key>> {
    let mut marked = BTreeSet::new();
    let mut everything = false;
    for request in shown {
        match requests.change(request).unwrap() {
            Change::Keys(keys) => marked.extend(keys),
            Change::Everything { .. } => everything = true,
            Change::Nothing | Change::Functions => {}
        }
    }
    (!everything).then_some(marked)
}

fn run(engine: Engine, templates: &[&str], commands: usize, seed: u64) -> (Vec<Step>, CommandTable) {
    let mut dice = Dice(seed);
    let mut bench = Bench::new(engine);
    let other = bench.other.port;
    let mut steps = Vec::new();
    let payload = {
        let looker = &mut bench.looker;
        cmd("SET").arg("s2").arg("payload").exec(looker).unwrap();
        wire::reply::bytes(cmd("DUMP").arg("s2").query(looker).unwrap()).unwrap()
    };
    let mut before = bench.redis.contents();
    bench.shown();
    for number in 0..commands {
        // Each template comes in turn, so that a short run has all of them.
        let template = templates[(number + dice.roll(3)) % templates.len()];
        let words = fill(template, &mut dice, other, &payload);
        if dice.roll(6) == 0 {
            let database = dice.roll(DATABASES as usize);
            cmd("SELECT").arg(database).exec(&mut bench.driver).unwrap();
        }
        if dice.roll(10) == 0 {
            waits(&mut bench, &mut dice);
        } else {
            send(&mut bench, &words, &mut dice);
        }
        let after = bench.redis.contents();
        let names: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
        let changed = names.into_iter().filter(|key| before.get(key) != after.get(key));
        steps.push(Step {
            words,
            changed: changed.cloned().collect(),
            shown: bench.shown(),
        });
        before = after;
    }
    (steps, bench.table)
}

/// One client waits for a list, and another one pushes to it.
fn waits(bench: &mut Bench, dice: &mut Dice) {
    let list = fill("$w", dice, 0, &[]).remove(0);
    let wait = match dice.roll(3) {
        0 => vec![&b"BLMOVE"[..], &list, b"moved", b"LEFT", b"RIGHT", b"0"],
        1 => vec![&b"BRPOPLPUSH"[..], &list, b"moved", b"0"],
        _ => vec![&b"BLPOP"[..], &list, b"0"],
    };
    let database: Vec<u8> = match cmd("CLIENT").arg("INFO").query::<String>(&mut bench.driver) {
        Ok(info) => info.split(" db=").nth(1).unwrap().split(' ').next().unwrap().into(),
        Err(error) => panic!("{error}"),
    };
    cmd("DEL").arg(&list).exec(&mut bench.driver).unwrap();
    let mut both = Vec::new();
    wire::resp::encode(&mut both, &[b"SELECT", &database]);
    wire::resp::encode(&mut both, &wait);
    let mut waiter = TcpStream::connect(("127.0.0.1", bench.redis.port)).unwrap();
    waiter.write_all(&both).unwrap();
    until("the client waits", || {
        let clients: String = cmd("INFO").arg("clients").query(&mut bench.looker).unwrap();
        !clients.contains("blocked_clients:0")
    });
    cmd("RPUSH").arg(&list).arg("element").exec(&mut bench.driver).unwrap();
    until("it was served", || {
        let clients: String = cmd("INFO").arg("clients").query(&mut bench.looker).unwrap();
        clients.contains("blocked_clients:0")
    });
    // MONITOR does not show that a client is gone, so one that is never heard of again waits for ever.
    waiter.write_all(b"PING\r\n").unwrap();
    waiter.shutdown(Shutdown::Write).unwrap();
    let _ = waiter.read_to_end(&mut Vec::new());
}

/// The number of commands for each engine, and the seed.
fn size() -> (usize, u64) {
    let of = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = of("EFFECTS_SEED").unwrap_or_else(|| u64::from(time.subsec_nanos()));
    (
        of("EFFECTS_COMMANDS").map_or(3 * TEMPLATES.len(), |commands| usize::try_from(commands).unwrap()),
        seed,
    )
}

/// Fails unless each key that changed was marked.
fn expect_marked(engine: Engine, commands: usize, seed: u64) -> Vec<Step> {
    println!("{commands} commands on {engine:?}: repeat it with EFFECTS_SEED={seed}");
    let (steps, table) = run(engine, TEMPLATES, commands, seed);
    let mut requests = Requests::new(Rows::default(), table);
    let (mut changed, mut known) = (0, 0);
    for step in &steps {
        let Some(marked) = keys_of(&mut requests, &step.shown) else {
            continue;
        };
        known += 1;
        changed += step.changed.len();
        let missed: Vec<&Key> = step.changed.difference(&marked).collect();
        assert!(
            missed.is_empty(),
            "{missed:?} changed unseen by {:?} with {engine:?} and EFFECTS_SEED={seed}: {:?}",
            step.words
                .iter()
                .map(|word| String::from_utf8_lossy(word))
                .collect::<Vec<_>>(),
            step.shown
                .iter()
                .filter(|request| request.arguments.len() > 2)
                .collect::<Vec<_>>()
        );
    }
    // Steps in which any key may have changed say nothing.
    assert!(known * 10 > steps.len() * 9, "{known} of {} steps", steps.len());
    assert!(changed * 4 > steps.len(), "{changed} changes in {} steps", steps.len());
    steps
}

#[test]
fn whatever_a_command_changes_is_marked_on_redis_7() {
    let (commands, seed) = size();
    expect_marked(Engine::Redis7, commands, seed);
}

#[test]
fn whatever_a_command_changes_is_marked_on_redis_8() {
    let (commands, seed) = size();
    expect_marked(Engine::Redis8, commands, seed);
}

#[test]
fn every_write_that_an_engine_knows_has_a_template() {
    for engine in [Engine::Redis7, Engine::Redis8, Engine::Valkey8] {
        let redis = Redis::start(engine);
        for name in writes(&mut redis.connection()) {
            let words = name.replace('|', " ").to_ascii_uppercase() + " ";
            let tried = TEMPLATES
                .iter()
                .any(|template| format!("{template} ").starts_with(&words));
            let left_out = LEFT_OUT.iter().any(|(out, _)| *out == name);
            assert!(tried || left_out, "{engine:?} knows {name}, and nothing tries it");
        }
    }
}

/// A table in which every command only reads: what it says of a command is that nothing changed.
fn reads_only(redis: &Redis) -> CommandTable {
    let Value::Array(mut all) = cmd("COMMAND").query(&mut redis.connection()).unwrap() else {
        panic!()
    };
    for entry in &mut all {
        if let Value::Array(parts) = entry {
            parts.truncate(2);
            parts.push(Value::Array(Vec::new()));
        }
    }
    CommandTable::parse(Value::Array(all))
}

#[test]
fn without_any_row_of_the_table_a_change_is_missed() {
    let seed = size().1;
    let redis = Redis::start(Engine::Redis8);
    let table = reads_only(&redis);
    let mut untried: BTreeSet<&str> = Rows::default().names().collect();
    // Rows without keys of their own cannot be missed, and whole databases are tried below.
    for name in [
        "EVAL",
        "EVALSHA",
        "FCALL",
        "FUNCTION",
        "PUBLISH",
        "SPUBLISH",
        "SCRIPT",
        "RESTORE-ASKING",
    ] {
        assert!(untried.remove(name), "there is no row of {name}");
    }
    println!("repeat it with EFFECTS_SEED={seed}");
    for round in 0..300 {
        if untried.is_empty() {
            break;
        }
        let left: Vec<&str> = TEMPLATES
            .iter()
            .copied()
            .filter(|template| untried.contains(template.split(' ').next().unwrap()))
            .chain(SETTINGS.iter().copied())
            .collect();
        let (steps, _) = run(Engine::Redis8, &left, 6 * left.len(), seed + round);
        untried.retain(|row| {
            let mut requests = Requests::new(Rows::default().without(row), table.clone());
            !steps.iter().any(|step| {
                let marked = keys_of(&mut requests, &step.shown);
                marked.is_some_and(|marked| !step.changed.is_subset(&marked))
            })
        });
    }
    assert!(
        untried.is_empty(),
        "these rows could go, and no test would notice: {untried:?}"
    );
}
