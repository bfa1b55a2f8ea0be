//! Files that people and this program write, read up to a bound: what is larger is not one of them, and a device or a pipe may have no end.

use std::io::{self, Read};
use std::path::Path;

/// The file's text, if it has no more than `most` bytes.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    // One more than allowed tells that there is more.
    std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than the {most} bytes that it may have"),
        ));
    }
    Ok(text)
}
