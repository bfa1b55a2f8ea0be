//! Reads files up to a limit, since a wrong file may be large, and a pipe may be endless. Replaces
//! files whole or not at all.

use crate::model::error::{Doing, Result};
use std::io::{self, Read, Write};
use std::path::Path;
use tempfile::{NamedTempFile, TempDir};

/// Returns the file's text, if it has at most `most` bytes.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than allowed shows that there is more.
    std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than the {most} bytes that it may have"),
        ));
    }
    Ok(text)
}

/// Writes the text into a file that is whole or as before. An existing file keeps its permissions; a new
/// one is for its owner alone.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    if let Ok(there) = std::fs::metadata(path) {
        file.as_file().set_permissions(there.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Makes a folder for this user alone that is removed when the value is dropped.
pub fn temporary(purpose: &str) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix(&format!("infra-{purpose}-")).tempdir();
    made.doing(|| "make a temporary folder".into())
}
