//! The hosted Redis in the test's own hands: behind a proxy that can be slow, with its data on disk, and a user of its host who may do what renters may not.
//!
//! Its mishaps are shell commands, since they have to happen at a point inside the program that is tried.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use testkit::access::state_dir;
use testkit::world::World;

const HOST: &str = "10.77.0.1";
/// The port at which the app and the pair find it.
const SHOWN: u16 = 6390;
const HIDDEN: u16 = 6392;
const PASSWORD: &str = "hostspassword";
/// How often it is looked for a new connection.
const LOOKING: Duration = Duration::from_millis(3);

pub struct Source {
    folder: PathBuf,
    /// The password in the app's URL.
    password: String,
    serving: Arc<AtomicBool>,
}

/// The next sandbox wants the port.
impl Drop for Source {
    fn drop(&mut self) {
        self.serving.store(false, Ordering::Relaxed);
        std::thread::sleep(10 * LOOKING);
    }
}

impl Source {
    /// Puts a server of the same name, password and certificate in the place of the sandbox's.
    pub fn take_over(world: &World) -> Self {
        let status = world.sandbox_status();
        let parts = status["parts"].as_array().unwrap();
        let pid = parts.iter().find(|part| part["name"] == "hosted redis").unwrap()["pid"]
            .as_i64()
            .unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid.try_into().unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let folder = state_dir().join("addon-redis-oval-12345");
        let text = std::fs::read_to_string(folder.join("redis.conf")).unwrap();
        let text = text
            .replace(&format!("port {SHOWN}"), &format!("port {HIDDEN}"))
            .replace("appendonly no", "appendonly yes\nappendfsync always")
            .replace("daemonize no", "daemonize yes");
        let shown = folder.display();
        let text = format!(
            "{text}\npidfile {shown}/pid\nlogfile {shown}/own.log\nenable-debug-command yes\nset-proc-title no\nuser host on >{PASSWORD} ~* &* +@all\n"
        );
        std::fs::write(folder.join("own.conf"), text).unwrap();
        let url = world.vars()["REDIS_URL"].clone();
        let password = url.split_once("://:").unwrap().1.split_once('@').unwrap().0.to_string();
        let serving = serve(&folder);
        let source = Source {
            folder,
            password,
            serving,
        };
        source.write(
            "stop",
            &format!(
                "pid=$(cat {shown}/pid); kill -9 $pid; while kill -0 $pid 2>/dev/null; do sleep 0.02; done",
                shown = source.folder.display()
            ),
        );
        // The process has the sandbox's id in its environment, so that `sandbox down` ends it. A
        // title of its own would hide that variable.
        source.write(
            "start",
            &format!(
                "env -u INFRA_SANDBOX_OPERATOR INFRA_SANDBOX_ID={} redis-server {}/own.conf && until {} ping | grep -q PONG; do sleep 0.02; done",
                status["id"].as_str().unwrap(),
                source.folder.display(),
                source.cli(),
            ),
        );
        source.shell(&source.start());
        source
    }

    fn write(&self, name: &str, script: &str) {
        std::fs::write(self.folder.join(name), format!("{script}\n")).unwrap();
    }

    /// Runs a command by the shell, as a fault would.
    pub fn shell(&self, command: &str) {
        let status = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(status.success(), "{command}");
    }

    fn cli(&self) -> String {
        format!("redis-cli -h {HOST} -p {HIDDEN} --tls --insecure --user host --pass {PASSWORD} --no-auth-warning")
    }

    fn start(&self) -> String {
        format!("sh {}/start", self.folder.display())
    }

    fn stop(&self) -> String {
        format!("sh {}/stop", self.folder.display())
    }

    /// Returns the host's commands in Redis, as its administrator.
    pub fn redis(&self, words: &str) -> String {
        format!("{} {words} >/dev/null", self.cli())
    }

    /// Ends the pause and writes a key, over one connection: the pause is renewed within moments.
    pub fn unpause_and_set(&self, key: &str) -> String {
        format!(
            "printf 'client unpause\\nset {key} 1\\n' | timeout 20 {} >/dev/null",
            self.cli()
        )
    }

    /// Ends the connection that reads MONITOR.
    pub fn cut_the_watch(&self) -> String {
        let cli = self.cli();
        format!(
            "for id in $({cli} client list | grep ' flags=[A-Za-z]*O' | sed 's/^id=\\([0-9]*\\) .*/\\1/'); do {cli} client kill id $id >/dev/null; done"
        )
    }

    /// The same as whoever rents it, by the URL that an app would have.
    pub fn renter(&self, words: &str) -> String {
        let password = &self.password;
        format!(
            "env REDISCLI_AUTH={password} redis-cli -h {HOST} -p {HIDDEN} --tls --insecure --no-auth-warning {words} >/dev/null"
        )
    }

    /// Killed and started again, with its data.
    pub fn restart(&self) -> String {
        format!("{} && {}", self.stop(), self.start())
    }

    /// Killed and started again, without any.
    pub fn restart_empty(&self) -> String {
        format!(
            "{} && rm -rf {}/data/* && {}",
            self.stop(),
            self.folder.display(),
            self.start()
        )
    }

    /// Stands still for so many seconds, from now on.
    pub fn stall(&self, seconds: u32) -> String {
        format!(
            "pid=$(cat {}/pid); kill -STOP $pid; (sleep {seconds}; kill -CONT $pid) >/dev/null 2>&1 &",
            self.folder.display()
        )
    }

    /// Delays everything from now on by this many milliseconds.
    pub fn delay(&self, milliseconds: u64) -> String {
        format!("echo {milliseconds} > {}/delay; sleep 0.2", self.folder.display())
    }
}

/// Passes connections on to the hidden port, as late as the file `delay` says, until that is no longer wanted.
fn serve(folder: &Path) -> Arc<AtomicBool> {
    let serving = Arc::new(AtomicBool::new(true));
    let delay = Arc::new(AtomicU64::new(0));
    let (file, told) = (folder.join("delay"), delay.clone());
    std::thread::spawn(move || {
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            told.store(text.trim().parse().unwrap_or(0), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let end = Instant::now() + Duration::from_secs(10);
    let listener = loop {
        match TcpListener::bind((HOST, SHOWN)) {
            Ok(listener) => break listener,
            Err(error) => assert!(Instant::now() < end, "listen in the source's place: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let wanted = serving.clone();
    std::thread::spawn(move || {
        listener.set_nonblocking(true).unwrap();
        while wanted.load(Ordering::Relaxed) {
            let Ok((client, _)) = listener.accept() else {
                std::thread::sleep(LOOKING);
                continue;
            };
            client.set_nonblocking(false).unwrap();
            if let Ok(server) = TcpStream::connect((HOST, HIDDEN)) {
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                pass(client.try_clone().unwrap(), server.try_clone().unwrap(), delay.clone());
                pass(server, client, delay.clone());
            }
        }
    });
    serving
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay: Arc<AtomicU64>) {
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + Duration::from_millis(delay.load(Ordering::Relaxed));
            if send.send((due, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Read);
    });
    std::thread::spawn(move || {
        while let Ok((due, bytes)) = receive.recv() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
