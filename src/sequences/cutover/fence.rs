//! The fence: nothing can write to the source.
//!
//! By **pause**: the source holds writes back for a short time that is renewed, so the pause ends
//! if we die. A renewal also asks whether the source is still the same process: one that restarted
//! has forgotten the pause. Lifting is explicit; dropping a fence only stops renewing it.
//!
//! By **platform**, if the source cannot be paused: the app is stopped, its vars name the endpoint,
//! and a connected client that may write breaks the fence. Stopping and starting are other steps.

use super::clients;
use crate::effects::redis::clients::Baseline;
use crate::effects::redis::{Connection, Server, control};
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::model::phase::FenceKind;
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use wire::info::{Info, ServerRole};

/// How long one pause lasts.
const TERM: Duration = Duration::from_secs(3);
const RENEWAL: Duration = Duration::from_millis(500);
/// The time that a pause must have left at a point of no return.
const RESERVE: Duration = Duration::from_millis(1200);

pub struct Fence {
    connection: Connection,
    keeping: Keeping,
    /// The source's INFO right after the first pause, or when nobody was left.
    pub captured: Info,
    pub raised: Instant,
    pub raised_at: Timestamp,
}

enum Keeping {
    Pause {
        shared: Arc<Mutex<Hold>>,
        renewing: JoinHandle<()>,
    },
    /// The clients that may stay connected.
    Platform(Baseline),
}

/// A pause as it was last sent, and until when it holds.
#[derive(Clone, Debug)]
struct Hold {
    /// The earliest end of the pause, counted from before it was asked for.
    until: Instant,
    broken: Option<String>,
    run_id: String,
    replid: String,
    /// The source's replication offset at the last request.
    offset: u64,
}

impl Fence {
    /// Pauses the source's writes and captures its offset, in one round trip. `open` is an existing
    /// connection: dialling would give the app time to write more that the fence has to compare.
    pub async fn raise(source: &Server, open: Option<Connection>) -> Result<Fence> {
        let mut connection = match open {
            Some(connection) => connection,
            None => source.connect(0).await?,
        };
        connection.answer_within(Duration::from_secs(2));
        let raised = Instant::now();
        let raised_at = Timestamp::now();
        let captured = control::pause_writes_and_read(&mut connection, TERM).await?;
        if captured.role != ServerRole::Master {
            // The pause ends by itself; ending it here could end that of an earlier run too.
            return Err(not_a_master(&connection));
        }
        let shared = Arc::new(Mutex::new(Hold {
            until: raised.after(TERM),
            broken: None,
            run_id: captured.run_id.clone(),
            replid: captured.replid.clone(),
            offset: captured.master_repl_offset,
        }));
        let renewing = tokio::spawn(renew(source.clone(), connection.clone(), shared.clone()));
        Ok(Fence {
            connection,
            keeping: Keeping::Pause { shared, renewing },
            captured,
            raised,
            raised_at,
        })
    }

    /// Captures the source's offset while the app is stopped. `stopped` is when stopping began.
    pub async fn of_stopped_app(
        mut connection: Connection,
        clients: Baseline,
        stopped: (Instant, Timestamp),
    ) -> Result<Fence> {
        connection.answer_within(Duration::from_secs(5));
        let captured = connection.info().await?;
        if captured.role != ServerRole::Master {
            return Err(not_a_master(&connection));
        }
        let fence = Fence {
            connection,
            keeping: Keeping::Platform(clients),
            captured,
            raised: stopped.0,
            raised_at: stopped.1,
        };
        fence.check().await?;
        Ok(fence)
    }

    pub fn kind(&self) -> FenceKind {
        match self.keeping {
            Keeping::Pause { .. } => FenceKind::Pause,
            Keeping::Platform(_) => FenceKind::Platform,
        }
    }

    /// Renews a pause and returns the source's INFO. Fails if the fence fell or the source changed.
    pub async fn check(&self) -> Result<Info> {
        let mut connection = self.connection.clone();
        match &self.keeping {
            Keeping::Pause { shared, .. } => {
                let info = renew_once(&mut connection, shared, TERM).await?;
                self.holds()?;
                Ok(info)
            }
            Keeping::Platform(baseline) => {
                let info = connection.info().await?;
                if let Some(changed) = changed(&info, &self.captured.run_id, &self.captured.replid) {
                    return Err(unfenced(&self.connection, changed));
                }
                match clients::left(&mut connection, baseline).await? {
                    None => Ok(info),
                    Some(left) => Err(unfenced(
                        &self.connection,
                        &format!("the app is stopped, and there is {left}"),
                    )),
                }
            }
        }
    }

