//! The first commands on a bare stream, each with a reply of one line. Afterwards the stream is
//! used for something else than commands.

use super::server::Server;
use super::stream::Stream;
use crate::model::error::{Doing, Error, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::bounds::LONGEST_ANSWER_LINE;
use wire::resp::encode;

/// Time limit of one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Bare {
    /// The purpose of the conversation, as errors say it.
    doing: String,
    stream: Stream,
}

impl Bare {
    /// Dials, and logs in where the server has a password.
    pub async fn open(server: &Server, doing: String) -> Result<Bare> {
        let mut bare = Bare {
            doing,
            stream: server.dial().await?,
        };
        if let Some(password) = &server.password {
            let user = server.login_user().map(str::as_bytes);
            let words: Vec<&[u8]> = std::iter::once(&b"AUTH"[..])
                .chain(user)
                .chain([password.expose().as_bytes()])
                .collect();
            bare.expect_ok("AUTH", &words, "user name and password do not fit")
                .await?;
        }
        Ok(bare)
    }

    /// Over a stream that is open already.
    #[cfg(test)]
    pub fn over(stream: Stream, doing: String) -> Bare {
        Bare { doing, stream }
    }

    /// The stream, of which nothing after the last answer's line was read.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    pub async fn expect_ok(&mut self, command: &str, words: &[&[u8]], hint: &str) -> Result<()> {
        match self.ask(command, words).await? {
            answer if answer == "+OK" => Ok(()),
            answer => Err(self.refused(command, &answer, hint)),
        }
    }

    /// An error for an answer that is not the wanted one.
    pub fn refused(&self, command: &str, answer: &str, hint: &str) -> Error {
        Error::unproven(format!("{}: {command} was answered {answer:?}", self.doing)).hint(hint)
    }

    /// Sends a command and gives the line that answers it. Nothing after that line is read.
    pub async fn ask(&mut self, command: &str, words: &[&[u8]]) -> Result<String> {
        let mut bytes = Vec::new();
        encode(&mut bytes, words);
        let asking = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await?;
            line(&mut self.stream).await
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, asking).await {
            Ok(answer) => answer.doing(|| format!("{}: {command}", self.doing)),
            Err(_) => Err(Error::failed(format!(
                "{}: {command}: no answer within {} s",
                self.doing,
                ANSWER_TIMEOUT.as_secs()
            ))),
        }
    }
}

/// A bare stream on which the login is done, for a program that is led through us.
pub async fn logged_in(server: &Server) -> Result<Stream> {
    let bare = Bare::open(server, format!("log in to {server}")).await?;
    Ok(bare.into_stream())
}

async fn line(stream: &mut Stream) -> std::io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            // Before its answer a busy server sends blank lines, so that we do not give up.
            b'\n' if line.iter().all(|byte| *byte == b'\r') => line.clear(),
            b'\n' => break,
            _ if line.len() == LONGEST_ANSWER_LINE => return Err(std::io::Error::other("the answer has no end")),
            byte => line.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
