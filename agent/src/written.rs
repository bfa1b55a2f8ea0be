//! Writes and digests a file in a thread of its own, so that unpacking a base need not wait for it.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// How many blocks go back and forth.
const BLOCKS: usize = 4;

/// Dropped early, it waits until the thread has ended.
pub struct Written {
    blocks: Option<SyncSender<Vec<u8>>>,
    back: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<io::Result<String>>>,
}

impl Written {
    pub fn to(file: File) -> Self {
        let (blocks, filled) = sync_channel(BLOCKS);
        let (emptied, back) = channel();
        for _ in 0..BLOCKS {
            let _ = emptied.send(Vec::new());
        }
        Written {
            blocks: Some(blocks),
            back,
            thread: Some(std::thread::spawn(move || write(file, &filled, &emptied))),
        }
    }

    /// Writes bytes. An error may come from an earlier call.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Ok(mut block) = self.back.recv() {
            block.clear();
            block.extend_from_slice(bytes);
            if self.blocks.as_ref().is_some_and(|blocks| blocks.send(block).is_ok()) {
                return Ok(());
            }
        }
        self.join().and(Err(io::Error::other("writing has ended")))
    }

    /// Returns the SHA-256 of everything, once it is on the disk.
    pub fn end(mut self) -> io::Result<String> {
        self.join()
    }

    fn join(&mut self) -> io::Result<String> {
        self.blocks = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            _ => Err(io::Error::other("writing ended badly")),
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn write(mut file: File, blocks: &Receiver<Vec<u8>>, emptied: &Sender<Vec<u8>>) -> io::Result<String> {
    let mut sum = Sha256::new();
    for block in blocks {
        sum.update(&block);
        file.write_all(&block)?;
        let _ = emptied.send(block);
    }
    file.sync_all()?;
    Ok(hex::encode(sum.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;

    #[test]
    fn everything_is_written_and_digested() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
        let mut written = Written::to(File::create(&path).unwrap());
        for some in bytes.chunks(77_777) {
            written.add(some).unwrap();
        }
        assert_eq!(written.end().unwrap(), digest::of(&bytes));
        assert!(std::fs::read(&path).unwrap() == bytes);
    }

    #[test]
    fn a_full_disk_is_reported() {
        let mut written = Written::to(File::options().write(true).open("/dev/full").unwrap());
        let refused = (0..100).find_map(|_| written.add(&[0; 1000]).err());
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::StorageFull);
        assert!(written.end().is_err());
    }
}
