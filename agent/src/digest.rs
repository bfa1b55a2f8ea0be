//! SHA-256 as the records write it.

use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// Returns the SHA-256 of some bytes in hexadecimal.
pub fn of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Returns the SHA-256 of the next `length` bytes; `UnexpectedEof` if the stream is shorter.
pub fn of_stream(stream: &mut impl Read, length: u64) -> io::Result<String> {
    let mut sum = Sha256::new();
    let mut block = vec![0; 64 << 10];
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        let read = stream.read(&mut block[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sum.update(&block[..read]);
        left -= read as u64;
    }
    Ok(hex::encode(sum.finalize()))
}
