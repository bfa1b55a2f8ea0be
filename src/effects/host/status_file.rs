//! Reads the status that a unit on a host writes of itself.

use crate::effects::remote::Session;
use crate::model::error::{Doing, Result};
use serde::de::DeserializeOwned;

/// Returns the status in this file; `None` if there is none. `of` names the unit in an error.
pub(super) async fn read<T: DeserializeOwned>(session: &Session, file: &str, of: &str) -> Result<Option<T>> {
    let doing = format!("ask {} for its {of}", session.label());
    let command = format!("sudo -n sh -c 'if [ -e {file} ]; then cat {file}; fi'");
    let output = session.run(&command, None).await?.expect_success(&doing)?;
    match output.text().trim() {
        "" => Ok(None),
        json => serde_json::from_str(json).doing(|| doing).map(Some),
    }
}
