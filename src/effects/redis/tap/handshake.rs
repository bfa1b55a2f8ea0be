//! Turns a bare stream into a replication stream that continues at a known offset.

use super::super::bare::Bare;
use super::super::server::Server;
use super::super::stream::Stream;
use crate::model::error::{Error, Result};
use std::sync::{Mutex, PoisonError};
use wire::info::Info;

const FORBIDDEN: &str = "the server's access rules must allow PSYNC and REPLCONF to our user";

/// A connection on which only the stream is left to be asked for. Never locked: the mutex alone makes it one that threads may share.
pub struct Dialled(Mutex<Bare>);

impl Dialled {
    /// Dials, logs in and says what we understand.
    pub async fn open(server: &Server) -> Result<Dialled> {
        let mut bare = Bare::open(server, doing(server)).await?;
        bare.expect_ok("REPLCONF", &[&b"REPLCONF"[..], b"capa", b"psync2"], FORBIDDEN)
            .await?;
        Ok(Dialled(Mutex::new(bare)))
    }
}

fn doing(server: &Server) -> String {
    format!("tap the replication stream of {server}")
}

/// Asks the server to continue its stream after the offset in `info`, over an open connection if there is one. Returns the stream and its replication id.
pub(super) async fn continued(server: &Server, info: &Info, open: Option<Dialled>) -> Result<(Stream, String)> {
    let doing = doing(server);
    // Without a backlog, or before its start, the server would answer with a copy of everything, and fork for it.
    let from = info.master_repl_offset + 1;
    if !info.backlog_active || from < info.backlog_first_byte_offset {
        return Err(Error::unproven(format!("{doing}: it keeps no backlog"))
            .hint("a server keeps one once a replica follows it: run `infra up` first"));
    }
    let Dialled(bare) = match open {
        Some(open) => open,
        None => Dialled::open(server).await?,
    };
    let mut bare = bare.into_inner().unwrap_or_else(PoisonError::into_inner);
    let answer = bare
        .ask(
            "PSYNC",
            &[&b"PSYNC"[..], info.replid.as_bytes(), from.to_string().as_bytes()],
        )
        .await?;
    match answer.strip_prefix("+CONTINUE") {
        Some(replid) => {
            let replid = Some(replid.trim())
                .filter(|replid| !replid.is_empty())
                .unwrap_or(&info.replid);
            Ok((bare.into_stream(), replid.to_owned()))
        }
        None if answer.starts_with("+FULLRESYNC") => Err(Error::unproven(format!(
            "{doing}: it no longer has offset {from} of {}",
            info.replid
        ))
        .hint("it was restarted, or its backlog is too small for its writes: try again")),
        None => Err(bare.refused("PSYNC", &answer, FORBIDDEN)),
    }
}
