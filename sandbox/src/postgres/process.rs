//! The server's process: who it runs as, and how it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, getuid};

/// The user that Debian's package makes for its servers.
const SERVER_USER: &str = "postgres";

/// Where Debian puts the programs of each major version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Returns the folder of the newest installed version's programs.
pub fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).context("find PostgreSQL (is the package postgresql installed?)")?;
    let newest = versions
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| {
            Path::new(VERSIONS)
                .join(version.to_string())
                .join("bin/postgres")
                .exists()
        })
        .max()
        .context("find PostgreSQL: no version of it has a server (is the package postgresql installed?)")?;
    Ok(Path::new(VERSIONS).join(newest.to_string()).join("bin"))
}

/// Returns the user that a server of ours runs as; `None` if it is the caller.
pub(super) fn server_user() -> Result<Option<User>> {
    if !getuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name(SERVER_USER).context("look up PostgreSQL's user")?;
    user.context("run PostgreSQL: it refuses root, and the package's user postgres is missing")
        .map(Some)
}

/// Returns a command of a program that runs as that user, and ends with whoever starts it.
pub(super) fn as_server_user(program: &Path) -> Result<Command> {
    let mut command = Command::new("setpriv");
    if let Some(user) = server_user()? {
        command.args(["--reuid", &user.uid.to_string(), "--regid", &user.gid.to_string()]);
        command.arg("--clear-groups");
    }
    // This signal ends the sessions and then the server, which so leaves nothing behind.
    command.args(["--pdeathsig", "INT", "--"]).arg(program);
    Ok(command)
}

pub(super) fn log_of(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

/// A server that runs. A thread of its own started it and waits for its end, since the kernel ends
/// the server together with the thread that started it.
pub(super) struct Process {
    pid: Pid,
    waiter: JoinHandle<()>,
}

impl Process {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let mut command = as_server_user(&super::programs()?.join("postgres"))?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log_of(folder))
            .context("open PostgreSQL's log")?;
        command
            .arg("-D")
            .arg(folder.join("data"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open PostgreSQL's log")?)
            .stderr(log);
        let (started, answer) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let child = command.spawn();
            match child {
                Ok(mut child) => {
                    let _ = started.send(Ok(Pid::from_raw(child.id().cast_signed())));
                    let _ = child.wait();
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
        let pid = answer
            .recv()
            .context("start PostgreSQL: its thread has ended")?
            .context("start PostgreSQL (is util-linux's setpriv installed?)")?;
        Ok(Self { pid, waiter })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.waiter.is_finished()
    }

    /// Ends it: sessions are ended, data is written.
    pub(super) fn end(self, patience: Duration) -> Result<()> {
        self.signal(Signal::SIGINT, patience)
    }

    /// Ends it at once, with its sessions and without writing anything.
    pub(super) fn crash(self, patience: Duration) -> Result<()> {
        self.signal(Signal::SIGQUIT, patience)
    }

    fn signal(self, signal: Signal, patience: Duration) -> Result<()> {
        if !self.has_ended() {
            kill(self.pid, signal).context("end PostgreSQL")?;
        }
        let deadline = Instant::now() + patience;
        while !self.has_ended() {
            if Instant::now() >= deadline {
                let _ = kill(self.pid, Signal::SIGKILL);
                bail!("end PostgreSQL: it still ran after {patience:?} and was killed");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
