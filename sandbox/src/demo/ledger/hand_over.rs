//! Hands what a process sent, and got no answer to, over to the process after it: the app's users ask again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::format::Unanswered;

const EXTENSION: &str = "unanswered";

/// Leaves the writes in a file beside the ledger of `name`.
pub fn leave(folder: &Path, name: &str, writes: &[Unanswered]) -> Result<()> {
    let text = serde_json::to_string(writes).context("write down what got no answer")?;
    let unfinished = folder.join(format!("{name}.unfinished"));
    fs::write(&unfinished, text).with_context(|| format!("write {}", unfinished.display()))?;
    let finished = unfinished.with_extension(EXTENSION);
    fs::rename(&unfinished, &finished).with_context(|| format!("write {}", finished.display()))
}

/// Takes what ended processes have left. Each file is taken by one process alone, by its renaming.
pub fn take(folder: &Path) -> Result<Vec<Unanswered>> {
    let mut writes = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("read the ledger folder {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("read the ledger folder {}", folder.display()))?
            .path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let taken = path.with_extension("repeated");
        if fs::rename(&path, &taken).is_err() {
            continue;
        }
        let text = fs::read_to_string(&taken).with_context(|| format!("read {}", taken.display()))?;
        let left: Vec<Unanswered> =
            serde_json::from_str(&text).with_context(|| format!("understand {}", taken.display()))?;
        writes.extend(left);
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::super::format::{Origin, Write};
    use super::*;

    #[test]
    fn what_was_left_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let left = [Unanswered {
            origin: Origin {
                process: "web.1.mfx".into(),
                operation: 7,
            },
            write: Write::Push {
                job: "web.1.mfx-0".into(),
            },
        }];
        assert_eq!(take(folder.path()).unwrap(), []);
        leave(folder.path(), "web.1.mfx-12", &left).unwrap();
        assert_eq!(take(folder.path()).unwrap(), left);
        assert_eq!(take(folder.path()).unwrap(), []);
    }
}
