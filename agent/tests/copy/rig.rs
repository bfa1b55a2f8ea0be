//! Two real engines and a running copy between them.

use infra_agent::copy::{self, Connect, Login, Options, Prefix, Request, Stream};
use infra_agent::record::{CopyStatus, SweepReport};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::{Client, Connection, Value, cmd};
use sandbox::addon::{Engine, free_port};
use sandbox::paths::Paths;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(60);
/// What the users' file on a host lets the copy do at the master.
pub const RIGHTS: &str = "resetkeys ~* -@all +@string +@list +@set +@sortedset +@hash +@stream -@read -@blocking -@dangerous +auth +hello +ping +select +info +time +scan +restore +unlink +rename +pexpireat +function|restore +function|load +function|flush +client|setname +client|kill";
/// A gentle source would make tests slow.
pub const QUICK: u64 = 1 << 30;

/// Payload and end of each key, by database and name.
pub type Contents = BTreeMap<(u32, Vec<u8>), String>;

/// A real engine, ended when dropped.
pub struct Redis {
    pub port: u16,
    folder: TempDir,
    child: Child,
    program: Vec<String>,
    environment: Vec<(String, String)>,
    is_new: bool,
}

impl Redis {
    pub fn start(engine: Engine) -> Redis {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().into(), Paths::from_environment().unwrap().cache().into()).unwrap();
        let program = engine.ensure(&paths, &|_| ()).unwrap();
        let is_new = program.version.0 >= 7;
        let program = program.command().unwrap();
        let program = program.as_std();
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let words = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let environment = program
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_str()?.into(), value?.to_str()?.into())))
            .collect();
        Self::of(folder, words, environment, is_new)
    }

    fn of(folder: TempDir, program: Vec<String>, environment: Vec<(String, String)>, is_new: bool) -> Redis {
        let port = free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
        let child = spawn(&folder, port, &program, &environment, is_new);
        let mut redis = Redis {
            port,
            folder,
            child,
            program,
            environment,
            is_new,
        };
        redis.await_answer();
        redis
    }

    fn await_answer(&mut self) {
        until("the engine answers", || {
            assert!(self.child.try_wait().unwrap().is_none(), "the engine ended");
            self.try_say(&["PING"]).is_some()
        });
    }

    /// Kills the engine, and starts it without its data on the same port.
    pub fn restart_empty(&mut self) {
        let _ = fs::remove_file(self.folder.path().join("dump.rdb"));
        self.start_again();
    }

    /// Has the engine save its data, and starts it again on the same port.
    pub fn restart(&mut self) {
        self.say(&["SAVE"]);
        self.start_again();
    }

    /// Stops the engine's process, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn start_again(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn(&self.folder, self.port, &self.program, &self.environment, self.is_new);
        self.await_answer();
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub fn connection(&self) -> Connection {
        self.client().unwrap()
    }

    fn client(&self) -> Option<Connection> {
        let socket = format!("unix://{}", self.socket().display());
        Client::open(socket).unwrap().get_connection().ok()
    }

    fn try_say(&self, words: &[&str]) -> Option<Value> {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.client()?).ok()
    }

    pub fn say(&self, words: &[&str]) -> Value {
        let mut command = cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut self.connection()).unwrap()
    }

    /// Sends one command a line, words between spaces.
    pub fn script(&self, lines: &str) {
        let mut connection = self.connection();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split(' ').collect();
            let mut command = cmd(words[0]);
            command.arg(&words[1..]);
            let said: Result<Value, _> = command.query(&mut connection);
            said.unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    pub fn text(&self, words: &[&str]) -> String {
        match self.say(words) {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::SimpleString(text) => text,
            Value::Int(number) => number.to_string(),
            other => format!("{other:?}"),
        }
    }

    /// Returns a digest of all values of all databases.
    pub fn digest(&self) -> String {
        self.text(&["DEBUG", "DIGEST"])
    }

    /// Returns the payload and the end of every key of the first databases, without a command that
    /// MONITOR hides. Two engines of one version give the same. Sorted sets are read by their members, since
    /// SORT changes how one is kept, and with that its payload.
    pub fn contents(&self) -> Contents {
        let mut connection = self.connection();
        let mut all = Contents::new();
        for database in 0..4 {
            cmd("SELECT").arg(database).exec(&mut connection).unwrap();
            let names: Vec<Value> = cmd("KEYS").arg("*").query(&mut connection).unwrap();
            let names: Vec<Vec<u8>> = names.into_iter().filter_map(wire::reply::bytes).collect();
            if names.is_empty() {
                continue;
            }
            let mut values = redis::pipe();
            let mut kinds = redis::pipe();
            for name in &names {
                kinds.cmd("TYPE").arg(name);
            }
            let kinds: Vec<String> = kinds.query(&mut connection).unwrap();
            for (name, kind) in names.iter().zip(&kinds) {
                match kind.as_str() {
                    "zset" => values.cmd("ZRANGE").arg(name).arg(0).arg(-1).arg("WITHSCORES"),
                    _ => values.cmd("DUMP").arg(name),
                };
                values.cmd("PEXPIRETIME").arg(name);
            }
            let values: Vec<Value> = values.query(&mut connection).unwrap();
            for (name, pair) in names.into_iter().zip(values.chunks(2)) {
                all.insert((database, name), format!("{pair:?}"));
            }
        }
        all
    }

    pub fn keys(&self) -> u64 {
        self.text(&["DBSIZE"]).parse().unwrap()
    }

    pub fn number(&self, name: &str) -> u64 {
        let text = self.text(&["INFO", "all"]);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().parse().unwrap()
    }

    /// Adds so many strings of `length` bytes.
    pub fn fill(&self, keys: usize, length: usize) {
        let mut connection = self.connection();
        let value = "v".repeat(length);
        for from in (0..keys).step_by(1000) {
            let mut batch = redis::pipe();
            for key in from..keys.min(from + 1000) {
                batch
                    .cmd("SET")
                    .arg(format!("key:{key}"))
                    .arg(format!("{value}{key}"))
                    .ignore();
            }
            batch.exec(&mut connection).unwrap();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &TempDir, port: u16, program: &[String], environment: &[(String, String)], is_new: bool) -> Child {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).envs(environment.iter().cloned());
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
    command.args(["--unixsocket", &folder.path().join("socket").display().to_string()]);
    command.arg("--dir").arg(folder.path());
    // Older engines have no such setting, and always let tests ask for a digest.
    if is_new {
        command.args(["--enable-debug-command", "yes"]);
    }
    command.stdout(fs::File::create(folder.path().join("log")).unwrap());
    command.stderr(Stdio::inherit());
    command.spawn().unwrap()
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A copy on a thread of the test. It goes on until the test's process ends.
pub struct Copying {
    folder: TempDir,
}

impl Copying {
    /// Starts a copy that watches nothing.
    pub fn start(source: &Redis, target: &Redis) -> Copying {
        Self::with(source, target, QUICK, None)
    }

    /// Starts a copy that watches its source by MONITOR.
    pub fn watching(source: &Redis, target: &Redis) -> Copying {
        Self::gentle(source, target, QUICK)
    }

    /// As `watching`, at so many bytes a second.
    pub fn gentle(source: &Redis, target: &Redis, rate: u64) -> Copying {
        let port = source.port;
        let connect: Connect = Arc::new(move || Ok(TcpStream::connect(("127.0.0.1", port))?));
        Self::all(source, target, rate, None, Some(connect), &[])
    }

    pub fn with(source: &Redis, target: &Redis, rate: u64, memory: Option<u64>) -> Copying {
        Self::all(source, target, rate, memory, None, &[])
    }

    /// Leaves out keys whose names begin so.
    pub fn without(source: &Redis, target: &Redis, left_out: &[&str]) -> Copying {
        Self::all(source, target, QUICK, None, None, left_out)
    }

    fn all(
        source: &Redis,
        target: &Redis,
        rate: u64,
        memory: Option<u64>,
        watch: Option<Connect>,
        left_out: &[&str],
    ) -> Copying {
        target.script(&format!("ACL SETUSER copy on >copy-secret {RIGHTS}"));
        let folder = tempfile::tempdir().unwrap();
        let (home, control, status) = places(folder.path());
        let port = source.port;
        let socket = Mutex::new(target.socket());
        let options = Options {
            name: "source".into(),
            source: Box::new(move || Ok(Box::new(TcpStream::connect(("127.0.0.1", port))?) as Box<dyn Stream>)),
            source_login: Login {
                user: None,
                password: None,
            },
            target: Box::new(move || Ok(Box::new(UnixStream::connect(&*socket.lock().unwrap())?) as Box<dyn Stream>)),
            target_login: Login {
                user: Some("copy".into()),
                password: Some("copy-secret".into()),
            },
            watch,
            tries_again: true,
            rate,
            memory,
            left_out: left_out.iter().map(|prefix| Prefix::new(prefix.as_bytes())).collect(),
            home,
            control: control.clone(),
            status,
            now: || 0,
        };
        std::thread::spawn(move || copy::run(&options));
        until("the copy listens", || control.exists());
        Copying { folder }
    }

    pub fn sweep(&self) -> SweepReport {
        self.ask(Request::default()).unwrap()
    }

    pub fn ask(&self, request: Request) -> anyhow::Result<SweepReport> {
        copy::ask(&places(self.folder.path()).1, request)
    }

    pub fn status(&self) -> CopyStatus {
        serde_json::from_slice(&fs::read(places(self.folder.path()).2).unwrap_or_default()).unwrap_or_default()
    }
}

/// The folder, the control socket and the status of a copy.
pub fn places(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    (folder.join("home"), folder.join("control"), folder.join("status.json"))
}
