//! Reads files up to a limit, since a wrong file may be large, and a pipe may be endless. Replaces
//! files whole or not at all.

use std::io::{self, Read};
use std::path::Path;

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
