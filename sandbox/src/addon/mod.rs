//! The hosted Redis that the app rents: a real redis-server that its renter cannot administer.
//!
//! Clients log in with a password only, the certificate is of no public authority, and administration is
//! denied. Nothing is persisted unless asked for, as on a small plan: after a crash it is empty.

mod certificates;
mod engine;
mod files;
mod ports;
mod provider;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::Instant;

use crate::children::Launcher;
use crate::connect::Target;
pub use certificates::{Authority, Shown, Tls, authority, make as make_certificate, without_extensions};
pub use engine::{Engine, Program};
pub use ports::free_port;
pub use provider::Provider;

/// How long a start may take, and a stop.
const DEADLINE: Duration = Duration::from_secs(15);

/// The rights that the provider gives its renter beyond reading and writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Replication from outside and CLIENT PAUSE are allowed; CONFIG, DEBUG, SHUTDOWN, REPLICAOF, ACL, MODULE are not.
    #[default]
    Default,
    /// As the default, and CLIENT PAUSE and UNPAUSE are denied.
    NoPause,
    /// As the default, and nobody may replicate from it.
    NoReplication,
    /// As the default; replication, CLIENT PAUSE and UNPAUSE are denied.
    Cloud,
    /// As `cloud`; MONITOR, ROLE, CLIENT LIST and KILL are denied, and INFO has three sections.
    Thin,
}

/// An add-on to rent.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names its folder, `addon-<name>` in the state folder.
    pub name: String,
    pub state_dir: PathBuf,
    /// The name in its URL and in its certificate; the first address is in the URL without one.
    pub host: Option<String>,
    /// Addresses of this computer.
    pub listen: Vec<IpAddr>,
    /// 0 takes a free one.
    pub port: u16,
    /// Consists of letters and digits, so that it needs no quoting in a URL.
    pub password: String,
    pub tls: Tls,
    /// The issuer of the certificate for [`Tls::Authority`].
    pub authority: Option<Authority>,
    pub profile: Profile,
    /// True if it keeps an append-only file, synced each second.
    pub persistent: bool,
    /// The plan's memory in bytes; `None` for no limit.
    pub maxmemory: Option<u64>,
    /// The plan's connections; `None` for as many as the server takes.
    pub connections: Option<u32>,
    pub databases: u32,
    /// A second port, without TLS.
    pub plain_port: Option<u16>,
}

/// A running add-on. It ends when this is dropped.
pub struct Addon {
    url: String,
    plain_url: Option<String>,
    folder: PathBuf,
    certificate: Option<String>,
    server: Child,
    _launcher: Launcher,
}

/// Starts an add-on with this computer's own Redis and waits until it answers.
pub async fn start(options: Options) -> Result<Addon> {
    start_engine(options, &Program::of_this_computer()?).await
}

/// Starts an add-on of this engine and waits until it answers.
pub async fn start_engine(options: Options, program: &Program) -> Result<Addon> {
    if options.tls != Tls::Off && !program.speaks_tls {
        bail!("start the hosted Redis: this engine speaks no TLS; rent it without");
    }
    let host = *options
        .listen
        .first()
        .context("start the hosted Redis: it was given no address to listen on")?;
    if options.password.is_empty() || !options.password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("start the hosted Redis: its password must consist of letters and digits");
    }
    let port = if options.port == 0 {
        free_port(host)?
    } else {
        options.port
    };
    let folder = options.state_dir.join(format!("addon-{}", options.name));
    let provider_password = crate::random::hex(24)?;
    let prepared = files::write(&folder, port, &options, program.version, &provider_password)?;

    let launcher = Launcher::new()?;
    let mut command = program.command()?;
    command.arg(&prepared.configuration);
    command.current_dir(&folder).stdin(std::process::Stdio::null());
    let (output, errors) = crate::files::log(&folder.join("output.log"))?;
    command.stdout(output).stderr(errors);
    let server = launcher.start(command).await?;

    let scheme = if options.tls == Tls::Off { "redis" } else { "rediss" };
    let shown_host = if host.is_ipv6() {
        format!("[{host}]")
    } else {
        host.to_string()
    };
    let named = options.host.as_deref().unwrap_or(&shown_host);
    let url = format!("{scheme}://:{}@{named}:{port}", options.password);
    let plain_url = options
        .plain_port
        .map(|port| format!("redis://:{}@{named}:{port}", options.password));
    let provider_url = format!("{scheme}://{}:{provider_password}@{shown_host}:{port}", files::PROVIDER);
    files::write_provider_url(&folder, &provider_url)?;
    let mut addon = Addon {
        url,
        plain_url,
        folder: folder.clone(),
        certificate: prepared.certificate,
        server,
        _launcher: launcher,
    };
    addon.wait_until_it_answers(&folder).await?;
    Ok(addon)
}

impl Addon {
    /// Returns the URL with the password: `rediss://:password@host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL of the second port, which has no TLS: `redis://:password@host:port`.
    pub fn plain_url(&self) -> Option<&str> {
        self.plain_url.as_deref()
    }

    /// Returns in PEM the authority that verifies the certificate; `None` without TLS, and for version 1.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// Returns the process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.server.id()
    }

    /// Ends it and waits until it is gone.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        if let Some(pid) = self.server.id() {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).context("end the hosted Redis")?;
        }
        match tokio::time::timeout(DEADLINE, self.server.wait()).await {
            Ok(status) => status.context("wait for the end of the hosted Redis"),
            Err(_) => {
                self.server
                    .kill()
                    .await
                    .context("kill the hosted Redis, which did not end when asked to")?;
                self.server.wait().await.context("wait for the end of the hosted Redis")
            }
        }
    }

    async fn wait_until_it_answers(&mut self, folder: &std::path::Path) -> Result<()> {
        let target = Target::parse(&self.url, self.certificate.as_deref())?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let refusal = match target.connect(0, Duration::from_secs(2)).await {
                Ok(mut connection) => match redis::cmd("PING").query_async::<String>(&mut connection.commands).await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let log = folder.join("output.log");
            if let Some(status) = self.server.try_wait().context("look after the hosted Redis")? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(5).collect();
                bail!(
                    "start the hosted Redis: it ended with {status}, saying: {}",
                    tail.join(" / ")
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "start the hosted Redis: no answer after {DEADLINE:?} ({refusal}); see {}",
                    log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
