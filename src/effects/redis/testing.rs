//! Starts real servers for tests on loopback and free ports, stopped when dropped.

use super::Connection;
use super::server::Server;
use super::trust::Trust;
use crate::model::secret::Secret;
use ::redis::{Cmd, FromRedisValue, Value};
use sandbox::addon::{Engine, Program};
use sandbox::paths::Paths;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct TestServer {
    process: Child,
    folder: TempDir,
    arguments: Vec<String>,
    program: Option<Program>,
    pub port: u16,
    pub trust: Option<Trust>,
}

impl TestServer {
    /// Starts a server without persistence; `arguments` are added to those of redis-server.
    pub async fn start(arguments: &[&str]) -> TestServer {
        Self::launch(tempfile::tempdir().unwrap(), arguments, None, None).await
    }

    /// Starts another engine or version; `None`, and a printed line, if it cannot be had here.
    pub async fn start_engine(engine: Engine, arguments: &[&str]) -> Option<TestServer> {
        let program = tokio::task::spawn_blocking(move || {
            engine.ensure(&Paths::from_environment()?, &|line| eprintln!("{line}"))
        });
        match program.await.unwrap() {
            Ok(program) => Some(Self::launch(tempfile::tempdir().unwrap(), arguments, None, Some(program)).await),
            Err(error) => {
                eprintln!(
                    "SKIPPED, {} was not tried: {error:#}",
                    sandbox::choice::name_of(&engine)
                );
                None
            }
        }
    }

    /// Starts a server with TLS only, with this certificate and key (PEM); clients use `trust`.
    pub async fn start_tls(certificate: &str, key: &str, trust: Trust) -> TestServer {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cert.pem"), certificate).unwrap();
        fs::write(folder.path().join("key.pem"), key).unwrap();
        let tls = [
            "--tls-cert-file",
            "cert.pem",
            "--tls-key-file",
            "key.pem",
            "--tls-auth-clients",
            "no",
        ];
        Self::launch(folder, &tls, Some(trust), None).await
    }

    pub async fn replica_of(master: &TestServer) -> TestServer {
        let replica = Self::start(&[
            "--replicaof",
            &format!("127.0.0.1 {}", master.port),
            "--repl-diskless-sync-delay",
            "0",
        ])
        .await;
        replica.await_copy().await;
        replica
    }

    /// Makes this server a replica of another one and waits for its copy.
    pub async fn follow(&self, master: &TestServer) {
        self.script(&format!("REPLICAOF 127.0.0.1 {}", master.port)).await;
        self.await_copy().await;
    }

