//! Starts processes that must not outlive the sandbox.
//!
//! The kernel kills each of them (`PR_SET_PDEATHSIG`) when the *thread* that started it ends.
//! `setpriv` sets that, since unsafe code would be needed otherwise. One thread starts them all,
//! because threads of an async runtime come and go. Grandchildren are not covered.

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

/// Starts processes. Dropping the last clone kills what it started.
#[derive(Clone)]
pub struct Launcher {
    orders: mpsc::Sender<Order>,
}

impl Launcher {
    /// Needs a tokio runtime with its I/O and time drivers, which reap the children.
    pub fn new() -> Result<Self> {
        let runtime = Handle::current();
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                for mut order in inbox {
                    // If the caller has gone, the child is dropped, and ends by kill_on_drop.
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

/// Returns a command with an environment of PATH and the run's id, in its own process group.
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
        // The signal is set only once setpriv has become sleep.
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
