//! The state while a command changes it: read once, written whole after each change, over what was read.

use crate::effects::cloud::s3::Etag;
use crate::effects::state::Store;
use crate::model::error::Result;
use crate::model::state::State;
use tokio::sync::Mutex;

/// The state that several tasks change, one at a time.
pub struct StateWriter {
    store: Store,
    held: Mutex<Held>,
}

struct Held {
    state: State,
    etag: Option<Etag>,
}

impl StateWriter {
    /// The stored state, or `fresh` where none was ever written. Nothing is written yet.
    pub async fn open(store: &Store, fresh: State) -> Result<Self> {
        let held = match store.state().await? {
            Some(stored) => Held {
                state: stored.value,
                etag: Some(stored.etag),
            },
            None => Held {
                state: fresh,
                etag: None,
            },
        };
        Ok(StateWriter {
            store: store.clone(),
            held: Mutex::new(held),
        })
    }

    pub async fn state(&self) -> State {
        self.held.lock().await.state.clone()
    }

    /// Changes the state and has it stored when this returns. Writes nothing when the change changed nothing that is not stored.
    pub async fn change(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut held = self.held.lock().await;
        let mut state = held.state.clone();
        change(&mut state);
        if state != held.state || held.etag.is_none() {
            held.etag = Some(self.store.save(&state, held.etag.as_ref()).await?);
            held.state = state;
        }
        Ok(())
    }
}
