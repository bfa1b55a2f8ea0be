//! The tunnel's state, in a small file that `infra status` reads.

use super::dial::{Failure, Source};
use crate::clock;
use infra_agent::record::{SCHEMA_VERSION, Trouble, TunnelStatus};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub struct Report {
    path: PathBuf,
    source: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the number of the connection: since when, and to which address.
    open: BTreeMap<u64, (i64, SocketAddr)>,
    opened: u64,
    trouble: Option<Trouble>,
}

impl Report {
    pub fn new(path: PathBuf, source: &Source) -> Self {
        Report {
            path,
            source: source.to_string(),
            state: Mutex::default(),
        }
    }

    /// Notes an open connection, and forgets the obstacle before it. Returns its number.
    pub fn opened(&self, address: SocketAddr) -> u64 {
        let number = self.change(|state| {
            if state.trouble.take().is_some() || state.opened == 0 {
                eprintln!("infra-agent: tunnel: connected to {address}");
            }
            state.opened += 1;
            state.open.insert(state.opened, (clock::now(), address));
            state.opened
        });
        self.write();
        number
    }

    /// Notes the end of a connection, and why if it was not the client's own doing.
    pub fn closed(&self, number: u64, failure: Option<Failure>) {
        self.change(|state| state.open.remove(&number));
        match failure {
            Some(failure) => self.failed(failure),
            None => self.write(),
        }
    }

    /// Notes the obstacle. It is logged once, and not at every attempt.
    pub fn failed(&self, failure: Failure) {
        let Failure { obstacle, why } = failure;
        self.change(|state| {
            let is_new = state.trouble.as_ref().is_none_or(|trouble| trouble.why != why);
            if is_new {
                eprintln!("infra-agent: tunnel: {why}");
            }
            let since = state.trouble.take().filter(|_| !is_new);
            state.trouble = Some(Trouble {
                since: since.map_or_else(clock::now, |trouble| trouble.since),
                obstacle,
                why,
            });
        });
        self.write();
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes the file by rename. It is not synced: a reboot ends every connection in it.
    pub fn write(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = state.open.values().next_back();
        let status = TunnelStatus {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").into(),
            at: clock::now(),
            source: self.source.clone(),
            connected_since: newest.map(|(since, _)| *since),
            address: newest.map(|(_, address)| address.to_string()),
            opened: state.opened,
            trouble: state.trouble.clone(),
        };
        if let Err(error) = write(&self.path, &status) {
            eprintln!("infra-agent: tunnel: cannot write {}: {error}", self.path.display());
        }
    }
}

fn write(path: &Path, status: &TunnelStatus) -> std::io::Result<()> {
    let new = path.with_extension("json.new");
    std::fs::write(&new, serde_json::to_vec(status)?)?;
    std::fs::rename(&new, path)
}
