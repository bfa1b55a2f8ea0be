//! Replaces files whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes a file that is whole or not there, also after a power cut.
pub fn replace(path: &Path, body: &[u8]) -> io::Result<()> {
    replace_by(path, |file| file.write_all(body))
}

/// As [`replace`], with what `write` puts into the file. A failed write leaves no part behind: on a
/// full disk it would take the room that the next attempt needs.
pub fn replace_by<E: From<io::Error>>(path: &Path, write: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = || {
        let mut file = File::create(&new)?;
        write(&mut file)?;
        file.sync_all()?;
        Ok(fs::rename(&new, path)?)
    };
    written().inspect_err(|_: &E| {
        let _ = fs::remove_file(&new);
    })?;
    match path.parent() {
        Some(folder) => Ok(File::open(folder)?.sync_all()?),
        None => Ok(()),
    }
}
