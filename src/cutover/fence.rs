//! The fence: nothing can write to the source.
//!
//! It is a pause of writes, short and renewed, so that it ends by itself when we die. A renewal also asks whether the source is still the same process:
//! one that restarted has forgotten the pause. Lifting is explicit; dropping a fence only stops renewing it.

use crate::error::{Error, Result};
use crate::redis::{Connection, Info, Server, control};
use crate::wait::Instant;
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long one pause lasts.
const TERM: Duration = Duration::from_secs(3);
const RENEWAL: Duration = Duration::from_secs(1);
/// What a pause must have left at a point of no return.
const RESERVE: Duration = Duration::from_millis(1200);

pub struct Fence {
    connection: Connection,
    shared: Arc<Mutex<Hold>>,
    renewing: JoinHandle<()>,
    /// What the source said right after the first pause.
    pub captured: Info,
    pub raised: Instant,
    pub raised_at: Timestamp,
}

/// What is known of the pause.
#[derive(Clone, Debug)]
struct Hold {
    /// Until when it lasts at least, counted from before it was asked for.
    until: Instant,
    broken: Option<String>,
    run_id: String,
    replid: String,
}

impl Fence {
    /// Pauses the source's writes and captures how far its stream is, in one round trip.
    pub async fn raise(source: &Server) -> Result<Fence> {
        let mut connection = source.connect(0).await?;
        connection.answer_within(Duration::from_secs(2));
        let raised = Instant::now();
        let raised_at = Timestamp::now();
        control::pause_writes(&mut connection, TERM).await?;
        let captured = Info::read(&mut connection).await?;
        let shared = Arc::new(Mutex::new(Hold {
            until: raised.after(TERM),
            broken: None,
            run_id: captured.run_id.clone(),
            replid: captured.replid.clone(),
        }));
        Ok(Fence {
            renewing: tokio::spawn(renew(connection.clone(), shared.clone())),
            connection,
            shared,
            captured,
            raised,
            raised_at,
        })
    }

    /// Renews the pause now, and makes sure that it never lapsed and that the source is the one that was paused. Gives what the source says of itself.
    pub async fn check(&self) -> Result<Info> {
        let info = renew_once(&mut self.connection.clone(), &self.shared).await?;
        self.holds()?;
        Ok(info)
    }

    /// What is known without asking: for the moment between a check and what depends on it.
    pub fn holds(&self) -> Result<()> {
        let hold = read(&self.shared);
        if let Some(broken) = hold.broken {
            return Err(unfenced(&self.connection, &broken));
        }
        if hold.until.remaining() < RESERVE {
            return Err(unfenced(&self.connection, "the pause could not be renewed in time"));
        }
        Ok(())
    }

    /// Pauses for so long from now on, whatever becomes of us. Gives until when at least.
    pub async fn extend(&self, duration: Duration) -> Result<Instant> {
        self.holds()?;
        let asked = Instant::now();
        let mut connection = self.connection.clone();
        control::pause_writes(&mut connection, duration).await?;
        renew_once(&mut connection, &self.shared).await?;
        self.holds()?;
        change(&self.shared, |hold| hold.until = hold.until.max(asked.after(duration)));
        Ok(asked.after(duration))
    }

    /// Ends the pause at once. Whatever waited is served by the source.
    pub async fn lift(self) -> Result<()> {
        self.renewing.abort();
        control::unpause(&mut self.connection.clone()).await
    }

    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(mut connection: Connection, shared: Arc<Mutex<Hold>>) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        if renew_once(&mut connection, &shared).await.is_err() && read(&shared).broken.is_some() {
            return;
        }
    }
}

async fn renew_once(connection: &mut Connection, shared: &Mutex<Hold>) -> Result<Info> {
    let asked = Instant::now();
    control::pause_writes(connection, TERM).await?;
    let before = read(shared);
    // The reply came later than the renewal was carried out: if even now the old pause would still run, there was no moment without one.
    if before.until.has_passed() {
        change(shared, |hold| {
            hold.broken
                .get_or_insert("the pause ended before it was renewed".into());
        });
    }
    let info = Info::read(connection).await?;
    let changed = match (info.run_id == before.run_id, info.replid == before.replid) {
        (true, true) => None,
        (false, _) => Some("the source was restarted, and forgot the pause"),
        (true, false) => Some("the source has another replication id than when it was paused"),
    };
    change(shared, |hold| {
        hold.until = hold.until.max(asked.after(TERM));
        if let (None, Some(changed)) = (&hold.broken, changed) {
            hold.broken = Some(changed.into());
        }
    });
    Ok(info)
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
