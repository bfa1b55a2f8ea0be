//! Connections to source, master and replica, open before the fence.

use crate::effects::redis::tap::Dialled;
use crate::effects::redis::{Connection, Info, Server};
use crate::model::error::Result;
use std::time::Duration;
use tokio::task::JoinHandle;

/// When our two sides are asked while the fence is under way to the source.
const AHEAD: [Duration; 2] = [Duration::from_millis(3), Duration::from_millis(20)];
/// Connections that were opened before the fence, so that nothing is dialled inside it.
pub struct Sides {
    pub source: Connection,
    pub master: Connection,
    pub replica: Connection,
    /// To the master, for its stream once it is its own; none where it could not be dialled.
    pub dialled: Option<Dialled>,
    /// Questions to our two sides that are under way; see [`Sides::ask_ahead`].
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

    /// Our two sides' own accounts.
    pub async fn pair(&self) -> Result<(Info, Info)> {
        let (mut master, mut replica) = (self.master.clone(), self.replica.clone());
        tokio::try_join!(Info::read(&mut master), Info::read(&mut replica))
    }

    /// Asks our two sides how far they are while the fence is under way to the source, some milliseconds behind it: far from
    /// all three, their answers are there with the source's, and the drain need not ask again.
    pub fn ask_ahead(&mut self) {
        let ask = |behind: Duration| {
            let (mut master, mut replica) = (self.master.clone(), self.replica.clone());
            tokio::spawn(async move {
                tokio::time::sleep(behind).await;
                tokio::try_join!(Info::read(&mut master), Info::read(&mut replica))
            })
        };
        self.ahead = AHEAD.map(ask).into();
    }
}
