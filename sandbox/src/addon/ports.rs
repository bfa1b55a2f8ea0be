//! Ports for servers on this computer. Each program that asks has a block of them for itself, so that no two programs
//! choose the same port at once.

use std::fs::File;
use std::net::{IpAddr, TcpListener};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::paths::Paths;

/// The kernel gives none of these ports to a connection that goes out.
const FIRST: u16 = 12_000;
const BLOCK: u16 = 1_000;
const BLOCKS: u16 = 20;

struct Block {
    first: u16,
    next: u16,
    /// Held until the program ends; `None` if it could not be.
    _held: Option<Flock<File>>,
}

impl Block {
    /// Takes a block that no other program has.
    fn take() -> Self {
        let begin = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
        let block = |number: u16, held| Block {
            first: FIRST + number * BLOCK,
            next: 0,
            _held: held,
        };
        (0..BLOCKS)
            .map(|step| (begin + step) % BLOCKS)
            .find_map(|number| Some(block(number, Some(hold(number)?))))
            .unwrap_or_else(|| block(begin, None))
    }

    fn next(&mut self) -> u16 {
        let port = self.first + self.next;
        self.next = (self.next + 1) % BLOCK;
        port
    }
}

/// Locks a block for this program; `None` if another one has it.
fn hold(number: u16) -> Option<Flock<File>> {
    let folder = Paths::from_environment().ok()?.cache().join("ports");
    std::fs::create_dir_all(&folder).ok()?;
    let file = File::create(folder.join(number.to_string())).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Returns a port that nobody listens on, and that no other program is given.
pub fn free_port(address: IpAddr) -> Result<u16> {
    static OURS: OnceLock<Mutex<Block>> = OnceLock::new();
    let ours = OURS.get_or_init(|| Mutex::new(Block::take()));
    let mut ours = ours.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..BLOCK {
        let port = ours.next();
        if TcpListener::bind((address, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("all of the {BLOCK} ports from {} on are taken on {address}", ours.first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_have_no_port_in_common() {
        let mut ports: Vec<u16> = Vec::new();
        for mut block in [Block::take(), Block::take(), Block::take()] {
            assert!(block._held.is_some());
            let mut of_this: Vec<u16> = (0..BLOCK).map(|_| block.next()).collect();
            assert!(of_this.iter().all(|port| (FIRST..32_000).contains(port)));
            ports.append(&mut of_this);
            // The test's three programs all go on.
            std::mem::forget(block);
        }
        let all = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), all);
    }
}
