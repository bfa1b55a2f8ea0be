//! Reads the objects of a plan from the bucket, several at once, in the order in which they are used.

use crate::download::{self, Unread, Wanted};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// The objects as they are read, one after the other.
pub(super) struct Objects<'a, R> {
    pub(super) read: R,
    pub(super) done: usize,
    pub(super) all: usize,
    pub(super) progress: &'a mut dyn FnMut(usize, usize),
}

impl<R: Iterator<Item = Result<Vec<u8>, Unread>>> Objects<'_, R> {
    pub(super) fn next(&mut self, name: &str) -> Result<Vec<u8>, Unread> {
        self.read.next().unwrap_or_else(|| Err(stopped(name)))
    }

    pub(super) fn written(&mut self) {
        self.done += 1;
        (self.progress)(self.done, self.all);
    }
}

fn stopped(name: &str) -> Unread {
    Unread::Unreachable {
        name: name.into(),
        why: "reading stopped".into(),
    }
}

/// Returns the objects in order. Reads several at once, and holds few in memory.
pub(super) fn in_order<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    wanted: &'scope [Wanted<'scope>],
    parallel: usize,
) -> impl Iterator<Item = Result<Vec<u8>, Unread>> + use<'scope> {
    let workers: Vec<Receiver<Result<Vec<u8>, Unread>>> = (0..parallel)
        .map(|first| {
            let (sender, receiver) = sync_channel(1);
            scope.spawn(move || {
                let unread = |why: &anyhow::Error| Unread::Unreachable {
                    name: "the bucket".into(),
                    why: why.to_string(),
                };
                let client = download::client(Duration::from_secs(300));
                for wanted in wanted.iter().skip(first).step_by(parallel) {
                    let object = match &client {
                        Ok(client) => download::object(client, wanted),
                        Err(error) => Err(unread(error)),
                    };
                    // The build ended early and takes no more objects.
                    if sender.send(object).is_err() {
                        return;
                    }
                }
            });
            receiver
        })
        .collect();
    (0..wanted.len()).filter_map(move |index| workers[index % parallel].recv().ok())
}
