//! The file system of a host's disk.

use super::templates;
use crate::effects::fault;
use crate::effects::remote::Session;
use crate::model::error::{Error, Result};
use std::time::Duration;

/// Growing is quick, also for a large disk that is in use.
const GROW: Duration = Duration::from_secs(120);

/// Returns true if the root file system has not all of its disk. Changes nothing.
pub async fn is_small(session: &Session) -> Result<bool> {
    let doing = format!("see how large the file system of {} is", session.label());
    let text = run(session, "look", &doing).await?;
    match text.split_whitespace().next() {
        Some("small") => Ok(true),
        Some("whole") => Ok(false),
        _ => Err(misread(&doing, &text)),
    }
}

/// Lets the root file system take all of its disk, while it is in use. Returns its new size in
/// bytes; `None` if it was as large already.
pub async fn grow(session: &Session) -> Result<Option<u64>> {
    let doing = format!("let the file system of {} grow", session.label());
    let text = fault::around("grow file system", run(session, "grow", &doing)).await?;
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["grown", bytes] => bytes.parse().map(Some).map_err(|_| misread(&doing, &text)),
        ["whole", ..] => Ok(None),
        _ => Err(misread(&doing, &text)),
    }
}

async fn run(session: &Session, mode: &str, doing: &str) -> Result<String> {
    let script = format!("MODE={mode}\n{}", templates::GROW);
    let running = session.run_within("sudo -n bash -s", Some(script.as_bytes()), GROW, |_| ());
    Ok(running.await?.expect_success(doing)?.text().to_string())
}

fn misread(doing: &str, text: &str) -> Error {
    Error::failed(doing).because(format!("its answer was {text:?}"))
}
