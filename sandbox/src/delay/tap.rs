//! A TAP: a network interface whose frames a process reads and writes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use nix::libc;
use tokio::io::unix::AsyncFd;

use crate::network::in_namespace;

const DEVICE: &str = "/dev/net/tun";
/// The kernel's `struct ifreq`: a name of 16 bytes, then 24 bytes that begin with the flags here.
const REQUEST_LENGTH: usize = 40;
const NAME_LENGTH: usize = 16;

/// An interface that is gone when this is dropped.
pub struct Tap {
    file: AsyncFd<File>,
}

impl Tap {
    /// Makes an interface in this network namespace or in the one that `namespace` is the file of.
    pub async fn open(name: &str, namespace: Option<String>) -> Result<Self> {
        let making = || format!("make the interface {name}");
        let file = match namespace {
            None => device(name),
            Some(path) => {
                let name = name.to_owned();
                in_namespace(path, move || device(&name)).await
            }
        };
        let file = watched(file.with_context(making)?).with_context(making)?;
        Ok(Self { file })
    }

    /// Waits for a frame and returns its length.
    pub async fn read(&self, frame: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.file.readable().await?;
            if let Ok(done) = ready.try_io(|file| file.get_ref().read(frame)) {
                return done;
            }
        }
    }

    /// Sends a frame; one that the interface cannot take now is lost, as on a network.
    pub fn write(&self, frame: &[u8]) {
        if let Err(error) = self.file.get_ref().write(frame) {
            tracing::debug!("a frame of {} bytes was lost: {error}", frame.len());
        }
    }
}

#[expect(
    unsafe_code,
    reason = "there is no safe call by which the runtime watches a file of any kind"
)]
fn watched(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor, and nothing replaces or closes it while the `AsyncFd` has it.
    Ok(unsafe { AsyncFd::register(file) }?)
}

fn device(name: &str) -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(DEVICE).with_context(|| format!("open {DEVICE}"))?;
    attach(&file, name).with_context(|| format!("attach to {name}"))?;
    Ok(file)
}

#[expect(
    unsafe_code,
    reason = "the kernel makes a TAP by an ioctl, and there is no safe call for it"
)]
fn attach(file: &File, name: &str) -> io::Result<()> {
    let mut request = [0_u8; REQUEST_LENGTH];
    if name.len() >= NAME_LENGTH {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request[..name.len()].copy_from_slice(name.as_bytes());
    let [low, high, ..] = (libc::IFF_TAP | libc::IFF_NO_PI).to_le_bytes();
    request[NAME_LENGTH..NAME_LENGTH + 2].copy_from_slice(&u16::from_le_bytes([low, high]).to_ne_bytes());
    // SAFETY: the kernel reads and writes one `struct ifreq`, which `request` has room for.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
    nix::errno::Errno::result(done)?;
    Ok(())
}
