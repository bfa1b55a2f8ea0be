//! The state while a command changes it: read once, and written whole after each change.

use crate::effects::cloud::s3::Etag;
use crate::effects::state::Store;
use crate::model::error::Result;
use crate::model::state::State;
use tokio::sync::Mutex;

/// Lets several tasks change the state, one at a time.
pub struct StateWriter {
    store: Store,
    held: Mutex<Held>,
}

struct Held {
    state: State,
    etag: Option<Etag>,
}

impl StateWriter {
    /// Reads the stored state, or takes `fresh` if there is none. Writes nothing.
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

    /// Changes the state and stores it. Writes nothing if the stored state is the same already.
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
