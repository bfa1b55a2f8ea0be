//! Puts what waits in the spool, oldest first. Never gives up, and reports what it cannot put.

use crate::bucket::{Bucket, Refusal};
use crate::shared::Shared;
use crate::spool::Spool;
use infra_agent::name::{LOG, Segment};
use infra_agent::pauses::Pauses;
use infra_agent::record::Position;
use std::sync::Arc;
use std::time::Duration;

const LONGEST_PAUSE: Duration = Duration::from_secs(15);

pub fn run(bucket: &Bucket, spool: &Spool, shared: &Arc<Shared>, prefix: &str) {
    let fresh = || Pauses::doubling(Duration::from_millis(100), LONGEST_PAUSE);
    let mut pauses = fresh();
    loop {
        let Some(item) = spool.oldest(Duration::from_secs(3600)) else {
            continue;
        };
        let body = match spool.read(&item) {
            Ok(body) => body,
            Err(error) => {
                // The object was dropped meanwhile, or the disk is broken.
                if spool.oldest(Duration::ZERO).as_ref() == Some(&item) {
                    shared.trouble("shipping", Some(format!("{error:#}")));
                    std::thread::sleep(LONGEST_PAUSE);
                }
                continue;
            }
        };
        let key = format!("{prefix}/{LOG}/{}/{}", item.timeline, item.name);
        match bucket.put(&key, &body) {
            Ok(()) => {
                pauses = fresh();
                let removed = spool.remove(&item);
                shared.trouble("shipping", removed.err().map(|error| format!("{error:#}")));
                if let Ok(segment) = item.name.parse::<Segment>() {
                    shared.change(|state| {
                        state.shipped_until = state.shipped_until.max(segment.until);
                        state.shipped = Position {
                            increment: segment.increment,
                            offset: segment.to,
                        };
                    });
                }
            }
            Err(refusal) => {
                shared.trouble("shipping", Some(refusal.to_string()));
                // Only a person can end a final refusal, so there is no hurry.
                match refusal {
                    Refusal::Passing(_) => drop(pauses.again()),
                    Refusal::Final(_) => std::thread::sleep(LONGEST_PAUSE),
                }
            }
        }
    }
}
