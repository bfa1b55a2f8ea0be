//! A real PostgreSQL on this computer, of Debian's package, with data and certificate of its own.
//!
//! The server refuses to run as root, so root runs it as the package's user. Passwords are SCRAM,
//! the network takes TLS alone, and the log of changes holds enough for logical replication.

mod files;
mod process;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::addon::{Authority, Tls, free_port};
pub use process::programs;
use process::{Process, as_server_user};

/// How long a start may take, and a stop.
const DEADLINE: Duration = Duration::from_secs(60);

/// The superuser's name, which only the server's side knows.
const SUPERUSER: &str = "postgres";

/// A server to raise.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds everything of the server; it is made if it is missing.
    pub folder: PathBuf,
    /// Addresses of this computer; the first stands in the URL.
    pub listen: Vec<IpAddr>,
    /// 0 takes a free one.
    pub port: u16,
    pub tls: Tls,
    /// The issuer of the certificate for [`Tls::Authority`].
    pub authority: Option<Authority>,
    /// The renter's user, which owns the database of the same name.
    pub user: String,
    /// Of letters and digits, so that it needs no quoting in a URL.
    pub password: String,
    /// True if the renter may make replication slots.
    pub replication: bool,
    /// Further lines of `postgresql.conf`.
    pub settings: Vec<String>,
}

/// A running server. It ends when this is dropped.
pub struct Cluster {
    options: Options,
    port: u16,
    authority: Option<String>,
    process: Option<Process>,
}

impl Cluster {
    /// Makes the data folder, starts the server and waits until it answers. Blocks.
    pub fn start(options: Options) -> Result<Self> {
        let host = *options
            .listen
            .first()
            .context("start PostgreSQL: it was given no address to listen on")?;
        for word in [&options.user, &options.password] {
            if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                bail!("start PostgreSQL: user and password must consist of letters and digits");
            }
        }
        let port = if options.port == 0 {
            free_port(host)?
        } else {
            options.port
        };
        let authority = files::write(&options, port)?;
        let mut cluster = Self {
            options,
            port,
            authority,
            process: None,
        };
        cluster.resume()?;
        cluster.make_renter()?;
        Ok(cluster)
    }

    /// Starts the server again on its data after a stop or a kill.
    pub fn resume(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        self.process = Some(Process::start(&self.options.folder)?);
        self.wait_until_it_answers()
    }

    /// Returns the renter's URL: `postgres://user:password@address:port/database?sslmode=require`.
    pub fn url(&self) -> String {
        let Options {
            listen, user, password, ..
        } = &self.options;
        let host = match listen.first() {
            Some(IpAddr::V6(host)) => format!("[{host}]"),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let sslmode = if self.options.tls == Tls::Off {
            ""
        } else {
            "?sslmode=require"
        };
        format!("postgres://{user}:{password}@{host}:{}/{user}{sslmode}", self.port)
    }

    /// Returns in PEM the authority that verifies the certificate; `None` without TLS, and for version 1.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements in the renter's database as the superuser; returns rows as lines, values parted by `|`.
    pub fn superuser_sql(&self, statements: &str) -> Result<String> {
        self.psql(SUPERUSER, &self.options.user, statements)
    }

    /// Runs statements as the renter, who owns the database.
    pub fn sql(&self, statements: &str) -> Result<String> {
        self.psql(&self.options.user, &self.options.user, statements)
    }

    /// Gives the renter another password and keeps the new URL. Sessions stay, as with providers.
    pub fn rotate(&mut self, password: &str) -> Result<()> {
        if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            bail!("rotate PostgreSQL's credentials: the password must consist of letters and digits");
        }
        let user = &self.options.user;
        self.superuser_sql(&format!("ALTER ROLE \"{user}\" PASSWORD '{password}'"))?;
        self.options.password = password.to_owned();
        Ok(())
    }

    /// Ends the server as its operator does: sessions are ended, data is written.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.end(DEADLINE),
            None => Ok(()),
        }
    }

    /// Kills the server as a crash does: what was committed is recovered at the next start.
    pub fn crash(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.crash(DEADLINE),
            None => Ok(()),
        }
    }

    fn make_renter(&self) -> Result<()> {
        let Options { user, password, .. } = &self.options;
        let replication = if self.options.replication { "REPLICATION" } else { "" };
        self.psql(
            SUPERUSER,
            SUPERUSER,
            &format!("CREATE ROLE \"{user}\" LOGIN PASSWORD '{password}' {replication};\nCREATE DATABASE \"{user}\" OWNER \"{user}\";\n"),
        )?;
        Ok(())
    }

    fn psql(&self, user: &str, database: &str, statements: &str) -> Result<String> {
        use std::io::Write;
        let mut command = Command::new(programs()?.join("psql"));
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                user,
                "-d",
                database,
            ])
            .arg("-h")
            .arg(&self.options.folder)
            .args(["-p", &self.port.to_string()]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start psql")?;
        if let Some(mut input) = child.stdin.take() {
            let statements = statements.to_owned();
            // A thread of its own writes, since psql may answer before it has read everything.
            std::thread::spawn(move || input.write_all(statements.as_bytes()));
        }
        let output = child.wait_with_output().context("wait for psql")?;
        if !output.status.success() {
            bail!("run SQL: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while let Err(refusal) = self.psql(SUPERUSER, SUPERUSER, "SELECT 1") {
            let log = process::log_of(&self.options.folder);
            let ended = self.process.as_ref().is_none_or(Process::has_ended);
            if ended || Instant::now() >= deadline {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(5).collect();
                bail!("start PostgreSQL: no answer ({refusal}), saying: {}", tail.join(" / "));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = process.crash(DEADLINE);
        }
    }
}

/// Runs a program of the package as the user of the server; an error quotes what it said.
fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let mut command = as_server_user(&programs()?.join(program))?;
    let output = command.args(arguments).current_dir(folder).output();
    let output = output.with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
