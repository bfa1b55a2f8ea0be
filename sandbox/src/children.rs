//! Starting processes that must not outlive the sandbox.
//!
//! The kernel kills each of them (`PR_SET_PDEATHSIG`, set by `setpriv` because doing it ourselves between fork and exec
//! would need unsafe code) when the *thread* that started it ends. So one thread of its own starts them all: the threads
//! of an async runtime come and go. Grandchildren are not covered: whoever wants those ends the process group.

use std::ffi::OsStr;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The variable by which everything that a run of the sandbox started can be found again.
pub const RUN_ID_VARIABLE: &str = "INFRA_SANDBOX_ID";

struct Order {
    command: Command,
    answer: oneshot::Sender<std::io::Result<Child>>,
}

/// Starts processes that die with it: dropping the last clone kills what it started.
#[derive(Clone)]
pub struct Launcher {
    orders: mpsc::Sender<Order>,
}

impl Launcher {
    /// Needs a tokio runtime with its I/O and time drivers: that is what reaps the children.
    pub fn new() -> Result<Self> {
        let runtime = Handle::current();
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                for mut order in inbox {
                    // Whoever asked may have gone; then the child is dropped, and ends by kill_on_drop.
                    let _ = order.answer.send(order.command.spawn());
                }
            })
            .context("start the thread that starts processes")?;
        Ok(Self { orders })
    }

    /// Starts a command that was made by [`command`].
    pub async fn start(&self, command: Command) -> Result<Child> {
        let (answer, started) = oneshot::channel();
        let program = format!("{:?}", command.as_std());
        self.orders
            .send(Order { command, answer })
            .map_err(|_| anyhow!("start {program}: the thread that starts processes has ended"))?;
        started
            .await
            .map_err(|_| anyhow!("start {program}: the thread that starts processes has ended"))?
            .with_context(|| format!("start {program} (is util-linux's setpriv installed?)"))
    }
}

/// A command with an empty environment but for PATH and the run's id, in a process group of its own.
pub fn command<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
    command.env_clear().process_group(0).kill_on_drop(true);
    for inherited in ["PATH", RUN_ID_VARIABLE] {
        if let Some(value) = std::env::var_os(inherited) {
            command.env(inherited, value);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_child_ends_when_its_launcher_is_dropped() {
        let launcher = Launcher::new().unwrap();
        let mut child = launcher.start(command("sleep", ["600"])).await.unwrap();
        // setpriv needs a moment to become sleep; only then is the signal arranged.
        let name = format!("/proc/{}/comm", child.id().unwrap());
        tokio::time::timeout(Duration::from_secs(10), async {
            while std::fs::read_to_string(&name).unwrap().trim() != "sleep" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        drop(launcher);
        let status = tokio::time::timeout(Duration::from_secs(10), child.wait())
            .await
            .unwrap()
            .unwrap();
        assert!(!status.success());
    }
}
