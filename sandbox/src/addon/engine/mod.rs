//! Gets the add-on's engine: this computer's Redis, or another one, fetched once into the cache.
//!
//! apt and pip fetch the packages, with this computer's settings. A Debian package of another
//! release brings its own libraries and loader, so it runs beside this computer's.

mod debian;
mod wheel;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::children;
use crate::choice::name_of;
use crate::paths::Paths;

/// The engines that can be rented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Redis 6.0, Debian 11's: no CLIENT PAUSE of writes alone, one append-only file
    #[value(name = "redis-6")]
    Redis6,
    /// Redis 6.2, a Python package's: it speaks no TLS
    #[value(name = "redis-6.2")]
    Redis62,
    /// Redis 7.0, Debian 12's
    #[default]
    #[value(name = "redis-7")]
    Redis7,
    /// Redis 8.0, Debian 13's
    #[value(name = "redis-8")]
    Redis8,
    /// Valkey 8.1, Debian 13's
    #[value(name = "valkey-8")]
    Valkey8,
}

/// A server program that can be started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and what must stand before its own arguments.
    words: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    /// Major and minor number of the engine's version.
    pub version: (u32, u32),
    pub speaks_tls: bool,
}

impl Engine {
    /// Returns the program, fetched into the cache if needed. `say` gets a line for each slow step.
    pub fn ensure(self, paths: &Paths, say: &dyn Fn(&str)) -> Result<Program> {
        let fetch = || -> Result<Program> {
            let folder = paths.cache().join(format!("engine-{}", name_of(&self)));
            match self {
                Self::Redis7 => {
                    // This computer's own engine is used if it has that version.
                    if let Ok(own) = Program::of_this_computer()
                        && own.version.0 == 7
                    {
                        return Ok(own);
                    }
                    debian::ensure(&folder, "bookworm", "redis", say)
                }
                Self::Redis6 => debian::ensure(&folder, "bullseye", "redis", say),
                Self::Redis8 => debian::ensure(&folder, "trixie", "redis", say),
                Self::Valkey8 => debian::ensure(&folder, "trixie", "valkey", say),
                Self::Redis62 => wheel::ensure(&folder, say),
            }
        };
        fetch().with_context(|| format!("get the hosted Redis's engine {}", name_of(&self)))
    }
}

impl Program {
    /// Returns the `redis-server` of this computer.
    pub fn of_this_computer() -> Result<Self> {
        Self::new(vec!["redis-server".into()], true)
    }

    fn new(words: Vec<OsString>, speaks_tls: bool) -> Result<Self> {
        let version = version(&words)?;
        Ok(Self {
            words,
            environment: Vec::new(),
            version,
            speaks_tls,
        })
    }

    /// Returns a command that ends when its parent does.
    pub fn command(&self) -> Result<tokio::process::Command> {
        let (program, words) = self
            .words
            .split_first()
            .context("start a server program: none is named")?;
        let mut command = children::command(program, words);
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }
}

/// Returns the version from the program's own words: `Redis server v=7.0.15 sha=…`.
fn version(words: &[OsString]) -> Result<(u32, u32)> {
    let (program, rest) = words
        .split_first()
        .context("ask a server program for its version: none is named")?;
    let shown = program.to_string_lossy();
    let output = Command::new(program).args(rest).arg("--version").output();
    let output = output.with_context(|| format!("start {shown} (is redis-server installed?)"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "ask {shown} for its version: it ended with {}: {}",
            output.status,
            errors.trim()
        );
    }
    parse_version(&said).with_context(|| format!("read the version of {shown}: it says {:?}", said.trim()))
}

fn parse_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))?
        .split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Makes a folder complete or not at all: `fill` works on one beside it.
fn complete(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let mut unfinished = folder.as_os_str().to_owned();
    unfinished.push(format!(".unfinished.{}.{}", std::process::id(), crate::random::hex(4)?));
    let unfinished = PathBuf::from(unfinished);
    std::fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    let filled = fill(&unfinished).and_then(|()| match std::fs::rename(&unfinished, folder) {
        // Another process was quicker, and its folder is as good.
        Err(_) if folder.exists() => Ok(()),
        renamed => renamed.with_context(|| format!("put {} in its place", folder.display())),
    });
    let _ = std::fs::remove_dir_all(&unfinished);
    filled
}

/// Runs a command to its end; an error quotes its last lines.
fn run(command: &mut Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {shown}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    bail!("{shown} ended with {}, saying: {}", output.status, last.join(" / "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_say() {
        assert_eq!(
            parse_version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"),
            Some((7, 0))
        );
        assert_eq!(parse_version("Valkey server v=8.1.1 sha=00000000:0"), Some((8, 1)));
        assert_eq!(parse_version("usage: redis-server"), None);
    }

    #[test]
    fn a_failed_fetch_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("engine");
        assert!(complete(&folder, |_| bail!("no network")).is_err());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        complete(&folder, |path| Ok(std::fs::write(path.join("server"), "")?)).unwrap();
        assert!(folder.join("server").exists());
    }
}
