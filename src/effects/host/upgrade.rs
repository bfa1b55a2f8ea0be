//! Newer packages on a host, and the restart or reboot that they ask for.

use super::engine::Layout;
use super::templates;
use crate::effects::fault;
use crate::effects::remote::Session;
use crate::model::error::{Error, Result};
use std::time::Duration;

/// Time limit for packages over a slow mirror, or while another apt holds the lock.
const PACKAGES: Duration = Duration::from_secs(15 * 60);
/// A large data set takes its time to be read again.
const RESTART: Duration = Duration::from_secs(10 * 60);

/// Brings the lists of packages up to date. Returns warnings.
pub async fn refresh_lists(session: &Session, engine: &Layout) -> Result<Vec<String>> {
    let doing = format!("bring the lists of packages on {} up to date", session.label());
    run(session, engine, "lists", doing).await
}

/// Installs newer packages of the engine, which restarts it, and all security fixes. Returns warnings.
pub async fn install(session: &Session, engine: &Layout) -> Result<Vec<String>> {
    let doing = format!("upgrade packages on {}", session.label());
    fault::around("upgrade packages", run(session, engine, "install", doing)).await
}

async fn run(session: &Session, engine: &Layout, mode: &str, doing: String) -> Result<Vec<String>> {
    let packages = format!("{} {}", engine.server_package, engine.tools_package);
    let script = format!("MODE={mode} PACKAGES='{packages}'\n{}", templates::UPGRADE);
    let running = session.run_within("sudo -n bash -s", Some(script.as_bytes()), PACKAGES, |_| ());
    let text = running.await?.text().to_string();
    let mut warnings = Vec::new();
    let mut done = false;
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("warning", said)) => warnings.push(format!("{}: {said}", session.label())),
            Some(("failed", said)) => {
                return Err(Error::failed(doing).because(said.to_string()).hint(format!(
                    "see there what apt says: `infra ssh {}`; then run the same command again",
                    session.label()
                )));
            }
            _ => done |= line == "done",
        }
    }
    if done {
        return Ok(warnings);
    }
    Err(Error::failed(doing)
        .because("the script on the host did not come to its end")
        .hint("run the same command again"))
}

/// Restarts the engine, which then has new libraries and its module.
pub async fn restart_engine(session: &Session, engine: &Layout) -> Result<()> {
    let command = format!("sudo -n systemctl restart {}", engine.unit);
    let restarting = session.run_within(&command, None, RESTART, |_| ());
    let doing = format!("restart the engine on {}", session.label());
    fault::around("restart engine", restarting)
        .await?
        .expect_success(&doing)?;
    Ok(())
}

/// Returns the id of the present boot.
pub async fn boot_id(session: &Session) -> Result<String> {
    let output = session.run("cat /proc/sys/kernel/random/boot_id", None).await?;
    let output = output.expect_success(&format!("ask {} for its boot", session.label()))?;
    Ok(output.text().trim().to_string())
}

/// Asks for a reboot. The answer may be lost, since the session ends with the system.
pub async fn reboot(session: &Session) {
    let rebooting = session.run("sudo -n systemctl reboot", None);
    let _ = fault::around("reboot host", rebooting).await;
}
