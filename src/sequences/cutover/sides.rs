//! Connections to source, master and replica, open before the fence.

use crate::effects::redis::tap::Dialled;
use crate::effects::redis::{Connection, Server};
use crate::model::error::Result;
use std::time::Duration;
use tokio::task::JoinHandle;
use wire::info::Info;

/// Delays after the fence's request, at which our two sides are asked.
const AHEAD: [Duration; 2] = [Duration::from_millis(3), Duration::from_millis(20)];
/// Connections that were opened before the fence, so that nothing is dialled inside it.
pub struct Sides {
    pub source: Connection,
    pub master: Connection,
    pub replica: Connection,
    /// An open connection for the master's stream after the promotion; `None` if it could not be
    /// opened.
    pub dialled: Option<Dialled>,
    /// Requests to our two sides that are under way; see [`Sides::ask_ahead`].
    pub(super) ahead: Vec<JoinHandle<Result<(Info, Info)>>>,
}

impl Sides {
    pub async fn connect(source: &Server, master: &Server, replica: &Server) -> Result<Sides> {
        let dialling = async { Ok(Dialled::open(master).await.ok()) };
        let (source, master, replica, dialled) =
            tokio::try_join!(source.connect(0), master.connect(0), replica.connect(0), dialling)?;
        Ok(Sides {
            dialled,
            source,
            master,
            replica,
            ahead: Vec::new(),
        })
    }

    /// Returns the INFO of master and replica.
    pub async fn pair(&self) -> Result<(Info, Info)> {
        let (mut master, mut replica) = (self.master.clone(), self.replica.clone());
        tokio::try_join!(master.info(), replica.info())
    }

    /// Asks our two sides how far they are, some milliseconds after the fence's request: far from
    /// all three, their answers arrive with the source's, and the drain need not ask again.
    pub fn ask_ahead(&mut self) {
        let ask = |behind: Duration| {
            let (mut master, mut replica) = (self.master.clone(), self.replica.clone());
            tokio::spawn(async move {
                tokio::time::sleep(behind).await;
                tokio::try_join!(master.info(), replica.info())
            })
        };
        self.ahead = AHEAD.map(ask).into();
    }
}
