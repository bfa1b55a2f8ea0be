//! Puts an RDB file, such as a provider's download, in the place of the master's data.

use super::live::Master;
use super::name;
use crate::effects::host::restore as on_host;
use crate::effects::remote::Session;
use crate::effects::state::Held;
use crate::model::error::{Doing, Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::Confirmed;
use crate::sequences::context::{Context, Environment};
use crate::ui::{Step, Ui};
use infra_agent::rdb;
use serde_json::json;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

/// An RDB file on this computer. It may be larger than the memory.
pub struct RdbFile {
    file: File,
    pub bytes: u64,
    /// Its name, size and version.
    pub words: String,
}

impl RdbFile {
    /// Fails if the file does not begin as an RDB file does.
    pub fn open(path: &Path) -> Result<RdbFile> {
        let doing = || format!("read {}", path.display());
        let mut file = File::open(path).doing(doing)?;
        let bytes = file.metadata().doing(doing)?.len();
        let header = rdb::header(&mut file).ok_or_else(|| {
            Error::usage(format!(
                "accept {}: it is no RDB file, by its first bytes",
                path.display()
            ))
            .hint("providers often pack it: unpack it first (.gz, .zip)")
        })?;
        file.rewind().doing(doing)?;
        let size = size::bytes(bytes);
        Ok(RdbFile {
            file,
            bytes,
            words: format!("{} ({size}, RDB version {})", path.display(), header.version),
        })
    }

    /// Sends the file to a host, where it becomes the base of the data under this name.
    pub async fn send(self, session: &Session, name: &str, ui: &Ui) -> Result<()> {
        on_host::room(session, self.bytes).await?;
        let step = ui.step("send");
        let reader = Watched {
            file: self.file,
            sent: 0,
            bytes: self.bytes,
            step: step.clone(),
        };
        on_host::import(session, name, reader).await?;
        step.done(format!("{} are there and whole", size::bytes(self.bytes)));
        Ok(())
    }
}

/// A file that shows how much of it was read.
struct Watched {
    file: File,
    sent: u64,
    bytes: u64,
    step: Step,
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(into)?;
        self.sent += read as u64;
        self.step
            .update(format!("{} of {}", size::bytes(self.sent), size::bytes(self.bytes)));
        Ok(read)
    }
}

pub async fn import(
    context: &Context,
    environment: &Environment,
    file: RdbFile,
    confirmed: &Confirmed,
) -> Result<ExitCode> {
    let ui = &context.ui;
    let step = ui.step("look");
    let on = Master::reach(context, environment).await?;
    let words = file.words.clone();
    step.done(&words);
    let would = format!("put {words} in the place of the master's data");
    let question = format!(
        "This stops the master for some seconds and puts {words} in the place of its data, which is kept on the host in a folder of its own."
    );
    if !context.goes_on(confirmed, would, &question)? {
        return Ok(ExitCode::Done);
    }
    let importing = async |lock: &Held| {
        on.recover().await?;
        let name = name();
        file.send(&on.session, &name, ui).await?;
        let checked = on.load_beside(&name, context, false).await?;
        on.still_ours(lock).await?;
        let (kept, keys) = on.put_in_force(&name, &checked).await?;
        Ok::<_, Error>((kept, keys, checked))
    };
    let work = async |lock: &Held| context.interrupt.or(importing(lock)).await;
    let (kept, keys, checked) = context.locked(environment, "infra restore", work).await?;
    let expired = checked.expired();
    let more = match expired {
        0 => String::new(),
        expired => format!("; {} more had reached the end of their time", size::count(expired)),
    };
    let line = format!(
        "the master serves {words}: {} keys{more}. What it had before is on it in {kept}",
        size::count(keys),
    );
    ui.report(json!({"keys": keys, "kept": kept, "expired": expired}), [line]);
    Ok(ExitCode::Done)
}
