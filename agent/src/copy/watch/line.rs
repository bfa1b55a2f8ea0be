//! The connection on which the source sends every request, and the thread that reads it.

use super::marks::Marks;
use crate::copy::login::{CLIENT_NAME, Login};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::monitor::Decoder;
use wire::resp;

const BUFFER: usize = 256 << 10;
/// A barrier comes twice a second, so a longer silence is a lost link.
const SILENCE: Duration = Duration::from_secs(3);
/// Answers before the first request are short.
const LONGEST_ANSWER: usize = 4096;

/// The marks, and a bell that rings when a barrier was read or the line ended.
#[derive(Default)]
pub struct Shared {
    marks: Mutex<Marks>,
    pub bell: Condvar,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open MONITOR. It is closed when this is dropped.
pub struct Line(TcpStream);

impl Line {
    /// Logs in and asks for MONITOR.
    pub fn open(mut stream: TcpStream, login: &Login) -> Result<Line> {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut asked = Vec::new();
        if let Some(password) = &login.password {
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(login.user.as_ref().map(String::as_bytes));
            words.push(password.as_bytes());
            resp::encode(&mut asked, &words);
        }
        resp::encode(&mut asked, &[b"CLIENT", b"SETNAME", CLIENT_NAME.as_bytes()]);
        resp::encode(&mut asked, &[b"MONITOR"]);
        stream.write_all(&asked).context("ask for MONITOR")?;
        if login.password.is_some() {
            accepted(&mut stream, "log in for MONITOR")?;
        }
        // Where a name is refused there is none.
        answer(&mut stream)?;
        accepted(&mut stream, "open MONITOR")?;
        Ok(Line(stream))
    }

    /// Reads on a thread until the line ends, and ends the watch then.
    pub fn read(&self, shared: &Arc<Shared>, id: &str) -> Result<()> {
        let (mut stream, shared, id) = (self.0.try_clone()?, shared.clone(), id.to_owned());
        let reading = move || {
            let why = match read(&mut stream, &shared, &id) {
                Ok(()) => "the source closed MONITOR".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            let mut marks = shared.lock();
            if marks.id() == id {
                marks.close(&why);
            }
            drop(marks);
            shared.bell.notify_all();
        };
        std::thread::Builder::new()
            .name("monitor".into())
            .spawn(reading)
            .context("start the thread for MONITOR")?;
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The server frees what it holds for this connection.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn read(stream: &mut TcpStream, shared: &Shared, id: &str) -> Result<()> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = stream.read(&mut buffer).context("read MONITOR")?;
        if length == 0 {
            return Ok(());
        }
        let mut marks = shared.lock();
        if marks.id() != id {
            return Ok(());
        }
        marks.bytes += length as u64;
        let mut rings = false;
        let fed = decoder.feed(&buffer[..length], |request| {
            rings |= marks.take(&request)?;
            Ok(())
        });
        drop(marks);
        if rings {
            shared.bell.notify_all();
        }
        // The error never holds what a request carried.
        fed.map_err(anyhow::Error::msg).context("understand MONITOR")?;
    }
}

fn accepted(stream: &mut TcpStream, doing: &'static str) -> Result<()> {
    let line = answer(stream).context(doing)?;
    if let Some(error) = line.strip_prefix('-') {
        bail!("{doing}: {error}");
    }
    Ok(())
}

/// Reads a line byte by byte: what follows it belongs to the decoder.
fn answer(stream: &mut TcpStream) -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        if stream.read(&mut byte)? == 0 {
            bail!("the source closed the connection");
        }
        line.push(byte[0]);
        if line.len() > LONGEST_ANSWER {
            bail!("the answer is none of Redis");
        }
    }
    Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
}
