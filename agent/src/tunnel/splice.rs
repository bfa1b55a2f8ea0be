//! Carries bytes both ways between a local client and the source.
//!
//! One thread, two sockets that never block, and one buffer for each direction. A side is read
//! only while the buffer that takes its bytes is empty, so a slow reader slows the writer, and
//! the memory of a connection never grows.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Bytes that may wait in each direction, beside those within TLS (64 KiB at most).
const BUFFER: usize = 64 << 10;
/// How long the rest of a connection may be silent after one side has closed its half.
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The local client closed it first.
    ByClient,
    /// The source closed it first.
    BySource,
}

/// An error with the side that it came from.
#[derive(Debug)]
pub struct Broken {
    pub at_source: bool,
    pub error: io::Error,
}

/// Bytes that were read from one side and not yet written to the other.
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Buffer {
            bytes: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads once into the empty buffer; returns the number of bytes.
    fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        (self.start, self.end) = (0, 0);
        self.end = from.read(&mut self.bytes)?;
        Ok(self.end)
    }

    /// Writes until it is empty or the other side takes no more.
    fn drain(&mut self, into: &mut impl Write) -> io::Result<()> {
        while let Some(waiting) = self.bytes.get(self.start..self.end).filter(|bytes| !bytes.is_empty()) {
            match into.write(waiting)? {
                0 => return Ok(()),
                written => self.start += written,
            }
        }
        Ok(())
    }
}

struct Splice<'a> {
    client: &'a TcpStream,
    source: &'a TcpStream,
    tls: ClientConnection,
    to_client: Buffer,
    to_source: Buffer,
    /// The client may still send.
    client_sends: bool,
    /// The source may still send.
    source_sends: bool,
    /// The source's TCP connection has reached its end, maybe with bytes left within TLS.
    source_at_end: bool,
    /// How far the end of the client's bytes was passed on.
    to_source_ends: Ending,
    /// The end of the source's bytes was passed on.
    to_client_ended: bool,
}

#[derive(PartialEq)]
enum Ending {
    NotYet,
    /// TLS has it, and maybe not the socket.
    WithinTls,
    Passed,
}

/// Carries bytes until both sides have closed, one of them breaks, or a half-closed one is silent.
pub fn splice(client: &TcpStream, source: &TcpStream, tls: ClientConnection) -> Result<End, Broken> {
    for (stream, at_source) in [(client, false), (source, true)] {
        stream
            .set_nonblocking(true)
            .map_err(|error| Broken { at_source, error })?;
    }
    let mut splice = Splice {
        client,
        source,
        tls,
        to_client: Buffer::new(),
        to_source: Buffer::new(),
        client_sends: true,
        source_sends: true,
        source_at_end: false,
        to_source_ends: Ending::NotYet,
        to_client_ended: false,
    };
    splice.run()
}