    /// Returns the source's offset at the last request; a pause is renewed all the time.
    pub async fn latest_offset(&self) -> Result<u64> {
        match &self.keeping {
            Keeping::Pause { shared, .. } => Ok(read(shared).offset),
            Keeping::Platform(_) => Ok(self.connection.clone().info().await?.master_repl_offset),
        }
    }

    /// Returns the source's INFO of this moment. The fence itself is not looked at.
    pub async fn source_now(&self) -> Result<Info> {
        self.connection.clone().info().await
    }

    /// Fails if the fence is known to be broken. Asks nothing, for the moment after a check.
    pub fn holds(&self) -> Result<()> {
        let Keeping::Pause { shared, .. } = &self.keeping else {
            return Ok(());
        };
        let hold = read(shared);
        if let Some(broken) = hold.broken {
            return Err(unfenced(&self.connection, &broken));
        }
        if hold.until.remaining() < RESERVE {
            return Err(unfenced(&self.connection, "the pause could not be renewed in time"));
        }
        Ok(())
    }

    /// Sets the pause to this length from now on; it lasts even if we die. Does nothing for an app
    /// that is stopped.
    pub async fn extend(&self, duration: Duration) -> Result<()> {
        self.holds()?;
        let Keeping::Pause { shared, .. } = &self.keeping else {
            return Ok(());
        };
        renew_once(&mut self.connection.clone(), shared, duration.max(TERM)).await?;
        self.holds()
    }

    /// Ends a pause at once; the source then serves what waited.
    pub async fn lift(self) -> Result<()> {
        match &self.keeping {
            Keeping::Pause { renewing, .. } => {
                renewing.abort();
                control::unpause(&mut self.connection.clone()).await
            }
            Keeping::Platform(_) => Ok(()),
        }
    }

    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if let Keeping::Pause { renewing, .. } = &self.keeping {
            renewing.abort();
        }
    }
}

async fn renew(source: Server, mut connection: Connection, shared: Arc<Mutex<Hold>>) {
    // The interval counts from request to request, so that a distant source is asked as often.
    let mut due = tokio::time::interval_at(tokio::time::Instant::now() + RENEWAL, RENEWAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        if renew_once(&mut connection, &shared, TERM).await.is_ok() {
            continue;
        }
        // The fence is broken, and its users will see that. The source is paused again anyway:
        // the app may be moving already, and a paused source is safer than an open one.
        if let Ok(mut again) = source.connect(0).await {
            again.answer_within(Duration::from_secs(2));
            let duration = read(&shared).until.remaining().max(TERM);
            if control::pause_writes(&mut again, duration).await.is_ok() {
                change(&shared, |hold| {
                    hold.broken.get_or_insert(
                        "the connection to the source broke, and with it the certainty of its pause".into(),
                    );
                });
                connection = again;
            }
        }
    }
}

async fn renew_once(connection: &mut Connection, shared: &Mutex<Hold>, term: Duration) -> Result<Info> {
    let asked = Instant::now();
    let info = control::pause_writes_and_read(connection, term).await?;
    let before = read(shared);
    // If the old pause still runs when the reply is here, there was no moment without a pause.
    if before.until.has_passed() {
        change(shared, |hold| {
            hold.broken
                .get_or_insert("the pause ended before it was renewed".into());
        });
    }
    let changed = changed(&info, &before.run_id, &before.replid);
    change(shared, |hold| {
        hold.until = hold.until.max(asked.after(term));
        hold.offset = hold.offset.max(info.master_repl_offset);
        if let (None, Some(changed)) = (&hold.broken, changed) {
            hold.broken = Some(changed.into());
        }
    });
    Ok(info)
}

fn changed(info: &Info, run_id: &str, replid: &str) -> Option<&'static str> {
    match (info.run_id == run_id, info.replid == replid) {
        // A master that was demoted keeps its ids until it has copied its new master.
        (true, true) if info.role != ServerRole::Master => Some("the source follows another server since"),
        (true, true) => None,
        (false, _) => Some("the source was restarted since; a pause would be forgotten"),
        (true, false) => Some("the source has another replication id than when it was fenced"),
    }
}

fn not_a_master(connection: &Connection) -> Error {
    Error::unproven(format!(
        "fence {}: it follows another server, which takes the app's writes now or soon",
        connection.place()
    ))
    .hint("the provider may have failed over: wait until it is done, see that the app's URL still names its master, then run the same command again")
}

fn unfenced(connection: &Connection, why: &str) -> Error {
    Error::unproven(format!("keep {} from being written to: {why}", connection.place()))
        .hint("nothing was decided on it; run the same command again")
}

fn read(shared: &Mutex<Hold>) -> Hold {
    shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn change(shared: &Mutex<Hold>, change: impl FnOnce(&mut Hold)) {
    change(&mut shared.lock().unwrap_or_else(PoisonError::into_inner));
}

#[cfg(test)]
mod tests;
