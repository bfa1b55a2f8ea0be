//! A file that is written and summed in a thread of its own: unpacking a base takes about as long as both together, and need not wait for them.

use crate::digest;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Blocks that go back and forth.
const BLOCKS: usize = 4;

/// Dropped before its end it waits until nothing is written any more.
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

    /// Writes on. An error may be that of bytes that were given before.
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

    /// The SHA-256 of all that was given, once it is on the disk.
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
    Ok(digest::hex(&sum.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_there_with_its_sum() {
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
    fn a_disk_that_refuses_is_told() {
        // It is full at once.
        let mut written = Written::to(File::options().write(true).open("/dev/full").unwrap());
        let refused = (0..100).find_map(|_| written.add(&[0; 1000]).err());
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::StorageFull);
        assert!(written.end().is_err());
    }
}