impl Splice<'_> {
    fn run(&mut self) -> Result<End, Broken> {
        let mut ended = None;
        let mut since = Instant::now();
        loop {
            let moved = match self.carry() {
                // The source answers to the client's end by leaving, not always politely.
                Err(broken) if broken.at_source && !self.client_sends => return Ok(End::ByClient),
                carried => carried?,
            };
            match (self.client_sends, self.source_sends) {
                (true, true) => {}
                (false, false) if self.to_source_ends == Ending::Passed && self.to_client_ended => {
                    return Ok(ended.unwrap_or(End::ByClient));
                }
                (client_sends, _) => {
                    let first = if client_sends { End::BySource } else { End::ByClient };
                    if moved || ended.is_none() {
                        since = Instant::now();
                    }
                    if let Some(end) = ended.take_if(|_| since.elapsed() >= HALF_CLOSED) {
                        return Ok(end);
                    }
                    ended.get_or_insert(first);
                }
            }
            let limit = ended.as_ref().map(|_| HALF_CLOSED.saturating_sub(since.elapsed()));
            self.wait(limit)?;
        }
    }

    /// Moves what can be moved without waiting. Returns true if anything was.
    fn carry(&mut self) -> Result<bool, Broken> {
        let mut moved = false;
        loop {
            let now = self.carry_down()? | self.carry_up()?;
            if !now {
                return Ok(moved);
            }
            moved = true;
        }
    }

    fn carry_down(&mut self) -> Result<bool, Broken> {
        let mut moved = false;
        if self.to_client.is_empty() && self.source_sends {
            self.read_tls().map_err(at_source)?;
            match quiet(self.to_client.fill(&mut self.tls.reader())).map_err(at_source)? {
                // TLS itself says that this is all.
                Some(0) => (self.source_sends, moved) = (false, true),
                Some(_) => moved = true,
                None if self.source_at_end => return Err(at_source(io::ErrorKind::UnexpectedEof.into())),
                None => {}
            }
        }
        let before = self.to_client.start;
        quiet(self.to_client.drain(&mut &*self.client)).map_err(at_client)?;
        moved |= before != self.to_client.start;
        if !self.source_sends && self.to_client.is_empty() && !self.to_client_ended {
            let _ = self.client.shutdown(Shutdown::Write);
            self.to_client_ended = true;
        }
        Ok(moved)
    }

    /// Reads until there are decrypted bytes or nothing more has come.
    fn read_tls(&mut self) -> io::Result<()> {
        while self.tls.wants_read() && !self.source_at_end {
            match quiet(self.tls.read_tls(&mut &*self.source))? {
                None => break,
                Some(0) => self.source_at_end = true,
                Some(_) => {}
            }
            self.tls.process_new_packets().map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn carry_up(&mut self) -> Result<bool, Broken> {
        let mut moved = false;
        if self.to_source.is_empty() && self.client_sends {
            match quiet(self.to_source.fill(&mut &*self.client)).map_err(at_client)? {
                Some(0) => (self.client_sends, moved) = (false, true),
                Some(_) => moved = true,
                None => {}
            }
        }
        let before = self.to_source.start;
        // TLS takes 64 KiB at most that were not sent, and then no more.
        self.to_source.drain(&mut self.tls.writer()).map_err(at_source)?;
        moved |= before != self.to_source.start;
        if !self.client_sends && self.to_source.is_empty() && self.to_source_ends == Ending::NotYet {
            self.tls.send_close_notify();
            self.to_source_ends = Ending::WithinTls;
        }
        while self.tls.wants_write() {
            match quiet(self.tls.write_tls(&mut &*self.source)).map_err(at_source)? {
                Some(_) => moved = true,
                None => break,
            }
        }
        if self.to_source_ends == Ending::WithinTls && !self.tls.wants_write() {
            let _ = self.source.shutdown(Shutdown::Write);
            self.to_source_ends = Ending::Passed;
        }
        Ok(moved)
    }

    /// Waits until a side that matters can be read or written, or `limit` has passed.
    fn wait(&self, limit: Option<Duration>) -> Result<(), Broken> {
        let mut client = PollFlags::empty();
        client.set(PollFlags::POLLIN, self.client_sends && self.to_source.is_empty());
        client.set(PollFlags::POLLOUT, !self.to_client.is_empty());
        let mut source = PollFlags::empty();
        let reads = self.source_sends && !self.source_at_end && self.to_client.is_empty();
        source.set(PollFlags::POLLIN, reads && self.tls.wants_read());
        source.set(PollFlags::POLLOUT, self.tls.wants_write());
        // A side that waits for nothing is left out: its hang-up would end the wait at once, and again.
        let mut waited: Vec<PollFd> = [(self.client, client), (self.source, source)]
            .into_iter()
            .filter(|(_, flags)| !flags.is_empty())
            .map(|(stream, flags)| PollFd::new(stream.as_fd(), flags))
            .collect();
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut waited, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(at_client(errno.into())),
        }
    }
}

/// Turns "not now" into `None`.
fn quiet<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn at_source(error: io::Error) -> Broken {
    Broken { at_source: true, error }
}

fn at_client(error: io::Error) -> Broken {
    Broken {
        at_source: false,
        error,
    }
}
