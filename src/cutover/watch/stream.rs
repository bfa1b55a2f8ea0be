//! The bytes of a replication stream as commands, each with the offset at its end.

use super::command::{Argument, keys_are_scattered};
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Longer arguments are values, and only counted.
const LONGEST_KEY: u64 = 64 * 1024;
/// Arguments after this one are kept only where keys may be among them.
const FEW: u64 = 8;

#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// In upper case.
    pub name: String,
    pub arguments: Vec<Argument>,
    pub bytes: u64,
}

/// Reads one command. Never holds more of it than may be keys.
pub async fn next(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Command> {
    let mut bytes = 0;
    let mut header = line(stream).await?;
    // An empty line is a sign of life outside the stream.
    while header.is_empty() {
        header = line(stream).await?;
    }
    bytes += header.len() as u64 + 2;
    let count = number(&header, b'*')?;
    let mut command = Command {
        name: String::new(),
        arguments: Vec::new(),
        bytes: 0,
    };
    for at in 0..count {
        let header = line(stream).await?;
        let length = number(&header, b'$')?;
        bytes += header.len() as u64 + 2 + length + 2;
        let wanted = length <= LONGEST_KEY && (at <= FEW || keys_are_scattered(&command.name));
        let argument = match wanted {
            true => {
                let mut text = vec![0; length as usize];
                stream.read_exact(&mut text).await?;
                Some(text)
            }
            false => {
                skip(stream, length).await?;
                None
            }
        };
        skip(stream, 2).await?;
        match (at, argument) {
            (0, Some(name)) => command.name = String::from_utf8_lossy(&name).to_ascii_uppercase(),
            (0, None) => return Err(wrong("a command's name is too long")),
            (_, argument) => command.arguments.push(argument),
        }
    }
    command.bytes = bytes;
    Ok(command)
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let read = stream.take(512).read_until(b'\n', &mut line).await?;
    if read == 0 || line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn number(header: &[u8], kind: u8) -> io::Result<u64> {
    let digits = header
        .strip_prefix(&[kind])
        .and_then(|digits| std::str::from_utf8(digits).ok());
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| wrong("what comes is not a replication stream"))
}

async fn skip(stream: &mut (impl AsyncBufRead + Unpin), mut length: u64) -> io::Result<()> {
    while length > 0 {
        let there = stream.fill_buf().await?.len() as u64;
        if there == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = there.min(length);
        stream.consume(taken as usize);
        length -= taken;
    }
    Ok(())
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_and_their_bytes_are_read_and_long_values_are_not_kept() {
        let value = vec![b'x'; 100_000];
        let mut bytes = b"\n*1\r\n$4\r\nping\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n".to_vec();
        bytes.extend(&value);
        bytes.extend(b"\r\n");
        let mut stream = bytes.as_slice();
        let ping = next(&mut stream).await.unwrap();
        assert_eq!((ping.name.as_str(), ping.bytes), ("PING", 14));
        let set = next(&mut stream).await.unwrap();
        assert_eq!((set.name.as_str(), set.bytes), ("SET", bytes.len() as u64 - 15));
        assert_eq!(set.arguments, [Some(b"a".to_vec()), None]);
        assert!(next(&mut stream).await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_stream_is_an_error() {
        assert!(next(&mut b"-ERR no\r\n".as_slice()).await.is_err());
    }
}
