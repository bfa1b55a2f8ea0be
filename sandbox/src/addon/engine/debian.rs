//! Gets an engine of any Debian release: its package and all dependencies, unpacked, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Program, complete, run};
use crate::image::apt_sources;

/// Debian's own keys, which verify what apt fetches.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// `engine` is `redis` or `valkey`: its server is in the package of its tools.
pub(super) fn ensure(folder: &Path, release: &str, engine: &str, say: &dyn Fn(&str)) -> Result<Program> {
    complete(folder, |unfinished| {
        say(&format!(
            "fetching {engine} of Debian {release} into {}, once",
            folder.display()
        ));
        fetch(unfinished, release, &format!("{engine}-tools"))
    })?;
    let root = folder.join("root");
    let libraries = libraries(&root)?;
    let loader = loader(&libraries)?;
    // The package has one program for all tools, which acts by its name.
    let server = folder.join(format!("{engine}-server"));
    if fs::symlink_metadata(&server).is_err() {
        let checker = format!("root/usr/bin/{engine}-check-rdb");
        std::os::unix::fs::symlink(checker, &server).with_context(|| format!("make {}", server.display()))?;
    }
    let words = vec![
        loader.into(),
        "--library-path".into(),
        search_path(&root, &libraries),
        server.into(),
    ];
    let mut program = Program::new(words, true)?;
    // Debian's older servers load a part of their Lua from files.
    let lua = libraries
        .iter()
        .map(|folder| format!("{}/lua/5.1/?.so", folder.display()));
    program.environment = vec![("LUA_CPATH", lua.collect::<Vec<_>>().join(";").into())];
    Ok(program)
}

fn fetch(folder: &Path, release: &str, package: &str) -> Result<()> {
    let mirror = apt_sources::of_this_computer()
        .mirror
        .context("find a Debian mirror: /etc/apt names none")?;
    let apt = folder.join("apt");
    for part in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(apt.join(part)).with_context(|| format!("make {}", apt.display()))?;
    }
    let sources = format!("deb [signed-by={KEYS}] {mirror} {release} main\n");
    fs::write(apt.join("sources.list"), sources).context("write apt's sources")?;
    // An empty status says that nothing is installed, so apt fetches every dependency.
    fs::write(apt.join("status"), "").context("write apt's status")?;
    run(apt_get(&apt).arg("update"))?;
    run(apt_get(&apt).args(["--no-install-recommends", "--download-only", "install", package]))?;
    let archives = fs::read_dir(apt.join("archives")).context("list what apt fetched")?;
    for archive in archives {
        let path = archive.context("list what apt fetched")?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(folder.join("root")))?;
        }
    }
    fs::remove_dir_all(&apt).context("remove apt's folder")
}

/// Returns apt-get with folders of its own, so that this computer's packages do not matter.
fn apt_get(apt: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-y"])
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive");
    let here = |name: &str| apt.join(name).display().to_string();
    for option in [
        format!("Dir::State={}", apt.display()),
        format!("Dir::State::lists={}", here("lists")),
        format!("Dir::State::status={}", here("status")),
        format!("Dir::Cache={}", apt.display()),
        format!("Dir::Cache::archives={}", here("archives")),
        format!("Dir::Etc::sourcelist={}", here("sources.list")),
        "Dir::Etc::sourceparts=-".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "APT::Keep-Downloaded-Packages=true".to_owned(),
        // apt's own user could not write here.
        "APT::Sandbox::User=root".to_owned(),
    ] {
        command.arg("-o").arg(option);
    }
    command
}

/// Returns the library folders: `usr/lib/x86_64-linux-gnu`, or without `usr` in older releases.
fn libraries(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in ["lib", "usr/lib"] {
        let Ok(entries) = fs::read_dir(root.join(place)) else {
            continue;
        };
        found.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.to_string_lossy().ends_with("-linux-gnu")),
        );
    }
    if found.is_empty() {
        bail!(
            "find libraries below {}: there are none; remove that folder and try again",
            root.display()
        );
    }
    Ok(found)
}

/// Returns the loader: a program of another release needs the one of that release.
fn loader(libraries: &[PathBuf]) -> Result<PathBuf> {
    let entries = libraries
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    let found = entries.map(|entry| entry.path()).find(|path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        name.starts_with("ld-linux-") && name.contains(".so.")
    });
    found.context("find the loader of the engine's libraries")
}

fn search_path(root: &Path, libraries: &[PathBuf]) -> std::ffi::OsString {
    let mut folders: Vec<String> = libraries.iter().map(|folder| folder.display().to_string()).collect();
    folders.push(root.join("usr/lib").display().to_string());
    folders.join(":").into()
}