    async fn await_copy(&self) {
        let mut connection = self.connect(0).await;
        let begun = Instant::now();
        while !connection.info().await.unwrap().link.unwrap().up {
            assert!(begun.elapsed() < PATIENCE, "the replica did not sync");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn launch(folder: TempDir, arguments: &[&str], trust: Option<Trust>, program: Option<Program>) -> TestServer {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        let port = free_port();
        let process = spawn(&folder, port, &arguments, trust.is_some(), program.as_ref());
        let mut server = TestServer {
            process,
            folder,
            arguments,
            program,
            port,
            trust,
        };
        server.await_answer().await;
        server
    }

    fn spawn(&self) -> Child {
        spawn(
            &self.folder,
            self.port,
            &self.arguments,
            self.trust.is_some(),
            self.program.as_ref(),
        )
    }

    async fn await_answer(&mut self) {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            // Another process may have taken the port since it was found free.
            if let Some(status) = self.process.try_wait().unwrap() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                assert!(
                    log.contains("Address already in use"),
                    "redis-server ended with {status}: {log}"
                );
                self.port = free_port();
                self.process = self.spawn();
            }
            assert!(begun.elapsed() < PATIENCE, "redis-server does not listen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills the server as kill -9 does, and starts it again on its port and data.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.process = self.spawn();
        self.await_answer().await;
    }

    /// Lets the server do nothing more, while the kernel keeps its connections.
    pub fn halt(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(nix::sys::signal::Signal::SIGCONT);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let process = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(process, signal).unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn server(&self) -> Server {
        Server {
            label: "test".into(),
            host: "127.0.0.1".into(),
            port: self.port,
            user: None,
            password: self.password(),
            trust: self.trust.clone(),
        }
    }

    /// Returns the password that the server was started with.
    fn password(&self) -> Option<Secret> {
        let at = self.arguments.iter().position(|argument| argument == "--requirepass")?;
        self.arguments
            .get(at + 1)
            .map(|password| Secret::new(password.as_str()))
    }

    /// Returns a proxy to this server that delays both directions by half of `round_trip` each.
    pub async fn far(&self, round_trip: Duration) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = Server {
            port: listener.local_addr().unwrap().port(),
            ..self.server()
        };
        let port = self.port;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(carry(from_client, to_server, round_trip / 2));
                tokio::spawn(carry(from_server, to_client, round_trip / 2));
            }
        });
        far
    }

    pub async fn connect(&self, database: u32) -> Connection {
        self.server().connect(database).await.unwrap()
    }

    /// Runs one command in database 0, words separated by spaces.
    pub async fn run<T: FromRedisValue>(&self, words: &str) -> T {
        self.connect(0).await.query(&command(words)).await.unwrap()
    }

    /// Runs one command per line, in the database before `N>`. An error fails the test.
    pub async fn script(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (database, words) = match line.split_once('>') {
                Some((database, words)) if database.parse::<u32>().is_ok() => (database.parse().unwrap(), words),
                _ => (0, line),
            };
            let answer = self.connect(database).await.ask(&command(words)).await.unwrap();
            assert!(!matches!(answer, Value::ServerError(_)), "{line}: {answer:?}");
        }
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, one_way: Duration) {
    let (sender, mut under_way) = tokio::sync::mpsc::unbounded_channel::<(tokio::time::Instant, Vec<u8>)>();
    let taking = async move {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut bytes).await {
            let _ = sender.send((tokio::time::Instant::now() + one_way, bytes[..length].to_vec()));
        }
    };
    let giving = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(taking, giving);
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn command(words: &str) -> Cmd {
    let mut command = Cmd::new();
    for word in words.split_whitespace() {
        command.arg(word);
    }
    command
}

fn spawn(folder: &TempDir, port: u16, arguments: &[String], tls: bool, program: Option<&Program>) -> Child {
    let ports = if tls {
        vec!["--port".into(), "0".into(), "--tls-port".into(), port.to_string()]
    } else {
        vec!["--port".into(), port.to_string()]
    };
    // Servers before Redis 7 do not know this option.
    let debug: &[&str] = if program.is_none_or(|program| program.version.0 >= 7) {
        &["--enable-debug-command", "yes"]
    } else {
        &[]
    };
    let fixed = [
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--logfile",
        "log",
        "--daemonize",
        "no",
    ];
    command_of(program)
        .args(ports)
        .args(fixed)
        .args(debug)
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns the command of this program, or of the installed server if it is `None`.
fn command_of(program: Option<&Program>) -> Command {
    let Some(program) = program else {
        return Command::new("redis-server");
    };
    let named = program.command().unwrap();
    let named = named.as_std();
    let mut command = Command::new(named.get_program());
    command.args(named.get_args());
    command.envs(named.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn free_port() -> u16 {
    sandbox::addon::free_port(std::net::Ipv4Addr::LOCALHOST.into()).unwrap()
}

/// An authority, a certificate for 127.0.0.1 and its key, in PEM, and its digest.
pub struct TestCertificate {
    pub authority: String,
    pub certificate: String,
    pub key: String,
    pub digest: super::Digest,
}

impl TestCertificate {
    /// Makes a certificate for `names`, which are host names or addresses.
    pub fn for_names(names: &[&str]) -> TestCertificate {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(parameters, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        TestCertificate {
            authority: authority.pem(),
            digest: super::Digest::of(certificate.der()),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}
