//! The real command line of Heroku, from its npm package, kept beside the sandbox's other caches.

use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::paths::Paths;

const VERSION: &str = "11.10.0";
const OLDEST_NODE: u32 = 20;

/// Returns its program, or why this computer has none.
pub fn program() -> Result<PathBuf, String> {
    let node = output(Command::new("node").arg("--version")).map_err(|error| format!("there is no node: {error}"))?;
    let major = node
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|text| text.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_NODE) {
        return Err(format!(
            "it needs Node {OLDEST_NODE} or newer, and this is {}",
            node.trim()
        ));
    }
    let cache = Paths::from_environment()
        .map_err(|error| format!("{error:#}"))?
        .cache()
        .to_owned();
    let folder = cache.join(format!("heroku-cli-{VERSION}"));
    let program = |folder: &Path| folder.join("node_modules/.bin/heroku");
    if !program(&folder).is_file() {
        eprintln!(
            "installing the Heroku CLI {VERSION} into {}: 400 MB, once",
            folder.display()
        );
        // An interrupted installation must not look complete.
        let unfinished = cache.join(format!("heroku-cli.unfinished.{}", std::process::id()));
        std::fs::create_dir_all(&unfinished).map_err(|error| format!("make {}: {error}", unfinished.display()))?;
        let package = format!("heroku@{VERSION}");
        // No script of any package is run: none is needed.
        let mut install = Command::new("npm");
        install
            .args([
                "install",
                &package,
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--no-update-notifier",
            ])
            .current_dir(&unfinished);
        let installed = output(&mut install);
        if let Err(error) = installed {
            let _ = std::fs::remove_dir_all(&unfinished);
            return Err(format!("npm could not install it: {error}"));
        }
        std::fs::rename(&unfinished, &folder).map_err(|error| format!("put it in its place: {error}"))?;
    }
    Ok(program(&folder))
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!(
            "{}: {}",
            output.status,
            said.lines().last().unwrap_or_default()
        ))
    }
}
