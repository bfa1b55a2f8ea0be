//! `sandbox run`: runs a command with the sandbox's variables, at the operator's distance if set.
//! This process becomes the command, so signals and exit code are the command's own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::names;
use crate::paths::Paths;
use crate::record::{Phase, Record};
use crate::{delay, environment};

/// Replaces this process; returns only if that fails.
pub fn run(paths: &Paths, command: &[OsString]) -> Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("`sandbox run` needs a command")
    };
    let record = match Record::read(paths) {
        Some(record) if record.phase == Phase::Ready && record.supervisor_lives() => record,
        Some(_) => bail!(
            "the sandbox in {} is not ready: see `sandbox status`",
            paths.state().display()
        ),
        None => bail!(
            "no sandbox is up in {}: raise one with `sandbox up`",
            paths.state().display()
        ),
    };
    let mut variables = environment::read(paths)?;
    if record.rtt_ms > 0 {
        delay::enter()?;
        // The operator's namespace has another loopback.
        variables.push(environment::platform_on_bridge());
    }
    names::enter(paths)?;
    let error = Command::new(program).args(arguments).envs(variables).exec();
    Err(error).with_context(|| format!("run {}", program.to_string_lossy()))
}
