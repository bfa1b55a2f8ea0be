//! A sandbox for one test: raised, used through its real APIs, and removed even if the test fails.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

/// The sandbox under test, in its own state folder. A computer has room for one, so tests wait.
pub struct Sandbox {
    pub state: PathBuf,
    cache: PathBuf,
    _turn: Flock<fs::File>,
}

impl Sandbox {
    pub fn up(name: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests raise real machines: run them as root"
        );
        let cache = std::env::var_os("INFRA_SANDBOX_CACHE").map_or_else(
            || std::env::home_dir().unwrap().join(".cache/infra-sandbox"),
            PathBuf::from,
        );
        fs::create_dir_all(&cache).unwrap();
        let turn = fs::File::create(cache.join("tests.lock")).unwrap();
        let turn = Flock::lock(turn, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .unwrap();
        let state = PathBuf::from(format!("/var/lib/infra-sandbox-test-{name}-{}", std::process::id()));
        let sandbox = Self {
            state,
            cache,
            _turn: turn,
        };
        sandbox.succeed(&["up", "--no-app"]);
        sandbox
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
        command
            .args(arguments)
            .env("INFRA_SANDBOX_DIR", &self.state)
            .env("INFRA_SANDBOX_CACHE", &self.cache);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "sandbox {arguments:?}: {}\n{errors}",
            output.status
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap()
    }

    pub fn supervisor(&self) -> i32 {
        i32::try_from(self.status()["supervisor"].as_i64().unwrap()).unwrap()
    }

    pub fn aws(&self) -> Aws {
        let script = &format!("{}/tests/support/aws.py", std::env::var("CARGO_MANIFEST_DIR").unwrap());
        let python = self.cache.join("venv/bin/python");
        let mut process = self
            .command(&["run", python.to_str().unwrap(), script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Aws {
            process,
            input,
            output: BufReader::new(output),
        }
    }

    /// Returns everything of the sandbox that stands on this computer, as its users would find it.
    pub fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let state = self.state.to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        traces.extend(
            mounts
                .lines()
                .filter(|line| line.contains(state))
                .map(|line| format!("mount {line}")),
        );
        for folder in [
            "/sys/class/net",
            "/run/netns",
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup/systemd",
        ] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            traces.extend(
                names
                    .filter(|name| name.starts_with("infra-sb"))
                    .map(|name| format!("{folder}/{name}")),
            );
        }
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            let marked = String::from_utf8_lossy(&environment).contains(&format!("INFRA_SANDBOX_DIR={state}"));
            traces.extend(marked.then(|| format!("process {:?}", process.file_name())));
        }
        if self.state.exists() {
            traces.push(state.to_owned());
        }
        traces
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.state.join("logs/supervisor.log")).unwrap_or_default();
            eprintln!("--- supervisor.log\n{log}");
        }
        let output = self.run(&["down"]);
        assert!(
            output.status.success() || std::thread::panicking(),
            "down: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A real AWS client against the sandbox.
pub struct Aws {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Aws {
    pub fn call(&mut self, service: &str, call: &str, arguments: Value) -> Value {
        let request = json!({"service": service, "call": call, "arguments": arguments});
        writeln!(self.input, "{request}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer.get("error").is_none(), "{service} {call}: {answer}");
        answer["result"].take()
    }

    pub fn ec2(&mut self, call: &str, arguments: Value) -> Value {
        self.call("ec2", call, arguments)
    }

    pub fn instance(&mut self, id: &str) -> Value {
        self.ec2("describe_instances", json!({"InstanceIds": [id]}))["Reservations"][0]["Instances"][0].take()
    }

    pub fn wait_for_state(&mut self, id: &str, state: &str) {
        until(&format!("{id} to be {state}"), Duration::from_secs(60), || {
            self.instance(id)["State"]["Name"] == state
        });
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Polls until it is so; fails the test after the deadline.
pub fn until(what: &str, deadline: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !is_so() {
        assert!(
            Instant::now() < end,
            "waited {} s in vain for {what}",
            deadline.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns whether a TCP connection is accepted.
pub fn is_open(address: &str, port: u16) -> bool {
    let address = (address, port).to_socket_addrs().unwrap().next().unwrap();
    TcpStream::connect_timeout(&address, Duration::from_millis(400)).is_ok()
}

/// Waits for ssh's banner: only then does an attempt to log in not count as a failed one.
pub fn wait_for_ssh(address: &str) {
    until(&format!("ssh's banner at {address}"), Duration::from_secs(60), || {
        let target = (address, 22).to_socket_addrs().unwrap().next().unwrap();
        let Ok(stream) = TcpStream::connect_timeout(&target, Duration::from_millis(400)) else {
            return false;
        };
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut banner = String::new();
        BufReader::new(stream)
            .read_line(&mut banner)
            .is_ok_and(|_| banner.starts_with("SSH-2.0"))
    });
}

/// A key pair of ssh in a folder of its own.
pub struct Key {
    folder: PathBuf,
}

impl Key {
    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("sandbox-test-key-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let _ = fs::remove_file(folder.join("id"));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(folder.join("id"))
            .status();
        assert!(made.unwrap().success());
        Self { folder }
    }

    pub fn public(&self) -> String {
        fs::read_to_string(self.folder.join("id.pub")).unwrap()
    }

    /// Returns the command's output on the machine, as the image's own user.
    pub fn ssh(&self, address: &str, command: &str) -> String {
        self.try_ssh(address, command)
            .unwrap_or_else(|failure| panic!("on {address}: {command}: {failure}"))
    }

    /// Returns the command's output, or how it failed.
    pub fn try_ssh(&self, address: &str, command: &str) -> Result<String, String> {
        let output = Command::new("ssh")
            .arg("-i")
            .arg(self.folder.join("id"))
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .args([
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=10",
                // A session to an address that moved gets no answers.
                "-o",
                "ServerAliveInterval=3",
                "-o",
                "ServerAliveCountMax=2",
                &format!("admin@{address}"),
                command,
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            Ok(text.trim().to_owned())
        } else {
            Err(format!("{}\n{text}\n{errors}", output.status))
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
