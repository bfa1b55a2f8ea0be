//! Splits a base's file into parts, and compresses the next part while one is uploaded.
//!
//! Two buffers go back and forth, so a base of any size takes the same few megabytes of memory.

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

/// A part ends when it has this many bytes compressed, or this many uncompressed.
const PART: usize = 6 << 20;
const PART_PLAIN: u64 = 64 << 20;
/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;
/// Room for a part and what the compressor still holds at its end, so a buffer never grows.
const ROOM: usize = PART + 4 * BLOCK;

/// A compressed part, and how many bytes it has uncompressed.
type Packed = (Vec<u8>, u64);

/// Calls `put` for each part with its uncompressed size. Returns the SHA-256 of the whole file.
pub fn each(file: &Path, mut put: impl FnMut(&[u8], u64) -> Result<()>) -> Result<String> {
    std::thread::scope(|scope| {
        let (sender, parts) = sync_channel(0);
        let (back, buffers) = channel();
        for _ in 0..2 {
            let _ = back.send(Vec::with_capacity(ROOM));
        }
        let compressing = scope.spawn(move || compress(file, &buffers, &sender));
        for (body, plain_bytes) in parts {
            put(&body, plain_bytes)?;
            // The compressing thread has ended if it takes no buffer back.
            let _ = back.send(body);
        }
        compressing
            .join()
            .map_err(|_| anyhow!("compressing the base ended badly"))?
    })
}

fn compress(file: &Path, buffers: &Receiver<Vec<u8>>, parts: &SyncSender<Packed>) -> Result<String> {
    let doing = || format!("read {}", file.display());
    let mut input = File::open(file).with_context(doing)?;
    let mut block = vec![0; BLOCK];
    let mut sum = Sha256::new();
    // If no buffer comes or nobody takes a part, the upload has failed and says why.
    while let Ok(mut buffer) = buffers.recv() {
        buffer.clear();
        let mut encoder = zstd::stream::write::Encoder::new(buffer, 1).context("compress a base")?;
        let mut plain = 0;
        while encoder.get_ref().len() < PART && plain < PART_PLAIN {
            let read = input.read(&mut block).with_context(doing)?;
            if read == 0 {
                break;
            }
            sum.update(&block[..read]);
            encoder.write_all(&block[..read]).context("compress a base")?;
            plain += read as u64;
        }
        if plain == 0 {
            break;
        }
        let body = encoder.finish().context("compress a base")?;
        if parts.send((body, plain)).is_err() {
            break;
        }
    }
    Ok(hex::encode(sum.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use infra_agent::digest;

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let byte = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..length).map(byte).collect()
    }

    #[test]
    fn the_parts_are_the_file_and_none_is_larger_than_a_buffer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        for length in [0, 1, PART, 3 * PART + 5] {
            let bytes = noise(length);
            std::fs::write(&path, &bytes).unwrap();
            let mut whole = Vec::new();
            let sum = each(&path, |body, plain| {
                assert!(body.len() <= ROOM && !body.is_empty(), "{}", body.len());
                let part = zstd::stream::decode_all(body)?;
                assert_eq!(part.len() as u64, plain);
                whole.extend(part);
                Ok(())
            });
            assert_eq!(sum.unwrap(), digest::of(&bytes));
            assert!(whole == bytes, "{length} bytes");
        }
    }

    #[test]
    fn a_failed_put_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        std::fs::write(&path, noise(4 * PART)).unwrap();
        let mut asked = 0;
        let ended = each(&path, |_, _| {
            asked += 1;
            bail!("no")
        });
        assert!(ended.is_err());
        assert_eq!(asked, 1);
    }
}
