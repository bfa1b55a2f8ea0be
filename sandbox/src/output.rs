//! Writes to stdout. A reader that ends early, as `head` does, is no failure.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// Writes a line. Succeeds too if the reader has gone.
pub fn line(text: &str) -> Result<()> {
    write_line(&mut io::stdout().lock(), text)
}

/// Writes a report as JSON into a file.
pub fn report(path: &Path, report: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(report).context("write the report as JSON")?;
    std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}

fn write_line(output: &mut impl Write, text: &str) -> Result<()> {
    let written = writeln!(output, "{text}").and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write to stdout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        write_line(&mut writer, "nobody reads this").unwrap();
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(write_line(&mut full, "no room for this").is_err());
    }
}
