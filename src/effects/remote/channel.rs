//! Runs one command; its input and outputs move together, so that none stalls. Blocking.

use super::target::Output;
use crate::model::clock::Instant;
use crate::model::error::{Doing, Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ssh2::{BlockDirections, ErrorCode};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// A command that prints more than this is an error.
const MAX_OUTPUT: usize = 64 << 20;

/// A logged-in session and the socket under it.
pub struct Connection {
    pub session: ssh2::Session,
    pub socket: TcpStream,
    /// True if a command left the session in an unknown state.
    pub broken: bool,
    /// Commands that stay open for further lines; see [`super::conversation`].
    pub conversations: HashMap<String, ssh2::Channel>,
}

impl Connection {
    /// Refuses a session in an unknown state, and sets it to calls that do not block.
    pub fn ready(&mut self) -> Result<()> {
        if self.broken {
            return Err(Error::failed("use the ssh session: an earlier command broke it").hint("run the command again"));
        }
        self.session.set_blocking(false);
        Ok(())
    }
}

/// Bytes of input that are read at once.
const INPUT: usize = 256 << 10;

/// Runs `command` with what `stdin` reads. Calls `on_line` with each line of standard output at once.
pub fn run(
    connection: &mut Connection,
    command: &str,
    stdin: &mut dyn Read,
    deadline: Instant,
    on_line: &mut dyn FnMut(&str),
) -> Result<Output> {
    connection.ready()?;
    let result = exchange(connection, command, stdin, deadline, on_line);
    if result.is_err() {
        connection.broken = true;
    }
    result
}

fn exchange(
    connection: &Connection,
    command: &str,
    stdin: &mut dyn Read,
    deadline: Instant,
    on_line: &mut dyn FnMut(&str),
) -> Result<Output> {
    let mut channel = patiently(connection, deadline, || connection.session.channel_session())?;
    patiently(connection, deadline, || channel.exec(command))?;

    let mut output = Output::default();
    // It may be a secret.
    let mut input = Zeroizing::new(vec![0; INPUT]);
    let (mut unsent, mut read_all) = (0..0, false);
    let mut sent_all = false;
    let (mut reported, mut looked_at) = (0, 0);
    loop {
        in_time(deadline)?;
        let mut moved = false;
        if unsent.is_empty() && !read_all {
            let count = stdin.read(&mut input).doing(|| "read what it is to get".into())?;
            (unsent, read_all) = (0..count, count == 0);
        }
        if !unsent.is_empty() {
            match channel.write(&input[unsent.clone()]) {
                Ok(0) => {}
                Ok(count) => {
                    unsent.start += count;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // A command that ends without reading all of its input is judged by its status.
                Err(_) if channel.eof() => (unsent, read_all) = (0..0, true),
                Err(error) => return Err(error).doing(|| "send its input".into()),
            }
        } else if !sent_all {
            match channel.send_eof() {
                Ok(()) => (sent_all, moved) = (true, true),
                Err(error) if would_block(&error) => {}
                Err(_) if channel.eof() => sent_all = true,
                Err(error) => return Err(error).doing(|| "end its input".into()),
            }
        }
        moved |= drain(&mut channel.stream(0), &mut output.stdout)?;
        moved |= drain(&mut channel.stderr(), &mut output.stderr)?;
        report_lines(&output.stdout, &mut reported, &mut looked_at, on_line);
        if channel.eof() {
            break;
        }
        // Reading one output may have received data of the other, without a new network event.
        if !moved && channel.read_window().available == 0 {
            wait_for_socket(connection, deadline)?;
        }
    }
    patiently(connection, deadline, || channel.close())?;
    patiently(connection, deadline, || channel.wait_close())?;
    output.status = channel.exit_status().doing(|| "read its exit status".into())?;
    output.signal = channel.exit_signal().doing(|| "read its end".into())?.exit_signal;
    Ok(output)
}

/// `looked_at` is the end of the searched part, so that a growing line is not searched again.
fn report_lines(stdout: &[u8], reported: &mut usize, looked_at: &mut usize, on_line: &mut dyn FnMut(&str)) {
    while let Some(at) = stdout[*looked_at..].iter().position(|byte| *byte == b'\n') {
        let end = *looked_at + at;
        on_line(&String::from_utf8_lossy(&stdout[*reported..end]));
        (*reported, *looked_at) = (end + 1, end + 1);
    }
    *looked_at = stdout.len();
}

pub fn drain(stream: &mut ssh2::Stream, into: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0u8; 32 * 1024];
    let mut moved = false;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(moved),
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                moved = true;
                if into.len() > MAX_OUTPUT {
                    return Err(Error::failed(format!("read its output: more than {MAX_OUTPUT} bytes")));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(moved),
            Err(error) => return Err(error).doing(|| "read its output".into()),
        }
    }
}

/// Repeats a call of libssh2 until it no longer waits for the network.
pub fn patiently<T>(
    connection: &Connection,
    deadline: Instant,
    mut call: impl FnMut() -> Result<T, ssh2::Error>,
) -> Result<T> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(error) if would_block(&error) => wait_for_socket(connection, deadline)?,
            Err(error) => return Err(error).doing(|| "speak ssh".into()),
        }
    }
}

pub fn would_block(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(libssh2_sys::LIBSSH2_ERROR_EAGAIN)
}

pub fn in_time(deadline: Instant) -> Result<()> {
    if deadline.has_passed() {
        return Err(Error::failed("wait for its end: the time given to it is over")
            .hint("see on the host what it is busy with, or allow more time with --timeout"));
    }
    Ok(())
}

pub fn wait_for_socket(connection: &Connection, deadline: Instant) -> Result<()> {
    in_time(deadline)?;
    let wanted = match connection.session.block_directions() {
        BlockDirections::Outbound => PollFlags::POLLOUT,
        BlockDirections::Both => PollFlags::POLLIN | PollFlags::POLLOUT,
        BlockDirections::Inbound | BlockDirections::None => PollFlags::POLLIN,
    };
    // Waking twice a second sends keepalives, so that TCP notices a lost peer before the deadline.
    let patience = deadline.remaining().as_millis().clamp(1, 500) as u16;
    let mut sockets = [PollFd::new(connection.socket.as_fd(), wanted)];
    match poll(&mut sockets, PollTimeout::from(patience)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error).doing(|| "wait for the network".into()),
    }
    match connection.session.keepalive_send() {
        Ok(_) => Ok(()),
        Err(error) if would_block(&error) => Ok(()),
        Err(error) => Err(error).doing(|| "keep the ssh session alive".into()),
    }
}
