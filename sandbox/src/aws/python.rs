//! The Python environment of the AWS part, made once from its requirements.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::plugin::REQUIREMENTS;
use crate::paths::Paths;

/// Makes the environment unless it is complete. `say` gets one line for each step.
pub fn ensure(paths: &Paths, say: &dyn Fn(&str)) -> Result<()> {
    let wanted = hex::encode(Sha256::digest(REQUIREMENTS));
    let environment = paths.python_environment();
    let stamp = environment.join("requirements.sha256");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    say("making the Python environment of the AWS part, once");
    fs::create_dir_all(paths.cache()).with_context(|| format!("make {}", paths.cache().display()))?;
    // An environment contains its own path, so it is made in place, and counts only with its stamp.
    crate::files::remove_tree(&environment)?;
    let requirements = paths.cache().join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).with_context(|| format!("write {}", requirements.display()))?;
    let log = paths.cache().join("venv.log");
    run_logged(Command::new("python3").args(["-m", "venv"]).arg(&environment), &log)?;
    let mut install = Command::new(environment.join("bin/python"));
    install
        .args([
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--quiet",
            "-r",
        ])
        .arg(&requirements);
    run_logged(&mut install, &log)?;
    fs::write(&stamp, wanted).context("stamp the Python environment")
}

fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let (file, errors) = crate::files::log(log)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .context("make the Python environment: start python3")?;
    if !status.success() {
        bail!(
            "make the Python environment: python3 ended with {status}: read {}",
            log.display()
        );
    }
    Ok(())
}
