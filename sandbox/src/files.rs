//! Writes and removes files and folders so that nothing is left half done.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::mounts;

/// Writes a file of mode 0600 so that no reader ever sees half of it.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&unfinished, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Makes a folder of mode 0700, with those above it.
pub fn private_folder(folder: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("create {}", folder.display()))
}

/// Opens a log twice, for the output and the errors of a process. Only its owner may read it.
pub fn log(path: &Path) -> Result<(fs::File, fs::File)> {
    let open = || -> std::io::Result<_> {
        let log = fs::File::options().create(true).append(true).mode(0o600).open(path)?;
        Ok((log.try_clone()?, log))
    };
    open().with_context(|| format!("open {}", path.display()))
}

/// Removes a folder with everything in it, unless something is mounted below; it may be absent.
pub fn remove_tree(folder: &Path) -> Result<()> {
    let mounted = mounts::below(folder);
    if let Some(mount) = mounted.first() {
        bail!("remove {}: {} is still mounted", folder.display(), mount.display());
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
