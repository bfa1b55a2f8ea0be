//! The AWS part: moto behind a plugin in its own Python environment, and a client of its instances.

pub mod authority;
mod hypervisor;
mod plugin;
mod python;

pub use hypervisor::{Hypervisor, Instance, Operator, World};
pub use python::ensure as ensure_python;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::files;
use crate::network::BRIDGE_ADDRESS;
use crate::paths::Paths;

/// The port of all AWS services together.
pub const PORT: u16 = 4566;
/// The port of all AWS services over https.
pub const TLS_PORT: u16 = 4567;
const READY_WITHIN: Duration = Duration::from_secs(45);

/// The running plugin; killed when dropped.
pub struct Aws {
    process: Child,
    hypervisor: Hypervisor,
}

impl Aws {
    /// Starts the plugin and waits until it answers.
    pub async fn start(paths: &Paths) -> Result<Self> {
        let server = authority::make(paths)?;
        let log_path = paths.logs().join("aws.log");
        let (output, errors) = files::log(&log_path)?;
        let mut process = Command::new(paths.python_environment().join("bin/python"))
            .arg(plugin::lay_out(paths)?.join("localcloud.py"))
            .args(["--listen", &format!("{BRIDGE_ADDRESS}:{PORT}")])
            .args(["--listen-tls", &format!("{BRIDGE_ADDRESS}:{TLS_PORT}")])
            .arg("--certificate")
            .arg(server.certificate)
            .arg("--key")
            .arg(server.key)
            // Compiled Python goes into the cache: without it every start takes seconds longer.
            .env("PYTHONPYCACHEPREFIX", paths.cache().join("pycache"))
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .context("start the AWS part")?;
        let hypervisor = Hypervisor::new(format!("http://{BRIDGE_ADDRESS}:{PORT}"))?;
        let deadline = Instant::now() + READY_WITHIN;
        while !hypervisor.is_healthy().await {
            if let Some(status) = process.try_wait().context("look after the AWS part")? {
                bail!(
                    "start the AWS part: it ended with {status}: read {}",
                    log_path.display()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "start the AWS part: no answer within {} s: read {}",
                    READY_WITHIN.as_secs(),
                    log_path.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { process, hypervisor })
    }

    pub fn hypervisor(&self) -> Hypervisor {
        self.hypervisor.clone()
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Returns when the plugin has ended, which it never should by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        loop {
            match self.process.wait().await {
                Ok(status) => return status,
                Err(error) => {
                    tracing::error!("wait for the AWS part: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Ends the plugin, and with it the cloud of this run.
    pub async fn stop(mut self) {
        if let Err(error) = self.process.kill().await {
            tracing::warn!("stop the AWS part: {error}");
        }
    }
}
