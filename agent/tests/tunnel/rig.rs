//! The tunnel's process and its files, in a folder that ends with the test.

use infra_agent::record::{Obstacle, TunnelStatus};
use sandbox::addon::{Shown, Tls, make_certificate};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The name in every certificate here.
pub const NAME: &str = "redis.test";

pub fn shown(tls: Tls) -> Shown {
    make_certificate(tls, &[NAME.into()], None).unwrap().unwrap()
}

pub fn pin(shown: &Shown) -> String {
    trust::Digest::of(&super::peer::chain(shown)[0]).to_string()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks until it is so; panics after half a minute.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that the kernel kills together with this one.
pub fn bounded(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command.stdin(Stdio::null());
    command
}

pub struct Tunnel {
    pub port: u16,
    folder: TempDir,
    words: Vec<String>,
    authorities: Option<PathBuf>,
    child: Option<Child>,
}

impl Tunnel {
    /// Starts one to a source that needs no name server.
    pub fn start(host: &str, port: u16, trust: &str) -> Self {
        let mut tunnel = Tunnel::new(host, port, trust);
        tunnel.again();
        tunnel
    }

    pub fn new(host: &str, port: u16, trust: &str) -> Self {
        let words = ["--host", host, "--port", &port.to_string(), "--trust", trust];
        let tunnel = Tunnel {
            port: free_port(),
            folder: tempfile::tempdir().unwrap(),
            words: words.map(String::from).to_vec(),
            authorities: None,
            child: None,
        };
        tunnel.hosts("127.0.0.1 redis.test other.test\n");
        tunnel.resolv_conf("nameserver 127.0.0.1\n");
        tunnel
    }

    /// Trusts these authorities instead of the system's.
    pub fn trusting(mut self, authorities: &str) -> Self {
        let file = self.path("authorities.pem");
        fs::write(&file, authorities).unwrap();
        self.authorities = Some(file);
        self
    }

    pub fn hosts(&self, text: &str) {
        fs::write(self.path("hosts"), text).unwrap();
    }

    pub fn resolv_conf(&self, text: &str) {
        fs::write(self.path("resolv.conf"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = bounded(env!("CARGO_BIN_EXE_infra-agent"));
        command.arg(verb).args(&self.words);
        command.arg("--hosts").arg(self.path("hosts"));
        command.arg("--resolv-conf").arg(self.path("resolv.conf"));
        if let Some(file) = &self.authorities {
            command.env("SSL_CERT_FILE", file);
        }
        command
    }

    /// Starts its process, on the same port as before.
    pub fn again(&mut self) {
        let mut command = self.command("tunnel");
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        command.arg("--status").arg(self.path("status.json"));
        self.child = Some(command.spawn().unwrap());
        until("the tunnel listens", || TcpStream::connect(self.address()).is_ok());
    }

    /// Ends its process as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Tries the way once, as `up` does on a host.
    pub fn reach(&self) -> Output {
        self.command("reach").output().unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Returns the first line of an answer; empty if the connection was closed instead.
    pub fn ask(&self, line: &str) -> String {
        ask(&mut self.connect(), line)
    }

    pub fn status(&self) -> TunnelStatus {
        serde_json::from_slice(&fs::read(self.path("status.json")).unwrap()).unwrap()
    }

    /// Tries to connect, and returns what the tunnel reports of it.
    #[track_caller]
    pub fn refused(&self) -> (Obstacle, String) {
        until("no connection is open", || self.status().connected_since.is_none());
        let before = self.status().opened;
        assert_eq!(self.ask("PING"), "", "the tunnel led somewhere");
        let status = self.status();
        assert_eq!(status.opened, before, "{status:?}");
        assert_eq!(status.connected_since, None, "{status:?}");
        let trouble = status.trouble.unwrap();
        (trouble.obstacle, trouble.why)
    }

    /// Returns a figure of the process in KiB, such as `VmRSS`.
    pub fn memory(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.proc().join("status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|letter: char| !letter.is_ascii_digit())
            .parse()
            .unwrap()
    }

    /// Returns how many files and how many threads the process has.
    pub fn holdings(&self) -> (usize, usize) {
        let count = |name: &str| fs::read_dir(self.proc().join(name)).unwrap().count();
        (count("fd"), count("task"))
    }

    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.child.as_ref().unwrap().id().to_string())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn ask(stream: &mut TcpStream, line: &str) -> String {
    let mut answer = String::new();
    if stream.write_all(format!("{line}\r\n").as_bytes()).is_ok() {
        // A connection that is reset answers nothing either.
        let _ = BufReader::new(stream).read_line(&mut answer);
    }
    answer.trim().into()
}
