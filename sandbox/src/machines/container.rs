//! One run of a machine's system under systemd-nspawn: from the start of its init to its end.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

use super::control_group;

/// Limit for the start. nspawn reports a running init within a fraction of a second.
const START_WITHIN: Duration = Duration::from_secs(20);
/// The exit code of nspawn if the system inside asked for a reboot.
const REBOOT_STATUS: i32 = 133;

/// How a system ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The machine asked to be started again.
    Reboot,
    /// The machine was shut down, from inside or from outside, or it died.
    PowerOff,
}

/// The parts that a system is started with.
pub struct Start<'a> {
    pub instance: &'a str,
    pub root: &'a Path,
    pub folder: &'a Path,
    pub log: &'a Path,
    pub namespace: &'a str,
    pub hostname: &'a str,
    pub sandbox: &'a str,
    pub memory_mib: Option<u64>,
    pub state_folder: &'a Path,
}

/// A running system.
#[derive(Debug)]
pub struct Container {
    instance: String,
    process: Child,
    leader: Pid,
}

impl Container {
    /// Starts the system; returns when its init runs.
    pub async fn start(start: &Start<'_>) -> Result<Self> {
        let (log, errors) = crate::files::log(start.log)?;
        let socket = start.folder.join("notify");
        let _ = fs::remove_file(&socket);
        let notifications = UnixDatagram::bind(&socket).with_context(|| format!("listen on {}", socket.display()))?;
        let groups = control_group::create(start.instance, start.memory_mib)?;

        // The shell enters the machine's control groups, then becomes nspawn.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "while [ \"$1\" != -- ]; do echo $$ > \"$1\" || exit; shift; done; shift; exec \"$@\"",
            "sh",
        ]);
        command.args(&groups).arg("--").args(nspawn(start));
        command
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .env("SYSTEMD_NSPAWN_LOCK", "0")
            // The namespace's own settings and rules are the machine's, as on a real one.
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true);
        let mut process = command.spawn().context("start systemd-nspawn")?;

        let leader = tokio::select! {
            leader = leader_from(&notifications) => leader?,
            status = process.wait() => {
                let status = status.context("wait for systemd-nspawn")?;
                bail!("systemd-nspawn ended at once with {status}: read {}", start.log.display());
            }
            () = tokio::time::sleep(START_WITHIN) => {
                bail!("systemd-nspawn did not start an init within {} s: read {}", START_WITHIN.as_secs(), start.log.display());
            }
        };
        Ok(Self {
            instance: start.instance.to_owned(),
            process,
            leader,
        })
    }

    /// Returns the init's process id on this computer.
    pub fn leader(&self) -> i32 {
        self.leader.as_raw()
    }

    /// Returns when the system has ended. May be dropped and asked again.
    pub async fn ended(&mut self) -> End {
        match self.process.wait().await {
            Ok(status) if status.code() == Some(REBOOT_STATUS) => End::Reboot,
            Ok(status) => {
                tracing::info!("{}: systemd-nspawn ended with {status}", self.instance);
                End::PowerOff
            }
            Err(error) => {
                tracing::error!("{}: wait for systemd-nspawn: {error}", self.instance);
                End::PowerOff
            }
        }
    }

    /// Asks the init to reboot, as a key press on a console would.
    pub fn ask_reboot(&self) {
        let _ = kill(self.leader, Signal::SIGINT);
    }

    /// Shuts down in order; after `patience`, at once.
    pub async fn shut_down(mut self, patience: Duration) {
        if let Some(nspawn) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            // nspawn passes this on as the signal by which an init shuts down.
            let _ = kill(Pid::from_raw(nspawn), Signal::SIGTERM);
        }
        if tokio::time::timeout(patience, self.process.wait()).await.is_err() {
            tracing::warn!(
                "{}: not shut down after {} s: ended at once",
                self.instance,
                patience.as_secs()
            );
        }
        self.kill().await;
    }

    /// Ends every process of the machine at once.
    pub async fn kill(&mut self) {
        let _ = kill(self.leader, Signal::SIGKILL);
        let _ = self.process.kill().await;
        for _ in 0..100 {
            let left = control_group::processes(Some(&self.instance));
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        control_group::remove(Some(&self.instance));
    }
}

fn nspawn(start: &Start<'_>) -> Vec<String> {
    vec![
        "systemd-nspawn".into(),
        "--quiet".into(),
        format!("--directory={}", start.root.display()),
        format!("--machine=infra-sb-{}", start.instance),
        format!("--hostname={}", start.hostname),
        "--boot".into(),
        "--register=no".into(),
        "--keep-unit".into(),
        "--capability=CAP_NET_ADMIN".into(),
        format!("--network-namespace-path={}", start.namespace),
        "--resolv-conf=off".into(),
        "--timezone=off".into(),
        "--link-journal=no".into(),
        "--console=read-only".into(),
        format!("--setenv=INFRA_SANDBOX_ID={}", start.sandbox),
        format!("--setenv=INFRA_SANDBOX_DIR={}", start.state_folder.display()),
    ]
}

/// Returns the init's process id, which nspawn announces on its notification socket.
async fn leader_from(socket: &UnixDatagram) -> Result<Pid> {
    let mut buffer = vec![0; 8192];
    let mut leader = None;
    loop {
        let length = socket.recv(&mut buffer).await.context("hear from systemd-nspawn")?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let mut ready = false;
        for line in text.lines() {
            if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                leader = pid.parse::<i32>().ok().map(Pid::from_raw);
            }
            ready |= line == "READY=1";
        }
        if let (Some(leader), true) = (leader, ready) {
            return Ok(leader);
        }
    }
}
