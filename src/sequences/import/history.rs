//! Keeps the history of a watch in the environment's bucket; beside `import.yml` if there is no bucket yet.

use super::setup::Ready;
use crate::decide::import::history::{Summary, merged};
use crate::effects::cloud::find;
use crate::effects::cloud::s3::Etag;
use crate::effects::state::{Store, import_history};
use crate::model::error::{Doing, Error, Result};
use crate::model::files;
use crate::model::import::{History, Watch};
use crate::sequences::context::Context;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More than any history takes.
const MAX_BYTES: u64 = 8 << 20;
/// How long the cloud may take to say whether there is a bucket.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a write is tried that another computer's came before.
const ATTEMPTS: u32 = 5;

enum Place {
    Bucket(Box<Store>, Option<Etag>),
    /// With the reason why it is not in the bucket.
    File(String),
}

/// The history, and where it is kept.
pub struct Kept {
    place: Place,
    /// Beside `import.yml`: the history itself, or one from before there was a bucket.
    path: PathBuf,
    of: String,
    pub history: History,
}

/// The last watch of these two sides, as `status` and `finish` show it.
#[derive(Debug, Serialize)]
pub struct Watched {
    #[serde(flatten)]
    summary: Summary,
    kept_in: String,
}

impl Watched {
    /// Returns the last watch of these two sides; `None` if there was none. It only informs, so a history that cannot
    /// be read is a warning.
    pub async fn last(context: &Context, ready: &Ready, file: &Path) -> Option<Watched> {
        let kept = context.warn_of(Kept::open(context, ready, file).await)?;
        let watch = kept.history.watches.iter().rev().find(|watch| watch.of == kept.of);
        watch.map(|watch| kept.watched(watch))
    }

    /// Returns the line for people.
    pub fn line(&self) -> String {
        let state = if self.summary.finished { "" } else { ", not finished" };
        format!(
            "watch{state}: {}; {} (history in {})",
            self.summary.sentence(),
            self.summary.evidence(),
            self.kept_in
        )
    }
}

impl Kept {
    /// Reads the history, from the bucket if there is one.
    pub async fn open(context: &Context, ready: &Ready, file: &Path) -> Result<Kept> {
        let mut name = file.as_os_str().to_owned();
        name.push(".history");
        let path = PathBuf::from(name);
        let labels: Vec<&str> = ready.tables.iter().map(|ground| ground.shape.label.as_str()).collect();
        let of = ready.identity(file, &labels.join(" "))?;
        let (place, history) = match store(context).await {
            Ok(store) => {
                let found = import_history::read(&store).await?;
                let (history, etag) = found.map(|found| (found.value, found.etag)).unzip();
                let history = merged(&history.unwrap_or_default(), &read_file(&path)?);
                (Place::Bucket(Box::new(store), etag), history)
            }
            Err(why) => (Place::File(why), read_file(&path)?),
        };
        Ok(Kept {
            place,
            path,
            of,
            history,
        })
    }

    /// Returns a digest of what is compared.
    pub fn of(&self) -> &str {
        &self.of
    }

    pub fn watched(&self, watch: &Watch) -> Watched {
        Watched {
            summary: Summary::of(watch),
            kept_in: self.shown(),
        }
    }

    /// Returns where the history is.
    pub fn shown(&self) -> String {
        match &self.place {
            Place::Bucket(store, _) => import_history::url(store),
            Place::File(_) => self.path.display().to_string(),
        }
    }

    /// Returns why the history is not in the bucket; `None` if it is.
    pub fn why_in_file(&self) -> Option<&str> {
        match &self.place {
            Place::Bucket(..) => None,
            Place::File(why) => Some(why),
        }
    }

    /// Writes the history, with what another computer has written meanwhile.
    pub async fn write(&mut self) -> Result<()> {
        let Place::Bucket(store, etag) = &mut self.place else {
            let doing = || format!("write {}", self.path.display());
            let text = serde_json::to_string_pretty(&self.history).doing(doing)?;
            return files::replace(&self.path, &text).doing(doing);
        };
        for _ in 0..ATTEMPTS {
            if let Some(new) = import_history::write(store, &self.history, etag.as_ref()).await? {
                *etag = Some(new);
                return remove(&self.path);
            }
            let found = import_history::read(store).await?;
            let (theirs, new) = found.map(|found| (found.value, found.etag)).unzip();
            self.history = merged(&theirs.unwrap_or_default(), &self.history);
            *etag = new;
        }
        Err(Error::locked(format!(
            "write {}: other computers keep writing it",
            import_history::url(store)
        ))
        .hint("let one computer watch this import"))
    }
}

/// Returns the environment's folder in the bucket, or the reason why there is none.
async fn store(context: &Context) -> std::result::Result<Store, String> {
    let looking = async {
        let environment = context.environment().await?;
        let exists = find::has_bucket(&environment.cloud, &environment.names).await?;
        Ok::<_, Error>(exists.then_some(environment.store))
    };
    match tokio::time::timeout(PATIENCE, Box::pin(looking)).await {
        Ok(Ok(Some(store))) => Ok(store),
        Ok(Ok(None)) => Err("there is no bucket yet, `infra up` makes it".into()),
        Ok(Err(error)) => Err(format!("the bucket cannot be reached: {}", error.chain().join(": "))),
        Err(_) => Err(format!("AWS did not answer within {} s", PATIENCE.as_secs())),
    }
}

fn read_file(path: &Path) -> Result<History> {
    if !path.exists() {
        return Ok(History::default());
    }
    let doing = || format!("read {}", path.display());
    let text = files::read_text(path, MAX_BYTES).doing(doing)?;
    serde_json::from_str(&text)
        .doing(doing)
        .map_err(|error| error.hint("remove the file to begin a new history"))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
