//! A real engine on loopback.

use super::rig::{bounded, free_port, until};
use ::redis::{Client, Connection, Value, cmd};
use sandbox::addon::{Engine, Shown};
use sandbox::paths::Paths;
use std::fs;
use std::process::{Child, Stdio};
use tempfile::TempDir;

pub struct Redis {
    pub port: u16,
    folder: TempDir,
    child: Child,
}

impl Redis {
    /// Starts one that speaks TLS alone and trusts these authorities when it follows.
    pub fn tls(engine: Engine, shown: &Shown, authorities: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let port = free_port();
        let words = [
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("chain.pem", &shown.chain),
            "--tls-key-file",
            &file("key.pem", &shown.key),
            "--tls-ca-cert-file",
            &file("authorities.pem", authorities),
            "--tls-auth-clients",
            "no",
        ];
        let words = words.map(String::from);
        Self::start(engine, folder, port, &words, more)
    }

    pub fn plain(engine: Engine) -> Self {
        let port = free_port();
        let words = ["--port", &port.to_string()].map(String::from);
        Self::start(engine, tempfile::tempdir().unwrap(), port, &words, &[])
    }

    fn start(engine: Engine, folder: TempDir, port: u16, words: &[String], more: &[&str]) -> Self {
        let paths = Paths::new(folder.path().into(), Paths::from_environment().unwrap().cache().into()).unwrap();
        let program = engine.ensure(&paths, &|_| ()).unwrap().command().unwrap();
        let program = program.as_std();
        let mut command = bounded(&program.get_program().to_string_lossy());
        command.args(program.get_args()).args(words).args(more);
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(["--bind", "127.0.0.1", "--save", "", "--unixsocket"]);
        command
            .arg(folder.path().join("socket"))
            .arg("--dir")
            .arg(folder.path());
        command.stdout(fs::File::create(folder.path().join("log")).unwrap());
        command.stderr(Stdio::inherit());
        let redis = Redis {
            port,
            child: command.spawn().unwrap(),
            folder,
        };
        until("the engine answers", || {
            redis
                .client()
                .is_some_and(|mut connection| cmd("PING").query::<Value>(&mut connection).is_ok())
        });
        redis
    }

    fn client(&self) -> Option<Connection> {
        let socket = format!("unix://{}", self.folder.path().join("socket").display());
        Client::open(socket).unwrap().get_connection().ok()
    }

    pub fn say(&self, words: &[&str]) -> String {
        let mut command = cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        match command.query(&mut self.client().unwrap()).unwrap() {
            Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
            other => format!("{other:?}"),
        }
    }

    pub fn info(&self, name: &str) -> String {
        let text = self.say(&["INFO"]);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().to_string()
    }

    pub fn number(&self, name: &str) -> u64 {
        self.info(name).parse().unwrap()
    }

    pub fn keys(&self) -> String {
        self.say(&["DBSIZE"])
    }

    /// Shows another certificate to whoever connects from now on.
    pub fn show(&self, shown: &Shown) {
        let write = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let number = fs::read_dir(self.folder.path()).unwrap().count();
        let chain = write(&format!("chain{number}.pem"), &shown.chain);
        let key = write(&format!("key{number}.pem"), &shown.key);
        let said = self.say(&["CONFIG", "SET", "tls-cert-file", &chain, "tls-key-file", &key]);
        assert_eq!(said, "ok");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Loads keys quickly, by the engine itself.
pub fn write_keys(redis: &Redis, from: usize, to: usize) {
    for key in from..to {
        redis.say(&["SET", &format!("key:{key}"), "value"]);
    }
}
