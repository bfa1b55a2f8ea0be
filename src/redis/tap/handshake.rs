//! From a bare stream to a replication stream that continues at a known offset.

use super::super::info::Info;
use super::super::server::Server;
use super::super::stream::Stream;
use crate::error::{Doing, Error, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// For each answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The answers here are short.
const LONGEST_ANSWER: usize = 4096;

/// Asks the server to continue its stream after the offset in `info`; gives the stream and its replication id.
pub(super) async fn continued(server: &Server, info: &Info) -> Result<(Stream, String)> {
    // Without a backlog, or before its start, the server would answer with a copy of everything, and fork for it.
    let from = info.master_repl_offset + 1;
    if !info.backlog_active || from < info.backlog_first_byte_offset {
        return Err(
            Error::unproven(format!("tap the replication stream of {server}: it keeps no backlog"))
                .hint("a server keeps one once a replica follows it: run `infra up` first"),
        );
    }
    let mut greeting = Greeting {
        place: server.to_string(),
        stream: server.dial().await?,
    };
    if let Some(password) = &server.password {
        let user = server.user.as_deref().map(str::as_bytes);
        let words: Vec<&[u8]> = [b"AUTH"]
            .into_iter()
            .map(|word| &word[..])
            .chain(user)
            .chain([password.expose().as_bytes()])
            .collect();
        greeting
            .expect_ok("AUTH", &words, "user name and password do not fit")
            .await?;
    }
    let forbidden = "the server's access rules must allow PSYNC and REPLCONF to our user";
    greeting
        .expect_ok("REPLCONF", &[b"REPLCONF", b"capa", b"psync2"], forbidden)
        .await?;
    let answer = greeting
        .ask(
            "PSYNC",
            &[b"PSYNC", info.replid.as_bytes(), from.to_string().as_bytes()],
        )
        .await?;
    match answer.strip_prefix("+CONTINUE") {
        Some(replid) => {
            let replid = Some(replid.trim())
                .filter(|replid| !replid.is_empty())
                .unwrap_or(&info.replid);
            Ok((greeting.stream, replid.to_owned()))
        }
        None if answer.starts_with("+FULLRESYNC") => {
            let message = format!(
                "tap the replication stream of {server}: it no longer has offset {from} of {}",
                info.replid
            );
            Err(Error::unproven(message)
                .hint("it was restarted, or its backlog is too small for its writes: try again"))
        }
        None => Err(refused(&greeting.place, "PSYNC", &answer, forbidden)),
    }
}

fn refused(place: &str, command: &str, answer: &str, hint: &str) -> Error {
    Error::unproven(format!(
        "tap the replication stream of {place}: {command} was answered {answer:?}"
    ))
    .hint(hint)
}

struct Greeting {
    place: String,
    stream: Stream,
}

impl Greeting {
    async fn expect_ok(&mut self, command: &str, words: &[&[u8]], hint: &str) -> Result<()> {
        let answer = self.ask(command, words).await?;
        if answer == "+OK" {
            Ok(())
        } else {
            Err(refused(&self.place, command, &answer, hint))
        }
    }

    /// Sends a command and gives the line that answers it. Nothing after that line is read.
    async fn ask(&mut self, command: &str, words: &[&[u8]]) -> Result<String> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        let doing = format!("tap the replication stream of {}: {command}", self.place);
        let asking = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await?;
            self.line().await
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, asking).await {
            Ok(answer) => answer.doing(|| doing),
            Err(_) => Err(Error::failed(format!(
                "{doing}: no answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        loop {
            match self.stream.read_u8().await? {
                // Before its answer a busy server sends blank lines, so that we do not give up.
                b'\n' if line.iter().all(|byte| *byte == b'\r') => line.clear(),
                b'\n' => break,
                _ if line.len() == LONGEST_ANSWER => return Err(std::io::Error::other("the answer has no end")),
                byte => line.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}
