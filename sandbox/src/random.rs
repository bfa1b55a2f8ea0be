//! Random names and keys, from the kernel.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};

/// Returns `bytes` random bytes as lower-case hexadecimal digits.
pub fn hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut buffer))
        .context("read /dev/urandom")?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}
