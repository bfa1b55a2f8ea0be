//! Random names and keys, from the kernel.

use anyhow::{Context, Result};

/// Returns `bytes` random bytes as lower-case hexadecimal digits.
pub fn hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).context("get random bytes from the kernel")?;
    Ok(hex::encode(buffer))
}
