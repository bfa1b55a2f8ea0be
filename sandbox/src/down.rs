//! `sandbox down`: asks the supervisor to stop, then removes whatever still stands.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup;
use crate::paths::Paths;
use crate::record::Record;
use crate::settings::runtime;

/// The supervisor only ends its parts in order. What it leaves is removed after it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Leaves nothing of the sandbox but the cache, or fails and names what is left.
pub fn down(paths: &Paths) -> Result<ExitCode> {
    crate::tools::check_root("down")?;
    let started = Instant::now();
    let record = Record::read(paths);
    let was_there = paths.state_mark().exists();
    if let Some(record) = &record {
        ask_to_stop(record);
    }
    let left = runtime()?.block_on(cleanup::sweep(paths, cleanup::Files::Remove));
    if !left.is_empty() {
        bail!(
            "these are left and would not go; run `sandbox down` again:\n  {}",
            left.join("\n  ")
        );
    }
    if was_there {
        eprintln!(
            "sandbox: down after {:.1} s; nothing is left but the cache {}",
            started.elapsed().as_secs_f64(),
            paths.cache().display()
        );
    } else {
        eprintln!("sandbox: none was up in {}; nothing is left", paths.state().display());
    }
    Ok(ExitCode::SUCCESS)
}

fn ask_to_stop(record: &Record) {
    let Some(pid) = record.supervisor.filter(|_| record.supervisor_lives()) else {
        return;
    };
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while record.supervisor_lives() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}
